package oracle

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walferry/walferry/internal/pgtest"
)

// large are types whose values are stored apart, with one such value. The numbers differ by place.
var large = []sample{
	{sql: "text", exprs: []string{`repeat('text %d', 1000)`}},
	{sql: "bytea", exprs: []string{`convert_to(repeat('bytes %d', 1000), 'UTF8')`}},
	{sql: "text[]", exprs: []string{`array_fill('element "%d"'::text, ARRAY[20, 30])`}},
	{sql: "jsonb", exprs: []string{`jsonb_build_object('%d', repeat('json', 1000))`}},
	{sql: "pair", exprs: []string{`ROW(%d, repeat('composite "', 1000))::pair`}},
}

// TestFault20_LargeValuesUnderEachIdentity is the whole matrix: replica identity × operation × type of a value that is
// stored apart (TOASTed).
func TestFault20_LargeValuesUnderEachIdentity(t *testing.T) {
	onMajors(t, func(t *testing.T, server *pgtest.Server) {
		r := newRig(t, server.Database())
		r.exec(made)
		for i, s := range large {
			r.exec(fmt.Sprintf(`CREATE TABLE l_%d (uid int, id int PRIMARY KEY, code int NOT NULL UNIQUE, n int, big %s);
				ALTER TABLE l_%[1]d ALTER big SET STORAGE EXTERNAL`, i, s.sql))
		}
		r.follow()
		all := []string{"uid", "id", "code", "n", "big"}
		for i, s := range large {
			table := fmt.Sprintf("l_%d", i)
			for _, c := range []struct {
				identity string
				shape    shape
				large    []string // what an update does not send again
			}{
				{"DEFAULT", shape{key: []string{"id"}, old: []string{"id"}}, []string{"big"}},
				{"USING INDEX " + table + "_code_key", shape{key: []string{"code"}, old: []string{"code"}}, []string{"big"}},
				{"FULL", shape{key: []string{"id"}, old: all, all: true}, nil},
			} {
				t.Run(s.sql+"/"+strings.ToLower(strings.Fields(c.identity)[0]), func(t *testing.T) {
					r := *r
					r.t = t
					c.shape.rel, c.shape.table = table, "public."+table
					big := func(n int) string { return fmt.Sprintf(s.exprs[0], n) }
					r.exec("ALTER TABLE " + table + " REPLICA IDENTITY " + c.identity + "; BEGIN")
					r.do(c.shape, "INSERT INTO "+table+" VALUES (1, 1, 1, 0, "+big(1)+"), (2, 2, 2, 0, NULL)")
					r.do(c.shape, "UPDATE "+table+" SET n = 1 WHERE uid = 1", c.large...)
					r.do(c.shape, "UPDATE "+table+" SET n = 1 WHERE uid = 2")
					r.do(c.shape, "UPDATE "+table+" SET big = "+big(2)+" WHERE uid = 1")
					r.do(c.shape, "UPDATE "+table+" SET id = id + 10, code = code + 10 WHERE uid = 1", c.large...)
					r.do(c.shape, "UPDATE "+table+" SET id = id + 100 WHERE uid = 1", c.large...)
					r.do(c.shape, "UPDATE "+table+" SET id = id + 10, code = code + 10, big = "+big(3)+" WHERE uid = 1")
					r.do(c.shape, "UPDATE "+table+" SET big = NULL WHERE uid = 1")
					r.do(c.shape, "UPDATE "+table+" SET big = "+big(4))
					r.do(c.shape, "DELETE FROM "+table)
					r.exec("COMMIT")
					r.check()
				})
			}
			t.Run(s.sql+"/nothing", func(t *testing.T) {
				r := *r
				r.t = t
				r.exec("ALTER TABLE " + table + " REPLICA IDENTITY NOTHING")
				r.do(shape{rel: table, table: "public." + table}, "INSERT INTO "+table+" VALUES (1, 1, 1, 0, "+fmt.Sprintf(s.exprs[0], 1)+")")
				for _, sql := range []string{"UPDATE " + table + " SET n = 1", "DELETE FROM " + table} {
					var pg *pgconn.PgError
					if err := r.try(sql); !errors.As(err, &pg) || pg.Code != "55000" {
						t.Errorf("%s without an identity: %v; a walferry that made the publication would have refused the table", sql, err)
					}
				}
				r.check()
			})
		}
	})
}

// TestLargeKey: a key that is stored apart comes with each update, so that no record is without it.
func TestLargeKey(t *testing.T) {
	onMajors(t, func(t *testing.T, server *pgtest.Server) {
		r := newRig(t, server.Database())
		r.exec(`CREATE TABLE l (uid int, k text PRIMARY KEY, n int); ALTER TABLE l ALTER k SET STORAGE EXTERNAL`)
		r.follow()
		s := shape{rel: "l", table: "public.l", key: []string{"k"}, old: []string{"k"}, all: true}
		first := s
		first.all = false
		r.do(first, "INSERT INTO l VALUES (1, repeat('k', 2500), 0)")
		r.do(s, "UPDATE l SET n = 1")
		r.do(s, "UPDATE l SET k = repeat('m', 2500)")
		r.do(first, "DELETE FROM l")
		r.check()
	})
}
