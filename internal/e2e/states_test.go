package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/internal/cdctest"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/internal/pgserver"
	"github.com/walferry/walferry/internal/pgtest"
)

// TestFault13_SlotAdvanced has somebody else move the slot past the checkpoint: the changes between are gone from
// the stream, and a start says so instead of going on behind them.
func TestFault13_SlotAdvanced(t *testing.T) {
	long(t)
	t.Parallel()
	o := newOperated(t, exactlyOnce, "kafka")
	o.terminate(0)
	o.mark("skipped by somebody")
	o.db.Exec("SELECT pg_replication_slot_advance($1, pg_current_wal_flush_lsn())", o.slot())
	o.mark("after it")
	o.refused("run", "checkpoint_gap")
}

// TestFault14_RestoredDatabase starts on another cluster that has the same database, tables, publication and slot,
// as a restored dump has.
func TestFault14_RestoredDatabase(t *testing.T) {
	long(t)
	t.Parallel()
	o := newOperated(t, exactlyOnce, "kafka")
	o.terminate(0)
	restored := pgtest.Start(t, pgserver.Options{}).CreateDatabase(o.db.Name)
	restored.Exec("CREATE TABLE marks (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text); CREATE PUBLICATION " + o.slot() + " FOR TABLE marks")
	restored.Exec("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", o.slot())
	o.rewrite(o.db.DSN(), restored.DSN())
	o.start()
	o.ends(3, "checkpoint_origin")
	if out := o.walferry.Output(); !strings.Contains(out, "Postgres cluster") {
		t.Errorf("the cluster is not named:\n%s", out)
	}
}

// TestFault27_HundredConcurrentTransactions has a hundred connections meet on the same keys.
func TestFault27_HundredConcurrentTransactions(t *testing.T) {
	long(t)
	each(t, func(t *testing.T, d string) {
		r := newRig(t, pgtest.Start(t, pgserver.Options{Settings: map[string]string{"max_connections": "150"}}), kafkatest.Shared(t), d)
		r.started()
		r.watch()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		load := &cdctest.Load{DSN: r.db.DSN(), Seed: r.seed, Workers: 100, Pause: 5 * time.Millisecond}
		if err := load.Run(ctx); err != nil {
			t.Fatal(err)
		}
		r.stopLoad = func() {} // it has ended
		r.verify(false)
	})
}

// TestFault28_EmptyTransactions commits thousands of transactions of which nothing is published: the position
// goes on, so that the server need not keep their WAL.
func TestFault28_EmptyTransactions(t *testing.T) {
	long(t)
	t.Parallel()
	o := newOperated(t, exactlyOnce, "kafka")
	o.db.Exec("CREATE TABLE unpublished (id int)")
	o.db.Exec("CREATE PROCEDURE busy() LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..20000 LOOP INSERT INTO unpublished VALUES (i); COMMIT; END LOOP; END $$")
	o.db.Exec("CALL busy()")
	o.caughtUp()
	o.mark("and then something")
	o.sees("and then something")
	o.terminate(0)
}

// TestFault29_BusyUnpublishedTable writes some hundred megabytes of WAL that concern nobody: the slot keeps no more
// of it than some segments.
func TestFault29_BusyUnpublishedTable(t *testing.T) {
	long(t)
	db := pgtest.Start(t, pgserver.Options{}).Database()
	o := newOperatedIn(t, db, exactlyOnce, "kafka")
	o.db.Exec("CREATE TABLE unpublished (id int, filler text)")
	for range 10 {
		o.db.Exec("INSERT INTO unpublished SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) i")
	}
	const segments = 4 << 24
	o.eventually("the slot keeps no more than some segments", func(context.Context) bool {
		o.alive()
		o.db.Exec("CHECKPOINT") // which logs the running transactions that restart_lsn follows
		kept := pgtest.Value[int64](o.db, "SELECT (pg_current_wal_lsn() - restart_lsn)::bigint FROM pg_replication_slots WHERE slot_name = $1", o.slot())
		return kept < segments
	})
	o.terminate(0)
}

// TestMistakeAnOpenTransactionIsLost stops walferry in order while a transaction is open whose first rows are older
// than all that was confirmed: after the next start it comes whole. It was seen in a released tool that they do not.
func TestMistakeAnOpenTransactionIsLost(t *testing.T) {
	long(t)
	t.Parallel()
	both(t, func(t *testing.T, delivery string) {
		o := newOperated(t, delivery, "kafka")
		conn := o.db.Conn()
		exec := func(sql string) {
			t.Helper()
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		exec("BEGIN")
		exec("INSERT INTO marks (note) VALUES ('open')")
		o.mark("committed meanwhile")
		o.sees("committed meanwhile")
		o.terminate(0)
		o.mark("while stopped")
		exec("INSERT INTO marks (note) VALUES ('still open')")
		o.started()
		o.sees("while stopped")
		exec("COMMIT")
		o.sees("open", "still open")
		o.terminate(0)
	})
}
