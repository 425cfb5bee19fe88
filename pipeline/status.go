package pipeline

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// State is what a pipeline is doing.
type State string

// The states.
const (
	Starting     State = "starting"     // connecting and checking; nothing is read yet
	Standby      State = "standby"      // another instance holds the slot
	Streaming    State = "streaming"    // changes are read and published
	Reconnecting State = "reconnecting" // a connection was lost and is being made again
	Stopping     State = "stopping"     // draining what was read
)

// Status is a moment's view of a pipeline.
type Status struct {
	State State
	Since time.Time
	// LastError is the code of the last failure, "" if there was none.
	LastError   fault.Code
	LastErrorAt time.Time
	// Received is the highest LSN the server has named, Durable what the brokers have, Saved what
	// the checkpoint has and the server was told.
	Received, Durable, Saved event.LSN
	// Handed is the LSN up to which everything that is committed was handed to the sink, or is not for
	// it. Zero before the checkpoint was claimed for the first time.
	Handed event.LSN
	// Unpublished are the configured tables that the publication did not hold when it was looked at last.
	Unpublished []string
	// Pending are the records that are sent and not acknowledged.
	Pending int64

	wrote event.LSN // behind it no record was handed over
}

// Reaches returns how far a stage behind the sink has got that stands at pos. Positions behind the last
// record move seldom, because nothing hangs on them: a stage that has all records has all that was handed over.
func (s Status) Reaches(pos event.LSN) event.LSN {
	if pos >= s.wrote {
		return max(pos, s.Handed)
	}
	return pos
}

// status is the part of Status that changes by transitions.
type status struct {
	saved atomic.Uint64 // the newest confirmed LSN
	// wrote is past the commit LSN of the newest transaction of which a record was handed to the sink, and
	// not past its end; handed is the publisher's cursor, and is set after wrote. Whoever reads handed
	// first then knows of all records up to it.
	wrote, handed atomic.Uint64

	mu     sync.Mutex // guards the rest
	state  State
	since  time.Time
	code   fault.Code
	codeAt time.Time
	// missing is replaced as a whole, never changed.
	missing []string
}

func (s *status) unpublished(tables []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missing = tables
}

func (s *status) set(to State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != to {
		s.state, s.since = to, time.Now()
	}
}

func (s *status) failed(to State, err error) {
	s.set(to)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code, s.codeAt = fault.CodeOf(err), time.Now()
}

// Status returns what the pipeline is doing now. It is safe for concurrent use and does not block.
func (p *Pipeline) Status() Status {
	p.status.mu.Lock()
	defer p.status.mu.Unlock()
	handed := event.LSN(p.status.handed.Load())
	wrote := event.LSN(p.status.wrote.Load())
	return Status{
		Handed: handed, wrote: wrote,
		State: p.status.state, Since: p.status.since,
		Unpublished: p.status.missing,
		LastError:   p.status.code, LastErrorAt: p.status.codeAt,
		Received: p.source.Received(), Durable: p.delivery.durable(), Saved: event.LSN(p.status.saved.Load()),
		Pending: p.delivery.pending(),
	}
}
