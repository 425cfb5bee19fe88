package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/walcapture"
	"github.com/walferry/walferry/replication/pgoutput"
)

// fakeCatalog knows the built-in types and what a test tells it.
type fakeCatalog struct {
	types map[uint32]*event.Type
	names map[uint32]string
	keys  map[uint32][]string
	fail  error // the next question fails with it
	gen   uint64
}

func newFakeCatalog() *fakeCatalog {
	return &fakeCatalog{types: builtinTypes(), names: map[uint32]string{}, keys: map[uint32][]string{}}
}

func (c *fakeCatalog) typeOf(_ context.Context, oid uint32) (*event.Type, error) {
	if err := c.fail; err != nil {
		c.fail = nil
		return nil, err
	}
	if c.types[oid] == nil {
		c.types[oid] = event.TextType(oid, "", c.names[oid])
	}
	return c.types[oid], nil
}

func (c *fakeCatalog) generation() uint64 { return c.gen }

func (c *fakeCatalog) noteType(oid uint32, schema, name string) {
	c.names[oid] = schema + "." + name
}

func (c *fakeCatalog) primaryKey(_ context.Context, table uint32) ([]string, error) {
	return c.keys[table], nil
}

// Relations of the tests. The columns are id and note, the first of which is the key.
const (
	orders    = 100 // public.orders, captured
	lines     = 101 // public.lines, captured
	unrelated = 102 // public.other, not captured
)

// capturesOrders is a pipeline of public.orders, public.lines and pg_catalog.pg_enum, and of the messages "audit".
func capturesOrders() Config {
	return Config{
		Tables: []TableSpec{
			{Schema: "public", Name: "orders"}, {Schema: "public", Name: "lines"}, {Schema: "pg_catalog", Name: "pg_enum"},
		},
		MessagePrefixes: []string{"audit"},
	}
}

func relationOf(id uint32, name string, columns ...string) *pgoutput.Relation {
	r := &pgoutput.Relation{ID: id, Namespace: "public", Name: name, Identity: event.IdentityDefault}
	for i, c := range columns {
		flags := uint8(0)
		if i == 0 {
			flags = pgoutput.ColumnInIdentity
		}
		r.Columns = append(r.Columns, pgoutput.RelationColumn{Name: c, TypeOID: 25, TypeMod: -1, Flags: flags})
	}
	return r
}

func begin(commit event.LSN) *pgoutput.Begin { return &pgoutput.Begin{FinalLSN: commit, XID: 7} }

func commit(at event.LSN) *pgoutput.Commit {
	return &pgoutput.Commit{CommitLSN: at, EndLSN: at + 0x30}
}

func insert(id uint32, values ...string) *pgoutput.Insert {
	return &pgoutput.Insert{RelationID: id, New: rowOf(values...)}
}

// rowOf makes a row of texts; "∅" stands for null.
func rowOf(values ...string) event.Row {
	row := make(event.Row, 0, len(values))
	for _, v := range values {
		if v == "∅" {
			row = append(row, event.Value{State: event.Null})
		} else {
			row = append(row, event.Value{State: event.Text, Bytes: []byte(v)})
		}
	}
	return row
}

// printEvent prints an event.
func printEvent(ev event.Event) string {
	switch ev := ev.(type) {
	case *event.Begin:
		return fmt.Sprintf("begin %s", ev.Tx.Commit)
	case *event.Commit:
		return fmt.Sprintf("commit %s end %s", ev.Tx.Commit, ev.End)
	case *event.Change:
		return fmt.Sprintf("%c %s %s:%d old %s new %s", ev.Op, ev.Table, ev.Pos.Commit, ev.Pos.Seq, printRow(ev.Old), printRow(ev.New))
	case *event.Truncate:
		return fmt.Sprintf("t %s %s:%d cascade %t restart %t", ev.Table, ev.Pos.Commit, ev.Pos.Seq, ev.Cascade, ev.RestartIdentity)
	case *event.Message:
		return fmt.Sprintf("m %s %s:%d in a transaction %t", ev.Prefix, ev.Pos.Commit, ev.Pos.Seq, ev.Tx != nil)
	case *event.Progress:
		return fmt.Sprintf("progress %s", ev.LSN)
	}
	return fmt.Sprintf("%T", ev)
}

