package replication

import (
	"os"
	"strings"
	"testing"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/pgtest"
)

// stateQuery is all that a plan may change.
const stateQuery = `
SELECT concat_ws(E'\n',
    (SELECT string_agg(format('%s all %s ops %s%s%s%s root %s', pubname, puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot), '') FROM pg_publication),
    (SELECT string_agg(to_jsonb(t)::text, E'\n' ORDER BY t.tablename) FROM pg_publication_tables t),
    (SELECT string_agg(c.relname || ' ' || coalesce(to_jsonb(r) ->> 'prattrs', ''), E'\n' ORDER BY c.relname)
        FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid),
    (SELECT string_agg(relname || ' ' || relreplident::text, ', ' ORDER BY relname) FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace))`

// planOf compares, and fails where comparing has changed anything.
func planOf(t *testing.T, db *pgtest.DB, p Planner) Plan {
	t.Helper()
	before := pgtest.Value[string](db, stateQuery)
	plan, err := p.Plan(t.Context())
	if err != nil {
		t.Fatalf("%v\n%s", err, hintOf(err))
	}
	if after := pgtest.Value[string](db, stateQuery); after != before {
		t.Fatalf("plan has changed\n%s\nto\n%s", before, after)
	}
	return plan
}

func changesOf(p Plan) string {
	var b strings.Builder
	for _, c := range p.Changes {
		b.WriteString(c.Change + "\n" + c.SQL + "\n")
	}
	return b.String() + strings.Join(p.Problems, "\n")
}

// TestPlanRoundTrips compares a matrix of publications with a matrix of configurations. Whatever the two are: what is
// applied leaves nothing to do, a start takes it, no application breaks, and the undo brings the old state back.
func TestPlanRoundTrips(t *testing.T) {
	t.Parallel()
	s := pgtest.Shared(t)
	starts := map[string]string{
		"none": "", "one": "FOR TABLE a", "two": "FOR TABLE a, c", "all": "FOR ALL TABLES",
		"inserts": "FOR TABLE a, b WITH (publish = 'insert')", "leaves": "FOR TABLE a, part",
	}
	configs := map[string][]TableSpec{
		"one": {{Schema: "public", Name: "a"}}, "two": {{Schema: "public", Name: "a"}, {Schema: "public", Name: "b"}},
		"partitioned": {{Schema: "public", Name: "part"}}, "pattern": {{Schema: "public", Name: "*", Pattern: true}}, "all": nil,
	}
	if s.Major() >= 15 {
		starts["columns"], starts["rows"] = "FOR TABLE a (id, n)", "FOR TABLE a WHERE (id > 3)"
		starts["both"], starts["schema"] = "FOR TABLE a (id) WHERE (id > 3), b", "FOR TABLES IN SCHEMA public"
		configs["columns"] = []TableSpec{{Schema: "public", Name: "a", Columns: []string{"id", "word"}}}
		configs["rows"] = []TableSpec{{Schema: "public", Name: "a", Where: "id>3 and ID < 100"}, {Schema: "public", Name: "b"}}
	}
	for name, start := range starts {
		t.Run(name, func(t *testing.T) {
			db := s.Database()
			db.Exec(`
				CREATE TABLE a (id int PRIMARY KEY, n int, word text);
				CREATE TABLE b (id int, word text); -- without a key
				CREATE TABLE c (id int PRIMARY KEY);
				CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id);
				CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (1) TO (9);`)
			for of, tables := range configs {
				if os.Getenv("WALFERRY_LONG") == "" && name != "all" && of != "two" && of != "all" {
					continue // the whole of it is the matrix's
				}
				if start != "" {
					db.Exec("CREATE PUBLICATION walferry_shop " + start)
				}
				c := configOf(db)
				c.Tables, c.AllTables = tables, tables == nil
				t.Run(of, func(t *testing.T) { roundTrip(t, db, Planner{Config: c, Role: "postgres"}) })
				db.Exec("DROP PUBLICATION IF EXISTS walferry_shop; ALTER TABLE b REPLICA IDENTITY DEFAULT")
			}
		})
	}
}

func roundTrip(t *testing.T, db *pgtest.DB, p Planner) {
	before := pgtest.Value[string](db, stateQuery)
	plan := planOf(t, db, p)
	if len(plan.Problems) > 0 {
		t.Fatalf("a problem: %s", changesOf(plan))
	}
	if plan.Narrows() {
		_, err := p.Apply(t.Context(), false)
		if after := pgtest.Value[string](db, stateQuery); !fault.Is(err, fault.PublicationOptions) || after != before {
			t.Fatalf("narrowed without being told to: %v\n%s\nwas\n%s", err, after, before)
		}
	}
	done, err := p.Apply(t.Context(), true)
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, hintOf(err), changesOf(plan))
	}
	if changesOf(done) != changesOf(plan) {
		t.Errorf("applied %s\nplanned %s", changesOf(done), changesOf(plan))
	}
	if again := planOf(t, db, p); len(again.Changes) != 0 {
		t.Fatalf("after\n%s\nthere is still\n%s", changesOf(plan), changesOf(again))
	}
	_ = prepared(t, p.Config).Close()
	db.Exec(`INSERT INTO a VALUES (5, 1, 'x'); INSERT INTO b VALUES (1, 'x'); INSERT INTO part VALUES (2);
		UPDATE a SET n = 2, word = 'y'; UPDATE part SET id = 3; DELETE FROM a; DELETE FROM part; TRUNCATE b`)

	script(t, db.DSN(), undoOf(plan.SQL()))
	if after := pgtest.Value[string](db, stateQuery); after != before {
		t.Errorf("undone by\n%s\nis\n%s\nwas\n%s", undoOf(plan.SQL()), after, before)
	}
}

