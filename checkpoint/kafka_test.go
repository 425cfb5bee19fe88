package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/internal/kafkaserver"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/vault"
)

func TestMain(m *testing.M) { os.Exit(kafkatest.Main(m.Run)) }

// onBothBrokers runs a test against kfake and against a real broker, with a pipeline of its own.
func onBothBrokers(t *testing.T, run func(t *testing.T, seed, pipeline string)) {
	pipeline := fmt.Sprintf("p%08x", rand.Uint32())
	t.Run("kfake", func(t *testing.T) { run(t, kafkatest.StartFake(t).ListenAddrs()[0], pipeline) })
	t.Run("kafka", func(t *testing.T) { run(t, kafkatest.Shared(t).Addr(), pipeline) })
}

func newKafkaStore(t *testing.T, seed, pipeline string) *KafkaStore {
	t.Helper()
	s := NewKafkaStore(pipeline, broker.Config{Seeds: []string{seed}, ClientID: "walferry-test"}, nil, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { noError(t, s.Close()) })
	return s
}

func newAdmin(t *testing.T, seed string) *kadm.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(seed))
	noError(t, err)
	t.Cleanup(client.Close)
	return kadm.NewClient(client)
}

func recordAt(end event.LSN) Record {
	return Record{Origin: here, Timeline: 1, End: end, Fingerprint: "f"}
}

