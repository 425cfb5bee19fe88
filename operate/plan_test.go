package operate

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/checkpoint"
	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/replication"
)

var here = event.Origin{SystemID: "7000", Database: "shop", Slot: "walferry_shop"}

// healthy is a pipeline that was stopped: the slot has confirmed 0x1000, the checkpoint is at 0x2000, the
// server's WAL ends at 0x5000.
func healthy() State {
	return State{
		Record: &checkpoint.Record{Version: 1, Origin: here, Timeline: 3, End: 0x2000, Fingerprint: "f", Partitions: map[string]int32{"t": 6}, Instance: "old", Time: time.Unix(1, 0)},
		View: replication.View{
			Server: event.Server{
				Origin: here, Version: 180004, Timeline: 3, End: 0x5000, Switches: []event.Switch{{Timeline: 1, At: 0x500}, {Timeline: 2, At: 0x1800}},
				Slot: &event.Slot{Plugin: "pgoutput", Database: "shop", WALStatus: "reserved", Restart: 0x800, Confirmed: 0x1000},
			},
			Published: true, Fingerprint: "f", Owned: true, Owner: "cdc",
		},
	}
}

func newPipeline() *Pipeline {
	return &Pipeline{
		Keeper: replication.NewKeeper(replication.Config{Publication: replication.PublicationConfig{Name: "walferry_shop"}}),
		Judge:  checkpoint.JudgeOptions{CreateSlot: true, ExactlyOnce: true}, Run: "new", Place: "the store", Publication: "walferry_shop",
	}
}

// plans are the commands by their names on the command line.
func plans(p *Pipeline) map[string]Planner {
	return map[string]Planner{
		"set --now": p.SetNow, "set --lsn 0/1800": p.SetLSN(0x1800), "set --lsn 0/3000": p.SetLSN(0x3000), "set --lsn 0/FFF": p.SetLSN(0xFFF), "set --lsn 0/5001": p.SetLSN(0x5001),
		"accept-gap": p.AcceptGap, "adopt": p.Adopt, "forget": p.Forget, "drop": p.Drop,
	}
}

// The situations that operators meet.
var (
	well    = func(*State) {}
	active  = func(s *State) { s.View.Server.Slot.Active, s.View.Server.Slot.PID = true, 7 }
	standby = func(s *State) { s.View.Standby = true }
	noSlot  = func(s *State) { s.View.Server.Slot = nil }
	noRec   = func(s *State) { s.Record = nil }
	neither = func(s *State) { noSlot(s); noRec(s) }
	intent  = func(s *State) {
		s.Record = &checkpoint.Record{Version: 1, Intent: true, Origin: here}
	}
	gap       = func(s *State) { s.View.Server.Slot.Confirmed = 0x4000 }
	lostSlot  = func(s *State) { s.View.Server.Slot.Invalidation = "wal_removed" }
	twoPhase  = func(s *State) { s.View.Server.Slot.TwoPhase = true }
	beyond    = func(s *State) { s.View.Server.Slot.Confirmed = 0x9000 }
	foreign   = func(s *State) { s.View.Server.Slot.Plugin = "wal2json" }
	elsewhere = func(s *State) { s.Record.SystemID = "6000" }
	ahead     = func(s *State) { s.Record.End = 0x6000 }
	diverged  = func(s *State) { s.Record.Timeline = 2 }
	split     = func(s *State) { s.Record.Partial = event.Position{Commit: 0x2800, Seq: 9} }
	changed   = func(s *State) { split(s); s.View.Fingerprint = "g" }
	corrupt   = func(s *State) { s.Record, s.RecordErr = nil, fault.New(fault.CheckpointInvalid, "read", nil, "") }
	newer     = func(s *State) { s.Record, s.RecordErr = nil, fault.New(fault.CheckpointNewer, "read", nil, "") }
	gone      = func(s *State) { s.Record, s.RecordErr = nil, fault.New(fault.CheckpointLost, "read", nil, "") }
	noKafka   = func(s *State) { s.Record, s.RecordErr = nil, fault.New(fault.KafkaUnavailable, "read", nil, "") }
	noServer  = func(s *State) { s.ViewErr = fault.New(fault.PostgresUnavailable, "connect", nil, "") }
	notOwned  = func(s *State) { s.View.Owned = false }
)

