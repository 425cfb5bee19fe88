//go:build synctests

//go:debug randseednop=0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walferry/walferry/config"
	"github.com/walferry/walferry/internal/sim"
)

// simulated runs an instance as `walferry run` does, in a world of its own.
func simulated(ctx context.Context, i sim.Instance) error {
	given := func(text string) config.Flag { return config.Flag{Text: text, Given: true} }
	delivery := config.AtLeastOnce
	if i.ExactlyOnce {
		delivery = config.ExactlyOnce
	}
	cfg, err := config.Load("", config.Flags{
		Name: given(sim.Name), From: given(i.PostgresURL), To: given(i.Brokers), Tables: given(i.Tables), Delivery: given(string(delivery)),
	}, func(string) (string, bool) { return "", false })
	if err != nil {
		return err
	}
	cfg.HTTP.Listen = ""
	cfg.Transactions.MaxRows, cfg.Transactions.MaxOpen = i.MaxRows, i.MaxOpen
	cfg.Postgres.MessagePrefixes, cfg.Sink.Messages = []string{i.Prefix}, true
	cfg.Postgres.Dial, cfg.Kafka.Dial = i.DialPostgres, i.DialKafka
	return runPipeline(ctx, cfg, newLogger(config.Log{Level: slog.LevelInfo}, i.Log))
}

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	text, is := os.LookupEnv(name)
	if !is {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// live runs one seed.
func live(t *testing.T, seed uint64) (v sim.Verdict) {
	rand.Seed(int64(seed)) //nolint:staticcheck // kfake draws from the global source
	done := false
	defer func() {
		if !done {
			fmt.Fprintf(os.Stderr, "seed %d did not end\n", seed)
		}
	}()
	deliveries := []sim.Delivery{sim.ExactlyOnce, sim.AtLeastOnce, sim.ExactlyOnce, sim.AtLeastOnce, sim.ExactlyOnce, sim.AtLeastOnce, sim.ExactlyOnce, sim.Mixed}
	synctest.Test(t, func(t *testing.T) { v = sim.Run(t.Context(), seed, deliveries[seed%8], simulated) })
	done = true
	return v
}

// TestSimulation lives through WALFERRY_SEEDS seeds from WALFERRY_SEED on: nothing may be lost, repeated or
// out of order. Where something is, it prints the seed and what happened. Each core gets a process of its
// own, in which one goroutine runs at a time: less is left to chance.
func TestSimulation(t *testing.T) {
	first, n := number(t, "WALFERRY_SEED", 1), number(t, "WALFERRY_SEEDS", 20)
	shards := uint64(runtime.NumCPU())
	if n < 2*shards || os.Getenv("GOMAXPROCS") == "1" {
		simulate(t, first, n)
		return
	}
	for i := range shards {
		from, to := first+n*i/shards, first+n*(i+1)/shards
		t.Run(fmt.Sprintf("%d to %d", from, to-1), func(t *testing.T) {
			t.Parallel()
			c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSimulation$", "-test.v", "-test.timeout=0")
			c.Env = append(os.Environ(), "GOMAXPROCS=1", fmt.Sprintf("WALFERRY_SEED=%d", from), fmt.Sprintf("WALFERRY_SEEDS=%d", to-from))
			out, err := c.CombinedOutput()
			t.Logf("%s", out)
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSimulationFound lives through seeds again that were wrong once.
func TestSimulationFound(t *testing.T) {
	for _, seed := range []uint64{
		6782, // a position that was due to be committed while a claim was made
	} {
		simulate(t, seed, 1)
	}
}

// simulate lives through n seeds, one after the other.
func simulate(t *testing.T, first, n uint64) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var sum sim.Verdict
	began, wrong := time.Now(), 0
	for seed := first; seed < first+n; seed++ {
		v := live(t, seed)
		sum.Changes, sum.Records, sum.Repeats = sum.Changes+v.Changes, sum.Records+v.Records, sum.Repeats+v.Repeats
		sum.Faults, sum.Instances, sum.Took = sum.Faults+v.Faults, sum.Instances+v.Instances, sum.Took+v.Took
		if len(v.Failures) > 0 {
			wrong++
			t.Errorf("seed %d, %s: %d failures, again with WALFERRY_SEED=%d WALFERRY_SEEDS=1\n%s\n%s", seed, v.Delivery, len(v.Failures), seed,
				v.Trace, strings.Join(v.Failures, "\n"))
		} else if n == 1 {
			t.Logf("\n%s", v.Trace)
		}
	}
	t.Logf("%d seeds from %d on, %d wrong: %d faults, %d processes, %d changes, %d records, %d of them came again; %s passed in %s",
		n, first, wrong, sum.Faults, sum.Instances, sum.Changes, sum.Records, sum.Repeats, sum.Took.Round(time.Minute), time.Since(began).Round(time.Second))
}

// TestSimulationReplays lives through a few seeds again and again. The load and the schedule of faults must
// be the same each time; how often everything else is, to the byte on the network, it logs.
func TestSimulationReplays(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const seeds = 4
	first, times := number(t, "WALFERRY_SEED", 1), number(t, "WALFERRY_REPLAYS", 2)
	for seed := first; seed < first+seeds; seed++ {
		hashes, outcomes := map[uint64]int{}, map[uint64]int{}
		var was string
		for n := range times {
			v := live(t, seed)
			hashes[v.Hash]++
			outcomes[v.Outcome]++
			if schedule := fmt.Sprint(v.Schedule); n > 0 && schedule != was {
				t.Errorf("seed %d: the schedule was\n%s\nand is\n%s", seed, was, schedule)
			} else {
				was = schedule
			}
			for _, f := range v.Failures {
				t.Errorf("seed %d: %s", seed, f)
			}
		}
		t.Logf("seed %d, %d times: %d different traces, %d different outcomes", seed, times, len(hashes), len(outcomes))
	}
}
