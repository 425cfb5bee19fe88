package monitor

import (
	"sync"
	"time"

	"github.com/walferry/walferry/event"
)

// History remembers when the server's WAL had which end, so that a position can be told its age: how long
// ago the WAL began to be written that it does not cover. That needs neither commit times, which a stuck
// pipeline does not see, nor clocks that agree. The zero value is empty; it is safe for concurrent use.
type History struct {
	mu     sync.Mutex
	points []point // by end, rising
}

// point says that the WAL ended at end from the one time until the other at least.
type point struct {
	end         event.LSN
	from, until time.Time
}

const (
	// historyPoints bounds what is kept. It is about an hour of a server that is busy all the time, at two
	// observations a second; older points are then thinned to precision, which leaves under 4,000 for years.
	historyPoints = 8192
	precision     = 256
	// settled is the age from which WAL counts as late. What is younger is on its way: a busy server is
	// always some milliseconds ahead of whoever reads it.
	settled = 500 * time.Millisecond
	// silent is the age from which the newest observation is not taken for the present any more.
	silent = 5 * time.Second
)

// Note says where the WAL ended at a time, which must not fall from call to call. An end before the
// last one is another history, of a server that was promoted: what is known beyond it is forgotten.
func (h *History) Note(at time.Time, end event.LSN) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.points) > 0 && h.points[len(h.points)-1].end > end {
		h.points = h.points[:len(h.points)-1]
	}
	if n := len(h.points); n > 0 && h.points[n-1].end == end {
		h.points[n-1].until = at
		return
	}
	if len(h.points) == historyPoints {
		h.thin(at)
	}
	h.points = append(h.points, point{end, at, at})
}

// thin drops points that an age does not need for a precision of one in 256.
func (h *History) thin(now time.Time) {
	kept := h.points[:1]
	for i := 1; i < len(h.points)-1; i++ {
		before := kept[len(kept)-1]
		if h.points[i+1].from.Sub(before.until) <= now.Sub(before.until)/precision {
			continue
		}
		kept = append(kept, h.points[i])
	}
	h.points = append(kept, h.points[len(h.points)-1])
}

// Lag is how far a position is behind the server's WAL.
type Lag struct {
	Bytes   uint64  `json:"bytes"`
	Seconds float64 `json:"seconds"`
}

// Of returns the lag of a position at now: the age of the oldest WAL behind it, too old rather than too
// young by the time between two observations, and the bytes up to the newest known end. WAL that is
// younger than half a second does not count. While no observation comes, the age is that of the last one
// at least: nobody knows what was written since. False where nothing was observed yet.
func (h *History) Of(pos event.LSN, now time.Time) (Lag, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.points)
	if n == 0 {
		return Lag{}, false
	}
	newest := h.points[n-1]
	var lag Lag
	if age := now.Sub(newest.until); age > silent {
		lag.Seconds = age.Seconds()
	}
	// The first point that the position does not cover, and the one before it.
	first := n
	for first > 0 && h.points[first-1].end > pos {
		first--
	}
	if first == n || now.Sub(h.points[first].from) < settled {
		return lag, true
	}
	since := h.points[first].from
	if first > 0 {
		since = h.points[first-1].until
	}
	lag.Bytes = uint64(newest.end - pos)
	lag.Seconds = max(lag.Seconds, now.Sub(since).Seconds())
	return lag, true
}

// End returns the newest known end of the WAL and when it was observed, zero where there is none.
func (h *History) End() (event.LSN, time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.points) == 0 {
		return 0, time.Time{}
	}
	newest := h.points[len(h.points)-1]
	return newest.end, newest.until
}
