package replication

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/pgserver"
	"github.com/walferry/walferry/internal/pgtest"
)

// watching is a watch of a test's database, whose newest observation can be waited for.
type watching struct {
	t    *testing.T
	seen chan Observation
}

// hurried keeps tests short.
var hurried = rhythm{ask: 50 * time.Millisecond, detail: 2, login: 500 * time.Millisecond, rest: 200 * time.Millisecond}

func watchOf(t *testing.T, cfg Config) *watching {
	t.Helper()
	w := &watching{t: t, seen: make(chan Observation)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		New(cfg, slog.New(slog.DiscardHandler), nil).watchAt(ctx, hurried, func(o Observation) {
			select {
			case w.seen <- o:
			case <-ctx.Done():
			}
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

// until waits for an observation that suits.
func (w *watching) until(what string, suits func(Observation) bool) Observation {
	w.t.Helper()
	patience := time.NewTimer(30 * time.Second)
	defer patience.Stop()
	for {
		select {
		case o := <-w.seen:
			if suits(o) {
				return o
			}
		case <-patience.C:
			w.t.Fatalf("waited in vain: %s", what)
		}
	}
}

func answered(o Observation) bool { return !o.Asked.IsZero() && o.Err == nil && o.LoginErr == nil }

func TestWatchSeesTheServer(t *testing.T) {
	t.Parallel()
	for _, major := range []int{14, 18} {
		t.Run(map[int]string{14: "14", 18: "18"}[major], func(t *testing.T) {
			t.Parallel()
			db := pgtest.SharedMajor(t, major).Database()
			db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
			cfg := configOf(db, "public.t")
			w := watchOf(t, cfg)
			o := w.until("an answer", answered)
			if o.Slot != nil || o.Published || o.End == 0 {
				t.Errorf("an empty database: %+v", o)
			}
			if o.Offset.Abs() > o.Blur+time.Millisecond || o.Blur <= 0 {
				t.Errorf("the clock of this machine is off by %v, to within %v", o.Offset, o.Blur)
			}
			db.Exec("CREATE PUBLICATION walferry_shop FOR TABLE t")
			db.Exec("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", cfg.Slot.Name)
			o = w.until("slot and publication", func(o Observation) bool { return o.Slot != nil && !o.Slot.Active && o.Published }) // while it is being made it is active
			s := o.Slot
			if s.Active || s.Plugin != "pgoutput" || s.Database != db.Name || s.WALStatus != "reserved" || s.SafeWAL != nil ||
				s.Restart == 0 || s.Confirmed < s.Restart || o.End < s.Confirmed || s.InactiveSince.IsZero() != (major < 17) {
				t.Errorf("the slot: %+v, the end of the WAL: %v", s, o.End)
			}
			db.Exec("SELECT pg_drop_replication_slot($1)", cfg.Slot.Name)
			w.until("no slot", func(o Observation) bool { return o.Slot == nil })
		})
	}
}

func TestWatchNamesTheOldestTransaction(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t, pgserver.Options{Settings: map[string]string{"max_prepared_transactions": "5"}})
	db := pg.Database()
	db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
	url := role(t, db, "plain", "")
	for name, dsn := range map[string]string{"as the superuser": db.DSN(), "as a role that sees no other's times": url} {
		t.Run(name, func(t *testing.T) {
			cfg := configOf(db, "public.t")
			cfg.URL = dsn
			holder := db.Conn()
			if _, err := holder.Exec(t.Context(), "SET application_name = 'nightly'; BEGIN; INSERT INTO t VALUES (1)"); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			w := watchOf(t, cfg)
			o := w.until("the transaction", func(o Observation) bool { return o.Oldest != nil })
			if got := o.Oldest; got.PID != int(holder.PgConn().PID()) || got.Application != "nightly" || got.Prepared || got.Began.Sub(began).Abs() > 10*time.Second {
				t.Errorf("%+v, want process %d since %v", got, holder.PgConn().PID(), began)
			}
			if _, err := holder.Exec(t.Context(), "PREPARE TRANSACTION 'p'"); err != nil {
				t.Fatal(err)
			}
			w.until("that it is prepared", func(o Observation) bool { return o.Oldest != nil && o.Oldest.Prepared && o.Oldest.PID == 0 })
			db.Exec("ROLLBACK PREPARED 'p'")
			w.until("none", func(o Observation) bool { return o.Oldest == nil })
		})
	}
}

// The connection that stands goes on to answer; the next login is what fails.
func TestWatchNoticesAWrongPassword(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).Database()
	cfg := configOf(db, "public.t")
	cfg.URL = role(t, db, "rotated", "")
	w := watchOf(t, cfg)
	w.until("an answer", answered)
	db.Exec("ALTER ROLE rotated PASSWORD 'another'")
	o := w.until("a login that is refused", func(o Observation) bool { return o.LoginErr != nil })
	if !fault.Is(o.LoginErr, fault.PostgresAuth) || o.Err != nil || time.Since(o.Asked) > 5*time.Second {
		t.Errorf("%+v", o)
	}
	db.Exec("ALTER ROLE rotated PASSWORD 'right'")
	w.until("a login that is taken", answered)
}

func TestWatchOutlivesTheServer(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t, pgserver.Options{})
	db := pg.Database()
	w := watchOf(t, configOf(db, "public.t"))
	before := w.until("an answer", answered)
	if err := pg.Stop(t.Context(), pgserver.Fast); err != nil {
		t.Fatal(err)
	}
	o := w.until("no answer", func(o Observation) bool { return o.Err != nil })
	if !fault.Is(o.Err, fault.PostgresUnavailable) || o.Asked.Before(before.Asked) {
		t.Errorf("%+v", o)
	}
	if err := pg.Server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.until("an answer again", answered)
}

func TestTheBestMeasurementOfTheClocksCounts(t *testing.T) {
	const ms = time.Millisecond
	var w watch
	w.measured(offset{ahead: 250 * ms, blur: 40 * ms})
	w.measured(offset{ahead: 201 * ms, blur: 1 * ms})
	w.measured(offset{ahead: 180 * ms, blur: 30 * ms})
	if w.seen.Offset != 201*ms || w.seen.Blur != 1*ms {
		t.Errorf("%v to within %v", w.seen.Offset, w.seen.Blur)
	}
	w.measured(offset{ahead: -time.Hour, blur: 30 * ms}) // somebody set a clock
	if w.seen.Offset != -time.Hour {
		t.Errorf("after a jump: %v", w.seen.Offset)
	}
	for range 1000 {
		w.measured(offset{ahead: 7 * ms, blur: 5 * ms})
	}
	if len(w.offsets) > keptOffsets {
		t.Errorf("%d measurements are kept", len(w.offsets))
	}
}