func wantEnd(t *testing.T, r *Record, err error, want event.LSN) {
	t.Helper()
	noError(t, err)
	if want == 0 && r != nil {
		t.Fatalf("got the record %+v, want none", *r)
	}
	if want != 0 && (r == nil || r.End != want) {
		t.Fatalf("got the record %+v, want one at %v", r, want)
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, code fault.Code) {
	t.Helper()
	if !fault.Is(err, code) {
		t.Fatalf("error %v, want code %s", err, code)
	}
}

func TestKafkaStoreKeepsTheNewest(t *testing.T) {
	onBothBrokers(t, func(t *testing.T, seed, pipeline string) {
		ctx := t.Context()
		s := newKafkaStore(t, seed, pipeline)
		r, err := s.Load(ctx)
		wantEnd(t, r, err, 0)
		r, err = s.Acquire(ctx)
		wantEnd(t, r, err, 0)
		for end := event.LSN(1); end <= 100; end++ { // more than one step back from the end
			noError(t, s.Save(ctx, recordAt(end)))
		}
		noError(t, s.Close())

		next := newKafkaStore(t, seed, pipeline)
		r, err = next.Acquire(ctx)
		wantEnd(t, r, err, 100)
		noError(t, next.Save(ctx, recordAt(101)))
		r, err = next.Acquire(ctx) // the same instance again
		wantEnd(t, r, err, 101)
		noError(t, next.Save(ctx, recordAt(102)))
		noError(t, next.Close())
		noError(t, next.Close())
	})
}

// TestKafkaStoreFencesThePredecessor: once another instance has acquired, the first one can not
// bring a record in, however it tries, and learns that it was shut out.
func TestKafkaStoreFencesThePredecessor(t *testing.T) {
	onBothBrokers(t, func(t *testing.T, seed, pipeline string) {
		ctx := t.Context()
		first, second := newKafkaStore(t, seed, pipeline), newKafkaStore(t, seed, pipeline)
		_, err := first.Acquire(ctx)
		noError(t, err)
		noError(t, first.Save(ctx, recordAt(10)))

		r, err := second.Acquire(ctx)
		wantEnd(t, r, err, 10)
		noError(t, second.Save(ctx, recordAt(30)))

		err = first.Save(ctx, recordAt(20))
		t.Logf("the zombie's save: %v", err)
		wantCode(t, err, fault.Fenced)

		noError(t, second.Save(ctx, recordAt(40)))
		third := newKafkaStore(t, seed, pipeline)
		r, err = third.Acquire(ctx)
		wantEnd(t, r, err, 40)
	})
}

// TestKafkaStoreEndsAnOpenTransaction: a predecessor that died in the middle of a save leaves a
// transaction open. A reader does not wait for it, a claimant ends it, and its record is not seen.
func TestKafkaStoreEndsAnOpenTransaction(t *testing.T) {
	onBothBrokers(t, func(t *testing.T, seed, pipeline string) {
		ctx := t.Context()
		dead := newKafkaStore(t, seed, pipeline)
		_, err := dead.Acquire(ctx)
		noError(t, err)
		noError(t, dead.Save(ctx, recordAt(10)))
		value, err := encode(pipeline, recordAt(20))
		noError(t, err)
		noError(t, dead.client.BeginTransaction())
		noError(t, dead.client.ProduceSync(ctx, &kgo.Record{Topic: Topic(pipeline), Key: []byte(pipeline), Value: value}).FirstErr())

		next := newKafkaStore(t, seed, pipeline)
		quick, cancel := context.WithTimeout(ctx, readTimeout/2)
		defer cancel()
		r, err := next.Load(quick)
		wantEnd(t, r, err, 10)
		r, err = next.Acquire(quick)
		wantEnd(t, r, err, 10)

		// The dead one was only asleep: what it began can not be committed any more.
		err = dead.client.EndTransaction(ctx, kgo.TryCommit)
		if err == nil {
			t.Error("a transaction was committed after another instance had claimed")
		}
		t.Logf("the zombie's commit: %v", err)
		noError(t, next.Save(ctx, recordAt(30)))
		r, err = newKafkaStore(t, seed, pipeline).Acquire(ctx)
		wantEnd(t, r, err, 30)
	})
}

// TestKafkaStoreSaysWhatHoldsItBack has a stranger's transaction stay open in the topic: the error says which
// offsets it holds back, and not only that the time is up.
func TestKafkaStoreSaysWhatHoldsItBack(t *testing.T) {
	onBothBrokers(t, func(t *testing.T, seed, pipeline string) {
		s := newKafkaStore(t, seed, pipeline)
		_, err := s.Acquire(t.Context())
		noError(t, err)
		noError(t, s.Save(t.Context(), recordAt(10)))
		stranger, err := kgo.NewClient(kgo.SeedBrokers(seed), kgo.TransactionalID("stranger."+pipeline))
		noError(t, err)
		defer stranger.Close()
		noError(t, stranger.BeginTransaction())
		noError(t, stranger.ProduceSync(t.Context(), &kgo.Record{Topic: Topic(pipeline), Key: []byte("stranger"), Value: []byte("{}")}).FirstErr())
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err = newKafkaStore(t, seed, pipeline).Acquire(ctx)
		if err == nil || !strings.Contains(err.Error(), "an open transaction holds offsets 2 to 2 back") {
			t.Errorf("behind an open transaction: %v", err)
		}
		noError(t, stranger.EndTransaction(t.Context(), kgo.TryAbort))
	})
}

// TestKafkaStoreZombieLeavesTheHealthyAlone: an instance whose save failed with an error that says
// nothing acquires again; where another one has saved meanwhile, that one is not shut out.
func TestKafkaStoreZombieLeavesTheHealthyAlone(t *testing.T) {
	onBothBrokers(t, func(t *testing.T, seed, pipeline string) {
		ctx := t.Context()
		by := func(instance string, end event.LSN) Record {
			r := recordAt(end)
			r.Instance = instance
			return r
		}
		zombie, healthy := newKafkaStore(t, seed, pipeline), newKafkaStore(t, seed, pipeline)
		_, err := zombie.Acquire(ctx)
		noError(t, err)
		noError(t, zombie.Save(ctx, by("zombie", 10)))
		zombie.discard() // as after a save of which nothing is known
		_, err = zombie.Acquire(ctx)
		noError(t, err)
		zombie.discard()

		_, err = healthy.Acquire(ctx)
		noError(t, err)
		noError(t, healthy.Save(ctx, by("healthy", 20)))
		_, err = zombie.Acquire(ctx)
		wantCode(t, err, fault.Fenced)
		noError(t, healthy.Save(ctx, by("healthy", 30)))
	})
}

func TestKafkaStoreRefusesTopics(t *testing.T) {
	onBothBrokers(t, func(t *testing.T, seed, pipeline string) {
		for _, c := range []struct {
			name, policy, says string
			partitions         int32
		}{
			{"deleted", "delete", `"delete"`, 1},
			{"both", "compact,delete", "delete", 1},
			{"wide", "compact", "3 partitions", 3},
		} {
			name := pipeline + c.name
			_, err := newAdmin(t, seed).CreateTopic(t.Context(), c.partitions, 1, map[string]*string{"cleanup.policy": &c.policy}, Topic(name))
			noError(t, err)
			s := newKafkaStore(t, seed, name)
			_, err = s.Load(t.Context())
			wantCode(t, err, fault.CheckpointTopic)
			if !strings.Contains(err.Error(), c.says) || fault.Of(err).Topic != Topic(name) {
				t.Errorf("%s: the error %v does not name the topic and %q", c.name, err, c.says)
			}
			_, err = s.Acquire(t.Context())
			wantCode(t, err, fault.CheckpointTopic)
		}
	})
}

func TestKafkaStoreCreatesItsTopic(t *testing.T) {
	onBothBrokers(t, func(t *testing.T, seed, pipeline string) {
		_, err := newKafkaStore(t, seed, pipeline).Load(t.Context())
		noError(t, err)
		configs, err := newAdmin(t, seed).DescribeTopicConfigs(t.Context(), Topic(pipeline))
		noError(t, err)
		topic, err := configs.On(Topic(pipeline), nil)
		noError(t, err)
		got := map[string]string{}
		for _, c := range topic.Configs {
			got[c.Key] = c.MaybeValue()
		}
		for key, want := range topicConfig() {
			if got[key] != *want {
				t.Errorf("%s is %q, want %q", key, got[key], *want)
			}
		}
	})
}

// TestFault55_ReadsWhatOthersWrote: foreign keys are passed over, a tombstone is no checkpoint,
// and a value that cannot be read is refused with its offset.
func TestFault55_ReadsWhatOthersWrote(t *testing.T) {
	onBothBrokers(t, func(t *testing.T, seed, pipeline string) {
		ctx := t.Context()
		s := newKafkaStore(t, seed, pipeline)
		_, err := s.Acquire(ctx)
		noError(t, err)
		noError(t, s.Save(ctx, recordAt(10))) // offset 0, its marker 1
		plain, err := kgo.NewClient(kgo.SeedBrokers(seed), kgo.DefaultProduceTopic(Topic(pipeline)))
		noError(t, err)
		defer plain.Close()
		write := func(key string, value []byte) {
			t.Helper()
			noError(t, plain.ProduceSync(ctx, &kgo.Record{Key: []byte(key), Value: value}).FirstErr())
		}
		for range 2 * firstStep {
			write("somebody", []byte("else"))
		}
		r, err := s.Load(ctx)
		wantEnd(t, r, err, 10)
		write(pipeline, []byte("hello"))
		_, err = s.Load(ctx)
		wantCode(t, err, fault.CheckpointInvalid)
		if want := fmt.Sprintf("offset %d", 2+2*firstStep); !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want it to name %s", err, want)
		}
		write(pipeline, []byte(`{"v":99}`))
		_, err = s.Load(ctx)
		wantCode(t, err, fault.CheckpointNewer)
		write(pipeline, nil)
		r, err = s.Load(ctx)
		wantEnd(t, r, err, 0)
	})
}

