package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/internal/cdctest"
)

// soak is a pipeline that is harmed for a long time. It is judged in rounds, between which the load
// rests and what was judged is deleted, so that hours need no more room than minutes; process, slot and
// topics stay.
type soak struct {
	*rig
	net       *network
	reader    *cdctest.Reader
	validator *cdctest.Validator
	memory    memory

	began    time.Time
	forgot   time.Time // when the connections to Kafka became half-open last
	faults   map[string]int
	changes  int
	records  int
	judged   int // transactions that were watched becoming visible
	torn     int
	loadTime time.Duration
}

const (
	// roundTime is how long the load runs before it is judged: what it makes must fit into memory.
	roundTime = 2 * time.Minute
	// soakRush is the number of connections that make changes in numbers: some thousands a second.
	soakRush = 2
)

// TestSoak does harm for a long time, at random from the printed seed:
//
//	WALFERRY_HOURS=8             every nemesis, for so long; in every second round walferry's process is spared
//	WALFERRY_FAULTS=each=1       every nemesis so often
//	WALFERRY_FAULTS='kill -9=1000,broker kill -9=50'  these, so often
func TestSoak(t *testing.T) {
	hours, faults := os.Getenv("WALFERRY_HOURS"), os.Getenv("WALFERRY_FAULTS")
	if hours == "" && faults == "" {
		t.Skip("set WALFERRY_HOURS or WALFERRY_FAULTS to run it")
	}
	for _, d := range deliveries() {
		t.Run(d, func(t *testing.T) {
			strikes := chosen(t, faults)
			s := newSoak(t, d)
			if hours != "" {
				h, err := strconv.ParseFloat(hours, 64)
				s.must(err)
				s.strikeUntil(time.Now().Add(time.Duration(h * float64(time.Hour))))
			} else {
				s.strikeAll(strikes)
			}
			s.summary()
		})
	}
}

// chosen returns the nemeses of a list like "kill -9=20,DDL=5", each as often as it says.
func chosen(t *testing.T, list string) (strikes []nemesis) {
	t.Helper()
	if list == "" {
		return nil
	}
	for item := range strings.SplitSeq(list, ",") {
		at := strings.LastIndexByte(item, '=')
		n, err := strconv.Atoi(item[at+1:])
		if at < 0 || err != nil {
			t.Fatalf("WALFERRY_FAULTS: %q is no name=number", item)
		}
		before := len(strikes)
		for _, kind := range nemeses() {
			if item[:at] == kind.name || item[:at] == "each" {
				strikes = append(strikes, slices.Repeat([]nemesis{kind}, n)...)
			}
		}
		if len(strikes) == before {
			t.Fatalf("WALFERRY_FAULTS: nothing is called %q", item[:at])
		}
	}
	return strikes
}

func newSoak(t *testing.T, delivery string) *soak {
	t.Helper()
	n := newNetwork(t)
	s := &soak{rig: n.rig(t, delivery), net: n, faults: make(map[string]int), began: time.Now()}
	s.rush = soakRush
	s.started()
	var err error
	if s.reader, err = cdctest.NewReader([]string{s.broker.Addr()}, cdctest.Topics(s.name)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.reader.Close)
	return s
}

// strikeAll strikes so often, in an order drawn from the seed.
func (s *soak) strikeAll(strikes []nemesis) {
	s.rng.Shuffle(len(strikes), func(i, j int) { strikes[i], strikes[j] = strikes[j], strikes[i] })
	for len(strikes) > 0 {
		end := s.round()
		for len(strikes) > 0 && time.Now().Before(end) {
			s.pause(s.between(100*time.Millisecond, 1600*time.Millisecond))
			s.strike(strikes[:1])
			strikes = strikes[1:]
		}
		s.judge(len(strikes) == 0)
	}
}

// strikeUntil strikes at random. Every second round spares walferry's process, so that its memory can be
// watched.
func (s *soak) strikeUntil(deadline time.Time) {
	all := nemeses()
	sparing := slices.DeleteFunc(slices.Clone(all), func(n nemesis) bool { return n.ends })
	for n := 0; time.Now().Before(deadline); n++ {
		end := s.round()
		from := all
		if n%2 == 1 {
			from = sparing
		}
		for time.Now().Before(end) && time.Now().Before(deadline) {
			s.pause(s.between(200*time.Millisecond, 3*time.Second))
			s.strike(from)
		}
		s.judge(!time.Now().Before(deadline))
	}
}

