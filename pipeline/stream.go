package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walferry/walferry/checkpoint"
	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/failpoint"
	"github.com/walferry/walferry/internal/lock"
)

// successorEvery is how often an instance that waits for its slot looks whether it was replaced.
const successorEvery = 2 * time.Second

// stream keeps a connection to the source, one after the other, until ctx ends. Once work has
// ended, no new connection is made.
func (p *Pipeline) stream(ctx, work context.Context) error {
	retry := newRetry(p.log, "stream")
	for n := 1; work.Err() == nil; n++ {
		log := p.log.With("connection", n)
		retry.log = log
		err := p.session(ctx, work, log, retry.healed)
		switch {
		case err == nil, work.Err() != nil:
			return nil
		case fault.Is(err, fault.CredentialRotated):
			log.Info("going on over another connection, with a newer credential", "code", fault.CredentialRotated)
			continue
		case !fault.Retryable(err):
			return p.place(err)
		case !p.isClaimed() && retry.since() > p.cfg.StartTimeout:
			return p.place(err)
		}
		p.status.failed(Reconnecting, err)
		p.metrics.reconnect()
		retry.wait(work, err)
	}
	return nil
}

func (p *Pipeline) isClaimed() bool {
	select {
	case <-p.claimed:
		return true
	default:
		return false
	}
}

// session holds one connection: it takes the slot, claims the checkpoint, and publishes until the
// connection is lost or ctx ends, when it returns nil. Once work has ended it publishes no more.
func (p *Pipeline) session(ctx, work context.Context, log *slog.Logger, healed func()) error {
	var watching sync.WaitGroup
	defer watching.Wait()
	srv, err := p.start(ctx, &watching, healed)
	if err != nil {
		return err
	}
	failpoint.Here(failpoint.SlotTaken)
	ctx, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	group, groupCtx := errgroup.WithContext(ctx)
	claimed := make(chan struct{})
	group.Go(func() error { return p.source.Run(groupCtx) })
	group.Go(func() error { return p.publish(groupCtx, work, log, claimed) })
	group.Go(func() error {
		return p.keepClaim(groupCtx, log, srv, lose, func() {
			close(claimed)
			healed()
			log.Info("streaming", "server", srv.Version, "timeline", srv.Timeline, "confirmed", srv.Slot.Confirmed)
		})
	})
	err = group.Wait()
	if cause := context.Cause(ctx); err == nil && cause != context.Canceled { //nolint:errorlint // that very value: what it is wrapped in is why the session was given up
		err = cause // another writer has shut this one out
	}
	return err
}

// start takes the slot. While it waits for it, an instance that has worked before looks whether another
// one has gone on meanwhile: then it has been replaced, and ends. Nothing else tells, not even that the
// brokers have shut it out: they do that to a transaction that was open for too long as well, and what holds the slot
// may be this instance's own connection of before, which the server has not given up yet. Without the
// slot it begins no save, so that one whose successor has not written yet does no harm by waiting; a save
// that was begun before is refused or overwritten by the successor's claim.
//
// answered is called when the server has, and the slot is held by somebody. The looking, in watching, may end
// later: a save that hangs keeps it, and must not keep the new connection from being read.
func (p *Pipeline) start(ctx context.Context, watching *sync.WaitGroup, answered func()) (event.Server, error) {
	ctx, leave := context.WithCancelCause(ctx)
	srv, err := p.source.Start(ctx, func() {
		p.status.set(Standby)
		answered()
		if p.isClaimed() {
			watching.Go(func() { p.watchSuccessor(ctx, leave) }) // ends with ctx, below
		}
	})
	replaced := context.Cause(ctx)
	leave(nil)
	if err != nil && fault.Is(replaced, fault.Fenced) {
		return srv, replaced
	}
	return srv, err
}

