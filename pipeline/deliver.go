package pipeline

import (
	"context"
	"time"

	"github.com/walferry/walferry/checkpoint"
	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/internal/failpoint"
)

// delivery is how what was published becomes durable and confirmed: save.go at least once, commit.go
// exactly once.
type delivery interface {
	// handOver publishes one event; dry is called when nothing more has arrived. Both are called by
	// publish alone.
	handOver(ctx context.Context, ev event.Event) error
	dry()
	// halt is called when publish ends with its connection.
	halt()
	// begin opens a transaction and returns who is told of its records; end closes it, with the LSN
	// that may be confirmed for it; progress marks a place between transactions. They are called
	// from within handOver, and begin once more by claimed.
	begin() event.Ack
	end(lsn event.LSN)
	progress(lsn event.LSN)
	// run makes durable and confirms until work ends, then waits for publish and does it for the last
	// time, or says what is left behind. late bounds what goes on after work.
	run(work, late context.Context) error
	// claiming is called with the claim's lock held, before it is made: until claimed, sink and store
	// belong to who makes it. claimed is called with the claim's lock held, before publish begins on a new connection. first
	// tells that it is the first of this run.
	claiming()
	claimed(d checkpoint.Decision, split int, first bool)
	// pending returns how many records a start after a crash would publish again.
	pending() int64
	// durable is the LSN up to which the brokers have everything.
	durable() event.LSN
}

// record returns the checkpoint record of a position. It is called with the claim's lock held.
func (p *Pipeline) record(end event.LSN, partial event.Position) checkpoint.Record {
	r := p.claim.last
	r.Version, r.Instance, r.Time = checkpoint.Version, p.cfg.Run, time.Now().UTC()
	r.Intent, r.End, r.Partial, r.Split = false, end, partial, 0
	r.Partitions = p.sink.Partitions()
	return r
}

// saved notes that a record is stored, and confirms its position to the server: in this order. What else
// confirms is Pipeline.judge, a record that it has read with the claim held. It is called with the claim's lock held.
func (p *Pipeline) saved(r checkpoint.Record) {
	p.claim.last = r
	failpoint.Here(failpoint.Saved)
	p.source.Confirm(r.End)
	failpoint.Here(failpoint.Confirmed)
	p.status.saved.Store(uint64(r.End))
	p.latency.reached(r.End)
	p.metrics.saved()
}

// resume sets the cursor to begin after end, and after partial in the next transaction, of which split
// parts are committed.
func (p *Pipeline) resume(d checkpoint.Decision, split int) {
	p.cursor = cursor{done: d.End, last: d.Partial}
	p.status.handed.Store(uint64(d.End))
	p.latency.forget()
	p.delivery.progress(d.End)
	if !d.Partial.IsZero() {
		p.cursor.open, p.cursor.commit, p.cursor.ack, p.cursor.split = true, d.Partial.Commit, p.delivery.begin(), split
	}
}