// TestKafkaStoreUnknownOutcome: the answer to a commit is lost. Save says that it does not know,
// nothing more is written through that producer, and acquiring again tells.
func TestKafkaStoreUnknownOutcome(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	noError(t, err)
	defer cluster.Close()
	ctx := t.Context()
	s := NewKafkaStore("shop", broker.Config{Seeds: cluster.ListenAddrs()}, nil, slog.New(slog.DiscardHandler))
	_, err = s.Acquire(ctx)
	noError(t, err)
	noError(t, s.Save(ctx, recordAt(10)))

	cluster.ControlKey(int16(kmsg.EndTxn), func(req kmsg.Request) (kmsg.Response, error, bool) {
		resp, ok := req.ResponseKind().(*kmsg.EndTxnResponse)
		if !ok {
			return nil, fmt.Errorf("a request of kind %T", req), true
		}
		resp.ErrorCode = kerr.UnknownServerError.Code
		return resp, nil, true
	})
	err = s.Save(ctx, recordAt(20))
	if !fault.Retryable(err) || !strings.Contains(err.Error(), "not known") {
		t.Fatalf("error %v, want one that can be retried and says that the outcome is not known", err)
	}
	if err := s.Save(ctx, recordAt(30)); !fault.Retryable(err) {
		t.Fatalf("a save without a new claim: error %v", err)
	}
	r, err := s.Acquire(ctx)
	wantEnd(t, r, err, 10) // the commit did not take
	noError(t, s.Save(ctx, recordAt(20)))
	noError(t, s.Close())
}

