package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/walferry/walferry/internal/cdctest"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/internal/pgtest"
)

// TestFault38_BrokerKilled kills the broker again and again at random moments: under exactly_once a
// commit is always on its way, so that its answer is lost now and then (fault 42).
func TestFault38_BrokerKilled(t *testing.T) {
	each(t, func(t *testing.T, d string) {
		broker := harmed(t)
		r := newRig(t, pgtest.Shared(t), broker, d)
		r.started()
		r.load()
		for range max(3, kills(t)/5) {
			r.pass(r.between(500*time.Millisecond, 1500*time.Millisecond))
			broker.Kill()
			broker.Restart()
			r.streaming()
		}
		r.pass(time.Second)
		r.verify(true)
	})
}

// TestFault24_LargeTransactionIsSplit sends one transaction that is many times larger than a Kafka
// transaction may be, and kills walferry within it: the next start goes on behind the
// last part that was committed, the records say where the parts end, and nothing comes again.
func TestFault24_LargeTransactionIsSplit(t *testing.T) {
	const rows, maxRows, deaths = 60_000, 2_000, 2
	r := bareRig(t, pgtest.Shared(t), kafkatest.Shared(t))
	r.delivery = exactlyOnce
	file := filepath.Join(t.TempDir(), "walferry.yaml")
	text := fmt.Sprintf("name: %s\npostgres: {url: %q, tables: [public.*, sales.*]}\nkafka: {brokers: [%q]}\n"+
		"delivery: exactly_once\ntransactions: {max_rows: %d}\n", r.name, r.db.DSN(), r.broker.Addr(), maxRows)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.run("run", "--config", file)
	r.started()
	r.under(300 * time.Millisecond)

	reader, err := cdctest.NewReader([]string{r.broker.Addr()}, cdctest.Topics(r.name)[2:3]) // the journal
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	seen, last, parts := 0, 0, map[int]int{} // rows by part
	note := func(rec cdctest.Record) {
		var val struct {
			Split int
			After struct{ Note string }
		}
		if err := json.Unmarshal(rec.Value, &val); err != nil {
			t.Error(err)
		}
		if val.After.Note != "large" {
			return
		}
		if seen++; val.Split < last {
			t.Errorf("part %d stands behind part %d", val.Split, last)
		}
		last = val.Split
		parts[val.Split]++
	}
	r.db.Exec(fmt.Sprintf(`INSERT INTO public.journal SELECT g + 1000, 0, 'large' FROM generate_series(1, %d) g`, rows))
	within := 0 // deaths before the transaction was through; a quick machine may outrun the later ones
	for i := range deaths {
		until := rows * (3*i + 1) / 10
		if err := reader.Read(t.Context(), note, func() bool { return seen >= until }); err != nil {
			t.Fatal(err)
		}
		r.kill()
		if seen < rows {
			within++
		}
		r.started()
	}
	if within == 0 {
		t.Error("every death came when the transaction was through")
	}
	r.under(300 * time.Millisecond)
	r.verify(false)
	if err := reader.Read(t.Context(), note, func() bool { return seen >= rows }); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rows in %d parts, %d deaths within", seen, len(parts), within)
	if len(parts) != last+1 {
		t.Errorf("%d different marks, the last is %d", len(parts), last)
	}
	for part, n := range parts {
		if n > maxRows {
			t.Errorf("part %d has %d rows, the limit is %d", part, n, maxRows)
		}
	}
}

// TestDeliveryIsSwitched changes the delivery at each start: after a clean stop nothing is repeated.
func TestDeliveryIsSwitched(t *testing.T) {
	r := newRig(t, pgtest.Shared(t), kafkatest.Shared(t), atLeastOnce)
	r.started()
	r.load()
	for _, next := range []string{exactlyOnce, atLeastOnce, exactlyOnce} {
		r.pass(time.Second)
		r.terminate(0)
		r.delivery = next
		r.walferry = r.instance()
		r.started()
	}
	r.pass(time.Second)
	r.verify(false)
}
