package replication

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/vault"
)

// login is what a connection was made with, as far as Vault gave it. Zero values are of a connection
// that owes Vault nothing.
type login struct {
	role, cert int // versions
	leased     bool
}

// logIn puts user, password and client certificate of now into the settings of a connection.
func (c Config) logIn(ctx context.Context, cfg *pgx.ConnConfig) (login, error) {
	var used login
	if !c.Password.IsZero() {
		secret, err := c.Password.Read()
		if err != nil {
			return used, fault.New(fault.PostgresAuth, "read the Postgres password", err, "Make the file readable for walferry, or name another one.")
		}
		cfg.Password = secret.Reveal()
	}
	if c.Vault != nil {
		v, err := c.Vault.Current(ctx)
		if err != nil {
			return used, err
		}
		if user := v.Field(vault.FieldUsername); !user.IsZero() {
			cfg.User = user.Reveal()
		}
		if password := v.Field(vault.FieldPassword); !password.IsZero() {
			cfg.Password = password.Reveal()
		}
		used.role, used.leased = v.Version(), v.Leased()
	}
	if c.TLSVault == nil {
		return used, nil
	}
	v, err := c.TLSVault.Current(ctx)
	if err != nil {
		return used, err
	}
	used.cert = v.Version()
	return used, present(v, cfg)
}

// present puts certificate and authority into every attempt that has TLS.
func present(v *vault.Values, cfg *pgx.ConnConfig) error {
	settings := []*tls.Config{cfg.TLSConfig}
	for _, f := range cfg.Fallbacks {
		settings = append(settings, f.TLSConfig)
	}
	var pair []tls.Certificate
	if cert := v.Field(vault.FieldCertificate); !cert.IsZero() {
		p, err := tls.X509KeyPair([]byte(cert.Reveal()), []byte(v.Field(vault.FieldPrivateKey).Reveal()))
		if err != nil {
			return fault.New(fault.PostgresTLS, "use the client certificate of Vault", errors.New("it cannot be read"), "")
		}
		pair = []tls.Certificate{p}
	}
	for _, t := range settings {
		if t == nil {
			continue
		}
		if pair != nil {
			t.Certificates = pair
		}
		if ca := v.Field(vault.FieldCA); !ca.IsZero() {
			t.RootCAs = x509.NewCertPool()
			t.RootCAs.AppendCertsFromPEM([]byte(ca.Reveal()))
		}
	}
	return nil
}

// took notes that the server took a login.
func (c Config) took() {
	if c.Vault != nil {
		c.Vault.Accepted()
	}
}

// refused has Vault asked for a newer login where the server refused one of Vault's. While a rotation may
// be under way, the error is one to try again.
func (c Config) refused(used login, err error) error {
	f := fault.Of(err)
	if f == nil || f.Code != fault.PostgresAuth || c.Vault == nil || !c.Vault.Refused(used.role) {
		return err
	}
	return fault.New(fault.PostgresUnavailable, f.Op, f.Err, "The server refuses the login that Vault gave. A rotation may be under way: Vault is asked for a newer one.")
}

// moves returns a channel that is closed when the connection should be moved to a newer login before
// the old one is revoked; nil where the login stays good for a connection that it has made.
func (c Config) moves(used login) <-chan struct{} {
	if !used.leased {
		return nil
	}
	return c.Vault.Changed(used.role)
}

// moved tells whether a channel of moves is closed.
func moved(moves <-chan struct{}) bool {
	select {
	case <-moves:
		return true
	default:
		return false
	}
}
