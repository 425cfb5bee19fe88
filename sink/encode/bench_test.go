package encode

import (
	"strings"
	"testing"

	"github.com/walferry/walferry/event"
)

// orders is a row of about 190 bytes in seven columns, as the pipeline's benchmarks use it.
func orders(tb testing.TB) (*Plan, *event.Change) {
	tb.Helper()
	t := table(
		event.IdentityDefault,
		"id", key(bigint), "customer", int4, "status", text, "amount", numeric, "created", stampTZ, "paid", boolean, "note", text,
	)
	row := texts("9123456", "4711", "shipped", "1234.56", "2026-05-01 10:00:00.124001+00", "t", strings.Repeat("please ring twice ", 6))
	return mustPlan(tb, t, nil, DefaultOptions()), insert(t, row)
}

// everything is a row with a column of every shape and the change that makes the most records.
func everything(tb testing.TB) (*Plan, *event.Change) {
	tb.Helper()
	t := table(
		event.IdentityFull,
		"id", key(bigint), "text", text, "json", jsonb, "bytes", bytea, "at", stamp, "time", clockTZ, "tags", arrayOf(text),
		"row", pair, "rows", arrayOf(pair), "store", hstore, "long", text,
	)
	row := func(id, long string) event.Row {
		return texts(id, "a\"b\nc€", `{"k": 1}`, `\x`+strings.Repeat("00ff", 500), "2026-05-01 10:00:00", "10:00:00+02", `{a,"b\"c",NULL}`,
			`(1,"a""b")`, `{"(1,\"a\"\"b\")","(2,)"}`, `"a\"b"=>"c", "d"=>NULL`, long)
	}
	return mustPlan(tb, t, nil, DefaultOptions()), changeRow(t, row("1", "x"), false, row("2", unchanged))
}

// writeAll encodes a change into buf's room and returns the longer buf.
func writeAll(tb testing.TB, e *Encoder, p *Plan, ch *event.Change, buf []byte) []byte {
	tb.Helper()
	for _, r := range p.Records(ch) {
		var err error
		if buf, err = e.AppendKey(buf, p, ch, r); err != nil {
			tb.Fatal(err)
		}
		if buf, err = e.AppendValue(buf, p, ch, r); err != nil {
			tb.Fatal(err)
		}
		buf = ch.Pos.AppendRecord(buf, r.Part)
	}
	return buf
}

func TestNothingIsAllocatedPerRow(t *testing.T) {
	for name, made := range map[string]func(testing.TB) (*Plan, *event.Change){"orders": orders, "everything": everything} {
		p, ch := made(t)
		var e Encoder
		buf := writeAll(t, &e, p, ch, nil)
		if n := testing.AllocsPerRun(100, func() { buf = writeAll(t, &e, p, ch, buf[:0]) }); n != 0 {
			t.Errorf("%s: %v allocations for each change", name, n)
		}
	}
}

// TestScratchIsGivenBack: one large nested value does not keep its memory for ever.
func TestScratchIsGivenBack(t *testing.T) {
	tab := table(event.IdentityDefault, "id", key(int4), "v", arrayOf(text))
	p := mustPlan(t, tab, nil, Options{})
	ch := insert(tab, texts("1", `{"`+strings.Repeat(`\"`, 2*maxScratch)+`"}`))
	var e Encoder
	if len(writeAll(t, &e, p, ch, nil)) < 2*maxScratch {
		t.Fatal("the value is not in the record")
	}
	if cap(e.scratch) > maxScratch {
		t.Errorf("%d bytes are kept", cap(e.scratch))
	}
}

func BenchmarkRow(b *testing.B) {
	for name, made := range map[string]func(testing.TB) (*Plan, *event.Change){"orders": orders, "everything": everything} {
		b.Run(name, func(b *testing.B) {
			p, ch := made(b)
			var e Encoder
			buf := writeAll(b, &e, p, ch, nil)
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				buf = writeAll(b, &e, p, ch, buf[:0])
			}
		})
	}
	b.Run("new transaction each", func(b *testing.B) {
		p, ch := orders(b)
		other := *tx
		ch.Tx = &other
		var e Encoder
		var buf []byte
		b.ReportAllocs()
		for b.Loop() {
			other.XID++
			buf = writeAll(b, &e, p, ch, buf[:0])
		}
	})
}

func BenchmarkValue(b *testing.B) {
	for _, c := range []struct {
		name string
		typ  *event.Type
		in   string
	}{
		{"int8", bigint, "9223372036854775807"},
		{"float8", float8, "-1.7976931348623157e+308"},
		{"bool", boolean, "t"},
		{"text 10", text, "abcdefghij"},
		{"text 1000", text, strings.Repeat("abcdefghij", 100)},
		{"text 1000 Cyrillic", text, strings.Repeat("абвгд", 100)},
		{"text 1000 quotes", text, strings.Repeat(`abcdefg"\`+"\n", 100)},
		{"json 1000", jsonb, "[" + strings.Repeat(`"abcdefg", `, 91) + "1]"},
		{"bytea 1000", bytea, `\x` + strings.Repeat("00010203fe", 200)},
		{"timestamptz", stampTZ, "2026-05-01 10:00:00.124001+00"},
		{"timetz", clockTZ, "10:00:00+02"},
		{"array of 10 int4", arrayOf(int4), "{1,2,3,4,5,6,7,8,9,10}"},
		{"array of 10 text", arrayOf(text), `{a,"b c",d,"e\"f",g,h,i,j,k,NULL}`},
		{"composite", pair, `(1,"a ""b""")`},
		{"array of 2 composites", arrayOf(pair), `{"(1,\"a \"\"q\"\" b\")","(,)"}`},
		{"hstore of 3", hstore, `"a"=>"1", "b"=>NULL, "c\"d"=>"e"`},
	} {
		b.Run(c.name, func(b *testing.B) {
			codec, in := newCodec(c.typ, Options{}), []byte(c.in)
			var e Encoder
			var buf []byte
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if buf, err = e.appendValue(buf[:0], codec, in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
