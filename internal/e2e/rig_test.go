package e2e

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walferry/walferry/internal/cdctest"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/internal/pgtest"
)

// patience bounds every wait. It is reached only when something is wrong, or the machine is
// hopelessly busy.
const patience = 2 * time.Minute

// rig is one pipeline under test with its servers.
type rig struct {
	t        *testing.T
	db       *pgtest.DB
	broker   *kafkatest.Broker
	from, to string // where walferry finds its servers: they, or proxies in front of them
	name     string
	delivery string
	walferry *cdctest.Process
	stopLoad func()

	seed uint64
	rng  *rand.Rand // of seed: where and when faults happen

	loadOn string // the URL for the load where it is not that of db

	rush int // of the load, none by default

	loaded time.Duration // how long the newest load ran

	watcher   *cdctest.Reader     // of watched
	watched   *cdctest.Visibility // under exactly_once, once there is load
	stopWatch func()
}

const (
	atLeastOnce = "at_least_once"
	exactlyOnce = "exactly_once"
)

// deliveries returns what the tests run under: WALFERRY_DELIVERY, which may be "both", or the default
// of walferry where that is not set, to keep `make test` short. CI runs both.
func deliveries() []string {
	switch d := os.Getenv("WALFERRY_DELIVERY"); d {
	case "":
		return []string{exactlyOnce}
	case "both":
		return []string{atLeastOnce, exactlyOnce}
	default:
		return []string{d}
	}
}

// each runs a test under each delivery that was asked for.
func each(t *testing.T, test func(t *testing.T, delivery string)) {
	t.Helper()
	for _, d := range deliveries() {
		t.Run(d, func(t *testing.T) { test(t, d) })
	}
}

// both runs a test under both deliveries, whatever was asked for.
func both(t *testing.T, test func(t *testing.T, delivery string)) {
	t.Helper()
	for _, d := range []string{atLeastOnce, exactlyOnce} {
		t.Run(d, func(t *testing.T) { test(t, d) })
	}
}

// newRig returns a pipeline that does not run yet, from a database with the tables of the load, with
// the flags of the common case.
func newRig(t *testing.T, pg *pgtest.Server, broker *kafkatest.Broker, delivery string) *rig {
	t.Helper()
	r := bareRig(t, pg, broker)
	r.delivery = delivery
	r.walferry = r.instance()
	return r
}

// instance returns one more process of the pipeline.
func (r *rig) instance() *cdctest.Process {
	r.t.Helper()
	return r.process("run", "--name", r.name, "--from", r.from, "--to", r.to, "--tables", cdctest.Tables, "--delivery", r.delivery)
}

// bareRig is newRig without a command line; see run.
func bareRig(t *testing.T, pg *pgtest.Server, broker *kafkatest.Broker) *rig {
	t.Helper()
	r := &rig{t: t, db: pg.Database(), broker: broker, name: fmt.Sprintf("e2e_%08x", rand.Uint32()), seed: rand.Uint64()}
	if env := os.Getenv("WALFERRY_SEED"); env != "" {
		var err error
		if r.seed, err = strconv.ParseUint(env, 10, 64); err != nil {
			t.Fatalf("WALFERRY_SEED: %v", err)
		}
	}
	t.Logf("WALFERRY_SEED=%d", r.seed)
	r.from, r.to = r.db.DSN(), r.broker.Addr()
	t.Cleanup(r.reportUnfinished)
	r.rng = rand.New(rand.NewPCG(r.seed, 0))
	if err := cdctest.Setup(t.Context(), r.db.DSN()); err != nil {
		t.Fatal(err)
	}
	return r
}

