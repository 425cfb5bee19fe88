package oracle

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/walferry/walferry/internal/pgtest"
)

// hostile are settings of a database that would change what is printed.
const hostile = `
	ALTER DATABASE %[1]s SET datestyle = 'SQL, DMY'; ALTER DATABASE %[1]s SET intervalstyle = 'postgres_verbose';
	ALTER DATABASE %[1]s SET timezone = '+05:30'; ALTER DATABASE %[1]s SET bytea_output = 'escape';
	ALTER DATABASE %[1]s SET lc_monetary = 'C.utf8'; ALTER DATABASE %[1]s SET extra_float_digits = -15;
	ALTER DATABASE %[1]s SET quote_all_identifiers = on; ALTER DATABASE %[1]s SET xmloption = 'document';
	ALTER DATABASE %[1]s SET xmlbinary = 'hex'; ALTER DATABASE %[1]s SET array_nulls = off;
	ALTER DATABASE %[1]s SET client_encoding = 'LATIN1'; ALTER DATABASE %[1]s SET search_path = public, pg_catalog;
	ALTER DATABASE %[1]s SET row_security = off;
	ALTER ROLE postgres IN DATABASE %[1]s SET datestyle = 'German'; ALTER ROLE postgres IN DATABASE %[1]s SET timezone = 'Asia/Kolkata';`

// TestFault34_Types follows every type, alone, in arrays and in composites, through each operation, and
// compares with what the server says.
func TestFault34_Types(t *testing.T) {
	onMajors(t, func(t *testing.T, server *pgtest.Server) {
		all := samplesFor(server.Major())
		t.Run("utf8", func(t *testing.T) { testTypes(t, server.Database(), all, func(string) bool { return true }) })
		if os.Getenv("WALFERRY_FULL") == "" {
			if server.Major() == 18 {
				return
			}
			all = slices.DeleteFunc(all, func(s sample) bool { return !slices.Contains(texty, s.sql) })
		}
		t.Run("latin1", func(t *testing.T) {
			testTypes(t, server.DatabaseIn("LATIN1"), all, func(text string) bool {
				return strings.IndexFunc(text, func(r rune) bool { return r > 0xff }) < 0
			})
		})
		t.Run("sql_ascii", func(t *testing.T) { testTypes(t, server.DatabaseIn("SQL_ASCII"), all, utf8.ValidString) })
	})
}

func testTypes(t *testing.T, db *pgtest.DB, all []sample, fits func(string) bool) {
	r := newRig(t, db)
	r.exec(made + `CREATE TABLE "oracle_odd" (uid int PRIMARY KEY)`)
	keyed := map[int]bool{}
	for i, s := range all {
		r.exec(fmt.Sprintf(`CREATE TYPE in_%[1]d AS (v %[2]s, a %[2]s[]);
			CREATE TABLE t_%[1]d (uid int, id int PRIMARY KEY, n int, v %[2]s, a %[2]s[], c in_%[1]d);`, i, s.sql))
		keyed[i] = s.sql != "doc" && s.sql != "deep" && r.try(fmt.Sprintf(`CREATE TABLE k_%d (uid int, v %s PRIMARY KEY)`, i, s.sql)) == nil
	}
	db.Exec(fmt.Sprintf(hostile, db.Name))
	r.follow()
	rows := 0
	for i, s := range all {
		rows += r.allOperations(i, s, fits, keyed[i])
		if t.Failed() {
			t.Fatalf("of type %s", s.sql)
		}
	}
	t.Logf("%d types, %d records as the server says", len(all), rows)
}

