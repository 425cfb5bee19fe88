package encode

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// The types of the tests, as the catalog would describe them.
var (
	text    = event.TextType(25, "pg_catalog", "text")
	boolean = builtin("bool", event.KindBool)
	int4    = builtin("int4", event.KindInt)
	bigint  = builtin("int8", event.KindInt8)
	float8  = builtin("float8", event.KindFloat)
	numeric = builtin("numeric", event.KindNumeric)
	jsonb   = builtin("jsonb", event.KindJSON)
	bytea   = builtin("bytea", event.KindBytea)
	stamp   = builtin("timestamp", event.KindTimestamp)
	stampTZ = builtin("timestamptz", event.KindTimestampTZ)
	date    = builtin("date", event.KindDate)
	clock   = builtin("time", event.KindTime)
	clockTZ = builtin("timetz", event.KindTimeTZ)
	period  = builtin("interval", event.KindInterval)
	hstore  = builtin("hstore", event.KindHstore)
	char    = builtin("char", event.KindChar)
	box     = &event.Type{Name: "box", Delim: ';'}
	pair    = composite(event.Field{Name: "n", Type: int4}, event.Field{Name: "s", Type: text})
)

func builtin(name string, kind event.Kind) *event.Type {
	return &event.Type{Schema: "pg_catalog", Name: name, Kind: kind, Delim: ','}
}

func arrayOf(t *event.Type) *event.Type {
	return &event.Type{Name: "_" + t.Name, Kind: event.KindArray, Elem: t, Delim: ','}
}

func domainOf(t *event.Type) *event.Type {
	return &event.Type{Name: "d_" + t.Name, Kind: event.KindDomain, Elem: t, Delim: t.Delim}
}

func composite(fields ...event.Field) *event.Type {
	return &event.Type{Name: "composite", Kind: event.KindComposite, Delim: ',', Fields: fields}
}

// value encodes one text as the type's JSON.
func value(t *event.Type, o Options, in string) (string, error) {
	var e Encoder
	out, err := e.appendValue(nil, newCodec(t, o), []byte(in))
	return string(out), err
}

