package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/walferry/walferry/checkpoint"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/failpoint"
)

// prepare makes everything ready that a first connection needs: publication, topics, slot. Servers
// that cannot be reached are tried again until StartTimeout.
func (p *Pipeline) prepare(ctx context.Context) error {
	retry := newRetry(p.log, "start")
	for {
		err := p.setUp(ctx)
		switch {
		case err == nil:
			retry.healed()
			return nil
		case ctx.Err() != nil, !fault.Retryable(err), retry.since() > p.cfg.StartTimeout:
			return p.place(err)
		}
		p.status.failed(Starting, err)
		retry.wait(ctx, err)
	}
}

// setUp is one attempt. A kill between any two of its steps leaves a state that the next one
// continues: a publication that is there is checked and used, an intent without a slot creates it,
// an intent with a slot goes on. The topics come before the slot, so that trouble with the brokers
// never leaves a slot behind that keeps WAL for nobody.
func (p *Pipeline) setUp(ctx context.Context) (err error) {
	setup, err := p.source.Prepare(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, setup.Close()) }()
	failpoint.Here(failpoint.Prepared)
	rec, err := p.store.Load(ctx)
	if err != nil {
		return err
	}
	p.fingerprint = setup.Fingerprint()
	d, err := checkpoint.Judge(rec, setup.Server(), p.judgeOptions())
	if rec != nil && fault.Is(err, fault.SlotMissing) {
		// The server was asked first. The lock of the set-up goes with its connection, and another instance that
		// has started since has made the slot before it saved.
		if err := setup.Look(ctx); err != nil {
			return err
		}
		d, err = checkpoint.Judge(rec, setup.Server(), p.judgeOptions())
	}
	if setup.Server().Slot != nil && (fault.Is(err, fault.CheckpointAhead) || fault.Is(err, fault.CheckpointGap) || fault.Is(err, fault.CheckpointOptions)) {
		// Another instance may hold the slot: it may have saved after the server was asked where its WAL
		// ends, have confirmed what the brokers do not show yet, though they have answered the commit, or be
		// within a transaction that it will have finished. With the slot held it is judged again.
		err = nil
	}
	if err != nil {
		return err
	}
	var want map[string]int32
	if rec != nil {
		want = rec.Partitions
	}
	if _, err := p.sink.Open(ctx, setup.Tables(), want); err != nil {
		return err
	}
	failpoint.Here(failpoint.TopicsMade)
	if !d.CreateSlot {
		return nil
	}
	return p.createSlot(ctx, setup)
}

// made is why an attempt ends that was to create a slot which another instance has made and streamed from
// meanwhile: the connection with the set-up lock was lost. The next one finds the slot, and is a standby; or
// finds that it is gone again, and refuses.
func made(rec *checkpoint.Record) error {
	return fault.New(fault.SlotBusy, "create the slot", fmt.Errorf("another instance has made it meanwhile: there is a checkpoint at %s", rec.End), "")
}

// createSlot saves the intent, then creates the slot. Without a slot there is no other instance
// that acquiring the store could shut out, and the set-up lock keeps others from creating one. Where that lock
// was lost, the instance that is shut out finds its own record, or the intent, and goes by that.
func (p *Pipeline) createSlot(ctx context.Context, setup Setup) error {
	srv := setup.Server()
	rec, err := p.store.Acquire(ctx)
	if err != nil {
		return err
	}
	if rec != nil && !rec.Intent {
		return made(rec)
	}
	err = p.store.Save(ctx, checkpoint.Record{
		Version: checkpoint.Version, Intent: true, Origin: srv.Origin, Timeline: srv.Timeline,
		Fingerprint: p.fingerprint, Partitions: p.sink.Partitions(), Instance: p.cfg.Run, Time: time.Now().UTC(),
	})
	if err != nil {
		return err
	}
	failpoint.Here(failpoint.IntentSaved)
	// The brokers answer a commit a moment before they show it. Whoever finds the slot must find the
	// intent, or would take the slot for somebody else's.
	if _, err := p.store.Load(ctx); err != nil {
		return err
	}
	if err := setup.CreateSlot(ctx); err != nil {
		return err
	}
	failpoint.Here(failpoint.SlotCreated)
	return nil
}
