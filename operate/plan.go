package operate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/walferry/walferry/checkpoint"
	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// Plan is what a command would do: in words, and in steps. A plan without steps has nothing to do.
type Plan struct {
	// Effects say what will not be sent, what comes again, and what remains; a line each.
	Effects []string
	// Steps are done in this order. After any number of them a start goes on, or refuses and names the command.
	Steps []Step
	// writes tells that a step writes the checkpoint, for which the other writers must be shut out.
	writes bool
}

// Step is one change.
type Step struct {
	Words string
	do    func(context.Context, *Pipeline) error
}

// Planner makes a plan of a state, or refuses. It does no I/O.
type Planner func(State) (Plan, error)

// nothing is the plan of a command that is not needed.
func nothing(why string) (Plan, error) { return Plan{Effects: []string{why}}, nil }

const planning = "prepare the command"

// idle refuses a server on which nothing may be changed now: one that cannot be asked, a standby, and one
// where an instance is active.
func idle(s State) error {
	slot := s.View.Server.Slot
	switch {
	case s.ViewErr != nil:
		return s.ViewErr
	case s.View.Standby:
		return fault.New(fault.PostgresUnavailable, planning, errors.New("the server is a standby"), "Give the command at the primary. With several hosts in the URL add target_session_attrs=read-write.")
	case slot != nil && slot.Active:
		return fault.New(fault.SlotBusy, planning, fmt.Errorf("slot %s is held by process %d: an instance is active", s.View.Server.Origin.Slot, slot.PID),
			"Stop every instance of the pipeline first, standbys too.")
	}
	return nil
}

// ready is idle for a command that replaces the checkpoint: what is stored must be known, or known to be
// unreadable.
func ready(s State) error {
	if err := idle(s); err != nil {
		return err
	}
	if s.RecordErr != nil && !unreadable(s.RecordErr) {
		return s.RecordErr
	}
	return nil
}

// moveTo plans to begin with the transactions that commit at or after an LSN, on the slot that is there.
func (p *Pipeline) moveTo(s State, to event.LSN) (Plan, error) {
	rec, after := p.record(s), s
	rec.End = to
	after.Record, after.RecordErr = &rec, nil
	slot := s.View.Server.Slot
	if slot != nil && to > slot.Confirmed {
		moved := *slot
		moved.Confirmed = to
		after.View.Server.Slot = &moved
	}
	if _, err := p.judge(after); err != nil {
		return Plan{}, err
	}
	plan := Plan{Effects: effects(s, to), writes: true}
	plan.Steps = append(plan.Steps, p.save(rec, fmt.Sprintf("save a checkpoint at %v in %s", to, p.Place)))
	if to > slot.Confirmed {
		plan.Steps = append(plan.Steps, Step{
			Words: fmt.Sprintf("advance the slot %s from %v to %v", rec.Slot, slot.Confirmed, to),
			do:    func(ctx context.Context, p *Pipeline) error { return p.Keeper.Advance(ctx, to) },
		})
	}
	plan.Effects = append(plan.Effects, fmt.Sprintf("The next start goes on from %v.", to))
	return plan, nil
}

// anew plans to begin with a new slot.
func (p *Pipeline) anew(s State) (Plan, error) {
	rec, after := p.record(s), s
	rec.Intent = true
	after.Record, after.RecordErr, after.View.Server.Slot = &rec, nil, nil
	if _, err := p.judge(after); err != nil {
		return Plan{}, err
	}
	since := "what the topics have"
	if begin, known := sentUpTo(s); known {
		since = begin.String()
	}
	plan := Plan{writes: true, Effects: []string{
		fmt.Sprintf("Not sent: every change that commits after %s and before the next start has made a new slot.", since),
		"Sent again: nothing.",
	}}
	plan.Effects = append(plan.Effects, about(s)...)
	plan.Steps = append(plan.Steps, p.save(rec, "save in "+p.Place+" that the slot is to be made"))
	if s.View.Server.Slot != nil {
		plan.Steps = append(plan.Steps, p.dropSlot(s))
	}
	plan.Effects = append(plan.Effects, "The next start makes the slot, and begins with the present.")
	return plan, nil
}

// record returns a record of the stream as it is now, without a position, in place of the one in s.
func (p *Pipeline) record(s State) checkpoint.Record {
	rec := checkpoint.Record{
		Version: checkpoint.Version, Origin: s.View.Server.Origin, Timeline: s.View.Server.Timeline,
		Fingerprint: s.View.Fingerprint, Instance: p.Run, Time: time.Now().UTC(),
	}
	if s.Record != nil {
		rec.Partitions = s.Record.Partitions
	}
	return rec
}

func (p *Pipeline) save(rec checkpoint.Record, words string) Step {
	return Step{Words: words, do: func(ctx context.Context, p *Pipeline) error { return p.Store.Save(ctx, rec) }}
}

func (p *Pipeline) dropSlot(s State) Step {
	return Step{
		Words: "drop the slot " + s.View.Server.Origin.Slot,
		do:    func(ctx context.Context, p *Pipeline) error { return p.Keeper.DropSlot(ctx) },
	}
}
