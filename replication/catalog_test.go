package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/faultproxy"
	"github.com/walferry/walferry/internal/pgtest"
)

// spell writes a type down as far as it decides how values are read.
func spell(t *event.Type) string {
	switch t.Kind {
	case event.KindArray:
		return spell(t.Elem) + "[" + string(t.Elem.Delim) + "]"
	case event.KindDomain:
		return "domain " + t.Name + "(" + spell(t.Elem) + ")"
	case event.KindComposite:
		var fields []string
		for _, f := range t.Fields {
			fields = append(fields, f.Name+" "+spell(f.Type))
		}
		return "(" + strings.Join(fields, ", ") + ")"
	case event.KindHstore:
		return "hstore"
	case event.KindText:
		return t.Name + " as text"
	case event.KindBool, event.KindInt, event.KindInt8, event.KindFloat, event.KindNumeric, event.KindJSON, event.KindBytea, event.KindTimestamp,
		event.KindTimestampTZ, event.KindDate, event.KindTime, event.KindTimeTZ, event.KindInterval, event.KindChar:
		return t.Name
	}
	return fmt.Sprintf("kind %d", t.Kind)
}

func newTestCatalog(t *testing.T, db *pgtest.DB) *catalog {
	t.Helper()
	c := newCatalog(configOf(db))
	t.Cleanup(c.close)
	return c
}

func TestTypes(t *testing.T) {
	db := pgtest.Shared(t).Database()
	db.Exec(`
		CREATE SCHEMA ext; CREATE EXTENSION hstore SCHEMA ext; CREATE EXTENSION citext SCHEMA ext;
		CREATE SCHEMA "Odd ""One""";
		CREATE TYPE mood AS ENUM ('sad', 'ok');
		CREATE DOMAIN price AS numeric(10, 2) CHECK (VALUE >= 0);
		CREATE DOMAIN tags AS text[];
		CREATE DOMAIN cheap AS price;
		CREATE TYPE point3 AS (x float8, y float8, z int8);
		CREATE TYPE "Odd ""One"".shape" AS (center point3, corners point3[], "the Name" cheap, mood mood, gone int, boxes box[]);
		ALTER TYPE "Odd ""One"".shape" DROP ATTRIBUTE gone;
		CREATE TYPE spans AS RANGE (subtype = int8);
		CREATE TYPE hstore AS (fake int);
		CREATE TABLE t (id int)`)
	c := newTestCatalog(t, db)
	for sql, want := range map[string]string{
		"bool": "bool", "int8": "int8", "numeric(3,1)": "numeric", "jsonb": "jsonb", "timestamptz(3)": "timestamptz", "char(3)": "bpchar as text",
		"int4[]": "int4[,]", "box[]": "box as text[;]", "int2vector": "int2vector as text", "name": "name as text", "point": "point as text", "xid8": "xid8",
		"bytea[]": "bytea[,]", "daterange": "daterange as text", "int4multirange[]": "int4multirange as text[,]",
		"mood": "mood as text", "mood[]": "mood as text[,]", "price": "domain price(numeric)", "price[]": "domain price(numeric)[,]",
		"tags": "domain tags(text as text[,])", "cheap": "domain cheap(domain price(numeric))",
		"point3":                            "(x float8, y float8, z int8)",
		`"Odd ""One"".shape"[]`:             "(center (x float8, y float8, z int8), corners (x float8, y float8, z int8)[,], the Name domain cheap(domain price(numeric)), mood mood as text, boxes box as text[;])[,]",
		"spans":                             "spans as text",
		"ext.hstore":                        "hstore",
		"ext.hstore[]":                      "hstore[,]",
		"public.hstore":                     "(fake int4)",
		"ext.citext":                        "citext as text",
		"t":                                 "(id int4)",
		"information_schema.sql_identifier": "domain sql_identifier(name as text)",
	} {
		oid := pgtest.Value[uint32](db, "SELECT $1::text::regtype::oid", sql)
		typ, err := c.typeOf(t.Context(), oid)
		if err != nil {
			t.Fatal(err)
		}
		if got := spell(typ); got != want {
			t.Errorf("%s: got %s, want %s", sql, got, want)
		}
		again, err := c.typeOf(t.Context(), oid)
		if err != nil || again != typ {
			t.Errorf("%s: another pointer the second time", sql)
		}
	}
}

