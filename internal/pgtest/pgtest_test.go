package pgtest_test

import (
	"os"
	"testing"

	"github.com/walferry/walferry/internal/pgserver"
	"github.com/walferry/walferry/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m.Run)) }

func TestDatabasesAreApartAndGoWithTheTest(t *testing.T) {
	var name string
	t.Run("test", func(t *testing.T) {
		s := pgtest.Shared(t)
		one, two := s.Database(), s.Database()
		name = one.Name
		one.Exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (7)")
		one.Exec("INSERT INTO t VALUES ($1)", 8)
		two.Exec("CREATE TABLE t (id int)")
		if n := pgtest.Value[int](one, "SELECT sum(id) FROM t"); n != 15 {
			t.Fatalf("got %d", n)
		}
		if n := pgtest.Value[int](two, "SELECT count(*) FROM t"); n != 0 {
			t.Fatalf("got %d", n)
		}
		// A slot would otherwise keep its database from being dropped.
		one.Exec("SELECT pg_create_logical_replication_slot('left_behind', 'pgoutput')")
		if _, err := one.Conn().Exec(t.Context(), "SELECT 1"); err != nil {
			t.Fatal(err)
		}
	})
	again := pgtest.Shared(t).Database()
	if n := pgtest.Value[int](again, "SELECT count(*) FROM pg_database WHERE datname = $1", name); n != 0 {
		t.Fatalf("database %s is still there", name)
	}
}

func TestRestart(t *testing.T) {
	s := pgtest.Start(t, pgserver.Options{})
	db := s.CreateDatabase("kept")
	db.Exec("CREATE TABLE t AS SELECT 1 AS id")
	s.Restart(pgserver.Immediate)
	if n := pgtest.Value[int](db, "SELECT count(*) FROM t"); n != 1 {
		t.Fatalf("got %d", n)
	}
}
