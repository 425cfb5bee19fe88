package oracle

import (
	"strings"
	"testing"

	"github.com/walferry/walferry/internal/pgtest"
)

// script runs statements of an application one by one. A line that starts with a letter and a colon says
// what it is: d for one that changes rows, - for any other.
type script struct {
	r     *rig
	shape shape
}

func (s *script) run(lines string) {
	s.r.t.Helper()
	for line := range strings.Lines(lines) {
		kind, sql, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch kind {
		case "d":
			s.r.do(s.shape, sql)
		case "-":
			s.r.exec(sql)
		case "":
		default:
			s.r.t.Fatalf("what is %q?", line)
		}
	}
}

// named is the shape of a table of schema public with a key under the default identity.
func named(table string, key ...string) shape {
	return shape{rel: "public." + table, table: "public." + table, key: key, old: key}
}

// full is the shape under FULL.
func (s shape) full(columns ...string) shape {
	s.all, s.old = true, columns
	return s
}

func TestFault18_DDLBetweenRows(t *testing.T) {
	onMajors(t, func(t *testing.T, server *pgtest.Server) {
		for name, test := range ddl {
			t.Run(name, func(t *testing.T) {
				if strings.HasPrefix(name, "generated") && server.Major() < 18 {
					t.Skip("it is not before 18 that they can be published, or virtual")
				}
				r := newRig(t, server.Database())
				r.exec(`CREATE TYPE mood AS ENUM ('happy', 'sad'); CREATE TYPE pair AS (n int, s text);
					CREATE TABLE t (uid int, id int PRIMARY KEY, note text, mood mood)`)
				test(r)
			})
		}
	})
}

// The first versions that describe a table again when its schema is renamed, and when a partition is
// detached. Older ones go on with the old name until something else makes them.
const (
	tellsSchema = 16
	tellsDetach = 15
)

