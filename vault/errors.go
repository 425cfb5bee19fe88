package vault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/walferry/walferry/fault"
)

// explain turns what Vault, TLS or the network said into a *fault.Error. One that is one already stays
// as it is, and nil stays nil.
func (c *Client) explain(op string, err error) error {
	if err == nil {
		return nil
	}
	if f := fault.Of(err); f != nil {
		return f
	}
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", op, err)
	}
	var answer *api.ResponseError
	if errors.As(err, &answer) {
		return explainAnswer(op, answer)
	}
	if code, hint := c.judgeTLS(err); code != "" {
		c.api = nil // the next try reads the CA file again
		return fault.New(code, op, err, hint)
	}
	var elsewhere *redirectError
	if errors.As(err, &elsewhere) {
		return fault.New(fault.VaultUnavailable, op, elsewhere,
			"A standby node points at the active one. Name the hosts that it may point at in vault.redirects, or have vault.address lead to the active node.")
	}
	return fault.New(fault.VaultUnavailable, op, err, "Check vault.address ("+c.cfg.Address+") and that Vault is up and can be reached from here.")
}

// away tells whether Vault could not be asked at all.
func away(err error) bool {
	return fault.Is(err, fault.VaultUnavailable) || fault.Is(err, fault.VaultTLS)
}

// explainAnswer judges an answer by its status.
func explainAnswer(op string, answer *api.ResponseError) *fault.Error {
	err := reason(answer)
	switch code := answer.StatusCode; {
	case code == http.StatusForbidden:
		return fault.New(fault.VaultDenied, op, err, "The policy of this login does not allow it: see docs/security.md for the paths that it needs.")
	case code == http.StatusTooManyRequests:
		return fault.New(fault.VaultUnavailable, op, err, "Vault limits the rate of requests (a quota), or a standby answered.")
	case code == http.StatusServiceUnavailable:
		return fault.New(fault.VaultUnavailable, op, err, "Vault is sealed or not ready: unseal it.")
	case code >= 500 || code == http.StatusPreconditionFailed || code == http.StatusRequestTimeout || code == 472 || code == 473:
		return fault.New(fault.VaultUnavailable, op, err, "Vault's own log says more; the engine may not reach its database.")
	case code == http.StatusMethodNotAllowed:
		return fault.New(fault.VaultSecret, op, err, "This path is not read but written: say vault.params, such as common_name for PKI.")
	default:
		return fault.New(fault.VaultSecret, op, err, "Check vault.path: the engine does not know it, or not with these vault.params.")
	}
}

// reason is what Vault itself said, short.
func reason(err error) error {
	var answer *api.ResponseError
	if !errors.As(err, &answer) {
		var f *fault.Error
		if errors.As(err, &f) && f.Err != nil {
			return f.Err
		}
		return err
	}
	said := "nothing more"
	if len(answer.Errors) > 0 && !answer.RawError { // raw is no answer of Vault's
		said = clip(strings.Join(answer.Errors, "; "))
	}
	return fmt.Errorf("Vault answered %d: %s", answer.StatusCode, said) //nolint:staticcheck // a name
}

// judgeTLS knows what crypto/tls and crypto/x509 say.
func (c *Client) judgeTLS(err error) (fault.Code, string) {
	var (
		host    x509.HostnameError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		verify  *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		alert   tls.AlertError
	)
	switch {
	case errors.As(err, &host):
		return fault.VaultTLS, "Vault's certificate is for another host name: use one that it holds in vault.address, or set vault.server_name."
	case errors.As(err, &unknown):
		if c.cfg.CAFile == "" {
			return fault.VaultTLS, "Vault's certificate is signed by none of the system's CAs: set vault.ca_file."
		}
		return fault.VaultTLS, "Vault's certificate is not signed by a CA in vault.ca_file (" + c.cfg.CAFile + ")."
	case errors.As(err, &invalid), errors.As(err, &verify):
		return fault.VaultTLS, "Vault's certificate has expired or is not one for servers: renew it, or check this machine's clock."
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fault.VaultTLS, "What answers does not speak TLS: check vault.address."
	case errors.As(err, &alert), strings.Contains(err.Error(), "remote error: tls:"):
		return fault.VaultTLS, "Vault refused this side of the TLS connection: where it asks for client certificates, check vault.auth.cert_file and key_file."
	default:
		return "", ""
	}
}