func TestValue(t *testing.T) {
	plain := Options{}
	for _, c := range []struct {
		name string
		typ  *event.Type
		o    Options
		in   string
		want string
	}{
		{"int2 least", builtin("int2", event.KindInt), plain, `-32768`, `-32768`},
		{"int4", int4, plain, `0`, `0`},
		{"oid greatest", builtin("oid", event.KindInt), plain, `4294967295`, `4294967295`},
		{"int that is none", int4, plain, `x1`, `"x1"`},
		{"int empty", int4, plain, ``, `""`},
		{"int leading zero", int4, plain, `007`, `"007"`},
		{"int sign only", int4, plain, `-`, `"-"`},
		{"int8 greatest", bigint, plain, `9223372036854775807`, `9223372036854775807`},
		{"int8 least", bigint, plain, `-9223372036854775808`, `-9223372036854775808`},
		{"int8 as string", bigint, Options{Int8AsString: true}, `9223372036854775807`, `"9223372036854775807"`},
		{"xid8 greatest", builtin("xid8", event.KindInt8), plain, `18446744073709551615`, `18446744073709551615`},

		{"float shortest", float8, plain, `0.1`, `0.1`},
		{"float denormal", float8, plain, `5e-324`, `5e-324`},
		{"float greatest", float8, plain, `1.7976931348623157e+308`, `1.7976931348623157e+308`},
		{"float exponent", float8, plain, `1e+20`, `1e+20`},
		{"float negative zero", float8, plain, `-0`, `-0`},
		{"float NaN", float8, plain, `NaN`, `"NaN"`},
		{"float infinity", float8, plain, `Infinity`, `"Infinity"`},
		{"float negative infinity", float8, plain, `-Infinity`, `"-Infinity"`},
		{"float no digits behind the point", float8, plain, `1.`, `"1."`},
		{"float no exponent", float8, plain, `1e`, `"1e"`},
		{"float more behind", float8, plain, `1e5x`, `"1e5x"`},

		{"numeric", numeric, plain, `19.90`, `"19.90"`},
		{"numeric NaN", numeric, plain, `NaN`, `"NaN"`},
		{"numeric of 1,000 digits", numeric, plain, strings.Repeat("9", 1000), `"` + strings.Repeat("9", 1000) + `"`},
		{"numeric as number", numeric, Options{NumericAsNumber: true}, `-0.000000000000000000000001`, `-0.000000000000000000000001`},
		{"numeric as number NaN", numeric, Options{NumericAsNumber: true}, `NaN`, `"NaN"`},
		{"numeric as number infinity", numeric, Options{NumericAsNumber: true}, `-Infinity`, `"-Infinity"`},

		{"true", boolean, plain, `t`, `true`},
		{"false", boolean, plain, `f`, `false`},
		{"bool that is none", boolean, plain, `true`, `"true"`},

		{"text empty", text, plain, ``, `""`},
		{"text", text, plain, `hello`, `"hello"`},
		{"text quote and backslash", text, plain, `a"b\c`, `"a\"b\\c"`},
		{"text control", text, plain, "\x01\b\f\n\r\t\x1f\x7f", `"\u0001\u0008\u000c\n\r\t\u001f` + "\x7f\""},
		{"text control behind eight bytes", text, plain, "0123456789\n0123456789", `"0123456789\n0123456789"`},
		{"text not escaped", text, plain, "</script>&\u2028€😀é", "\"</script>&\u2028€😀é\""},
		{"text padded", builtin("bpchar", event.KindText), plain, `a   `, `"a   "`},
		{"type that is not known", event.TextType(99999, "", ""), plain, `(1,2)`, `"(1,2)"`},

		{"json verbatim", jsonb, plain, `{"k": 1, "k2": [1e400, "\u0000\ud800"]}`, `{"k": 1, "k2": [1e400, "\u0000\ud800"]}`},
		{"json with newlines", jsonb, plain, "{\n \"a\":1 }", "{\n \"a\":1 }"},
		{"json null", jsonb, plain, `null`, `null`},
		{"json number of 400 digits", jsonb, plain, strings.Repeat("7", 400), strings.Repeat("7", 400)},

		{"bytea empty", bytea, plain, `\x`, `""`},
		{"bytea 1", bytea, plain, `\xff`, `"/w=="`},
		{"bytea 3", bytea, plain, `\x00ff10`, `"AP8Q"`},
		{"bytea of more than one step", bytea, plain, `\x` + strings.Repeat("000102", 300), `"` + strings.Repeat("AAEC", 300) + `"`},
		{"bytea of one step and a byte", bytea, plain, `\x` + strings.Repeat("00", 769), `"` + strings.Repeat("AAAA", 256) + `AA=="`},

		{"timestamptz", stampTZ, plain, `2026-05-01 10:00:00.124001+00`, `"2026-05-01T10:00:00.124001Z"`},
		{"timestamptz without a fraction", stampTZ, plain, `2026-05-01 10:00:00+00`, `"2026-05-01T10:00:00.000000Z"`},
		{"timestamptz short fraction", stampTZ, plain, `2026-05-01 10:00:00.5+00`, `"2026-05-01T10:00:00.500000Z"`},
		{"timestamptz first year", stampTZ, plain, `0001-01-01 00:00:00+00`, `"0001-01-01T00:00:00.000000Z"`},
		{"timestamptz last instant", stampTZ, plain, `9999-12-31 23:59:59.999999+00`, `"9999-12-31T23:59:59.999999Z"`},
		{"timestamptz year 10000", stampTZ, plain, `10000-01-01 00:00:00+00`, `"10000-01-01 00:00:00+00"`},
		{"timestamptz last", stampTZ, plain, `294276-12-31 23:59:59.999999+00`, `"294276-12-31 23:59:59.999999+00"`},
		{"timestamptz BC", stampTZ, plain, `0044-03-15 12:00:00+00 BC`, `"0044-03-15 12:00:00+00 BC"`},
		{"timestamptz infinity", stampTZ, plain, `-infinity`, `"-infinity"`},
		{"timestamptz of another zone", stampTZ, plain, `2026-05-01 10:00:00+02`, `"2026-05-01 10:00:00+02"`},
		{"timestamp", stamp, plain, `2026-05-01 10:00:00.1`, `"2026-05-01T10:00:00.100000"`},
		{"timestamp BC", stamp, plain, `4713-01-01 00:00:00 BC`, `"4713-01-01 00:00:00 BC"`},
		{"timestamp infinity", stamp, plain, `infinity`, `"infinity"`},
		{"timestamp year 0", stamp, plain, `0000-01-01 00:00:00`, `"0000-01-01 00:00:00"`},
		{"timestamp with a zone", stamp, plain, `2026-05-01 10:00:00+00`, `"2026-05-01 10:00:00+00"`},
		{"timestamp of seven digits", stamp, plain, `2026-05-01 10:00:00.1234567`, `"2026-05-01 10:00:00.1234567"`},
		{"date", date, plain, `2026-05-01`, `"2026-05-01"`},
		{"date BC", date, plain, `0044-03-15 BC`, `"0044-03-15 BC"`},
		{"date infinity", date, plain, `infinity`, `"infinity"`},
		{"time", clock, plain, `10:00:00.12`, `"10:00:00.120000"`},
		{"time at the end of the day", clock, plain, `24:00:00`, `"24:00:00.000000"`},
		{"time that is none", clock, plain, `10:00`, `"10:00"`},
		{"timetz", clockTZ, plain, `10:00:00.123456+02`, `"10:00:00.123456+02:00"`},
		{"timetz half an hour", clockTZ, plain, `23:59:59-05:30`, `"23:59:59.000000-05:30"`},
		{"timetz seconds", clockTZ, plain, `10:00:00+01:02:03`, `"10:00:00+01:02:03"`},
		{"interval", period, plain, `P1Y2M3DT4H5M6.7S`, `"P1Y2M3DT4H5M6.7S"`},
		{"interval zero", period, plain, `PT0S`, `"PT0S"`},

		{"array empty", arrayOf(int4), plain, `{}`, `[]`},
		{"array", arrayOf(int4), plain, `{1,NULL,-3}`, `[1,null,-3]`},
		{"array of two dimensions", arrayOf(int4), plain, `{{1,2},{3,NULL}}`, `[[1,2],[3,null]]`},
		{"array of six dimensions", arrayOf(int4), plain, `{{{{{{1}}}}}}`, `[[[[[[1]]]]]]`},
		{"array of seven dimensions", arrayOf(int4), plain, `{{{{{{{1}}}}}}}`, `"{{{{{{{1}}}}}}}"`},
		{"array with lower bounds", arrayOf(int4), plain, `[2:3]={1,2}`, `"[2:3]={1,2}"`},
		{"array with two lower bounds", arrayOf(int4), plain, `[0:0][-1:0]={{1,2}}`, `"[0:0][-1:0]={{1,2}}"`},
		{"array of text", arrayOf(text), plain, `{a,"b c","","NULL",null,"q\"\\,{}"}`, `["a","b c","","NULL","null","q\"\\,{}"]`},
		{"array of text with newline", arrayOf(text), plain, "{\"a\nb\"}", `["a\nb"]`},
		{"array of box", arrayOf(box), plain, `{(1,1),(0,0);(3,3),(2,2)}`, `["(1,1),(0,0)","(3,3),(2,2)"]`},
		{"array of jsonb", arrayOf(jsonb), plain, `{"{\"a\": \"x\\\\y\"}","null",NULL,1}`, `[{"a": "x\\y"},null,null,1]`},
		{"array of bytea", arrayOf(bytea), plain, `{"\\x00ff","\\x"}`, `["AP8=",""]`},
		{"array of timestamptz", arrayOf(stampTZ), plain, `{"2026-05-01 10:00:00+00",infinity}`, `["2026-05-01T10:00:00.000000Z","infinity"]`},
		{"array of domain over array", arrayOf(domainOf(arrayOf(int4))), plain, `{"{1,2}",NULL,"{}"}`, `[[1,2],null,[]]`},
		{"array of composite", arrayOf(pair), plain, `{"(1,\"a \"\"q\"\" b\")","(,)"}`, `[{"n":1,"s":"a \"q\" b"},{"n":null,"s":null}]`},
		{"array of int8 as string", arrayOf(bigint), Options{Int8AsString: true}, `{1}`, `["1"]`},
		{"array not closed", arrayOf(int4), plain, `{1,2`, `"{1,2"`},
		{"array not begun", arrayOf(int4), plain, `1}`, `"1}"`},
		{"array with more behind", arrayOf(int4), plain, `{1}2`, `"{1}2"`},
		{"array with a gap", arrayOf(int4), plain, `{1,,2}`, `"{1,,2}"`},
		{"array with a comma at the end", arrayOf(int4), plain, `{1,}`, `"{1,}"`},
		{"array with an open quote", arrayOf(text), plain, `{"a}`, `"{\"a}"`},
		{"array with an open escape", arrayOf(text), plain, `{"a\`, `"{\"a\\"`},
		{"array with a quote within", arrayOf(text), plain, `{a"b"}`, `"{a\"b\"}"`},

		{"composite", pair, plain, `(1,abc)`, `{"n":1,"s":"abc"}`},
		{"composite of nulls", pair, plain, `(,)`, `{"n":null,"s":null}`},
		{"composite with an empty string", pair, plain, `(1,"")`, `{"n":1,"s":""}`},
		{"composite quoted", pair, plain, `(1,"a""b\\c,(d) ")`, `{"n":1,"s":"a\"b\\c,(d) "}`},
		{"composite too short", pair, plain, `(1)`, `"(1)"`},
		{"composite too long", pair, plain, `(1,a,2)`, `"(1,a,2)"`},
		{"composite not closed", pair, plain, `(1,a`, `"(1,a"`},
		{"composite with an open quote", pair, plain, `(1,"a)`, `"(1,\"a)"`},
		{"composite with a lonely backslash", pair, plain, `(1,"a\b")`, `"(1,\"a\\b\")"`},
		{"composite without attributes", composite(), plain, `()`, `{}`},
		{"composite of one null", composite(event.Field{Name: "a", Type: int4}), plain, `()`, `{"a":null}`},
		{"composite of another time", composite(event.Field{Name: "a", Type: jsonb}, event.Field{Name: "b", Type: int4}), plain, `(hello,x)`, `{"a":"hello","b":"x"}`},
		{"composite of json", composite(event.Field{Name: "a", Type: jsonb}), plain, `("{""k"": ""v""}")`, `{"a":{"k": "v"}}`},
		{"composite of array of json of another time", composite(event.Field{Name: "a", Type: arrayOf(jsonb)}), plain, `("{[,1}")`, `{"a":["[",1]}`},
		{
			"composite, array, composite", composite(event.Field{Name: "p", Type: arrayOf(pair)}), plain,
			`("{""(1,\\""x \\""\\""y\\""\\""\\"")"",NULL}")`, `{"p":[{"n":1,"s":"x \"y\""},null]}`,
		},
		{"composite in a composite", composite(event.Field{Name: "p", Type: pair}, event.Field{Name: "q", Type: int4}), plain, `("(1,""a b"")",2)`, `{"p":{"n":1,"s":"a b"},"q":2}`},
		{"attribute name escaped", composite(event.Field{Name: `a"b`, Type: int4}), plain, `(1)`, `{"a\"b":1}`},

		{"hstore empty", hstore, plain, ``, `{}`},
		{"hstore", hstore, plain, `"a"=>"1", "b"=>NULL`, `{"a":"1","b":null}`},
		{"hstore quoted", hstore, plain, `"a\"b\\"=>"NULL", ""=>""`, `{"a\"b\\":"NULL","":""}`},
		{"hstore without a comma", hstore, plain, `"a"=>"1" "b"=>"2"`, `"\"a\"=>\"1\" \"b\"=>\"2\""`},
		{"hstore without a value", hstore, plain, `"a"=>`, `"\"a\"=>"`},
		{"hstore without an arrow", hstore, plain, `"a"`, `"\"a\""`},
		{"hstore with a comma at the end", hstore, plain, `"a"=>"1", `, `"\"a\"=>\"1\", "`},

		{"char", char, plain, "a", `"a"`},
		{"char empty", char, plain, "", `""`},
		{"char of a byte, Postgres 14 and 15", char, plain, "\xc3", `"\\303"`},
		{"char of a byte, Postgres 16 and later", char, plain, `\303`, `"\\303"`},
		{"char of the last byte", char, plain, "\xff", `"\\377"`},
		{"array of char", arrayOf(char), plain, "{\xc3,\"\\\\\",a}", `["\\303","\\","a"]`},

		{"domain", domainOf(domainOf(int4)), plain, `42`, `42`},
		{"domain over array", domainOf(arrayOf(int4)), plain, `{1}`, `[1]`},
		{"array without an element type", &event.Type{Kind: event.KindArray}, plain, `{1}`, `"{1}"`},
		{"no type", nil, plain, `x`, `"x"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := value(c.typ, c.o, c.in)
			if err != nil {
				t.Fatal(err)
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if !json.Valid([]byte(got)) {
				t.Errorf("%s is no JSON", got)
			}
		})
	}
}

func TestValueThatCannotBeWritten(t *testing.T) {
	for _, c := range []struct {
		name string
		typ  *event.Type
		in   string
		want error
	}{
		{"text", text, "a\xe9b", errNotUTF8},
		{"cut rune", text, "ab\xe2\x82", errNotUTF8},
		{"surrogate in UTF-8", text, "\xed\xa0\x80", errNotUTF8},
		{"json", jsonb, "\"\xff\"", errNotUTF8},
		{"number", int4, "\xff", errNotUTF8},
		{"array", arrayOf(text), "{a,\xff}", errNotUTF8},
		{"malformed array", arrayOf(text), "{\xff", errNotUTF8},
		{"hstore", hstore, "\"\xff\"=>NULL", errNotUTF8},
		{"composite", pair, "(1,\xff)", errNotUTF8},
		{"bytea in escape form", bytea, `abc\000`, errNotHex},
		{"bytea with a bad digit", bytea, `\x0g`, errNotHex},
		{"bytea of an odd length", bytea, `\x0`, errNotHex},
		{"bytea in an array", arrayOf(bytea), `{abcd}`, errNotHex},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := value(c.typ, Options{}, c.in); err != c.want { //nolint:errorlint // it is not wrapped here
				t.Errorf("got %q, %v; want %v", got, err, c.want)
			}
		})
	}
}

