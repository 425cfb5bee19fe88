package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walferry/walferry/checkpoint"
	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// ledger is a transactional sink and the store that commits it: what was committed is what a
// read_committed consumer sees.
type ledger struct {
	*fakeSink
	store fakeStore

	mu           sync.Mutex
	held         bool
	size         int64 // since the last hold
	open, staged []event.Position
	splits       map[event.Position]int
	committed    []event.Position
	commits      [][]event.Position
	took         time.Duration // a commit takes this long
	claims       time.Duration // a claim takes this long, once it has emptied the sink
	room         int           // of the stage; 0 is no bound
	slow         atomic.Int64  // a write takes so many nanoseconds
	roomy        chan struct{} // of one: there is room again
	lostAnswer   bool          // the next commit takes, and its answer is lost
	refuse       error         // the next commit does not take
	cause        error         // the record that is the cause of that
}

func newLedger(rec *checkpoint.Record) *ledger {
	l := &ledger{fakeSink: newFakeSink(), splits: map[event.Position]int{}, roomy: make(chan struct{}, 1)}
	l.store.record = rec
	return l
}

func (l *ledger) Write(ctx context.Context, ev event.Event, ack event.Ack) error {
	ch, ok := ev.(*event.Change)
	if !ok {
		return errors.New("not in the script")
	}
	ack.Expect(1)
	time.Sleep(time.Duration(l.slow.Load()))
	for l.room > 0 && l.full() {
		select {
		case <-l.roomy:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.splits[ch.Pos] = ch.Tx.Split
	l.size++
	if l.held {
		l.staged = append(l.staged, ch.Pos)
	} else {
		l.open = append(l.open, ch.Pos)
	}
	return nil
}

// pause sets how long a write takes.
func (l *ledger) pause(d time.Duration) { l.slow.Store(int64(d)) }

func (l *ledger) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.staged) >= l.room
}

func (l *ledger) Hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held, l.size = true, 0
}

func (l *ledger) Size() (int64, int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size, 100 * l.size
}

// The store's side.

func (l *ledger) Load(ctx context.Context) (*checkpoint.Record, error) { return l.store.Load(ctx) }
func (l *ledger) Acquire(ctx context.Context) (*checkpoint.Record, error) {
	l.mu.Lock()
	l.open, l.staged, l.held, l.size = nil, nil, false, 0
	took := l.claims
	l.mu.Unlock()
	time.Sleep(took)
	return l.store.Acquire(ctx)
}

func (l *ledger) Save(ctx context.Context, r checkpoint.Record) error {
	time.Sleep(l.took)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refuse; err != nil {
		l.refuse = nil
		if l.cause != nil {
			l.fail(l.cause)
		}
		return err
	}
	if err := l.store.Save(ctx, r); err != nil {
		return err
	}
	l.committed = append(l.committed, l.open...)
	l.commits = append(l.commits, l.open)
	l.open, l.staged, l.held = l.staged, nil, false
	select {
	case l.roomy <- struct{}{}:
	default:
	}
	if l.lostAnswer {
		l.lostAnswer = false
		return fault.New(fault.KafkaUnavailable, "commit", errors.New("no answer"), "")
	}
	return nil
}

// storeOf tells the two Close methods apart.
type storeOf struct{ *ledger }

func (storeOf) Close() error { return nil }

func (l *ledger) seen() []event.Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.committed)
}

// startExactly runs a pipeline over source and ledger.
func startExactly(t *testing.T, source *fakeSource, l *ledger, limits Transactions) *rig {
	t.Helper()
	p := NewExactlyOnce(Config{Name: "shop", Run: "r1", CreateSlot: true, StartTimeout: time.Minute, Transactions: limits},
		source, l, storeOf{l}, slog.New(slog.DiscardHandler), nil)
	ctx, cancel := context.WithCancel(context.Background())
	r := &rig{source: source, stop: cancel, ended: make(chan error, 1)}
	go func() { r.ended <- p.Run(ctx) }() // ends with stop or by an error
	t.Cleanup(cancel)
	return r
}

