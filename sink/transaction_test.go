package sink_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/sink"
)

// transactional opens a sink that writes in transactions, with the claim taken. Its table has one
// partition, so that a reader sees the order of everything.
func transactional(t *testing.T, cfg sink.Config, seeds []string, table *event.Table) *sink.Transactional {
	t.Helper()
	cfg.Topics.Partitions = 1
	k := prepare(t, cfg, seeds).Transactions()
	if _, err := k.Open(t.Context(), []*event.Table{table}, nil); err != nil {
		t.Fatal(err)
	}
	claim(t, k, cfg)
	return k
}

func claim(t *testing.T, k *sink.Transactional, cfg sink.Config) {
	t.Helper()
	if err := k.Claim(within(t), "walferry."+cfg.Pipeline, cfg.Pipeline+".public.orders"); err != nil {
		t.Fatal(err)
	}
}

// within bounds a call.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// commit ends the transaction here. Its checkpoint goes to the topic of the table as well, which
// spares the reader a topic.
func commit(t *testing.T, k *sink.Transactional, cfg sink.Config) error {
	t.Helper()
	k.Hold()
	return finishCommit(t, k, cfg)
}

func finishCommit(t *testing.T, k *sink.Transactional, cfg sink.Config) error {
	t.Helper()
	return k.Commit(within(t), &kgo.Record{Topic: cfg.Pipeline + ".public.orders", Value: []byte("checkpoint")})
}

// committed returns what a read_committed consumer has of a topic: the sequences of the records, "c"
// for a checkpoint. It waits until no transaction is open there.
func committed(t *testing.T, seeds []string, cfg sink.Config) string {
	t.Helper()
	topic := cfg.Pipeline + ".public.orders"
	cl, err := kgo.NewClient(kgo.SeedBrokers(seeds...), kgo.ConsumeTopics(topic), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx := within(t)
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup(topic, 0)
	var got []string
	for next := int64(0); next < end.Offset; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%v; so far %v", err, got)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			switch {
			case r.Attrs.IsControl():
			case string(r.Value) == "checkpoint":
				got = append(got, "c")
			default:
				got = append(got, positions([]*kgo.Record{r}))
			}
		})
	}
	return strings.Join(got, " ")
}

// onBoth runs a test against the fake and the real thing.
func onBoth(t *testing.T, test func(t *testing.T, seeds []string)) {
	t.Helper()
	t.Run("kfake", func(t *testing.T) { test(t, kafkatest.StartFake(t).ListenAddrs()) })
	t.Run("kafka", func(t *testing.T) { test(t, []string{kafkatest.Shared(t).Addr()}) })
}

func TestTransactionsShowRecordsAndCheckpointTogether(t *testing.T) {
	onBoth(t, func(t *testing.T, seeds []string) {
		cfg, table := config(t), orders("orders")
		k := transactional(t, cfg, seeds, table)
		s, a := newStream(), new(ack)
		write(t, k.Kafka, a, s.insert(table, 1, "a"), s.insert(table, 2, "b"))
		if rows, bytes := k.Size(); rows != 2 || bytes < 100 {
			t.Errorf("the transaction has %d records, %d bytes", rows, bytes)
		}
		if err := commit(t, k, cfg); err != nil {
			t.Fatal(err)
		}
		if got := committed(t, seeds, cfg); got != "1 2 c" {
			t.Errorf("visible: %s", got)
		}
		if rows, bytes := k.Size(); rows != 0 || bytes != 0 {
			t.Errorf("the next transaction has %d records, %d bytes", rows, bytes)
		}
		if err := commit(t, k, cfg); err != nil { // an idle position
			t.Fatal(err)
		}
		if got := committed(t, seeds, cfg); got != "1 2 c c" {
			t.Errorf("visible: %s", got)
		}
		a.want(t, 2, 2)
	})
}