func printRow(row event.Row) string {
	s := ""
	for _, v := range row {
		switch v.State {
		case event.Absent:
			s += "·"
		case event.Null:
			s += "∅"
		case event.Unchanged:
			s += "="
		case event.Text, event.Binary:
			s += string(v.Bytes)
		}
		s += ","
	}
	return "(" + s + ")"
}

// feed gives messages to an assembler and prints the events they make.
func feed(t *testing.T, a *assembler, messages ...pgoutput.Message) []string {
	t.Helper()
	var got []string
	for _, m := range messages {
		ev, err := a.assemble(t.Context(), m)
		if err != nil {
			t.Fatalf("%T: %v", m, err)
		}
		for ; ev != nil; ev = a.pending() {
			got = append(got, printEvent(ev))
		}
	}
	return got
}

func TestAssemble(t *testing.T) {
	audit := func(transactional bool, prefix string) *pgoutput.LogicalMessage {
		return &pgoutput.LogicalMessage{Transactional: transactional, LSN: 0xF8, Prefix: []byte(prefix)}
	}
	full := relationOf(orders, "orders", "id", "note")
	full.Identity = event.IdentityFull
	for _, c := range []struct {
		name     string
		messages []pgoutput.Message
		want     []string
	}{
		{
			"the sequence counts what is dropped, too",
			[]pgoutput.Message{
				begin(0x100), relationOf(orders, "orders", "id"), relationOf(unrelated, "other", "id"),
				insert(orders, "1"), insert(unrelated, "1"), audit(true, "other"), &pgoutput.Origin{},
				&pgoutput.Truncate{Relations: []uint32{unrelated, orders, unrelated}, Cascade: true},
				audit(true, "audit"), insert(orders, "2"), commit(0x100),
			},
			[]string{
				"begin 0/100", "c public.orders 0/100:1 old () new (1,)", "t public.orders 0/100:5 cascade true restart false",
				"m audit 0/100:7 in a transaction true", "c public.orders 0/100:8 old () new (2,)", "commit 0/100 end 0/130",
			},
		},
		{
			"a truncate of several tables is one event each",
			[]pgoutput.Message{
				begin(0x100), relationOf(orders, "orders", "id"), relationOf(lines, "lines", "id"),
				&pgoutput.Truncate{Relations: []uint32{lines, orders}, RestartIdentity: true}, insert(orders, "1"), commit(0x100),
			},
			[]string{
				"begin 0/100", "t public.lines 0/100:1 cascade false restart true", "t public.orders 0/100:2 cascade false restart true",
				"c public.orders 0/100:3 old () new (1,)", "commit 0/100 end 0/130",
			},
		},
		{
			"the nulls in place of what an old key does not hold are absent",
			[]pgoutput.Message{
				begin(0x100), relationOf(orders, "orders", "id", "note"),
				&pgoutput.Update{RelationID: orders, OldKind: pgoutput.OldKey, Old: rowOf("1", "∅"), New: rowOf("2", "∅")},
				&pgoutput.Delete{RelationID: orders, OldKind: pgoutput.OldKey, Old: rowOf("2", "∅")}, commit(0x100),
			},
			[]string{
				"begin 0/100", "u public.orders 0/100:1 old (1,·,) new (2,∅,)", "d public.orders 0/100:2 old (2,·,) new ()", "commit 0/100 end 0/130",
			},
		},
		{
			"the nulls of a whole old row are nulls",
			[]pgoutput.Message{
				begin(0x100), full,
				&pgoutput.Update{RelationID: orders, OldKind: pgoutput.OldRow, Old: rowOf("1", "∅"), New: event.Row{{State: event.Null}, {State: event.Unchanged}}},
				commit(0x100),
			},
			[]string{"begin 0/100", "u public.orders 0/100:1 old (1,∅,) new (∅,=,)", "commit 0/100 end 0/130"},
		},
		{
			"each row has the table as it was then",
			[]pgoutput.Message{
				begin(0x100), relationOf(orders, "orders", "id"), insert(orders, "1"),
				relationOf(orders, "orders", "id", "note"), insert(orders, "2", "n"),
				relationOf(orders, "renamed", "id", "note"), insert(orders, "3", "not captured under this name"), commit(0x100),
			},
			[]string{"begin 0/100", "c public.orders 0/100:1 old () new (1,)", "c public.orders 0/100:2 old () new (2,n,)", "commit 0/100 end 0/130"},
		},
		{
			"a message outside of a transaction has its own position",
			[]pgoutput.Message{audit(false, "audit"), audit(false, "other"), begin(0x100), audit(true, "audit"), commit(0x100)},
			[]string{"m audit 0/F8:0 in a transaction false", "begin 0/100", "m audit 0/100:1 in a transaction true", "commit 0/100 end 0/130"},
		},
		{
			"an empty transaction", // 14 sends one for each that is filtered
			[]pgoutput.Message{begin(0x100), commit(0x100), begin(0x130), commit(0x130)},
			[]string{"begin 0/100", "commit 0/100 end 0/130", "begin 0/130", "commit 0/130 end 0/160"},
		},
		{
			"a table without columns",
			[]pgoutput.Message{begin(0x100), relationOf(orders, "orders"), insert(orders), commit(0x100)},
			[]string{"begin 0/100", "c public.orders 0/100:1 old () new ()", "commit 0/100 end 0/130"},
		},
		{
			"a schema without a name is pg_catalog",
			[]pgoutput.Message{
				begin(0x100), &pgoutput.Relation{ID: orders, Name: "pg_enum", Identity: event.IdentityNothing}, insert(orders), commit(0x100),
			},
			[]string{"begin 0/100", "c pg_catalog.pg_enum 0/100:1 old () new ()", "commit 0/100 end 0/130"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAssembler(capturesOrders(), newFakeCatalog(), nil)
			if diff := cmp.Diff(c.want, feed(t, a, c.messages...)); diff != "" {
				t.Errorf("assembled otherwise (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAStreamThatMakesNoSenseIsRefused(t *testing.T) {
	described := relationOf(orders, "orders", "id", "note")
	for _, c := range []struct {
		name     string
		messages []pgoutput.Message // the last one is wrong
	}{
		{"a begin in a transaction", []pgoutput.Message{begin(0x100), begin(0x200)}},
		{"a commit without a begin", []pgoutput.Message{commit(0x100)}},
		{"the commit of another transaction", []pgoutput.Message{begin(0x100), commit(0x200)}},
		{"an insert outside of a transaction", []pgoutput.Message{described, insert(orders, "1", "a")}},
		{"a truncate outside of a transaction", []pgoutput.Message{described, &pgoutput.Truncate{Relations: []uint32{orders}}}},
		{"a message of a transaction outside of one", []pgoutput.Message{&pgoutput.LogicalMessage{Transactional: true}}},
		{"a row of a table that was not described", []pgoutput.Message{begin(0x100), insert(orders, "1", "a")}},
		{"a truncate of a table that was not described", []pgoutput.Message{begin(0x100), described, &pgoutput.Truncate{Relations: []uint32{orders, lines}}}},
		{"a row with a column too few", []pgoutput.Message{begin(0x100), described, insert(orders, "1")}},
		{"a row with a column too many", []pgoutput.Message{begin(0x100), described, insert(orders, "1", "a", "b")}},
		{"an old row with a column too few", []pgoutput.Message{
			begin(0x100), described, &pgoutput.Delete{RelationID: orders, OldKind: pgoutput.OldKey, Old: rowOf("1")},
		}},
		{"an old row with a column too many", []pgoutput.Message{
			begin(0x100), described, &pgoutput.Update{RelationID: orders, OldKind: pgoutput.OldKey, Old: rowOf("1", "∅", "∅"), New: rowOf("1", "a")},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAssembler(capturesOrders(), newFakeCatalog(), nil)
			last := len(c.messages) - 1
			feed(t, a, c.messages[:last]...)
			ev, err := a.assemble(t.Context(), c.messages[last])
			if !fault.Is(err, fault.StreamInvalid) || ev != nil {
				t.Errorf("got %v, %v", ev, err)
			}
			if again := a.pending(); again != nil {
				t.Errorf("and then %s", printEvent(again))
			}
		})
	}
}

func TestASequenceThatAPositionCannotHoldIsRefused(t *testing.T) {
	for _, m := range []pgoutput.Message{insert(orders, "1"), &pgoutput.Truncate{Relations: []uint32{orders, orders}}} {
		a := newAssembler(capturesOrders(), newFakeCatalog(), nil)
		feed(t, a, begin(0x100), relationOf(orders, "orders", "id"))
		a.seq = event.MaxSeq - 1
		feed(t, a, insert(orders, "1"))
		if _, err := a.assemble(t.Context(), m); !fault.Is(err, fault.StreamInvalid) {
			t.Errorf("%T: %v", m, err)
		}
	}
}

func TestAKeepaliveInATransactionIsNoProgress(t *testing.T) {
	a := newAssembler(capturesOrders(), newFakeCatalog(), nil)
	said := keepalive(0x90, false)[5:]
	for _, c := range []struct {
		before pgoutput.Message
		want   string
	}{{nil, "progress 0/90"}, {begin(0x100), ""}, {commit(0x100), "progress 0/90"}} {
		if c.before != nil {
			feed(t, a, c.before)
		}
		ev, err := a.frame(t.Context(), said)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if ev != nil {
			got = printEvent(ev)
		}
		if got != c.want {
			t.Errorf("after %T: %q, want %q", c.before, got, c.want)
		}
	}
}

func TestACutOffTransactionBeginsAgain(t *testing.T) {
	a := newAssembler(capturesOrders(), newFakeCatalog(), nil)
	part := []pgoutput.Message{
		begin(0x100), relationOf(orders, "orders", "id"), insert(orders, "1"), &pgoutput.Truncate{Relations: []uint32{orders, orders, orders}},
	}
	for _, m := range part {
		if _, err := a.assemble(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	a.restart()
	if ev := a.pending(); ev != nil {
		t.Errorf("left over of the lost connection: %s", printEvent(ev))
	}
	got := feed(t, a, append(part, commit(0x100))...)
	want := []string{
		"begin 0/100", "c public.orders 0/100:1 old () new (1,)",
		"t public.orders 0/100:2 cascade false restart false", "t public.orders 0/100:3 cascade false restart false", "t public.orders 0/100:4 cascade false restart false",
		"commit 0/100 end 0/130",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("assembled otherwise (-want +got):\n%s", diff)
	}
}

// tableOf returns the table of a relation after a message.
func tableOf(t *testing.T, a *assembler, r *pgoutput.Relation) *event.Table {
	t.Helper()
	feed(t, a, r)
	table, err := a.table(r.ID)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestATableIsTheSamePointerUntilItChanges(t *testing.T) {
	a := newAssembler(capturesOrders(), newFakeCatalog(), nil)
	first := tableOf(t, a, relationOf(orders, "orders", "id", "note"))
	a.restart()
	if again := tableOf(t, a, relationOf(orders, "orders", "id", "note")); again != first {
		t.Error("the same description made another table")
	}
	for name, change := range map[string]func(*pgoutput.Relation){
		"a name":       func(r *pgoutput.Relation) { r.Name = "lines" },
		"a type":       func(r *pgoutput.Relation) { r.Columns[1].TypeOID = 23 },
		"a modifier":   func(r *pgoutput.Relation) { r.Columns[1].TypeMod = 24 },
		"a key":        func(r *pgoutput.Relation) { r.Columns[1].Flags = pgoutput.ColumnInIdentity },
		"the identity": func(r *pgoutput.Relation) { r.Identity = event.IdentityIndex },
		"a column":     func(r *pgoutput.Relation) { r.Columns = r.Columns[:1] },
	} {
		was := tableOf(t, a, relationOf(orders, "orders", "id", "note"))
		r := relationOf(orders, "orders", "id", "note")
		change(r)
		if is := tableOf(t, a, r); is == was {
			t.Errorf("%s was changed and the table was not", name)
		}
	}
	if got := first.Name + " " + first.Columns[1].Name + " " + first.Columns[1].Type.Name; got != "orders note text" {
		t.Errorf("a table that was handed out is now %s", got)
	}
}

func TestThePrimaryKeyComesFromTheFlagsOrTheCatalog(t *testing.T) {
	for _, c := range []struct {
		identity event.Identity
		catalog  []string
		want     []int
	}{
		{event.IdentityDefault, []string{"note"}, []int{0}},
		{event.IdentityFull, []string{"note"}, []int{1}},
		{event.IdentityFull, []string{"id", "note"}, []int{0, 1}},
		{event.IdentityFull, nil, nil},
		{event.IdentityFull, []string{"id", "added later"}, nil},
		{event.IdentityIndex, []string{"note"}, []int{1}},
		{event.IdentityNothing, nil, nil},
	} {
		catalog := newFakeCatalog()
		catalog.keys[orders] = c.catalog
		r := relationOf(orders, "orders", "id", "note")
		r.Identity = c.identity
		if got := tableOf(t, newAssembler(capturesOrders(), catalog, nil), r).PrimaryKey; !slices.Equal(got, c.want) {
			t.Errorf("identity %s, catalog %q: primary key %v, want %v", c.identity, c.catalog, got, c.want)
		}
	}
}

func TestATypeIsNamedByTheStream(t *testing.T) {
	catalog := newFakeCatalog()
	a := newAssembler(capturesOrders(), catalog, nil)
	feed(t, a, &pgoutput.Type{OID: 16500, Namespace: "shop", Name: "mood"}, &pgoutput.Type{OID: 16501, Name: "int4"}) // the second is a domain
	r := relationOf(orders, "orders", "id", "mood", "cents")
	r.Columns[1].TypeOID, r.Columns[2].TypeOID = 16500, 16501
	table := tableOf(t, a, r)
	if got := table.Columns[1].Type.Name + " " + table.Columns[2].Type.Name; got != "shop.mood .int4" {
		t.Errorf("types %s", got)
	}
}

// sourceOf is a Source to whom a connection has given these payloads, and nothing else.
func sourceOf(catalog typeCatalog, payloads ...[]byte) *Source {
	s := New(capturesOrders(), slog.New(slog.DiscardHandler), nil)
	s.assembler.catalog = catalog
	b := <-s.free
	b.reset(nil)
	for _, p := range payloads {
		from := len(b.buf)
		b.buf = append(b.buf, p...)
		b.frames = append(b.frames, span{from, len(b.buf)})
	}
	s.out <- b
	return s
}

// The wire form of one transaction with one row of seven columns and 190 bytes.
func wireTransaction() (relation, begin, insert, commit []byte) {
	xlog := func(payload string) []byte { return xlogData(0x1A2B3C8, []byte(payload))[5:] }
	columns, values := "", ""
	for _, c := range [][2]string{
		{"id", "1234567"}, {"status", "paid"}, {"at", "2026-05-01 10:00:00.123456+00"}, {"amount", "19.90"},
		{"email", "customer-4711@example.com"}, {"gift", "f"}, {"note", "a longer note of some sixty bytes, as orders have them, more or less"},
	} {
		flag := "\x00"
		if columns == "" {
			flag = "\x01"
		}
		columns += flag + c[0] + "\x00\x00\x00\x00\x19\xff\xff\xff\xff"
		values += "t\x00\x00\x00" + string(rune(len(c[1]))) + c[1]
	}
	relation = xlog("R\x00\x00\x00\x64public\x00orders\x00d\x00\x07" + columns)
	begin = xlog("B\x00\x00\x00\x00\x01\xa2\xb3\xc8\x00\x02\xf3\xbd\x69\xa3\xaa\x40\x00\x00\x02\xef")
	insert = xlog("I\x00\x00\x00\x64N\x00\x07" + values)
	commit = xlog("C\x00\x00\x00\x00\x00\x01\xa2\xb3\xc8\x00\x00\x00\x00\x01\xa2\xb3\xf8\x00\x02\xf3\xbd\x69\xa3\xaa\x40")
	return relation, begin, insert, commit
}

func TestACatalogThatIsAwayLosesNothing(t *testing.T) {
	away := fault.New(fault.PostgresUnavailable, "read a type from the catalog", errors.New("away"), "")
	relation, begin, insert, commit := wireTransaction()
	catalog := newFakeCatalog()
	s := sourceOf(catalog, begin, relation, insert, commit)
	catalog.fail = away
	var got []string
	failures := 0
	for len(got) < 3 {
		ev, err := s.Next(t.Context(), func() {})
		switch {
		case err == nil:
			got = append(got, printEvent(ev)[:6])
		case errors.Is(err, away) && failures == 0:
			failures++
		default:
			t.Fatal(err)
		}
	}
	if want := []string{"begin ", "c publ", "commit"}; failures != 1 || !slices.Equal(got, want) {
		t.Errorf("got %q and %d failures", got, failures)
	}
}

// TestAnAlteredTypeIsAskedForAgain: with the next transaction, and again where the catalog is away.
func TestAnAlteredTypeIsAskedForAgain(t *testing.T) {
	const oid = firstUserOID
	catalog := newFakeCatalog()
	a := newAssembler(capturesOrders(), catalog, nil)
	r := relationOf(orders, "orders", "id")
	r.Columns[0].TypeOID = oid
	if err := a.onRelation(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	old := a.tables[orders].table
	catalog.types[oid] = event.TextType(oid, "public", "other")
	catalog.gen++
	catalog.fail = fault.New(fault.PostgresUnavailable, "read a type from the catalog", errors.New("away"), "")
	if _, err := a.onBegin(t.Context(), &pgoutput.Begin{}); !fault.Retryable(err) {
		t.Fatalf("got %v", err)
	}
	if _, err := a.onBegin(t.Context(), &pgoutput.Begin{}); err != nil {
		t.Fatal(err)
	}
	if now := a.tables[orders].table; now == old || now.Columns[0].Type.Name != "other" || old.Columns[0].Type.Name == "other" {
		t.Errorf("the column's type is %v, was %v", now.Columns[0].Type, old.Columns[0].Type)
	}
}

func TestNextAllocatesNothingForARow(t *testing.T) {
	relation, begin, insert, commit := wireTransaction()
	s := sourceOf(newFakeCatalog(), begin, relation, insert, commit)
	transaction := func() {
		for range 3 {
			if _, err := s.Next(t.Context(), func() {}); err != nil {
				t.Fatal(err)
			}
		}
		s.frame = 0
	}
	transaction()
	s.current.frames = slices.Delete(s.current.frames, 1, 2) // the relation
	if n := testing.AllocsPerRun(100, transaction); n != 0 {
		t.Errorf("%v allocations for a transaction of one row", n)
	}
}

// BenchmarkNext reads rows out of a batch, each in a transaction of its own.
func BenchmarkNext(b *testing.B) {
	relation, begin, insert, commit := wireTransaction()
	s := sourceOf(newFakeCatalog(), begin, relation, insert, commit)
	ctx := b.Context()
	transaction := func() {
		for range 3 {
			if _, err := s.Next(ctx, func() {}); err != nil {
				b.Fatal(err)
			}
		}
		s.frame = 0
	}
	transaction()
	s.current.frames = slices.Delete(s.current.frames, 1, 2) // the relation
	b.SetBytes(int64(len(begin) + len(insert) + len(commit)))
	b.ReportAllocs()
	for b.Loop() {
		transaction()
	}
}

// FuzzAssemble gives arbitrary frames, of which most can be decoded because they come from captures.
// Whatever they say, there is no panic, an error has its code, and positions rise in a transaction.
func FuzzAssemble(f *testing.F) {
	all, err := walcapture.List("../testdata/wal")
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range all {
		frames, err := c.Frames()
		if err != nil {
			f.Fatal(err)
		}
		var seed []byte
		for _, frame := range frames {
			seed = append(append(seed, byte(len(frame)>>8), byte(len(frame))), frame...)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a := newAssembler(Config{AllTables: true, MessagePrefixes: []string{"audit"}}, newFakeCatalog(), nil)
		var last event.Position
		for len(data) >= 2 {
			n := min(int(data[0])<<8|int(data[1]), len(data)-2)
			ev, err := a.frame(t.Context(), data[2:2+n])
			data = data[2+n:]
			if err != nil {
				if !fault.Is(err, fault.StreamInvalid) {
					t.Fatalf("an error of another code: %v", err)
				}
				continue
			}
			for ; ev != nil; ev = a.pending() {
				last = checkOrder(t, ev, last)
			}
		}
	})
}

// checkOrder returns the position of an event, which must be behind the last one of its transaction.
func checkOrder(t *testing.T, ev event.Event, last event.Position) event.Position {
	t.Helper()
	var pos event.Position
	switch ev := ev.(type) {
	case *event.Begin:
		return event.Position{Commit: ev.Tx.Commit}
	case *event.Change:
		pos = ev.Pos
		if ev.New != nil && len(ev.New) != len(ev.Table.Columns) || ev.Old != nil && len(ev.Old) != len(ev.Table.Columns) {
			t.Fatal("a row does not fit its table")
		}
	case *event.Truncate:
		pos = ev.Pos
	case *event.Message:
		if ev.Tx == nil {
			return last
		}
		pos = ev.Pos
	case *event.Commit, *event.Progress:
		return last
	}
	if pos.Compare(last) <= 0 || pos.Commit != last.Commit {
		t.Fatalf("%s behind %s", pos, last)
	}
	return pos
}
