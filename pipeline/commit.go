package pipeline

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walferry/walferry/checkpoint"
	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// Transactions says how large a Kafka transaction may become, and with it the part of a Postgres
// transaction that becomes visible at once.
type Transactions struct {
	// Interval is the longest time between two commits while more waits to be read.
	Interval time.Duration
	// MaxRows, MaxBytes and MaxOpen end a Kafka transaction; one of Postgres that is larger, or comes
	// more slowly, is split there: no part of it has more records, but for those of its last change.
	MaxRows  int64
	MaxBytes int64
	MaxOpen  time.Duration
}

// DefaultTransactions returns the defaults of docs/configuration.md.
func DefaultTransactions() Transactions {
	return Transactions{Interval: 100 * time.Millisecond, MaxRows: 1_000_000, MaxBytes: 1 << 30, MaxOpen: 20 * time.Second}
}

// exactlyOnce commits records and checkpoint together. What is published gathers in the open Kafka
// transaction; a cut ends it at a place of the stream, the commit makes it durable, and meanwhile the
// publisher goes on into the sink's stage.
//
// A cut is made as soon as the commit before it is answered and nothing more has arrived, so that a
// quiet stream waits for nothing; only a backlog lets a transaction grow, to Interval or its limits.
type exactlyOnce struct {
	p      *Pipeline
	sink   Transactional
	limits Transactions

	// turn is held while an event is handed over, and to cut.
	turn sync.Mutex
	// waiting tells that the publisher has nothing to do; running, that a cut is on its way; cutOff,
	// that nothing may be cut before the next claim, which gives the open Kafka transaction up: it ends
	// within one of Postgres whose rest will not come, or that claim is being made.
	waiting, running, cutOff bool

	cut     place     // the newest cut
	began   time.Time // when the first record after it was written, zero while there is none
	lastCut time.Time
	// before is how much was written since the newest cut when the transaction of Postgres at hand began.
	before struct{ rows, bytes int64 }
	claims int // counts claims: what was cut under an earlier one is void

	// look asks the publisher, who has the turn, whether a cut is due: behind a slow sink nobody else gets it.
	look atomic.Bool

	cuts      chan place    // of one: the cut on its way
	answered  chan struct{} // closed, and made anew, when a commit is answered
	written   atomic.Int64
	committed atomic.Int64 // of written
}

// place is a place in the stream to commit at.
type place struct {
	end     event.LSN
	partial event.Position
	split   int
	written int64 // records up to here
	claim   int
}

// commitTick is how often a transaction is looked at that nothing else ends.
const commitTick = 20 * time.Millisecond

func newExactlyOnce(p *Pipeline, sink Transactional, limits Transactions) *exactlyOnce {
	return &exactlyOnce{p: p, sink: sink, limits: limits, cuts: make(chan place, 1), answered: make(chan struct{})}
}

func (e *exactlyOnce) handOver(ctx context.Context, ev event.Event) error {
	e.turn.Lock()
	defer e.turn.Unlock()
	e.waiting = false
	if err := e.room(ctx, ev); err != nil {
		return err
	}
	if err := e.p.handOver(ctx, ev); err != nil {
		return err
	}
	switch ev.(type) {
	case *event.Progress:
		return nil
	case *event.Begin:
		e.before.rows, e.before.bytes = e.sink.Size()
		return nil
	case *event.Change, *event.Truncate, *event.Message:
		if e.began.IsZero() {
			e.began = time.Now()
		}
		if !e.look.Load() {
			return nil
		}
	case *event.Commit:
		if e.running {
			return nil
		}
	}
	e.look.Store(false)
	e.cutIfDue(time.Now())
	return nil
}

