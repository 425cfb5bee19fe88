package sink_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/sink"
	"github.com/walferry/walferry/sink/encode"
)

func TestMain(m *testing.M) { os.Exit(kafkatest.Main(m.Run)) }

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// ack counts what the sink says.
type ack struct{ expected, acked atomic.Int64 }

func (a *ack) Expect(n int) { a.expected.Add(int64(n)) }
func (a *ack) Acked(n int)  { a.acked.Add(int64(n)) }

func (a *ack) want(t *testing.T, expected, acked int64) {
	t.Helper()
	if a.expected.Load() != expected || a.acked.Load() != acked {
		t.Errorf("expected %d, acknowledged %d; want %d and %d", a.expected.Load(), a.acked.Load(), expected, acked)
	}
}

var (
	int4 = &event.Type{OID: 23, Schema: "pg_catalog", Name: "int4", Kind: event.KindInt, Delim: ','}
	text = event.TextType(25, "pg_catalog", "text")
)

// orders is a table with a primary key id, and a text note.
func orders(name string) *event.Table {
	return &event.Table{
		OID: 1, Schema: "public", Name: name, Identity: event.IdentityDefault, PrimaryKey: []int{0},
		Columns: []event.Column{{Name: "id", Type: int4, Mod: -1, InIdentity: true}, {Name: "note", Type: text, Mod: -1}},
	}
}

// logTable is a table without a key.
func logTable(name string) *event.Table {
	t := orders(name)
	t.PrimaryKey = nil
	t.Columns[0].InIdentity = false
	return t
}

func row(id int, note string) event.Row {
	return event.Row{
		{State: event.Text, Bytes: []byte(strconv.Itoa(id))},
		{State: event.Text, Bytes: []byte(note)},
	}
}

// stream makes events with rising positions.
type stream struct {
	tx  event.Tx
	seq uint64
}

func newStream() *stream {
	return &stream{tx: event.Tx{XID: 7, Commit: 0x100, Time: time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)}}
}

func (s *stream) pos() event.Position {
	s.seq++
	return event.Position{Commit: s.tx.Commit, Seq: s.seq}
}

func (s *stream) insert(t *event.Table, id int, note string) *event.Change {
	return &event.Change{Op: event.OpInsert, Table: t, Tx: &s.tx, Pos: s.pos(), New: row(id, note)}
}

func (s *stream) update(t *event.Table, was, id int, note string) *event.Change {
	ch := &event.Change{Op: event.OpUpdate, Table: t, Tx: &s.tx, Pos: s.pos(), New: row(id, note)}
	if was != id {
		ch.Old, ch.OldIsKey = event.Row{{State: event.Text, Bytes: []byte(strconv.Itoa(was))}, {}}, true
	}
	return ch
}

func (s *stream) delete(t *event.Table, id int) *event.Change {
	return &event.Change{
		Op: event.OpDelete, Table: t, Tx: &s.tx, Pos: s.pos(),
		Old: event.Row{{State: event.Text, Bytes: []byte(strconv.Itoa(id))}, {}}, OldIsKey: true,
	}
}

// config is a sink's configuration for a pipeline of this test.
func config(testing.TB) sink.Config {
	return sink.Config{
		Pipeline: fmt.Sprintf("p%x", time.Now().UnixNano()),
		Topics:   sink.TopicConfig{Name: "{name}.{schema}.{table}", Create: true, Partitions: 6, ReplicationFactor: -1},
	}
}

// quiet discards what the sink logs.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// logs collects what the sink logs.
type logs struct {
	mu   sync.Mutex
	text []byte
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	return len(p), nil
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// open makes a sink and opens it.
func open(t testing.TB, cfg sink.Config, seeds []string, tables ...*event.Table) *sink.Kafka {
	t.Helper()
	k := prepare(t, cfg, seeds)
	if _, err := k.Open(t.Context(), tables, nil); err != nil {
		t.Fatal(err)
	}
	return k
}

func prepare(t testing.TB, cfg sink.Config, seeds []string) *sink.Kafka {
	t.Helper()
	k, err := sink.New(cfg, broker.Config{Seeds: seeds, ClientID: "walferry-test"}, encode.DefaultOptions(), quiet(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

func write(t testing.TB, k *sink.Kafka, a event.Ack, events ...event.Event) {
	t.Helper()
	for _, ev := range events {
		if err := k.Write(t.Context(), ev, a); err != nil {
			t.Fatal(err)
		}
	}
}

func drain(t testing.TB, k *sink.Kafka) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := k.Drain(ctx); err != nil {
		t.Fatal(err)
	}
}

// waitFailed waits until the sink has failed and returns why.
func waitFailed(t testing.TB, k *sink.Kafka) error {
	t.Helper()
	select {
	case <-k.Failed():
		return k.Err()
	case <-time.After(patience):
		t.Fatal("the sink has not failed")
		return nil
	}
}

// read returns all records of a topic, those of a partition in order.
func read(t testing.TB, seeds []string, topic string) []*kgo.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(seeds...), kgo.ConsumeTopics(topic), kgo.FetchMaxWait(100*time.Millisecond), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	var left int64
	ends.Each(func(o kadm.ListedOffset) { left += o.Offset })
	var got []*kgo.Record
	for int64(len(got)) < left {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		got = append(got, fetches.Records()...)
	}
	return got
}

// header returns the first header of a name.
func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}
