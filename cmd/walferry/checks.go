package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/monitor"
	"github.com/walferry/walferry/pipeline"
)

const (
	// glanceEvery is the pace of the checks that only look at what is known, probeEvery that of those that
	// connect.
	glanceEvery = time.Second
	probeEvery  = 8 * time.Second
	probeFor    = 5 * time.Second
	// stuckAfter is how long records may wait without any sign of an acknowledgement, and what was acknowledged
	// without a checkpoint, before that counts as broken.
	stuckAfter = 10 * time.Second
	// unansweredAfter is how old the server's newest answer may be.
	unansweredAfter = 8 * time.Second
	// openTooLong is the age from which an open transaction is worth a word.
	openTooLong = time.Minute
)

// checksOf are the checks of a pipeline, in the order in which they are shown.
func checksOf(w *watched) []monitor.Check {
	glance := func(name string, look func(time.Time) monitor.Finding) monitor.Check {
		return monitor.Check{
			Name: name, Every: glanceEvery, Timeout: glanceEvery, Late: fault.Internal,
			Run: func(context.Context) monitor.Finding { return look(time.Now()) },
		}
	}
	publishing, checkpointing := new(standstill), new(standstill)
	return []monitor.Check{
		glance("stream", w.checkStream),
		glance("postgres", w.checkPostgres),
		glance("slot", w.checkSlot),
		glance("publication", w.checkPublication),
		glance("tables", w.checkTables),
		{Name: "kafka", Every: probeEvery, Timeout: probeFor, Late: fault.KafkaUnavailable, Run: w.checkKafka},
		glance("publishing", func(now time.Time) monitor.Finding { return w.checkPublishing(publishing, now) }),
		glance("checkpoint", func(now time.Time) monitor.Finding { return w.checkCheckpoint(checkpointing, now) }),
		glance("wal", w.checkWAL),
		glance("open_transaction", w.checkTransaction),
	}
}

// checkStream looks whether the pipeline reads, or stands by.
func (w *watched) checkStream(time.Time) monitor.Finding {
	s := w.pipeline.Status()
	if monitor.State(s.State).Ready() {
		return monitor.Finding{}
	}
	f := monitor.Finding{State: monitor.Failing, Detail: string(s.State)}
	if s.State == pipeline.Reconnecting || s.LastErrorAt.After(s.Since) {
		f.Code = s.LastError
	}
	return f
}

// checkPostgres looks whether the server takes a new login and answers.
func (w *watched) checkPostgres(now time.Time) monitor.Finding {
	o := w.seen.Load()
	switch {
	case o == nil:
		return monitor.Finding{State: monitor.Unknown}
	case o.LoginErr != nil:
		return monitor.Failed(o.LoginErr)
	case o.Err != nil:
		return monitor.Failed(o.Err)
	case now.Sub(o.Asked) > unansweredAfter:
		return monitor.Finding{State: monitor.Failing, Code: fault.PostgresUnavailable, Detail: "no answer"}
	}
	return monitor.Finding{}
}

// checkSlot looks whether the slot is there and still has its WAL. Before the first start has made it, it
// is not missed.
func (w *watched) checkSlot(time.Time) monitor.Finding {
	o := w.seen.Load()
	switch {
	case o == nil || o.Asked.IsZero():
		return monitor.Finding{State: monitor.Unknown}
	case o.Slot == nil && w.pipeline.Status().Handed == 0:
		return monitor.Finding{State: monitor.Unknown}
	case o.Slot == nil:
		return monitor.Finding{State: monitor.Failing, Code: fault.SlotMissing}
	case o.Slot.Invalidation != "":
		return monitor.Finding{State: monitor.Failing, Code: fault.SlotLost, Detail: o.Slot.Invalidation}
	case o.Slot.WALStatus == "lost":
		return monitor.Finding{State: monitor.Failing, Code: fault.SlotLost, Detail: "wal_status lost"}
	}
	return monitor.Finding{}
}

// checkPublication looks whether the publication is there.
func (w *watched) checkPublication(time.Time) monitor.Finding {
	o := w.seen.Load()
	switch {
	case o == nil || o.Asked.IsZero():
		return monitor.Finding{State: monitor.Unknown}
	case !o.Published && w.pipeline.Status().Handed == 0:
		return monitor.Finding{State: monitor.Unknown}
	case !o.Published:
		return monitor.Finding{State: monitor.Failing, Code: fault.PublicationMissing}
	}
	return monitor.Finding{}
}

