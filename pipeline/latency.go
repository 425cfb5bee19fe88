package pipeline

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walferry/walferry/event"
)

// latency measures the time from a transaction's commit at the server to the acknowledgement of its last
// record. The publisher notes transactions as it has handed them over, and whoever learns that the brokers
// have everything up to an LSN takes them off. The zero value measures nothing.
type latency struct {
	seconds prometheus.Histogram // nil for nobody who wants to know
	// offset is the server's clock minus this machine's, as far as it is known.
	offset atomic.Int64

	mu sync.Mutex // guards the ring: the queue of transactions that are not acknowledged, oldest at first
	// Transactions that commit within a millisecond share a place, and so do all that find the ring full:
	// it bounds memory, not what is counted.
	ring     [latencyPlaces]handedOver
	first, n int
}

// latencyPlaces is four seconds of a stream that fills a place each millisecond.
const latencyPlaces = 4096

// handedOver are transactions that committed at about the same time.
type handedOver struct {
	end       event.LSN
	committed time.Time
	count     int
}

// handed notes a transaction with records that ends at end.
func (l *latency) handed(end event.LSN, committed time.Time) {
	if l.seconds == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n > 0 {
		last := &l.ring[(l.first+l.n-1)%latencyPlaces]
		if l.n == latencyPlaces || committed.Sub(last.committed).Abs() < time.Millisecond {
			last.end = end
			last.count++
			return
		}
	}
	l.ring[(l.first+l.n)%latencyPlaces] = handedOver{end, committed, 1}
	l.n++
}

// reached says that the brokers have everything up to lsn.
func (l *latency) reached(lsn event.LSN) {
	if l.seconds == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n == 0 || l.ring[l.first].end > lsn {
		return
	}
	now := time.Now().Add(time.Duration(l.offset.Load()))
	for l.n > 0 && l.ring[l.first].end <= lsn {
		at := &l.ring[l.first]
		took := max(0, now.Sub(at.committed).Seconds())
		for range at.count {
			l.seconds.Observe(took)
		}
		l.first = (l.first + 1) % latencyPlaces
		l.n--
	}
}

// forget drops what comes again.
func (l *latency) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.first, l.n = 0, 0
}

// ClockOffset says how far the server's clock is ahead of this machine's: commit times are the server's.
func (p *Pipeline) ClockOffset(ahead time.Duration) { p.latency.offset.Store(int64(ahead)) }
