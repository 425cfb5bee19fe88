package kafkatest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/walferry/walferry/internal/kafkaserver"
	"github.com/walferry/walferry/internal/kafkatest"
)

func TestMain(m *testing.M) { os.Exit(kafkatest.Main(m.Run)) }

// secure returns the options of a client of the SASL_SSL listener.
func secure(t *testing.T, b *kafkatest.Broker) []kgo.Opt {
	t.Helper()
	pem, err := os.ReadFile(b.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return []kgo.Opt{kgo.SeedBrokers(b.SASLAddr()), kgo.DialTLSConfig(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})}
}

func produce(t *testing.T, c *kgo.Client, topic, value string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return c.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr()
}

// consume returns the first n values of a topic.
func consume(t *testing.T, c *kgo.Client, n int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var got []string
	for len(got) < n {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	return got
}

func TestBothListeners(t *testing.T) {
	b := kafkatest.Shared(t)
	topic := b.Topic("listeners", 1)
	b.AddUser("second", "of their own")
	for name, c := range map[string]*kgo.Client{
		"plaintext": b.Client(),
		"sasl_ssl":  b.Client(append(secure(t, b), kgo.SASL(kafkatest.Login()))...),
		"added":     b.Client(append(secure(t, b), kgo.SASL(scram.Auth{User: "second", Pass: "of their own"}.AsSha512Mechanism()))...),
	} {
		if err := produce(t, c, topic, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := consume(t, b.Client(kgo.ConsumeTopics(topic)), 3); len(got) != 3 {
		t.Fatalf("got %q", got)
	}
	wrong := b.Client(append(secure(t, b), kgo.SASL(scram.Auth{User: kafkaserver.Username, Pass: "wrong"}.AsSha512Mechanism()))...)
	if err := wrong.Ping(t.Context()); !errors.Is(err, kerr.SaslAuthenticationFailed) {
		t.Errorf("a wrong password: %v", err)
	}
}

// TestLife stops, kills and pauses a broker of its own; what was acknowledged must be there.
func TestLife(t *testing.T) {
	began := time.Now()
	b := kafkatest.Start(t, kafkaserver.Options{Settings: map[string]string{"message.max.bytes": "2000"}})
	t.Logf("started in %s", time.Since(began).Round(time.Millisecond))
	topic := b.Topic("life", 1)
	if err := produce(t, b.Client(), topic, "a"); err != nil {
		t.Fatal(err)
	}
	large := b.Client(kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err := produce(t, large, topic, string(make([]byte, 4000))); !errors.Is(err, kerr.MessageTooLarge) {
		t.Fatalf("an oversize record: %v", err)
	}

	began = time.Now()
	b.Restart()
	t.Logf("restarted in %s", time.Since(began).Round(time.Millisecond))
	if err := produce(t, b.Client(), topic, "b"); err != nil {
		t.Fatal(err)
	}

	began = time.Now()
	b.Kill()
	if b.Running() {
		t.Fatal("runs after kill")
	}
	b.Restart()
	t.Logf("back after a kill in %s", time.Since(began).Round(time.Millisecond))

	b.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := b.Client().Ping(ctx); err == nil {
		t.Fatal("a paused broker answered")
	}
	b.Continue()
	if err := produce(t, b.Client(), topic, "c"); err != nil {
		t.Fatal(err)
	}
	got := consume(t, b.Client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())), 3)
	if got[0] != "a" || got[1] != "b" || got[2] != "c" {
		t.Fatalf("got %q", got)
	}
}

func TestACLs(t *testing.T) {
	b := kafkatest.Start(t, kafkaserver.Options{ACLs: true})
	topic := b.Topic("acl", 1)
	c := b.Client(append(secure(t, b), kgo.SASL(kafkatest.Login()))...)
	if err := produce(t, c, topic, "refused"); err == nil {
		t.Fatal("written without a grant")
	}
	grant := kadm.NewACLs().Allow("User:"+kafkaserver.Username).AllowHosts("*").Topics(topic).
		Operations(kadm.OpWrite, kadm.OpDescribe).ResourcePatternType(kadm.ACLPatternLiteral)
	b.Allow(grant)
	again := b.Client(append(secure(t, b), kgo.SASL(kafkatest.Login()))...)
	if err := produce(t, again, topic, "granted"); err != nil {
		t.Fatal(err)
	}
}

func TestBadSettingIsReported(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	kafkatest.Shared(t) // skips where there is no Java
	_, err := kafkaserver.Start(ctx, kafkaserver.Options{Settings: map[string]string{"num.io.threads": "many"}})
	if err == nil {
		t.Fatal("started")
	}
	t.Log(err)
}

func TestFake(t *testing.T) {
	c := kafkatest.StartFake(t, kfake.SeedTopics(1, "fake"))
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := produce(t, client, "fake", "x"); err != nil {
		t.Fatal(err)
	}
}
