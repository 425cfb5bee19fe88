package sink

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/sink/encode"
)

// TestPartitionAgreesWithJava holds keys against Utils.murmur2 of Apache Kafka's Java client: the
// hashes are those of its UtilsTest, and the partition is toPositive(hash) % partitions.
func TestPartitionAgreesWithJava(t *testing.T) {
	k, err := New(Config{}, broker.Config{}, encode.Options{}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	for key, hash := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		for _, partitions := range []int32{1, 2, 6, 12, 1000, 1 << 30} {
			want := (hash & 0x7fffffff) % partitions
			if got := k.partition(&topic{partitions: partitions}, []byte(key)); got != want {
				t.Errorf("key %q of %d partitions: %d, Java says %d", key, partitions, got, want)
			}
		}
	}
}

// nobody is an Ack that nothing asks.
type nobody struct{ expected, acked int }

func (n *nobody) Expect(records int) { n.expected += records }
func (n *nobody) Acked(records int)  { n.acked += records }

// warm makes a sink with a route to a topic, as Open would, but without a broker.
func warm(t testing.TB, table *event.Table) *Kafka {
	t.Helper()
	k, err := New(Config{Pipeline: "p", Topics: TopicConfig{Name: "{table}"}}, broker.Config{}, encode.DefaultOptions(),
		slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	k.topics[table.Name] = &topic{name: table.Name, by: table.String(), partitions: 6, limit: defaultLimit, produced: k.metrics.produced(table.Name)}
	return k
}

func shop() (*event.Table, *event.Change) {
	int4 := &event.Type{OID: 23, Schema: "pg_catalog", Name: "int4", Kind: event.KindInt, Delim: ','}
	table := &event.Table{
		OID: 1, Schema: "public", Name: "orders", Identity: event.IdentityDefault, PrimaryKey: []int{0},
		Columns: []event.Column{{Name: "id", Type: int4, Mod: -1, InIdentity: true}},
	}
	change := &event.Change{
		Op: event.OpInsert, Table: table, Tx: &event.Tx{XID: 1, Commit: 1, Time: time.Unix(0, 0)}, Pos: event.Position{Commit: 1, Seq: 1},
		New: event.Row{{State: event.Text, Bytes: []byte("42")}},
	}
	for i := range 6 {
		table.Columns = append(table.Columns, event.Column{Name: "c" + strconv.Itoa(i), Type: event.TextType(25, "pg_catalog", "text"), Mod: -1})
		change.New = append(change.New, event.Value{State: event.Text, Bytes: []byte("some text of a usual length")})
	}
	return table, change
}

// TestWriteDoesNotAllocate runs everything that is done here for a record, from the event to its
// promise, without the client in between.
func TestWriteDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector a sync.Pool forgets on purpose")
	}
	table, change := shop()
	k := warm(t, table)
	ack := new(nobody)
	ctx := t.Context()
	one := func() {
		if err := k.encodeChange(ctx, change); err != nil {
			t.Fatal(err)
		}
		if err := k.fitOrDivert(); err != nil {
			t.Fatal(err)
		}
		ack.Expect(len(k.batch))
		for _, r := range k.batch {
			if err := k.admit(ctx, r.size); err != nil {
				t.Fatal(err)
			}
			r.ack = ack
			r.promise(&r.Record, nil)
		}
	}
	if n := testing.AllocsPerRun(1000, one); n != 0 {
		t.Errorf("%v allocations per row", n)
	}
	if ack.expected != ack.acked || ack.acked < 1000 {
		t.Errorf("expected %d, acknowledged %d", ack.expected, ack.acked)
	}
}

