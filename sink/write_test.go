package sink_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/sink"
	"github.com/walferry/walferry/sink/encode"
)

// TestFakeKafka and TestApacheKafka write the same events and read them back.
func TestFakeKafka(t *testing.T) { testRecords(t, kafkatest.StartFake(t).ListenAddrs()) }

func TestApacheKafka(t *testing.T) { testRecords(t, []string{kafkatest.Shared(t).Addr()}) }

func testRecords(t *testing.T, seeds []string) {
	cfg := config(t)
	cfg.Compression = "lz4"
	table := orders("orders")
	k := open(t, cfg, seeds, table)
	s, a := newStream(), new(ack)
	start := time.Now().Add(-time.Second)
	write(t, k, a,
		&event.Begin{Tx: &s.tx},
		s.insert(table, 42, "new"),
		s.update(table, 42, 42, "paid"),
		s.update(table, 42, 43, "moved"),
		s.delete(table, 43),
		&event.Commit{Tx: &s.tx, End: 0x200},
		&event.Progress{LSN: 0x300},
	)
	drain(t, k)
	a.want(t, 7, 7)

	got := make(map[string][]string) // by key, in the order of the partition
	parts := make(map[string]map[int32]bool)
	for _, r := range read(t, seeds, cfg.Pipeline+".public.orders") {
		key := string(r.Key)
		got[key] = append(got[key], header(r, "pos")+" "+string(r.Value))
		if parts[key] == nil {
			parts[key] = make(map[int32]bool)
		}
		parts[key][r.Partition] = true
		if r.Timestamp.Before(start) || time.Since(r.Timestamp) > patience {
			t.Errorf("record timestamp %s", r.Timestamp)
		}
	}
	value := func(seq, part, op, rest string) string {
		pos := "0000000000000100:000000000" + seq + ":" + part
		return pos + ` {"op":"` + op + `","schema":"public","table":"orders","pos":"` + pos + `","xid":7,"ts":"2026-05-01T10:00:00.000000Z",` + rest + `}`
	}
	want := map[string][]string{
		`{"id":42}`: {
			value("1", "0", "c", `"after":{"id":42,"note":"new"}`),
			value("2", "0", "u", `"after":{"id":42,"note":"paid"}`),
			value("3", "0", "d", `"before":{"id":42}`),
			"0000000000000100:0000000003:1 ",
		},
		`{"id":43}`: {
			value("3", "2", "u", `"old_key":{"id":42},"before":{"id":42},"after":{"id":43,"note":"moved"}`),
			value("4", "0", "d", `"before":{"id":43}`),
			"0000000000000100:0000000004:1 ",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for key, at := range parts {
		if len(at) != 1 {
			t.Errorf("key %s is in partitions %v", key, at)
		}
	}
}

func TestFault21_TruncateReachesAllPartitions(t *testing.T) {
	for name, seeds := range map[string]func() []string{
		"kfake": func() []string { return kafkatest.StartFake(t).ListenAddrs() },
		"kafka": func() []string { return []string{kafkatest.Shared(t).Addr()} },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			table := orders("orders")
			addrs := seeds()
			k := open(t, cfg, addrs, table)
			s, a := newStream(), new(ack)
			write(t, k, a, &event.Truncate{Table: table, Tx: &s.tx, Pos: s.pos(), Cascade: true})
			drain(t, k)
			a.want(t, 6, 6)
			seen := make(map[int32]string)
			for _, r := range read(t, addrs, cfg.Pipeline+".public.orders") {
				seen[r.Partition] = string(r.Key) + " " + header(r, "pos")
				if !strings.Contains(string(r.Value), `"op":"t"`) || !strings.Contains(string(r.Value), `"cascade":true`) {
					t.Errorf("value %s", r.Value)
				}
			}
			for p := range int32(6) {
				want := `{"truncate":"public.orders"} 0000000000000100:0000000001:` + string('0'+p)
				if seen[p] != want {
					t.Errorf("partition %d holds %q, want %q", p, seen[p], want)
				}
			}
		})
	}
}

// TestWithoutKey writes a table without a key: null keys, one partition, the order of the stream.
func TestWithoutKey(t *testing.T) {
	seeds := kafkatest.StartFake(t).ListenAddrs()
	cfg := config(t)
	table := logTable("log")
	k := open(t, cfg, seeds, table)
	s, a := newStream(), new(ack)
	for i := range 500 {
		write(t, k, a, s.insert(table, i, "x"))
	}
	drain(t, k)
	a.want(t, 500, 500)
	records := read(t, seeds, cfg.Pipeline+".public.log")
	last := ""
	for _, r := range records {
		if r.Key != nil || r.Partition != records[0].Partition || header(r, "pos") <= last {
			t.Fatalf("key %q in partition %d at %s after %s", r.Key, r.Partition, header(r, "pos"), last)
		}
		last = header(r, "pos")
	}
}

func TestLogicalMessages(t *testing.T) {
	seeds := kafkatest.StartFake(t).ListenAddrs()
	cfg := config(t)
	cfg.Messages = true
	k := open(t, cfg, seeds)
	if got := k.Partitions()[cfg.Pipeline+"._messages"]; got != 6 {
		t.Errorf("the topic has %d partitions", got)
	}
	s, a := newStream(), new(ack)
	write(t, k, a, &event.Message{Tx: &s.tx, Pos: s.pos(), Prefix: []byte("audit"), Content: []byte("hello")})
	drain(t, k)
	records := read(t, seeds, cfg.Pipeline+"._messages")
	if len(records) != 1 || string(records[0].Key) != `"audit"` || !strings.Contains(string(records[0].Value), `"content":"aGVsbG8="`) {
		t.Errorf("got %v", records)
	}
}

