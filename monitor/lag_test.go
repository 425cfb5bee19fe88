package monitor_test

import (
	"testing"
	"time"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/monitor"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return noon.Add(time.Duration(seconds * float64(time.Second))) }

func lagOf(t *testing.T, h *monitor.History, pos event.LSN, now time.Time) monitor.Lag {
	t.Helper()
	lag, known := h.Of(pos, now)
	if !known {
		t.Fatal("unknown")
	}
	return lag
}

func TestLagOfAnEmptyHistoryIsUnknown(t *testing.T) {
	if lag, known := new(monitor.History).Of(100, noon); known {
		t.Errorf("got %v", lag)
	}
}

func TestLagIsTheAgeOfTheOldestWALThatIsNotPassed(t *testing.T) {
	var h monitor.History
	h.Note(at(0), 100)
	h.Note(at(1), 100)
	h.Note(at(2), 150)
	h.Note(at(3), 200)
	for name, c := range map[string]struct {
		pos  event.LSN
		now  float64
		want monitor.Lag
	}{
		"all is passed":                         {200, 3.1, monitor.Lag{}},
		"more than is known":                    {300, 3.1, monitor.Lag{}},
		"what is missing is on its way":         {150, 3.4, monitor.Lag{}},
		"what is missing is late":               {150, 4, monitor.Lag{Bytes: 50, Seconds: 2}},
		"within what was written between":       {160, 4, monitor.Lag{Bytes: 40, Seconds: 2}},
		"stuck since the WAL ended there":       {100, 4, monitor.Lag{Bytes: 100, Seconds: 3}},
		"and it grows":                          {100, 7, monitor.Lag{Bytes: 100, Seconds: 6}},
		"behind all that was seen":              {50, 4, monitor.Lag{Bytes: 150, Seconds: 4}},
		"the server says nothing any more":      {200, 13, monitor.Lag{Seconds: 10}},
		"stuck, and the server has gone silent": {100, 13, monitor.Lag{Bytes: 100, Seconds: 12}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lagOf(t, &h, c.pos, at(c.now)); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

func TestLagAfterAPromotionForgetsTheLostEnd(t *testing.T) {
	var h monitor.History
	h.Note(at(0), 100)
	h.Note(at(1), 500)
	h.Note(at(2), 300)
	if got := lagOf(t, &h, 300, at(3)); got != (monitor.Lag{}) {
		t.Errorf("at the new end: %v", got)
	}
	if got, want := lagOf(t, &h, 100, at(3)), (monitor.Lag{Bytes: 200, Seconds: 3}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

// A day of a server that is busy all the time: what is kept stays bounded, and the age of a position
// never comes out too small, nor too large by more than a hundredth.
func TestLagStaysTrueOverADay(t *testing.T) {
	var h monitor.History
	const steps = 2 * 86400
	for i := range steps {
		h.Note(at(float64(i)/2), event.LSN(1000+i))
	}
	now := at(steps / 2)
	for _, i := range []int{0, 1, 1000, 50_000, steps - 10_000, steps - 1000, steps - 10} {
		age := now.Sub(at(float64(i) / 2)).Seconds()
		got := lagOf(t, &h, event.LSN(1000+i), now)
		if got.Seconds < age || got.Seconds > age*1.01+1 || got.Bytes != uint64(steps-1-i) {
			t.Errorf("position %d, which is %gs old: %v", i, age, got)
		}
	}
	if allocs := testing.AllocsPerRun(100, func() { h.Of(1000, now) }); allocs != 0 {
		t.Errorf("%g allocations", allocs)
	}
}
