package replication

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/pgtest"
)

var identityCases = []struct {
	name, sql string
	since     int // the first major version that has it
	reason    string
	want      string // the SQL, with the table's name left out
}{
	{"no primary key", "CREATE TABLE t (id int, n int)", 14, "no primary key", "REPLICA IDENTITY FULL;"},
	{"no primary key but a unique index", "CREATE TABLE t (id int NOT NULL, n int, UNIQUE (id))", 14, "no primary key", `REPLICA IDENTITY USING INDEX "t_id_key";`},
	{"a unique index on what may be null", "CREATE TABLE t (id int UNIQUE, n int)", 14, "no primary key", "REPLICA IDENTITY FULL;"},
	{"a partial unique index", "CREATE TABLE t (id int NOT NULL, n int); CREATE UNIQUE INDEX ON t (id) WHERE n > 0", 14, "no primary key", "REPLICA IDENTITY FULL;"},
	{"a unique index on an expression", "CREATE TABLE t (id int NOT NULL, n int); CREATE UNIQUE INDEX ON t ((id + 1))", 14, "no primary key", "REPLICA IDENTITY FULL;"},
	{"a unique index with included columns", "CREATE TABLE t (id int NOT NULL, n int, UNIQUE (id) INCLUDE (n))", 14, "no primary key", `REPLICA IDENTITY USING INDEX "t_id_n_key";`},
	{"a deferrable primary key", "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, n int)", 14, "deferrable", "REPLICA IDENTITY FULL;"},
	{"nothing", "CREATE TABLE t (id int PRIMARY KEY, n int); ALTER TABLE t REPLICA IDENTITY NOTHING", 14, "nothing", "REPLICA IDENTITY DEFAULT;"},
	{"an index that was dropped", "CREATE TABLE t (id int PRIMARY KEY, n int); CREATE UNIQUE INDEX gone ON t (id); ALTER TABLE t REPLICA IDENTITY USING INDEX gone; DROP INDEX gone", 14, "gone", "REPLICA IDENTITY DEFAULT;"},
	{"no column at all", "CREATE TABLE t ()", 14, "no primary key", "REPLICA IDENTITY FULL;"},
	{"a generated column under full", "CREATE TABLE t (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (id * 2) STORED); ALTER TABLE t REPLICA IDENTITY FULL", 18, "generated", "REPLICA IDENTITY DEFAULT;"},
	{"a virtual column under full", "CREATE TABLE t (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (id * 2)); ALTER TABLE t REPLICA IDENTITY FULL", 18, "generated", "REPLICA IDENTITY DEFAULT;"},
	{"a generated primary key", "CREATE TABLE t (id int NOT NULL UNIQUE, n int, twice int GENERATED ALWAYS AS (id * 2) STORED PRIMARY KEY)", 14, "generated", `REPLICA IDENTITY USING INDEX "t_id_key";`},
	{"a partition of its own mind", `CREATE TABLE t (id int PRIMARY KEY, n int) PARTITION BY RANGE (id); CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (1000);
		ALTER TABLE t_1 REPLICA IDENTITY NOTHING`, 14, "nothing", "REPLICA IDENTITY DEFAULT;"},
	{"a partition with another identity", `CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL) PARTITION BY RANGE (id);
		CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (1000); CREATE UNIQUE INDEX other ON t_1 (n); ALTER TABLE t_1 REPLICA IDENTITY USING INDEX other`, 14, "lacks id", "REPLICA IDENTITY DEFAULT;"},
	{"a partition of a partition", `CREATE TABLE t (id int, n int) PARTITION BY RANGE (id); CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (1000) PARTITION BY RANGE (id);
		CREATE TABLE t_1_1 PARTITION OF t_1 FOR VALUES FROM (0) TO (100); ALTER TABLE t REPLICA IDENTITY FULL`, 14, "no primary key", "REPLICA IDENTITY FULL;"},
}

