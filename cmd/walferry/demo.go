package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/walferry/walferry/config"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/internal/demo"
	"github.com/walferry/walferry/internal/pgserver"
)

// arriveFor is how long the demo waits for the last rows after the shop has closed.
const arriveFor = 10 * time.Second

// demoOptions are the flags of demo.
type demoOptions struct {
	open        time.Duration // how long the shop writes
	keepRunning bool
}

func newDemoCommand() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show everything at work, with nothing installed",
		Long: "Starts a Postgres and a Kafka broker of its own, a small shop that writes to the one, walferry\n" +
			"between them and a consumer that prints each event as it arrives, with the time since its commit\n" +
			"beside it. It ends by itself or on Ctrl-C, and counts what was written and what arrived.\n\n" +
			"The first run downloads Postgres (15 MB). The broker is a small one in this process.",
		Example: "  walferry demo\n" +
			"  walferry demo --for 1m\n" +
			"  walferry demo --for 5s --keep-running    # then play with psql and walferry tail",
		Args: noArguments,
	}
	cmd.Flags().DurationVar(&o.open, "for", 20*time.Second, "how long the shop writes")
	cmd.Flags().BoolVar(&o.keepRunning, "keep-running", false, "stay up afterwards and print where Postgres and the broker are")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if o.open <= 0 {
			return usageError(cmd, errors.New("--for: want a duration above zero, such as 20s"))
		}
		return runDemo(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

// runDemo sets the stage, plays, and clears up. It returns nil when nothing was lost.
func runDemo(ctx context.Context, o demoOptions, stdout, stderr io.Writer) error {
	s := &screen{printer: newPrinter(stdout)}
	s.printer.width = terminalWidth(stdout)
	if !pgserver.Cached(pgserver.DefaultMajor) {
		s.say("Fetching Postgres %d (15 MB, this once) …", pgserver.DefaultMajor)
	}
	servers, err := demo.StartServers(ctx)
	if err != nil {
		return unlessStopped(ctx, err)
	}
	s.say("Postgres %d is up, and a broker that speaks Kafka's protocol. Walferry connects …", servers.PostgresVersion())
	err = (&stage{servers: servers, screen: s, ledger: demo.NewLedger(), stderr: stderr}).play(ctx, o)
	return errors.Join(unlessStopped(ctx, err), servers.Close())
}

// unlessStopped drops the error of work that was cut off by a wish to stop; a fault stays.
func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && fault.Of(err) == nil {
		return nil
	}
	return err
}

// stage is a demo with its servers up.
type stage struct {
	servers *demo.Servers
	screen  *screen
	ledger  *demo.Ledger
	stderr  io.Writer
}

// play runs pipeline, shop and consumer. They end in this order: the shop, when its time is over or
// ctx ends; after the last arrival the pipeline, by a clean stop; the consumer.
func (st *stage) play(ctx context.Context, o demoOptions) error {
	cfg, err := config.Load("", config.Flags{
		Name:   config.Flag{Text: "demo", Given: true},
		From:   config.Flag{Text: st.servers.PostgresURL(), Given: true},
		To:     config.Flag{Text: st.servers.Broker(), Given: true},
		Tables: config.Flag{Text: "shop.*", Given: true},
	}, os.LookupEnv)
	if err != nil {
		return err
	}
	cfg.HTTP.Listen = "" // a demo beside a real walferry leaves its port alone
	shop := demo.NewShop(st.servers.PostgresURL(), st.ledger)
	if err := shop.Create(ctx); err != nil {
		return err
	}

	// What ends one of them ends all; a wish to stop ends the shop alone, the others come after it.
	group, broken := errgroup.WithContext(context.WithoutCancel(ctx))
	streaming, endStream := context.WithCancel(broken)
	watching, endWatch := context.WithCancel(broken)
	acting, endShop := context.WithCancel(ctx)
	defer context.AfterFunc(broken, endShop)()
	group.Go(func() error { // the pipeline: until endStream
		return runPipeline(streaming, cfg, newLogger(config.Log{Level: slog.LevelWarn}, st.stderr))
	})
	group.Go(func() error { // the shop, and after it everything else
		defer endWatch()
		defer endStream()
		defer endShop()
		if err := shop.AwaitSlot(acting, cfg.Postgres.Slot.Name); err != nil {
			return nil //nolint:nilerr // told to stop, or the pipeline has failed and says why
		}
		group.Go(func() error { return st.watch(watching, cfg) }) // the consumer: until endWatch
		return st.open(ctx, acting, broken, shop, o)
	})
	return group.Wait()
}

