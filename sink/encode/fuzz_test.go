package encode

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/walferry/walferry/event"
)

// nested is a type with everything in it.
func nested() *event.Type {
	return composite(
		event.Field{Name: "all", Type: arrayOf(composite(
			event.Field{Name: "doc", Type: jsonb},
			event.Field{Name: "docs", Type: arrayOf(jsonb)},
			event.Field{Name: "store", Type: hstore},
			event.Field{Name: "raw", Type: bytea},
			event.Field{Name: "at", Type: stampTZ},
		))},
		event.Field{Name: "boxes", Type: arrayOf(box)},
		event.Field{Name: "n", Type: domainOf(float8)},
	)
}

// FuzzValue: any bytes as the text of any type are valid JSON afterwards, or an error; where they
// are a JSON string, the string is the text, so that nothing is lost.
func FuzzValue(f *testing.F) {
	types := []*event.Type{
		text, boolean, int4, bigint, float8, numeric, jsonb, bytea, stamp, stampTZ, date, clock, clockTZ, period, hstore, pair, char,
		arrayOf(text), arrayOf(int4), arrayOf(box), arrayOf(bytea), arrayOf(pair), arrayOf(hstore), arrayOf(clockTZ), nested(),
	}
	for i := range types {
		for _, s := range []string{
			"", "t", "-12.5e+7", "NaN", "{\"a\": null}", `\x00ff`, "2026-05-01 10:00:00.5+00", "10:00:00-05:30", "P1Y",
			`"a\"b"=>"1", "c"=>NULL`, `(1,"a""b")`, `{1,NULL,"a\\b"}`, `{{1,2},{3,4}}`, `[2:3]={1,2}`, `{(1,1),(0,0);(3,3),(2,2)}`,
			`("{""(\\""{}\\"",,,,)""}",,1)`, "\u2028\x01\\", "\xff",
		} {
			f.Add(i, []byte(s))
		}
	}
	f.Fuzz(func(t *testing.T, kind int, in []byte) {
		var e Encoder
		typ := types[int(uint(kind)%uint(len(types)))]
		if typ == jsonb && !json.Valid(in) {
			return // the server checks it, and says so by its type
		}
		const before = "before"
		got, err := e.appendValue([]byte(before), newCodec(typ, Options{NumericAsNumber: true}), in)
		if !bytes.HasPrefix(got, []byte(before)) {
			t.Fatalf("%s: %q: what stood there is gone", typ.Name, in)
		}
		if err != nil {
			if !errors.Is(err, errNotUTF8) && !errors.Is(err, errNotHex) || errors.Is(err, errNotUTF8) && utf8.Valid(in) {
				t.Fatalf("%s: %q: %v", typ.Name, in, err)
			}
			return
		}
		got = got[len(before):]
		if !json.Valid(got) || !utf8.Valid(got) {
			t.Fatalf("%s: %q: not valid: %s", typ.Name, in, got)
		}
		var s string
		switch typ {
		case bytea, stamp, stampTZ, clock, clockTZ, jsonb, char:
			return // strings of another form than the text
		}
		if json.Unmarshal(got, &s) == nil && string(got) != "null" && s != string(in) {
			t.Fatalf("%s: %q became %q", typ.Name, in, s)
		}
	})
}

// FuzzRecord: a change of any values, names, operation and options makes records whose keys and values are JSON
// that says what was changed, or an error that shows no value.
func FuzzRecord(f *testing.F) {
	f.Add(uint(0), "public", "orders", "id", "note", "1", "a", "2", "b")
	f.Add(uint(0xffff), "", "\x00", "a\"", "a\n", "", "\xff", "NULL", "{}")
	f.Add(uint(0b1010101010), "s.s", "t", "\u2028", "\\", "1.0", "{\"a\": null}", "1", "\\x00")
	f.Fuzz(func(t *testing.T, bits uint, schema, name, first, second, a, b, c, d string) {
		take := func(n uint) uint {
			got := bits % n
			bits /= n
			return got
		}
		types := []*event.Type{text, int4, numeric, bytea, hstore, pair, arrayOf(text), stampTZ}
		op := []event.Op{event.OpInsert, event.OpUpdate, event.OpDelete, event.OpRead}[take(4)]
		o := Options{Tombstones: take(2) == 0, NumericAsNumber: take(2) == 0, Int8AsString: take(2) == 0}
		identity := []event.Identity{event.IdentityDefault, event.IdentityFull, event.IdentityNothing}[take(3)]
		tbl := table(identity, first, key(types[take(8)]), second, types[take(8)])
		tbl.Schema, tbl.Name = schema, name
		value := func(s string) event.Value {
			switch take(5) {
			case 0:
				return event.Value{State: event.Null}
			case 1:
				return event.Value{State: event.Unchanged}
			case 2:
				return event.Value{}
			}
			return event.Value{State: event.Text, Bytes: []byte(s)}
		}
		ch := &event.Change{Op: op, Table: tbl, Tx: &event.Tx{XID: 7}, Pos: event.Position{Commit: 1, Seq: 2}}
		if op != event.OpDelete {
			ch.New = event.Row{value(a), value(b)}
		}
		if op == event.OpDelete || op == event.OpUpdate && take(2) == 0 {
			ch.Old = event.Row{value(c), value(d)}
		}
		plan, err := NewPlan(tbl, nil, o)
		if err != nil {
			return // names that are no UTF-8
		}
		var e Encoder
		for _, r := range plan.Records(ch) {
			k, err := e.AppendKey(nil, plan, ch, r)
			if err != nil {
				continue
			}
			if k != nil && (!json.Valid(k) || !utf8.Valid(k)) {
				t.Fatalf("the key is not valid: %s", k)
			}
			v, err := e.AppendValue(nil, plan, ch, r)
			if err != nil || !r.HasValue() {
				continue
			}
			var got struct{ Schema, Table, Op, Pos string }
			if err := json.Unmarshal(v, &got); err != nil || !utf8.Valid(v) {
				t.Fatalf("%v: %s", err, v)
			}
			if got.Schema != schema || got.Table != name || !strings.HasPrefix(got.Pos, ch.Pos.String()) {
				t.Fatalf("of %q.%q: %s", schema, name, v)
			}
		}
	})
}

