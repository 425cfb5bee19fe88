package cdctest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"
)

// Load makes random transactions against the tables of Setup, over several connections at once:
// inserts, updates, deletes, key changes and truncates, one row and many, rollbacks, savepoints
// rolled back, deadlocks, transactions that stay open while others commit. It goes on over lost
// connections; whether a transaction whose connection broke has committed, the truth knows.
type Load struct {
	// DSN is a superuser's URL of the database.
	DSN string
	// Seed decides what each connection does; how they interleave is up to the server.
	Seed uint64
	// Workers is the number of connections.
	Workers int
	// Pause is the mean rest of a connection between two transactions; none if zero.
	Pause time.Duration
	// Rush is the number of further connections that make changes in numbers: short transactions on
	// keys of their own, in one round trip each.
	Rush int

	begun atomic.Int64
}

// endWithin bounds a transaction. It is reached only when the server hangs.
const endWithin = time.Minute

// keys is how many keys a table has: few, so that connections meet.
const keys = 40

// Run makes transactions until ctx ends, which is its normal end and no error.
func (l *Load) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range l.Workers + l.Rush {
		g.Go(func() error {
			w := &worker{load: l, rng: rand.New(rand.NewPCG(l.Seed, uint64(i)))} //nolint:gosec // to be repeatable
			if i >= l.Workers {
				w.from = 1000 * i
			}
			return w.run(ctx)
		})
	}
	return g.Wait()
}

// Begun is how many transactions were begun, those that were rolled back included.
func (l *Load) Begun() int64 { return l.begun.Load() }

// worker is one connection's load.
type worker struct {
	load *Load
	rng  *rand.Rand
	from int // the first of its own keys, for one that rushes; 0 otherwise
}

func (w *worker) run(ctx context.Context) error {
	for ctx.Err() == nil {
		conn, err := pgx.Connect(ctx, w.load.DSN)
		if err == nil {
			// Deadlocks are part of the load and shall not hold it up.
			_, err = conn.Exec(ctx, "SET deadlock_timeout = '20ms'")
		}
		for err == nil && ctx.Err() == nil {
			err = w.whole(ctx, conn)
			if err == nil {
				w.rest(ctx)
			}
		}
		if conn != nil {
			bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			_ = conn.Close(bye) // it is broken, or the load is over
			cancel()
		}
		if wrong := new(sqlError); errors.As(err, &wrong) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			w.sleep(ctx, 50*time.Millisecond)
		}
	}
	return nil
}

func (w *worker) rest(ctx context.Context) {
	if w.load.Pause > 0 {
		w.sleep(ctx, time.Duration(w.rng.Int64N(int64(2*w.load.Pause))))
	}
}

func (w *worker) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// whole makes one transaction to its end, also when ctx ends meanwhile: a commit that nobody waits for
// could become visible after the truth has been read.
func (w *worker) whole(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
	defer cancel()
	return w.transaction(ctx, conn)
}

// transaction makes one transaction. The error is that of the connection, or a *sqlError where the
// load itself is wrong; conflicts with other connections are none.
func (w *worker) transaction(ctx context.Context, conn *pgx.Conn) error {
	w.load.begun.Add(1)
	if w.from > 0 {
		return w.tell(ctx, conn, w.rush())
	}
	statements := []string{"BEGIN"}
	for range 1 + w.rng.IntN(5) {
		switch {
		case w.chance(10): // rolled back in part
			statements = append(statements, "SAVEPOINT s", w.statement(), w.statement(), "ROLLBACK TO s", w.statement())
		case w.chance(10): // a subtransaction that stays
			statements = append(statements, "SAVEPOINT k", w.statement(), "RELEASE k")
		case w.chance(1): // others commit meanwhile
			statements = append(statements, w.statement(), fmt.Sprintf("SELECT pg_sleep(%.3f)", 0.3*w.rng.Float64()))
		default:
			statements = append(statements, w.statement())
		}
	}
	if w.chance(10) {
		statements = append(statements, "ROLLBACK")
	} else {
		statements = append(statements, "COMMIT")
	}
	return w.tell(ctx, conn, statements...)
}

