package replication

import (
	"strings"
	"testing"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/pgserver"
	"github.com/walferry/walferry/internal/pgtest"
)

// TestKeeperLooks: it sees what there is as a role that may only stream, and makes nothing.
func TestKeeperLooks(t *testing.T) {
	db := pgtest.Shared(t).Database()
	c := configOf(db, "public.*")
	c.URL = role(t, db, "keeper_"+db.Name, "REPLICATION")
	k := NewKeeper(c)
	v, err := k.Look(t.Context())
	if err != nil || v.Published || v.Standby || v.Server.Slot != nil || v.Server.Origin.Slot != c.Slot.Name {
		t.Fatalf("of nothing: %+v, %v", v, err)
	}
	db.Exec(`CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION walferry_shop FOR TABLE t WITH (publish_via_partition_root = true)`)
	db.Exec("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", c.Slot.Name)
	v, err = k.Look(t.Context())
	if err != nil || !v.Published || v.Owned || v.Owner == "" || v.Server.Slot == nil || v.Server.Slot.Active {
		t.Fatalf("of a publication of another role, and a slot: %+v, %v", v, err)
	}
	s := prepared(t, configOf(db, "public.*"))
	if got := s.Fingerprint(); got != v.Fingerprint {
		t.Errorf("the fingerprint is %s, of a set-up %s", v.Fingerprint, got)
	}

	// While the set-up holds the lock, nothing may be changed.
	if err := k.Lock(t.Context()); !fault.Is(err, fault.SlotBusy) {
		t.Fatalf("locked twice: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := k.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	to := v.Server.End
	if err := k.Advance(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	if v, err = k.Look(t.Context()); err != nil || v.Server.Slot.Confirmed != to {
		t.Fatalf("advanced to %v: %+v, %v", to, v.Server.Slot, err)
	}
	if err := k.DropSlot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := k.DropSlot(t.Context()); err != nil {
		t.Errorf("a slot that is gone: %v", err)
	}
	if err := k.DropPublication(t.Context()); err == nil || !strings.Contains(err.Error(), "owner") {
		t.Errorf("a publication of another role: %v", err)
	}
}

// TestKeeperLooksWhereItsLockIs: of two servers that both call themselves primary, the one that is looked at is the
// one that is changed.
func TestKeeperLooksWhereItsLockIs(t *testing.T) {
	db := pgtest.Shared(t).Database()
	former := pgtest.Start(t, pgserver.Options{}).CreateDatabase(db.Name)
	k := NewKeeper(configOf(db))
	if err := k.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	alone, err := k.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The first host was away for a moment, and is back.
	k.cfg.URL = strings.Replace(db.DSN(), db.Server.Addr(), former.Server.Addr()+","+db.Server.Addr(), 1)
	if v, err := k.Look(t.Context()); err != nil || v.Server.Origin != alone.Server.Origin {
		t.Errorf("looked at %+v, %v; the lock is on %+v", v.Server.Origin, err, alone.Server.Origin)
	}
	k.cfg.URL = former.DSN()
	if _, err := k.Look(t.Context()); !fault.Is(err, fault.PostgresUnavailable) {
		t.Errorf("without the lock's server: %v", err)
	}
}