// reportUnfinished says, when the test has failed, what the brokers still keep from consumers.
func (r *rig) reportUnfinished() {
	if !r.t.Failed() {
		return
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(r.broker.Addr()))
	if err != nil {
		r.t.Log(err)
		return
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if held := cdctest.Unfinished(ctx, kadm.NewClient(client), r.name); strings.Contains(held, "has been in a transaction") {
		held += cdctest.History(ctx, r.broker.Addr(), "_walferry."+r.name+".checkpoint")
		r.t.Logf("what the brokers say:\n%s\nand have logged:\n%s", held, r.broker.Server.LogTail())
	}
}

// run says how walferry is to be started.
func (r *rig) run(args ...string) {
	r.t.Helper()
	r.walferry = r.process(args...)
}

func (r *rig) process(args ...string) *cdctest.Process {
	r.t.Helper()
	return r.processOf(binary(r.t), args...)
}

func (r *rig) processOf(binary string, args ...string) *cdctest.Process {
	r.t.Helper()
	p := cdctest.NewProcess(filepath.Join(r.t.TempDir(), "walferry.log"), binary, args...)
	r.t.Cleanup(func() {
		if r.t.Failed() {
			said, stacks, _ := strings.Cut(p.Output(), "SIGQUIT: quit")
			r.t.Logf("end of what walferry said:\n%s", said[max(0, len(said)-16384):])
			r.t.Logf("its goroutines, if they were asked for:\n%s", stacks[:min(len(stacks), 65536)])
		}
	})
	return p
}

func (r *rig) slot() string { return "walferry_" + r.name }

// start starts walferry; it is killed with the test.
func (r *rig) start() {
	r.t.Helper()
	r.startProcess(r.walferry)
}

func (r *rig) startProcess(p *cdctest.Process) {
	r.t.Helper()
	if err := p.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			r.t.Error(err)
		}
	})
}

func (r *rig) kill() {
	r.t.Helper()
	if err := r.walferry.Kill(); err != nil {
		r.t.Fatal(err)
	}
}

// started starts walferry and waits until it streams: what is committed from then on must arrive.
func (r *rig) started() {
	r.t.Helper()
	r.start()
	r.streaming()
}

func (r *rig) streaming() {
	r.t.Helper()
	r.eventually("walferry streams", func(ctx context.Context) bool {
		r.alive()
		pid, err := cdctest.Walsender(ctx, r.db.DSN(), r.slot())
		return err == nil && pid != 0
	})
}

// caughtUp waits until everything that is committed now is delivered and confirmed. It needs load: an
// idle position is confirmed now and then only.
func (r *rig) caughtUp() {
	r.t.Helper()
	var lsn string
	r.eventually("the server tells the end of its WAL", func(ctx context.Context) bool {
		var err error
		lsn, err = cdctest.WALEnd(ctx, r.db.DSN())
		return err == nil
	})
	r.eventually("what is committed is confirmed", func(ctx context.Context) bool {
		r.alive()
		up, err := cdctest.CaughtUp(ctx, r.db.DSN(), r.slot(), lsn)
		return err == nil && up
	})
}

// alive fails if walferry has ended.
func (r *rig) alive() {
	r.t.Helper()
	select {
	case <-r.walferry.Done():
		r.t.Fatalf("walferry ended with exit code %d", r.walferry.ExitCode())
	default:
	}
}

// said waits until a process has said something.
func (r *rig) said(p *cdctest.Process, words string) {
	r.t.Helper()
	r.eventually("the process says: "+words, func(context.Context) bool { return strings.Contains(p.Output(), words) })
}

