package pgtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// cleanTimeout bounds what a test does to a server after its own context has ended.
const cleanTimeout = 2 * time.Minute

// DB is one database of a server.
type DB struct {
	Server *Server
	Name   string
}

// Database makes a database for this test and drops it with the test, together with the
// replication slots in it and whatever still uses them.
func (s *Server) Database() *DB {
	s.tb.Helper()
	return s.database("")
}

// DatabaseIn is Database with the text in another encoding than UTF8.
func (s *Server) DatabaseIn(encoding string) *DB {
	s.tb.Helper()
	return s.database(" ENCODING '" + encoding + "' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
}

func (s *Server) database(options string) *DB {
	s.tb.Helper()
	db := &DB{Server: s, Name: fmt.Sprintf("test_%08x", rand.Uint32())} //nolint:gosec // no secret
	s.Exec("postgres", "CREATE DATABASE "+quote(db.Name)+options)
	s.tb.Cleanup(func() { db.drop() })
	return db
}

func (d *DB) drop() {
	if !d.Server.Running() {
		return
	}
	tb := d.Server.tb
	conn := connect(tb, d.Server.DSN("postgres"))
	ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout)
	defer cancel()
	// A walsender that was told to go still holds its slot for a moment, so this goes round until
	// none is left.
	for {
		var left int
		// MATERIALIZED keeps the planner from dropping the slots of every database before it asks
		// which of them are in this one.
		err := conn.QueryRow(ctx, `
			WITH mine AS MATERIALIZED (SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = $1)
			SELECT count(*) FROM mine WHERE CASE WHEN active_pid IS NULL
				THEN pg_drop_replication_slot(slot_name) IS NULL
				ELSE pg_terminate_backend(active_pid, 1000) IS NULL END`, d.Name).Scan(&left)
		if err == nil {
			err = conn.QueryRow(ctx, "SELECT count(*) FROM pg_replication_slots WHERE database = $1", d.Name).Scan(&left)
			if err == nil && left == 0 {
				break
			}
		}
		if ctx.Err() != nil {
			tb.Errorf("drop the slots of %s: %d left, %v", d.Name, left, err)
			return
		}
	}
	if _, err := conn.Exec(ctx, "DROP DATABASE "+quote(d.Name)+" WITH (FORCE)"); err != nil {
		tb.Error(err)
	}
}

// DSN is the database's URL for the superuser.
func (d *DB) DSN() string { return d.Server.DSN(d.Name) }

// DSNFor is the database's URL for any role.
func (d *DB) DSNFor(role, password string) string { return d.Server.DSNFor(role, password, d.Name) }

// Exec runs SQL as the superuser, on a connection of its own. Without arguments it may be several
// statements, which then are one transaction unless they say otherwise. A failure ends the test.
func (d *DB) Exec(sql string, args ...any) {
	d.Server.tb.Helper()
	exec(d.Server.tb, d.DSN(), sql, args)
}

// Conn opens a connection as the superuser; it is closed with the test.
func (d *DB) Conn() *pgx.Conn {
	d.Server.tb.Helper()
	return connect(d.Server.tb, d.DSN())
}

// Value returns the one value that a query yields. A failure ends the test.
func Value[T any](d *DB, sql string, args ...any) T {
	tb := d.Server.tb
	tb.Helper()
	conn := dial(tb, d.DSN())
	defer hangUp(tb, conn)
	var v T
	if err := conn.QueryRow(testContext(tb), sql, args...).Scan(&v); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	return v
}

func exec(tb testing.TB, dsn, sql string, args []any) {
	tb.Helper()
	conn := dial(tb, dsn)
	defer hangUp(tb, conn)
	if _, err := conn.Exec(testContext(tb), sql, args...); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

// testContext is the test's context while it runs and a fresh one in its cleanups, where the
// test's own is cancelled.
func testContext(tb testing.TB) context.Context {
	if ctx := tb.Context(); ctx.Err() == nil {
		return ctx
	}
	return context.Background()
}

func connect(tb testing.TB, dsn string) *pgx.Conn {
	tb.Helper()
	conn := dial(tb, dsn)
	tb.Cleanup(func() { hangUp(tb, conn) })
	return conn
}

func dial(tb testing.TB, dsn string) *pgx.Conn {
	tb.Helper()
	conn, err := pgx.Connect(testContext(tb), dsn)
	if err != nil {
		tb.Fatal(err)
	}
	return conn
}

// hangUp closes a connection. That it broke before is what many tests are about, so it is no error.
func hangUp(tb testing.TB, conn *pgx.Conn) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout)
	defer cancel()
	if err := conn.Close(ctx); err != nil {
		tb.Logf("close a connection: %v", err)
	}
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
