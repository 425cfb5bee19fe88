package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/internal/cdctest"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/internal/pgtest"
)

// operated is a pipeline of one table and one partition whose operator gives commands.
type operated struct {
	*rig
	file   string
	reader *cdctest.Reader
}

// newOperated returns a pipeline that was started once, and stopped in order behind the row "first".
func newOperated(t *testing.T, delivery, store string) *operated {
	t.Helper()
	return newOperatedIn(t, pgtest.Shared(t).Database(), delivery, store)
}

// newOperatedIn is newOperated in a database of the test's choice.
func newOperatedIn(t *testing.T, db *pgtest.DB, delivery, store string) *operated {
	t.Helper()
	broker := kafkatest.Shared(t)
	o := &operated{rig: &rig{t: t, db: db, broker: broker, name: fmt.Sprintf("op_%08x", rand.Uint32())}}
	o.db.Exec("CREATE TABLE marks (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text)")
	o.file = filepath.Join(t.TempDir(), "walferry.yaml")
	if store == "file" {
		store += ", path: " + filepath.Join(t.TempDir(), "checkpoint.json")
	}
	text := fmt.Sprintf("name: %s\npostgres: {url: %q, tables: [public.marks]}\nkafka: {brokers: [%q], topics: {partitions: 1}}\n"+
		"delivery: %s\ncheckpoint: {store: %s}\nhttp: {listen: off}\n", o.name, o.db.DSN(), broker.Addr(), delivery, store)
	if err := os.WriteFile(o.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o.rig.run("run", "--config", o.file)
	o.started()
	o.mark("first")
	var err error
	if o.reader, err = cdctest.NewReader([]string{broker.Addr()}, []string{cdctest.Topic(o.name, "public", "marks")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.reader.Close)
	o.sees("first")
	return o
}

// mark commits a row.
func (o *operated) mark(note string) { o.db.Exec("INSERT INTO marks (note) VALUES ($1)", note) }

// sees waits until a consumer has seen these and nothing else since it was asked last.
func (o *operated) sees(want ...string) {
	o.t.Helper()
	if got := o.next(len(want)); !slices.Equal(got, want) {
		o.t.Fatalf("a consumer saw %q, want %q", got, want)
	}
}

// next waits until a consumer has seen so many rows since it was asked last, and returns them.
func (o *operated) next(rows int) (notes []string) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), patience)
	defer cancel()
	note := func(rec cdctest.Record) {
		var val struct{ After struct{ Note string } }
		if err := json.Unmarshal(rec.Value, &val); err != nil {
			o.t.Error(err)
		}
		notes = append(notes, val.After.Note)
	}
	if err := o.reader.Read(ctx, note, func() bool { return len(notes) >= rows }); err != nil {
		o.t.Fatalf("a consumer saw %q: %v", notes, err)
	}
	return notes
}

// command gives a command with the pipeline's file, and returns exit code and output.
func (o *operated) command(args ...string) (code int, stdout, stderr string) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(o.t), append(args, "--config", o.file)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		o.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// done gives a command, dry first, and wants its words and that only --yes changes something.
func (o *operated) done(command string, says ...string) {
	o.t.Helper()
	before := o.showsAny()
	code, dry, errs := o.command(strings.Fields(command)...)
	if code != 0 {
		o.t.Fatalf("%s: exit code %d\n%s%s", command, code, dry, errs)
	}
	for _, s := range append(says, "give the command again with --yes") {
		if !strings.Contains(dry, s) {
			o.t.Errorf("%s does not say %q:\n%s", command, s, dry)
		}
	}
	if after := o.showsAny(); after.Start != before.Start || after.Slot != before.Slot {
		o.t.Fatalf("%s without --yes changed %+v to %+v", command, before, after)
	}
	if code, out, errs := o.command(strings.Fields(command + " --yes")...); code != 0 || !strings.Contains(out, "Done: ") {
		o.t.Fatalf("%s --yes: exit code %d\n%s%s", command, code, out, errs)
	}
}