// eventually polls until ok says so.
func (r *rig) eventually(what string, ok func(context.Context) bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for !ok(ctx) {
		select {
		case <-poll.C:
		case <-ctx.Done():
			r.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// harmed returns the shared broker for a test that stops, kills or pauses it, and sees to it that
// the next test finds it well. Such a test is not parallel: Go runs those that are behind it.
func harmed(t *testing.T) *kafkatest.Broker {
	t.Helper()
	b := kafkatest.Shared(t)
	t.Cleanup(func() {
		if b.Running() {
			b.Continue()
		} else {
			b.Restart()
		}
	})
	return b
}

// watch begins to watch what a read_committed consumer sees.
func (r *rig) watch() {
	r.t.Helper()
	if r.watched != nil || r.delivery != exactlyOnce {
		return
	}
	if r.watcher == nil {
		var err error
		if r.watcher, err = cdctest.NewReader([]string{r.broker.Addr()}, cdctest.Topics(r.name)); err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(r.watcher.Close)
	}
	watched := cdctest.NewVisibility()
	r.watched = watched
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan struct{})
	go func() { // stopWatch ends it and waits
		defer close(done)
		watched.Watch(ctx, r.watcher)
	}()
	r.stopWatch = func() {
		cancel()
		<-done
		r.stopWatch = func() {}
	}
	r.t.Cleanup(func() { r.stopWatch() })
}

// load starts the load; stopLoad ends it.
func (r *rig) load() {
	r.t.Helper()
	r.watch()
	load := &cdctest.Load{DSN: cmp.Or(r.loadOn, r.db.DSN()), Seed: r.seed, Workers: 4, Rush: r.rush, Pause: 5 * time.Millisecond}
	if env := os.Getenv("WALFERRY_PAUSE"); env != "" {
		var err error
		if load.Pause, err = time.ParseDuration(env); err != nil {
			r.t.Fatalf("WALFERRY_PAUSE: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	began := time.Now()
	done := make(chan error, 1)
	go func() { done <- load.Run(ctx) }() // endLoad ends it and waits
	r.stopLoad = func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("the load: %v", err)
		}
		r.loaded = time.Since(began)
		r.t.Logf("%d transactions", load.Begun())
		r.stopLoad = func() {}
	}
	r.t.Cleanup(func() { r.stopLoad() })
}

// under runs the load for some time.
func (r *rig) under(d time.Duration) {
	r.t.Helper()
	r.load()
	r.pass(d)
	r.stopLoad()
}

// between draws a time, by the seed.
func (r *rig) between(least, most time.Duration) time.Duration {
	return least + time.Duration(r.rng.Int64N(int64(most-least)))
}

// pass lets time pass under load; nothing is concluded from its having passed.
func (r *rig) pass(d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.t.Context().Done():
	}
}

// terminate sends SIGTERM and wants one of the exit codes, within the ten seconds that walferry promises
// and a few for the machine.
func (r *rig) terminate(want ...int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 15*time.Second)
	defer cancel()
	code, err := r.walferry.Terminate(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	if !slices.Contains(want, code) {
		r.t.Fatalf("exit code %d after SIGTERM, want %d", code, want)
	}
}

// verify judges by the promise of the delivery; repeatsAllowed is for at_least_once alone.
//
// It ends the load, waits until everything that was committed is in the topics, stops walferry,
// and judges all records there are, those that came last included.
func (r *rig) verify(repeatsAllowed bool) {
	r.t.Helper()
	r.stopLoad()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	truth, err := cdctest.ReadTruth(ctx, r.db.DSN())
	if err != nil {
		r.t.Fatal(err)
	}
	if len(truth) == 0 {
		r.t.Fatal("the load changed nothing")
	}
	reader, err := cdctest.NewReader([]string{r.broker.Addr()}, cdctest.Topics(r.name))
	if err != nil {
		r.t.Fatal(err)
	}
	defer reader.Close()
	partitions, err := reader.Partitions(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	v := cdctest.NewValidator(truth, r.name, partitions, repeatsAllowed && r.delivery != exactlyOnce)
	readErr := reader.Read(ctx, v.Note, func() bool { return v.Missing() == 0 })
	if readErr == nil {
		r.terminate(0)
		end, err := reader.End(ctx)
		if err != nil {
			r.t.Fatal(err)
		}
		readErr = reader.Read(ctx, v.Note, end)
	}
	r.t.Logf("%d changes made %d records; %d came again", len(truth), v.Expected(), v.Repeats())
	failures := v.Failures()
	if r.watched != nil {
		r.stopWatch()
		failures = append(failures, r.watched.Torn(v)...)
		r.t.Logf("%d transactions were watched becoming visible", r.watched.Judged())
	}
	if len(failures) > 0 || readErr != nil {
		if err := r.walferry.Dump(ctx); err != nil {
			r.t.Log(err)
		}
		r.t.Fatalf("%v\n%s", readErr, strings.Join(failures, "\n"))
	}
}