func beginning() *checkpoint.Record {
	return &checkpoint.Record{Version: 1, Origin: origin, Timeline: 1, Fingerprint: "f1"}
}

func manyTx(n, rows int) (script []tx, all []event.Position) {
	for i := range n {
		commit := event.LSN(0x1000 * (i + 1))
		script = append(script, tx{commit, commit + 0x20, rows})
		for r := range rows {
			all = append(all, pos(commit, uint64(r+1)))
		}
	}
	return script, all
}

func TestExactlyOnceCommitsWholeTransactionsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script, all := manyTx(200, 3)
		l := newLedger(beginning())
		l.took = 5 * time.Millisecond
		r := startExactly(t, newFakeSource(script...), l, DefaultTransactions())
		time.Sleep(3 * time.Second)
		if got := l.seen(); !slices.Equal(got, all) {
			t.Fatalf("%d committed, want %d in order", len(got), len(all))
		}
		for _, c := range l.commits {
			if len(c)%3 != 0 {
				t.Errorf("a commit of %d rows cuts a transaction", len(c))
			}
		}
		if got, want := r.source.lastConfirmed(), script[len(script)-1].end; got != want {
			t.Errorf("confirmed %v, want %v", got, want)
		}
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestExactlyOnceCommitsAtOnceWhenNothingWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(beginning())
		r := startExactly(t, newFakeSource(tx{0x100, 0x120, 1}), l, DefaultTransactions())
		synctest.Wait() // no time passes
		if got := l.seen(); len(got) != 1 {
			t.Fatalf("committed %v without a wait", got)
		}
		time.Sleep(9 * time.Second)
		if n := len(l.commits); n != 1 {
			t.Errorf("%d commits of an idle stream", n)
		}
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestExactlyOnceALostAnswerRepeatsAndLosesNothing(t *testing.T) {
	unknown := fault.New(fault.KafkaUnavailable, "commit", errors.New("no answer"), "")
	for name, set := range map[string]func(*ledger){
		"committed":     func(l *ledger) { l.lostAnswer = true },
		"not committed": func(l *ledger) { l.refuse = unknown },
		"epoch bumped":  func(l *ledger) { l.refuse = fault.New(fault.Fenced, "commit", nil, "") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				script, all := manyTx(50, 2)
				l := newLedger(beginning())
				l.took = time.Millisecond
				set(l)
				r := startExactly(t, newFakeSource(script...), l, DefaultTransactions())
				time.Sleep(20 * time.Second)
				if got := l.seen(); !slices.Equal(got, all) {
					t.Fatalf("committed %v, want %v", got, all)
				}
				if l.store.acquired < 2 {
					t.Errorf("%d claims", l.store.acquired)
				}
				if err := r.finish(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestExactlyOnceACutOffTransactionIsCommittedWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script, all := manyTx(3, 5)
		source := newFakeSource(script...)
		source.cutAfter = 8
		l := newLedger(beginning())
		r := startExactly(t, source, l, DefaultTransactions())
		time.Sleep(10 * time.Second)
		if got := l.seen(); !slices.Equal(got, all) {
			t.Fatalf("committed %v, want %v", got, all)
		}
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestExactlyOnceSplitsWhatIsTooLargeAndResumesThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := DefaultTransactions()
		limits.MaxRows = 10
		script, all := manyTx(2, 35)
		source := newFakeSource(script...)
		source.cutAfter = 25 // in the third part
		l := newLedger(beginning())
		l.took = 50 * time.Millisecond // what is read meanwhile must not make the next part larger
		r := startExactly(t, source, l, limits)
		time.Sleep(10 * time.Second)
		if got := l.seen(); !slices.Equal(got, all) {
			t.Fatalf("committed %v, want %v", got, all)
		}
		last, size := 0, 0
		for _, p := range all[:35] {
			if n := l.splits[p]; n < last {
				t.Errorf("row %s is of part %d, behind part %d", p, n, last)
			} else if n > last {
				last, size = n, 0
			}
			if size++; int64(size) > limits.MaxRows {
				t.Errorf("row %s is number %d of its part", p, size)
			}
		}
		if n := l.splits[all[35]]; n != 0 {
			t.Errorf("the next transaction begins with part %d", n)
		}
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestExactlyOnceSplitsWhatASlowSinkHoldsUp: the publisher waits in nothing but writes, so that nobody else
// gets the turn. The brokers would give the transaction up after a minute. It runs on the true clock, because
// that of synctest stands still while somebody waits for the turn.
func TestExactlyOnceSplitsWhatASlowSinkHoldsUp(t *testing.T) {
	limits := DefaultTransactions()
	limits.Interval, limits.MaxOpen = 10*time.Millisecond, 50*time.Millisecond
	script, all := manyTx(1, 10_000) // which takes 50 s
	l := newLedger(beginning())
	l.pause(5 * time.Millisecond)
	r := startExactly(t, newFakeSource(script...), l, limits)
	for deadline := time.Now().Add(30 * time.Second); len(l.seen()) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the transaction is not split")
		}
	}
	l.pause(0)
	for deadline := time.Now().Add(30 * time.Second); len(l.seen()) < len(all) && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if got := l.seen(); !slices.Equal(got, all) {
		t.Errorf("%d of %d rows committed", len(got), len(all))
	}
	if err := r.finish(); err != nil {
		t.Error(err)
	}
}

func TestExactlyOnceSplitsOnlyWhatIsTooLargeByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := DefaultTransactions()
		limits.MaxRows = 9
		script, all := manyTx(300, 9)
		l := newLedger(beginning())
		l.took, l.room = 7*time.Millisecond, 12 // one transaction and a part of the next
		r := startExactly(t, newFakeSource(script...), l, limits)
		time.Sleep(10 * time.Second)
		if got := l.seen(); !slices.Equal(got, all) {
			t.Fatalf("%d of %d rows committed", len(got), len(all))
		}
		for _, c := range l.commits {
			if len(c)%9 != 0 {
				t.Errorf("a commit of %d rows cuts a transaction of 9", len(c))
			}
		}
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestExactlyOnceATransactionWithoutRowsHoldsNothingBack: the server decodes a large transaction of which
// nothing is captured, for longer than the brokers keep a Kafka transaction open.
func TestExactlyOnceATransactionWithoutRowsHoldsNothingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script, all := manyTx(3, 2)
		source := newFakeSource(script...)
		source.stallIn = script[2].commit
		l := newLedger(beginning())
		l.took = 50 * time.Millisecond // the second and the begin of the third come meanwhile
		r := startExactly(t, source, l, DefaultTransactions())
		time.Sleep(time.Second)
		if got := l.seen(); !slices.Equal(got, all[:4]) {
			t.Errorf("committed %v, want %v", got, all[:4])
		}
		if rec := l.store.stored(); rec.End != script[1].end || !rec.Partial.IsZero() || rec.Split != 0 {
			t.Errorf("saved %v, %v, part %d", rec.End, rec.Partial, rec.Split)
		}
		if err := r.finish(); err != nil {
			t.Errorf("nothing is left behind, and the stop says %v", err)
		}
		if got, want := source.lastConfirmed(), script[1].end; got != want {
			t.Errorf("confirmed %v, want %v", got, want)
		}
	})
}

