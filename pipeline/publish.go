package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// finishFor is how long a stop lets the transaction at hand come to its end before it is cut off.
const finishFor = 2 * time.Second

// cursor is the publisher's place in the stream. The stream repeats itself, after each connection
// from the slot's confirmed position on; the cursor is what keeps a repeat from being published.
type cursor struct {
	// done: every transaction whose commit LSN is below it has been handed to the sink as a whole,
	// or was durable before this run. It is an end LSN; the next transaction may commit exactly there.
	done event.LSN
	// last is the last change handed to the sink, or durable before this run.
	last event.Position
	// open tells that a transaction is being handed over: the one that commits at commit. It stays
	// open while a lost connection is made again.
	open   bool
	commit event.LSN
	tx     *event.Tx // as the source sent it last
	// ack is told of the records of that transaction.
	ack event.Ack
	// split counts the parts of it that were committed by themselves.
	split int
	// skip tells that the transaction at hand was done before.
	skip bool
}

// partial returns the last change that was handed over of the open transaction, zero for none. (A message
// outside of it may stand where it commits, as number 0.)
func (c *cursor) partial() event.Position {
	if c.open && c.last.Commit == c.commit && c.last.Seq > 0 {
		return c.last
	}
	return event.Position{}
}

// within tells that a part of the open transaction was handed over. As long as none was, done is a place
// between transactions.
func (c *cursor) within() bool { return !c.partial().IsZero() }

// publish hands the source's events to the sink, from the moment the checkpoint is claimed until ctx
// ends. When work ends it goes on to the end of the transaction at hand, for a moment.
func (p *Pipeline) publish(ctx, work context.Context, log *slog.Logger, claimed <-chan struct{}) error {
	select {
	case p.publishing <- struct{}{}:
		defer func() { <-p.publishing }()
	case <-work.Done():
		return nil
	}
	select {
	case <-claimed:
	case <-work.Done():
		return nil
	case <-ctx.Done():
		return nil
	}
	defer p.delivery.halt()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var resting atomic.Bool // between transactions, with nothing to read
	defer context.AfterFunc(work, func() {
		if resting.Load() {
			cancel()
		}
		hurry := time.AfterFunc(finishFor, cancel)
		context.AfterFunc(ctx, func() { hurry.Stop() })
	})()
	dry := func() {
		p.delivery.dry()
		resting.Store(!p.cursor.open)
		if work.Err() != nil && !p.cursor.open {
			cancel()
		}
	}
	retry := newRetry(log, "read the catalog")
	for work.Err() == nil || p.cursor.open {
		ev, err := p.source.Next(ctx, dry)
		resting.Store(false)
		if fault.Retryable(err) && ctx.Err() == nil {
			retry.wait(ctx, err)
			continue
		}
		if err == nil {
			retry.healed()
			// Whatever its error is, the event is taken and would be left out by going on.
			err = p.delivery.handOver(ctx, ev)
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil
		default:
			return p.place(err)
		}
	}
	return nil
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
			p.delivery.end(ev.End)
			if c.last.Commit == ev.Tx.Commit {
				p.latency.handed(ev.End, ev.Tx.Time)
			}
			c.open, c.ack, c.done = false, nil, ev.End
			p.status.handed.Store(uint64(ev.End))
		}
		c.skip = false
	case *event.Progress:
		// While a cut-off transaction waits to be sent again nothing behind it counts.
		if !c.open && ev.LSN > c.done {
			p.delivery.progress(ev.LSN)
			c.done = ev.LSN
			p.status.handed.Store(uint64(ev.LSN))
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
		return nil
	case !c.open:
		c.open, c.commit, c.ack, c.split = true, ev.Tx.Commit, p.delivery.begin(), 0
	case ev.Tx.Commit != c.commit:
		return c.diverged(ev.Tx.Commit)
	}
	c.tx, ev.Tx.Split = ev.Tx, c.split
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
	if err := p.sink.Write(ctx, ev, c.ack); err != nil {
		return err
	}
	if pos.Commit != c.last.Commit {
		p.status.wrote.Store(uint64(pos.Commit) + 1)
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
	case c.open && ev.Pos.Commit <= c.commit:
		// It comes ahead of the open transaction and was left out the first time: its prefix was not
		// configured by the run that published the first part of that.
		p.metrics.repeated()
		return nil
	case c.open:
		return c.diverged(ev.Pos.Commit)
	}
	if err := p.sink.Write(ctx, ev, p.delivery.begin()); err != nil {
		p.delivery.end(0)
		return err
	}
	c.last, c.done = ev.Pos, ev.Pos.Commit
	p.delivery.end(c.done)
	p.status.wrote.Store(uint64(c.done))
	p.status.handed.Store(uint64(c.done))
	return nil
}