// strike does one of the harms.
func (s *soak) strike(from []nemesis) {
	s.t.Helper()
	s.alive()
	n := from[s.rng.IntN(len(from))]
	if n.name != "kill -9" { // they are many
		s.t.Logf("%8s %s", time.Since(s.began).Round(time.Second), n.name)
	}
	n.do(s)
	s.faults[n.name]++
}

// pause lets time pass and looks at walferry's memory.
func (s *soak) pause(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		s.memory.look(s.walferry.PID())
		s.pass(min(time.Second, time.Until(end)))
	}
}

// round begins to load and returns when to stop.
func (s *soak) round() time.Time {
	s.load()
	return time.Now().Add(roundTime)
}

// judge ends the load, waits until everything has arrived, judges it and deletes it. The last time it
// stops walferry too.
func (s *soak) judge(last bool) {
	s.t.Helper()
	s.stopLoad()
	s.loadTime += s.loaded
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*patience)
	defer cancel()
	truth, err := cdctest.ReadTruth(ctx, s.db.DSN())
	s.must(err)
	partitions, err := s.reader.Partitions(ctx)
	s.must(err)
	if s.validator == nil {
		s.validator = cdctest.NewValidator(truth, s.name, partitions, s.delivery != exactlyOnce)
	} else {
		s.validator.Next(truth, partitions)
	}
	v := s.validator
	s.changes += len(truth)
	s.records += v.Expected()
	readErr := s.reader.Read(ctx, v.Note, func() bool { return v.Missing() == 0 })
	if readErr == nil && last {
		s.terminate(0)
	}
	if readErr == nil {
		var end func() bool
		if end, readErr = s.reader.End(ctx); readErr == nil {
			readErr = s.reader.Read(ctx, v.Note, end)
		}
	}
	failures := append(v.Failures(), s.unwatch(ctx)...)
	s.t.Logf("%8s judged %d changes; %d records came again so far", time.Since(s.began).Round(time.Second), len(truth), v.Repeats())
	if len(failures) > 0 || readErr != nil {
		s.summary()
		s.t.Fatalf("%v\n%s", readErr, strings.Join(failures, "\n"))
	}
	s.db.Exec("TRUNCATE cdctest.truth")
	s.must(s.reader.Forget(ctx))
}

// unwatch judges what a read_committed consumer saw in this round.
func (s *soak) unwatch(ctx context.Context) []string {
	if s.watched == nil {
		return nil
	}
	s.stopWatch()
	if s.validator.Missing() == 0 {
		s.must(s.watched.Rest(ctx, s.watcher))
	}
	torn := s.watched.Torn(s.validator)
	s.judged += s.watched.Judged()
	s.torn += len(torn)
	s.watched = nil
	return torn
}

// summary says what was done and what came of it.
func (s *soak) summary() {
	s.t.Helper()
	lost := 0
	if s.validator != nil {
		lost = s.validator.Missing()
	}
	var b strings.Builder
	line := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", what, fmt.Sprintf(format, args...))
	}
	b.WriteString("\n")
	line("delivery", "%s, Postgres %d", s.delivery, s.net.pg.Major())
	line("seed", "WALFERRY_SEED=%d", s.seed)
	line("time", "%s, %s of it under load", time.Since(s.began).Round(time.Second), s.loadTime.Round(time.Second))
	line("changes", "%d, %.0f a second under load, faults included", s.changes, float64(s.changes)/max(1, s.loadTime.Seconds()))
	line("records", "%d", s.records)
	total := 0
	for _, n := range s.faults {
		total += n
	}
	line("faults", "%d", total)
	for _, name := range slices.Sorted(maps.Keys(s.faults)) {
		line("", "%5d %s", s.faults[name], name)
	}
	line("lost", "%d", lost)
	line("repeated", "%d", s.validator.Repeats())
	line("reordered", "%d", s.validator.Reordered())
	if s.delivery == exactlyOnce {
		line("torn", "%d of %d transactions", s.torn, s.judged)
	}
	line("memory", "%s", s.memory.String())
	s.t.Log(b.String())
}
