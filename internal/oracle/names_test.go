package oracle

import (
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/internal/pgtest"
	"github.com/walferry/walferry/replication"
)

// names are identifiers that need quotes, escapes, or all the room there is.
var names = []string{
	strings.Repeat("n", 63), strings.Repeat("é", 31), strings.Repeat("😀", 15), "two words", " ", "a.b", `a"b`, `"`, `""`, `a\b`, `\`, "a\nb", "\r\n", "\t", "\x01",
	"'", "a'b", "$1", "%s", "{}", "(1,2)", "a,b", "select", "Ünïcödé", "日本語", "\u2028", "\ufeff", "UPPER", "1st", "_", "null", "<b>", "a/b", "*", "..",
}

// ident is a name as an SQL identifier.
func ident(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// TestNames gives each odd name to a schema, a table, its key, a column, a type, an attribute and an enum's
// value, and follows rows through every operation.
func TestNames(t *testing.T) {
	onMajors(t, func(t *testing.T, server *pgtest.Server) {
		r := newRig(t, server.Database())
		for _, name := range names {
			n := ident(name)
			schema := n
			r.exec(fmt.Sprintf(`CREATE SCHEMA %[1]s; CREATE TYPE %[1]s.%[2]s AS ENUM (%[3]s); CREATE TYPE %[1]s.x AS (%[2]s %[1]s.%[2]s, y int);
				CREATE TABLE %[1]s.t_%[4]s (uid int, %[2]s text PRIMARY KEY, v %[1]s.x, vs %[1]s.%[2]s[], j jsonb DEFAULT 'null')`,
				schema, n, quote(name), "t"))
			r.exec(fmt.Sprintf(`ALTER TABLE %[1]s.t_t RENAME TO %[2]s`, schema, ident(tableName(name))))
		}
		r.follow()
		for _, name := range names {
			table := tableName(name)
			rel := ident(name) + "." + ident(table)
			s := shape{rel: rel, table: name + "." + table, key: []string{name}, old: []string{name}}
			value := fmt.Sprintf("ROW(%s, 1), ARRAY[%[1]s, NULL]::%s.%s[]", quote(name), ident(name), ident(name))
			r.exec("BEGIN")
			r.do(s, fmt.Sprintf("INSERT INTO %s VALUES (1, %s, %s), (2, 'b', NULL, NULL)", rel, quote(name), value))
			r.do(s, fmt.Sprintf("UPDATE %s SET v = NULL WHERE uid = 1", rel))
			r.do(s, fmt.Sprintf("UPDATE %s SET %s = 'c' WHERE uid = 1", rel, ident(name)))
			r.do(s, "DELETE FROM "+rel)
			r.exec("COMMIT; ALTER TABLE " + rel + " REPLICA IDENTITY FULL")
			s.all, s.old = true, []string{"uid", name, "v", "vs", "j"}
			r.do(s, fmt.Sprintf("INSERT INTO %s VALUES (3, 'd', %s)", rel, value))
			r.do(s, "DELETE FROM "+rel)
			r.exec("TRUNCATE " + rel)
			r.want.add(record{op: "t", table: s.table, key: keyText(object{"truncate": r.text("SELECT to_json(" + quote(spelled(name)+"."+spelled(table)) + "::text)")})})
			r.check()
			if t.Failed() {
				t.Fatalf("of the name %q", name)
			}
		}
	})
}

// spelled is a name as a truncate's key has it.
func spelled(name string) string {
	if plainName.MatchString(name) {
		return name
	}
	return ident(name)
}

var plainName = regexp.MustCompile(`\A[a-z_][a-z0-9_]*\z`)

// tableName is the name itself where it is not that of the table's type of row already.
func tableName(name string) string {
	if len(name) > 60 {
		return name[:len(name)-4]
	}
	return name + "s"
}

// TestWidest: as many columns as a table can have.
func TestWidest(t *testing.T) {
	onMajors(t, func(t *testing.T, server *pgtest.Server) {
		r := newRig(t, server.Database())
		var defs, set strings.Builder
		s := shape{rel: "wide", table: "public.wide", key: []string{"id"}, old: []string{"uid", "id"}, all: true}
		for i := range 1598 {
			name := fmt.Sprintf("column_%04d", i)
			fmt.Fprintf(&defs, ", %s int DEFAULT %d", name, i)
			if i%2 == 0 {
				fmt.Fprintf(&set, "%s = NULL, ", name)
			}
			s.old = append(s.old, name)
		}
		r.exec("CREATE TABLE wide (uid int, id int PRIMARY KEY" + defs.String() + "); ALTER TABLE wide REPLICA IDENTITY FULL")
		r.follow()
		r.do(s, "INSERT INTO wide VALUES (1, 1), (2, 2)")
		r.do(s, "UPDATE wide SET "+set.String()+"id = id + 10")
		r.do(s, "DELETE FROM wide")
		if n := r.check(); n != 12 { // two inserts, two key changes, two deletes
			t.Errorf("%d records, want 12", n)
		}
	})
}

// TestFault22_NoColumns: no columns at all, and none that is published.
func TestFault22_NoColumns(t *testing.T) {
	onMajors(t, func(t *testing.T, server *pgtest.Server) {
		r := newRig(t, server.Database())
		r.exec("CREATE TABLE nothing (); ALTER TABLE nothing REPLICA IDENTITY FULL")
		r.follow()
		r.exec("INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES; DELETE FROM nothing; TRUNCATE nothing; ALTER TABLE nothing ADD a int; INSERT INTO nothing VALUES (1)")
		for range 2 {
			r.want.add(record{op: "c", table: "public.nothing", after: object{}})
		}
		for range 2 {
			r.want.add(record{op: "d", table: "public.nothing", before: object{}})
		}
		r.want.add(record{op: "t", table: "public.nothing", key: keyText(object{"truncate": `"public.nothing"`})})
		r.want.add(record{op: "c", table: "public.nothing", after: object{"a": "1"}})
		r.check()
	})
}

// TestManyTables starts on a database of many tables (WALFERRY_TABLES, 100 where it is not set), each
// named in the publication or all of them, and gets a row of each. It says what that took.
func TestManyTables(t *testing.T) {
	onMajors(t, func(t *testing.T, server *pgtest.Server) {
		tables := int(number(t, "WALFERRY_TABLES", 100))
		for _, all := range []bool{true, false} {
			r := newRig(t, server.Database())
			for from := 0; from < tables; from += 200 { // the locks of one transaction
				r.exec(fmt.Sprintf(`DO $$ BEGIN FOR i IN %d..%d LOOP
					EXECUTE format('CREATE TABLE many_%%s (uid int PRIMARY KEY, note text, amount numeric, at timestamptz)', i); END LOOP; END $$`, from, min(from+200, tables)-1))
			}
			before := heap()
			began := time.Now()
			cfg := replication.Config{AllTables: all, Publication: replication.PublicationConfig{Name: "walferry_oracle", Create: true}}
			if !all {
				cfg.Tables = []replication.TableSpec{{Schema: "public", Name: "many_*", Pattern: true}}
			}
			r.followAs(cfg)
			started := time.Since(began)
			for i := range tables {
				r.want.insert(named(fmt.Sprintf("many_%d", i), "uid"), row{object: object{"uid": fmt.Sprint(i), "note": `"a"`, "amount": "null", "at": "null"}})
			}
			for from := 0; from < tables; from += 200 {
				r.exec(fmt.Sprintf(`DO $$ BEGIN FOR i IN %d..%d LOOP EXECUTE format('INSERT INTO many_%%s VALUES (%%s, ''a'')', i, i); END LOOP; END $$`, from, min(from+200, tables)-1))
			}
			began = time.Now()
			if n := r.check(); n != tables {
				t.Errorf("%d records, want %d", n, tables)
			}
			t.Logf("%d tables, all of the database: %t. Checked and begun in %v, a row of each in %v, %d kB of memory for each table",
				tables, all, started.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), (heap()-before)/1024/int64(tables))
		}
	})
}

// heap is the memory in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
