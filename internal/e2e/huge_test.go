package e2e

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/internal/pgserver"
	"github.com/walferry/walferry/internal/pgtest"
)

// TestFault24_Huge sends one transaction of as many gigabytes as WALFERRY_HUGE says, of rows of 2 kB, and
// kills walferry five times within it. Exactly once, each row arrives once, in order per partition,
// and walferry stays small. It needs four times as much room on the disk; `make huge` asks for it.
func TestFault24_Huge(t *testing.T) {
	size, err := strconv.ParseFloat(os.Getenv("WALFERRY_HUGE"), 64)
	if err != nil {
		t.Skip("set WALFERRY_HUGE=10 (gigabytes) to run it")
	}
	const deaths, rowBytes, mostMemory = 5, 2048, 256 << 20
	rows := int(size * (1 << 30) / rowBytes)
	pg := pgtest.Start(t, pgserver.Options{Settings: map[string]string{"max_wal_size": "64GB", "checkpoint_timeout": "1h"}})
	r := bareRig(t, pg, kafkatest.Shared(t))
	r.db.Exec("CREATE TABLE public.huge (id bigint PRIMARY KEY, note text STORAGE PLAIN NOT NULL)")
	r.run("run", "--name", r.name, "--from", r.db.DSN(), "--to", r.broker.Addr(), "--tables", "public.huge", "--delivery", exactlyOnce)
	r.started()
	began := time.Now()
	note := func(what string) { t.Logf("%6s  %s", time.Since(began).Round(time.Second), what) }
	r.db.Exec("INSERT INTO public.huge SELECT i, repeat(md5(i::text), 62) FROM generate_series(1, $1::bigint) i", rows)
	note(strconv.Itoa(rows) + " rows are committed, in one transaction")

	reader := newIDReader(r, "huge", rows)
	reader.rising = true
	peak := 0
	for death := range deaths {
		reader.until((death + 1) * rows / (deaths + 1))
		here := r.peakMemory()
		r.kill()
		note("killed when " + strconv.Itoa(reader.read) + " rows were visible; peak resident memory " + strconv.Itoa(here>>20) + " MB")
		peak = max(peak, here)
		r.started()
	}
	reader.until(rows)
	r.db.Exec("INSERT INTO public.huge VALUES (0, 'the last one')") // what would come again has come when this has
	reader.until(rows + 1)
	peak = max(peak, r.peakMemory())
	note("all rows are there; peak resident memory over all " + strconv.Itoa(peak>>20) + " MB")
	if peak > mostMemory {
		t.Errorf("resident memory rose to %d MB", peak>>20)
	}
	for id, times := range reader.seen {
		if times != 1 {
			t.Fatalf("row %d arrived %d times", id, times)
		}
	}
	r.terminate(0)
}

// peakMemory returns the high-water mark of walferry's resident memory, in bytes.
func (r *rig) peakMemory() int {
	r.t.Helper()
	kb, err := strconv.Atoi(strings.TrimSuffix(r.memory("VmHWM"), " kB"))
	if err != nil {
		r.t.Fatal(err)
	}
	return kb << 10
}

// idReader reads the topic of a table whose rows have the ids from 0 up, read_committed.
type idReader struct {
	r      *rig
	client *kgo.Client
	seen   []uint8 // how often each id came
	read   int
	rising bool // within a partition the ids rise, but for 0, the last one
	last   map[int32]int
}

func newIDReader(r *rig, table string, most int) *idReader {
	client := r.broker.Client(kgo.ConsumeTopics(r.name+".public."+table), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	return &idReader{r: r, client: client, seen: make([]uint8, most+1), last: map[int32]int{}}
}

// until reads until that many records have come.
func (i *idReader) until(records int) {
	t := i.r.t
	t.Helper()
	for i.read < records {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		fetches := i.client.PollFetches(ctx)
		cancel()
		if err := fetches.Err0(); err != nil {
			t.Fatalf("%d of %d rows: %v", i.read, records, err)
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			digits := bytes.TrimSuffix(bytes.TrimPrefix(rec.Key, []byte(`{"id":`)), []byte("}"))
			id, err := strconv.Atoi(string(digits))
			if err != nil || id >= len(i.seen) {
				t.Fatalf("key %s: %v", rec.Key, err)
			}
			if last := i.last[rec.Partition]; i.rising && id <= last && id != 0 {
				t.Errorf("row %d stands behind row %d", id, last)
			}
			i.last[rec.Partition] = id
			i.seen[id]++
			i.read++
		})
	}
}
