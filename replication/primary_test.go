package replication

import (
	"errors"
	"strings"
	"testing"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/pgserver"
	"github.com/walferry/walferry/internal/pgtest"
)

// TestCatalogAsksTheServerOfTheStream: of two servers that both call themselves primary, the first of the
// URL is not the one that the stream comes from.
func TestCatalogAsksTheServerOfTheStream(t *testing.T) {
	db := pgtest.Shared(t).Database()
	former := pgtest.Start(t, pgserver.Options{}).CreateDatabase(db.Name)
	db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
	c := newTestCatalog(t, db)
	c.cfg.URL = strings.Replace(db.DSN(), db.Server.Addr(), former.Server.Addr()+","+db.Server.Addr(), 1)
	oid := pgtest.Value[uint32](db, "SELECT 't'::regclass::oid")
	key := func() string {
		t.Helper()
		names, err := c.primaryKey(t.Context(), oid)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(names, ",")
	}
	if got := key(); got != "" {
		t.Errorf("before the stream: %q, but the first host has no such table", got)
	}
	for range 2 {
		c.follow(startOf(t, db))
		if got := key(); got != "id" {
			t.Errorf("key %q, want the one of the stream's server", got)
		}
		c.follow(startOf(t, former))
		if got := key(); got != "" {
			t.Errorf("key %q of another server than the stream's", got)
		}
	}
	c.follow("never")
	if _, err := c.primaryKey(t.Context(), oid); !fault.Is(err, fault.PostgresUnavailable) {
		t.Errorf("without the stream's server: %v", err)
	}
}

// startOf returns when a server was started, as a connection of ours is told.
func startOf(t *testing.T, db *pgtest.DB) string {
	t.Helper()
	conn, err := configOf(db).connect(t.Context(), false, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hangUp(conn) }() // it only read
	start, err := serverStart(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	return start
}

// TestFailoverOfTheSlot: from 17 on a slot is made to follow a failover, and one that does not is named with
// the command that changes it.
func TestFailoverOfTheSlot(t *testing.T) {
	db := pgtest.Shared(t).Database()
	db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
	c := configOf(db, "public.t")
	made := prepared(t, c)
	if err := errors.Join(made.CreateSlot(t.Context()), made.Close()); err != nil {
		t.Fatal(err)
	}
	follows := pgtest.Shared(t).Major() >= 17
	setup, log := preparedWithLog(t, c)
	if slot := setup.Server().Slot; slot == nil || slot.Failover != follows {
		t.Errorf("slot %+v, want failover %t", slot, follows)
	}
	if strings.Contains(log.String(), "ALTER_REPLICATION_SLOT") {
		t.Errorf("a slot that cannot be better is complained of: %s", log)
	}
	if err := setup.Close(); err != nil {
		t.Error(err)
	}
	if !follows {
		return
	}
	c.Slot.Name += "_old"
	db.Exec("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", c.Slot.Name)
	_, log = preparedWithLog(t, c)
	if want := `ALTER_REPLICATION_SLOT \"` + c.Slot.Name + `\" (FAILOVER true)`; !strings.Contains(log.String(), want) {
		t.Errorf("%s\nwant in it: %s", log, want)
	}
	conn, err := c.connect(t.Context(), true, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hangUp(conn) }() // the command has answered
	if _, err := simpleQuery(t.Context(), conn, "alter the slot", `ALTER_REPLICATION_SLOT "`+c.Slot.Name+`" (FAILOVER true)`); err != nil {
		t.Error(err)
	}
}
