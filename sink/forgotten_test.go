package sink_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/kafkaserver"
	"github.com/walferry/walferry/internal/kafkatest"
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
