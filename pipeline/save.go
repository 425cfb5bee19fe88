package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
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

// claim is the right to write checkpoints: it is had from the moment the store was acquired with
// the slot held, until a save fails; see unclaim. A lost connection does not end it: what was
// acknowledged is saved meanwhile, and whoever takes the slot over shuts this writer out first.
type claim struct {
	mu     sync.Mutex // also keeps a save and an acquire apart
	held   bool
	fenced bool // the last save was told that another writer had acquired

	// last is the newest record that is known to be stored; what does not change from save to save
	// is taken from it.
	last checkpoint.Record

	// lose ends the connection whose slot the claim rests on.
	lose context.CancelCauseFunc
}

// errShutOut ends the connection of a writer that was shut out. It is no end of the pipeline yet.
var errShutOut = errors.New("look who holds the slot")

// save saves and confirms what is durable, again and again until work ends; then it waits for the
// publisher, drains the sink, and does it for the last time. late bounds what goes on after work.
func (p *Pipeline) save(work, late context.Context, published <-chan struct{}) error {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	delivered, last := false, time.Now() // records were acknowledged since the last save
	for {
		select {
		case <-p.tracker.Wake():
			delivered = true
		case now := <-tick.C:
			if !delivered && now.Sub(last) < saveIdleEvery {
				continue
			}
			done, err := p.advance(late, event.Position{})
			if err != nil {
				return err
			}
			if done {
				delivered, last = false, now
			}
		case <-work.Done():
			<-published
			return p.finish(late, delivered)
		}
	}
}

// finish delivers what was handed to the sink and saves it, in mid-transaction if need be.
// delivered tells whether records were acknowledged since the last save.
func (p *Pipeline) finish(ctx context.Context, delivered bool) error {
	p.status.set(Stopping)
	drain, cancel := context.WithTimeout(ctx, drainFor)
	defer cancel()
	err := p.sink.Drain(drain)
	var partial event.Position
	if c := &p.cursor; err == nil && c.unit != nil && c.last.Commit == c.commit {
		partial = c.last
	}
	select {
	case <-p.tracker.Wake():
		delivered = true
	default:
	}
	if !delivered && partial.IsZero() && err == nil {
		_, err = p.advance(ctx, partial) // at most an idle position is new
		return err
	}
	done, saveErr := p.lastSave(ctx, partial)
	if err == nil {
		err = saveErr
	}
	if done && err == nil {
		return nil
	}
	return p.place(undelivered(p.tracker.Pending(), event.LSN(p.status.saved.Load()), err))
}

// lastSave saves for the last time. Where the claim is just being made again it waits for it, as
// long as the server's connection is there or comes back.
func (p *Pipeline) lastSave(ctx context.Context, partial event.Position) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, lastSaveFor)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		done, err := p.advance(ctx, partial)
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

// advance is the one place where a position becomes durable and is confirmed, in this order: the
// brokers have acknowledged every record before it (the tracker says so), the store has the record
// that says it, and only then the server may forget. A zero partial means between transactions.
//
// It returns whether the stored record now says all that is durable: not without a claim.
func (p *Pipeline) advance(ctx context.Context, partial event.Position) (bool, error) {
	c := &p.claim
	c.mu.Lock()
	defer c.mu.Unlock()
	end := p.tracker.Durable()
	if !c.held {
		return false, nil
	}
	if !c.last.Intent && end == c.last.End && partial == c.last.Partial {
		return true, nil
	}
	r := c.last
	r.Version, r.Instance, r.Time = checkpoint.Version, p.cfg.Run, time.Now().UTC()
	r.Intent, r.End, r.Partial, r.Partitions = false, end, partial, maps.Clone(p.sink.Partitions())
	if err := p.store.Save(ctx, r); err != nil {
		if ctx.Err() != nil { // the time for a stop is up: finish says what is left behind
			c.held = false
			return false, nil
		}
		return false, p.unclaim(err)
	}
	c.last = r
	p.source.Confirm(end)
	p.status.saved.Store(uint64(end))
	p.metrics.saved()
	return true, nil
}

// unclaim gives the claim up after a save that failed. A store that is away, or that was acquired by
// somebody else, is no error of the pipeline yet: where the outcome is not known the store is
// acquired again, and where this writer was shut out the connection is given up, because only one
// that is made anew can tell who holds the slot. It is called with the claim's lock held.
func (p *Pipeline) unclaim(err error) error {
	c := &p.claim
	c.held = false
	switch {
	case fault.Is(err, fault.Fenced):
		c.fenced = true
		c.lose(fmt.Errorf("%w: %w", errShutOut, err))
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
