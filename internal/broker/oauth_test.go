package broker_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/internal/kafkaserver"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/vault"
)

// TestOAuthBearer logs in to a real broker with a token from a file: a spent one is refused, and the next
// one that is written there is taken.
func TestOAuthBearer(t *testing.T) {
	t.Parallel()
	const listener = "listener.name.sasl_ssl."
	b := kafkatest.Start(t, kafkaserver.Options{Settings: map[string]string{
		listener + "sasl.enabled.mechanisms":               "OAUTHBEARER",
		listener + "oauthbearer.sasl.jaas.config":          `org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";`,
		listener + "oauthbearer.connections.max.reauth.ms": "60000",
	}})
	// The broker's validator for development takes tokens that nobody has signed.
	token := func(life time.Duration) string {
		claims := fmt.Sprintf(`{"sub":"walferry","iat":%d,"exp":%d}`, time.Now().Add(-time.Hour).Unix(), time.Now().Add(life).Unix())
		return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + "."
	}
	c := broker.Config{
		Seeds: []string{b.SASLAddr()}, TLS: broker.TLSConfig{Enabled: true, CAFile: b.CAFile()},
		SASL: broker.SASLConfig{Mechanism: broker.OAuthBearer, Password: vault.Credential{File: file(t, token(-time.Minute))}},
	}
	if err := probe(t, c); !fault.Is(err, fault.KafkaAuth) {
		t.Errorf("a spent token: %v", err)
	}
	if err := os.WriteFile(c.SASL.Password.File, []byte(token(time.Hour)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := probe(t, c); err != nil {
		t.Error(err)
	}
}
