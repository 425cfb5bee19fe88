package e2e

import (
	"syscall"
	"testing"
	"time"

	"github.com/walferry/walferry/internal/pgtest"
)

// TestSecondSignal tells a walferry twice to stop that cannot deliver: it leaves at once, says so by
// its exit code, and the next run delivers.
func TestSecondSignal(t *testing.T) {
	broker := harmed(t)
	r := newRig(t, pgtest.Shared(t), broker, atLeastOnce)
	r.started()
	r.under(500 * time.Millisecond)
	broker.Pause()
	r.under(500 * time.Millisecond)
	began := time.Now()
	for range 2 {
		if err := syscall.Kill(r.walferry.PID(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		r.pass(200 * time.Millisecond) // two signals of a kind that wait together are one
	}
	select {
	case <-r.walferry.Done():
	case <-time.After(patience):
		t.Fatal("still running")
	}
	if code := r.walferry.ExitCode(); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("leaving took %s", took)
	}
	broker.Continue()
	r.started()
	r.verify(true)
}
