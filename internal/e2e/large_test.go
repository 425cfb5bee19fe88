package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/internal/pgserver"
	"github.com/walferry/walferry/internal/pgtest"
)

// The runs of this file take minutes; `make large` asks for them.

// TestLarge sends 200,000 transactions of one row and one of 1,000,000 rows through an undisturbed
// run: each row arrives once. WALFERRY_LARGE divides both numbers.
func TestLarge(t *testing.T) {
	divisor, err := strconv.Atoi(os.Getenv("WALFERRY_LARGE"))
	if err != nil || divisor < 1 {
		t.Skip("set WALFERRY_LARGE=1 (or a number to divide by) to run it")
	}
	single, batch := 200_000/divisor, 1_000_000/divisor
	each(t, func(t *testing.T, d string) {
		r := bareRig(t, pgtest.Shared(t), kafkatest.Shared(t))
		r.db.Exec("CREATE TABLE public.large (id bigint PRIMARY KEY, note text, amount numeric(12,2), at timestamptz DEFAULT now())")
		r.run("run", "--name", r.name, "--from", r.db.DSN(), "--to", r.broker.Addr(), "--tables", "public.large", "--delivery", d)
		r.started()

		const writers = 4
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				r.db.Exec(fmt.Sprintf(`DO $$ BEGIN
					SET synchronous_commit = off;
					FOR i IN %d..%d LOOP
						INSERT INTO public.large (id, note, amount) VALUES (i, 'a row of its own transaction', i);
						COMMIT;
					END LOOP; END $$`, w*single/writers+1, (w+1)*single/writers))
			})
		}
		wg.Wait()
		r.db.Exec("INSERT INTO public.large (id, note, amount) SELECT i, 'a row of a large transaction', i FROM generate_series($1::bigint, $2::bigint) i",
			single+1, single+batch)

		began := time.Now()
		reader := newIDReader(r, "large", single+batch)
		reader.until(single + batch) // with as many records as rows, a repeat means that another row is missing
		t.Logf("%d rows read %s after the last commit; walferry's resident memory: %s", single+batch, time.Since(began).Round(time.Millisecond), r.memory("VmHWM"))
		for id, times := range reader.seen[1:] {
			if times != 1 {
				t.Fatalf("row %d arrived %d times", id+1, times)
			}
		}
		r.terminate(0)
	})
}

// memory returns a line of /proc/<pid>/status of walferry.
func (r *rig) memory(what string) string {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.walferry.PID()))
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, what+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

// TestFault39_Outage pauses Kafka under load for the duration in WALFERRY_OUTAGE: memory stays flat, the
// server is answered, a fast shutdown of it is quick, and everything arrives afterwards.
func TestFault39_Outage(t *testing.T) {
	outage, err := time.ParseDuration(os.Getenv("WALFERRY_OUTAGE"))
	if err != nil {
		t.Skip("set WALFERRY_OUTAGE=2m to run it")
	}
	pg := pgtest.Start(t, pgserver.Options{})
	broker := harmed(t)
	r := newRig(t, pg, broker, atLeastOnce)
	r.started()
	r.load()
	r.pass(2 * time.Second)
	broker.Pause()
	var stale time.Duration
	for began := time.Now(); time.Since(began) < outage; {
		r.pass(5 * time.Second)
		age := pgtest.Value[float64](r.db, "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - reply_time)), 0)::float8 FROM pg_stat_replication")
		stale = max(stale, time.Duration(age*float64(time.Second)))
		t.Logf("%s: resident %s, last answer %.1f s ago", time.Since(began).Round(time.Second), r.memory("VmRSS"), age)
	}
	if stale > 15*time.Second {
		t.Errorf("the server waited %s for an answer", stale)
	}
	peak := r.memory("VmHWM")
	if kb, err := strconv.Atoi(strings.TrimSuffix(peak, " kB")); err != nil || kb > 200<<10 {
		t.Errorf("peak resident memory %s", peak)
	}
	r.stopLoad()
	began := time.Now()
	if err := pg.Stop(t.Context(), pgserver.Fast); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("a fast shutdown took %s", took)
	}
	pg.Restart(pgserver.Fast)
	broker.Continue()
	r.verify(false)
}
