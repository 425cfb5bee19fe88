package replication

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// watchFor bounds each question of a watch and each login.
const watchFor = 5 * time.Second

// rhythm is how often a watch asks what.
type rhythm struct {
	// ask is for the end of the WAL and the slot; detail is how many of these come to one question for
	// what costs the server more.
	ask    time.Duration
	detail int
	// login is how often it logs in anew: a connection that stands says nothing of whether the next one
	// will. rest is the least time between two attempts after one that failed.
	login, rest time.Duration
}

// usualRhythm lets a lag be told within a second, and a wrong password within fifteen.
func usualRhythm() rhythm {
	return rhythm{ask: 500 * time.Millisecond, detail: 10, login: 8 * time.Second, rest: 3 * time.Second}
}

// Observation is what a watch knows of server and slot.
type Observation struct {
	// Asked is when the server last answered, by this machine's clock; zero where it never has. What
	// follows is of that time.
	Asked time.Time
	// End is the end of the WAL that the server has on disk.
	End event.LSN
	// Offset is how far the server's clock is ahead of this machine's, Blur how far it may be off.
	Offset, Blur time.Duration
	// Published tells whether the publication exists.
	Published bool
	// Slot is nil where there is none.
	Slot *SlotView
	// Oldest is the oldest transaction that writes, in any database of the server: the slot keeps WAL
	// back to where it began. Nil where there is none.
	Oldest *OpenTransaction
	// Err is why the newest question was not answered, LoginErr why the newest login failed. An older
	// connection may serve for a while though no new one is made. Took is the time of the newest question.
	Err, LoginErr error
	Took          time.Duration
}

// SlotView is the slot as the server sees it.
type SlotView struct {
	event.Slot
	// SafeWAL is how many bytes can still be written before the slot is in danger of being invalidated;
	// nil where no limit is set, or the slot is lost.
	SafeWAL *int64
	// InactiveSince is since when nobody holds the slot: from 17 on.
	InactiveSince time.Time
	// Spill counts what decoding has written to disk since the statistics were reset.
	Spill Spill
}

// Spill are the decoding statistics of a slot: transactions that were too large for
// logical_decoding_work_mem, how often they were spilled, and the bytes of that.
type Spill struct{ Transactions, Count, Bytes int64 }

// OpenTransaction is a transaction that has not ended.
type OpenTransaction struct {
	// PID and Application are those of its session; a prepared transaction has none.
	PID         int
	Application string
	Prepared    bool
	// Began is when, by this machine's clock; where the role may not see it, when it was first seen.
	Began time.Time
}

// watch is one run of Source.Watch.
type watch struct {
	cfg     Config
	want    func() suits // the server that the stream comes from
	conn    *pgx.Conn
	rhythm  rhythm
	version int
	login   time.Time // the newest attempt
	rounds  int
	offsets []offset
	seen    Observation
	holder  struct {
		id    string
		first time.Time
	}
}

// offset is one measurement of the server's clock.
type offset struct{ ahead, blur time.Duration }

// Watch asks the server again and again how far its WAL is and how the slot is, over a connection of its own, and
// calls see after each question until ctx ends. It never waits for the stream, nor the stream for it.
func (s *Source) Watch(ctx context.Context, see func(Observation)) {
	s.watchAt(ctx, usualRhythm(), see)
}

func (s *Source) watchAt(ctx context.Context, p rhythm, see func(Observation)) {
	w := &watch{cfg: s.cfg, rhythm: p, want: func() suits {
		if start := s.catalog.server.Load(); start != nil {
			return startedAt(*start)
		}
		return nil
	}}
	defer w.hangUp()
	tick := time.NewTicker(p.ask)
	defer tick.Stop()
	for {
		w.look(ctx)
		if ctx.Err() != nil {
			return
		}
		see(w.seen)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// look makes one round: a new login where it is time for one, then the questions.
func (w *watch) look(ctx context.Context) {
	began := time.Now()
	rest := w.rhythm.login
	if w.conn == nil || w.seen.LoginErr != nil {
		rest = w.rhythm.rest
	}
	if began.Sub(w.login) >= rest {
		w.login = began
		w.seen.LoginErr = w.connect(ctx)
	}
	if w.conn == nil {
		w.seen.Err = w.seen.LoginErr
	} else if w.seen.Err = w.ask(ctx); w.seen.Err != nil {
		w.hangUp()
	}
	w.seen.Took = time.Since(began)
}

// connect replaces the connection by a new one, and keeps the old one where that fails.
func (w *watch) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, watchFor)
	defer cancel()
	conn, err := w.cfg.connectSQL(ctx, w.want())
	if err != nil {
		return err
	}
	version, err := sqlVersion(ctx, conn)
	if err != nil {
		_ = hangUp(conn) // the cause is err
		return err
	}
	w.hangUp()
	w.conn, w.version = conn, version
	return nil
}

func (w *watch) hangUp() {
	if w.conn != nil {
		_ = hangUp(w.conn) // nothing is at stake: it only read
		w.conn = nil
	}
}

