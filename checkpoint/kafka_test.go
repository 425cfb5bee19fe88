package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
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
	"github.com/walferry/walferry/internal/kafkatest"
)

func TestMain(m *testing.M) { os.Exit(kafkatest.Main(m.Run)) }

// onBothBrokers runs a test against kfake and against a real broker, with a pipeline of its own.
func onBothBrokers(t *testing.T, run func(t *testing.T, seed, pipeline string)) {
	pipeline := fmt.Sprintf("p%08x", rand.Uint32()) //nolint:gosec // no secret
	t.Run("kfake", func(t *testing.T) { run(t, kafkatest.StartFake(t).ListenAddrs()[0], pipeline) })
	t.Run("kafka", func(t *testing.T) { run(t, kafkatest.Shared(t).Addr(), pipeline) })
}

func newKafkaStore(t *testing.T, seed, pipeline string) *KafkaStore {
	t.Helper()
	s := NewKafkaStore(pipeline, broker.Config{Seeds: []string{seed}, ClientID: "walferry-test"}, slog.New(slog.DiscardHandler))
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

var _ = []any{context.Background, errors.New, strings.Contains, atomic.AddInt64, time.Second, kerr.ProducerFenced, kfake.NumBrokers, kmsg.StringPtr, goleak.VerifyNone}