// TestBuiltinTypes holds the table against the server's.
func TestBuiltinTypes(t *testing.T) {
	db := pgtest.Shared(t).Database()
	all := builtinTypes()
	conn := db.Conn()
	rows, err := conn.Query(t.Context(), `
		SELECT t.oid, t.typname::text, coalesce(e.oid, 0)::oid, t.typdelim::text FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
		WHERE t.oid < 10000 AND t.typtype <> 'p'`)
	if err != nil {
		t.Fatal(err)
	}
	var oid, elem uint32
	var name, delim string
	seen := 0
	_, err = pgx.ForEachRow(rows, []any{&oid, &name, &elem, &delim}, func() error {
		typ := all[oid]
		if typ == nil {
			return nil
		}
		seen++
		var gotElem uint32
		if typ.Elem != nil {
			gotElem = typ.Elem.OID
		}
		if typ.Name != name || gotElem != elem || string(typ.Delim) != delim || typ.Schema != "pg_catalog" || typ.OID != oid {
			t.Errorf("%d: got %s of %d %q, the server says %s of %d %q", oid, typ.Name, gotElem, typ.Delim, name, elem, delim)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen != len(all) {
		t.Errorf("the server knows %d of %d types", seen, len(all))
	}
}

func TestTypeThatIsGone(t *testing.T) {
	db := pgtest.Shared(t).Database()
	c := newTestCatalog(t, db)
	c.noteType(99999999, "shop", "color")
	typ, err := c.typeOf(t.Context(), 99999999)
	if err != nil {
		t.Fatal(err)
	}
	if typ.Kind != event.KindText || typ.Schema != "shop" || typ.Name != "color" || typ.OID != 99999999 {
		t.Errorf("got %+v", *typ)
	}
}

// TestTypeDescribedAgain: the stream describes types again with each table. What has changed is
// read anew; what has not keeps its pointer, so that the table is not a new one.
func TestTypeDescribedAgain(t *testing.T) {
	db := pgtest.Shared(t).Database()
	db.Exec("CREATE TYPE inner_type AS (x int); CREATE TYPE outer_type AS (i inner_type, n int)")
	c := newTestCatalog(t, db)
	oid := pgtest.Value[uint32](db, "SELECT 'outer_type'::regtype::oid")
	read := func() *event.Type {
		c.noteType(oid, "public", "outer_type")
		typ, err := c.typeOf(t.Context(), oid)
		if err != nil {
			t.Fatal(err)
		}
		return typ
	}
	first := read()
	if second := read(); second != first {
		t.Error("an unchanged type has another pointer")
	}
	db.Exec("ALTER TYPE inner_type ADD ATTRIBUTE y int")
	third := read()
	if got, want := spell(third), "(i (x int4, y int4), n int4)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := spell(first), "(i (x int4), n int4)"; got != want {
		t.Errorf("the first description has changed to %s", got)
	}
}

func TestPrimaryKey(t *testing.T) {
	db := pgtest.Shared(t).Database()
	db.Exec(`
		CREATE TABLE plain (a int, b int, c int, "D d" int, PRIMARY KEY ("D d", a) INCLUDE (c));
		ALTER TABLE plain DROP COLUMN b; ALTER TABLE plain REPLICA IDENTITY FULL;
		CREATE TABLE bare (a int UNIQUE);
		CREATE TABLE root (id int, day date, PRIMARY KEY (day, id)) PARTITION BY RANGE (day)`)
	c := newTestCatalog(t, db)
	for table, want := range map[string][]string{"plain": {"a", "D d"}, "bare": nil, "root": {"id", "day"}} {
		got, err := c.primaryKey(t.Context(), pgtest.Value[uint32](db, "SELECT $1::text::regclass::oid", table))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v; want %q", table, got, err, want)
		}
	}
	if got, err := c.primaryKey(t.Context(), 99999999); err != nil || len(got) != 0 {
		t.Errorf("a table that is gone: got %q, %v", got, err)
	}
}

// TestCatalogReconnects: the server hangs up on the idle connection, the next question connects again.
func TestCatalogReconnects(t *testing.T) {
	db := pgtest.Shared(t).Database()
	db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
	c := newTestCatalog(t, db)
	oid := pgtest.Value[uint32](db, "SELECT 't'::regclass::oid")
	ask := func() error {
		names, err := c.primaryKey(t.Context(), oid)
		if err == nil && !slices.Equal(names, []string{"id"}) {
			err = fmt.Errorf("got %q", names)
		}
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	db.Exec("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'walferry-shop' AND datname = current_database()")
	if err := ask(); err != nil {
		t.Errorf("after the server hung up: %v", err)
	}
	c.close()
	if err := ask(); err != nil {
		t.Errorf("after we hung up: %v", err)
	}
	c.close()
	c.cfg.URL = "postgres://u@127.0.0.1:1/x?sslmode=disable"
	if err := ask(); !fault.Is(err, fault.PostgresUnavailable) || !errors.Is(err, fault.Of(err)) {
		t.Errorf("without a server: %v, want postgres_unavailable", err)
	}
}

// TestFault47_ForgottenCatalog: something between here and the server has forgotten the connection, so
// that nothing comes back on it, nor an error. The next one answers.
func TestFault47_ForgottenCatalog(t *testing.T) {
	db := pgtest.Shared(t).Database()
	db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
	between, err := faultproxy.New()
	if err != nil {
		t.Fatal(err)
	}
	defer between.Close()
	between.To(db.Server.Addr())
	c := newTestCatalog(t, db)
	c.cfg.URL = strings.Replace(db.DSN(), db.Server.Addr(), between.Addr(), 1)
	c.cfg.answerIn = time.Second
	oid := pgtest.Value[uint32](db, "SELECT 't'::regclass::oid")
	if _, err := c.primaryKey(t.Context(), oid); err != nil {
		t.Fatal(err)
	}
	between.Forget()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if names, err := c.primaryKey(ctx, oid); err != nil || len(names) != 1 {
		t.Errorf("got %q, %v", names, err)
	}
}