// TestFault17_Identity: a table without a usable identity stops the start before anything is made;
// the SQL of the message mends it; and the application can write all the time.
func TestFault17_Identity(t *testing.T) {
	for _, test := range identityCases {
		t.Run(test.name, func(t *testing.T) {
			server := pgtest.Shared(t)
			if server.Major() < test.since {
				t.Skipf("Postgres %d has no such table", server.Major())
			}
			db := server.Database()
			db.Exec(test.sql + "; CREATE TABLE fine (id int PRIMARY KEY)")
			c := configOf(db, "public.*")
			e := refused(t, c, fault.TableIdentity)
			if !strings.Contains(e.Error(), test.reason) || !strings.Contains(e.Hint, test.want) {
				t.Errorf("got %v\nhint %s\nwant %q and %q", e, e.Hint, test.reason, test.want)
			}
			if n := pgtest.Value[int](db, "SELECT count(*) FROM pg_publication"); n != 0 {
				t.Fatal("a publication was made")
			}
			db.Exec(statements(e.Hint))
			s := prepared(t, c)
			if len(s.Tables()) != 2 {
				t.Errorf("%d tables, want 2", len(s.Tables()))
			}
			writeAll(db)
		})
	}
}

// writeAll inserts, updates and deletes as the application would.
func writeAll(db *pgtest.DB) {
	if pgtest.Value[bool](db, "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'id')") {
		db.Exec("INSERT INTO t (id, n) VALUES (1, 1); UPDATE t SET n = 2; UPDATE t SET id = 2; DELETE FROM t")
		return
	}
	db.Exec("INSERT INTO t DEFAULT VALUES; DELETE FROM t")
}

// TestIdentitiesAllAtOnce: one refusal names every table, so that one round of SQL mends them.
func TestIdentitiesAllAtOnce(t *testing.T) {
	db := pgtest.Shared(t).Database()
	db.Exec(`CREATE TABLE a (id int); CREATE TABLE b (id int PRIMARY KEY); ALTER TABLE b REPLICA IDENTITY NOTHING; CREATE TABLE c (id int PRIMARY KEY);
		CREATE TABLE "D d" (id int); CREATE TABLE log (at text)`)
	c := configOf(db)
	c.AllTables = true
	e := refused(t, c, fault.TableIdentity)
	if want := "ALTER TABLE \"public\".\"D d\" REPLICA IDENTITY FULL;\nALTER TABLE \"public\".\"a\" REPLICA IDENTITY FULL;\nALTER TABLE \"public\".\"b\" REPLICA IDENTITY DEFAULT;\nALTER TABLE \"public\".\"log\" REPLICA IDENTITY FULL;\n"; statements(e.Hint) != want {
		t.Errorf("got\n%s", e.Hint)
	}
	db.Exec(statements(e.Hint))
	s := prepared(t, c)
	if len(s.Tables()) != 5 || !pgtest.Value[bool](db, "SELECT puballtables AND pubviaroot FROM pg_publication") {
		t.Errorf("%d tables", len(s.Tables()))
	}
	before := s.Fingerprint()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	db.Exec("CREATE TABLE later (id int PRIMARY KEY)")
	s = prepared(t, c)
	if len(s.Tables()) != 6 || s.Fingerprint() != before {
		t.Errorf("a table that was made later: %d tables, fingerprint %s, was %s", len(s.Tables()), s.Fingerprint(), before)
	}
}