// TestNewTableInMidStream writes a table that Open did not know, under a schema that then changes.
func TestNewTableInMidStream(t *testing.T) {
	seeds := kafkatest.StartFake(t).ListenAddrs()
	cfg := config(t)
	k := open(t, cfg, seeds)
	s, a := newStream(), new(ack)
	table := orders("late")
	wider := orders("late")
	wider.Columns = append(wider.Columns, event.Column{Name: "more", Type: text, Mod: -1})
	change := s.insert(wider, 1, "b")
	change.New = append(change.New, event.Value{State: event.Null})
	write(t, k, a, s.insert(table, 1, "a"), change)
	drain(t, k)
	records := read(t, seeds, cfg.Pipeline+".public.late")
	if len(records) != 2 || !strings.HasSuffix(string(records[1].Value), `"after":{"id":1,"note":"b","more":null}}`) {
		t.Fatalf("got %v", records)
	}
	if got := k.Partitions(); got[cfg.Pipeline+".public.late"] != 6 {
		t.Errorf("partitions %v", got)
	}
}

// TestKeyChangeIsReported gives a table another primary key in mid-run.
func TestKeyChangeIsReported(t *testing.T) {
	cfg, table := config(t), orders("orders")
	var log logs
	k, err := sink.New(cfg, broker.Config{Seeds: kafkatest.StartFake(t).ListenAddrs()}, encode.DefaultOptions(), slog.New(slog.NewTextHandler(&log, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	if _, err := k.Open(t.Context(), []*event.Table{table}, nil); err != nil {
		t.Fatal(err)
	}
	s, a := newStream(), new(ack)
	wider, rekeyed := orders("orders"), orders("orders")
	wider.Columns[1].Mod = 20
	rekeyed.PrimaryKey = []int{1}
	rekeyed.Columns[0].InIdentity, rekeyed.Columns[1].InIdentity = false, true
	write(t, k, a, s.insert(table, 1, "a"), s.insert(wider, 2, "b"))
	if strings.Contains(log.String(), "record key") {
		t.Errorf("a change of another column is reported:\n%s", &log)
	}
	write(t, k, a, s.insert(rekeyed, 3, "c"), s.insert(rekeyed, 4, "d"))
	if n := strings.Count(log.String(), "the record key of a table has changed"); n != 1 || !strings.Contains(log.String(), "was=[id] key=[note]") {
		t.Errorf("reported %d times:\n%s", n, &log)
	}
	drain(t, k)
}

// TestBackPressure stops the broker from answering: Write blocks once the window is full, ends with
// its context, and what was handed over arrives in the end, in order and once.
func TestBackPressure(t *testing.T) {
	t.Parallel()
	c := kafkatest.StartFake(t)
	cfg := config(t)
	table := orders("orders")
	k := open(t, cfg, c.ListenAddrs(), table)
	resume := make(chan struct{})
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.SleepControl(func() { <-resume })
		return nil, nil, false
	})
	s, a := newStream(), new(ack)
	note := strings.Repeat("x", 100_000)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	var err error
	for err == nil && s.seq < 2000 {
		err = k.Write(ctx, s.insert(table, 1, note), a)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("after %d records: %v", s.seq, err)
	}
	written := int64(s.seq - 1)
	if bytes := written * 100_000; bytes < 16<<20 || bytes > 40<<20 {
		t.Errorf("%d bytes were on their way", bytes)
	}
	if err := k.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drain: %v", err)
	}
	close(resume)
	drain(t, k)
	a.want(t, written+1, written)
	records := read(t, c.ListenAddrs(), cfg.Pipeline+".public.orders")
	last := ""
	for _, r := range records {
		if pos := header(r, "pos"); pos <= last {
			t.Fatalf("%s after %s", pos, last)
		} else {
			last = pos
		}
	}
	if int64(len(records)) != written {
		t.Errorf("%d records arrived of %d", len(records), written)
	}
}

// TestNothingIsLeftBehind closes a sink in the middle of an outage.
func TestNothingIsLeftBehind(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(t)
	cfg.DeadLetterTopic = "dead"
	table := orders("orders")
	k, err := sink.New(cfg, broker.Config{Seeds: c.ListenAddrs()}, encode.DefaultOptions(), quiet(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Open(t.Context(), []*event.Table{table}, nil); err != nil {
		t.Fatal(err)
	}
	s, a := newStream(), new(ack)
	write(t, k, a, s.insert(table, 1, "a"))
	drain(t, k)
	c.Close()
	write(t, k, a, s.insert(table, 1, "b"))
	k.Close()
	k.Close()
	a.want(t, 2, 1)
	if err := k.Err(); err != nil {
		t.Errorf("giving up records at Close is a failure: %v", err)
	}
}

func TestCloseWithoutOpen(t *testing.T) {
	k, err := sink.New(config(t), broker.Config{Seeds: []string{"127.0.0.1:1"}}, encode.DefaultOptions(), quiet(), nil)
	if err != nil {
		t.Fatal(err)
	}
	k.Close()
}