// TestCircle feeds a type graph that no server has: making the codec must end.
func TestCircle(t *testing.T) {
	self := composite(event.Field{Name: "n", Type: int4})
	self.Fields = append(self.Fields, event.Field{Name: "next", Type: self}, event.Field{Name: "all", Type: arrayOf(self)})
	got, err := value(self, Options{}, `(1,"(2,,)","{""(3,,)""}")`)
	const want = `{"n":1,"next":{"n":2,"next":null,"all":null},"all":[{"n":3,"next":null,"all":null}]}`
	if err != nil || got != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
}

// canary stands for what must not leave a row by way of an error.
const canary = "canary-8f3a"

func TestErrorsDoNotShowValues(t *testing.T) {
	tab := table(event.IdentityDefault, "id", key(int4), "v", bytea, "w", text)
	p := mustPlan(t, tab, nil, Options{})
	for _, row := range []event.Row{
		texts("1", canary, ""),
		texts("1", `\x`, canary+"\xff"),
		{{State: event.Text, Bytes: []byte("1")}, {State: event.Binary, Bytes: []byte(canary)}, {}},
	} {
		ch := insert(tab, row)
		var e Encoder
		_, err := e.AppendValue(nil, p, ch, p.Records(ch)[0])
		f := fault.Of(err)
		if f == nil || f.Code != fault.ValueInvalid || f.Table != tab.String() || f.Pos != ch.Pos || f.Hint == "" {
			t.Fatalf("got %#v", err)
		}
		if !strings.HasPrefix(f.Op, "encode column ") {
			t.Errorf("op %q does not name the column", f.Op)
		}
		if strings.Contains(err.Error()+f.Hint+f.LogValue().String(), canary) {
			t.Errorf("the error shows the value: %v", err)
		}
	}
}

func TestCommitTime(t *testing.T) {
	for _, micros := range []int64{0, 1, -1, 999_999, 1_777_629_600_124_001, 253_402_300_799_999_999, -62_135_596_800_000_000} {
		at := time.UnixMicro(micros).UTC()
		if got, want := string(appendCommitTime(nil, at)), at.Format("2006-01-02T15:04:05.000000Z"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
