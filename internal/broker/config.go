package broker

import (
	"context"
	"net"

	"github.com/walferry/walferry/vault"
)

// Config says how the brokers are reached. The zero TLS and SASL mean plaintext without login.
type Config struct {
	// Seeds are host:port.
	Seeds []string
	// ClientID is what the brokers log.
	ClientID string
	TLS      TLSConfig
	SASL     SASLConfig
	// Dial connects to a broker, without TLS. Nil means TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// TLSConfig is the client's side of TLS. Files are read again at each connection.
type TLSConfig struct {
	Enabled            bool
	CAFile             string // PEM; empty means the system's roots
	CertFile, KeyFile  string // PEM client certificate, both or neither
	ServerName         string // checked in place of the broker's host name
	InsecureSkipVerify bool
	// Vault gives the client certificate with its key, the authority, or both, in place of the files;
	// nil where it does not.
	Vault *vault.Entry
}

// SASLConfig is the login.
type SASLConfig struct {
	Mechanism string // "", or one of Mechanisms
	Username  string
	Password  vault.Credential
	// Vault gives user and password, or the password alone, in place of the above; nil where it does not.
	Vault *vault.Entry
	// AllowPlaintext permits a login over a connection without TLS.
	AllowPlaintext bool
}