// checkTables looks whether configured tables have left the stream.
func (w *watched) checkTables(time.Time) monitor.Finding {
	missing := w.pipeline.Status().Unpublished
	if len(missing) == 0 {
		return monitor.Finding{}
	}
	const shown = 5
	detail := "not read: " + strings.Join(missing[:min(shown, len(missing))], ", ")
	if len(missing) > shown {
		detail += fmt.Sprintf(" and %d more", len(missing)-shown)
	}
	return monitor.Finding{State: monitor.Failing, Code: fault.PublicationLacksTable, Detail: detail}
}

// checkKafka logs in to the brokers anew: connections that stand say nothing of whether the next one will.
func (w *watched) checkKafka(ctx context.Context) monitor.Finding {
	opts, err := broker.Options(w.cfg.Kafka)
	if err != nil {
		return monitor.Failed(err)
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return monitor.Failed(fault.New(fault.Internal, "check the brokers", err, ""))
	}
	defer client.Close()
	return monitor.Failed(broker.ProbeAgain(ctx, client, w.cfg.Kafka))
}

// standstill tells since when something has not moved. It belongs to one check, whose runs follow each other.
type standstill struct {
	at    [2]int64
	since time.Time
}

// of returns how long there has been something that waits and at has been the same.
func (s *standstill) of(waits bool, at [2]int64, now time.Time) time.Duration {
	if !waits || s.since.IsZero() || at != s.at {
		s.at, s.since = at, now
	}
	return now.Sub(s.since)
}

// checkPublishing looks whether records are acknowledged, or none waits.
func (w *watched) checkPublishing(still *standstill, now time.Time) monitor.Finding {
	s := w.pipeline.Status()
	stood := still.of(s.Pending > 0, [2]int64{int64(s.Durable), s.Pending}, now) //nolint:gosec // compared, nothing else
	if stood < stuckAfter {
		return monitor.Finding{}
	}
	return monitor.Finding{State: monitor.Failing, Code: fault.KafkaUnavailable, Detail: fmt.Sprintf("%d records wait, none was acknowledged for %s", s.Pending, stood.Round(time.Second))}
}

// checkCheckpoint looks whether what was acknowledged gets into the checkpoint.
func (w *watched) checkCheckpoint(still *standstill, now time.Time) monitor.Finding {
	s := w.pipeline.Status()
	waits := s.Reaches(s.Saved) < s.Reaches(s.Durable)
	if still.of(waits, [2]int64{int64(s.Saved)}, now) < stuckAfter { //nolint:gosec // compared, nothing else
		return monitor.Finding{}
	}
	return monitor.Finding{State: monitor.Failing, Code: s.LastError, Detail: "no checkpoint at or after " + s.Durable.String()}
}

// checkWAL warns before the server gives up the WAL that the slot needs: when more than half of what it may
// keep is used.
func (w *watched) checkWAL(time.Time) monitor.Finding {
	o := w.seen.Load()
	if o == nil || o.Slot == nil {
		return monitor.Finding{State: monitor.Unknown}
	}
	slot := slotOf(w.cfg.Postgres.Slot.Name, o)
	near := slot.Safe != nil && *slot.Safe < int64(slot.Retained) //nolint:gosec // bytes on a disk
	if !near && slot.WALStatus != "unreserved" {
		return monitor.Finding{}
	}
	f := monitor.Finding{State: monitor.Warning, Code: fault.SlotLost, Detail: fmt.Sprintf("%d bytes of WAL are kept, wal_status %s", slot.Retained, slot.WALStatus)}
	if slot.Safe != nil {
		f.Detail += fmt.Sprintf(", after %d more the slot is lost", max(0, *slot.Safe))
	}
	return f
}

// checkTransaction names a transaction that has been open for long: until it ends the server keeps all WAL
// since it began.
func (w *watched) checkTransaction(now time.Time) monitor.Finding {
	o := w.seen.Load()
	if o == nil || o.Oldest == nil {
		return monitor.Finding{}
	}
	t := o.Oldest
	age := now.Sub(t.Began)
	if age < openTooLong {
		return monitor.Finding{}
	}
	who := monitor.Transaction{PID: t.PID, Application: t.Application, Prepared: t.Prepared}.Who()
	return monitor.Finding{State: monitor.Warning, Detail: fmt.Sprintf("%s, open for %s, has the server keep WAL", who, age.Round(time.Second))}
}
