package pipeline

import (
	"context"
	"time"

	"github.com/walferry/walferry/checkpoint"
	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

const (
	// saveEvery is how often new acknowledgements are saved: what a crash repeats at most, with
	// what was on its way.
	saveEvery = 200 * time.Millisecond
	// saveIdleEvery is how often a position that moved without any record is saved. It lets the
	// server drop WAL in which nothing is for us.
	saveIdleEvery = 10 * time.Second
	// lastSaveFor is how long a stop waits for the last save.
	lastSaveFor = 3 * time.Second
)

// atLeastOnce saves what the brokers have acknowledged, now and then: records go their own way, and
// the checkpoint follows the oldest that is still on it.
type atLeastOnce struct {
	p       *Pipeline
	tracker *checkpoint.Tracker
	unit    *checkpoint.Unit // of the transaction that is being published; publish's alone
}

func newAtLeastOnce(p *Pipeline) *atLeastOnce {
	return &atLeastOnce{p: p, tracker: checkpoint.NewTracker()}
}

func (a *atLeastOnce) handOver(ctx context.Context, ev event.Event) error {
	return a.p.handOver(ctx, ev)
}
func (a *atLeastOnce) dry()      {}
func (a *atLeastOnce) halt()     {}
func (a *atLeastOnce) claiming() {}

func (a *atLeastOnce) begin() event.Ack {
	a.unit = a.tracker.Open()
	return a.unit
}
func (a *atLeastOnce) end(lsn event.LSN)      { a.unit.Close(lsn) }
func (a *atLeastOnce) progress(lsn event.LSN) { a.tracker.Progress(lsn) }
func (a *atLeastOnce) pending() int64         { return a.tracker.Pending() }
func (a *atLeastOnce) durable() event.LSN     { return a.tracker.Durable() }

// claimed sets the cursor once: a later connection goes on where the one before was cut off.
func (a *atLeastOnce) claimed(d checkpoint.Decision, split int, first bool) {
	if first {
		a.p.resume(d, split)
	}
}

// run saves and confirms what is durable, again and again until work ends; then it waits for the
// publisher, drains the sink, and does it for the last time.
func (a *atLeastOnce) run(work, late context.Context) error {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	delivered, last := false, time.Now() // records were acknowledged since the last save
	for {
		select {
		case <-a.tracker.Wake():
			delivered = true
			a.p.latency.reached(a.tracker.Durable())
		case now := <-tick.C:
			if !delivered && now.Sub(last) < saveIdleEvery {
				continue
			}
			done, err := a.advance(late, event.Position{})
			if err != nil {
				return err
			}
			if done {
				delivered, last = false, now
			}
		case <-work.Done():
			a.p.publishing <- struct{}{} // for good: no connection publishes any more
			return a.finish(late, delivered)
		}
	}
}

// finish delivers what was handed to the sink and saves it, in mid-transaction if need be.
// delivered tells whether records were acknowledged since the last save.
func (a *atLeastOnce) finish(ctx context.Context, delivered bool) error {
	p := a.p
	p.status.set(Stopping)
	drain, cancel := context.WithTimeout(ctx, drainFor)
	defer cancel()
	err := p.sink.Drain(drain)
	var partial event.Position
	if err == nil {
		p.claim.mu.Lock() // the first claim, which sets the cursor, may be on its way
		partial = p.cursor.partial()
		p.claim.mu.Unlock()
	}
	select {
	case <-a.tracker.Wake():
		delivered = true
	default:
	}
	if !delivered && partial.IsZero() && err == nil {
		_, err = a.advance(ctx, partial) // at most an idle position is new
		return err
	}
	done, saveErr := a.lastSave(ctx, partial)
	if err == nil {
		err = saveErr
	}
	if done && err == nil {
		return nil
	}
	return p.place(undelivered(a.pending(), event.LSN(p.status.saved.Load()), err))
}

// lastSave saves for the last time. Where the claim is just being made again it waits for it, as
// long as the server's connection is there or comes back.
func (a *atLeastOnce) lastSave(ctx context.Context, partial event.Position) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, lastSaveFor)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		done, err := a.advance(ctx, partial)
		if done || err != nil {
			return done, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false, nil
		}
	}
}

// advance is where a position becomes durable: the brokers have acknowledged every record before it
// (the tracker says so), then the store has the record that says it, and only then it is confirmed.
// A zero partial means between transactions. It returns whether the stored record now says all that
// is durable: not without a claim.
func (a *atLeastOnce) advance(ctx context.Context, partial event.Position) (bool, error) {
	p, c := a.p, &a.p.claim
	c.mu.Lock()
	defer c.mu.Unlock()
	end := a.tracker.Durable()
	if !c.held {
		return false, nil
	}
	if partial.IsZero() && end == c.last.End {
		partial = c.last.Partial // nothing was finished since
	}
	if !c.last.Intent && end == c.last.End && partial == c.last.Partial {
		return true, nil
	}
	r := p.record(end, partial)
	if partial == c.last.Partial {
		r.Split = c.last.Split
	}
	if err := p.store.Save(ctx, r); err != nil {
		c.held = false
		if ctx.Err() != nil { // the time for a stop is up: finish says what is left behind
			return false, nil
		}
		return false, a.failed(err)
	}
	p.saved(r)
	return true, nil
}

// failed decides after a save that failed. A store that is away, or that was acquired by somebody
// else, is no error of the pipeline yet: where the outcome is not known the store is acquired again,
// and where this writer was shut out the connection is given up, because only one that is made anew
// can tell who holds the slot. It is called with the claim's lock held.
func (a *atLeastOnce) failed(err error) error {
	p := a.p
	switch {
	case fault.Is(err, fault.Fenced):
		p.claim.lose(shutOut(err))
	case fault.Retryable(err):
		p.status.failed(Reconnecting, err)
		select {
		case p.reclaim <- struct{}{}:
		default:
		}
	default:
		return p.place(err)
	}
	return nil
}