// TestExistingPublication is about publications that somebody else made.
func TestExistingPublication(t *testing.T) {
	const tables = `
		CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (id int PRIMARY KEY, n int); CREATE TABLE extra (id int PRIMARY KEY);
		CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (100);
		CREATE TABLE keyless (n int);`
	for _, test := range []struct {
		name, sql string
		tables    string
		since     int
		code      fault.Code // "" for a start
		hint      string     // or what is logged, where it starts; the SQL in it is run and must mend it
		captured  string
	}{
		{name: "exact", sql: "CREATE PUBLICATION walferry_shop FOR TABLE a, b", tables: "public.a public.b", captured: "public.a public.b"},
		{name: "extra table", sql: "CREATE PUBLICATION walferry_shop FOR TABLE a, extra", tables: "public.a", captured: "public.a"},
		{name: "lacks one", sql: "CREATE PUBLICATION walferry_shop FOR TABLE a", tables: "public.a public.b", code: fault.PublicationLacksTable,
			hint: `ALTER PUBLICATION "walferry_shop" ADD TABLE ONLY "public"."b";`, captured: "public.a public.b"},
		{name: "lacks what a pattern fits", sql: "CREATE PUBLICATION walferry_shop FOR TABLE a WITH (publish_via_partition_root)", tables: "public.a public.*",
			hint: `ALTER PUBLICATION \"walferry_shop\" ADD TABLE ONLY \"public\".\"b\"`, captured: "public.a"},
		{name: "holds none", sql: "CREATE PUBLICATION walferry_shop", tables: "public.a*", code: fault.PublicationLacksTable,
			hint: `ADD TABLE ONLY "public"."a";`, captured: "public.a"},
		{name: "inserts alone", sql: "CREATE PUBLICATION walferry_shop FOR TABLE a WITH (publish = 'insert')", tables: "public.a", code: fault.PublicationOptions,
			hint: `SET (publish = 'insert, update, delete, truncate');`, captured: "public.a"},
		{name: "no truncate", sql: "CREATE PUBLICATION walferry_shop FOR TABLE a WITH (publish = 'insert, update, delete')", tables: "public.a", code: fault.PublicationOptions,
			hint: `SET (publish = 'insert, update, delete, truncate');`, captured: "public.a"},
		{name: "partitions by their own names", sql: "CREATE PUBLICATION walferry_shop FOR TABLE root", tables: "public.root", code: fault.PublicationOptions,
			hint: `SET (publish_via_partition_root = true);`, captured: "public.root"},
		{name: "root", sql: "CREATE PUBLICATION walferry_shop FOR TABLE root WITH (publish_via_partition_root)", tables: "public.root", captured: "public.root"},
		{name: "a partition alone", sql: "CREATE PUBLICATION walferry_shop FOR TABLE leaf WITH (publish_via_partition_root)", tables: "public.leaf", captured: "public.leaf"},
		{name: "all tables", sql: "CREATE PUBLICATION walferry_shop FOR ALL TABLES WITH (publish_via_partition_root)", tables: "public.a public.root", captured: "public.a public.root"},
		{name: "a schema", sql: "CREATE PUBLICATION walferry_shop FOR TABLES IN SCHEMA public WITH (publish_via_partition_root)", since: 15, tables: "public.a", captured: "public.a"},
		{name: "no identity, which is the application's own business", sql: "CREATE PUBLICATION walferry_shop FOR TABLE keyless", tables: "public.keyless",
			hint: "no primary key", captured: "public.keyless"},
		{name: "column list", sql: "CREATE PUBLICATION walferry_shop FOR TABLE a (id)", since: 15, tables: "public.a", captured: "public.a"},
		{name: "column list without the key", sql: "CREATE PUBLICATION walferry_shop FOR TABLE a (n)", since: 15, tables: "public.a", code: fault.PublicationOptions,
			hint: `ADD TABLE ONLY "public"."a";`, captured: "public.a"},
		{name: "row filter", sql: "CREATE PUBLICATION walferry_shop FOR TABLE a WHERE (id > 5)", since: 15, tables: "public.a", captured: "public.a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := pgtest.Shared(t)
			if server.Major() < test.since {
				t.Skipf("Postgres %d has no such publication", server.Major())
			}
			db := server.Database()
			db.Exec(tables + test.sql)
			c := configOf(db, strings.Fields(test.tables)...)
			if test.code != "" {
				e := refused(t, c, test.code)
				if !strings.Contains(e.Hint, test.hint) {
					t.Errorf("hint %q, want %q in it", e.Hint, test.hint)
				}
				db.Exec(statements(e.Hint))
			}
			s, log := preparedWithLog(t, c)
			var got []string
			for _, table := range s.Tables() {
				got = append(got, table.String())
			}
			if strings.Join(got, " ") != test.captured {
				t.Errorf("captured %s, want %s", got, test.captured)
			}
			switch {
			case test.code == "" && !strings.Contains(log.String(), test.hint):
				t.Errorf("want %s in the log:\n%s", test.hint, log)
			case test.code == "" && test.hint == "" && log.String() != "":
				t.Errorf("the log is not empty:\n%s", log)
			}
		})
	}
}

