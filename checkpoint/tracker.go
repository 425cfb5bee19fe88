package checkpoint

import (
	"sync"
	"sync/atomic"

	"github.com/walferry/walferry/event"
)

// Tracker turns acknowledgements that arrive in any order into the low-water mark of the stream:
// the LSN up to which every unit is durable. The publisher opens and closes units in the order of
// the stream; the brokers acknowledge their records; Durable pops the complete ones from the front.
//
//	publisher: Open, Close, Progress ──▶ [unit][unit][unit] ──▶ Durable: saver
//	                                       ▲     ▲  Acked: producer promises
//
// Open, Close and Progress belong to one goroutine, and one unit is open at a time. Everything
// else may be called from anywhere. Once warm, nothing here allocates, and the publisher and the
// acknowledgements never wait for a lock.
type Tracker struct {
	// tail is the chunk that the publisher is at, and next its first free unit. The publisher's alone.
	tail *chunk
	next int

	// trailing is the greatest LSN that needs nothing but the units published before it was set:
	// the end of a unit that was complete when it closed, or an idle mark. It is how these need no
	// place in the queue. See Durable for the order in which it must be read.
	trailing atomic.Uint64

	// free holds chunks to use again. It is short, so that an outage does not leave its queue's
	// memory behind.
	free chan *chunk
	wake chan struct{}

	// mu guards what pops: head, first and low.
	mu    sync.Mutex
	head  *chunk
	first int
	low   event.LSN
}

// chunkUnits makes a chunk 10 KiB; freeChunks of them are kept for use again.
const (
	chunkUnits = 256
	freeChunks = 8
)

type chunk struct {
	units [chunkUnits]Unit
	next  atomic.Pointer[chunk]
}

// Unit is a transaction, or a logical message outside of one. It implements event.Ack.
type Unit struct {
	// state counts the records that are expected and not acknowledged. The bit closed is added when
	// the unit is published to Durable; state == closed means complete. Both live in one word, so
	// that exactly one call sees the unit become complete.
	state atomic.Int64
	// records tells whether anything was ever expected.
	records atomic.Bool
	// before is what may be confirmed once all earlier units are durable, end once this one is as
	// well. They are written before closed is set and not changed until the unit is popped.
	before, end event.LSN
	tracker     *Tracker
}

// closed is far above any count of records.
const closed = int64(1) << 62

var _ event.Ack = (*Unit)(nil)

// NewTracker returns a tracker of a stream of which nothing is durable yet: Durable is 0.
func NewTracker() *Tracker {
	t := &Tracker{free: make(chan *chunk, freeChunks), wake: make(chan struct{}, 1)}
	t.tail = t.newChunk()
	t.head = t.tail
	return t
}

// Open begins the next unit of the stream. The unit may be acknowledged until its last record is;
// after that it is used again.
func (t *Tracker) Open() *Unit {
	if t.next == chunkUnits {
		c := t.newChunk()
		t.tail.next.Store(c)
		t.tail, t.next = c, 0
	}
	return &t.tail.units[t.next]
}

// Expect adds records that must be acknowledged before the unit is durable.
func (u *Unit) Expect(records int) {
	if !u.records.Load() {
		u.records.Store(true)
	}
	u.state.Add(int64(records))
}

// Acked takes records off. The addition is the last that happens to u: as soon as the count is
// right, Durable may pop u and the publisher may open it again.
func (u *Unit) Acked(records int) {
	t := u.tracker
	if u.state.Add(-int64(records)) == closed {
		t.signal()
	}
}

// Close ends the unit: no Expect comes after it. End is what may be confirmed once this unit and
// all before it are durable. The caller must not use u any more.
func (u *Unit) Close(end event.LSN) {
	t := u.tracker
	if u.state.Load() == 0 {
		// Nothing is outstanding and nothing more will be expected: the unit needs no place in the
		// queue, and Open hands it out again. Empty transactions, of which there may be millions
		// while a broker is away, take no memory like this.
		t.Progress(end)
		if u.records.Swap(false) {
			t.signal()
		}
		return
	}
	u.before, u.end = event.LSN(t.trailing.Load()), end
	t.next++
	if u.state.Add(closed) == closed {
		t.signal()
	}
}

// Progress marks a place outside of any unit: everything before lsn is in units that were closed
// earlier. Marks take no memory, however many there are.
func (t *Tracker) Progress(lsn event.LSN) {
	if uint64(lsn) > t.trailing.Load() {
		t.trailing.Store(uint64(lsn))
	}
}

// Durable returns the low-water mark: everything up to it is durable. It never falls.
func (t *Tracker) Durable() event.LSN {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		// The mark is read before the queue is found empty. The other way round, a unit could be
		// published and a mark set behind it in between, and the mark would be taken for durable.
		mark := event.LSN(t.trailing.Load())
		u := t.front()
		if u == nil {
			t.low = max(t.low, mark)
			return t.low
		}
		t.low = max(t.low, u.before)
		if u.state.Load() != closed {
			return t.low
		}
		t.low = max(t.low, u.end)
		t.first++
	}
}

// Pending returns how many records are expected and not acknowledged. It walks the queue, so it is
// for a status or a last word, not for every record.
func (t *Tracker) Pending() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	var n int64
	for c, i := t.head, t.first; c != nil; c, i = c.next.Load(), 0 {
		for ; i < chunkUnits; i++ {
			state := c.units[i].state.Load()
			n += state &^ closed
			if state&closed == 0 {
				return n // the open unit, or the next to be opened: the last of the queue
			}
		}
	}
	return n
}

// Wake receives a value when records became durable as a whole unit since the last receive, so
// that Durable may have moved. Idle marks and units without records do not wake: whoever wants to
// save those too looks at Durable from time to time.
func (t *Tracker) Wake() <-chan struct{} { return t.wake }

func (t *Tracker) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// front returns the oldest published unit, nil where the queue is empty. It is called under mu.
func (t *Tracker) front() *Unit {
	if t.first == chunkUnits {
		next := t.head.next.Load()
		if next == nil {
			return nil
		}
		// The publisher has left this chunk, and all of its units were popped.
		t.recycle(t.head)
		t.head, t.first = next, 0
	}
	if u := &t.head.units[t.first]; u.state.Load()&closed != 0 {
		return u
	}
	return nil
}

func (t *Tracker) newChunk() *chunk {
	select {
	case c := <-t.free:
		return c
	default:
	}
	c := new(chunk)
	for i := range c.units {
		c.units[i].tracker = t
	}
	return c
}

func (t *Tracker) recycle(c *chunk) {
	c.next.Store(nil)
	for i := range c.units {
		c.units[i].state.Store(0)
		c.units[i].records.Store(false)
	}
	select {
	case t.free <- c:
	default:
	}
}