// TestPlanScript: the script of a plan does what Apply does.
func TestPlanScript(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).Database()
	db.Exec("CREATE TABLE a (id int); CREATE TABLE b (id int PRIMARY KEY)")
	name := "cdc_" + db.Name
	p := Planner{Config: configOf(db, "public.*"), Role: name}
	t.Cleanup(func() { db.Exec("DROP ROLE IF EXISTS " + name) })
	plan := planOf(t, db, p)
	if len(plan.Changes) != 3 {
		t.Fatalf("want a role, an identity and a publication: %s", changesOf(plan))
	}
	script(t, db.DSN(), plan.SQL())
	if again := planOf(t, db, p); len(again.Changes) != 0 {
		t.Errorf("after the script: %s", changesOf(again))
	}
}

// TestPlanRefuses what would break an application, or cannot be.
func TestPlanRefuses(t *testing.T) {
	t.Parallel()
	s := pgtest.Shared(t)
	if s.Major() < 15 {
		t.Skip("lists and filters come with Postgres 15")
	}
	db := s.Database()
	db.Exec("CREATE TABLE a (id int PRIMARY KEY, n int)")
	for name, spec := range map[string]TableSpec{
		"identity not in the columns": {Columns: []string{"n"}},
		"filter beyond the identity":  {Where: "n > 3"},
		"no such column":              {Columns: []string{"id", "nn"}},
		"no such column in a filter":  {Where: "nn > 3"},
		"no expression":               {Where: "n >"},
		"volatile":                    {Where: "random() > id"},
		"more than an expression":     {Where: "true); DROP TABLE a; SELECT (1"},
	} {
		t.Run(name, func(t *testing.T) {
			spec.Schema, spec.Name = "public", "a"
			c := configOf(db)
			c.Tables = []TableSpec{spec}
			p := Planner{Config: c}
			plan := planOf(t, db, p)
			if len(plan.Problems) == 0 {
				t.Errorf("nothing in the way of %+v: %s", spec, changesOf(plan))
			}
			if _, err := p.Apply(t.Context(), true); err == nil {
				t.Error("applied")
			}
			_ = refused(t, c, fault.PublicationOptions) // a start does not make it either
			if n := pgtest.Value[int](db, "SELECT count(*) FROM pg_publication"); n != 0 {
				t.Fatal("there is a publication")
			}
		})
	}
}

// TestStartHoldsThePublicationAgainstLists refuses one that would send what is not to be sent.
func TestStartHoldsThePublicationAgainstLists(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).Database()
	db.Exec("CREATE TABLE a (id int PRIMARY KEY, n int, secret text); CREATE PUBLICATION walferry_shop FOR TABLE a")
	c := configOf(db)
	c.Tables = []TableSpec{{Schema: "public", Name: "a", Columns: []string{"id", "n"}}}
	_ = refused(t, c, fault.PublicationOptions)
	c.Tables = []TableSpec{{Schema: "public", Name: "a", Where: "id > 3"}}
	_ = refused(t, c, fault.PublicationOptions)
	if db.Server.Major() < 15 {
		return
	}
	db.Exec("DROP PUBLICATION walferry_shop; CREATE PUBLICATION walferry_shop FOR TABLE a (id, n) WHERE (id > 3)")
	c.Tables = []TableSpec{{Schema: "public", Name: "a", Columns: []string{"n", "id"}, Where: "id>3"}}
	first := prepared(t, c)
	if got := describeTables(first.Tables()); got != "public.a default: id int4*! n int4" {
		t.Errorf("got %s", got)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	c.Tables[0].Where = "id > 2 + 1"
	if _, log := preparedWithLog(t, c); !strings.Contains(log.String(), "written differently") {
		t.Errorf("log: %s", log)
	}
}

func TestSameFilter(t *testing.T) {
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"id>3", "(id > 3)", true},
		{"Status <> 'Draft' AND n = 1", "((status <> 'Draft'::text) AND (n = 1))", true},
		{"status <> 'draft'", "(status <> 'Draft'::text)", false},
		{`"Status" = 'x'`, "(status = 'x'::text)", false},
		{"at > '2026-01-01'", "(at > '2026-01-01 00:00:00+00'::timestamp with time zone)", false},
		{"word = 'a (b)'", "((word)::character varying(10) = 'a (b)'::character varying(10))", true},
		{"a = 'it''s'", "(a = 'it''s'::text)", true},
	} {
		if got := sameFilter(test.a, test.b); got != test.same {
			t.Errorf("%s and %s: %t", test.a, test.b, got)
		}
	}
}