// watch prints what arrives.
func (st *stage) watch(ctx context.Context, cfg config.Config) error {
	opts, err := broker.Options(cfg.Kafka)
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(append(opts, consumerOptions(cfg, nil, true)...)...)
	if err != nil {
		return fmt.Errorf("make a consumer: %w", err)
	}
	defer client.Close()
	return demo.Watch(ctx, client, st.ledger, st.screen.event)
}

// open lets the shop write, waits for the last row, and tells how it went.
func (st *stage) open(ctx, acting, broken context.Context, shop *demo.Shop, o demoOptions) error {
	st.screen.say("The shop opens for %s. Each line: time from COMMIT to the consumer, when, what, the row.\n", o.open)
	hours, closed := context.WithTimeout(acting, o.open)
	defer closed()
	if err := shop.Run(hours); err != nil || broken.Err() != nil {
		return err
	}
	st.arrive(broken)
	if broken.Err() != nil {
		return nil // the pipeline or the consumer has failed and says why
	}
	sum := st.ledger.Summary()
	st.screen.summary(sum)
	if o.keepRunning && ctx.Err() == nil {
		st.screen.say("\nStill running; Ctrl-C ends it.\n  psql '%s'\n  walferry tail --name demo --to %s", st.servers.PostgresURL(), st.servers.Broker())
		<-acting.Done()
	}
	return verdict(sum)
}

// arrive waits until nothing is missing any more, for arriveFor at most.
func (st *stage) arrive(broken context.Context) {
	ctx, cancel := context.WithTimeout(broken, arriveFor)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for st.ledger.Summary().Lost > 0 {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}

// verdict is nil when what arrived is what was committed.
func verdict(s demo.Summary) error {
	switch {
	case s.Lost > 0:
		return fault.New(fault.Undelivered, "run the demo", fmt.Errorf("%d of %d rows did not arrive", s.Lost, s.Written), "Please report it.")
	case s.Unexpected > 0:
		return fault.New(fault.Internal, "run the demo", fmt.Errorf("%d rows arrived that were never committed", s.Unexpected), "Please report it.")
	default:
		return nil
	}
}

// screen is where the consumer and the demo itself write.
type screen struct {
	mu      sync.Mutex // guards printer
	printer *printer
}

// say prints a sentence. Screens that cannot be written to are nobody's fault here: what counts is
// the exit code.
func (s *screen) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.printer.w, format+"\n", args...)
	_ = s.printer.flush()
}

// event prints a record with its lag.
func (s *screen) event(r *kgo.Record, lag time.Duration) {
	beside := fmt.Sprintf("%7s   ", "")
	if lag != 0 {
		beside = fmt.Sprintf("%7.1f ms", millis(lag))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.printer.show(r, beside)
	_ = s.printer.flush()
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (s *screen) summary(sum demo.Summary) {
	s.say(`
rows written %6d   in %d transactions; %d more were rolled back
rows arrived %6d   commit→consumer p50 %.1f ms, p95 %.1f ms`,
		sum.Written, sum.Transactions, sum.RolledBack, sum.Arrived, millis(sum.P50), millis(sum.P95))
	if sum.Repeated > 0 {
		s.say("repeated     %6d", sum.Repeated)
	}
	s.say("lost %d", sum.Lost)
}
