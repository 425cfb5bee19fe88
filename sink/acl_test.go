package sink_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/internal/kafkaserver"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/sink"
	"github.com/walferry/walferry/sink/encode"
	"github.com/walferry/walferry/vault"
)

// TestFault44_ACLs works over SASL_SSL with no more than the documented ACLs on a real broker, names
// the ACL where one is missing, and stops without an acknowledgement where one is revoked in mid-run.
func TestFault44_ACLs(t *testing.T) {
	t.Parallel()
	b := kafkatest.Start(t, kafkaserver.Options{ACLs: true})
	cfg, table := config(t), orders("orders")
	topic := cfg.Pipeline + ".public.orders"
	grant := func(ops ...kadm.ACLOperation) *kadm.ACLBuilder {
		return kadm.NewACLs().Allow("User:" + kafkaserver.Username).AllowHosts("*").Topics(topic).
			Operations(ops...).ResourcePatternType(kadm.ACLPatternLiteral)
	}
	var log logs
	k, err := sink.New(cfg, secured(b), encode.DefaultOptions(), slog.New(slog.NewTextHandler(&log, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	steps := []struct {
		allow []kadm.ACLOperation
		hint  string // of the refusal; "" means that Open works
	}{
		{nil, "User:walferry the ACLs Write, Describe"},
		{[]kadm.ACLOperation{kadm.OpWrite}, "Create"},
		{[]kadm.ACLOperation{kadm.OpWrite, kadm.OpCreate}, ""},
	}
	for _, step := range steps {
		if len(step.allow) > 0 {
			b.Allow(grant(step.allow...))
		}
		_, err := k.Open(t.Context(), []*event.Table{table}, nil)
		f := fault.Of(err)
		switch {
		case step.hint == "" && err != nil:
			t.Fatal(err)
		case step.hint != "" && (f == nil || f.Code != fault.KafkaACL || f.Topic != topic || !strings.Contains(f.Hint, step.hint)):
			t.Fatalf("with %v: %v", step.allow, err)
		}
	}
	s, a := newStream(), new(ack)
	write(t, k, a, s.insert(table, 1, "a"))
	drain(t, k)
	a.want(t, 1, 1)
	if n := strings.Count(log.String(), "DescribeConfigs"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}

	b.Forbid(grant(kadm.OpWrite, kadm.OpCreate))
	write(t, k, a, s.insert(table, 1, canary))
	err = waitFailed(t, k)
	if f := fault.Of(err); f == nil || f.Code != fault.KafkaACL || f.Topic != topic || f.Pos.Seq != 2 {
		t.Fatalf("got %v", err)
	}
	a.want(t, 2, 1)
	for _, secret := range []string{canary, kafkaserver.Password} {
		if strings.Contains(log.String()+err.Error()+fault.Of(err).Hint, secret) {
			t.Error("a secret in log or error")
		}
	}
}

func secured(b *kafkatest.Broker) broker.Config {
	return broker.Config{
		Seeds: []string{b.SASLAddr()}, ClientID: "walferry-test",
		TLS: broker.TLSConfig{Enabled: true, CAFile: b.CAFile()},
		SASL: broker.SASLConfig{
			Mechanism: "scram-sha-512", Username: kafkaserver.Username,
			Password: vault.Credential{Text: vault.NewSecret(kafkaserver.Password)},
		},
	}
}

// TestClaimWithoutTheRightToRead: who may only write cannot look for what brokers have left open, and goes on without.
func TestClaimWithoutTheRightToRead(t *testing.T) {
	t.Parallel()
	b := kafkatest.Start(t, kafkaserver.Options{ACLs: true})
	cfg, table := config(t), orders("orders")
	user := kadm.NewACLs().Allow("User:" + kafkaserver.Username).AllowHosts("*").ResourcePatternType(kadm.ACLPatternPrefixed)
	b.Allow(user.Topics(cfg.Pipeline).TransactionalIDs("walferry."+cfg.Pipeline).Operations(kadm.OpWrite, kadm.OpDescribe, kadm.OpCreate))
	base, err := sink.New(cfg, secured(b), encode.DefaultOptions(), slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	k := base.Transactions()
	t.Cleanup(k.Close)
	if _, err := k.Open(within(t), []*event.Table{table}, nil); err != nil {
		t.Fatal(err)
	}
	claim(t, k, cfg)
	if err := commit(t, k, cfg); err != nil {
		t.Fatal(err)
	}
}
