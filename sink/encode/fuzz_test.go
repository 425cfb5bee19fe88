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
		text, boolean, int4, bigint, float8, numeric, jsonb, bytea, stamp, stampTZ, date, clock, clockTZ, period, hstore, pair,
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
		case bytea, stamp, stampTZ, clock, clockTZ, jsonb:
			return // strings of another form than the text
		}
		if json.Unmarshal(got, &s) == nil && string(got) != "null" && s != string(in) {
			t.Fatalf("%s: %q became %q", typ.Name, in, s)
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
