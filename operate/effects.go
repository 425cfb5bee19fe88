package operate

import (
	"fmt"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// sentUpTo returns the LSN up to which everything is in the topics, or cannot be sent any more, and
// whether that is known: only a record of this very stream tells.
func sentUpTo(s State) (event.LSN, bool) {
	rec, srv := s.Record, s.View.Server
	if rec == nil || rec.Intent || rec.Origin != srv.Origin || strayed(s) {
		return 0, false
	}
	if srv.Slot != nil {
		return max(rec.End, srv.Slot.Confirmed), true
	}
	return rec.End, true
}

// strayed tells whether the record is of a history that the server left before it: its LSNs then mean
// other changes.
func strayed(s State) bool {
	rec, srv := s.Record, s.View.Server
	if rec == nil || rec.Timeline == srv.Timeline {
		return false
	}
	for _, ended := range srv.Switches {
		if ended.Timeline == rec.Timeline {
			return rec.End > ended.At || rec.Partial.Commit >= ended.At && !rec.Partial.IsZero()
		}
	}
	return true
}

// effects says what it means to begin at an LSN.
func effects(s State, to event.LSN) []string {
	slot, end := s.View.Server.Slot, s.View.Server.End
	begin, known := sentUpTo(s)
	if !known {
		return unknownEffects(s, to)
	}
	var lost, again []string
	rec := s.Record
	if rec.End < slot.Confirmed {
		lost = append(lost, fmt.Sprintf("what commits between %s; the slot does not give it any more, whatever is chosen", span(rec.End, slot.Confirmed)))
	}
	if to > begin {
		lost = append(lost, "what commits between "+span(begin, to))
	}
	if last := min(rec.End, end); to < last {
		again = append(again, fmt.Sprintf("what commits between %s, with the same pos", span(to, last)))
	}
	if commit := rec.Partial.Commit; !rec.Partial.IsZero() {
		which := fmt.Sprintf("the transaction that commits at %v", commit)
		switch {
		case to > commit:
			lost = append(lost, fmt.Sprintf("of %s what comes after its change %d", which, rec.Partial.Seq))
		case commit < end:
			again = append(again, fmt.Sprintf("%s, from its beginning; its first %d changes are in the topics", which, rec.Partial.Seq))
		}
	}
	lines := append(list("Not sent", lost), list("Sent again", again)...)
	if rec.End > end {
		lines = append(lines, fmt.Sprintf("The topics hold changes up to %v, of which this server has none after %v. They stay, and new changes get the same positions.", rec.End, end))
	}
	return lines
}

// unknownEffects says it where no checkpoint tells how far the topics got.
func unknownEffects(s State, to event.LSN) []string {
	confirmed := s.View.Server.Slot.Confirmed
	lines := []string{fmt.Sprintf("Not sent: what commits before %v, as far as it is not in the topics already; the slot does not give it any more.", confirmed)}
	if to > confirmed {
		lines = append(lines, fmt.Sprintf("Not sent: what commits between %s, as far as it is not in the topics already.", span(confirmed, to)))
	}
	lines = append(lines, fmt.Sprintf("Sent again: what commits at or after %v and is in the topics already; how much that is, no checkpoint tells.", to))
	return append(lines, about(s)...)
}

// about says what becomes of a checkpoint that tells nothing about this stream.
func about(s State) []string {
	rec, srv := s.Record, s.View.Server
	switch {
	case fault.Is(s.RecordErr, fault.CheckpointLost):
		return []string{"The checkpoint is gone, and with it the partition counts of the topics: one that has grown meanwhile is not noticed."}
	case s.RecordErr != nil:
		return []string{"The checkpoint cannot be read and is replaced, with the partition counts of the topics: one that has grown meanwhile is not noticed."}
	case rec == nil || rec.Intent:
		return nil
	case rec.Origin != srv.Origin:
		return []string{fmt.Sprintf("The checkpoint at %v is of cluster %s, database %s, slot %s, and is replaced: what was not sent of that is not sent.",
			rec.End, rec.SystemID, rec.Database, rec.Slot)}
	case strayed(s):
		return []string{fmt.Sprintf("The checkpoint at %v is of timeline %d, which this server left before it, and is replaced. Changes of that history stay in the topics, and new ones get the same positions.",
			rec.End, rec.Timeline)}
	}
	return nil
}

// list writes what a heading holds, a line each, or that it is nothing.
func list(heading string, items []string) []string {
	if len(items) == 0 {
		return []string{heading + ": nothing."}
	}
	lines := make([]string, len(items))
	for i, item := range items {
		lines[i] = heading + ": " + item + "."
	}
	return lines
}

func span(from, to event.LSN) string {
	return fmt.Sprintf("%v and %v (%d bytes of WAL)", from, to, uint64(to-from))
}
