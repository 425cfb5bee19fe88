package checkpoint

import (
	"strings"
	"testing"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

var here = event.Origin{SystemID: "7000", Database: "shop", Slot: "walferry_shop"}

// healthySlot is confirmed up to 1000, the server's WAL ends at 5000, on timeline 3 whose
// ancestors ended at 500 and 3000.
func healthySlot() *event.Slot {
	return &event.Slot{Plugin: "pgoutput", Database: "shop", WALStatus: "reserved", Restart: 900, Confirmed: 1000}
}

func healthyServer() event.Server {
	return event.Server{
		Origin: here, Version: 180004, Timeline: 3, End: 5000, Slot: healthySlot(),
		Switches: []event.Switch{{Timeline: 1, At: 500}, {Timeline: 2, At: 3000}},
	}
}

func fullRecord(end event.LSN) *Record {
	return &Record{Version: 1, Origin: here, Timeline: 3, End: end, Fingerprint: "f"}
}

func intentRecord() *Record { return &Record{Version: 1, Intent: true, Origin: here} }

// situation is what a case changes about a healthy start.
type situation struct {
	rec *Record
	srv event.Server
	opt JudgeOptions
}

func TestJudge(t *testing.T) {
	partial := event.Position{Commit: 4000, Seq: 7}
	noSlot := func(s *situation) { s.srv.Slot = nil }
	cases := []struct {
		name   string
		change func(*situation)
		want   Decision
		code   fault.Code // "" for a decision
		says   []string   // what the error or the hint must name
	}{
		// Nothing stored.
		{"neither", func(s *situation) { s.rec = nil; noSlot(s) }, Decision{CreateSlot: true}, "", nil},
		{"neither, create off", func(s *situation) { s.rec = nil; noSlot(s); s.opt.CreateSlot = false }, Decision{}, fault.SlotMissing,
			[]string{"postgres.slot.create", "pg_create_logical_replication_slot('walferry_shop', 'pgoutput')"}},
		{"slot without record", func(s *situation) { s.rec = nil }, Decision{}, fault.SlotUnknown,
			[]string{"walferry slot adopt", "0/3E8", "pg_drop_replication_slot('walferry_shop')"}},
		{"slot adopted", func(s *situation) { s.rec = nil; s.opt.AdoptSlot = true }, Decision{End: 1000}, "", nil},
		{"adopted slot is past the server", func(s *situation) { s.rec = nil; s.opt.AdoptSlot = true; s.srv.Slot.Confirmed = 5001 }, Decision{}, fault.CheckpointAhead,
			[]string{"0/1389", "0/1388"}},
		{"unknown slot of another plugin", func(s *situation) { s.rec = nil; s.srv.Slot.Plugin = "wal2json" }, Decision{}, fault.SlotPlugin, []string{"wal2json"}},
		{"adopted slot is lost", func(s *situation) { s.rec = nil; s.opt.AdoptSlot = true; s.srv.Slot.WALStatus = "lost" }, Decision{}, fault.SlotLost, nil},

		// An intent.
		{"intent without slot", func(s *situation) { s.rec = intentRecord(); noSlot(s) }, Decision{CreateSlot: true}, "", nil},
		{"intent without slot, create off", func(s *situation) { s.rec = intentRecord(); noSlot(s); s.opt.CreateSlot = false }, Decision{}, fault.SlotMissing, nil},
		{"intent and slot", func(s *situation) { s.rec = intentRecord() }, Decision{End: 1000}, "", nil},
		{"intent and slot past the server", func(s *situation) { s.rec = intentRecord(); s.srv.Slot.Confirmed = 9000 }, Decision{}, fault.CheckpointAhead, nil},
		{"intent and a slot that a predecessor's walsender is making", func(s *situation) {
			s.rec = intentRecord()
			s.srv.Slot.Confirmed, s.srv.Slot.Active, s.srv.Slot.PID = 0, true, 77
		}, Decision{}, fault.PostgresUnavailable, []string{"process 77"}},
		{"intent of another database", func(s *situation) { s.rec = intentRecord(); s.rec.Database = "old" }, Decision{}, fault.CheckpointOrigin, []string{`"old"`, `"shop"`}},
		{"intent and lost slot", func(s *situation) { s.rec = intentRecord(); s.srv.Slot.WALStatus = "lost" }, Decision{}, fault.SlotLost, nil},

		// A record, all well.
		{"record ahead of slot", func(*situation) {}, Decision{End: 2000}, "", nil},
		{"record at slot", func(s *situation) { s.rec.End = 1000 }, Decision{End: 1000}, "", nil},
		{"record at the server's end", func(s *situation) { s.rec.End = 5000 }, Decision{End: 5000}, "", nil},
		{"record in mid-transaction", func(s *situation) { s.rec.Partial = partial }, Decision{End: 2000, Partial: partial}, "", nil},
		{"other fingerprint", func(s *situation) { s.rec.Partial = partial; s.opt.Fingerprint = "g" }, Decision{End: 2000, Changed: true}, "", nil},
		{"other fingerprint within a split transaction, exactly once", func(s *situation) { s.rec.Partial = partial; s.opt.Fingerprint = "g"; s.opt.ExactlyOnce = true }, Decision{}, fault.CheckpointOptions,
			[]string{"walferry checkpoint set --lsn 0/7D0"}},
		{"other fingerprint, exactly once", func(s *situation) { s.opt.Fingerprint = "g"; s.opt.ExactlyOnce = true }, Decision{End: 2000, Changed: true}, "", nil},
		{"slot in use", func(s *situation) { s.srv.Slot.Active = true; s.srv.Slot.PID = 7 }, Decision{End: 2000}, "", nil},
		{"WAL kept beyond the limit", func(s *situation) { s.srv.Slot.WALStatus = "unreserved" }, Decision{End: 2000}, "", nil},
		{"server does not say the WAL status", func(s *situation) { s.srv.Slot.WALStatus = "" }, Decision{End: 2000}, "", nil},

		// Another stream.
		{"other cluster", func(s *situation) { s.rec.SystemID = "6000" }, Decision{}, fault.CheckpointOrigin, []string{"6000", "7000"}},
		{"other database", func(s *situation) { s.rec.Database = "old" }, Decision{}, fault.CheckpointOrigin, []string{`"old"`, `"shop"`}},
		{"other slot name", func(s *situation) { s.rec.Slot = "was" }, Decision{}, fault.CheckpointOrigin, []string{"was", "walferry_shop"}},
		{"other cluster explains missing slot", func(s *situation) { s.rec.SystemID = "6000"; noSlot(s) }, Decision{}, fault.CheckpointOrigin, nil},
		{"other cluster explains ahead", func(s *situation) { s.rec.SystemID = "6000"; s.rec.End = 9000 }, Decision{}, fault.CheckpointOrigin, nil},

		// History.
		{"promoted, record before the switch", func(s *situation) { s.rec.Timeline = 2 }, Decision{End: 2000}, "", nil},
		{"promoted, record at the switch", func(s *situation) { s.rec.Timeline = 2; s.rec.End = 3000 }, Decision{End: 3000}, "", nil},
		{"promoted, record after the switch", func(s *situation) { s.rec.Timeline = 2; s.rec.End = 3001 }, Decision{}, fault.CheckpointTimeline, []string{"0/BB8", "0/BB9", "timeline 2", "walferry checkpoint set --lsn 0/BB8"}},
		{"promoted twice, record after the first switch", func(s *situation) { s.rec.Timeline = 1 }, Decision{}, fault.CheckpointTimeline, []string{"0/1F4", "timeline 1"}},
		{"promoted, partial before the switch", func(s *situation) {
			s.rec.Timeline, s.rec.Partial = 2, event.Position{Commit: 2999, Seq: 1}
		}, Decision{End: 2000, Partial: event.Position{Commit: 2999, Seq: 1}}, "", nil},
		{"promoted, partial at the switch", func(s *situation) {
			s.rec.Timeline, s.rec.Partial = 2, event.Position{Commit: 3000, Seq: 1}
		}, Decision{}, fault.CheckpointTimeline, []string{"0/BB8"}},
		{"history without the record's timeline", func(s *situation) { s.rec.Timeline = 2; s.srv.Switches = s.srv.Switches[:1] }, Decision{}, fault.CheckpointTimeline, []string{"timeline 2", "timeline 3"}},
		{"former primary", func(s *situation) { s.rec.Timeline = 4 }, Decision{}, fault.CheckpointTimeline, []string{"former primary"}},
		{"divergence explains missing slot", func(s *situation) { s.rec.Timeline = 2; s.rec.End = 3001; noSlot(s) }, Decision{}, fault.CheckpointTimeline, nil},
		{"divergence explains ahead", func(s *situation) { s.rec.Timeline = 2; s.rec.End = 9000 }, Decision{}, fault.CheckpointTimeline, nil},

		// Ahead of the server.
		{"ahead", func(s *situation) { s.rec.End = 5001 }, Decision{}, fault.CheckpointAhead, []string{"0/1389", "0/1388"}},
		{"partial ahead", func(s *situation) { s.rec.Partial = event.Position{Commit: 5000, Seq: 1} }, Decision{}, fault.CheckpointAhead, []string{"0/1388"}},
		{"ahead explains missing slot", func(s *situation) { s.rec.End = 5001; noSlot(s) }, Decision{}, fault.CheckpointAhead, nil},

		// The slot.
		{"record without slot", noSlot, Decision{}, fault.SlotMissing, []string{"0/7D0", "walferry_shop", "walferry checkpoint set --now"}},
		{"record without slot, adopt on", func(s *situation) { noSlot(s); s.opt.AdoptSlot = true }, Decision{}, fault.SlotMissing, nil},
		{"promoted without slot", func(s *situation) { noSlot(s); s.rec.Timeline = 2 }, Decision{}, fault.SlotMissing, []string{"promoted (timeline 2 to 3, at 0/BB8)", "failover"}},
		{"temporary slot", func(s *situation) { s.srv.Slot.Temporary = true }, Decision{}, fault.SlotMissing, []string{"temporary"}},
		{"lost slot", func(s *situation) { s.srv.Slot.WALStatus = "lost" }, Decision{}, fault.SlotLost, []string{"wal_status", "walferry checkpoint set --now"}},
		{"invalidated slot", func(s *situation) { s.srv.Slot.Invalidation = "idle_timeout" }, Decision{}, fault.SlotLost, []string{"idle_timeout"}},
		{"lost slot explains gap", func(s *situation) { s.srv.Slot.WALStatus = "lost"; s.srv.Slot.Confirmed = 4000 }, Decision{}, fault.SlotLost, nil},
		{"two-phase slot", func(s *situation) { s.srv.Slot.TwoPhase = true }, Decision{}, fault.SlotTwoPhase, []string{"two_phase"}},
		{"other plugin", func(s *situation) { s.srv.Slot.Plugin = "test_decoding" }, Decision{}, fault.SlotPlugin, []string{"test_decoding"}},
		{"other plugin explains two-phase", func(s *situation) { s.srv.Slot.Plugin = "x"; s.srv.Slot.TwoPhase = true }, Decision{}, fault.SlotPlugin, nil},
		{"slot of another database", func(s *situation) { s.srv.Slot.Database = "crm" }, Decision{}, fault.SlotDatabase, []string{`"crm"`, `"shop"`}},

		// The gap.
		{"gap", func(s *situation) { s.srv.Slot.Confirmed = 2001 }, Decision{}, fault.CheckpointGap, []string{"0/7D0", "0/7D1", "walferry checkpoint accept-gap"}},
		{"gap, adopt on", func(s *situation) { s.srv.Slot.Confirmed = 2001; s.opt.AdoptSlot = true }, Decision{}, fault.CheckpointGap, nil},
		{"gap beyond the server", func(s *situation) { s.srv.Slot.Confirmed = 9000 }, Decision{}, fault.CheckpointGap, []string{"0/2328"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := situation{rec: fullRecord(2000), srv: healthyServer(), opt: JudgeOptions{CreateSlot: true, Fingerprint: "f"}}
			c.change(&s)
			got, err := Judge(s.rec, s.srv, s.opt)
			if got != c.want {
				t.Errorf("decision %+v, want %+v", got, c.want)
			}
			if c.code == "" {
				if err != nil {
					t.Errorf("unexpected error: %v", err)
				}
				return
			}
			if !fault.Is(err, c.code) {
				t.Fatalf("error %v, want code %s", err, c.code)
			}
			text := err.Error() + "\n" + fault.Of(err).Hint
			for _, want := range c.says {
				if !strings.Contains(text, want) {
					t.Errorf("%q does not name %q", text, want)
				}
			}
		})
	}
}

// TestJudgeEverySituation crosses all states that Judge looks at and holds each answer against
// what may never happen, said without regard to which cause is named.
func TestJudgeEverySituation(t *testing.T) {
	decisions, refusals := 0, 0
	everySituation(func(s situation) {
		d, err := Judge(s.rec, s.srv, s.opt)
		if err != nil {
			refusals++
			e := fault.Of(err)
			if e == nil || e.Code.Kind() != fault.KindPerson || e.Hint == "" || e.Err == nil {
				t.Fatalf("%+v: the refusal %v lacks a code, a cause or a hint, or is not for a person", s, err)
			}
			return
		}
		decisions++
		if wrong := neverAllowed(s, d); wrong != "" {
			t.Fatalf("record %+v, server %+v, slot %+v, options %+v: decided %+v: %s", s.rec, s.srv, s.srv.Slot, s.opt, d, wrong)
		}
	})
	if decisions == 0 || refusals == 0 {
		t.Fatalf("%d decisions, %d refusals: the test does not cover both", decisions, refusals)
	}
	t.Logf("%d decisions, %d refusals", decisions, refusals)
}

// neverAllowed says why a decision is wrong, "" if it is not.
func neverAllowed(s situation, d Decision) string {
	full := s.rec != nil && !s.rec.Intent
	slot := s.srv.Slot
	switch {
	case s.rec != nil && s.rec.Origin != s.srv.Origin:
		return "the record is of another stream"
	case d.CreateSlot:
		if full || slot != nil || !s.opt.CreateSlot || d != (Decision{CreateSlot: true}) {
			return "a slot is created beside a record or a slot, or against the settings"
		}
		return ""
	case slot == nil:
		return "goes on without a slot"
	case slot.Plugin != "pgoutput" || slot.Database != "shop" || slot.TwoPhase || slot.Temporary || slot.WALStatus == "lost" || slot.Invalidation != "":
		return "goes on with a slot that cannot be used"
	case s.rec == nil && !s.opt.AdoptSlot:
		return "takes a slot nobody gave it"
	case d.End < slot.Confirmed:
		return "leaves a gap"
	case d.End > s.srv.End || d.Partial.Commit >= s.srv.End:
		return "starts in the future"
	case !full && (d.End != slot.Confirmed || d.Changed || !d.Partial.IsZero()):
		return "makes a position up"
	case full && d.End != s.rec.End:
		return "does not go on where the record is"
	case full && s.rec.Timeline > s.srv.Timeline, full && s.rec.Timeline == 2 && s.rec.End > 3000, full && s.rec.Timeline == 1 && s.rec.End > 500:
		return "goes on from a history that the server does not share"
	case d.Changed != (full && s.rec.Fingerprint != s.opt.Fingerprint), d.Changed && !d.Partial.IsZero():
		return "trusts a sequence under other settings"
	}
	return ""
}

func everySituation(visit func(situation)) {
	for _, rec := range everyRecord() {
		for _, slot := range everySlot() {
			for flags := range 8 {
				srv := healthyServer()
				srv.Slot = slot
				opt := JudgeOptions{AdoptSlot: flags&1 != 0, CreateSlot: flags&2 != 0, Fingerprint: "f"}
				if flags&4 != 0 {
					opt.Fingerprint = "g"
				}
				visit(situation{rec, srv, opt})
			}
		}
	}
}

func everyRecord() []*Record {
	all := []*Record{nil, intentRecord()}
	for _, origin := range []event.Origin{here, {SystemID: "6000", Database: "shop", Slot: "walferry_shop"}, {SystemID: "7000", Database: "old", Slot: "walferry_shop"}, {SystemID: "7000", Database: "shop", Slot: "was"}} {
		for timeline := range uint32(5) {
			for _, end := range []event.LSN{400, 500, 501, 1000, 2000, 3000, 3001, 5000, 5001} {
				for _, partial := range []event.Position{{}, {Commit: end, Seq: 1}, {Commit: end + 600, Seq: 1}} {
					all = append(all, &Record{Version: 1, Origin: origin, Timeline: timeline, End: end, Partial: partial, Fingerprint: "f"})
				}
			}
		}
	}
	return all
}

func everySlot() []*event.Slot {
	all := []*event.Slot{nil}
	for _, confirmed := range []event.LSN{400, 1000, 2001, 4999, 5001} {
		for _, spoil := range []func(*event.Slot){
			func(*event.Slot) {}, func(s *event.Slot) { s.Plugin = "x" }, func(s *event.Slot) { s.Database = "crm" },
			func(s *event.Slot) { s.TwoPhase = true }, func(s *event.Slot) { s.Temporary = true },
			func(s *event.Slot) { s.WALStatus = "lost" }, func(s *event.Slot) { s.Invalidation = "wal_removed" },
		} {
			slot := healthySlot()
			slot.Confirmed = confirmed
			spoil(slot)
			all = append(all, slot)
		}
	}
	return all
}