// FuzzNestedRoundTrip writes random strings as the server's output functions would, in nested
// arrays, rows and hstores, and reads them back from the JSON.
func FuzzNestedRoundTrip(f *testing.F) {
	f.Add("a", `b "c" \d`, "NULL", true)
	f.Add("", "{}", "(),", false)
	f.Add("\n\t ", "é€😀", `\\""`, true)
	typ := arrayOf(composite(
		event.Field{Name: "a", Type: text},
		event.Field{Name: "list", Type: arrayOf(text)},
		event.Field{Name: "store", Type: hstore},
	))
	f.Fuzz(func(t *testing.T, a, b, c string, isNull bool) {
		var e Encoder
		for _, s := range []string{a, b, c} {
			if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
				return // no server sends it
			}
		}
		type row struct {
			A     *string            `json:"a"`
			List  [][]*string        `json:"list"`
			Store map[string]*string `json:"store"`
		}
		want := []row{
			{A: &a, List: [][]*string{{&a, &b}, {&c, nil}}, Store: map[string]*string{a: &b, c + "x": nil}},
			{List: [][]*string{}, Store: map[string]*string{}},
		}
		if isNull {
			want[0].A = nil
		}
		var rows []*string
		for _, r := range want {
			list, store := arrayOut(r.List), hstoreOut(r.Store)
			s := recordOut(r.A, &list, &store)
			rows = append(rows, &s)
		}
		in := arrayOut([][]*string{rows})
		in = in[1 : len(in)-1] // one dimension
		out, err := e.appendValue(nil, newCodec(typ, Options{}), []byte(in))
		if err != nil {
			t.Fatalf("%s: %v", in, err)
		}
		var got []row
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%s became %s: %v", in, out, err)
		}
		g, err1 := json.Marshal(got)
		w, err2 := json.Marshal(want)
		if err1 != nil || err2 != nil || !bytes.Equal(g, w) {
			t.Fatalf("%s\ngot  %s\nwant %s", in, g, w)
		}
	})
}

// The server's output functions (array_out, record_out, hstore_out), as far as the test needs them.

func arrayOut(dims [][]*string) string {
	if len(dims) == 0 {
		return "{}"
	}
	var b strings.Builder
	for i, dim := range dims {
		b.WriteByte("{,"[min(i, 1)])
		for j, s := range dim {
			b.WriteByte("{,"[min(j, 1)])
			switch {
			case s == nil:
				b.WriteString("NULL")
			case *s == "" || strings.EqualFold(*s, "null") || strings.ContainsAny(*s, "{}\\\", \t\n\r\v\f"):
				b.WriteString(backslashed(*s))
			default:
				b.WriteString(*s)
			}
		}
		b.WriteByte('}')
	}
	return b.String() + "}"
}

func recordOut(values ...*string) string {
	var fields []string
	for _, s := range values {
		switch {
		case s == nil:
			fields = append(fields, "")
		case *s == "" || strings.ContainsAny(*s, "()\\\", \t\n\r\v\f"):
			fields = append(fields, `"`+strings.NewReplacer(`"`, `""`, `\`, `\\`).Replace(*s)+`"`)
		default:
			fields = append(fields, *s)
		}
	}
	return "(" + strings.Join(fields, ",") + ")"
}

func hstoreOut(m map[string]*string) string {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if v := m[k]; v == nil {
			pairs = append(pairs, backslashed(k)+"=>NULL")
		} else {
			pairs = append(pairs, backslashed(k)+"=>"+backslashed(*v))
		}
	}
	return strings.Join(pairs, ", ")
}

func backslashed(s string) string {
	return `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(s) + `"`
}