// tell runs statements that make up a transaction.
func (w *worker) tell(ctx context.Context, conn *pgx.Conn, statements ...string) error {
	for _, sql := range statements {
		_, err := conn.Exec(ctx, sql)
		if err == nil {
			continue
		}
		if conn.IsClosed() {
			return err
		}
		if !conflict(err) && ctx.Err() == nil {
			return &sqlError{sql, err}
		}
		_, err = conn.Exec(ctx, "ROLLBACK")
		return err
	}
	return nil
}

// rush is a whole transaction in one message, on keys that nobody else writes.
func (w *worker) rush() string {
	first := w.from + w.rng.IntN(keys)
	last := first + w.rng.IntN(20)
	upsert := fmt.Sprintf(`INSERT INTO public.accounts SELECT g, 0, g, true, NULL, NULL, 'rush' FROM generate_series(%d, %d) g
		ON CONFLICT (id) DO UPDATE SET v = accounts.v + 1`, first, last)
	switch w.rng.IntN(8) {
	case 0:
		return upsert // without BEGIN: the statement is the transaction
	case 1:
		return fmt.Sprintf("BEGIN; DELETE FROM public.accounts WHERE id BETWEEN %d AND %d; %s; COMMIT", first, first+3, upsert)
	default:
		return fmt.Sprintf("BEGIN; %s; UPDATE public.accounts SET amount = %s WHERE id = %d; COMMIT", upsert, w.amount(), first)
	}
}

// statement is one random statement.
func (w *worker) statement() string {
	switch w.rng.IntN(10) {
	case 0, 1, 2, 3:
		return w.accounts()
	case 4, 5, 6:
		return w.lines()
	case 7, 8:
		return w.audits()
	default:
		return w.journal()
	}
}

func (w *worker) accounts() string {
	id := w.rng.IntN(keys)
	switch w.rng.IntN(20) {
	case 0, 1, 2, 3, 4, 5:
		return fmt.Sprintf(`INSERT INTO public.accounts VALUES (%d, 0, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING`, id, w.amount(), w.boolean(), w.tags(), w.doc(), w.note())
	case 6, 7, 8, 9, 10:
		return fmt.Sprintf(`UPDATE public.accounts SET v = v + 1, amount = %s, open = %s WHERE id = %d`, w.amount(), w.boolean(), id)
	case 11, 12:
		return fmt.Sprintf(`UPDATE public.accounts SET v = v + 1, note = %s, tags = %s, doc = %s WHERE id = %d`, w.note(), w.tags(), w.doc(), id)
	case 13, 14: // many rows
		return fmt.Sprintf(`UPDATE public.accounts SET v = v + 1 WHERE id BETWEEN %d AND %d`, id, id+w.rng.IntN(20))
	case 15, 16, 17:
		return fmt.Sprintf(`DELETE FROM public.accounts WHERE id = %d`, id)
	case 18: // the key changes; where the new one is taken nothing happens
		to := w.rng.IntN(keys)
		return fmt.Sprintf(`UPDATE public.accounts SET id = %d, v = v + 1 WHERE id = %d AND NOT EXISTS (SELECT FROM public.accounts WHERE id = %d)`, to, id, to)
	default:
		if w.chance(5) {
			return `TRUNCATE public.accounts`
		}
		return fmt.Sprintf(`INSERT INTO public.accounts SELECT g, 0, g, true, NULL, NULL, 'many' FROM generate_series(%d, %d) g ON CONFLICT DO NOTHING`, id, id+w.rng.IntN(30))
	}
}

