package encode

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// keyType marks a column of the replica identity in a call of table.
type keyType struct{ *event.Type }

func key(t *event.Type) keyType { return keyType{t} }

// table makes public.orders of names and types in turn. Under full identity the marked columns are
// the primary key and every column is flagged, as the stream has it.
func table(identity event.Identity, namesAndTypes ...any) *event.Table {
	t := &event.Table{OID: 16400, Schema: "public", Name: "orders", Identity: identity}
	for i := 0; i < len(namesAndTypes); i += 2 {
		c := event.Column{Name: fmt.Sprint(namesAndTypes[i]), Mod: -1, InIdentity: identity == event.IdentityFull}
		switch typ := namesAndTypes[i+1].(type) {
		case *event.Type:
			c.Type = typ
		case keyType:
			c.Type, c.InIdentity = typ.Type, true
			t.PrimaryKey = append(t.PrimaryKey, i/2)
		}
		t.Columns = append(t.Columns, c)
	}
	return t
}

// The values of a row beside text, by what stands for them in texts.
const (
	null      = "\x00null"
	absent    = "\x00absent"
	unchanged = "\x00unchanged"
)

func texts(values ...string) event.Row {
	row := make(event.Row, len(values))
	for i, v := range values {
		switch v {
		case null:
			row[i].State = event.Null
		case absent:
		case unchanged:
			row[i].State = event.Unchanged
		default:
			row[i] = event.Value{State: event.Text, Bytes: []byte(v)}
		}
	}
	return row
}

var (
	place = event.Position{Commit: 0x1A2B3C8, Seq: 3}
	tx    = &event.Tx{XID: 751, Commit: 0x1A2B3C8, Time: time.Date(2026, 5, 1, 10, 0, 0, 124001000, time.UTC)}
)

func insert(t *event.Table, row event.Row) *event.Change {
	return &event.Change{Op: event.OpInsert, Table: t, Tx: tx, Pos: place, New: row}
}

func changeRow(t *event.Table, old event.Row, oldIsKey bool, row event.Row) *event.Change {
	return &event.Change{Op: event.OpUpdate, Table: t, Tx: tx, Pos: place, Old: old, OldIsKey: oldIsKey, New: row}
}

func remove(t *event.Table, old event.Row, oldIsKey bool) *event.Change {
	return &event.Change{Op: event.OpDelete, Table: t, Tx: tx, Pos: place, Old: old, OldIsKey: oldIsKey}
}