func TestExactlyOnceASplitUnderOtherOptionsIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := beginning()
		rec.End, rec.Partial, rec.Split, rec.Fingerprint = 0x100, pos(0x1000, 3), 1, "other"
		script, _ := manyTx(2, 5)
		r := startExactly(t, newFakeSource(script...), newLedger(rec), DefaultTransactions())
		if err := <-r.ended; !fault.Is(err, fault.CheckpointOptions) {
			t.Fatalf("ended with %v", err)
		}
	})
}

func TestExactlyOnceAStopInMidTransactionCommitsNothingOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script, all := manyTx(2, 4)
		source := newFakeSource(script...)
		source.script = slices.Clone(script)
		l := newLedger(beginning())
		source.stallAfter = 6 // the server does not send the rest
		r := startExactly(t, source, l, DefaultTransactions())
		time.Sleep(time.Second)
		if err := r.finish(); !fault.Is(err, fault.Undelivered) {
			t.Fatalf("ended with %v", err)
		}
		for _, p := range l.seen() {
			if p.Commit == all[4].Commit {
				t.Fatalf("committed %s of a transaction that was cut off", p)
			}
		}
		again := startExactly(t, newFakeSource(script...), l, DefaultTransactions())
		time.Sleep(time.Second)
		if got := l.seen(); !slices.Equal(got, all) {
			t.Fatalf("committed %v after the restart, want %v", got, all)
		}
		if err := again.finish(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestExactlyOnceAStopUnderLoadCommitsWhatWasPublished(t *testing.T) {
	for i := range 40 {
		synctest.Test(t, func(t *testing.T) {
			script, all := manyTx(5000, 3)
			l := newLedger(beginning())
			l.took, l.room = 30*time.Millisecond, 4
			source := newFakeSource(script...)
			source.pace = time.Duration(i%2) * 7 * time.Millisecond // faster than the sink, or slower
			r := startExactly(t, source, l, DefaultTransactions())
			time.Sleep(time.Second + time.Duration(i)*3*time.Millisecond)
			asked := time.Now()
			if err := r.finish(); err != nil {
				t.Fatalf("stopped after %s: %v", time.Since(asked), err)
			}
			if took := time.Since(asked); took > time.Second {
				t.Errorf("the stop took %s", took)
			}
			got := l.seen()
			if len(got)%3 != 0 || len(got) == 0 || !slices.Equal(got, all[:len(got)]) {
				t.Errorf("%d rows committed", len(got))
			}
			if got, want := r.source.lastConfirmed(), script[len(got)/3-1].end; got != want {
				t.Errorf("confirmed %v, want %v", got, want)
			}
		})
	}
}

func TestExactlyOnceGoesOnWithinATransactionThatAtLeastOnceLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script, all := manyTx(2, 5)
		rec := beginning()
		rec.End, rec.Partial = 0x100, all[2]
		l := newLedger(rec)
		r := startExactly(t, newFakeSource(script...), l, DefaultTransactions())
		time.Sleep(time.Second)
		if got := l.seen(); !slices.Equal(got, all[3:]) {
			t.Fatalf("committed %v, want %v", got, all[3:])
		}
		if a, b := l.splits[all[3]], l.splits[all[5]]; a != 1 || b != 0 {
			t.Errorf("the rest is part %d, the next transaction part %d", a, b)
		}
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestExactlyOnceARefusedRecordIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(beginning())
		l.refuse = fault.New(fault.KafkaACL, "save the checkpoint", nil, "")
		l.cause = fault.New(fault.TopicMissing, "publish change", nil, "")
		r := startExactly(t, newFakeSource(tx{0x100, 0x120, 1}), l, DefaultTransactions())
		if err := <-r.ended; !fault.Is(err, fault.TopicMissing) {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestExactlyOnceIdleProgressIsCommittedEveryTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		source.progress = 0x5000
		l := newLedger(beginning())
		r := startExactly(t, source, l, DefaultTransactions())
		time.Sleep(9 * time.Second)
		if got := source.lastConfirmed(); got != 0 {
			t.Fatalf("confirmed %v before ten seconds of silence", got)
		}
		time.Sleep(2 * time.Second)
		if got := source.lastConfirmed(); got != 0x5000 {
			t.Fatalf("confirmed %v", got)
		}
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
	})
}
