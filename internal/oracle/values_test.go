package oracle

import (
	"slices"
	"strings"
)

// sample is a type as a column is declared with it, and texts that its input takes, the extremes among them.
type sample struct {
	sql    string
	texts  []string
	oldest int      // the first major version that takes them; 0 for all
	exprs  []string // more values, as SQL
}

// values are the samples as SQL, but for the texts that do not fit.
func (s sample) values(fits func(string) bool) []string {
	var all []string
	for _, text := range s.texts {
		if fits(text) {
			all = append(all, quote(text)+"::"+s.sql)
		}
	}
	return append(all, s.exprs...)
}

// made are the types that the samples need.
const made = `
	CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree;
	CREATE TYPE mood AS ENUM ('happy', 'sad', 'so-so, "really"', '');
	CREATE TYPE pair AS (n int, s text);
	CREATE TYPE doc AS (at timestamptz, raw bytea, j json, jb jsonb, h hstore, p pair, ps pair[], m mood[], f float8, big int8, "odd ""name" numeric);
	CREATE TYPE deep AS (d doc, ds doc[], dd doc[]);
	CREATE TYPE hollow AS ();
	CREATE DOMAIN cents AS int4 CHECK (VALUE >= 0);
	CREATE DOMAIN less AS cents CHECK (VALUE < 1000);
	CREATE DOMAIN numbers AS int[];
	CREATE DOMAIN person AS pair;
	CREATE DOMAIN padded AS char(7);
	CREATE TYPE span AS RANGE (subtype = timestamptz);
`

// specials are characters that some text form or JSON treats in its own way.
const specials = "\x01\x02\b\t\n\v\f\r\x1b\x1f !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\x7f"

// wide are characters beyond ASCII: of two to four bytes, a combining one, a line separator, a byte order
// mark, a noncharacter.
const wide = "é߿ࠀ€\u2028\u2029\ufeff\ufffd\uffff😀\U0010ffffe\u0301"

// aDoc is a composite whose attributes all need quotes of their own.
const aDoc = `ROW('2026-05-01 10:00:00.5+02', '\x00ff', '{"a" :  [1, "\"\\"]}', '{"a": null}', '"k \""=>"v\\", "n"=>NULL', ROW(1, 'x "y" \'),
	ARRAY[ROW(1, 'a \"'), NULL, ROW(NULL, NULL)]::pair[], '{happy,"so-so, \"really\""}', 'NaN', -9223372036854775808, 1.50)::doc`