// TestPlans holds for each command and situation what it says and does, or the code it is refused with.
// A plan's steps are written as save X/Y, intent, forget, advance, slot, publication.
func TestPlans(t *testing.T) {
	for _, c := range []struct {
		command string
		name    string
		change  func(*State)
		steps   string
		code    fault.Code
		says    []string
	}{
		{"set --now", "well", well, "save a checkpoint at 0/5000; advance", "", []string{"Not sent: what commits between 0/2000 and 0/5000 (12288 bytes of WAL).", "Sent again: nothing."}},
		{"set --now", "active", active, "", fault.SlotBusy, []string{"process 7", "Stop every instance"}},
		{"set --now", "standby", standby, "", fault.PostgresUnavailable, []string{"standby"}},
		{"set --now", "split", split, "save; advance", "", []string{"of the transaction that commits at 0/2800 what comes after its change 9"}},
		{"set --now", "no slot", noSlot, "save in the store that the slot is to be made", "", []string{"every change that commits after 0/2000 and before the next start has made a new slot"}},
		{"set --now", "neither", neither, "", "", []string{"There is neither slot nor position"}},
		{"set --now", "intent", func(s *State) { intent(s); noSlot(s) }, "", "", []string{"There is neither slot nor position"}},
		{"set --now", "corrupt and no slot", func(s *State) { corrupt(s); noSlot(s) }, "save in the store that the slot is to be made", "", []string{"cannot be read and is replaced"}},
		{"set --now", "lost slot", lostSlot, "save in the store that the slot is to be made; drop the slot", "", []string{"after 0/2000"}},
		{"set --now", "two-phase slot", twoPhase, "save in the store that the slot is to be made; drop the slot", "", nil},
		{"set --now", "slot beyond the server", beyond, "save in the store that the slot is to be made; drop the slot", "", nil},
		{"set --now", "foreign slot", foreign, "", fault.SlotPlugin, nil},
		{"set --now", "gap", gap, "save a checkpoint at 0/5000; advance", "", []string{"between 0/2000 and 0/4000 (8192 bytes of WAL); the slot does not give it any more", "between 0/4000 and 0/5000"}},
		{"set --now", "elsewhere", elsewhere, "save; advance", "", []string{"is of cluster 6000"}},
		{"set --now", "diverged", diverged, "save; advance", "", []string{"of timeline 2, which this server left before it"}},
		{"set --now", "ahead", ahead, "save; advance", "", []string{"The topics hold changes up to 0/6000, of which this server has none after 0/5000."}},
		{"set --now", "Kafka away", noKafka, "", fault.KafkaUnavailable, nil},
		{"set --now", "Postgres away", noServer, "", fault.PostgresUnavailable, nil},

		{"set --lsn 0/3000", "well", well, "save a checkpoint at 0/3000; advance the slot walferry_shop from 0/1000 to 0/3000", "", []string{"Not sent: what commits between 0/2000 and 0/3000 (4096 bytes of WAL).", "Sent again: nothing."}},
		{"set --lsn 0/1800", "back", well, "save a checkpoint at 0/1800; advance", "", []string{"Not sent: nothing.", "Sent again: what commits between 0/1800 and 0/2000 (2048 bytes of WAL), with the same pos."}},
		{"set --lsn 0/1800", "split", split, "save; advance", "", []string{"Sent again: the transaction that commits at 0/2800, from its beginning; its first 9 changes are in the topics."}},
		{"set --lsn 0/1800", "split under other options", changed, "save; advance", "", []string{"from its beginning"}},
		{"set --lsn 0/1800", "diverged, to the switch point", diverged, "save; advance", "", []string{"Sent again: what commits at or after 0/1800"}},
		{"set --lsn 0/FFF", "confirmed already", well, "", fault.CheckpointGap, []string{"confirmed up to 0/1000", "nothing moves a slot back", "walferry checkpoint set --lsn 0/1000"}},
		{"set --lsn 0/5001", "in the future", well, "", fault.CheckpointAhead, []string{"ends at 0/5000"}},
		{"set --lsn 0/3000", "no slot", noSlot, "", fault.SlotMissing, []string{"walferry checkpoint set --now"}},
		{"set --lsn 0/3000", "lost slot", lostSlot, "", fault.SlotLost, []string{"walferry checkpoint set --now"}},
		{"set --lsn 0/3000", "newer", newer, "save; advance", "", []string{"cannot be read and is replaced"}},

		{"accept-gap", "gap", gap, "save a checkpoint at 0/4000", "", []string{"between 0/2000 and 0/4000 (8192 bytes of WAL); the slot does not give it any more", "Sent again: nothing."}},
		{"accept-gap", "well", well, "", "", []string{"There is no gap"}},
		{"accept-gap", "no record", noRec, "", fault.SlotUnknown, []string{"walferry slot adopt"}},
		{"accept-gap", "no slot", noSlot, "", fault.SlotMissing, []string{"walferry checkpoint set --now"}},
		{"accept-gap", "corrupt", corrupt, "", fault.CheckpointInvalid, nil},
		{"accept-gap", "active", active, "", fault.SlotBusy, nil},

		{"adopt", "no record", noRec, "save a checkpoint at 0/1000", "", []string{"Not sent: what commits before 0/1000", "Sent again: what commits at or after 0/1000"}},
		{"adopt", "well", well, "", "", []string{"is this pipeline's already"}},
		{"adopt", "intent", intent, "", "", []string{"is this pipeline's already"}},
		{"adopt", "corrupt", corrupt, "save a checkpoint at 0/1000", "", []string{"cannot be read"}},
		{"adopt", "gone", gone, "save a checkpoint at 0/1000", "", []string{"partition counts"}},
		{"adopt", "elsewhere", elsewhere, "save a checkpoint at 0/1000", "", []string{"6000"}},
		{"adopt", "ahead", ahead, "save a checkpoint at 0/1000", "", []string{"between 0/1000 and 0/5000"}},
		{"adopt", "gap", gap, "", fault.CheckpointGap, []string{"walferry checkpoint accept-gap"}},
		{"adopt", "no slot", func(s *State) { neither(s) }, "", fault.SlotMissing, []string{"walferry checkpoint set --now"}},
		{"adopt", "lost slot", func(s *State) { noRec(s); lostSlot(s) }, "", fault.SlotLost, nil},
		{"adopt", "slot beyond the server", func(s *State) { noRec(s); beyond(s) }, "", fault.CheckpointAhead, nil},
		{"adopt", "foreign slot", func(s *State) { noRec(s); foreign(s) }, "", fault.SlotPlugin, nil},

		{"forget", "well", well, "remove the checkpoint from the store", "", []string{"Forgotten: the checkpoint at 0/2000", "between 0/1000 and 0/2000 (4096 bytes of WAL), with the same pos", "walferry slot adopt"}},
		{"forget", "no slot", noSlot, "remove", "", []string{"begins with the present"}},
		{"forget", "corrupt", corrupt, "remove", "", []string{"cannot be read"}},
		{"forget", "no record", noRec, "", "", []string{"There is no checkpoint."}},
		{"forget", "active", active, "", fault.SlotBusy, nil},

		{"drop", "well", well, "drop the slot walferry_shop; drop the publication walferry_shop", "", []string{"after 0/2000; by now these are 12288 bytes of WAL", "What remains: the topics with all their records, and the checkpoint in the store"}},
		{"drop", "Kafka away", noKafka, "drop the slot; drop the publication", "", []string{"after 0/1000"}},
		{"drop", "publication of another", notOwned, "drop the slot", "", []string{"belongs to cdc", `DROP PUBLICATION IF EXISTS "walferry_shop";`}},
		{"drop", "lost slot", lostSlot, "drop the slot; drop the publication", "", nil},
		{"drop", "foreign slot", foreign, "", fault.SlotPlugin, nil},
		{"drop", "no slot", noSlot, "drop the publication", "", nil},
		{"drop", "nothing there", func(s *State) { noSlot(s); s.View.Published = false }, "", "", []string{"There is neither a slot walferry_shop nor a publication walferry_shop."}},
		{"drop", "active", active, "", fault.SlotBusy, nil},
	} {
		t.Run(c.command+", "+c.name, func(t *testing.T) {
			s := healthy()
			c.change(&s)
			plan, err := plans(newPipeline())[c.command](s)
			if c.code == "" && err != nil || c.code != "" && !fault.Is(err, c.code) {
				t.Fatalf("error %v, want %q", err, c.code)
			}
			text := strings.Join(plan.Effects, "\n")
			if err != nil {
				text = err.Error() + "\n" + fault.Of(err).Hint
			}
			for _, want := range c.says {
				if !strings.Contains(text, want) {
					t.Errorf("it does not say %q:\n%s", want, text)
				}
			}
			wantSteps(t, plan.Steps, c.steps)
		})
	}
}