func TestColumnListDecidesColumns(t *testing.T) {
	db := pgtest.Shared(t).Database()
	if db.Server.Major() < 15 {
		t.Skip("column lists came with Postgres 15")
	}
	db.Exec("CREATE TABLE a (x int, id int PRIMARY KEY, secret text, n int); CREATE PUBLICATION walferry_shop FOR TABLE a (n, id)")
	if got, want := describeTables(prepared(t, configOf(db, "public.a")).Tables()), "public.a default: id int4*! n int4"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestFault15_PublicationMissing: without leave to create it, a missing publication is refused with
// the SQL that makes it.
func TestFault15_PublicationMissing(t *testing.T) {
	db := pgtest.Shared(t).Database()
	db.Exec("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE heir () INHERITS (parent)")
	c := configOf(db, "public.a", "public.parent")
	c.Publication.Create = false
	e := refused(t, c, fault.PublicationMissing)
	db.Exec(statements(e.Hint))
	if got, want := pgtest.Value[string](db, publishedQuery, c.Publication.Name), "public.a public.parent"; got != want {
		t.Errorf("published: %s, want %s", got, want)
	}
	prepared(t, c)
}

func TestRecordKeys(t *testing.T) {
	db := pgtest.Shared(t).Database()
	db.Exec("CREATE TABLE a (id int, day date, n int, PRIMARY KEY (id, day)); CREATE TABLE f (id int, n int); ALTER TABLE f REPLICA IDENTITY FULL")
	for _, test := range []struct {
		table, key string
		ok         bool
	}{
		{"a", "id", true}, {"a", "day id", true}, {"a", "n", false}, {"a", "id nope", false}, {"f", "n", true}, {"f", "nope", false},
	} {
		t.Run(test.table+" "+test.key, func(t *testing.T) {
			c := configOf(db, "public.a", "public.f")
			c.Tables[slices.Index([]string{"a", "f"}, test.table)].Key = strings.Fields(test.key)
			if !test.ok {
				if e := refused(t, c, fault.TableKey); e.Table != "public."+test.table {
					t.Errorf("the error is about table %q", e.Table)
				}
				return
			}
			if err := prepared(t, c).Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFault16_Unpublished: tables that fell out of the publication are found by the poll.
func TestFault16_Unpublished(t *testing.T) {
	db := pgtest.Shared(t).Database()
	db.Exec(`
		CREATE SCHEMA inv; CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE inv.b (id int PRIMARY KEY); CREATE TABLE extra (id int);
		CREATE TABLE inv.root (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE inv.leaf PARTITION OF inv.root FOR VALUES FROM (0) TO (100)`)
	c := configOf(db, "public.a", "inv.*")
	prepared(t, c)
	cat := newCatalog(c)
	t.Cleanup(cat.close)
	check := func(want ...string) {
		t.Helper()
		got, err := cat.checkPublished(t.Context())
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	check()
	db.Exec("DROP TABLE a; CREATE TABLE a (id int PRIMARY KEY)")
	check("public.a")
	db.Exec("ALTER TABLE inv.root DETACH PARTITION inv.leaf; CREATE TABLE inv.later (id int)")
	check("inv.later", "inv.leaf", "public.a")
	db.Exec("DROP TABLE a, inv.b; ALTER PUBLICATION walferry_shop ADD TABLE inv.later, inv.leaf")
	check("public.a")
	db.Exec("DROP PUBLICATION walferry_shop")
	if _, err := cat.checkPublished(t.Context()); !fault.Is(err, fault.PublicationMissing) {
		t.Errorf("without the publication: %v", err)
	}
}

// TestUnloggedPartitions: what is not in the WAL is said.
func TestUnloggedPartitions(t *testing.T) {
	db := pgtest.Shared(t).Database()
	db.Exec(`CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
		CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (100); CREATE UNLOGGED TABLE lost PARTITION OF root FOR VALUES FROM (100) TO (200)`)
	_, log := preparedWithLog(t, configOf(db, "public.root"))
	if !strings.Contains(log.String(), "public.lost") || strings.Contains(log.String(), "public.leaf") {
		t.Errorf("want public.lost alone in\n%s", log)
	}
}

// TestTablesAreAsTheStreamSays holds what Prepare says of a table against the Relation message.
func TestTablesAreAsTheStreamSays(t *testing.T) {
	db := pgtest.Shared(t).Database()
	db.Exec(`CREATE TYPE mood AS ENUM ('sad');
		CREATE TABLE root (x text, id int, gone int, m mood[], day date, PRIMARY KEY (day, id)) PARTITION BY RANGE (day); ALTER TABLE root DROP COLUMN gone;
		CREATE TABLE leaf (day date NOT NULL, id int NOT NULL, m mood[], x text); ALTER TABLE root ATTACH PARTITION leaf FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
		CREATE TABLE f (id int PRIMARY KEY, n numeric(5, 2)); ALTER TABLE f REPLICA IDENTITY FULL;
		CREATE TABLE i (id int PRIMARY KEY, n int NOT NULL, v varchar(7)); CREATE UNIQUE INDEX i_n ON i (n) INCLUDE (v); ALTER TABLE i REPLICA IDENTITY USING INDEX i_n`)
	c := configOf(db, "public.root", "public.f", "public.i")
	s := prepared(t, c)
	if err := s.CreateSlot(t.Context()); err != nil {
		t.Fatal(err)
	}
	src := New(c, new(logBuffer).logger(), nil)
	ctx := t.Context()
	if _, err := src.Start(ctx, func() {}); err != nil {
		t.Fatal(err)
	}
	running := make(chan error, 1)
	run, stop := context.WithCancel(ctx)
	go func() { running <- src.Run(run) }()
	defer func() {
		stop()
		if err := <-running; err != nil {
			t.Error(err)
		}
		src.catalog.close()
	}()
	db.Exec("INSERT INTO root (id, day, x, m) VALUES (1, '2026-02-01', 'x', '{sad}'); INSERT INTO f VALUES (1, 2); INSERT INTO i VALUES (1, 2, 'v')")
	streamed := map[string]*event.Table{}
	for len(streamed) < 3 {
		ev, err := src.Next(ctx, func() {})
		if err != nil {
			t.Fatal(err)
		}
		if change, ok := ev.(*event.Change); ok {
			streamed[change.Table.String()] = change.Table
		}
	}
	for _, want := range s.Tables() {
		got := streamed[want.String()]
		if got == nil || fmt.Sprintf("%+v", flat(got)) != fmt.Sprintf("%+v", flat(want)) {
			t.Errorf("the stream says\n%+v\nthe catalog says\n%+v", flat(got), flat(want))
		}
	}
}

// flat is a table without pointers.
func flat(t *event.Table) any {
	if t == nil {
		return nil
	}
	var columns []string
	for _, c := range t.Columns {
		columns = append(columns, fmt.Sprintf("%s %s %d %t", c.Name, spell(c.Type), c.Mod, c.InIdentity))
	}
	return []any{t.OID, t.Schema, t.Name, t.Identity.String(), columns, t.PrimaryKey}
}
