package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/internal/cdctest"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/internal/pgtest"
)

const waiting = "waiting for the slot"

// TestFault04_SecondInstanceWaits: of two instances one works and the other waits, and takes over
// within seconds when the first dies.
func TestFault04_SecondInstanceWaits(t *testing.T) {
	each(t, func(t *testing.T, d string) {
		r := newRig(t, pgtest.Shared(t), kafkatest.Shared(t), d)
		r.started()
		first := r.walsender()
		second := r.instance()
		r.startProcess(second)
		r.load()
		r.said(second, waiting)
		r.pass(time.Second)
		if now := r.walsender(); now != first {
			t.Fatalf("walsender %d reads the slot, it was %d: the second instance did not wait", now, first)
		}
		r.kill()
		died := time.Now()
		r.handedOver(first)
		took := time.Since(died)
		t.Logf("taken over after %s", took)
		if took > 10*time.Second {
			t.Errorf("the second instance took over after %s", took)
		}
		r.pass(time.Second)
		r.walferry = second
		r.verify(true)
	})
}

// TestFault05_ZombieIsFenced freezes an instance, has the server give it up, as it does by itself after
// wal_sender_timeout, lets another take over, and wakes the first: it stops or waits, and brings
// nothing in any more.
func TestFault05_ZombieIsFenced(t *testing.T) {
	each(t, func(t *testing.T, d string) {
		r := newRig(t, pgtest.Shared(t), kafkatest.Shared(t), d)
		r.started()
		r.load()
		for range max(2, kills(t)/5) {
			r.pass(time.Second)
			first, zombie := r.walsender(), r.walferry
			if err := zombie.Pause(); err != nil {
				t.Fatal(err)
			}
			r.walferry = r.instance()
			r.start()
			r.said(r.walferry, waiting)
			if n, err := cdctest.TerminateWalsenders(t.Context(), r.db.DSN(), r.slot()); err != nil || n != 1 {
				t.Fatalf("%d walsenders terminated, %v", n, err)
			}
			r.handedOver(first)
			r.pass(time.Second)
			now := r.walsender()
			if err := zombie.Continue(); err != nil {
				t.Fatal(err)
			}
			r.fencedOrWaiting(zombie)
			r.pass(time.Second)
			if is := r.walsender(); is != now {
				t.Errorf("the zombie disturbed its successor: walsender %d was %d", is, now)
			}
			if err := zombie.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		r.verify(true)
	})
}

// beyond is longer than every timeout there is: 60 s of wal_sender_timeout, 60 s of the Kafka
// transaction with the brokers' look at it every 10 s.
const beyond = 75 * time.Second

// TestFault05_FrozenBeyondEveryTimeout is the zombie without any help: the server gives it up by itself, a
// waiting instance takes over, and the zombie wakes up when every timeout has run out.
func TestFault05_FrozenBeyondEveryTimeout(t *testing.T) {
	long(t)
	t.Parallel()
	each(t, func(t *testing.T, d string) {
		r := newRig(t, pgtest.Shared(t), kafkatest.Shared(t), d)
		r.started()
		r.load()
		r.caughtUp()
		first, zombie := r.walsender(), r.walferry
		if err := zombie.Pause(); err != nil {
			t.Fatal(err)
		}
		froze := time.Now()
		r.walferry = r.instance()
		r.start()
		r.handedOver(first)
		t.Logf("taken over after %s", time.Since(froze).Round(time.Second))
		r.caughtUp()
		r.pass(beyond - time.Since(froze))
		if err := zombie.Continue(); err != nil {
			t.Fatal(err)
		}
		r.fencedOrWaiting(zombie)
		r.caughtUp()
		r.verify(true)
	})
}

// TestFault40_TransactionTimedOut freezes walferry within an open Kafka transaction until the brokers
// have given that up, and wakes it up: nobody took over, so it claims anew and goes on, and what was
// given up comes once.
func TestFault40_TransactionTimedOut(t *testing.T) {
	long(t)
	t.Parallel()
	r := newRig(t, pgtest.Shared(t), kafkatest.Shared(t), exactlyOnce)
	admin := r.broker.Admin()
	ongoing := func(ctx context.Context) bool {
		states, err := admin.DescribeTransactions(ctx, "walferry."+r.name)
		return err == nil && states["walferry."+r.name].State == "Ongoing"
	}
	r.started()
	r.load()
	r.eventually("walferry is frozen within a transaction", func(ctx context.Context) bool {
		if err := r.walferry.Pause(); err != nil {
			t.Fatal(err)
		}
		if ongoing(ctx) {
			return true
		}
		if err := r.walferry.Continue(); err != nil {
			t.Fatal(err)
		}
		return false
	})
	froze := time.Now()
	r.eventually("the brokers give the transaction up", func(ctx context.Context) bool { return !ongoing(ctx) })
	t.Logf("given up after %s", time.Since(froze).Round(time.Second))
	if err := r.walferry.Continue(); err != nil {
		t.Fatal(err)
	}
	r.caughtUp()
	r.verify(false)
}

// fencedOrWaiting waits until a zombie has noticed: it ends with exit code 5, or waits for the slot.
func (r *rig) fencedOrWaiting(zombie *cdctest.Process) {
	r.t.Helper()
	before := strings.Count(zombie.Output(), waiting)
	r.eventually("the zombie stops or waits", func(context.Context) bool {
		select {
		case <-zombie.Done():
			if code := zombie.ExitCode(); code != 5 {
				r.t.Fatalf("the zombie ended with exit code %d, want 5", code)
			}
			r.t.Log("the zombie ended with exit code 5")
			return true
		default:
		}
		if strings.Count(zombie.Output(), waiting) > before {
			r.t.Log("the zombie waits")
			return true
		}
		return false
	})
}

// walsender returns who reads the slot.
func (r *rig) walsender() int {
	r.t.Helper()
	pid, err := cdctest.Walsender(r.t.Context(), r.db.DSN(), r.slot())
	if err != nil {
		r.t.Fatal(err)
	}
	return pid
}

// handedOver waits until another walsender than was reads the slot.
func (r *rig) handedOver(was int) {
	r.t.Helper()
	r.eventually("another instance takes over", func(ctx context.Context) bool {
		pid, err := cdctest.Walsender(ctx, r.db.DSN(), r.slot())
		return err == nil && pid != 0 && pid != was
	})
}
