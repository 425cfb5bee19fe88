package oracle

import (
	"fmt"
	"testing"

	"github.com/walferry/walferry/internal/pgserver"
	"github.com/walferry/walferry/internal/pgtest"
)

// TestFault25_Subtransactions: of ten thousand subtransactions those that were rolled back leave nothing, and
// all others arrive, in order.
func TestFault25_Subtransactions(t *testing.T) {
	onMajors(t, func(t *testing.T, server *pgtest.Server) {
		r := newRig(t, server.Database())
		r.exec("CREATE TABLE m (uid int PRIMARY KEY, v text)")
		r.follow()
		r.exec(`DO $$ BEGIN FOR i IN 1..10000 LOOP
			BEGIN
				INSERT INTO m VALUES (i, 'in a subtransaction');
				IF i % 3 = 0 THEN RAISE 'taken back'; END IF;
			EXCEPTION WHEN raise_exception THEN NULL;
			END; END LOOP; END $$`)
		got, next := r.read(), 1
		for _, g := range got {
			if next%3 == 0 {
				next++
			}
			if want := fmt.Sprintf("{uid=%d}", next); g.op != "c" || g.key != want {
				t.Fatalf("%s of %s, want an insert of %s", g.op, g.key, want)
			}
			next++
		}
		if len(got) != 6667 {
			t.Errorf("%d records, want 6667", len(got))
		}
	})
}

// TestFault26_PreparedTransactions: a prepared transaction arrives when it is committed, at that place of the
// order, and one that is rolled back does not.
func TestFault26_PreparedTransactions(t *testing.T) {
	r := newRig(t, pgtest.Start(t, pgserver.Options{Settings: map[string]string{"max_prepared_transactions": "4"}}).Database())
	r.exec("CREATE TABLE m (uid int PRIMARY KEY, v text)")
	r.follow()
	r.exec("BEGIN; INSERT INTO m VALUES (1, 'first prepared'); UPDATE m SET v = 'and changed'; PREPARE TRANSACTION 'one'")
	r.exec("BEGIN; INSERT INTO m VALUES (2, 'given up'); PREPARE TRANSACTION 'two'")
	r.exec("INSERT INTO m VALUES (3, 'committed meanwhile')")
	if got := r.read(); len(got) != 1 || got[0].key != "{uid=3}" {
		t.Errorf("before the commits: %v", got)
	}
	r.exec("ROLLBACK PREPARED 'two'")
	r.exec("COMMIT PREPARED 'one'")
	if got := r.read(); len(got) != 2 || got[0].key != "{uid=1}" || got[1].after["v"] != `"and changed"` {
		t.Errorf("after them: %v", got)
	}
}