func mustPlan(tb testing.TB, t *event.Table, keyNames []string, o Options) *Plan {
	tb.Helper()
	p, err := NewPlan(t, keyNames, o)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// written is one record, ready to compare.
type written struct {
	name, pos, key, value, headers string
}

func (w written) String() string {
	return "# " + w.name + "\npos " + w.pos + w.headers + "\n" + w.key + "\n" + w.value + "\n"
}

func headerText(all []Header) string {
	var b strings.Builder
	for _, h := range all {
		b.WriteString(" " + h.Key + "=" + string(h.Value))
	}
	return b.String()
}

// writeChange encodes all records of a change.
func writeChange(tb testing.TB, e *Encoder, p *Plan, name string, ch *event.Change) []written {
	tb.Helper()
	var all []written
	for _, r := range p.Records(ch) {
		k, err := e.AppendKey(nil, p, ch, r)
		if err != nil {
			tb.Fatalf("%s: %v", name, err)
		}
		v, err := e.AppendValue(nil, p, ch, r)
		if err != nil {
			tb.Fatalf("%s: %v", name, err)
		}
		w := written{
			name: name, pos: string(ch.Pos.AppendRecord(nil, r.Part)), key: "null", value: "null",
			headers: headerText(r.Headers),
		}
		if p.HasKey() {
			w.key = string(k)
		}
		if r.HasValue() {
			w.value = string(v)
		} else if len(v) > 0 {
			tb.Errorf("%s: a tombstone with a value: %s", name, v)
		}
		all = append(all, w)
	}
	return all
}

// goldenRecords are records of every kind, by name.
func goldenRecords(t *testing.T) []written {
	t.Helper()
	byKey := table(event.IdentityDefault, "id", key(bigint), "status", text, "amount", numeric, "note", text, "doc", jsonb)
	full := table(event.IdentityFull, "id", key(bigint), "status", text, "note", text)
	byIndex := table(event.IdentityIndex, "id", bigint, "b", key(text), "a", key(int4))
	byIndex.PrimaryKey = []int{0}
	keyless := table(event.IdentityNothing, "v", text)
	quoted := table(event.IdentityDefault, `I"d`, key(text))
	quoted.Schema, quoted.Name = "Öffentlich", "a.\"b\"\n"
	bare := table(event.IdentityFull)
	o := DefaultOptions()

	var all []written
	var e Encoder
	add := func(name string, p *Plan, ch *event.Change) { all = append(all, writeChange(t, &e, p, name, ch)...) }

	p := mustPlan(t, byKey, nil, o)
	add("insert", p, insert(byKey, texts("42", "new", "19.90", null, `{"k": 1}`)))
	add("insert of a JSON null", p, insert(byKey, texts("42", "new", null, null, "null")))
	add("update", p, changeRow(byKey, nil, false, texts("42", "paid", "19.90", "", " null ")))
	add("update, unchanged TOAST", p, changeRow(byKey, nil, false, texts("42", "paid", "19.90", unchanged, unchanged)))
	add("update, old key sent but the same", p, changeRow(byKey, texts("42", absent, absent, absent, absent), true, texts("42", "paid", "19.90", null, null)))
	add("key change", p, changeRow(byKey, texts("42", absent, absent, absent, absent), true, texts("43", "paid", "19.90", unchanged, null)))
	add("delete", p, remove(byKey, texts("42", absent, absent, absent, absent), true))
	read := insert(byKey, texts("42", "new", "1", null, null))
	read.Op, read.Tx = event.OpRead, nil
	add("read", p, read)

	p = mustPlan(t, byKey, nil, Options{Headers: []string{"table", "op", "schema"}})
	add("key change without tombstones, with headers", p, changeRow(byKey, texts("42", absent, absent, absent, absent), true, texts("43", "paid", "1", null, null)))
	add("delete without a tombstone, with headers", p, remove(byKey, texts("42", absent, absent, absent, absent), true))

	p = mustPlan(t, full, nil, o)
	add("full: update, unchanged TOAST", p, changeRow(full, texts("42", "new", "long"), false, texts("42", "paid", unchanged)))
	add("full: key change", p, changeRow(full, texts("42", "new", "long"), false, texts("43", "new", unchanged)))
	add("full: delete", p, remove(full, texts("42", null, "long"), false))
	p = mustPlan(t, full, []string{"status"}, o)
	add("full, key by name: key change to null", p, changeRow(full, texts("42", "new", "long"), false, texts("42", null, unchanged)))

	p = mustPlan(t, byIndex, nil, o)
	add("index: insert", p, insert(byIndex, texts("1", "x", "2")))
	add("index: TOASTed key column untouched", p, changeRow(byIndex, texts(absent, "long", "2"), true, texts("7", unchanged, "2")))
	add("index: key change beside a TOASTed key column", p, changeRow(byIndex, texts(absent, "long", "2"), true, texts("1", unchanged, "3")))
	p = mustPlan(t, byIndex, []string{"a"}, o)
	add("index, key by name: another column changed", p, changeRow(byIndex, texts(absent, "x", "2"), true, texts("1", "y", "2")))

	add("nothing: insert", mustPlan(t, keyless, nil, o), insert(keyless, texts("v")))
	add("names", mustPlan(t, quoted, nil, o), remove(quoted, texts("k\"\u0001"), true))
	add("no columns: insert", mustPlan(t, bare, nil, o), insert(bare, nil))
	add("no columns: delete", mustPlan(t, bare, nil, o), remove(bare, nil, false))

	return append(all, goldenOthers(t, &e, mustPlan(t, quoted, nil, Options{Headers: []string{"op", "table"}}))...)
}

// goldenOthers are the records that are not of rows.
func goldenOthers(t *testing.T, e *Encoder, p *Plan) []written {
	t.Helper()
	var all []written
	for _, tr := range []*event.Truncate{
		{Table: p.Table(), Tx: tx, Pos: place},
		{Table: p.Table(), Tx: tx, Pos: place, Cascade: true, RestartIdentity: true},
	} {
		r := p.Truncate(11)
		all = append(all, written{
			name: "truncate", pos: string(tr.Pos.AppendRecord(nil, r.Part)), headers: headerText(r.Headers),
			key: string(e.AppendTruncateKey(nil, p)), value: string(e.AppendTruncateValue(nil, tr, r)),
		})
	}
	for _, m := range []*event.Message{
		{Tx: tx, Pos: place, Prefix: []byte("outbox"), Content: []byte(`{"a":1}`)},
		{Pos: event.Position{Commit: 0xFFFF}, Prefix: []byte(`q"`)},
	} {
		k, err1 := e.AppendMessageKey(nil, m)
		v, err2 := e.AppendMessageValue(nil, m)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		all = append(all, written{
			name: "message", pos: string(m.Pos.AppendRecord(nil, 0)), key: string(k), value: string(v),
			headers: headerText(MessageHeaders(Options{Headers: []string{"op", "schema", "table"}})),
		})
	}
	return all
}

// TestSplitStandsBehindTheCommitTime splits a transaction while its rows are encoded: the mark follows
// at once, and the schema knows it.
func TestSplitStandsBehindTheCommitTime(t *testing.T) {
	orders := table(event.IdentityDefault, "id", key(bigint))
	e, p, schema := new(Encoder), mustPlan(t, orders, nil, DefaultOptions()), eventSchema(t)
	ours := *tx
	for split, want := range []string{`.124001Z","after"`, `.124001Z","split":1,"after"`, `.124001Z","split":2,"after"`} {
		ours.Split = split
		for range 2 {
			ch := insert(orders, texts("42"))
			ch.Tx = &ours
			got := writeChange(t, e, p, "split", ch)[0].value
			if !strings.Contains(got, want) {
				t.Errorf("%s lacks %s", got, want)
			}
			if err := validate(t, schema, got); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestGoldenRecords(t *testing.T) {
	var got strings.Builder
	for _, w := range goldenRecords(t) {
		got.WriteString(w.String())
	}
	file := filepath.Join("testdata", "records.golden")
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(got.String(), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		if i >= len(gotLines) || i >= len(wantLines) || gotLines[i] != wantLines[i] {
			t.Fatalf("line %d differs\ngot:\n%s", i+1, got.String())
		}
	}
}

func TestDocumentedExample(t *testing.T) {
	const want = `{"op":"u","schema":"public","table":"orders","pos":"0000000001A2B3C8:0000000003:0","xid":751,"ts":"2026-05-01T10:00:00.124001Z",` +
		`"before":{"id":42},"after":{"id":42,"status":"paid","amount":"19.90"},"unchanged":["note"]}`
	tab := table(event.IdentityDefault, "id", key(bigint), "status", text, "amount", numeric, "note", text)
	ch := changeRow(tab, texts("42", absent, absent, absent), true, texts("42", "paid", "19.90", unchanged))
	var e Encoder
	if got := writeChange(t, &e, mustPlan(t, tab, nil, DefaultOptions()), "", ch)[0]; got.value != want || got.key != `{"id":42}` {
		t.Errorf("got key %s and value\n%s, want\n%s", got.key, got.value, want)
	}
}

func TestDefaultKeys(t *testing.T) {
	toasted := table(event.IdentityDefault, "v", text, "id", key(int4))
	for _, c := range []struct {
		identity event.Identity
		want     []int
	}{
		{event.IdentityDefault, []int{1}},
		{event.IdentityIndex, []int{1}},
		{event.IdentityFull, []int{1}},
		{event.IdentityNothing, nil},
	} {
		tab := *toasted
		tab.Identity = c.identity
		p := mustPlan(t, &tab, nil, Options{})
		if !reflect.DeepEqual(p.key, c.want) || p.HasKey() != (c.want != nil) {
			t.Errorf("%s: got key %v, want %v", c.identity, p.key, c.want)
		}
	}
	p := mustPlan(t, table(event.IdentityFull, "a", text), nil, Options{})
	if p.HasKey() {
		t.Error("full identity without a primary key got a key")
	}
}

func TestChosenKeys(t *testing.T) {
	names := []any{"a", text, "b", key(int4), "c", key(int4)}
	for _, c := range []struct {
		name     string
		identity event.Identity
		key      []string
		want     []int // nil means refused
	}{
		{"part of the identity", event.IdentityDefault, []string{"c"}, []int{2}},
		{"any order, twice", event.IdentityDefault, []string{"c", "b", "c"}, []int{1, 2}},
		{"beside the identity", event.IdentityDefault, []string{"a"}, nil},
		{"partly beside the identity", event.IdentityIndex, []string{"b", "a"}, nil},
		{"any column under full", event.IdentityFull, []string{"a"}, []int{0}},
		{"no such column", event.IdentityFull, []string{"A"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := NewPlan(table(c.identity, names...), c.key, Options{})
			if c.want == nil {
				if f := fault.Of(err); f == nil || f.Code != fault.TableKey || f.Table != "public.orders" || f.Hint == "" {
					t.Errorf("got %v, want %s with a hint", err, fault.TableKey)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(p.key, c.want) {
				t.Errorf("got %v, %v; want %v", p, err, c.want)
			}
		})
	}
}

// TestKeyThatWasNotSent: a key is never null for want of a value.
func TestKeyThatWasNotSent(t *testing.T) {
	tab := table(event.IdentityDefault, "id", key(text), "v", text)
	p := mustPlan(t, tab, nil, DefaultOptions())
	for name, ch := range map[string]*event.Change{
		"update of a TOASTed key without the old one": changeRow(tab, nil, false, texts(unchanged, "v")),
		"delete without an old row":                   remove(tab, nil, false),
		"delete with another old row":                 remove(tab, texts(absent, "v"), false),
		"insert without the column":                   insert(tab, texts(absent, "v")),
		"row of another table":                        insert(tab, texts("1")),
		"old row of another table":                    changeRow(tab, texts("1"), true, texts("1", "v")),
	} {
		var e Encoder
		if k, err := e.AppendKey(nil, p, ch, p.Records(ch)[0]); !fault.Is(err, fault.ValueInvalid) {
			t.Errorf("%s: got key %s, %v", name, k, err)
		}
	}
}

func TestMessageThatCannotBeWritten(t *testing.T) {
	var e Encoder
	m := &event.Message{Pos: place, Prefix: []byte("\xff")}
	if v, err := e.AppendMessageValue(nil, m); !fault.Is(err, fault.ValueInvalid) {
		t.Errorf("got %s, %v", v, err)
	}
}

func TestNamesThatCannotBeWritten(t *testing.T) {
	bad := table(event.IdentityDefault, "\xff", key(text))
	worse := table(event.IdentityDefault, "id", key(text))
	worse.Name = "\xff"
	for _, tab := range []*event.Table{bad, worse} {
		if _, err := NewPlan(tab, nil, Options{}); !fault.Is(err, fault.ValueInvalid) {
			t.Errorf("got %v", err)
		}
	}
}

// TestTransactionsDoNotMix: the encoder keeps the text of a transaction, and sources use one Tx
// struct again and again.
func TestTransactionsDoNotMix(t *testing.T) {
	tab := table(event.IdentityDefault, "id", key(int4))
	p := mustPlan(t, tab, nil, Options{})
	shared := *tx
	ch := insert(tab, texts("1"))
	ch.Tx = &shared
	var e Encoder
	first := writeChange(t, &e, p, "", ch)[0].value
	shared.XID, shared.Time = 752, shared.Time.Add(time.Microsecond).In(time.FixedZone("", 3600))
	second := writeChange(t, &e, p, "", ch)[0].value
	if !strings.Contains(first, `"xid":751,"ts":"2026-05-01T10:00:00.124001Z"`) || !strings.Contains(second, `"xid":752,"ts":"2026-05-01T10:00:00.124002Z"`) {
		t.Errorf("got\n%s\n%s", first, second)
	}
}

// TestAppend: what stands in dst already stays.
func TestAppend(t *testing.T) {
	tab := table(event.IdentityDefault, "id", key(arrayOf(text)))
	p := mustPlan(t, tab, nil, Options{})
	ch := insert(tab, texts(`{"a\"b`)) // malformed: falls back after having appended
	var e Encoder
	got, err := e.AppendKey([]byte("before "), p, ch, p.Records(ch)[0])
	if want := `before {"id":"{\"a\\\"b"}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
}
