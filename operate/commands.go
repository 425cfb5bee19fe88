package operate

import (
	"context"
	"errors"
	"fmt"

	"github.com/walferry/walferry/checkpoint"
	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// SetNow plans to begin with the present: on the slot, or with a new one where it is gone or of no use.
func (p *Pipeline) SetNow(s State) (Plan, error) {
	if err := ready(s); err != nil {
		return Plan{}, err
	}
	srv := s.View.Server
	switch {
	case srv.Slot == nil && s.RecordErr == nil && (s.Record == nil || s.Record.Intent && s.Record.Origin == srv.Origin):
		return nothing("There is neither slot nor position: the next start makes a slot and begins with the present by itself.")
	case srv.Slot == nil, p.useless(s):
		return p.anew(s)
	}
	return p.moveTo(s, srv.End)
}

// useless tells whether the slot is the pipeline's own and cannot be gone on with from anywhere.
func (p *Pipeline) useless(s State) bool {
	rec := p.record(s)
	rec.End = s.View.Server.End
	s.Record, s.RecordErr = &rec, nil
	_, err := p.judge(s)
	return fault.Is(err, fault.SlotLost) || fault.Is(err, fault.SlotTwoPhase) || fault.Is(err, fault.CheckpointGap)
}

// SetLSN plans to begin with the transactions that commit at or after an LSN.
func (p *Pipeline) SetLSN(to event.LSN) Planner {
	return func(s State) (Plan, error) {
		if err := ready(s); err != nil {
			return Plan{}, err
		}
		refuse := func(code fault.Code, cause error, hint string) (Plan, error) {
			e := fault.New(code, planning, cause, hint)
			e.LSN = to
			return Plan{}, e
		}
		srv := s.View.Server
		switch {
		case to > srv.End:
			return refuse(fault.CheckpointAhead, fmt.Errorf("the server's WAL ends at %v", srv.End), "Nothing can begin in the future: the server would leave out every change up to there. To begin with the present:\nwalferry checkpoint set --now")
		case srv.Slot == nil:
			return refuse(fault.SlotMissing, fmt.Errorf("the slot %s does not exist", srv.Origin.Slot), "Only a slot keeps old WAL. To begin with the present:\nwalferry checkpoint set --now")
		case to < srv.Slot.Confirmed:
			return refuse(fault.CheckpointGap, fmt.Errorf("the slot %s is confirmed up to %v", srv.Origin.Slot, srv.Slot.Confirmed),
				"The server never sends again what a slot has confirmed, whatever it is asked for, and nothing moves a slot back. The earliest place to begin:\n"+
					fmt.Sprintf("walferry checkpoint set --lsn %v", srv.Slot.Confirmed))
		}
		return p.moveTo(s, to)
	}
}

// AcceptGap plans to go on from what the slot has confirmed, where that is past the checkpoint.
func (p *Pipeline) AcceptGap(s State) (Plan, error) {
	if err := idle(s); err != nil {
		return Plan{}, err
	}
	_, err := p.judge(s)
	switch {
	case err == nil:
		return nothing("There is no gap: a start goes on without it.")
	case !fault.Is(err, fault.CheckpointGap):
		return Plan{}, err // its hint says what helps
	}
	return p.moveTo(s, s.View.Server.Slot.Confirmed)
}

// Adopt plans to go on from what the slot has confirmed, where no checkpoint is to be believed.
func (p *Pipeline) Adopt(s State) (Plan, error) {
	if err := ready(s); err != nil {
		return Plan{}, err
	}
	srv := s.View.Server
	if srv.Slot == nil {
		return Plan{}, fault.New(fault.SlotMissing, planning, fmt.Errorf("there is no slot %s to adopt", srv.Origin.Slot), "To begin with the present:\nwalferry checkpoint set --now")
	}
	if s.RecordErr == nil && s.Record != nil {
		_, err := p.judge(s)
		switch fault.CodeOf(err) {
		case fault.CheckpointOrigin, fault.CheckpointTimeline, fault.CheckpointAhead: // a checkpoint not to be believed
		default:
			if err != nil {
				return Plan{}, err // its hint says what helps
			}
			return nothing("The slot is this pipeline's already: a start goes on.")
		}
	}
	return p.moveTo(s, srv.Slot.Confirmed)
}

// Forget plans to remove the checkpoint.
func (p *Pipeline) Forget(s State) (Plan, error) {
	if err := ready(s); err != nil {
		return Plan{}, err
	}
	if s.Record == nil && s.RecordErr == nil {
		return nothing("There is no checkpoint.")
	}
	plan := Plan{writes: true, Steps: []Step{{
		Words: "remove the checkpoint from " + p.Place,
		do:    func(ctx context.Context, p *Pipeline) error { return p.Store.Forget(ctx) },
	}}}
	at, slot := "a checkpoint that cannot be read", s.View.Server.Slot
	if s.Record != nil {
		at = fmt.Sprintf("the checkpoint at %v", s.Record.End)
	}
	plan.Effects = append(plan.Effects, "Forgotten: "+at+", and the partition counts of the topics: one that has grown meanwhile is not noticed.")
	if slot == nil {
		plan.Effects = append(plan.Effects, "Not sent: every change that commits before the next start has made a new slot, as far as it is not in the topics already.",
			"The next start makes the slot, and begins with the present.")
		return plan, nil
	}
	if begin, known := sentUpTo(s); known && begin > slot.Confirmed {
		plan.Effects = append(plan.Effects, "Sent again, once the slot is adopted: what commits between "+span(slot.Confirmed, begin)+", with the same pos.")
	}
	plan.Effects = append(plan.Effects, fmt.Sprintf("The next start refuses (slot_unknown) until walferry slot adopt has it go on from %v.", slot.Confirmed))
	return plan, nil
}

// Drop plans to drop slot and publication. The checkpoint need not be known.
func (p *Pipeline) Drop(s State) (Plan, error) {
	if err := idle(s); err != nil {
		return Plan{}, err
	}
	v, slot := s.View, s.View.Server.Slot
	if slot == nil && !v.Published {
		return nothing(fmt.Sprintf("There is neither a slot %s nor a publication %s.", v.Server.Origin.Slot, p.Publication))
	}
	var plan Plan
	if slot != nil {
		if err := p.foreign(s); err != nil {
			return Plan{}, err
		}
		after := slot.Confirmed
		if begin, known := sentUpTo(s); known {
			after = begin
		}
		plan.Steps = append(plan.Steps, p.dropSlot(s))
		plan.Effects = append(plan.Effects, fmt.Sprintf("Not sent: every change that commits after %v; by now these are %d bytes of WAL.", after, uint64(max(v.Server.End, after)-after)))
	}
	remains := "the topics with all their records, and the checkpoint in " + p.Place
	switch {
	case v.Published && v.Owned:
		plan.Steps = append(plan.Steps, Step{
			Words: "drop the publication " + event.QuoteName(p.Publication),
			do:    func(ctx context.Context, p *Pipeline) error { return p.Keeper.DropPublication(ctx) },
		})
	case v.Published:
		remains += fmt.Sprintf("; and the publication, which belongs to %s. To drop it, have the owner run\n%s", v.Owner, p.Keeper.DropPublicationSQL())
	}
	plan.Effects = append(plan.Effects, "What remains: "+remains)
	return plan, nil
}

// foreign refuses a slot that somebody else made.
func (p *Pipeline) foreign(s State) error {
	_, err := checkpoint.Judge(nil, s.View.Server, checkpoint.JudgeOptions{AdoptSlot: true})
	switch fault.CodeOf(err) {
	case fault.SlotPlugin, fault.SlotDatabase, fault.SlotMissing:
		return err
	}
	return nil
}

// Do shows what a plan would do, and with yes does it. Say is called for each line to the operator.
func (p *Pipeline) Do(ctx context.Context, plan Planner, yes bool, say func(string)) (err error) {
	if !yes {
		made, err := plan(p.Look(ctx))
		if err != nil {
			return err
		}
		tell(made, say)
		if len(made.Steps) > 0 {
			say("Nothing was changed. To do it, give the command again with --yes.")
		}
		return nil
	}
	if err := p.Keeper.Lock(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Keeper.Close()) }()
	s := p.Look(ctx)
	made, err := plan(s)
	if err != nil {
		return err
	}
	tell(made, say)
	if made.writes {
		if err := p.claim(ctx, s); err != nil {
			return err
		}
	}
	for _, step := range made.Steps {
		if err := step.do(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", step.Words, err)
		}
		say("Done: " + step.Words + ".")
	}
	return nil
}

// tell says what a plan means and what it does.
func tell(plan Plan, say func(string)) {
	for _, line := range plan.Effects {
		say(line)
	}
	if len(plan.Steps) == 0 {
		say("Nothing to do.")
	}
	for i, step := range plan.Steps {
		say(fmt.Sprintf("Step %d: %s.", i+1, step.Words))
	}
}

// claim shuts out every other writer, and makes sure that none has written since the plan was made.
func (p *Pipeline) claim(ctx context.Context, s State) error {
	rec, err := p.Store.Acquire(ctx)
	if err != nil && !unreadable(err) {
		return err
	}
	was := s.Record
	same := rec == nil && was == nil || rec != nil && was != nil && rec.Instance == was.Instance && rec.Time.Equal(was.Time)
	if !same || fault.CodeOf(err) != fault.CodeOf(s.RecordErr) {
		return fault.New(fault.SlotBusy, "claim the checkpoint", errors.New("it has changed since it was read: an instance is active"), "Stop every instance of the pipeline first, standbys too.")
	}
	return nil
}
