package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/vault"
)

// login returns the SASL mechanism, which asks for user and password of now at each authentication, also
// when a broker wants a connection to log in again (KIP-368).
func login(c SASLConfig) (sasl.Mechanism, error) {
	asScram := func(ctx context.Context) (scram.Auth, error) {
		user, password, err := c.credentials(ctx)
		return scram.Auth{User: user, Pass: password}, err
	}
	var m sasl.Mechanism
	switch c.Mechanism {
	case "plain":
		m = plain.Plain(func(ctx context.Context) (plain.Auth, error) {
			user, password, err := c.credentials(ctx)
			return plain.Auth{User: user, Pass: password}, err
		})
	case "scram-sha-256":
		m = scram.Sha256(asScram)
	case "scram-sha-512":
		m = scram.Sha512(asScram)
	default:
		return nil, fault.New(fault.ConfigInvalid, "configure the Kafka connection", nil,
			"kafka.sasl.mechanism must be plain, scram-sha-256 or scram-sha-512.")
	}
	if c.Vault != nil {
		m = watched{m, c.Vault}
	}
	return m, nil
}

// credentials returns user and password of now.
func (c SASLConfig) credentials(ctx context.Context) (user, password string, err error) {
	if c.Vault == nil {
		s, err := c.Password.Read()
		if err != nil {
			return "", "", fault.New(fault.KafkaAuth, "read the Kafka password", err, "Check kafka.sasl.password_file.")
		}
		return c.Username, s.Reveal(), nil
	}
	v, err := c.Vault.Current(ctx)
	if err != nil {
		return "", "", err
	}
	user = c.Username
	if name := v.Field(vault.FieldUsername); !name.IsZero() {
		user = name.Reveal()
	}
	return user, v.Field(vault.FieldPassword).Reveal(), nil
}

// watched tells Vault's entry of each login that a broker took.
type watched struct {
	sasl.Mechanism
	entry *vault.Entry
}

// Authenticate implements sasl.Mechanism.
func (w watched) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	session, first, err := w.Mechanism.Authenticate(ctx, host)
	if err != nil {
		return nil, nil, err
	}
	return watchedSession{session, w.entry}, first, nil
}

type watchedSession struct {
	sasl.Session
	entry *vault.Entry
}

// Challenge implements sasl.Session: the answer that it takes last is a broker's yes.
func (s watchedSession) Challenge(answer []byte) (done bool, reply []byte, err error) {
	done, reply, err = s.Session.Challenge(answer)
	if done && err == nil {
		s.entry.Accepted()
	}
	return done, reply, err
}
