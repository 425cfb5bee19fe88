package pipeline

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/walferry/walferry/event"
)

// measured returns how many transactions were counted, and the mean of their times.
func measured(t *testing.T, m *Metrics) (count uint64, mean float64) {
	t.Helper()
	var out dto.Metric
	if err := m.latency.Write(&out); err != nil {
		t.Fatal(err)
	}
	h := out.GetHistogram()
	return h.GetSampleCount(), h.GetSampleSum() / math.Max(1, float64(h.GetSampleCount()))
}

func newLatency() (*latency, *Metrics) {
	m := NewMetrics(prometheus.NewRegistry())
	return &latency{seconds: m.latency}, m
}

func TestLatencyIsTheTimeFromCommitToAcknowledgement(t *testing.T) {
	l, m := newLatency()
	l.offset.Store(int64(time.Hour)) // the server's clock is an hour ahead
	now := time.Now().Add(time.Hour)
	l.handed(100, now.Add(-10*time.Second))
	l.handed(200, now.Add(-10*time.Second).Add(100*time.Microsecond)) // shares a place
	l.handed(300, now.Add(-4*time.Second))
	l.reached(199)
	if n, _ := measured(t, m); n != 0 {
		t.Errorf("%d transactions before the place they share was reached", n)
	}
	l.reached(200)
	if n, mean := measured(t, m); n != 2 || math.Abs(mean-10) > 2 {
		t.Errorf("%d transactions in %gs, want 2 in 10s", n, mean)
	}
	l.forget()
	l.reached(300)
	if n, _ := measured(t, m); n != 2 {
		t.Errorf("%d transactions, though the third comes again", n)
	}
}

// Brokers that are away do not make it grow, and nothing is left out of the count.
func TestLatencyIsBoundedAndCountsAll(t *testing.T) {
	l, m := newLatency()
	const all = 3 * latencyPlaces
	at := time.Now()
	allocs := testing.AllocsPerRun(1, func() {
		for i := range all {
			l.handed(event.LSN(i+1), at.Add(time.Duration(i)*2*time.Millisecond))
		}
	})
	if allocs != 0 {
		t.Errorf("%g allocations", allocs)
	}
	l.reached(all)
	if n, _ := measured(t, m); n != 2*all { // AllocsPerRun runs it twice
		t.Errorf("%d transactions, want %d", n, 2*all)
	}
}

func TestReachesIsTheLastRecordOrAllThatWasHandedOver(t *testing.T) {
	s := Status{Handed: 500, wrote: 301}
	for pos, want := range map[event.LSN]event.LSN{100: 100, 300: 300, 301: 500, 400: 500, 600: 600} {
		if got := s.Reaches(pos); got != want {
			t.Errorf("a stage at %v reaches %v, want %v", pos, got, want)
		}
	}
}
