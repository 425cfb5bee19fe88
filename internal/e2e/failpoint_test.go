package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/walferry/walferry/internal/cdctest"
	"github.com/walferry/walferry/internal/failpoint"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/internal/pgtest"
)

// toFile is at_least_once with the checkpoint in a file.
const toFile = "at_least_once to a file"

// points says where each way of delivering gets to, and how often it is there: a process dies at one
// of the first so many arrivals.
var points = map[string]map[failpoint.Point]int{
	exactlyOnce: {
		failpoint.Prepared: 1, failpoint.TopicsMade: 1, failpoint.IntentSaved: 1, failpoint.SlotCreated: 1,
		failpoint.SlotTaken: 1, failpoint.Fenced: 1, failpoint.CheckpointRead: 1,
		failpoint.Read: 100, failpoint.Decoded: 500, failpoint.Encoded: 500, failpoint.Staged: 50, failpoint.HandedOver: 500,
		failpoint.Acked: 500, failpoint.Held: 20, failpoint.CheckpointProduced: 20, failpoint.Flushed: 20, failpoint.CommitSent: 20,
		failpoint.CommitAnswered: 20, failpoint.Begun: 20, failpoint.Released: 20, failpoint.Saved: 20, failpoint.Confirmed: 20,
		failpoint.Reported: 20, failpoint.Leaving: 1,
	},
	atLeastOnce: {
		failpoint.Prepared: 1, failpoint.TopicsMade: 1, failpoint.IntentSaved: 1, failpoint.SlotCreated: 1,
		failpoint.SlotTaken: 1, failpoint.Fenced: 1, failpoint.CheckpointRead: 1,
		failpoint.Read: 100, failpoint.Decoded: 500, failpoint.Encoded: 500, failpoint.HandedOver: 500, failpoint.Acked: 500,
		failpoint.CheckpointProduced: 5, failpoint.CommitSent: 5, failpoint.CommitAnswered: 5, failpoint.Saved: 5, failpoint.Confirmed: 5,
		failpoint.Reported: 5, failpoint.Leaving: 1,
	},
	toFile: {
		failpoint.IntentSaved: 1, failpoint.SlotCreated: 1,
		failpoint.FileWritten: 5, failpoint.FileRenamed: 5, failpoint.Saved: 5, failpoint.Confirmed: 5, failpoint.Reported: 5, failpoint.Leaving: 1,
	},
}

// TestFault02_FailPoints dies at each named place between the reading of a byte and the confirmation,
// and while starting and stopping: once at each, or WALFERRY_FAILPOINTS times and under every delivery.
func TestFault02_FailPoints(t *testing.T) {
	long(t)
	t.Parallel()
	rounds := 1
	ways := deliveries()
	if env := os.Getenv("WALFERRY_FAILPOINTS"); env != "" {
		var err error
		if rounds, err = strconv.Atoi(env); err != nil {
			t.Fatalf("WALFERRY_FAILPOINTS: %v", err)
		}
		ways = []string{exactlyOnce, atLeastOnce, toFile}
	}
	for _, way := range ways {
		for round := range rounds {
			t.Run(fmt.Sprintf("%s/%d", way, round+1), func(t *testing.T) { dieEverywhere(t, way) })
		}
	}
}

// dieEverywhere has one pipeline die at each of its points, one after the other.
func dieEverywhere(t *testing.T, way string) {
	r := bareRig(t, pgtest.Shared(t), kafkatest.Shared(t))
	r.delivery = way
	args := []string{"run", "--name", r.name, "--from", r.db.DSN(), "--to", r.broker.Addr(), "--tables", cdctest.Tables}
	if way == toFile {
		r.delivery = atLeastOnce
		args = []string{"run", "--config", r.fileConfig(filepath.Join(t.TempDir(), "checkpoint.json"))}
	} else {
		args = append(args, "--delivery", way)
	}
	r.walferry = r.processOf(armed.get(t, "-tags", "failpoints"), args...)
	died := 0
	for _, p := range failpoint.All() {
		most, there := points[way][p]
		if !there {
			continue
		}
		r.dieAt(p, 1+r.rng.IntN(most))
		if died++; p == failpoint.SlotCreated { // what is committed from here on must arrive
			r.load()
		}
	}
	r.walferry.SetEnv()
	r.started()
	t.Logf("died at %d points", died)
	r.verify(true)
}

// fileConfig writes a configuration with the checkpoint in a file.
func (r *rig) fileConfig(checkpoint string) string {
	r.t.Helper()
	file := filepath.Join(r.t.TempDir(), "walferry.yaml")
	text := fmt.Sprintf("name: %s\npostgres: {url: %q, tables: [public.*, sales.*]}\nkafka: {brokers: [%q]}\n"+
		"delivery: at_least_once\ncheckpoint: {store: file, path: %q}\n", r.name, r.db.DSN(), r.broker.Addr(), checkpoint)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return file
}

// dieAt starts walferry and waits until it has died at its nth arrival at a point.
func (r *rig) dieAt(p failpoint.Point, n int) {
	r.t.Helper()
	said := strings.Count(r.walferry.Output(), "failpoint: died at "+string(p)+"\n")
	r.walferry.SetEnv("WALFERRY_FAILPOINT="+string(p), "WALFERRY_FAILPOINT_AFTER="+strconv.Itoa(n))
	r.start()
	if p == failpoint.Leaving {
		r.streaming()
		if err := syscall.Kill(r.walferry.PID(), syscall.SIGTERM); err != nil {
			r.t.Fatal(err)
		}
	}
	r.eventually(fmt.Sprintf("walferry dies at arrival %d at %s", n, p), func(context.Context) bool {
		select {
		case <-r.walferry.Done():
			return true
		default:
			return false
		}
	})
	now := strings.Count(r.walferry.Output(), "failpoint: died at "+string(p)+"\n")
	if code := r.walferry.ExitCode(); code != -1 || now != said+1 {
		r.t.Fatalf("walferry ended with exit code %d and did not die at %s", code, p)
	}
}

// TestFailPointsAreNotReleased looks into the binaries: what is released knows nothing of fail points.
func TestFailPointsAreNotReleased(t *testing.T) {
	long(t)
	t.Parallel()
	words := []string{"WALFERRY_FAILPOINT", "failpoint: died at", "internal/failpoint", string(failpoint.CheckpointProduced)}
	for name, want := range map[string]bool{binary(t): false, armed.get(t, "-tags", "failpoints"): true} {
		program, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range words {
			if has := bytes.Contains(program, []byte(word)); has != want {
				t.Errorf("that %q is in %s is %t", word, name, has)
			}
		}
	}
}
