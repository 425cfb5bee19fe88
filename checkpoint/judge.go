package checkpoint

import (
	"errors"
	"fmt"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// JudgeOptions are the settings that decide a start.
type JudgeOptions struct {
	// AdoptSlot takes over a slot for which there is no checkpoint.
	AdoptSlot bool
	// CreateSlot creates the slot where there is neither slot nor checkpoint.
	CreateSlot bool
	// ExactlyOnce refuses to publish a transaction again of which a part was published.
	ExactlyOnce bool
	// Fingerprint is the one of publication and options as they are now.
	Fingerprint string
}

// Decision is how to start. Where CreateSlot is set: save an intent, create the slot, go on from
// the position it was created at. Otherwise the slot is there: publish what comes after End and Partial.
type Decision struct {
	CreateSlot bool
	// End is the LSN up to which nothing is published again, zero with CreateSlot. It is at or
	// after the slot's confirmed position, and within the server's WAL.
	End event.LSN
	// Partial is the last change of the transaction after End that is not published again, zero
	// where there is none.
	Partial event.Position
	// Changed says that publication or options are not those of the record. The sequence of the
	// stream may differ, so Partial is zero: that transaction is published again from its beginning.
	Changed bool
}

const judging = "compare checkpoint and slot"

// Judge decides how to start from what is stored and what the server has; rec is nil where there
// is no checkpoint. Every state that could mean a silent gap, a foreign stream or a phantom is a
// *fault.Error: of several causes it names the one that explains the others.
func Judge(rec *Record, srv event.Server, opt JudgeOptions) (Decision, error) {
	if rec != nil {
		if err := sameOrigin(rec.Origin, srv.Origin); err != nil {
			return Decision{}, err
		}
	}
	if rec == nil || rec.Intent {
		return judgeFresh(rec, srv, opt)
	}
	// A server that was replaced by an older or a diverged copy often lacks the slot as well: its
	// history is the cause, the slot a symptom.
	for _, check := range []func(*Record, event.Server) error{sameHistory, notAhead, slotThere, noGap} {
		if err := check(rec, srv); err != nil {
			return Decision{}, err
		}
	}
	d := Decision{End: rec.End, Partial: rec.Partial, Changed: rec.Fingerprint != opt.Fingerprint}
	if d.Changed {
		if opt.ExactlyOnce && !rec.Partial.IsZero() {
			return Decision{}, refuseChanged(rec)
		}
		d.Partial = event.Position{}
	}
	return d, nil
}

// refuseChanged refuses to go on in the middle of a transaction that was split under other settings.
func refuseChanged(rec *Record) error {
	f := fault.New(fault.CheckpointOptions, "compare checkpoint and settings",
		fmt.Errorf("the transaction that commits at %s is published in part, and publication or stream options have changed since", rec.Partial.Commit),
		"Go on with the publication as it was until that transaction is through, then change it. Or repeat the transaction: start once with delivery: at_least_once, or\n"+
			fmt.Sprintf("walferry checkpoint set --lsn %v", rec.End))
	f.LSN = rec.Partial.Commit
	return f
}

// judgeFresh decides where nothing was checkpointed yet: rec is nil or an intent.
func judgeFresh(rec *Record, srv event.Server, opt JudgeOptions) (Decision, error) {
	slot := srv.Slot
	if slot == nil {
		if opt.CreateSlot {
			return Decision{CreateSlot: true}, nil
		}
		return Decision{}, fault.New(fault.SlotMissing, judging,
			fmt.Errorf("the slot %s does not exist and postgres.slot.create is false", srv.Origin.Slot),
			fmt.Sprintf("Set postgres.slot.create: true, or create it and have the pipeline adopt it:\n"+
				"SELECT pg_create_logical_replication_slot('%s', 'pgoutput');\nwalferry slot adopt", srv.Origin.Slot))
	}
	if err := usable(slot, srv); err != nil {
		return Decision{}, err
	}
	if slot.Confirmed.IsZero() {
		return Decision{}, fault.New(fault.PostgresUnavailable, judging,
			fmt.Errorf("the slot %s is being made by process %d", srv.Origin.Slot, slot.PID),
			"If whoever makes it has ended, the server will notice and remove it. It waits for every transaction to end that was running when it began.")
	}
	if rec == nil && !opt.AdoptSlot {
		return Decision{}, fault.New(fault.SlotUnknown, judging,
			fmt.Errorf("the slot %s exists (confirmed up to %v), but there is no checkpoint for it", srv.Origin.Slot, slot.Confirmed),
			fmt.Sprintf("If it serves something else, choose another postgres.slot.name. If it is this pipeline's, go on from %v (what the slot has confirmed is not sent):\n"+
				"walferry slot adopt\nIf nothing needs it:\n%s", slot.Confirmed, dropSQL(srv.Origin.Slot)))
	}
	if slot.Confirmed > srv.End {
		e := fault.New(fault.CheckpointAhead, judging,
			fmt.Errorf("the slot %s is confirmed up to %v, but the server's WAL ends at %v", srv.Origin.Slot, slot.Confirmed, srv.End),
			"Something confirmed a position that does not exist yet: the server would leave out every change up to it without a word. "+anewHint)
		e.LSN = slot.Confirmed
		return Decision{}, e
	}
	return Decision{End: slot.Confirmed}, nil
}

// sameOrigin refuses a record of another stream: its LSNs mean nothing here.
func sameOrigin(rec, srv event.Origin) error {
	var what, hint string
	switch {
	case rec.SystemID != srv.SystemID:
		what = fmt.Sprintf("the checkpoint is of the Postgres cluster %s, this is cluster %s", rec.SystemID, srv.SystemID)
		hint = "The server was restored from a dump, upgraded by pg_upgrade, or is another one. If postgres.url is wrong, correct it. "
	case rec.Database != srv.Database:
		what = fmt.Sprintf("the checkpoint is of the database %q, this is %q", rec.Database, srv.Database)
		hint = "If postgres.url is wrong, correct it. "
	case rec.Slot != srv.Slot:
		what = fmt.Sprintf("the checkpoint is of the slot %s, configured is %s", rec.Slot, srv.Slot)
		hint = "If postgres.slot.name is wrong, correct it. "
	default:
		return nil
	}
	return fault.New(fault.CheckpointOrigin, judging, errors.New(what),
		hint+"To capture this one beside the other, give it a name (and topics) of its own. To go on here in place of the other, where "+
			"changes that the other never sent are then missing from the topics:\n"+adoptHint+"\nwalferry checkpoint set --now")
}

// sameHistory refuses a record that is not an ancestor of the server's present: after a failover
// to a standby that lagged, changes were published that the new primary never had.
func sameHistory(rec *Record, srv event.Server) error {
	refuse := func(begin, format string, args ...any) error {
		e := fault.New(fault.CheckpointTimeline, judging, fmt.Errorf(format, args...),
			"The topics may hold changes that this server does not have. Go back to the server that has them, or accept it: compare the tables with "+
				"what consumers hold, and choose where to begin:\n"+begin+"\nwalferry checkpoint set --now\n"+
				"To prevent it on 17 and later, name the standby's physical slot in synchronized_standby_slots.")
		e.LSN = rec.End
		return e
	}
	switch {
	case srv.Timeline == rec.Timeline:
		return nil
	case srv.Timeline < rec.Timeline:
		return refuse(adoptHint, "the server is on timeline %d, the checkpoint on the later timeline %d: this looks like a former primary", srv.Timeline, rec.Timeline)
	}
	// A commit record that begins at the switch is not part of the timeline any more.
	switch at := switchPoint(rec, srv); {
	case at.IsZero():
	case rec.End > at, !rec.Partial.IsZero() && rec.Partial.Commit >= at:
		return refuse(fmt.Sprintf("walferry checkpoint set --lsn %v (the switch point, where the slot still has it)", at), "timeline %d ended at %v in this server's history, before the checkpoint %s", rec.Timeline, at, place(rec))
	default:
		return nil
	}
	return refuse(adoptHint, "the history of the server's timeline %d does not contain timeline %d of the checkpoint", srv.Timeline, rec.Timeline)
}

// notAhead refuses a record that lies in a future the server has not reached: asking for it would
// leave out every change up to there without a word.
func notAhead(rec *Record, srv event.Server) error {
	if rec.End <= srv.End && (rec.Partial.IsZero() || rec.Partial.Commit < srv.End) {
		return nil
	}
	e := fault.New(fault.CheckpointAhead, judging,
		fmt.Errorf("the checkpoint is at %s, but the server's WAL ends at %v", place(rec), srv.End),
		"The server went back in time: it is an older copy of its data, or lost WAL in a crash (fsync = off). The topics hold changes that it does not have. "+
			"Compare the tables with what consumers hold, and choose where to begin:\nwalferry checkpoint set --now\nwalferry checkpoint set --lsn X/Y")
	e.LSN = rec.End
	return e
}

// slotThere refuses a record whose slot is gone or cannot be used. A new slot would begin at the
// present: the changes between would be missing without a word.
func slotThere(rec *Record, srv event.Server) error {
	if srv.Slot != nil {
		return usable(srv.Slot, srv)
	}
	hint := fmt.Sprintf("Changes after %v are not kept for this pipeline any more. If they may be missing from the topics, begin with the present, and bring the consumers up to date by other means:\n"+
		"walferry checkpoint set --now", rec.End)
	what := fmt.Sprintf("there is a checkpoint at %s, but the slot %s does not exist", place(rec), rec.Slot)
	if srv.Timeline > rec.Timeline {
		what += fmt.Sprintf("; the server was promoted (timeline %d to %d, at %v) and the slot did not come along", rec.Timeline, srv.Timeline, switchPoint(rec, srv))
		hint = "Where the old primary is still there, deliver from it first. " + hint +
			"\nOn 17 and later a slot with failover = true, synchronized to the standby (sync_replication_slots), survives a promotion."
	}
	e := fault.New(fault.SlotMissing, judging, errors.New(what), hint)
	e.LSN = rec.End
	return e
}

// switchPoint is where the record's timeline ended in the server's history, zero where it is not part of it.
func switchPoint(rec *Record, srv event.Server) event.LSN {
	for _, s := range srv.Switches {
		if s.Timeline == rec.Timeline {
			return s.At
		}
	}
	return 0
}

// noGap refuses a slot that was moved past the record: the server would begin behind it, however
// early it is asked to, and say nothing.
func noGap(rec *Record, srv event.Server) error {
	if rec.End >= srv.Slot.Confirmed {
		return nil
	}
	e := fault.New(fault.CheckpointGap, judging,
		fmt.Errorf("the checkpoint is at %v, but the slot %s is confirmed up to %v", rec.End, rec.Slot, srv.Slot.Confirmed),
		fmt.Sprintf("Something else read from the slot or advanced it, or the checkpoint was restored from an older copy. What was committed between %v and %v "+
			"cannot be read any more. If the checkpoint is an old copy, put the newest one back. Else find out what is missing by comparing the tables with what consumers hold, "+
			"and go on from %[2]v:\nwalferry checkpoint accept-gap", rec.End, srv.Slot.Confirmed))
	e.LSN = rec.End
	return e
}

// usable refuses a slot that cannot be streamed from, or not with what is expected in it.
func usable(slot *event.Slot, srv event.Server) error {
	name := srv.Origin.Slot
	refuse := func(code fault.Code, what, hint string) error {
		return fault.New(code, judging, errors.New(what), hint)
	}
	switch {
	case slot.Temporary:
		return refuse(fault.SlotMissing, fmt.Sprintf("the slot %s is a temporary one: it belongs to another session and ends with it", name),
			"Choose another postgres.slot.name, or end that session. On a standby it is a slot whose synchronization has not finished.")
	case slot.Plugin != "pgoutput":
		return refuse(fault.SlotPlugin, fmt.Sprintf("the slot %s uses the plugin %q", name, slot.Plugin),
			"walferry reads pgoutput. The slot seems to serve something else: choose another postgres.slot.name. If nothing needs it:\n"+dropSQL(name))
	case slot.Database != srv.Origin.Database:
		return refuse(fault.SlotDatabase, fmt.Sprintf("the slot %s is one of the database %q, connected is %q", name, slot.Database, srv.Origin.Database),
			"Slot names are shared by all databases of a server: choose another postgres.slot.name, or correct the database in postgres.url.")
	case slot.TwoPhase:
		return refuse(fault.SlotTwoPhase, fmt.Sprintf("the slot %s was created with two_phase", name),
			"Such a slot sends prepared transactions before they are committed. "+anewHint)
	case slot.Invalidation != "" || slot.WALStatus == "lost":
		reason := slot.Invalidation
		if reason == "" {
			reason = "wal_status is lost"
		}
		return refuse(fault.SlotLost, fmt.Sprintf("the slot %s was invalidated by the server: %s; it had confirmed %v", name, reason, slot.Confirmed),
			"The server has dropped what the slot needs, so that changes are missing from here on. Find out why (max_slot_wal_keep_size, idle_replication_slot_timeout, wal_level). "+
				anewHint+"\nBring the consumers up to date by other means.")
	}
	return nil
}

const adoptHint = "walferry slot adopt (from what the slot has confirmed)"

// anewHint says how to begin anew with a slot that is of no use.
const anewHint = "To drop the slot and begin with the present:\nwalferry checkpoint set --now"

func dropSQL(slot string) string { return fmt.Sprintf("SELECT pg_drop_replication_slot('%s');", slot) }

// place prints where a record stands.
func place(rec *Record) string {
	if rec.Partial.IsZero() {
		return rec.End.String()
	}
	return fmt.Sprintf("%v, in the middle of the transaction that commits at %v", rec.End, rec.Partial.Commit)
}
