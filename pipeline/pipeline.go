package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/lock"
)

// Config says how a pipeline starts.
type Config struct {
	Name string
	// Run tells this process apart from others that run the same pipeline, before, after or beside
	// it; it is random. It stands in the checkpoints that this process writes.
	Run string
	// CreateSlot and AdoptSlot decide a start without a checkpoint; see checkpoint.Judge.
	CreateSlot, AdoptSlot bool
	// StartTimeout is how long servers may be unreachable at start.
	StartTimeout time.Duration
	// Transactions are the limits of a pipeline that delivers exactly once.
	Transactions Transactions
}

const (
	// drainFor is how long a stop waits for acknowledgements; with the last save and the last
	// status a stop takes 10 s at most.
	drainFor = 6 * time.Second
	// stopFor bounds everything that goes on after a stop was asked for.
	stopFor = 8 * time.Second
	// closeFor is how long each connection gets to close.
	closeFor = 2 * time.Second
	// checkTablesEvery is how often the publication is compared with the configured tables.
	checkTablesEvery = 10 * time.Second
)

// Pipeline moves changes from one source to one sink. Make one with New; Run it once.
type Pipeline struct {
	cfg     Config
	source  Source
	sink    Sink
	store   Store
	log     *slog.Logger
	metrics *Metrics

	delivery   delivery
	publishing chan struct{} // of one: full while publish runs; who fills it knows that nothing is published
	cursor     cursor        // publish's alone, but for what delivery says

	// claimed is closed when the checkpoint was read for the first time with the slot held.
	claimed chan struct{}

	fingerprint string // of publication and options, as set-up found them
	claim       claim
	ahead       bool          // the newest claim found the server behind the checkpoint; stream's alone
	reclaim     chan struct{} // asks for the claim to be made again
	status      status
	latency     latency
}

// New makes a pipeline that delivers at least once; it does no I/O. A nil Metrics counts nothing.
func New(cfg Config, source Source, sink Sink, store Store, log *slog.Logger, m *Metrics) *Pipeline {
	p := &Pipeline{
		cfg: cfg, source: source, sink: sink, store: store, log: log, metrics: m,
		claimed: make(chan struct{}), reclaim: make(chan struct{}, 1), publishing: make(chan struct{}, 1),
		claim: claim{mu: lock.New()},
	}
	if m != nil {
		p.latency.seconds = m.latency
	}
	p.delivery = newAtLeastOnce(p)
	p.status.set(Starting)
	return p
}

// NewExactlyOnce makes a pipeline that delivers exactly once: store must save by committing what was
// written to sink.
func NewExactlyOnce(cfg Config, source Source, sink Transactional, store Store, log *slog.Logger, m *Metrics) *Pipeline {
	p := New(cfg, source, sink, store, log, m)
	p.delivery = newExactlyOnce(p, sink, cfg.Transactions)
	return p
}

// Run starts the pipeline and blocks until ctx ends or it cannot go on. It returns nil when ctx
// has ended and everything that was read is delivered, saved and confirmed; else a *fault.Error.
//
// After a cancel it stops reading, drains, saves, confirms, and gives the slot back, within 10 s.
func (p *Pipeline) Run(ctx context.Context) error {
	err := p.prepare(ctx)
	if err == nil {
		err = p.run(ctx)
	} else if ctx.Err() != nil {
		err = nil // nothing was read yet
	}
	p.status.set(Stopping)
	return errors.Join(err, p.release())
}

// run holds every long-lived goroutine of a pipeline; those of a connection stand in session. They
// stop in this order: publish, because work has ended; the delivery, which waits for publish and
// makes the last position durable; stream, which the delivery ends by endStream, so that the server
// hears of that position.
func (p *Pipeline) run(ctx context.Context) error {
	group, work := errgroup.WithContext(ctx)
	// What must be finished after a stop goes on under late, which ends some seconds after work.
	late, endLate := context.WithCancel(context.WithoutCancel(ctx))
	defer endLate()
	defer context.AfterFunc(work, func() {
		t := time.AfterFunc(stopFor, endLate)
		context.AfterFunc(late, func() { t.Stop() })
	})()
	streaming, endStream := context.WithCancel(late)
	defer endStream()

	group.Go(func() error { return p.stream(streaming, work) })
	group.Go(func() error { defer endStream(); return p.delivery.run(work, late) })
	group.Go(func() error { return p.failed(work) })
	group.Go(func() error { return p.watchTables(work) })
	return group.Wait()
}

// failed ends the pipeline when a record could not be delivered.
func (p *Pipeline) failed(ctx context.Context) error {
	select {
	case <-p.sink.Failed():
		return p.sink.Err()
	case <-ctx.Done():
		return nil
	}
}

// watchTables reports configured tables whose changes have silently left the stream.
func (p *Pipeline) watchTables(ctx context.Context) error {
	tick := time.NewTicker(checkTablesEvery)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		missing, err := p.source.Unpublished(ctx)
		if err != nil {
			continue // the stream's own connection tells what is wrong with the server
		}
		p.metrics.unpublished(len(missing))
		p.status.unpublished(missing)
		if now := fmt.Sprint(missing); now != said && len(missing) > 0 {
			p.log.Warn("configured tables are not in the publication: their changes are not read", "tables", missing)
			said = now
		} else if len(missing) == 0 {
			said = ""
		}
	}
}

// release closes source, sink and store at once, each with its own time, and joins their errors.
func (p *Pipeline) release() error {
	var (
		wg   sync.WaitGroup
		errs [3]error
	)
	for i, c := range []struct {
		what  string
		close func() error
	}{
		{"close the source", func() error { p.source.Close(); return nil }},
		{"close the sink", func() error { p.sink.Close(); return nil }},
		{"close the checkpoint store", p.store.Close},
	} {
		wg.Go(func() {
			done := make(chan error, 1)
			go func() { done <- c.close() }() // ends by itself, or is left behind with the process
			select {
			case err := <-done:
				if err != nil {
					errs[i] = fmt.Errorf("%s: %w", c.what, err)
				}
			case <-time.After(closeFor):
				errs[i] = fmt.Errorf("%s: still not done after %s", c.what, closeFor)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

// undelivered is how a stop ends that leaves changes behind: pending of them were sent and not
// acknowledged, and what was acknowledged after saved could not be noted.
func undelivered(pending int64, saved event.LSN, err error) error {
	what := fmt.Errorf("%d changes will be sent again by the next start", pending)
	if pending == 0 {
		what = fmt.Errorf("the position could not be saved: changes after %s will be sent again by the next start", saved)
	}
	if err != nil {
		what = fmt.Errorf("%w: %w", what, err)
	}
	return fault.New(fault.Undelivered, "stop", what,
		"Nothing is lost: the slot keeps what was not acknowledged. See whether the brokers are well, then start again.")
}

// place puts the pipeline's name into an error.
func (p *Pipeline) place(err error) error {
	if f := fault.Of(err); f != nil && f.Pipeline == "" {
		f.Pipeline = p.cfg.Name
	}
	return err
}
