package replication

import (
	"sync/atomic"
	"time"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/replication/pgoutput"
)

const (
	// statusEvery is the longest time without a status update. The server ends a connection after
	// wal_sender_timeout (60 s by default, seldom under 20 s) without one.
	statusEvery = 10 * time.Second
	// confirmEvery limits how often an advance alone makes a status update: each may cost the
	// server a write of the slot to disk.
	confirmEvery = time.Second
	// replyEvery limits answers to keepalives that ask for one. A server that shuts down sends
	// tens of thousands of them a second.
	replyEvery = 100 * time.Millisecond
	// silence is how long the server may say nothing, though every status update asks it to,
	// before the connection counts as dead. While it skips a large transaction it answers only at half
	// of wal_sender_timeout, which is why that is bounded: see limitsSQL.
	silence = 45 * time.Second
)

// status decides when a standby status update is due and what it says. It belongs to the one
// goroutine that owns the connection; only confirmed is set from elsewhere.
type status struct {
	confirmed *atomic.Uint64 // what is durable, as an event.LSN; kept over connections
	received  event.LSN      // the highest LSN this connection has named
	newest    *atomic.Uint64 // the same, for others to see
	flushed   event.LSN      // the highest flush position this connection was told
	sent      time.Time      // when the last update went out
	heard     time.Time      // when the server last said anything
	asked     bool           // the server wants an answer
}

// saw notes an LSN that the server named.
func (s *status) saw(lsn event.LSN) {
	if lsn > s.received {
		s.received = lsn
		s.newest.Store(uint64(lsn))
	}
}

// due tells when the next update must go out.
func (s *status) due() time.Time {
	switch {
	case s.asked:
		return s.sent.Add(replyEvery)
	case s.flush() > s.flushed:
		return s.sent.Add(confirmEvery)
	default:
		return s.sent.Add(statusEvery)
	}
}

// flush returns what may be confirmed: never more than this connection has named, because the
// server checks nothing and would skip what lies between.
func (s *status) flush() event.LSN {
	if c := event.LSN(s.confirmed.Load()); c <= s.received {
		return c
	}
	return 0
}

// next returns the fields of an update sent at now. The flush position is given when it has
// advanced, or when there is nothing more to confirm, and is zero otherwise: a server that shuts
// down waits until the client has flushed everything, for ever, unless the client says that it
// does not report flushes at all; then it waits for the write position, which is what has arrived.
func (s *status) next(now time.Time) pgoutput.Status {
	flush := s.flush()
	if flush <= s.flushed && flush < s.received {
		flush = 0
	}
	s.flushed = max(s.flushed, flush)
	s.sent, s.asked = now, false
	return pgoutput.Status{
		Write: s.received, Flush: flush, Time: now,
		// A server that says nothing is asked whether it is still there.
		ReplyRequested: now.Sub(s.heard) >= statusEvery/2,
	}
}