// TestKafkaStoreCommittedAndNotVisible: the brokers answer a commit before its record can be read. Who claims
// again in that moment must not take the first checkpoint for one that is gone.
func TestKafkaStoreCommittedAndNotVisible(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	noError(t, err)
	defer cluster.Close()
	ctx := t.Context()
	s := newKafkaStore(t, cluster.ListenAddrs()[0], "shop")
	_, err = s.Acquire(ctx)
	noError(t, err)
	mine := recordAt(10)
	mine.Instance = "c0ffee"
	noError(t, s.Save(ctx, mine))

	hidden := 0
	cluster.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		list, ok := req.(*kmsg.ListOffsetsRequest)
		if !ok || list.IsolationLevel != 1 || list.Topics[0].Partitions[0].Timestamp != -1 {
			cluster.KeepControl()
			return nil, nil, false
		}
		hidden++
		resp := list.ResponseKind().(*kmsg.ListOffsetsResponse) //nolint:errcheck,forcetypeassert // the request's own kind
		topic, part := kmsg.NewListOffsetsResponseTopic(), kmsg.NewListOffsetsResponseTopicPartition()
		topic.Topic, part.Offset = list.Topics[0].Topic, 0
		topic.Partitions = append(topic.Partitions, part)
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
	r, err := s.Acquire(ctx)
	wantEnd(t, r, err, 10)
	if hidden == 0 {
		t.Error("the record was never hidden")
	}
}

// TestKafkaStoreSaveEndsWithItsContext: the brokers do not answer a record. Save must not wait for
// them once its context has ended.
func TestKafkaStoreSaveEndsWithItsContext(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SleepOutOfOrder())
	noError(t, err)
	defer cluster.Close()
	s := NewKafkaStore("shop", broker.Config{Seeds: cluster.ListenAddrs()}, nil, slog.New(slog.DiscardHandler))
	_, err = s.Acquire(t.Context())
	noError(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan struct{})
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.SleepControl(func() {
			cancel()
			<-answer
		})
		return nil, nil, false
	})
	err = s.Save(ctx, recordAt(10))
	close(answer)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "not known") {
		t.Errorf("error %v, want the context's, and that the outcome is not known", err)
	}
	_, err = s.Acquire(t.Context())
	noError(t, err)
	noError(t, s.Close())
}

func TestKafkaStoreBrokersAway(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	noError(t, err)
	addrs := cluster.ListenAddrs()
	cluster.Close()
	s := NewKafkaStore("shop", broker.Config{Seeds: addrs}, nil, slog.New(slog.DiscardHandler))
	for range 2 {
		_, err = s.Load(t.Context())
		wantCode(t, err, fault.KafkaUnavailable)
		_, err = s.Acquire(t.Context())
		wantCode(t, err, fault.KafkaUnavailable)
	}
	noError(t, s.Close())
	if _, err = s.Load(t.Context()); !fault.Is(err, fault.Internal) {
		t.Errorf("a closed store: error %v", err)
	}
}

// TestKafkaStoreBrokerRestart: a broker that is killed in mid-run loses nothing that was saved.
func TestKafkaStoreBrokerRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a broker of its own")
	}
	b := kafkatest.Start(t, kafkaserver.Options{})
	ctx := t.Context()
	s := newKafkaStore(t, b.Addr(), "shop")
	_, err := s.Acquire(ctx)
	noError(t, err)
	noError(t, s.Save(ctx, recordAt(10)))
	b.Kill()
	b.Restart()
	// The store may find its connections dead, which is a save of unknown outcome.
	if err := s.Save(ctx, recordAt(20)); err != nil {
		if !fault.Retryable(err) {
			t.Fatal(err)
		}
		r, err := s.Acquire(ctx)
		noError(t, err)
		if r == nil || (r.End != 10 && r.End != 20) {
			t.Fatalf("after the restart the checkpoint is %+v", r)
		}
		noError(t, s.Save(ctx, recordAt(20)))
	}
	r, err := newKafkaStore(t, b.Addr(), "shop").Acquire(ctx)
	wantEnd(t, r, err, 20)
}