// TestStagedRecordsComeAfterTheCommit writes while a commit is about to run: what came after Hold
// belongs to the next transaction, in its order and before anything newer.
func TestStagedRecordsComeAfterTheCommit(t *testing.T) {
	onBoth(t, func(t *testing.T, seeds []string) {
		cfg, table := config(t), orders("orders")
		k := transactional(t, cfg, seeds, table)
		s, a := newStream(), new(ack)
		write(t, k.Kafka, a, s.insert(table, 1, "a"))
		k.Hold()
		for i := range 50 {
			write(t, k.Kafka, a, s.insert(table, i, "staged"))
		}
		if rows, _ := k.Size(); rows != 50 {
			t.Errorf("%d records are staged", rows)
		}
		if err := finishCommit(t, k, cfg); err != nil {
			t.Fatal(err)
		}
		write(t, k.Kafka, a, s.insert(table, 1, "z"))
		if rows, _ := k.Size(); rows != 51 {
			t.Errorf("the second transaction has %d records", rows)
		}
		if err := commit(t, k, cfg); err != nil {
			t.Fatal(err)
		}
		want := []string{"1", "c"}
		for i := range 51 {
			want = append(want, fmt.Sprint(i+2))
		}
		if got := committed(t, seeds, cfg); got != strings.Join(append(want, "c"), " ") {
			t.Errorf("visible: %s", got)
		}
	})
}

// TestHeldTwiceIsNotCommitted: what was staged behind the first hold would be covered by the commit and not be in it.
func TestHeldTwiceIsNotCommitted(t *testing.T) {
	cfg, table := config(t), orders("orders")
	seeds := kafkatest.StartFake(t).ListenAddrs()
	k := transactional(t, cfg, seeds, table)
	s, a := newStream(), new(ack)
	k.Hold()
	write(t, k.Kafka, a, s.insert(table, 1, "staged"))
	if err := commit(t, k, cfg); err == nil {
		t.Fatal("committed")
	}
	claim(t, k, cfg)
	write(t, k.Kafka, a, s.insert(table, 1, "again"))
	if err := commit(t, k, cfg); err != nil {
		t.Fatal(err)
	}
	if got := committed(t, seeds, cfg); got != "2 c" {
		t.Errorf("visible: %s", got)
	}
}

// TestClaimGivesUpWhatWasNotCommitted claims again, as after a lost connection: neither what was sent
// nor what was staged is seen, and the window has its room back.
func TestClaimGivesUpWhatWasNotCommitted(t *testing.T) {
	onBoth(t, func(t *testing.T, seeds []string) {
		cfg, table := config(t), orders("orders")
		k := transactional(t, cfg, seeds, table)
		s, a := newStream(), new(ack)
		write(t, k.Kafka, a, s.insert(table, 1, "sent"))
		k.Hold()
		write(t, k.Kafka, a, s.insert(table, 1, "staged"))
		claim(t, k, cfg)
		if rows, bytes := k.Size(); rows != 0 || bytes != 0 {
			t.Errorf("%d records, %d bytes are left of the transaction that was given up", rows, bytes)
		}
		drain(t, k.Kafka)
		write(t, k.Kafka, a, s.insert(table, 1, "again"))
		if err := commit(t, k, cfg); err != nil {
			t.Fatal(err)
		}
		if got := committed(t, seeds, cfg); got != "3 c" {
			t.Errorf("visible: %s", got)
		}
	})
}

// TestFault05_PredecessorIsFenced has a second sink claim while the first is in a transaction: nothing
// of the first is ever seen, its commit fails, and so does every later write, in a way that has the
// pipeline claim again.
func TestFault05_PredecessorIsFenced(t *testing.T) {
	onBoth(t, func(t *testing.T, seeds []string) {
		cfg, table := config(t), orders("orders")
		zombie := transactional(t, cfg, seeds, table)
		s, a := newStream(), new(ack)
		write(t, zombie.Kafka, a, s.insert(table, 1, "zombie"))
		drain(t, zombie.Kafka)
		successor := transactional(t, cfg, seeds, table)
		write(t, successor.Kafka, a, s.insert(table, 1, "successor"))
		err := zombie.Write(t.Context(), s.insert(table, 1, "zombie"), a)
		if err != nil {
			t.Errorf("the zombie cannot know yet: %v", err)
		}
		if err := commit(t, zombie, cfg); err == nil {
			t.Error("the zombie committed")
		} else {
			t.Logf("the zombie's commit: %v", err)
		}
		if err := zombie.Write(t.Context(), s.insert(table, 1, "zombie"), a); err == nil || !fault.Retryable(err) {
			t.Errorf("the zombie's next write: %v", err)
		}
		if zombie.Err() != nil {
			t.Errorf("being fenced is no failure of the sink: %v", zombie.Err())
		}
		if err := commit(t, successor, cfg); err != nil {
			t.Fatal(err)
		}
		if got := committed(t, seeds, cfg); got != "2 c" {
			t.Errorf("visible: %s", got)
		}
	})
}

