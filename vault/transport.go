package vault

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"

	"github.com/hashicorp/vault/api"

	"github.com/walferry/walferry/fault"
)

// maxAnswer bounds what is read of an answer: a certificate with its chain has some kilobytes.
const maxAnswer = 1 << 20

// dial makes the HTTP client of Vault's library. The environment's settings hold where ours say nothing.
// It reads the CA file; nothing is sent yet.
func (c *Client) dial() (*api.Client, error) {
	const op = "make a client of Vault"
	conf := api.DefaultConfig()
	if conf.Error != nil {
		return nil, fault.New(fault.ConfigInvalid, op, errors.New("a VAULT_… variable of the environment is not valid"), "")
	}
	transport, ok := conf.HttpClient.Transport.(*http.Transport)
	if !ok {
		return nil, fault.New(fault.Internal, op, errors.New("the library's transport is another one than expected"), "")
	}
	if err := c.secure(transport.TLSClientConfig); err != nil {
		return nil, err
	}
	conf.HttpClient.Transport = &gate{next: transport, redirects: c.cfg.Redirects}
	conf.Timeout, conf.MaxRetries = requestTimeout, 0 // retries are ours
	conf.AgentAddress = ""
	if c.cfg.Address != "" {
		conf.Address = c.cfg.Address
	}
	client, err := api.NewClient(conf)
	if err != nil {
		return nil, fault.New(fault.ConfigInvalid, op, err, "Check vault.address.")
	}
	client.ClearToken()
	if c.cfg.Namespace != "" {
		client.SetNamespace(c.cfg.Namespace)
	}
	return client, nil
}

// secure puts our settings over those of the environment.
func (c *Client) secure(t *tls.Config) error {
	if c.cfg.CAFile != "" {
		pem, err := os.ReadFile(c.cfg.CAFile)
		if err == nil {
			t.RootCAs = x509.NewCertPool()
			if !t.RootCAs.AppendCertsFromPEM(pem) {
				err = fmt.Errorf("%s holds no certificate in PEM form", c.cfg.CAFile)
			}
		}
		if err != nil {
			return fault.New(fault.VaultTLS, "read the certificates of Vault's CA", err, "Check vault.ca_file.")
		}
	}
	if c.cfg.ServerName != "" {
		t.ServerName = c.cfg.ServerName
	}
	if a := c.cfg.Auth; a.CertFile != "" {
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(a.CertFile, a.KeyFile)
			if err != nil {
				return nil, fault.New(fault.VaultAuth, "read the client certificate for Vault", err, "Check vault.auth.cert_file and key_file.")
			}
			return &pair, nil
		}
	}
	return nil
}

// gate is what every request to Vault passes: it lets no answer lead elsewhere, because the request
// would take the token along, and bounds what is read of one.
type gate struct {
	next      http.RoundTripper
	redirects []string
}

// RoundTrip implements http.RoundTripper.
func (g *gate) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := g.next.RoundTrip(req)
	if err != nil {
		return resp, err
	}
	if to, err := resp.Location(); resp.StatusCode >= 300 && resp.StatusCode < 400 && (err != nil || !g.allows(to)) {
		_ = resp.Body.Close()
		return nil, &redirectError{status: resp.StatusCode, to: to}
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}

func (g *gate) allows(to *url.URL) bool {
	return slices.Contains(g.redirects, to.Host) || slices.Contains(g.redirects, to.Hostname())
}

// redirectError is an answer that points to a host which is not in the list.
type redirectError struct {
	status int
	to     *url.URL
}

func (e *redirectError) Error() string {
	host := "nowhere"
	if e.to != nil {
		host = e.to.Host
	}
	return fmt.Sprintf("Vault answered %d and points to %s, which is not in vault.redirects", e.status, clip(host))
}