// ask puts the questions of one round.
func (w *watch) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, watchFor)
	defer cancel()
	if err := w.askState(ctx); err != nil {
		return err
	}
	w.rounds++
	if (w.rounds-1)%w.rhythm.detail != 0 {
		return nil
	}
	if err := w.askSpill(ctx); err != nil {
		return err
	}
	return w.askOldest(ctx)
}

const watchOp = "watch the server"

// stateSQL asks for everything that a round needs at one moment. Simple queries have no parameters, and take
// one round trip.
func (w *watch) stateSQL() string {
	since := "NULL"
	if w.version >= failoverVersion {
		since = "extract(epoch FROM s.inactive_since)"
	}
	return `SELECT extract(epoch FROM clock_timestamp()), pg_current_wal_flush_lsn(),
	EXISTS (SELECT FROM pg_publication WHERE pubname = ` + literal(w.cfg.Publication.Name) + `),
	s.slot_name, s.plugin, s.database, s.active, s.active_pid, s.wal_status, ` + invalidationSQL(w.version) + `,
	s.restart_lsn, s.confirmed_flush_lsn, s.safe_wal_size, ` + since + `
FROM (VALUES (1)) AS one LEFT JOIN pg_replication_slots s ON s.slot_name = ` + literal(w.cfg.Slot.Name)
}

func (w *watch) askState(ctx context.Context) error {
	began := time.Now()
	rows, err := simpleQuery(ctx, w.conn.PgConn(), watchOp, w.stateSQL())
	if err != nil {
		return err
	}
	answered := time.Now()
	if len(rows) != 1 {
		return fault.New(fault.Internal, watchOp, errors.New("no answer"), "")
	}
	r := newRow(rows[0])
	clock := r.time()
	end, published := r.lsn(), r.bool()
	slot := r.slot()
	if r.err != nil {
		return fault.New(fault.Internal, watchOp, r.err, "")
	}
	if slot != nil && w.seen.Slot != nil {
		slot.Spill = w.seen.Slot.Spill
	}
	middle := began.Add(answered.Sub(began) / 2)
	w.measured(offset{clock.Sub(middle), answered.Sub(began) / 2})
	w.seen.Asked, w.seen.End, w.seen.Published, w.seen.Slot = middle, end, published, slot
	return nil
}

// keptOffsets is how many measurements of the clocks are compared: half a minute.
const keptOffsets = 60

// measured takes the best of the newest measurements of the clocks: the one whose round trip was shortest.
func (w *watch) measured(o offset) {
	if len(w.offsets) == keptOffsets {
		w.offsets = append(w.offsets[:0], w.offsets[1:]...)
	}
	w.offsets = append(w.offsets, o)
	best := o
	for _, m := range w.offsets {
		// One that contradicts the newest is of a time before a clock was set.
		if m.blur < best.blur && (m.ahead-o.ahead).Abs() <= m.blur+o.blur+time.Millisecond {
			best = m
		}
	}
	w.seen.Offset, w.seen.Blur = best.ahead, best.blur
}

func (w *watch) askSpill(ctx context.Context) error {
	if w.seen.Slot == nil {
		return nil
	}
	rows, err := simpleQuery(ctx, w.conn.PgConn(), watchOp,
		"SELECT spill_txns, spill_count, spill_bytes FROM pg_stat_replication_slots WHERE slot_name = "+literal(w.cfg.Slot.Name))
	if err != nil || len(rows) == 0 {
		return err
	}
	r := newRow(rows[0])
	w.seen.Slot.Spill = Spill{r.int(), r.int(), r.int()}
	if r.err != nil {
		return fault.New(fault.Internal, watchOp, r.err, "")
	}
	return nil
}

// oldestSQL finds the transaction with the oldest id. Ids are seen by everybody, the times of other
// roles' sessions by members of pg_read_all_stats alone. The query is not asked for: it may hold data.
const oldestSQL = `
SELECT backend_xid, pid, application_name, extract(epoch FROM xact_start), age(backend_xid)
FROM pg_stat_activity WHERE backend_xid IS NOT NULL
UNION ALL
SELECT transaction, NULL, NULL, extract(epoch FROM prepared), age(transaction)
FROM pg_prepared_xacts
ORDER BY 5 DESC LIMIT 1`

func (w *watch) askOldest(ctx context.Context) error {
	rows, err := simpleQuery(ctx, w.conn.PgConn(), watchOp, oldestSQL)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		w.seen.Oldest, w.holder.id = nil, ""
		return nil
	}
	r := newRow(rows[0])
	id, pid, application := r.text(), r.int(), r.text()
	t := &OpenTransaction{PID: int(pid), Application: application, Prepared: rows[0][1] == nil, Began: r.time()}
	if r.err != nil {
		return fault.New(fault.Internal, watchOp, r.err, "")
	}
	if id != w.holder.id {
		w.holder.id, w.holder.first = id, time.Now()
	}
	if t.Began.IsZero() {
		t.Began = w.holder.first
	} else {
		t.Began = t.Began.Add(-w.seen.Offset)
	}
	w.seen.Oldest = t
	return nil
}
