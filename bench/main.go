// Command bench measures how fast the walferry of this tree drains a backlog, and what it costs,
// beside readers that throw everything away; and how long a change is on its way under an even load. It starts a real Postgres and a real Kafka broker on
// this machine; see docs/benchmarks.md for the method and for figures.
//
// It is a module of its own, so that what it needs stays out of the product.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/walferry/walferry/internal/kafkaserver"
	"github.com/walferry/walferry/internal/pgserver"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := bench
	if len(os.Args) > 1 && os.Args[1] == "read" {
		run = readCommand
	}
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// load is what a slot is filled with.
type load struct {
	name string
	// rows is how many rows there are, perCommit how many of them one transaction holds.
	rows, perCommit int
}

// rig is what all measurements share.
type rig struct {
	pg     *pgserver.Server
	kafka  *kafkaserver.Server
	binary string // walferry's
	dir    string // for configuration and logs
}

// bench runs every load and prints a table for each.
func bench(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	rows := flags.Int("rows", 300_000, "rows of each load")
	repeats := flags.Int("repeats", 3, "how often each reader drains it; 0 leaves the draining out")
	lasts := flags.Duration("steady", 20*time.Second, "how long each even load lasts; 0 leaves them out")
	if err := flags.Parse(args); err != nil {
		return err
	}
	r, closeRig, err := newRig(ctx)
	if err != nil {
		return err
	}
	defer closeRig()
	fmt.Fprintf(out, "%s, %d processors, Postgres %d, %s\n", cpuModel(), runtime.NumCPU(), r.pg.Major(), runtime.Version())
	contenders := r.contenders(out)
	if *lasts > 0 {
		if err := r.steady(ctx, out, []int{2000, 8000}, *lasts); err != nil {
			return err
		}
	}
	for _, l := range []load{
		{"transactions of one row", *rows, 1},
		{"transactions of 100 rows", *rows, 100},
	} {
		if *repeats == 0 {
			break
		}
		results, err := r.measure(ctx, l, contenders, *repeats)
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		printTable(out, l, contenders, results)
	}
	return nil
}

// newRig starts the servers and builds walferry.
func newRig(ctx context.Context) (r *rig, closeRig func(), err error) {
	r = &rig{}
	closeRig = func() {
		if r.kafka != nil {
			_ = r.kafka.Close()
		}
		if r.pg != nil {
			_ = r.pg.Close()
		}
		_ = os.RemoveAll(r.dir)
	}
	defer func() {
		if err != nil {
			closeRig()
		}
	}()
	if r.dir, err = os.MkdirTemp("", "walferry-bench-"); err != nil {
		return nil, nil, err
	}
	r.binary = filepath.Join(r.dir, "walferry")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", r.binary, "./cmd/walferry") //nolint:gosec // the path is our own
	build.Dir = ".."
	if said, err := build.CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("build walferry (run this in the folder bench): %w\n%s", err, said)
	}
	r.pg, err = pgserver.Start(ctx, pgserver.Options{Settings: map[string]string{"max_wal_size": "16GB", "checkpoint_timeout": "1h"}})
	if err != nil {
		return nil, nil, err
	}
	r.kafka, err = kafkaserver.Start(ctx, kafkaserver.Options{})
	if err != nil {
		return nil, nil, err
	}
	return r, closeRig, nil
}

// contender is something that drains a slot.
type contender struct {
	name string
	// drain reads the slot to the end of the load, by itself on the machine.
	drain func(ctx context.Context, slot string, f *filled) (result, error)
}

// contenders are walferry and what it is compared with. The first one is the reference.
func (r *rig) contenders(out io.Writer) []contender {
	all := []contender{
		{"reader, never resting", r.reader(false)},
		{"reader, resting", r.reader(true)},
		{"walferry, " + exactlyOnce, r.walferry(exactlyOnce)},
		{"walferry, " + atLeastOnce, r.walferry(atLeastOnce)},
	}
	path := recvlogicalPath()
	if path == "" {
		fmt.Fprintln(out, "pg_recvlogical is not installed: the reference is a reader that does the same.")
		return all
	}
	return slices.Insert(all, 0, contender{"pg_recvlogical", r.recvlogical(path)})
}

// result is one measurement.
type result struct {
	took    time.Duration // from the first row to the last
	cpu     time.Duration // of the process, in user and system mode
	peakRSS int64         // bytes
}

// measure fills a slot for each measurement with the same WAL, and has the contenders drain theirs
// in turns. The results are by contender.
func (r *rig) measure(ctx context.Context, l load, contenders []contender, repeats int) ([][]result, error) {
	slot := func(c, n int) string { return fmt.Sprintf("bench_%d_%d_%d", l.perCommit, c, n) }
	var slots []string
	for c := range contenders {
		for n := range repeats {
			slots = append(slots, slot(c, n))
		}
	}
	f, err := r.fill(ctx, l, slots)
	if err != nil {
		return nil, err
	}
	results := make([][]result, len(contenders))
	for n := range repeats {
		for c := range contenders {
			res, err := contenders[c].drain(ctx, slot(c, n), f)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", contenders[c].name, err)
			}
			results[c] = append(results[c], res)
		}
	}
	return results, r.dropSlots(ctx, slots)
}

// printTable prints the medians, and the range of the rates: a wide one means that the machine had other work.
func printTable(out io.Writer, l load, contenders []contender, results [][]result) {
	fmt.Fprintf(out, "\n%d rows in %s, median of %d:\n\n", l.rows, l.name, len(results[0]))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\trows/s\tlowest\thighest\tof %s\tCPU s per million rows\tpeak RSS MB\t\n", contenders[0].name)
	seconds := func(r result) float64 { return r.took.Seconds() }
	rows := float64(l.rows)
	reference := rows / median(results[0], seconds)
	for c, all := range results {
		took := sorted(all, seconds)
		rate := rows / median(all, seconds)
		cpu := median(all, func(r result) float64 { return r.cpu.Seconds() })
		rss := median(all, func(r result) float64 { return float64(r.peakRSS) / (1 << 20) })
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.0f\t%.2f\t%.1f\t%.0f\t\n", contenders[c].name,
			rate, rows/took[len(took)-1], rows/took[0], rate/reference, cpu/rows*1e6, rss)
	}
	_ = w.Flush() // nothing to do about a standard output that is gone
}

func median(results []result, of func(result) float64) float64 {
	all := sorted(results, of)
	return all[len(all)/2]
}

func sorted(results []result, of func(result) float64) []float64 {
	var all []float64
	for _, r := range results {
		all = append(all, of(r))
	}
	slices.Sort(all)
	return all
}

// cpuModel is the processor's name, where the system tells it.
func cpuModel() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(name, "\t :"))
		}
	}
	return runtime.GOARCH
}