// stressful are texts for every type that takes any text.
func stressful() []string {
	return []string{
		"", " ", "NULL", "null", "\\N", "a", specials, wide, specials + wide, `{}`, `{"a":1}`, `(1,2)`, `"`, `\`, `\\`, `\"`, `""`, `a,b`, `\x00ff`,
		`\u0000`, `\ud800`, "1e5", "NaN", "true", "é", "ÿ", "</script>", strings.Repeat(`ab"\`+"\n", 700), strings.Repeat("long ", 4000),
	}
}

// documents are JSON texts that both json and jsonb take.
func documents() []string {
	return []string{
		`null`, ` null `, `true`, `0`, `-0`, `-0.0`, `1e400`, `-1.50E-300`, `12345678901234567890`, strings.Repeat("7", 400), "-0." + strings.Repeat("0", 390) + "1234567891",
		`""`, `"null"`, `"a\"b\\c\/d\b\f\n\r\t\u0001"`, `"é"`, `"😀"`, `[]`, `{}`, `[null, [], {}, [[[[[[[]]]]]]]]`, `{"k" :  1, "k": null}`, `{"": {"": null}}`,
		"\n{\t\"b\": [1,\r\n 2.00], \"a\": \"\u2028\"}\n", `{"null": "null", "é": [1.10, 1.1]}`, `[` + strings.Repeat(`"some text", `, 800) + `9007199254740993]`,
	}
}

// samples are all built-in types and those of made.
func samples() []sample {
	all := []sample{
		{sql: "bool", texts: []string{"t", "f"}},
		{sql: "int2", texts: []string{"0", "-32768", "32767"}},
		{sql: "int4", texts: []string{"0", "-2147483648", "2147483647"}},
		{sql: "int8", texts: []string{"0", "-9223372036854775808", "9223372036854775807", "9007199254740993"}},
		{sql: "oid", texts: []string{"0", "4294967295"}},
		{sql: "xid", texts: []string{"0", "4294967295"}},
		{sql: "cid", texts: []string{"0", "4294967295"}},
		{sql: "xid8", texts: []string{"0", "18446744073709551615"}},
		{sql: "tid", texts: []string{"(0,0)", "(4294967295,65535)"}},
		{sql: "pg_lsn", texts: []string{"0/0", "FFFFFFFF/FFFFFFFF", "16/B374D848"}},
		{sql: "float4", texts: []string{"0", "-0", "NaN", "Infinity", "-Infinity", "1e-45", "3.4028235e38", "1.1", "16777217", "1e6", "-1.5e-7"}},
		{sql: "float8", texts: []string{"0", "-0", "NaN", "Infinity", "-Infinity", "5e-324", "2.2250738585072014e-308", "1.7976931348623157e308", "0.1", "1e15", "1e16", "123456789012345678", "-1.5e-7"}},
		{sql: "numeric", texts: []string{
			"0", "-0", "0.00", "1.50", "NaN", "Infinity", "-Infinity", strings.Repeat("9", 1000), "-" + strings.Repeat("7", 500) + "." + strings.Repeat("3", 500),
			"1e-1000", "1e100", "0." + strings.Repeat("0", 1000) + "1", "12345678901234567890.0123456789", "9007199254740993",
		}},
		{sql: "numeric(30,10)", texts: []string{"0", "12345678901234567890", "-0.0000000001", "NaN"}},
		{sql: "numeric(3,-2)", texts: []string{"12300", "-99949"}, oldest: 15},
		{sql: "money", texts: []string{"0", "-92233720368547758.08", "92233720368547758.07", "1234.5"}},
		{sql: "text", texts: stressful()},
		{sql: "varchar", texts: stressful()[:20]},
		{sql: "varchar(5)", texts: []string{"", "abc  ", "a\"b\\c"}},
		{sql: "bpchar", texts: []string{"", "abc   ", "a\"b\\c"}},
		{sql: "char(5)", texts: []string{"", "abc", "é", "a\"\\c"}},
		{sql: "name", texts: []string{"", "a", "a\"b\\c\n", strings.Repeat("x", 63)}},
		{sql: `"char"`, texts: []string{"", "a", `"`, `\`, ",", "(", "{", " ", "\x01", "\x7f"}},
		{sql: "citext", texts: stressful()[:20]},
		{sql: "mood", texts: []string{"happy", `so-so, "really"`, ""}},
		{sql: "bytea", texts: []string{`\x`, `\x00`, `\xff`, `\x00ff10`, `\x` + strings.Repeat("00010203fe5c22", 3000), "abc"}},
		{sql: "uuid", texts: []string{"00000000-0000-0000-0000-000000000000", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "ffffffff-ffff-ffff-ffff-ffffffffffff"}},
		{sql: "json", texts: append(documents(), `"\ud800 \u0000 \udc00"`, `{"a":1,"a":2}`, `"\b\f"`, "1E+2", "-0e0")},
		{sql: "jsonb", texts: documents()},
		{sql: "jsonpath", texts: []string{"$", `$.a[*] ? (@ > 1 && @.b == "q\"\\")`, `lax $."é \n"`}},
		{sql: "xml", texts: []string{"", "<a b=\"c\">&lt;d&gt;\n</a>", "text <b/> text", "<?xml version=\"1.0\" encoding=\"UTF-8\"?><a>x</a>"}},
		{sql: "inet", texts: []string{"0.0.0.0", "10.1.2.3/8", "255.255.255.255", "::", "::ffff:1.2.3.4/96", "fe80::1/64"}},
		{sql: "cidr", texts: []string{"0.0.0.0/0", "10.0.0.0/8", "::/0", "2001:db8::/32"}},
		{sql: "macaddr", texts: []string{"08:00:2b:01:02:03"}},
		{sql: "macaddr8", texts: []string{"08:00:2b:01:02:03:04:05"}},
		{sql: "bit(4)", texts: []string{"0000", "1010"}},
		{sql: "varbit", texts: []string{"", "1", strings.Repeat("10", 300)}},
		{sql: "point", texts: []string{"(1,2)", "(-0,NaN)", "(Infinity,1e-300)"}},
		{sql: "line", texts: []string{"{1,2,3}", "{1e300,-1,0}"}},
		{sql: "lseg", texts: []string{"[(1,2),(3,4)]"}},
		{sql: "box", texts: []string{"(3,4),(1,2)", "(Infinity,1),(0,-0)"}},
		{sql: "path", texts: []string{"((1,2),(3,4))", "[(1,2),(3,4)]"}},
		{sql: "polygon", texts: []string{"((0,0),(1,1),(1,0))"}},
		{sql: "circle", texts: []string{"<(1,2),3>"}},
		{sql: "tsvector", texts: []string{"", "a fat cat", `'it''s':1A,2 'q"\\':3B`}},
		{sql: "tsquery", texts: []string{"", "fat & !(cat | 'it''s':*A)", "a <2> b"}},
		{sql: "int2vector", texts: []string{"", "1 -2 3"}},
		{sql: "oidvector", texts: []string{"", "1 4294967295"}},
		{sql: "regclass", texts: []string{"0", "-", "pg_catalog.pg_class", "oracle_odd", "4294967295"}},
		{sql: "regtype", texts: []string{"-", "int4", "public.mood", "public.mood[]", "timestamptz"}},
		{sql: "regproc", texts: []string{"-", "pg_catalog.now"}},
		{sql: "regprocedure", texts: []string{"-", "pg_catalog.abs(numeric)"}},
		{sql: "regoper", texts: []string{"0", "pg_catalog.||/"}},
		{sql: "regoperator", texts: []string{"0", "pg_catalog.+(integer,integer)"}},
		{sql: "regrole", texts: []string{"-", "pg_read_all_data"}},
		{sql: "regnamespace", texts: []string{"-", "pg_catalog", "public"}},
		{sql: "regconfig", texts: []string{"pg_catalog.simple"}},
		{sql: "regdictionary", texts: []string{"pg_catalog.simple"}},
		{sql: "regcollation", texts: []string{`pg_catalog."C"`, "-"}},
		{sql: "regdatabase", texts: []string{"postgres"}, oldest: 19},
		{sql: "refcursor", texts: []string{"", "a \"cursor\""}},
		{sql: "aclitem", texts: []string{"=r/pg_read_all_data", "pg_monitor=arwdDxt/pg_read_all_data"}},
		{sql: "txid_snapshot", texts: []string{"10:20:10,14,15", "1:1:"}},
		{sql: "pg_snapshot", texts: []string{"10:20:10,14,15", "1:1:"}},
		{sql: "ltree", texts: []string{"", "Top.Science.Astronomy"}},
		{sql: "lquery", texts: []string{"Top.*{1,2}.!a|b@*"}},
		{sql: "ltxtquery", texts: []string{"Europe & !Transportation@"}},
		{sql: "hstore", texts: []string{"", "a=>1", `"a\"b\\"=>NULL, ""=>"", "NULL"=>"NULL", "true"=>true, "1"=>1`, `"k =>, {}()\n"=>"a=>b, c"`}},
		{sql: "cents", texts: []string{"0", "2147483647"}},
		{sql: "less", texts: []string{"0", "999"}},
		{sql: "numbers", texts: []string{"{}", "{1,NULL,-3}", "{{1,2},{3,4}}", "[0:1]={1,2}"}},
		{sql: "person", texts: []string{"(,)", `(1,"a ""b"" \\c, (d) ")`}},
		{sql: "padded", texts: []string{"", "abc"}},
		{sql: "pair", texts: []string{"(,)", `(1,"")`, `(-1,"a ""b"" \\c, (d) {e} ")`, "(2,\"\n\t\x01\")"}},
		{sql: "hollow", texts: []string{"()"}},
		{sql: "doc", texts: []string{"(,,,,,,,,,,)"}, exprs: []string{aDoc}},
		{sql: "deep", texts: []string{"(,,)", `(,{},"[2:2]={NULL}")`}, exprs: []string{
			"ROW(NULL, ARRAY[NULL, " + aDoc + "], ARRAY[ARRAY[NULL::doc], ARRAY[" + aDoc + "]])::deep", "ROW(" + aDoc + ", NULL, NULL)::deep",
		}},
		{sql: "int4[]", texts: []string{"{}", "{NULL}", "{1,NULL,-3}", "{{1,2},{3,NULL}}", "{{{{{{1,2}}}}}}", "[2:3]={1,2}", "[0:0][-1:0]={{1,2}}", "[1:1][2:2]={{1}}"}},
		{sql: "text[]", texts: []string{`{""}`, `{NULL,"NULL",null,"null"}`, `{"a\"b\\c","{}",",","(",")"," ","\n"}`, `[5:5]={"a\"b"}`, `{{"",a},{"b c",NULL}}`}},
		{sql: "numeric[]", texts: []string{"{NaN,Infinity,-Infinity,1.50,NULL}"}},
		{sql: "float8[]", texts: []string{"{NaN,Infinity,-0,5e-324,NULL}"}},
	}
	return append(all, temporals()...)
}

// temporals are the types of time, at the ends of their ranges and of what ISO 8601 can say.
func temporals() []sample {
	stamps := []string{
		"2026-05-01 10:00:00.123456", "2026-05-01 10:00:00", "2026-05-01 10:00:00.5", "infinity", "-infinity", "0001-01-01 00:00:00", "0001-12-31 23:59:59.999999 BC",
		"0044-03-15 12:00:00 BC", "4713-01-01 00:00:00 BC", "9999-12-31 23:59:59.999999", "10000-01-01 00:00:00", "294276-12-31 23:59:59.999999", "1582-10-10 00:00:00", "1970-01-01 00:00:00",
	}
	zoned := []string{"2026-03-29 02:30:00 Europe/Berlin", "2026-05-01 10:00:00+05:30", "2016-12-31 23:59:60+00"}
	for _, s := range stamps {
		if !strings.Contains(s, "infinity") {
			s = strings.Replace(s+"+00", " BC+00", "+00 BC", 1)
		}
		zoned = append(zoned, s)
	}
	return []sample{
		{sql: "timestamp", texts: stamps},
		{sql: "timestamp(3)", texts: []string{"2026-05-01 10:00:00.1239", "infinity"}},
		{sql: "timestamptz", texts: zoned},
		{sql: "timestamptz(0)", texts: []string{"2026-05-01 10:00:00.6+02"}},
		{sql: "date", texts: []string{"2026-05-01", "infinity", "-infinity", "0001-01-01", "0001-12-31 BC", "4713-01-01 BC", "9999-12-31", "10000-01-01", "5874897-12-31"}},
		{sql: "time", texts: []string{"00:00:00", "10:00:00.5", "23:59:59.999999", "24:00:00"}},
		{sql: "time(1)", texts: []string{"10:00:00.55"}},
		{sql: "timetz", texts: []string{"00:00:00+00", "10:00:00.123456+02", "24:00:00-12", "23:59:59-05:30", "00:00:00-00:30", "10:00:00.5+01:02:03", "23:59:59.999999+15:59:59", "00:00:00-15:59"}},
		{sql: "interval", texts: []string{
			"0", "1 year 2 mons 3 days 04:05:06.7", "-1 year +2 days -00:00:01", "178000000 years", "-178000000 years", "2147483647 days", "2147483647:59:59.999999",
			"-00:00:00.000001", "1 mon -1 day", "-0.5 sec", "1.000001 sec",
		}},
		{sql: "interval", texts: []string{"2562047788:00:54.775807"}, oldest: 15},
		{sql: "interval", texts: []string{"infinity", "-infinity"}, oldest: 17},
		{sql: "interval year to month", texts: []string{"1 year 2 mons"}},
		{sql: "int4range", texts: []string{"empty", "[1,10)", "(,)", "[5,)"}},
		{sql: "int8range", texts: []string{"[-9223372036854775808,9223372036854775807)"}},
		{sql: "numrange", texts: []string{"[1.50,1.500]", "(,NaN)", "(-Infinity,Infinity)"}},
		{sql: "tsrange", texts: []string{`["2026-05-01 10:00:00",infinity]`, `(,"0044-03-15 00:00:00 BC")`}},
		{sql: "tstzrange", texts: []string{`["2026-05-01 10:00:00+05:30",)`, "empty"}},
		{sql: "daterange", texts: []string{"[2026-05-01,2026-05-02]", "(,)"}},
		{sql: "span", texts: []string{`["2026-05-01 10:00:00+02",)`}},
		{sql: "int4multirange", texts: []string{"{}", "{[1,3),[5,7)}"}},
		{sql: "int8multirange", texts: []string{"{[1,3),[5,7)}"}},
		{sql: "nummultirange", texts: []string{"{[1.5,2.50],(3,)}"}},
		{sql: "tsmultirange", texts: []string{`{["2026-05-01 10:00:00","2026-05-02 10:00:00"]}`}},
		{sql: "tstzmultirange", texts: []string{`{["2026-05-01 10:00:00+02","2026-05-02 10:00:00+02"]}`}},
		{sql: "datemultirange", texts: []string{"{[2026-05-01,2026-05-02]}"}},
	}
}

// texty are the types for which the encoding of the database may matter.
var texty = []string{
	"text", "varchar(5)", "char(5)", "name", "citext", "mood", "bytea", "json", "jsonb", "jsonpath", "xml", "tsvector", "tsquery", "ltree", "hstore", "pair", "doc", "deep", "text[]",
}

// samplesFor leaves out what a server of the version does not know.
func samplesFor(major int) []sample {
	return slices.DeleteFunc(samples(), func(s sample) bool { return s.oldest > major })
}

// quote is a text as an SQL literal.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
