package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walferry/walferry/config"
	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/monitor"
	"github.com/walferry/walferry/pipeline"
	"github.com/walferry/walferry/replication"
)

// watched is a running pipeline with all that is known of it from outside: what the server says of slot and
// WAL, and what the checks found.
type watched struct {
	cfg      config.Config
	pipeline *pipeline.Pipeline
	source   *replication.Source
	checks   *monitor.Checks
	history  monitor.History
	seen     atomic.Pointer[replication.Observation] // nil before the first

	mu      sync.Mutex // guards reached
	reached [len(stages)]event.LSN
}

func newWatched(cfg config.Config, p *pipeline.Pipeline, source *replication.Source) *watched {
	w := &watched{cfg: cfg, pipeline: p, source: source}
	w.checks = monitor.NewChecks(checksOf(w)...)
	return w
}

// during watches while work runs, until that ends or is told to stop: a stop waits for no question.
func (w *watched) during(ctx context.Context, work func(context.Context) error) error {
	watching, end := context.WithCancel(ctx)
	var both sync.WaitGroup
	both.Go(func() { w.source.Watch(watching, w.note) })
	both.Go(func() { w.checks.Run(watching) })
	err := work(ctx)
	end()
	both.Wait()
	return err
}

func (w *watched) note(o replication.Observation) {
	if o.Err == nil {
		w.history.Note(o.Asked, o.End)
		w.pipeline.ClockOffset(o.Offset)
	}
	w.seen.Store(&o)
	w.places(w.pipeline.Status(), &o)
}

// status shows it to the monitor. It does not block.
func (w *watched) status() monitor.Status {
	now := time.Now()
	s := w.pipeline.Status()
	st := monitor.Status{
		Pipeline: w.cfg.Name, State: monitor.State(s.State), Since: s.Since,
		LastError: s.LastError, LastErrorAt: s.LastErrorAt,
		Received: s.Received, Handed: s.Handed, Durable: s.Durable, Confirmed: s.Saved,
		PendingRecords: s.Pending,
		Checks:         w.checks.Results(),
	}
	o := w.seen.Load()
	if o == nil || o.Asked.IsZero() {
		return st
	}
	st.WALEnd, st.WALSeen = o.End, o.Asked.UTC()
	st.ClockOffset = o.Offset.Seconds()
	st.Slot = slotOf(w.cfg.Postgres.Slot.Name, o)
	if t := o.Oldest; t != nil {
		st.Oldest = &monitor.Transaction{
			PID: t.PID, Application: t.Application, Prepared: t.Prepared,
			Began: t.Began.UTC(), Seconds: max(0, now.Sub(t.Began).Seconds()),
		}
	}
	st.Lag = w.lag(s, o, now)
	return st
}

// stages are those of monitor.StageLag, in their order.
var stages = [...]monitor.Stage{monitor.StageReceived, monitor.StageHandedOver, monitor.StageAcknowledged, monitor.StageCheckpointed, monitor.StageConfirmed}

// places returns how far each stage has got. A place that was reached stays reached: while no record waits, all
// of them are where the publisher is, though nothing was saved there, and the next record must not make that unsaid.
func (w *watched) places(s pipeline.Status, o *replication.Observation) [len(stages)]event.LSN {
	confirmed := event.LSN(0)
	if o.Slot != nil {
		confirmed = o.Slot.Confirmed
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, at := range [len(stages)]event.LSN{
		max(s.Received, s.Handed), // a new connection begins at the slot's position
		s.Handed, s.Reaches(s.Durable), s.Reaches(s.Saved), s.Reaches(confirmed),
	} {
		w.reached[i] = max(w.reached[i], at)
	}
	return w.reached
}

// lag returns the lag of each stage, nil before anything was read and while another instance reads.
func (w *watched) lag(s pipeline.Status, o *replication.Observation, now time.Time) []monitor.StageLag {
	if s.Handed == 0 || s.State == pipeline.Standby {
		return nil
	}
	var lags []monitor.StageLag
	for i, at := range w.places(s, o) {
		if lag, known := w.history.Of(at, now); known {
			lags = append(lags, monitor.StageLag{Stage: stages[i], Lag: lag})
		}
	}
	return lags
}

// slotOf shows the slot, nil where there is none.
func slotOf(name string, o *replication.Observation) *monitor.Slot {
	s := o.Slot
	if s == nil {
		return nil
	}
	out := &monitor.Slot{
		Name: name, Active: s.Active, PID: s.PID, Restart: s.Restart, Confirmed: s.Confirmed,
		Safe: s.SafeWAL, WALStatus: s.WALStatus, Invalidation: s.Invalidation, InactiveSince: s.InactiveSince,
		SpilledTransactions: s.Spill.Transactions, SpillCount: s.Spill.Count, SpilledBytes: s.Spill.Bytes,
	}
	if s.Restart > 0 {
		out.Retained = uint64(max(o.End, s.Restart) - s.Restart)
		out.Held = uint64(max(s.Confirmed, s.Restart) - s.Restart)
	}
	return out
}
