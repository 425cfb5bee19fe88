package operate

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walferry/walferry/checkpoint"
	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/pgtest"
	"github.com/walferry/walferry/replication"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m.Run)) }

// bench is a pipeline on a real server, with its checkpoint in a file. A checkpoint stands at the slot.
type bench struct {
	t    *testing.T
	db   *pgtest.DB
	slot string
	file string
}

func newBench(t *testing.T, db *pgtest.DB, name string) *bench {
	t.Helper()
	b := &bench{t: t, db: db, slot: name, file: filepath.Join(t.TempDir(), "checkpoint.json")}
	db.Exec("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", name)
	db.Exec("CREATE PUBLICATION " + name)
	p := b.pipeline()
	defer p.Store.Close()
	s := p.Look(t.Context())
	if s.ViewErr != nil {
		t.Fatal(s.ViewErr)
	}
	rec := p.record(s)
	rec.End, rec.Instance = s.View.Server.Slot.Confirmed, "before"
	if _, err := p.Store.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Store.Save(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	return b
}

// pipeline is what a process of its own sees.
func (b *bench) pipeline() *Pipeline {
	return &Pipeline{
		Keeper: replication.NewKeeper(replication.Config{
			Pipeline: "shop", URL: b.db.DSN(), Slot: replication.SlotConfig{Name: b.slot}, Publication: replication.PublicationConfig{Name: b.slot},
		}),
		Store: checkpoint.NewFileStore("shop", b.file), Judge: checkpoint.JudgeOptions{CreateSlot: true},
		Run: "command", Place: "file", Publication: b.slot,
	}
}

// give gives a command that dies after some of its steps, and returns how many it has.
func (b *bench) give(command string, dies int) (steps int) {
	b.t.Helper()
	p := b.pipeline()
	defer p.Store.Close()
	plan := map[string]Planner{
		"set --now": p.SetNow, "accept-gap": p.AcceptGap, "adopt": p.Adopt, "forget": p.Forget, "drop": p.Drop,
		"set --lsn": func(s State) (Plan, error) { return p.SetLSN(s.View.Server.End)(s) },
	}[command]
	err := p.Do(b.t.Context(), func(s State) (Plan, error) {
		made, err := plan(s)
		steps = len(made.Steps)
		made.Steps = made.Steps[:min(dies, steps)]
		return made, err
	}, true, func(string) {})
	if err != nil {
		b.t.Fatalf("%s: %v", command, err)
	}
	return steps
}

// look wants a state that a start goes on from, or refuses with words that name a command. It returns the
// code of the refusal, and whether the slot is ahead of the checkpoint.
func (b *bench) look() (code fault.Code, ahead bool) {
	b.t.Helper()
	p := b.pipeline()
	defer p.Store.Close()
	s := p.Look(b.t.Context())
	rec, slot := s.Record, s.View.Server.Slot
	ahead = rec != nil && !rec.Intent && slot != nil && slot.Confirmed > rec.End
	v := p.Verdict(s)
	if v.Start != Refuses {
		return "", ahead
	}
	if f := fault.Of(v.Err); f == nil || !strings.Contains(f.Hint, "\nwalferry ") {
		b.t.Errorf("%v: the hint names no command", v.Err)
	}
	return fault.CodeOf(v.Err), ahead
}

// TestKilledAtAnyStep gives each command, which dies after each number of steps, and gives it again: in
// between a start would go on or name the command, and in the end all is as if it had not died.
func TestKilledAtAnyStep(t *testing.T) {
	db := pgtest.Shared(t).Database()
	n := 0
	for _, c := range []struct {
		command string
		harm    func(*bench)
		steps   int
		end     fault.Code // of what a start says at last
	}{
		{"set --now", func(b *bench) { b.wal() }, 2, ""},
		{"set --now", func(b *bench) { b.dropSlot() }, 1, ""},
		{"set --now", func(b *bench) {
			b.dropSlot()
			b.db.Exec("SELECT pg_create_logical_replication_slot($1, 'pgoutput', false, true)", b.slot)
		}, 2, ""},
		{"set --lsn", func(b *bench) { b.wal() }, 2, ""},
		{"accept-gap", func(b *bench) { b.gap() }, 1, ""},
		{"adopt", func(b *bench) { b.write("damaged") }, 1, ""},
		{"forget", func(*bench) {}, 1, fault.SlotUnknown},
		{"drop", func(*bench) {}, 2, fault.SlotMissing},
	} {
		for dies := range c.steps {
			n++
			name := fmt.Sprintf("kill_%d", n)
			t.Run(fmt.Sprintf("%s after %d of %d steps", c.command, dies, c.steps), func(t *testing.T) {
				b := newBench(t, db, name)
				c.harm(b)
				_, wasAhead := b.look()
				if steps := b.give(c.command, dies); steps != c.steps {
					t.Fatalf("%d steps, want %d", steps, c.steps)
				}
				if _, ahead := b.look(); ahead && !wasAhead {
					t.Error("the slot is ahead of the checkpoint")
				}
				b.give(c.command, c.steps)
				if code, ahead := b.look(); code != c.end || ahead {
					t.Errorf("in the end a start says %q, want %q; the slot is ahead: %t", code, c.end, ahead)
				}
			})
		}
	}
}

func (b *bench) dropSlot() { b.t.Helper(); b.db.Exec("SELECT pg_drop_replication_slot($1)", b.slot) }

// wal has the server write something.
func (b *bench) wal() {
	b.t.Helper()
	b.db.Exec("SELECT pg_logical_emit_message(true, 'test', 'x')")
}

// gap moves the slot past the checkpoint.
func (b *bench) gap() {
	b.t.Helper()
	b.wal()
	b.db.Exec("SELECT pg_replication_slot_advance($1, pg_current_wal_flush_lsn())", b.slot)
}

func (b *bench) write(text string) {
	b.t.Helper()
	if err := os.WriteFile(b.file, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// TestLockIsOne: while one command is at work, or an instance starts, another command is refused.
func TestLockIsOne(t *testing.T) {
	b := newBench(t, pgtest.Shared(t).Database(), "locked")
	first, second := b.pipeline(), b.pipeline()
	if err := first.Keeper.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := second.Do(t.Context(), second.SetNow, true, func(string) {})
	if !fault.Is(err, fault.SlotBusy) {
		t.Errorf("got %v", err)
	}
	if err := first.Keeper.Close(); err != nil {
		t.Fatal(err)
	}
	if err := second.Do(t.Context(), second.Adopt, true, func(string) {}); err != nil {
		t.Error(err)
	}
	if err := first.Keeper.Advance(t.Context(), event.LSN(1)); !fault.Is(err, fault.Internal) {
		t.Errorf("a change without the lock: %v", err)
	}
}