// refused gives a command that must end with a code.
func (o *operated) refused(command, code string) {
	o.t.Helper()
	if exit, _, errs := o.command(strings.Fields(command)...); exit != 3 || !strings.Contains(errs, "["+code+"]") {
		o.t.Fatalf("%s: exit code %d, want 3 and %s:\n%s", command, exit, code, errs)
	}
}

// shown is what checkpoint show --json says, as far as tests need it.
type shown struct {
	Start      struct{ Verdict, From, Code string }
	Checkpoint struct {
		Instance string
		Split    int
	}
	Slot struct {
		Active    bool
		Confirmed string `json:"confirmed_flush_lsn"`
	}
}

// shows wants a verdict, which a real start must share where it is a refusal: its code.
func (o *operated) shows(want string) shown {
	o.t.Helper()
	s := o.showsAny()
	if got := strings.TrimSpace(s.Start.Verdict + " " + s.Start.Code); got != want {
		o.t.Fatalf("show says %q, want %q", got, want)
	}
	if s.Start.Code != "" {
		o.refused("run", s.Start.Code)
	}
	return s
}

func (o *operated) showsAny() shown {
	o.t.Helper()
	code, out, errs := o.command("checkpoint", "show", "--json")
	var s shown
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		o.t.Fatalf("%v: %s%s", err, out, errs)
	}
	if want := map[bool]int{true: 3}[s.Start.Verdict == "refuses"]; code != want {
		o.t.Fatalf("show: exit code %d with %+v\n%s", code, s, errs)
	}
	return s
}

func (o *operated) lsn() string {
	return pgtest.Value[string](o.db, "SELECT pg_current_wal_lsn()::text")
}

func (o *operated) dropSlot() {
	o.t.Helper()
	o.db.Exec("SELECT pg_drop_replication_slot($1)", o.slot())
}

