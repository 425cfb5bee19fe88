package broker

import (
	"context"
	"strings"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/aws"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/vault"
)

// login returns the SASL mechanism, which asks for user and password of now at each authentication, also
// when a broker wants a connection to log in again (KIP-368).
func login(c SASLConfig) (sasl.Mechanism, error) {
	asScram := func(ctx context.Context) (scram.Auth, error) {
		held, err := c.credentials(ctx)
		return scram.Auth{User: held.user, Pass: held.password}, err
	}
	var m sasl.Mechanism
	switch c.Mechanism {
	case "plain":
		m = plain.Plain(func(ctx context.Context) (plain.Auth, error) {
			held, err := c.credentials(ctx)
			return plain.Auth{User: held.user, Pass: held.password}, err
		})
	case "scram-sha-256":
		m = scram.Sha256(asScram)
	case "scram-sha-512":
		m = scram.Sha512(asScram)
	case OAuthBearer:
		m = oauth.Oauth(func(ctx context.Context) (oauth.Auth, error) {
			held, err := c.credentials(ctx)
			return oauth.Auth{Token: strings.TrimSpace(held.password)}, err
		})
	case "aws-msk-iam":
		m = aws.ManagedStreamingIAM(func(ctx context.Context) (aws.Auth, error) {
			held, err := c.credentials(ctx)
			return aws.Auth{AccessKey: held.user, SecretKey: held.password, SessionToken: held.session, UserAgent: "walferry"}, err
		})
	default:
		return nil, fault.New(fault.ConfigInvalid, "configure the Kafka connection", nil,
			"kafka.sasl.mechanism must be one of "+strings.Join(Mechanisms(), ", ")+".")
	}
	if c.Vault != nil {
		m = watched{m, c.Vault}
	}
	return m, nil
}

// OAuthBearer is the mechanism without a user: its password is a token.
const OAuthBearer = "oauthbearer"

// Mechanisms returns the mechanisms that there are.
func Mechanisms() []string {
	return []string{"plain", "scram-sha-256", "scram-sha-512", OAuthBearer, "aws-msk-iam"}
}

// credentials are what a login needs; session is of AWS alone.
type credentials struct{ user, password, session string }

// credentials returns those of now.
func (c SASLConfig) credentials(ctx context.Context) (credentials, error) {
	held := credentials{user: c.Username}
	if c.Vault == nil {
		s, err := c.Password.Read()
		if err != nil {
			return held, fault.New(fault.KafkaAuth, "read the Kafka password", err, "Check kafka.sasl.password_file.")
		}
		held.password = s.Reveal()
		return held, nil
	}
	v, err := c.Vault.Current(ctx)
	if err != nil {
		return held, err
	}
	if name := v.Field(vault.FieldUsername); !name.IsZero() {
		held.user = name.Reveal()
	}
	held.password, held.session = v.Field(vault.FieldPassword).Reveal(), v.Field(vault.FieldSession).Reveal()
	return held, nil
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
