package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/vault"
)

// handshake speaks TLS over conn. The files of c are read now.
func handshake(ctx context.Context, conn net.Conn, c TLSConfig, addr string) (net.Conn, error) {
	conf, err := c.load(ctx, addr)
	if err != nil {
		return nil, err
	}
	secured := tls.Client(conn, conf)
	if err := secured.HandshakeContext(ctx); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			// Connecting worked, so the listener is there and does not answer a TLS greeting.
			return nil, &silentError{addr: addr}
		}
		return nil, fmt.Errorf("TLS handshake with %s: %w", addr, err)
	}
	return secured, nil
}

// silentError is a listener that accepted the connection and did not answer the TLS greeting.
type silentError struct{ addr string }

func (e *silentError) Error() string {
	return fmt.Sprintf("%s accepted the connection but did not answer the TLS handshake within %s", e.addr, dialTimeout)
}

// load makes the client's side of TLS for one connection to addr.
func (c TLSConfig) load(ctx context.Context, addr string) (*tls.Config, error) {
	conf := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         c.ServerName,
		InsecureSkipVerify: c.InsecureSkipVerify, //nolint:gosec // only where the operator asked for it by name
	}
	if conf.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, fmt.Errorf("split broker address: %w", err)
		}
		conf.ServerName = host
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fault.New(fault.KafkaTLS, "read the certificates of the Kafka CA", err, "Check kafka.tls.ca_file.")
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fault.New(fault.KafkaTLS, "read the certificates of the Kafka CA",
				fmt.Errorf("%s holds no certificate in PEM form", c.CAFile), "Check kafka.tls.ca_file.")
		}
	}
	if c.CertFile != "" || c.KeyFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fault.New(fault.KafkaTLS, "read the client certificate for Kafka", err,
				"Check kafka.tls.cert_file and kafka.tls.key_file: PEM, both set, one belonging to the other.")
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	if c.Vault != nil {
		return conf, present(ctx, c.Vault, conf)
	}
	return conf, nil
}

// present puts certificate and authority of Vault into the settings.
func present(ctx context.Context, from *vault.Entry, conf *tls.Config) error {
	v, err := from.Current(ctx)
	if err != nil {
		return err
	}
	if ca := v.Field(vault.FieldCA); !ca.IsZero() {
		conf.RootCAs = x509.NewCertPool()
		conf.RootCAs.AppendCertsFromPEM([]byte(ca.Reveal()))
	}
	if cert := v.Field(vault.FieldCertificate); !cert.IsZero() {
		pair, err := tls.X509KeyPair([]byte(cert.Reveal()), []byte(v.Field(vault.FieldPrivateKey).Reveal()))
		if err != nil {
			return fault.New(fault.KafkaTLS, "use the client certificate of Vault", errors.New("it cannot be read"), "")
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return nil
}