// TestRefusedInATransaction has the brokers refuse records: what only a person can change ends the
// sink and names the record; whatever else it is, only the transaction is lost.
func TestRefusedInATransaction(t *testing.T) {
	for _, tc := range []struct {
		err  *kerr.Error
		code fault.Code // of the failure, "" where another claim may help
	}{
		{kerr.TopicAuthorizationFailed, fault.KafkaACL},
		{kerr.MessageTooLarge, fault.RecordTooLarge},
		{kerr.InvalidRecord, fault.RecordRefused},
		{kerr.InvalidTimestamp, fault.RecordRefused},
		{kerr.InvalidTxnState, ""},
		{kerr.InvalidProducerEpoch, ""},
		{kerr.ProducerFenced, ""},
		{kerr.OutOfOrderSequenceNumber, ""},
	} {
		t.Run(tc.err.Message, func(t *testing.T) {
			c := kafkatest.StartFake(t)
			cfg, table := config(t), orders("orders")
			k := transactional(t, cfg, c.ListenAddrs(), table)
			fails := true
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: tc.err, Count: 1})
			s, a := newStream(), new(ack)
			write(t, k.Kafka, a, s.insert(table, 1, canary))
			if tc.code != "" {
				err := waitFailed(t, k.Kafka)
				if f := fault.Of(err); f == nil || f.Code != tc.code || f.Table != "public.orders" || f.Pos.Seq != 1 {
					t.Errorf("failed with %v", err)
				}
				fails = false
			}
			err := commit(t, k, cfg)
			if !errors.Is(err, tc.err) {
				t.Errorf("the commit ended with %v", err)
			}
			if fails && k.Err() != nil {
				t.Errorf("the sink failed: %v", k.Err())
			}
			if !fails {
				return
			}
			if err := k.Write(t.Context(), s.insert(table, 1, "b"), a); !fault.Is(err, fault.KafkaUnavailable) {
				t.Errorf("the next write: %v", err)
			}
			claim(t, k, cfg)
			write(t, k.Kafka, a, s.insert(table, 1, "c"))
			if err := commit(t, k, cfg); err != nil {
				t.Fatal(err)
			}
			if got := strings.Fields(committed(t, c.ListenAddrs(), cfg)); !slices.Equal(got, []string{"3", "c"}) {
				t.Errorf("visible: %v", got)
			}
		})
	}
}

// TestCommitEndsWithItsContext holds the answer to a commit back: Commit returns when its time is up,
// without an answer, and another claim works.
func TestCommitEndsWithItsContext(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.Produce, kmsg.EndTxn} {
		t.Run(key.Name(), func(t *testing.T) {
			c := kafkatest.StartFake(t)
			cfg, table := config(t), orders("orders")
			k := transactional(t, cfg, c.ListenAddrs(), table)
			s, a := newStream(), new(ack)
			write(t, k.Kafka, a, s.insert(table, 1, "a"))
			if key == kmsg.EndTxn {
				drain(t, k.Kafka)
			}
			answer := make(chan struct{})
			c.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
				c.SleepControl(func() { <-answer })
				return nil, nil, false
			})
			k.Hold()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			began := time.Now()
			err := k.Commit(ctx, &kgo.Record{Topic: cfg.Pipeline + ".public.orders", Value: []byte("checkpoint")})
			if err == nil {
				t.Error("committed without an answer")
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("returned after %s", took)
			}
			close(answer)
			claim(t, k, cfg)
			write(t, k.Kafka, a, s.insert(table, 1, "b"))
			if err := commit(t, k, cfg); err != nil {
				t.Fatal(err)
			}
			if got := committed(t, c.ListenAddrs(), cfg); !strings.HasSuffix(got, "2 c") {
				t.Errorf("visible: %s", got)
			}
		})
	}
}