// watchSuccessor looks into the store, which shuts nobody out, until ctx ends or the newest record is
// another instance's: then it calls leave. A store that is away is asked again.
func (p *Pipeline) watchSuccessor(ctx context.Context, leave context.CancelCauseFunc) {
	tick := time.NewTicker(successorEvery)
	defer tick.Stop()
	for {
		if rec, err := p.store.Load(ctx); err == nil {
			p.claim.mu.Lock()
			err = p.stillOurs(rec)
			found := p.claim.found
			p.claim.mu.Unlock()
			// The brokers answer a save before they show it: what this instance began with is nobody's news.
			if fault.Is(err, fault.Fenced) && !isSame(rec, &found) {
				leave(err)
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// shutOut is why a connection ends after a save that was refused to this writer, or whose outcome is
// not known. It is worth another attempt: only one that holds the slot can tell who is to go on.
func shutOut(cause error) error {
	return fault.New(fault.KafkaUnavailable, "save the checkpoint", cause, "")
}

func takenOver(cause error) error {
	return fault.New(fault.Fenced, "go on after a pause", cause,
		"Another instance of this pipeline holds the slot and writes its checkpoint. This one has stopped; start it again to have it wait as a standby.")
}

// overtaken is why a connection ends whose server is behind the checkpoint as it was seen when the connection
// was made. An instance that was frozen between the two, for longer than the server waits, finds what
// another one has saved meanwhile; a server that really is behind still is at the next connection.
func overtaken(cause error) error {
	return fault.New(fault.SlotBusy, "claim the checkpoint", cause, "")
}

// keepClaim claims the checkpoint for this connection, calls claimed, and claims it again after each
// save whose outcome is not known, until ctx ends. While the store is away it tries again: the slot
// stays held meanwhile, and the server is answered.
func (p *Pipeline) keepClaim(ctx context.Context, log *slog.Logger, srv event.Server, lose context.CancelCauseFunc, claimed func()) error {
	judge := func(rec *checkpoint.Record) error { return p.judge(rec, srv) }
	retry := newRetry(log, "claim the checkpoint")
	for {
		err := p.acquire(ctx, judge, lose)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			retry.healed()
			p.ahead = false
			p.status.set(Streaming)
			claimed()
			// From now on the server's state at connect is history; what counts is who wrote.
			judge, claimed = p.stillOurs, func() {}
			select {
			case <-p.reclaim:
			case <-ctx.Done():
				return nil
			}
		case fault.Is(err, fault.CheckpointAhead) && !p.ahead:
			p.ahead = true
			lose(overtaken(err))
			return nil
		case !fault.Retryable(err), !p.isClaimed() && retry.since() > p.cfg.StartTimeout:
			return err
		default:
			p.status.failed(Reconnecting, err)
			retry.wait(ctx, err)
		}
	}
}

// acquire claims the checkpoint with the slot held, and has judge look at what is stored.
func (p *Pipeline) acquire(ctx context.Context, judge func(*checkpoint.Record) error, lose context.CancelCauseFunc) error {
	c := &p.claim
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = false
	p.delivery.claiming()
	rec, err := p.store.Acquire(ctx)
	if err != nil {
		return err
	}
	if err := judge(rec); err != nil {
		return err
	}
	if c.last.Intent {
		// From here on a slot that is gone is a gap: an intent would have it made again.
		r := p.record(c.last.End, c.last.Partial)
		if err := p.store.Save(ctx, r); fault.Is(err, fault.Fenced) {
			return shutOut(err)
		} else if err != nil {
			return err
		}
		p.saved(r)
	}
	c.held, c.lose = true, lose
	return nil
}

// judge holds the stored record against the server of a new connection. The first time it tells
// the delivery where to begin; afterwards nobody else may have gone on meanwhile. It is called
// with the claim's lock held.
func (p *Pipeline) judge(rec *checkpoint.Record, srv event.Server) error {
	d, err := checkpoint.Judge(rec, srv, p.judgeOptions())
	if err != nil {
		return err
	}
	first := !p.isClaimed()
	if !first {
		if err := p.stillOurs(rec); err != nil {
			return err
		}
	}
	c, split := &p.claim, 0
	switch {
	case d.CreateSlot: // Start found it, and now it is gone
		return fault.New(fault.SlotMissing, "claim the checkpoint", fmt.Errorf("slot %s has just been dropped", srv.Origin.Slot), "")
	case d.Changed:
		p.log.Warn("publication or stream options have changed since the last run", "fingerprint", p.fingerprint)
	}
	if rec != nil {
		c.last, c.found, split = *rec, *rec, rec.Split
		if !rec.Intent { // also one whose save had no answer
			p.source.Confirm(rec.End)
		}
	}
	c.last.End, c.last.Partial = d.End, d.Partial
	c.last.Origin, c.last.Timeline, c.last.Fingerprint = srv.Origin, srv.Timeline, p.fingerprint
	p.status.saved.Store(uint64(d.End))
	p.delivery.claimed(d, split, first)
	if first {
		close(p.claimed)
	}
	return nil
}

func (p *Pipeline) exactlyOnce() bool {
	_, is := p.delivery.(*exactlyOnce)
	return is
}

// stillOurs refuses a record that another instance has written since this one read or wrote last.
func (p *Pipeline) stillOurs(rec *checkpoint.Record) error {
	switch {
	case p.claim.wrote(rec, p.cfg.Run):
		return nil
	case rec == nil:
		return fault.New(fault.CheckpointLost, "claim the checkpoint", errors.New("the checkpoint that this instance has read or written is gone"), "To go on from what the slot has confirmed, which repeats some changes and loses none:\nwalferry slot adopt")
	}
	return takenOver(errors.New("another instance has written a checkpoint since"))
}

// claim is the right to write checkpoints: it is had from the moment the store was acquired with
// the slot held, until a save fails. A lost connection does not end it: what was acknowledged is
// saved meanwhile, and whoever takes the slot over shuts this writer out first.
type claim struct {
	mu   lock.Lock // also keeps a save and an acquire apart
	held bool

	// last is the newest record that is known to be stored; what does not change from save to save
	// is taken from it.
	last checkpoint.Record

	// found is the record that the newest claim found, zero for none.
	found checkpoint.Record

	// lose ends the connection whose slot the claim rests on.
	lose context.CancelCauseFunc
}

// wrote tells whether rec is this instance's own, or still the one it began with.
func (c *claim) wrote(rec *checkpoint.Record, run string) bool {
	if rec == nil {
		return c.last.Instance == ""
	}
	return rec.Instance == run || isSame(rec, &c.last)
}

// isSame tells whether two records are one and the same save.
func isSame(a, b *checkpoint.Record) bool {
	return a.Instance == b.Instance && a.Time.Equal(b.Time)
}

func (p *Pipeline) judgeOptions() checkpoint.JudgeOptions {
	return checkpoint.JudgeOptions{AdoptSlot: p.cfg.AdoptSlot, CreateSlot: p.cfg.CreateSlot, ExactlyOnce: p.exactlyOnce(), Fingerprint: p.fingerprint}
}