// room makes room for ev where the transaction that it would go into is full: it cuts, and waits for
// that as long as the one before is being committed. It is called with the turn, and gives it away
// meanwhile.
func (e *exactlyOnce) room(ctx context.Context, ev event.Event) error {
	switch ev.(type) {
	case *event.Begin, *event.Change, *event.Truncate, *event.Message:
	case *event.Commit, *event.Progress: // nothing to write
		return nil
	}
	for e.isFull() {
		if !e.running {
			e.cutHere(time.Now())
			return nil
		}
		answered := e.answered
		e.turn.Unlock()
		select {
		case <-answered:
		case <-ctx.Done():
		}
		e.turn.Lock()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (e *exactlyOnce) dry() {
	e.turn.Lock()
	defer e.turn.Unlock()
	e.waiting = true
	e.cutIfDue(time.Now())
}

// halt is told that the publisher of this connection has ended. A transaction that it leaves open would
// be split when MaxOpen is over, and be seen without its rest for as long as the server is away.
func (e *exactlyOnce) halt() {
	e.turn.Lock()
	defer e.turn.Unlock()
	e.cutOff = e.p.cursor.within()
}

// cutIfDue cuts here if it is time. It is called with the turn.
func (e *exactlyOnce) cutIfDue(now time.Time) {
	if !e.running && !e.cutOff && e.isDue(now) {
		e.cutHere(now)
	}
}

// cutHere ends the open Kafka transaction at the cursor's place. It is called with the turn.
func (e *exactlyOnce) cutHere(now time.Time) {
	c := &e.p.cursor
	rows, _ := e.sink.Size()
	e.cut = place{end: c.done, partial: c.partial(), written: e.written.Add(rows), claim: e.claims}
	if c.within() {
		c.split++
		e.cut.split, c.tx.Split = c.split, c.split
	}
	e.running, e.began, e.lastCut = true, time.Time{}, now
	e.before.rows, e.before.bytes = 0, 0
	e.sink.Hold()
	e.cuts <- e.cut
}

// isDue tells whether to cut here at now. A transaction of Postgres that has begun and brought nothing yet
// holds back nothing: its rows may take longer to come than the brokers wait, or be none of ours.
func (e *exactlyOnce) isDue(now time.Time) bool {
	c := &e.p.cursor
	if rows, _ := e.sink.Size(); rows == 0 { // at most an idle position is new
		return !c.within() && c.done > e.cut.end && now.Sub(e.lastCut) >= saveIdleEvery
	}
	if c.within() {
		return now.Sub(e.began) >= e.limits.MaxOpen
	}
	return e.waiting || e.isFull() || now.Sub(e.began) >= e.limits.Interval
}

// isFull tells whether the limits of size are reached. Those before it in the Kafka transaction do
// not count against one of Postgres: only one that is too large by itself is split.
func (e *exactlyOnce) isFull() bool {
	rows, bytes := e.sink.Size()
	if e.p.cursor.open {
		rows, bytes = rows-e.before.rows, bytes-e.before.bytes
	}
	return rows >= e.limits.MaxRows || bytes >= e.limits.MaxBytes
}

func (e *exactlyOnce) run(work, late context.Context) error {
	tick := time.NewTicker(commitTick)
	defer tick.Stop()
	for {
		select {
		case at := <-e.cuts:
			if err := e.commit(late, at); err != nil {
				return err
			}
		case now := <-tick.C:
			// A publisher that has the turn looks for itself; one that waits in it for room in the
			// window may wait for the cut that is on its way, so it is not waited for here.
			if !e.turn.TryLock() {
				e.look.Store(true)
				continue
			}
			e.cutIfDue(now)
			e.turn.Unlock()
		case <-work.Done():
			return e.finish(late)
		}
	}
}

// commit is the one place where a position becomes durable and is confirmed: the store commits
// records and checkpoint together, and only then the server may forget. A commit whose outcome is not
// known gives the connection up: the next one claims anew, and goes on where the checkpoint says.
func (e *exactlyOnce) commit(ctx context.Context, at place) error {
	done, err := e.store(ctx, at)
	if !done {
		return err // running stays set: without a claim there is nothing to cut
	}
	e.turn.Lock()
	defer e.turn.Unlock()
	if at.claim == e.claims {
		e.running = false
		e.cutIfDue(time.Now())
		close(e.answered)
		e.answered = make(chan struct{})
	}
	return nil
}

// store commits, and returns whether that is known to have worked.
func (e *exactlyOnce) store(ctx context.Context, at place) (bool, error) {
	p, c := e.p, &e.p.claim
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.held || at.claim != e.claims {
		return false, nil // void: it comes again after the next claim
	}
	r := p.record(at.end, at.partial)
	r.Split = at.split
	if err := p.store.Save(ctx, r); err != nil {
		c.held = false
		if ctx.Err() != nil {
			return false, nil // the time for a stop is up
		}
		return false, e.failed(err)
	}
	e.committed.Store(at.written)
	p.saved(r)
	return true, nil
}

// failed gives the connection up: what was in the transaction is read again.
func (e *exactlyOnce) failed(err error) error {
	if e.sink.Err() != nil {
		return nil // a record is the cause: Pipeline.failed says which
	}
	if !fault.Is(err, fault.Fenced) && !fault.Retryable(err) {
		return e.p.place(err)
	}
	e.p.claim.lose(shutOut(err))
	return nil
}

// finish commits what is published up to the end of a transaction. One that is still open is given
// up: nobody has seen it, and it comes again.
func (e *exactlyOnce) finish(ctx context.Context) error {
	p := e.p
	p.status.set(Stopping)
	if err := e.lastCuts(ctx); err != nil {
		return err
	}
	if err := e.lastCommit(ctx); err != nil {
		return err
	}
	if n := e.pending(); n > 0 {
		return p.place(undelivered(n, event.LSN(p.status.saved.Load()), nil))
	}
	return nil
}

// lastCuts waits for the publisher, and commits what it has cut and goes on to cut: it may be waiting
// for the room that a commit makes.
func (e *exactlyOnce) lastCuts(ctx context.Context) error {
	for publishing := true; ; {
		select {
		case at := <-e.cuts:
			if err := e.commit(ctx, at); err != nil {
				return err
			}
			continue
		default:
		}
		if !publishing {
			return nil
		}
		select {
		case at := <-e.cuts:
			if err := e.commit(ctx, at); err != nil {
				return err
			}
		case e.p.publishing <- struct{}{}: // for good: no connection publishes any more
			publishing = false
		}
	}
}

// lastCommit commits what came after the newest cut, if it ends with a transaction.
func (e *exactlyOnce) lastCommit(ctx context.Context) error {
	e.turn.Lock()
	rows, _ := e.sink.Size()
	at := place{end: e.p.cursor.done, written: e.written.Load() + rows, claim: e.claims}
	idle := !e.running && !e.cutOff && !e.p.cursor.within() && at.end > e.cut.end
	if idle {
		e.sink.Hold()
	}
	e.turn.Unlock()
	if !idle {
		return nil
	}
	e.written.Store(at.written)
	_, err := e.store(ctx, at)
	return err
}

// claiming forbids to cut: the claim empties the sink, and a hold that came after that would be of no cut.
// What the next connection writes would be staged behind it, and left out by the commit that covers it.
func (e *exactlyOnce) claiming() {
	e.turn.Lock()
	defer e.turn.Unlock()
	e.cutOff = true
}

func (e *exactlyOnce) claimed(d checkpoint.Decision, split int, _ bool) {
	e.turn.Lock()
	defer e.turn.Unlock()
	e.claims++
	e.waiting, e.running, e.cutOff = false, false, false
	e.began, e.lastCut = time.Time{}, time.Now()
	e.before.rows, e.before.bytes = 0, 0
	select {
	case <-e.cuts:
	default:
	}
	e.written.Store(e.committed.Load())
	if !d.Partial.IsZero() {
		split = max(split, 1) // at_least_once counts no parts, but leaves one when it is stopped within a transaction
	}
	e.p.resume(d, split)
	e.cut = place{end: d.End, partial: d.Partial, split: split, claim: e.claims}
}

// nobody counts the records: a commit covers all of them or none.
type nobody struct{}

func (nobody) Expect(int) {}
func (nobody) Acked(int)  {}

func (e *exactlyOnce) begin() event.Ack   { return nobody{} }
func (e *exactlyOnce) end(event.LSN)      {}
func (e *exactlyOnce) progress(event.LSN) {}

func (e *exactlyOnce) pending() int64 {
	rows, _ := e.sink.Size()
	return e.written.Load() + rows - e.committed.Load()
}

func (e *exactlyOnce) durable() event.LSN { return event.LSN(e.p.status.saved.Load()) }