// TestTransactionsAfterClose: a sink that is closed in a transaction returns errors and hangs nowhere.
func TestTransactionsAfterClose(t *testing.T) {
	cfg, table := config(t), orders("orders")
	seeds := kafkatest.StartFake(t).ListenAddrs()
	k := transactional(t, cfg, seeds, table)
	s, a := newStream(), new(ack)
	write(t, k.Kafka, a, s.insert(table, 1, "a"))
	k.Hold()
	write(t, k.Kafka, a, s.insert(table, 1, "staged"))
	k.Close()
	drain(t, k.Kafka)
	next := transactional(t, cfg, seeds, table)
	if err := commit(t, next, cfg); err != nil {
		t.Fatal(err)
	}
	if got := committed(t, seeds, cfg); got != "c" {
		t.Errorf("visible: %s", got)
	}
}

// TestCloseAbortsWhatIsOpen: nobody has to wait until the brokers give up what a stop leaves behind.
func TestCloseAbortsWhatIsOpen(t *testing.T) {
	onBoth(t, func(t *testing.T, seeds []string) {
		cfg, table := config(t), orders("orders")
		k := transactional(t, cfg, seeds, table)
		s, a := newStream(), new(ack)
		write(t, k.Kafka, a, s.insert(table, 1, "a"))
		if err := commit(t, k, cfg); err != nil {
			t.Fatal(err)
		}
		write(t, k.Kafka, a, s.insert(table, 2, "sent"))
		drain(t, k.Kafka)
		write(t, k.Kafka, a, s.insert(table, 3, "on its way"))
		k.Hold()
		write(t, k.Kafka, a, s.insert(table, 4, "staged"))
		k.Close()
		if k.Err() != nil {
			t.Errorf("a stop is a failure: %v", k.Err())
		}
		drain(t, k.Kafka)
		passes(t, seeds, cfg)
		if got := committed(t, seeds, cfg); got != "1 c" {
			t.Errorf("visible: %s", got)
		}
		k.Close() // once more
	})
}

// passes waits until the last stable offset is the end, for less than the brokers wait.
func passes(t *testing.T, seeds []string, cfg sink.Config) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(seeds...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	topic := cfg.Pipeline + ".public.orders"
	admin := kadm.NewClient(cl)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		stable, err := admin.ListCommittedOffsets(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		ends, err := admin.ListEndOffsets(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		at, _ := stable.Lookup(topic, 0)
		end, _ := ends.Lookup(topic, 0)
		if at.Offset == end.Offset {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the last stable offset is %d, the end %d", at.Offset, end.Offset)
		}
	}
}

// TestCloseLeavesASuccessorAlone: a zombie that ends, whether it knows already that it is one or not, neither
// ends the transaction of its successor nor shuts it out.
func TestCloseLeavesASuccessorAlone(t *testing.T) {
	for _, knows := range []bool{false, true} {
		t.Run(fmt.Sprintf("knows=%t", knows), func(t *testing.T) {
			onBoth(t, func(t *testing.T, seeds []string) {
				cfg, table := config(t), orders("orders")
				zombie := transactional(t, cfg, seeds, table)
				s, a := newStream(), new(ack)
				write(t, zombie.Kafka, a, s.insert(table, 1, "zombie"))
				drain(t, zombie.Kafka)
				successor := transactional(t, cfg, seeds, table)
				write(t, successor.Kafka, a, s.insert(table, 1, "successor"))
				drain(t, successor.Kafka)
				if knows {
					if err := commit(t, zombie, cfg); err == nil {
						t.Fatal("the zombie committed")
					}
				}
				zombie.Close()
				if err := commit(t, successor, cfg); err != nil {
					t.Fatal(err)
				}
				if got := committed(t, seeds, cfg); got != "2 c" {
					t.Errorf("visible: %s", got)
				}
			})
		})
	}
}

// TestCloseAfterAnUncertainCommitSendsNothing: the request to commit may still be on its way.
func TestCloseAfterAnUncertainCommitSendsNothing(t *testing.T) {
	c := kafkatest.StartFake(t)
	cfg, table := config(t), orders("orders")
	k := transactional(t, cfg, c.ListenAddrs(), table)
	s, a := newStream(), new(ack)
	write(t, k.Kafka, a, s.insert(table, 1, "a"))
	drain(t, k.Kafka)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.UnknownServerError, Count: 1})
	if err := commit(t, k, cfg); !errors.Is(err, kerr.UnknownServerError) {
		t.Fatalf("the commit ended with %v", err)
	}
	var sent atomic.Int64
	for _, key := range []kmsg.Key{kmsg.EndTxn, kmsg.InitProducerID} {
		c.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			sent.Add(1)
			return nil, nil, false
		})
	}
	k.Close()
	if n := sent.Load(); n != 0 {
		t.Errorf("%d requests that end the transaction or claim it", n)
	}
}

