package encode

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m.Run)) }

// session pins what the replication session pins.
const session = `SET client_encoding = 'UTF8'; SET datestyle = 'ISO'; SET intervalstyle = 'iso_8601'; SET timezone = 'UTC';
	SET bytea_output = 'hex'; SET extra_float_digits = 3;`

// ask returns the text forms of the columns of a query's one row, as the stream would have them.
func ask(t *testing.T, conn *pgx.Conn, sql string) [][]byte {
	t.Helper()
	results, err := conn.PgConn().Exec(context.Background(), sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return results[len(results)-1].Rows[0]
}

// TestPostgresAgrees writes values as the server prints them and compares with the JSON that the
// server itself makes of them: to_json, or an expression where our form is another.
func TestPostgresAgrees(t *testing.T) {
	conn := pgtest.Shared(t).Database().Conn()
	ask(t, conn, session+`
		CREATE EXTENSION hstore;
		CREATE TYPE pair AS (n int, s text);
		CREATE TYPE deep AS (p pair, list pair[], doc jsonb, tags text[][]);
		CREATE DOMAIN positive AS numeric CHECK (VALUE > 0);
		CREATE DOMAIN numbers AS int[];
		SELECT 1`)
	deep := composite(
		event.Field{Name: "p", Type: pair}, event.Field{Name: "list", Type: arrayOf(pair)},
		event.Field{Name: "doc", Type: jsonb}, event.Field{Name: "tags", Type: arrayOf(text)},
	)
	const toJSON = "to_json(v)"
	for _, c := range []struct {
		name string
		typ  *event.Type
		sql  string // of v
		want string // an expression over v
	}{
		{"int4", int4, `'-2147483648'::int`, toJSON},
		{"int8", bigint, `'-9223372036854775808'::bigint`, toJSON},
		{"float8 greatest", float8, `1.7976931348623157e308::float8`, toJSON},
		{"float8 denormal", float8, `5e-324::float8`, toJSON},
		{"float8 third", float8, `(1/3.0)::float8`, toJSON},
		{"float8 NaN", float8, `'NaN'::float8`, toJSON},
		{"float8 infinity", float8, `'-inf'::float8`, toJSON},
		{"float4", float8, `1.1::float4`, toJSON},
		{"numeric", numeric, `1234567890.123456789012345678901234567890::numeric`, toJSON},
		{"numeric of 1,000 digits", numeric, `repeat('7', 1000)::numeric`, toJSON},
		{"numeric small", numeric, `1e-100::numeric`, toJSON},
		{"numeric infinity", numeric, `'-Infinity'::numeric`, toJSON},
		{"bool", boolean, `true`, toJSON},
		{"text", text, `E'a"b\\c\n\r\t\b\f\x01/é€😀'::text`, toJSON},
		{"char", text, `'a'::char(5)`, toJSON},
		{"uuid", text, `'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid`, toJSON},
		{"inet", text, `'10.1.2.3/8'::inet`, toJSON},
		{"bit", text, `B'0101'`, toJSON},
		{"range", text, `int4range(1, 5)`, toJSON},
		{"point", text, `point(1, 2)`, toJSON},
		{"tsvector", text, `to_tsvector('simple', 'a ''b'' c')`, toJSON},
		{"json", jsonb, `E'{"k" : [1, "\\u0000", "\\ud800"], "k":\n null}'::json`, toJSON},
		{"jsonb", jsonb, `'{"n": 1e400, "s": "a\"b\\c"}'::jsonb`, toJSON},
		{"bytea", bytea, `decode(repeat('00ff10aabb', 400), 'hex')`, `to_json(replace(encode(v, 'base64'), E'\n', ''))`},
		{"bytea empty", bytea, `''::bytea`, `to_json(encode(v, 'base64'))`},
		{"timestamptz", stampTZ, `'2026-05-01 12:00:00.5+02'::timestamptz`, `to_json(to_char(v, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))`},
		{"timestamptz year 1", stampTZ, `'0001-01-01 00:00:00+00'::timestamptz`, `to_json(to_char(v, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))`},
		{"timestamptz year 10000", stampTZ, `'10000-01-01 00:00:00+00'::timestamptz`, `to_json(v::text)`},
		{"timestamptz BC", stampTZ, `'0044-03-15 12:00:00+00 BC'::timestamptz`, `to_json(v::text)`},
		{"timestamptz infinity", stampTZ, `'infinity'::timestamptz`, toJSON},
		{"timestamp", stamp, `'2026-05-01 12:00:00.123456'::timestamp`, toJSON},
		{"timestamp last", stamp, `'9999-12-31 23:59:59.999999'::timestamp`, toJSON},
		{"timestamp beyond", stamp, `'294276-12-31 23:59:59.999999'::timestamp`, `to_json(v::text)`},
		{"date", date, `'2026-05-01'::date`, toJSON},
		{"date BC", date, `'0044-03-15 BC'::date`, `to_json(v::text)`},
		{"date infinity", date, `'-infinity'::date`, toJSON},
		{"time", clock, `'10:00:00.123456'::time`, toJSON},
		{"time at the end of the day", clock, `'24:00'::time`, `to_json(v::text || '.000000')`},
		{"timetz", clockTZ, `'10:00:00.123456+02'::timetz`, `to_json(v::text || ':00')`},
		{"timetz half an hour", clockTZ, `'10:00:00.123456-05:30'::timetz`, toJSON},
		{"timetz seconds", clockTZ, `'10:00:00.5+01:02:03'::timetz`, toJSON},
		{"interval", period, `'1 year -2 months 3 days -04:05:06.7'::interval`, toJSON},
		{"array", arrayOf(int4), `ARRAY[1, NULL, -3]`, toJSON},
		{"array empty", arrayOf(int4), `'{}'::int[]`, toJSON},
		{"array of two dimensions", arrayOf(text), `ARRAY[['a', 'b c', ''], [NULL, 'NULL', E'"\\{},\n']]`, toJSON},
		{"array of six dimensions", arrayOf(int4), `ARRAY[[[[[[1, 2]]]]]]`, toJSON},
		{"array with lower bounds", arrayOf(int4), `'[2:3]={1,2}'::int[]`, `to_json(v::text)`},
		{"array of box", arrayOf(box), `ARRAY[box(point(0, 0), point(1, 1)), box(point(2, 2), point(3, 3))]`, toJSON},
		{"array of jsonb", arrayOf(jsonb), `ARRAY['{"a": "x\"\\y"}', 'null', NULL, '[1, 2]']::jsonb[]`, toJSON},
		{"array of hstore", arrayOf(hstore), `ARRAY['"a\"b"=>"1"', 'c=>NULL']::hstore[]`, toJSON},
		{"composite", pair, `(1, 'a "b" \c, (d) ')::pair`, toJSON},
		{"composite of nulls", pair, `(NULL, '')::pair`, toJSON},
		{
			"composite of everything", deep,
			`((1, 'a"b'), ARRAY[(2, E'\\"c,')::pair, NULL, (NULL, NULL)::pair], '{"k": "\"q\\"}', ARRAY[['x"', '{}'], [NULL, '']])::deep`, toJSON,
		},
		{"array of composite of everything", arrayOf(deep), `ARRAY[((1, '"'), ARRAY[(2, '\')::pair], '[""]', ARRAY['"'])::deep, NULL]`, toJSON},
		{"hstore", hstore, `hstore(ARRAY['a"b', '1', 'c\', NULL, '', ''])`, toJSON},
		{"domain", domainOf(numeric), `'1.50'::positive`, toJSON},
		{"domain over array", domainOf(arrayOf(int4)), `'{1,2}'::numbers`, toJSON},
		{"array of domain over array", arrayOf(domainOf(arrayOf(int4))), `ARRAY['{1,2}', '{}', NULL]::numbers[]`, toJSON},
		{"int2vector", text, `'1 2 3'::int2vector`, `to_json(v::text)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			row := ask(t, conn, "SELECT v, "+c.want+" FROM (SELECT "+c.sql+" AS v) AS t")
			var e Encoder
			got, err := e.appendValue(nil, newCodec(c.typ, Options{NumericAsNumber: true}), row[0])
			if err != nil {
				t.Fatal(err)
			}
			if g, w := parse(t, got), parse(t, row[1]); !reflect.DeepEqual(g, w) {
				t.Errorf("got  %s\nwant %s", got, row[1])
			}
		})
	}
}

// TestLargeValues: values of the size that TOAST makes possible keep every byte.
func TestLargeValues(t *testing.T) {
	conn := pgtest.Shared(t).Database().Conn()
	ask(t, conn, session+"SELECT 1")
	for name, c := range map[string]struct {
		typ       *event.Type
		sql, want string
	}{
		"bytea": {bytea, `decode(repeat('00ff10aa', 1000000), 'hex')`, `to_json(replace(encode(v, 'base64'), E'\n', ''))`},
		"text":  {text, `repeat(E'ab"\\\n€', 1000000)`, `to_json(v)`},
		"array": {arrayOf(text), `array_fill('a "b"'::text, ARRAY[300000])`, `to_json(v)`},
	} {
		row := ask(t, conn, "SELECT v, "+c.want+" FROM (SELECT "+c.sql+" AS v) AS t")
		got, err := value(c.typ, Options{}, string(row[0]))
		if err != nil || got != strings.ReplaceAll(string(row[1]), `\/`, "/") {
			t.Errorf("%s: %d bytes differ from the server's %d, %v", name, len(got), len(row[1]), err)
		}
	}
}

// parse keeps the digits of numbers.
func parse(t *testing.T, text []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}