// ddl are changes of a table in the middle of transactions, with rows before and after.
var ddl = map[string]func(*rig){
	"columns": func(r *rig) {
		r.follow()
		s := script{r, named("t", "id")}
		s.run(`
			- BEGIN
			d INSERT INTO t VALUES (1, 1, 'before', 'sad')
			- ALTER TABLE t ADD amount numeric(10,2) DEFAULT 1.50, ADD tags text[] NOT NULL DEFAULT '{a}'
			d INSERT INTO t VALUES (2, 2, 'with amount', 'sad', 19.90)
			d UPDATE t SET note = 'older than the columns' WHERE uid = 1
			- ALTER TABLE t DROP note
			d INSERT INTO t VALUES (3, 3, 'happy', 3)
			d UPDATE t SET mood = 'happy' WHERE mood = 'sad'
			- ALTER TABLE t RENAME amount TO price
			d UPDATE t SET price = 4 WHERE id = 3
			- ALTER TABLE t ALTER price TYPE float8
			d INSERT INTO t VALUES (5, 5, 'happy', 'NaN')
			- ALTER TABLE t ALTER price TYPE text USING price::text || ' Euro'
			d UPDATE t SET id = id + 10 WHERE uid = 5
			- ALTER TABLE t DROP price, ADD price timestamptz DEFAULT '2026-05-01 10:00:00Z', DROP mood, ADD mood mood
			d UPDATE t SET mood = 'sad'
			- COMMIT
			- ALTER TABLE t ALTER id TYPE int8
			d UPDATE t SET id = 9223372036854775807 WHERE uid = 5
			d DELETE FROM t`)
		r.check()
	},
	"columns under full identity": func(r *rig) {
		r.exec("ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t VALUES (1, 1, 'old', 'sad')")
		r.follow()
		s := script{r, named("t", "id").full("uid", "id", "note", "mood", "amount")}
		s.run(`
			- BEGIN
			- ALTER TABLE t ADD amount numeric DEFAULT 1.50
			d UPDATE t SET note = 'the old row has the amount, too'
			- ALTER TABLE t DROP note`)
		s.shape.old = []string{"uid", "id", "mood", "amount"}
		s.run(`
			d UPDATE t SET amount = 2
			- ALTER TABLE t ADD note json DEFAULT 'null'`)
		s.shape.old = append(s.shape.old, "note")
		s.run(`
			d UPDATE t SET id = 2
			d DELETE FROM t
			- COMMIT`)
		r.check()
	},
	"rolled back": func(r *rig) {
		r.follow()
		s := script{r, named("t", "id")}
		s.run(`
			d INSERT INTO t VALUES (1, 1, 'before', 'sad')
			- BEGIN
			- ALTER TABLE t ADD gone text, DROP note
			- INSERT INTO t VALUES (2, 2, 'sad', 'rolled back')
			- ALTER TABLE t RENAME TO elsewhere
			- ALTER TABLE elsewhere REPLICA IDENTITY FULL
			- UPDATE elsewhere SET gone = 'x'
			- ROLLBACK
			d UPDATE t SET note = 'after'
			- BEGIN
			d INSERT INTO t VALUES (3, 3, 'kept', 'sad')
			- SAVEPOINT a
			- ALTER TABLE t ADD gone int, DROP mood
			- UPDATE t SET gone = 1
			- ROLLBACK TO a
			d UPDATE t SET note = 'as before'
			- SAVEPOINT b
			- ALTER TABLE t ADD stays int DEFAULT 7
			d UPDATE t SET note = 'with a new column'
			- RELEASE b
			- COMMIT
			d DELETE FROM t`)
		r.check()
	},
	"table and schema renamed": func(r *rig) {
		r.exec(`CREATE SCHEMA "Shop.1"`)
		r.follow()
		s := script{r, named("t", "id")}
		s.run(`
			- BEGIN
			d INSERT INTO t VALUES (1, 1, 'a', 'sad')
			- ALTER TABLE t RENAME TO u`)
		s.shape = named("u", "id")
		s.run(`
			d INSERT INTO u VALUES (2, 2, 'b', 'sad')
			- ALTER TABLE u SET SCHEMA "Shop.1"`)
		s.shape.rel, s.shape.table = `"Shop.1".u`, "Shop.1.u"
		s.run(`
			d INSERT INTO "Shop.1".u VALUES (3, 3, 'c', 'sad')
			- COMMIT
			d DELETE FROM "Shop.1".u WHERE id = 1
			- ALTER SCHEMA "Shop.1" RENAME TO "2"`)
		s.shape.rel = `"2".u`
		if r.db.Server.Major() >= tellsSchema {
			s.shape.table = "2.u"
		}
		s.run(`
			d UPDATE "2".u SET note = 'd'
			d DELETE FROM "2".u`)
		r.check()
	},
	"keys and identities": func(r *rig) {
		r.follow()
		s := script{r, named("t", "id")}
		s.run(`
			- BEGIN
			d INSERT INTO t VALUES (1, 1, 'a', 'sad'), (2, 2, 'b', 'happy')
			- ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (mood, id)`)
		s.shape = named("t", "id", "mood")
		s.run(`
			d UPDATE t SET mood = 'happy' WHERE id = 1
			- ALTER TABLE t ALTER note SET NOT NULL, ADD UNIQUE (note)
			- ALTER TABLE t REPLICA IDENTITY USING INDEX t_note_key`)
		s.shape = named("t", "note")
		s.run(`
			d UPDATE t SET note = note || '2', id = id + 10
			d UPDATE t SET id = id + 10
			- COMMIT`)
		r.check() // under FULL the key is the one that the catalog has by then
		r.exec("BEGIN; ALTER TABLE t REPLICA IDENTITY FULL")
		s.shape = named("t", "id", "mood").full("uid", "id", "note", "mood")
		s.run(`
			d UPDATE t SET note = 'full'||uid
			d UPDATE t SET mood = 'sad'
			- COMMIT`)
		r.check()
		r.exec("BEGIN; ALTER TABLE t REPLICA IDENTITY DEFAULT")
		s.shape = named("t", "id", "mood")
		s.run(`
			d DELETE FROM t WHERE uid = 1
			- ALTER TABLE t REPLICA IDENTITY NOTHING`)
		s.shape.key, s.shape.old = nil, nil
		s.run(`
			d INSERT INTO t VALUES (3, 3, 'no key', 'sad')
			- COMMIT`)
		r.check()
	},
	"enum values renamed and added": func(r *rig) {
		r.exec("ALTER TABLE t ADD moods mood[]")
		r.follow()
		s := script{r, named("t", "id")}
		s.run(`
			d INSERT INTO t VALUES (1, 1, 'a', 'sad', '{sad,happy}')
			- BEGIN
			d UPDATE t SET note = 'b'
			- ALTER TYPE mood RENAME VALUE 'sad' TO 'blue, really'
			d UPDATE t SET note = 'c'
			- COMMIT
			- ALTER TYPE mood ADD VALUE 'null'
			d INSERT INTO t VALUES (2, 2, 'd', 'null', '{"null",NULL,"blue, really"}')
			- ALTER TYPE mood RENAME TO feeling
			d UPDATE t SET note = 'e'
			d DELETE FROM t`)
		r.check()
	},
	"generated columns": func(r *rig) {
		r.exec(`CREATE TABLE g (uid int, id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED, thrice int GENERATED ALWAYS AS (n * 3) VIRTUAL)`)
		r.follow()
		s := script{r, named("g", "id")}
		s.run(`
			- BEGIN
			d INSERT INTO g VALUES (1, 1, 1)
			- ALTER TABLE g ADD four int GENERATED ALWAYS AS (n * 4) STORED
			d UPDATE g SET n = 2
			- ALTER TABLE g ALTER four DROP EXPRESSION
			d UPDATE g SET n = 3, four = 0
			- ALTER TABLE g DROP n CASCADE
			d UPDATE g SET four = 5
			- COMMIT
			d DELETE FROM g`)
		r.check()
	},
	"generated columns, published": func(r *rig) {
		r.exec(`CREATE TABLE g (uid int, id int, n int, twice int GENERATED ALWAYS AS (n * 2) STORED, thrice int GENERATED ALWAYS AS (n * 3) VIRTUAL, PRIMARY KEY (id, twice));
			CREATE PUBLICATION walferry_oracle FOR ALL TABLES WITH (publish_generated_columns = stored, publish_via_partition_root)`)
		r.generated = "s"
		r.follow()
		s := script{r, named("g", "id", "twice")}
		s.run(`
			- BEGIN
			d INSERT INTO g VALUES (1, 1, 1)
			- ALTER TABLE g ADD four text GENERATED ALWAYS AS (n::text || '4') STORED
			d UPDATE g SET n = 2
			d UPDATE g SET uid = 1, id = 7
			- ALTER TABLE g ALTER four DROP EXPRESSION
			d UPDATE g SET four = NULL
			- COMMIT
			d DELETE FROM g`)
		r.check()
	},
	"a dropped table": func(r *rig) {
		r.follow()
		s := script{r, named("t", "id")}
		s.run(`
			d INSERT INTO t VALUES (1, 1, 'a', 'sad')
			- BEGIN
			d INSERT INTO t VALUES (2, 2, 'b', 'sad')
			- DROP TABLE t
			- CREATE TABLE t (uid int, other bytea, id text PRIMARY KEY)
			d INSERT INTO t VALUES (3, '\x00', 'another')
			- COMMIT
			d UPDATE t SET other = NULL
			- DROP TABLE t
			- DROP TYPE mood`)
		r.check()
	},
	"partitions": func(r *rig) {
		r.exec(`CREATE TABLE p (uid int, id int, note text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
			CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
			CREATE TABLE p2 (note text, gone int, id int NOT NULL PRIMARY KEY, uid int); ALTER TABLE p2 DROP gone`)
		r.follow()
		s := script{r, named("p", "id")}
		s.run(`
			- BEGIN
			d INSERT INTO p VALUES (1, 1, 'a')
			- ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200)
			d INSERT INTO p VALUES (2, 100, 'b')
			d UPDATE p SET note = 'c'`)
		// To another partition: Postgres deletes and inserts.
		was := r.rows("p")
		r.exec("UPDATE p SET id = 101 WHERE uid = 1")
		r.want.remove(s.shape, was["1"])
		r.want.insert(s.shape, r.rows("p")["1"])
		s.run(`
			- ALTER TABLE p ADD extra int DEFAULT 7
			d UPDATE p SET note = 'd'
			- ALTER TABLE p DETACH PARTITION p1
			- COMMIT
			d DELETE FROM p WHERE uid = 2
			- CREATE TABLE p3 PARTITION OF p DEFAULT
			d INSERT INTO p VALUES (3, 1000, 'e')`)
		// A table by itself since: under its own name, because every table is published.
		s.shape = named("p1", "id")
		if r.db.Server.Major() < tellsDetach {
			s.shape.table = "public.p"
		}
		s.run(`d INSERT INTO p1 VALUES (4, 4, 'alone')`)
		r.check()
	},
	// The server does not describe a table again when a type of it is altered; the poll finds out.
	"composite types": func(r *rig) {
		r.exec("CREATE TABLE c (uid int, id int PRIMARY KEY, p pair, ps pair[])")
		r.follow()
		poll := func() {
			if _, err := r.source.Unpublished(r.t.Context()); err != nil {
				r.t.Fatal(err)
			}
		}
		s := script{r, named("c", "id")}
		s.run(`d INSERT INTO c VALUES (1, 1, (1, 'a'), ARRAY[(2, 'b')::pair])`)
		r.check()
		r.exec("ALTER TYPE pair ADD ATTRIBUTE more jsonb; INSERT INTO c VALUES (0, 0, (1, 'a', 'null'), ARRAY[(2, 'b', NULL)::pair])")
		if got := r.read()[0].after; got["p"] != `"(1,a,null)"` || got["ps"] != `["(2,b,)"]` {
			r.t.Errorf("before the poll: got %v, want the text of Postgres", got)
		}
		poll()
		s.run(`d INSERT INTO c VALUES (2, 2, (1, 'a', '{"k":  1}'), ARRAY[(2, 'b', NULL)::pair])`)
		r.check()
		r.exec("ALTER TYPE pair RENAME ATTRIBUTE n TO renamed")
		poll()
		s.run(`d UPDATE c SET id = id + 1 WHERE uid = 2`)
		r.check()
		r.exec("ALTER TYPE pair DROP ATTRIBUTE s, ADD ATTRIBUTE t timestamptz")
		poll()
		s.run(`d INSERT INTO c VALUES (3, 30, (1, '[]', '2026-05-01 10:00Z'), NULL)`)
		r.check()
		poll()
		r.exec("ALTER TABLE c DROP p, DROP ps; DROP TYPE pair")
		poll()
		s.run("d DELETE FROM c")
		r.check()
	},
	"domains": func(r *rig) {
		r.exec("CREATE DOMAIN amount AS numeric CHECK (VALUE > 0); CREATE TABLE d (uid int, id int PRIMARY KEY, a amount, list amount[])")
		r.follow()
		s := script{r, named("d", "id")}
		s.run(`
			- BEGIN
			d INSERT INTO d VALUES (1, 1, 1.50, '{1.50,NULL}')
			- ALTER DOMAIN amount DROP CONSTRAINT amount_check
			- ALTER DOMAIN amount RENAME TO sum
			d UPDATE d SET a = -1
			- ALTER TABLE d ALTER a TYPE int4, ALTER list TYPE int8[]
			d UPDATE d SET id = 2
			- COMMIT`)
		r.check() // a type that is gone by the time its first row is read is published as text
		s.run(`
			- DROP DOMAIN sum
			d DELETE FROM d`)
		r.check()
	},
	"emptied": func(r *rig) {
		r.follow()
		s := script{r, named("t", "id")}
		s.run(`
			- BEGIN
			d INSERT INTO t VALUES (1, 1, 'a', 'sad')
			- ALTER TABLE t ADD more int
			- TRUNCATE t
			d INSERT INTO t VALUES (1, 1, 'b', 'sad', 2)
			- COMMIT`)
		r.want.add(record{op: "t", table: "public.t", key: keyText(object{"truncate": `"public.t"`})})
		r.check()
	},
}