// TestCloseEndsWithoutTheBrokers: a stop does not wait for what they will do by themselves.
func TestCloseEndsWithoutTheBrokers(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.Produce, kmsg.EndTxn} {
		t.Run(key.Name(), func(t *testing.T) {
			c := kafkatest.StartFake(t)
			cfg, table := config(t), orders("orders")
			k := transactional(t, cfg, c.ListenAddrs(), table)
			s, a := newStream(), new(ack)
			write(t, k.Kafka, a, s.insert(table, 1, "a"))
			drain(t, k.Kafka)
			answer := make(chan struct{})
			defer close(answer)
			c.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
				c.SleepControl(func() { <-answer })
				return nil, nil, false
			})
			write(t, k.Kafka, a, s.insert(table, 2, "on its way"))
			began := time.Now()
			k.Close()
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("closed after %s", took)
			}
		})
	}
}

// TestATransactionThatTheClientBeganAnewIsNotCommitted has the brokers answer as if they had forgotten the
// producer and removed its last records. The client then makes itself known anew and sends the same records
// again; that drops what is in the open transaction, without an error for anybody.
func TestATransactionThatTheClientBeganAnewIsNotCommitted(t *testing.T) {
	c := kafkatest.StartFake(t)
	cfg, table := config(t), orders("orders")
	k := transactional(t, cfg, c.ListenAddrs(), table)
	s, a := newStream(), new(ack)
	write(t, k.Kafka, a, s.insert(table, 1, "dropped"))
	drain(t, k.Kafka)
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		return forgotten(req), nil, true
	})
	write(t, k.Kafka, a, s.insert(table, 2, "sent again"))
	drain(t, k.Kafka)
	if err := commit(t, k, cfg); err == nil {
		t.Error("committed without the first record")
	}
	claim(t, k, cfg)
	write(t, k.Kafka, a, s.insert(table, 3, "after the claim"))
	if err := commit(t, k, cfg); err != nil {
		t.Fatal(err)
	}
	if got := committed(t, c.ListenAddrs(), cfg); got != "3 c" {
		t.Errorf("visible: %s", got)
	}
}

// forgotten is the answer of a broker that knows nothing of a producer whose records it has removed.
func forgotten(req kmsg.Request) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ProduceResponse)        //nolint:errcheck // it is of this kind
	for _, topic := range req.(*kmsg.ProduceRequest).Topics { //nolint:errcheck // called for this key
		t := kmsg.NewProduceResponseTopic()
		t.Topic, t.TopicID = topic.Topic, topic.TopicID
		for _, partition := range topic.Partitions {
			p := kmsg.NewProduceResponseTopicPartition()
			p.Partition, p.ErrorCode = partition.Partition, kerr.OutOfOrderSequenceNumber.Code
			p.BaseOffset, p.LogStartOffset = -1, 1<<20
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}