// TestKafkaStoreWithoutPermission names the missing ACL for every step.
func TestKafkaStoreWithoutPermission(t *testing.T) {
	topic, id := Topic("shop"), TransactionalID("shop")
	allow := func(kind kmsg.ACLResourceType, name string, operations ...kmsg.ACLOperation) (acls []kfake.ACL) {
		for _, o := range operations {
			acls = append(acls, kfake.ACL{Resource: kind, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: o, Allow: true})
		}
		return acls
	}
	topicAll := allow(kmsg.ACLResourceTypeTopic, topic, kmsg.ACLOperationRead, kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe, kmsg.ACLOperationCreate)
	topicConfigs := allow(kmsg.ACLResourceTypeTopic, topic, kmsg.ACLOperationDescribeConfigs)
	idAll := allow(kmsg.ACLResourceTypeTransactionalId, id, kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe)
	for _, c := range []struct {
		name string
		acls []kfake.ACL
		says string
	}{
		{"nothing", nil, "Describe"},
		{"no DescribeConfigs", slices.Concat(topicAll, idAll), "DescribeConfigs"},
		{"no transactional id", slices.Concat(topicAll, topicConfigs), "transactional id"},
		{"no Read", slices.Concat(allow(kmsg.ACLResourceTypeTopic, topic, kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe, kmsg.ACLOperationCreate), topicConfigs, idAll), "Read"},
		{"no Write", slices.Concat(allow(kmsg.ACLResourceTypeTopic, topic, kmsg.ACLOperationRead, kmsg.ACLOperationDescribe, kmsg.ACLOperationCreate), topicConfigs, idAll), "Write"},
		{"all", slices.Concat(topicAll, topicConfigs, idAll), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster := kafkatest.StartFake(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.User("PLAIN", "cdc", "pw", c.acls...))
			s := NewKafkaStore("shop", broker.Config{Seeds: cluster.ListenAddrs(), SASL: broker.SASLConfig{
				Mechanism: "plain", Username: "cdc", Password: vault.Credential{Text: vault.NewSecret("pw")}, AllowPlaintext: true,
			}}, nil, slog.New(slog.DiscardHandler))
			t.Cleanup(func() { noError(t, s.Close()) })
			_, err := s.Acquire(t.Context())
			if err == nil {
				err = s.Save(t.Context(), recordAt(10))
			}
			if c.says == "" {
				noError(t, err)
				return
			}
			wantCode(t, err, fault.KafkaACL)
			if hint := fault.Of(err).Hint; !strings.Contains(hint, c.says) {
				t.Errorf("the hint %q does not name %q", hint, c.says)
			}
		})
	}
}

// TestIntentIsNoClaim: who has saved an intent and then had to wait for the slot takes over from the one who had it.
func TestIntentIsNoClaim(t *testing.T) {
	onBothBrokers(t, func(t *testing.T, seed, pipeline string) {
		ctx := t.Context()
		first, second := newKafkaStore(t, seed, pipeline), newKafkaStore(t, seed, pipeline)
		_, err := first.Acquire(ctx)
		noError(t, err)
		intent := recordAt(0)
		intent.Intent, intent.Instance = true, "first"
		noError(t, first.Save(ctx, intent))
		_, err = second.Acquire(ctx)
		noError(t, err)
		r := recordAt(10)
		r.Instance = "second"
		noError(t, second.Save(ctx, r))
		got, err := first.Acquire(ctx)
		wantEnd(t, got, err, 10)
		r = recordAt(20)
		r.Instance = "first"
		noError(t, first.Save(ctx, r))
		_, err = second.Acquire(ctx)
		wantCode(t, err, fault.Fenced)
	})
}

// TestForgottenSaveIsEnded: what a coordinator has left open in the topic is ended as it had decided, and does not
// keep the claim from being read.
func TestForgottenSaveIsEnded(t *testing.T) {
	t.Parallel()
	b := kafkatest.Start(t, kafkaserver.Options{Settings: kafkatest.Unverified()})
	for _, commit := range []bool{true, false} {
		pipeline := fmt.Sprintf("p%08x", rand.Uint32())
		savedBy(t, b.Addr(), pipeline, "one")
		b.LeaveOpen(TransactionalID(pipeline), Topic(pipeline), commit) // its record has another key, and is no checkpoint
		next := newKafkaStore(t, b.Addr(), pipeline)
		r, err := next.Acquire(t.Context())
		wantEnd(t, r, err, 10)
		noError(t, next.Save(t.Context(), recordAt(20)))
		r, err = next.Load(t.Context())
		wantEnd(t, r, err, 20)
	}
}

// TestFirstSaveIsCommitted: the client can be answered about its first record before it has noted where that
// went, and would then take the transaction for an empty one and abort it, without a word.
func TestFirstSaveIsCommitted(t *testing.T) {
	for range 8 { // at once, so that goroutines are made to wait where they hardly ever do
		t.Run("", func(t *testing.T) {
			t.Parallel()
			ctx, seed := t.Context(), kafkatest.StartFake(t).ListenAddrs()[0]
			for end := event.LSN(1); end <= 50 && !t.Failed(); end++ {
				s := newKafkaStore(t, seed, "shop")
				_, err := s.Acquire(ctx)
				noError(t, err)
				noError(t, s.Save(ctx, recordAt(end)))
				r, err := s.Load(ctx)
				wantEnd(t, r, err, end)
				noError(t, s.Close())
			}
		})
	}
}