func (w *worker) lines() string {
	order, line := w.rng.IntN(keys/4), w.rng.IntN(4)
	switch w.rng.IntN(8) {
	case 0, 1, 2:
		return fmt.Sprintf(`INSERT INTO sales."Order Lines" VALUES (%d, %d, 0, %s) ON CONFLICT ("Order", line) DO UPDATE SET v = "Order Lines".v + 1`, order, line, w.note())
	case 3, 4:
		return fmt.Sprintf(`UPDATE sales."Order Lines" SET v = v + 1 WHERE "Order" = %d`, order)
	case 5:
		return fmt.Sprintf(`DELETE FROM sales."Order Lines" WHERE "Order" = %d`, order)
	case 6:
		return fmt.Sprintf(`DELETE FROM sales."Order Lines" WHERE "Order" = %d AND line = %d`, order, line)
	default:
		return fmt.Sprintf(`UPDATE sales."Order Lines" SET line = line + 4, note = %s WHERE "Order" = %d AND line = %d AND NOT EXISTS (SELECT FROM sales."Order Lines" WHERE "Order" = %[2]d AND line = %[3]d + 4)`, w.note(), order, line)
	}
}

func (w *worker) audits() string {
	id := w.rng.IntN(keys)
	switch w.rng.IntN(8) {
	case 0, 1, 2:
		return fmt.Sprintf(`INSERT INTO public.audits VALUES (%d, 0, %s) ON CONFLICT DO NOTHING`, id, w.note())
	case 3, 4, 5:
		return fmt.Sprintf(`UPDATE public.audits SET v = v + 1 WHERE id = %d`, id)
	case 6:
		return fmt.Sprintf(`DELETE FROM public.audits WHERE id = %d`, id)
	default:
		to := w.rng.IntN(keys)
		return fmt.Sprintf(`UPDATE public.audits SET id = %d WHERE id = %d AND NOT EXISTS (SELECT FROM public.audits WHERE id = %d)`, to, id, to)
	}
}

func (w *worker) journal() string {
	switch w.rng.IntN(8) {
	case 0:
		return fmt.Sprintf(`UPDATE public.journal SET v = v + 1 WHERE id = %d`, w.rng.IntN(keys))
	case 1:
		return fmt.Sprintf(`DELETE FROM public.journal WHERE id = %d`, w.rng.IntN(keys))
	default:
		return fmt.Sprintf(`INSERT INTO public.journal VALUES (%d, 0, %s)`, w.rng.IntN(keys), w.note())
	}
}

func (w *worker) chance(percent int) bool { return w.rng.IntN(100) < percent }

func (w *worker) amount() string {
	switch w.rng.IntN(10) {
	case 0:
		return "NULL"
	case 1:
		return "'NaN'"
	default:
		return fmt.Sprintf("%d.%02d", w.rng.IntN(1e9)-5e8, w.rng.IntN(100))
	}
}

func (w *worker) boolean() string { return []string{"true", "false", "NULL"}[w.rng.IntN(3)] }

func (w *worker) tags() string {
	return []string{"NULL", "'{}'", "ARRAY['a', NULL, 'say \"hi\"', '{,}']"}[w.rng.IntN(3)]
}

func (w *worker) doc() string {
	return []string{"NULL", `'{"k": 1, "big": 12345678901234567890}'`, `'[1.50, "x", null]'`}[w.rng.IntN(3)]
}

// note is a short text, or one that is stored out of line.
func (w *worker) note() string {
	switch w.rng.IntN(6) {
	case 0:
		return "NULL"
	case 1:
		return "'" + strings.Repeat(fmt.Sprintf("%08x", w.rng.Uint32()), 320) + "'"
	default:
		return fmt.Sprintf("E'n\\t\"%d\" \\\\ é 漢 %08x'", w.rng.IntN(100), w.rng.Uint32())
	}
}

// sqlError is a statement that failed for no reason the load knows: the load is wrong.
type sqlError struct {
	sql string
	err error
}

func (e *sqlError) Error() string { return fmt.Sprintf("run %.200s: %v", e.sql, e.err) }
func (e *sqlError) Unwrap() error { return e.err }

// conflict tells whether an error comes from what other connections or the nemesis did.
func conflict(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return true // the connection's
	}
	switch pg.Code {
	case "40P01", // deadlock
		"40001",                   // serialization
		"23505",                   // another connection took the key meanwhile
		"57P01", "57P02", "57P03": // shutdown, crash, not yet up
		return true
	default:
		return false
	}
}
