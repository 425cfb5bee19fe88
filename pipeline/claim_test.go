package pipeline

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walferry/walferry/checkpoint"
	"github.com/walferry/walferry/fault"
)

func TestACheckpointAheadOfTheServerIsRefusedWithTheSlotHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{source: newFakeSource()}
		end := r.source.server().End
		r.store = &fakeStore{record: &checkpoint.Record{Version: 1, Origin: origin, Timeline: 1, End: end + 1, Fingerprint: "f1"}}
		r.start(t)
		if err := <-r.ended; !fault.Is(err, fault.CheckpointAhead) || len(r.store.saves) > 0 {
			t.Fatalf("ended with %v after %d saves", err, len(r.store.saves))
		}
	})
}

// At set-up the newest checkpoint may not be visible yet: what looks like a gap is one only if it is there
// with the slot held.
func TestAGapIsRefusedWithTheSlotHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{source: newFakeSource()}
		r.source.slot.Confirmed = 1001
		r.store = &fakeStore{record: &checkpoint.Record{Version: 1, Origin: origin, Timeline: 1, End: 1000, Fingerprint: "f1"}}
		r.start(t)
		if err := <-r.ended; !fault.Is(err, fault.CheckpointGap) || len(r.store.saves) > 0 || r.store.acquired != 1 {
			t.Fatalf("ended with %v after %d saves, acquired %d times", err, len(r.store.saves), r.store.acquired)
		}
	})
}

// TestExactlyOnceNothingIsCutWhileAClaimIsMade: an idle position is due to be committed in the middle of a claim
// that takes long. A hold of the sink by then would stage what the next connection writes, and the commit that
// covers it would leave it out.
func TestExactlyOnceNothingIsCutWhileAClaimIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script, all := manyTx(2, 3)
		source := newFakeSource(script[0])
		source.progress = script[0].end + 0x10
		l := newLedger(beginning())
		r := startExactly(t, source, l, DefaultTransactions())
		time.Sleep(time.Second)
		l.mu.Lock()
		l.claims = 2 * saveIdleEvery
		l.mu.Unlock()
		source.script = script // Run reads it when it begins
		source.breakRun <- fault.New(fault.PostgresUnavailable, "stream", errors.New("cut"), "")
		time.Sleep(3 * saveIdleEvery)
		if got := l.seen(); !slices.Equal(got, all) {
			t.Errorf("committed %v, want %v", got, all)
		}
		if got, want := source.lastConfirmed(), script[1].end; got != want {
			t.Errorf("confirmed %v, want %v", got, want)
		}
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestExactlyOnceWhatALostAnswerHidIsConfirmedAtOnce: nothing more comes that would bring another commit.
func TestExactlyOnceWhatALostAnswerHidIsConfirmedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(beginning())
		l.lostAnswer = true
		r := startExactly(t, newFakeSource(tx{0x100, 0x120, 1}), l, DefaultTransactions())
		time.Sleep(2 * time.Second) // less than an idle position waits
		if got := r.source.lastConfirmed(); got != 0x120 || l.store.acquired != 2 {
			t.Errorf("confirmed %v after %d claims, want 0/120 after 2", got, l.store.acquired)
		}
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestExactlyOnceACutOffTransactionIsNotCommittedWhileTheServerIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script, all := manyTx(2, 5)
		source := newFakeSource(script...)
		source.cutAfter = 8
		l := newLedger(beginning())
		l.took = 10 * time.Millisecond // the second transaction begins while the first is committed
		r := startExactly(t, source, l, DefaultTransactions())
		time.Sleep(50 * time.Millisecond)
		source.hold(true)
		time.Sleep(2 * DefaultTransactions().MaxOpen)
		for _, p := range l.seen() {
			if p.Commit == all[9].Commit {
				t.Fatalf("committed %s, the rest of which is not there", p)
			}
		}
		if err := r.finish(); !fault.Is(err, fault.Undelivered) {
			t.Fatalf("ended with %v", err)
		}
	})
}

// TestWhatWasFoundIsNoSuccessor has the brokers show, to a read without the claim, the record of the run before
// though this one has saved since, as they do until a commit is marked. While the slot is busy with its own lost
// connection the instance goes on waiting.
func TestWhatWasFoundIsNoSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{source: newFakeSource(tx{0x100, 0x120, 1}), sink: newFakeSink()}
		found := checkpoint.Record{Version: 1, Origin: origin, Timeline: 1, Fingerprint: "f1", Instance: "before", Time: time.Now().Add(-time.Hour)}
		r.store = &fakeStore{record: &found}
		r.start(t)
		time.Sleep(time.Second)
		r.source.hold(true)
		shown := found
		r.store.mu.Lock()
		if len(r.store.saves) == 0 {
			t.Error("nothing was saved")
		}
		ours := r.store.record
		r.store.record = &shown
		r.store.mu.Unlock()
		r.source.breakRun <- fault.New(fault.PostgresUnavailable, "stream", nil, "")
		time.Sleep(10 * time.Second)
		select {
		case err := <-r.ended:
			t.Fatalf("ended with %v, though nobody else has written", err)
		default:
		}
		r.store.mu.Lock()
		r.store.record = ours
		r.store.mu.Unlock()
		r.source.hold(false)
		if err := r.finish(); err != nil {
			t.Error(err)
		}
	})
}