// allOperations takes the table of a type through inserts, updates, key updates and deletes, under FULL and
// with WALFERRY_FULL also under the default identity, in one transaction each.
func (r *rig) allOperations(i int, s sample, fits func(string) bool, keyed bool) (records int) {
	r.t.Helper()
	table := fmt.Sprintf("t_%d", i)
	sh := shape{table: "public." + table, key: []string{"id"}, old: []string{"id"}}
	values := s.values(fits)
	var insert strings.Builder
	fmt.Fprintf(&insert, "BEGIN; INSERT INTO %s (uid, id) VALUES (0, 0);", table)
	for i, v := range values {
		if strings.HasSuffix(s.sql, "[]") { // which has no array type of its own
			fmt.Fprintf(&insert, "INSERT INTO %s VALUES (%d, %[2]d, 0, %[3]s, NULL, ROW(%[3]s, NULL));", table, i+1, v)
			continue
		}
		fmt.Fprintf(&insert, "INSERT INTO %s VALUES (%d, %[2]d, 0, %[3]s, ARRAY[%[3]s, NULL, %[3]s]::%[4]s[], ROW(%[3]s, ('[2:3]=' || ARRAY[%[3]s, %[3]s]::%[4]s[]::text)::%[4]s[]));",
			table, i+1, v, s.sql)
	}
	query := r.query(table)
	if os.Getenv("WALFERRY_FULL") == "" { // which shows the most
		r.exec("ALTER TABLE " + table + " REPLICA IDENTITY FULL")
		sh.old, sh.all = []string{"uid", "id", "n", "v", "a", "c"}, true
	}
	for done := false; !done; {
		done = sh.all
		was := r.after(insert.String(), query)
		for _, is := range was {
			r.want.insert(sh, is)
		}
		for _, change := range []struct {
			set   string
			loose []string
		}{
			{"n = n + 1", []string{"v", "a", "c"}},
			{fmt.Sprintf("v = (SELECT o.v FROM %s o WHERE o.uid = (t.uid + 1) %% %d), a = NULL", table, len(values)+1), []string{"c"}},
			{"id = id + 1000, c = NULL", []string{"v", "a"}},
		} {
			if sh.all {
				change.loose = nil
			}
			is := r.after(fmt.Sprintf("UPDATE %s t SET %s", table, change.set), query)
			for uid := range is {
				r.want.update(sh, was[uid], is[uid], nil, change.loose)
			}
			was = is
		}
		for _, gone := range was {
			r.want.remove(sh, gone)
		}
		r.exec("DELETE FROM " + table + "; COMMIT; ALTER TABLE " + table + " REPLICA IDENTITY FULL")
		records += r.check()
		sh.old, sh.all = []string{"uid", "id", "n", "v", "a", "c"}, true
	}
	if keyed {
		records += r.asKey(i, s, fits)
	}
	return records
}

// asKey makes the values a table's key.
func (r *rig) asKey(i int, s sample, fits func(string) bool) int {
	table := fmt.Sprintf("k_%d", i)
	sh := shape{table: "public." + table, key: []string{"v"}, old: []string{"v"}}
	insert := "BEGIN"
	for uid, v := range s.values(fits) {
		if len(v) < 2000 {
			insert += fmt.Sprintf("; INSERT INTO %s VALUES (%d, %s) ON CONFLICT DO NOTHING", table, uid, v)
		}
	}
	query := r.query(table)
	for _, is := range r.after(insert, query) {
		r.want.insert(sh, is)
	}
	for _, is := range r.after("UPDATE "+table+" SET uid = -uid", query) {
		r.want.update(sh, is, is, nil, nil)
		r.want.remove(sh, is)
	}
	r.exec("DELETE FROM " + table + "; COMMIT")
	return r.check()
}

// TestEveryTypeIsTried: the samples leave out no built-in type whose values an application can write.
func TestEveryTypeIsTried(t *testing.T) {
	onMajors(t, func(t *testing.T, server *pgtest.Server) {
		r := newRig(t, server.Database())
		r.exec(made)
		var names []string
		for _, s := range samplesFor(server.Major()) {
			names = append(names, quote(s.sql)+"::regtype")
		}
		missing := r.text(`SELECT coalesce(string_agg(typname, ', '), '') FROM pg_type t
			WHERE typtype IN ('b', 'r', 'm') AND typnamespace = 'pg_catalog'::regnamespace AND typcategory <> 'A'
			AND typname NOT IN ('gtsvector', 'pg_node_tree', 'pg_ndistinct', 'pg_dependencies', 'pg_mcv_list', 'pg_brin_bloom_summary',
				'pg_brin_minmax_multi_summary') -- their input functions refuse everything
			AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
			AND t.oid <> ALL (ARRAY[` + strings.Join(names, ", ") + `])`)
		if missing != "" {
			t.Errorf("nobody tries %s", missing)
		}
	})
}
