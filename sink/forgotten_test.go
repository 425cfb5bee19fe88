package sink_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/internal/kafkaserver"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/sink"
)

// TestForgottenTransactionIsEnded: a coordinator that took a transaction for complete has left it open in a
// partition. The next claim ends it as the coordinator had decided, and not as it would end itself.
func TestForgottenTransactionIsEnded(t *testing.T) {
	b := kafkatest.Start(t, kafkaserver.Options{Settings: kafkatest.Unverified()})
	for name, c := range map[string]struct {
		commit bool
		want   []string
	}{
		"committed": {true, []string{"forgotten"}},
		"aborted":   {false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, table := config(t), orders("orders")
			topic := cfg.Pipeline + ".public.orders"
			k := transactional(t, cfg, []string{b.Addr()}, table)
			b.LeaveOpen("walferry."+cfg.Pipeline, topic, c.commit)
			claim(t, k, cfg)
			if got := committedValues(t, b.Addr(), topic); !slices.Equal(got, c.want) {
				t.Errorf("visible after the claim: %q, want %q", got, c.want)
			}
			if err := commit(t, k, cfg); err != nil {
				t.Fatal(err)
			}
			if got := committedValues(t, b.Addr(), topic); !slices.Equal(got, append(c.want, "checkpoint")) {
				t.Errorf("visible after a commit: %q", got)
			}
		})
	}
	for name, key := range map[string]kmsg.Key{
		"a claim failed before it looked": kmsg.InitProducerID, "a claim failed before it ended it": kmsg.AddPartitionsToTxn,
	} {
		t.Run(name, func(t *testing.T) {
			cfg, table := config(t), orders("orders")
			id, topic := "walferry."+cfg.Pipeline, cfg.Pipeline+".public.orders"
			k := transactional(t, cfg, []string{b.Addr()}, table)
			b.LeaveOpen(id, topic, true)
			ctx, cancel := context.WithCancel(within(t))
			sink.ClaimWith(k, answered{key, cancel}, func() {
				if err := k.Claim(ctx, id, topic); !errors.Is(err, context.Canceled) {
					t.Errorf("the first claim says %v", err)
				}
			})
			claim(t, k, cfg)
			if got := committedValues(t, b.Addr(), topic); !slices.Equal(got, []string{"forgotten"}) {
				t.Errorf("visible after the second claim: %q", got)
			}
		})
	}
	t.Run("in a topic of an earlier run", func(t *testing.T) {
		cfg, topic := config(t), b.Topic("earlier", 1)
		k := transactional(t, cfg, []string{b.Addr()}, orders("orders"))
		if _, err := k.Open(within(t), nil, map[string]int32{topic: 1}); err != nil {
			t.Fatal(err)
		}
		b.LeaveOpen("walferry."+cfg.Pipeline, topic, true)
		claim(t, k, cfg)
		if got := committedValues(t, b.Addr(), topic); !slices.Equal(got, []string{"forgotten"}) {
			t.Errorf("visible after the claim: %q", got)
		}
	})
	t.Run("nobody knows", func(t *testing.T) {
		cfg, table := config(t), orders("orders")
		id, topic := "walferry."+cfg.Pipeline, cfg.Pipeline+".public.orders"
		k := transactional(t, cfg, []string{b.Addr()}, table)
		b.LeaveOpen(id, topic, true)
		kafkatest.InitProducer(t, b.Client(), id) // a claim that died before it looked
		err := k.Claim(within(t), id, topic)
		if fault.CodeOf(err) != fault.KafkaUnavailable || !strings.Contains(fault.Of(err).Hint, "find-hanging") {
			t.Errorf("the claim says %v", err)
		}
	})
}

// committedValues returns what a read_committed consumer has of a topic of one partition, in order. It waits until no
// transaction is open there.
func committedValues(t *testing.T, addr, topic string) []string {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx := within(t)
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup(topic, 0)
	var values []string
	for next := int64(0); next < end.Offset; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%v; so far %q", err, values)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if !r.Attrs.IsControl() {
				values = append(values, string(r.Value))
			}
		})
	}
	return values
}

// answered calls do once a request of the kind was answered.
type answered struct {
	key kmsg.Key
	do  func()
}

func (a answered) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if key == int16(a.key) && e2e.Err() == nil {
		a.do()
	}
}

// TestClaimDecidesWhatIsOpen: what another producer has open is aborted, and it cannot commit it any more: what the
// claim goes by afterwards holds for good.
func TestClaimDecidesWhatIsOpen(t *testing.T) {
	b := kafkatest.Start(t, kafkaserver.Options{})
	cfg, topic := config(t), b.Topic("open", 1)
	id := "walferry." + cfg.Pipeline
	zombie := b.Client(kgo.TransactionalID(id))
	if err := zombie.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := zombie.ProduceSync(within(t), &kgo.Record{Topic: topic, Value: []byte("open")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	p := broker.Producer{}
	p.ID, p.Epoch, _ = zombie.ProducerID(within(t))
	var learned broker.Verdicts
	if err := learned.Ask(within(t), b.Client(), id); err != nil {
		t.Fatal(err)
	}
	if commit, known := learned.Of(p); commit || !known {
		t.Errorf("commit %v, known %v", commit, known)
	}
	if err := zombie.EndTransaction(within(t), kgo.TryCommit); !errors.Is(err, kerr.InvalidTxnState) {
		t.Errorf("the commit after that says %v", err)
	}
	if got := committedValues(t, b.Addr(), topic); len(got) != 0 {
		t.Errorf("visible: %q", got)
	}
}