// wantSteps compares steps with their beginnings.
func wantSteps(t *testing.T, steps []Step, want string) {
	t.Helper()
	var beginnings []string
	if want != "" {
		beginnings = strings.Split(want, "; ")
	}
	ok := len(steps) == len(beginnings)
	for i := range steps {
		ok = ok && strings.HasPrefix(steps[i].Words, beginnings[i])
	}
	if !ok {
		t.Errorf("steps %v, want %q", steps, want)
	}
}

// TestVerdict holds the words for what a start would do.
func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*State)
		want   Start
		from   event.LSN
		code   fault.Code
	}{
		{"well", well, GoesOn, 0x2000, ""},
		{"active", active, Waits, 0x2000, ""},
		{"neither", neither, CreatesSlot, 0, ""},
		{"intent and slot", intent, GoesOn, 0x1000, ""},
		{"split", split, GoesOn, 0x2000, ""},
		{"no record", noRec, Refuses, 0, fault.SlotUnknown},
		{"no slot", noSlot, Refuses, 0, fault.SlotMissing},
		{"gap", gap, Refuses, 0, fault.CheckpointGap},
		{"lost slot", lostSlot, Refuses, 0, fault.SlotLost},
		{"split under other options", changed, Refuses, 0, fault.CheckpointOptions},
		{"corrupt", corrupt, Refuses, 0, fault.CheckpointInvalid},
		{"Kafka away", noKafka, Refuses, 0, fault.KafkaUnavailable},
		{"Postgres away", noServer, Refuses, 0, fault.PostgresUnavailable},
		{"active, but refused", func(s *State) { active(s); gap(s) }, Refuses, 0, fault.CheckpointGap},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := healthy()
			c.change(&s)
			v := newPipeline().Verdict(s)
			if v.Start != c.want || v.Decision.End != c.from || (v.Err != nil) != (c.code != "") || c.code != "" && !fault.Is(v.Err, c.code) {
				t.Errorf("got %+v", v)
			}
		})
	}
	p := newPipeline()
	p.Judge.AdoptSlot = true
	s := healthy()
	noRec(&s)
	if v := p.Verdict(s); v.Start != AdoptsSlot || v.Decision.End != 0x1000 {
		t.Errorf("adopting: %+v", v)
	}
}

// TestClaimNoticesWhoWrote: what has changed since the plan was made is not overwritten.
func TestClaimNoticesWhoWrote(t *testing.T) {
	for _, c := range []struct {
		name string
		now  *checkpoint.Record
		err  error
		ok   bool
	}{
		{"the same", healthy().Record, nil, true},
		{"another one", &checkpoint.Record{Instance: "other", Time: time.Unix(1, 0)}, nil, false},
		{"the same instance later", &checkpoint.Record{Instance: "old", Time: time.Unix(2, 0)}, nil, false},
		{"none", nil, nil, false},
		{"unreadable", nil, fault.New(fault.CheckpointInvalid, "read", nil, ""), false},
		{"not acquired", nil, errors.New("away"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPipeline()
			p.Store = &stubStore{record: c.now, err: c.err}
			if err := p.claim(t.Context(), healthy()); (err == nil) != c.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

func (s Step) String() string { return fmt.Sprintf("%q", s.Words) }