// TestOperatorCommands leads a pipeline through the states that a start refuses, and back by the command
// that is there for each, with a consumer that sees what was said.
func TestOperatorCommands(t *testing.T) {
	long(t)
	type kind struct{ delivery, store string }
	kinds := []kind{{exactlyOnce, "kafka"}, {atLeastOnce, "file"}}
	if len(deliveries()) > 1 {
		kinds = append(kinds, kind{atLeastOnce, "kafka"})
	}
	for _, c := range kinds {
		t.Run(c.delivery+" "+c.store, func(t *testing.T) {
			t.Parallel()
			o := newOperated(t, c.delivery, c.store)
			if s := o.shows("waits"); !s.Slot.Active {
				t.Error("show does not see that the slot is held")
			}
			for _, command := range []string{"checkpoint set --now", "checkpoint forget --yes", "drop --yes", "slot adopt --yes"} {
				o.refused(command, "slot_busy")
			}
			o.terminate(0)
			o.shows("goes_on")

			// A transaction that is open now is sent whole, one that has committed is not.
			conn := o.db.Conn()
			for _, sql := range []string{"BEGIN", "INSERT INTO marks (note) VALUES ('open')"} {
				if _, err := conn.Exec(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			}
			o.mark("given up")
			o.done("checkpoint set --now", "Not sent: what commits between", "Sent again: nothing.", "advance the slot "+o.slot())
			if _, err := conn.Exec(t.Context(), "INSERT INTO marks (note) VALUES ('and closed'); COMMIT"); err != nil {
				t.Fatal(err)
			}
			o.started()
			o.sees("open", "and closed")
			o.terminate(0)

			// An LSN between two transactions.
			o.mark("before")
			between := o.lsn()
			o.mark("after")
			o.refused("checkpoint set --lsn FFFFFF/0", "checkpoint_ahead")
			o.refused("checkpoint set --lsn 0/1", "checkpoint_gap")
			o.done("checkpoint set --lsn "+between, "Not sent: what commits between")
			o.started()
			o.sees("after")
			o.terminate(0)

			// Somebody else moves the slot.
			o.mark("skipped")
			o.db.Exec("SELECT pg_replication_slot_advance($1, pg_current_wal_flush_lsn())", o.slot())
			o.mark("kept")
			o.shows("refuses checkpoint_gap")
			o.refused("slot adopt", "checkpoint_gap")
			o.done("checkpoint accept-gap", "the slot does not give it any more")
			o.started()
			o.sees("kept")
			o.terminate(0)

			// The checkpoint is gone.
			o.done("checkpoint forget", "slot_unknown", "walferry slot adopt")
			o.mark("adopted")
			o.shows("refuses slot_unknown")
			o.done("slot adopt", "Sent again: what commits at or after")
			o.shows("goes_on")
			o.started()
			o.sees("adopted")
			o.terminate(0)

			// The slot is gone.
			o.dropSlot()
			o.mark("lost")
			o.shows("refuses slot_missing")
			o.done("checkpoint set --now", "has made a new slot")
			o.shows("creates_slot")
			o.started()
			o.mark("new slot")
			o.sees("new slot")
			o.terminate(0)

			o.done("drop", "drop the slot "+o.slot(), "drop the publication", "What remains: the topics")
			if n := pgtest.Value[int](o.db, "SELECT count(*) FROM pg_publication"); n != 0 {
				t.Error("the publication is still there")
			}
			if _, out, _ := o.command("drop", "--yes"); !strings.Contains(out, "Nothing to do.") {
				t.Errorf("a second drop says %s", out)
			}
			o.shows("refuses slot_missing")
		})
	}
}

// TestShowWithoutServers says what it can when Postgres or Kafka is away.
func TestShowWithoutServers(t *testing.T) {
	t.Parallel()
	o := newOperated(t, exactlyOnce, "kafka")
	o.terminate(0)
	text, err := os.ReadFile(o.file)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ from, to, still, code string }{
		{o.broker.Addr(), "127.0.0.1:1", "confirmed", "kafka_unavailable"},
		{o.db.DSN(), "postgres://nobody@127.0.0.1:1/x?sslmode=disable", "written", "postgres_unavailable"},
	} {
		if err := os.WriteFile(o.file, bytes.ReplaceAll(text, []byte(c.from), []byte(c.to)), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, errs := o.command("checkpoint", "show")
		if code != 3 || !strings.Contains(out, c.still) || !strings.Contains(out, "["+c.code+"]") || !strings.Contains(errs, "["+c.code+"]") {
			t.Errorf("exit code %d, want 3, %q and %s\n%s%s", code, c.still, c.code, out, errs)
		}
	}
}

// TestFault51_TopicDeletedInMidRun deletes the checkpoint topic under a running walferry: it stops and says
// so, also where the topic was made again, and the command that it names leads on without a loss.
func TestFault51_TopicDeletedInMidRun(t *testing.T) {
	long(t)
	each(t, func(t *testing.T, delivery string) {
		t.Parallel()
		o := newOperated(t, delivery, "kafka")
		topic := "_walferry." + o.name + ".checkpoint"
		deleted, err := o.broker.Admin().DeleteTopics(t.Context(), topic)
		if err == nil {
			err = deleted.Error()
		}
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		o.mark("second")
		select {
		case <-o.walferry.Done():
		case <-time.After(patience):
			t.Fatal("it goes on without its checkpoint")
		}
		t.Logf("stopped after %s", time.Since(began))
		if code, out := o.walferry.ExitCode(), o.walferry.Output(); code != 3 || !strings.Contains(out, "[checkpoint_lost]") {
			t.Fatalf("exit code %d\n%s", code, out)
		}
		o.shows("refuses slot_unknown")
		o.done("slot adopt", "Sent again: what commits at or after")
		o.started()
		o.mark("third")
		seen := map[string]bool{}
		for !seen["third"] {
			for _, note := range o.next(1) {
				seen[note] = true
			}
		}
		if !seen["second"] {
			t.Error("lost")
		}
	})
}