// TestAnEventIsHandedOverAsAWhole ends a Write that has room for the delete and none for its tombstone:
// the next start writes the event again, so that a part of it would be a repeat.
func TestAnEventIsHandedOverAsAWhole(t *testing.T) {
	c := kafkatest.StartFake(t)
	k, err := New(Config{Pipeline: "p", Topics: TopicConfig{Name: "{table}", Create: true, Partitions: 1, ReplicationFactor: -1}},
		broker.Config{Seeds: c.ListenAddrs()}, encode.DefaultOptions(), slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	table, change := shop()
	if _, err := k.Open(t.Context(), []*event.Table{table}, nil); err != nil {
		t.Fatal(err)
	}
	resume := make(chan struct{})
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.SleepControl(func() { <-resume })
		return nil, nil, false
	})
	ack := new(nobody)
	if err := k.Write(t.Context(), change, ack); err != nil {
		t.Fatal(err)
	}
	k.window.limit = k.window.used + 3*recordOverhead/2
	deleted := *change
	deleted.Op, deleted.Old, deleted.OldIsKey, deleted.New = event.OpDelete, make(event.Row, len(change.New)), true, nil
	deleted.Old[0] = change.New[0]
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := k.Write(ctx, &deleted, new(nobody)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("both records found room: %v", err)
	}
	close(resume)
	if err := k.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	ends, err := k.admin.ListEndOffsets(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	if end, _ := ends.Lookup("orders", 0); end.Offset != 1 || ack.acked != 1 {
		t.Errorf("%d records are in the topic, %d acknowledged; want the first event's alone", end.Offset, ack.acked)
	}
}

// TestWindow takes more than fits, and one thing that is larger than the whole.
func TestWindow(t *testing.T) {
	var gauge int64
	w := &window{limit: 100, gauge: func(used int64) { gauge = used }}
	ctx, never := t.Context(), make(chan struct{})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(w.take(ctx, never, 60))
	must(w.take(ctx, never, 40))
	full, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := w.take(full, never, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a full window let one in: %v", err)
	}
	stopped := make(chan struct{})
	close(stopped)
	if err := w.take(ctx, stopped, 1); !errors.Is(err, errStopped) {
		t.Errorf("a stopped window let one in: %v", err)
	}

	taken, drained := make(chan error, 1), make(chan error, 1)
	go func() { taken <- w.take(ctx, never, 500) }()
	w.release(60)
	w.release(40)
	must(<-taken)
	go func() { drained <- w.empty(ctx, never) }()
	w.park(200)
	w.release(300)
	must(w.settled(ctx, never))
	select {
	case err := <-drained:
		t.Errorf("empty with parked bytes: %v", err)
	default:
	}
	w.releaseParked(200)
	must(<-drained)
	if gauge != 0 {
		t.Errorf("the gauge shows %d", gauge)
	}
}

// TestWindowFollowsTheFlush shrinks with slow and failed flushes and grows back with fast ones.
func TestWindowFollowsTheFlush(t *testing.T) {
	w := &window{limit: windowBytes, gauge: func(int64) {}}
	want := func(limit int64) {
		t.Helper()
		if w.limit != limit {
			t.Errorf("the limit is %d, want %d", w.limit, limit)
		}
	}
	w.adapt(2*time.Second, false)
	want(windowBytes)
	w.adapt(6*time.Second, false)
	want(windowBytes / 4)
	w.adapt(0, true)
	want(windowBytes / 16)
	for range 10 {
		w.adapt(0, true)
	}
	want(leastWindow)
	for range 40 {
		w.adapt(time.Millisecond, false)
	}
	want(windowBytes)
}

// TestMetricsLabelsAreBounded names more topics than there may be labels.
func TestMetricsLabelsAreBounded(t *testing.T) {
	m := NewMetrics(nil)
	for i := range maxTopicLabels {
		m.produced("t" + strconv.Itoa(i))
	}
	if m.produced("one more") != m.produced("and another") {
		t.Error("a topic beyond the bound has a label of its own")
	}
	if m.produced("t0") == m.produced("t1") {
		t.Error("topics within the bound share a label")
	}
}

// TestPartitionsAreOnRecord: each save of a checkpoint asks for them, and keeps what it got.
func TestPartitionsAreOnRecord(t *testing.T) {
	k, err := New(Config{Pipeline: "p", Topics: TopicConfig{Name: "{table}", Create: true, Partitions: 2, ReplicationFactor: 1}},
		broker.Config{Seeds: kafkatest.StartFake(t).ListenAddrs()}, encode.DefaultOptions(), slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	table, _ := shop()
	before, err := k.Open(t.Context(), []*event.Table{table}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(before) == 0 {
		t.Fatal("no topics")
	}
	if n := testing.AllocsPerRun(100, func() { k.Partitions() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	was := maps.Clone(before)
	if err := k.ensure(t.Context(), []use{{topic: "another", by: "public.another"}}); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(before, was) || len(k.Partitions()) != len(was)+1 {
		t.Errorf("%v became %v; now %v", was, before, k.Partitions())
	}
}
