package pipeline

import (
	"context"
	"fmt"

	"github.com/walferry/walferry/checkpoint"
	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// cursor is the publisher's place in the stream. The stream repeats itself, after each connection
// from the slot's confirmed position on; the cursor is what keeps a repeat from being published.
type cursor struct {
	// done: every transaction whose commit LSN is below it has been handed to the sink as a whole,
	// or was durable before this run. It is an end LSN; the next transaction may commit exactly there.
	done event.LSN
	// last is the last change handed to the sink, or durable before this run.
	last event.Position
	// unit is the transaction that is being handed over, nil between transactions. It stays open
	// while a lost connection is made again.
	unit   *checkpoint.Unit
	commit event.LSN // of unit
	// skip tells that the transaction at hand was done before.
	skip bool
}

// resume sets the cursor of a run that begins after end, and after partial in the next transaction.
func (c *cursor) resume(t *checkpoint.Tracker, end event.LSN, partial event.Position) {
	c.done, c.last = end, partial
	t.Progress(end)
	if !partial.IsZero() {
		c.unit, c.commit = t.Open(), partial.Commit
	}
}

// publish hands the source's events to the sink until ctx ends.
func (p *Pipeline) publish(ctx context.Context) error {
	select {
	case <-p.claimed:
	case <-ctx.Done():
		return nil
	}
	retry := p.newRetry("read the catalog")
	for {
		ev, err := p.source.Next(ctx)
		if fault.Retryable(err) && ctx.Err() == nil {
			retry.wait(ctx, err)
			continue
		}
		if err == nil {
			retry.healed()
			// Whatever its error is, the event is taken and would be left out by going on.
			err = p.handOver(ctx, ev)
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil
		default:
			return p.place(err)
		}
	}
}

// handOver moves the cursor over one event and writes what is new.
func (p *Pipeline) handOver(ctx context.Context, ev event.Event) error {
	c := &p.cursor
	switch ev := ev.(type) {
	case *event.Begin:
		return p.begin(ev)
	case *event.Change:
		return p.write(ctx, ev, ev.Pos)
	case *event.Truncate:
		return p.write(ctx, ev, ev.Pos)
	case *event.Message:
		if ev.Tx == nil {
			return p.single(ctx, ev)
		}
		return p.write(ctx, ev, ev.Pos)
	case *event.Commit:
		if !c.skip {
			c.unit.Close(ev.End)
			c.unit, c.done = nil, ev.End
		}
		c.skip = false
	case *event.Progress:
		// While a cut-off transaction waits to be sent again nothing behind it counts.
		if c.unit == nil && ev.LSN > c.done {
			p.tracker.Progress(ev.LSN)
			c.done = ev.LSN
		}
	}
	return nil
}

// begin opens a transaction, goes on with the one that was cut off, or skips one that is done.
func (p *Pipeline) begin(ev *event.Begin) error {
	c := &p.cursor
	c.skip = ev.Tx.Commit < c.done
	switch {
	case c.skip:
	case c.unit == nil:
		c.unit, c.commit = p.tracker.Open(), ev.Tx.Commit
	case ev.Tx.Commit != c.commit:
		return c.diverged(ev.Tx.Commit)
	}
	return nil
}

// diverged says that the rest of the open transaction did not come; next is what came in its place.
func (c *cursor) diverged(next event.LSN) error {
	f := fault.New(fault.StreamDiverged, "go on after a lost connection",
		fmt.Errorf("the transaction that commits at %s was published in part and did not come again; next is %s", c.commit, next),
		"The server that answers now is not the one that was read before, or its slot was moved. Compare postgres.url with the server's history before starting again.")
	f.LSN = c.commit
	return f
}

// write hands one event of the open transaction to the sink, unless that was done before.
func (p *Pipeline) write(ctx context.Context, ev event.Event, pos event.Position) error {
	c := &p.cursor
	if c.skip || pos.Compare(c.last) <= 0 {
		p.metrics.repeated()
		return nil
	}
	if err := p.sink.Write(ctx, ev, c.unit); err != nil {
		return err
	}
	c.last = pos
	return nil
}

// single hands over a logical message that stands outside of any transaction. Its LSN is where its
// record ends: that is what may be confirmed for it, and a transaction may commit exactly there.
func (p *Pipeline) single(ctx context.Context, ev *event.Message) error {
	c := &p.cursor
	if ev.Pos.Commit <= c.done {
		p.metrics.repeated()
		return nil
	}
	switch {
	case c.unit != nil && ev.Pos.Commit <= c.commit:
		// It comes ahead of the open transaction and was left out the first time: its prefix was not
		// configured by the run that published the first part of that.
		p.metrics.repeated()
		return nil
	case c.unit != nil:
		return c.diverged(ev.Pos.Commit)
	}
	unit := p.tracker.Open()
	if err := p.sink.Write(ctx, ev, unit); err != nil {
		unit.Close(0)
		return err
	}
	c.last, c.done = ev.Pos, ev.Pos.Commit
	unit.Close(c.done)
	return nil
}
