package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walferry/walferry/internal/cdctest"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/internal/pgtest"
)

// TestFault52_DiskFull fills the disk of the checkpoint file: the file that each save writes first leads
// to /dev/full, where every write fails for want of space. Walferry says so and stops, the checkpoint of
// before is whole, and with space again the next start goes on from it.
func TestFault52_DiskFull(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("this system has no /dev/full")
	}
	r := bareRig(t, pgtest.Shared(t), kafkatest.Shared(t))
	r.delivery = atLeastOnce
	checkpoint := filepath.Join(t.TempDir(), "checkpoint.json")
	r.run("run", "--config", r.fileConfig(checkpoint))
	r.started()
	r.load()
	r.caughtUp()
	full := checkpoint + ".tmp"
	r.eventually("the disk is full", func(context.Context) bool { return os.Symlink("/dev/full", full) == nil }) // not while a save has the name
	r.ended(3)
	if out := r.walferry.Output(); !strings.Contains(out, "no space left on device") || !strings.Contains(out, "[checkpoint_file]") {
		t.Error("the cause is not named")
	}
	var saved struct {
		End string `json:"end_lsn"`
	}
	if text, err := os.ReadFile(checkpoint); err != nil || json.Unmarshal(text, &saved) != nil || saved.End == "" {
		t.Errorf("the checkpoint of before is not whole: %q, %v", text, err)
	}
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	r.started()
	r.caughtUp()
	r.verify(true)
}

// ended waits until walferry ends by itself.
func (r *rig) ended(code int) {
	r.t.Helper()
	select {
	case <-r.walferry.Done():
	case <-time.After(patience):
		r.t.Fatal("still running")
	}
	if got := r.walferry.ExitCode(); got != code {
		r.t.Errorf("exit code %d, want %d", got, code)
	}
}

// TestFault52_FewDescriptors runs with 64 file descriptors, over a lost connection too.
func TestFault52_FewDescriptors(t *testing.T) {
	long(t)
	t.Parallel()
	each(t, func(t *testing.T, d string) {
		r := newRig(t, pgtest.Shared(t), kafkatest.Shared(t), d)
		r.walferry = r.processOf("/bin/sh", "-c", `ulimit -n 64 && exec "$0" "$@"`, binary(t), "run",
			"--name", r.name, "--from", r.from, "--to", r.to, "--tables", cdctest.Tables, "--delivery", d)
		r.started()
		r.load()
		r.caughtUp()
		if n, err := cdctest.TerminateWalsenders(t.Context(), r.db.DSN(), r.slot()); err != nil || n != 1 {
			t.Fatalf("%d walsenders terminated, %v", n, err)
		}
		r.caughtUp()
		r.verify(false)
	})
}

// TestFault50_ClockOfAnotherHour starts from checkpoints that were written an hour ahead and an hour
// behind: nothing is decided by the time of day. (The clock of a running process cannot be changed without
// privileges; what it waits for, it waits for by the monotonic clock.)
func TestFault50_ClockOfAnotherHour(t *testing.T) {
	long(t)
	t.Parallel()
	each(t, func(t *testing.T, d string) {
		r := newRig(t, pgtest.Shared(t), kafkatest.Shared(t), d)
		r.started()
		r.load()
		for _, shift := range []time.Duration{time.Hour, -2 * time.Hour} {
			r.caughtUp()
			r.terminate(0)
			r.shiftCheckpoint(shift)
			r.started()
		}
		r.caughtUp()
		r.verify(false)
	})
}

// shiftCheckpoint writes the newest checkpoint again, with another time.
func (r *rig) shiftCheckpoint(by time.Duration) {
	r.t.Helper()
	topic := "_walferry." + r.name + ".checkpoint"
	reader, err := cdctest.NewReader([]string{r.broker.Addr()}, []string{topic})
	if err != nil {
		r.t.Fatal(err)
	}
	defer reader.Close()
	end, err := reader.End(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	var newest cdctest.Record
	if err := reader.Read(r.t.Context(), func(rec cdctest.Record) { newest = rec }, end); err != nil {
		r.t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(newest.Value, &members); err != nil {
		r.t.Fatal(err)
	}
	was, err := time.Parse(time.RFC3339Nano, fmt.Sprint(members["time"]))
	if err != nil {
		r.t.Fatal(err)
	}
	members["time"] = was.Add(by)
	value, err := json.Marshal(members)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.broker.Client().ProduceSync(r.t.Context(), &kgo.Record{Topic: topic, Key: newest.Key, Value: value}).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
}
