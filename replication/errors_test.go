package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/pgserver"
	"github.com/walferry/walferry/internal/pgtest"
)

// TestExplain holds what was seen of servers that no other test brings about, in their own words.
func TestExplain(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		code fault.Code
	}{
		{"shutdown", &pgconn.PgError{Code: "57P01", Message: "terminating connection due to administrator command"}, fault.PostgresUnavailable},
		{"starting up", &pgconn.PgError{Code: "57P03", Message: "the database system is starting up"}, fault.PostgresUnavailable},
		{"crash of another backend", &pgconn.PgError{Code: "57P02"}, fault.PostgresUnavailable},
		{"connection exception", &pgconn.PgError{Code: "08006"}, fault.PostgresUnavailable},
		{"statement timeout", &pgconn.PgError{Code: "57014"}, fault.PostgresUnavailable},
		{"disk full", &pgconn.PgError{Code: "53100"}, fault.PostgresUnavailable},
		{"too many clients", &pgconn.PgError{Code: "53300", Message: "sorry, too many clients already"}, fault.PostgresUnavailable},
		{"too many slots", &pgconn.PgError{Code: "53400", Message: "all replication slots are in use"}, fault.PostgresSettings},
		{"EOF", fmt.Errorf("read: %w", io.ErrUnexpectedEOF), fault.PostgresUnavailable},
		{"timeout", fmt.Errorf("read: %w", context.DeadlineExceeded), fault.PostgresUnavailable},
		{"PgBouncer", &pgconn.PgError{Severity: "FATAL", Code: "08P01", Message: "unsupported startup parameter: IntervalStyle"}, fault.PostgresSettings},
		{"a proxy that drops the replication option", &pgconn.PgError{Code: "42601", Message: `syntax error at or near "IDENTIFY_SYSTEM"`}, fault.PostgresSettings},
		{"standby", &pgconn.PgError{Code: "25006", Message: "cannot execute CREATE PUBLICATION in a read-only transaction"}, fault.PostgresSettings},
		{"decoding on a standby before 16", &pgconn.PgError{Code: "0A000", Message: "logical decoding cannot be used while in recovery"}, fault.PostgresSettings},
		{"a synchronized slot of a standby, 17 and later", &pgconn.PgError{Code: "55000", Message: `cannot use replication slot "s" for logical decoding`, Detail: "This replication slot is being synchronized from the primary server.", Routine: "CreateDecodingContext"}, fault.PostgresUnavailable},
		{"slot lost, 14", &pgconn.PgError{Code: "55000", Message: `cannot read from logical replication slot "s"`, Detail: "This slot has been invalidated because it exceeded the maximum reserved size."}, fault.SlotLost},
		{"slot lost, 16", &pgconn.PgError{Code: "55000", Message: `can no longer get changes from replication slot "s"`}, fault.SlotLost},
		{"slot lost, 18", &pgconn.PgError{Code: "55000", Message: `can no longer access replication slot "s"`, Detail: `This replication slot has been invalidated due to "wal_removed".`}, fault.SlotLost},
		{"WAL removed while streaming", &pgconn.PgError{Code: "58P01", Message: "requested WAL segment 000000010000000000000003 has already been removed"}, fault.SlotLost},
		{"a file of the server's is gone", &pgconn.PgError{Code: "58P01", Message: "could not open file"}, fault.PostgresUnavailable},
		{"publication gone, 14 to 17", &pgconn.PgError{Code: "42704", Message: `publication "p" does not exist`}, fault.PublicationMissing},
		{"publication gone, 18, a warning", &pgconn.PgError{Severity: "WARNING", Code: "55000", Message: `skipped loading publication "p"`}, fault.PublicationMissing},
		{"publication gone, in German", &pgconn.PgError{Code: "42704", Message: "Publikation »p« existiert nicht", Routine: "get_publication_oid"}, fault.PublicationMissing},
		{"publication gone, 18, in German", &pgconn.PgError{Severity: "WARNUNG", SeverityUnlocalized: "WARNING", Code: "55000", Message: "Laden der Publikation »p« übersprungen", Detail: "Die Publikation existiert an diesem Punkt im WAL nicht.", Routine: "LoadPublications"}, fault.PublicationMissing},
		{"slot gone, in German", &pgconn.PgError{Code: "42704", Message: "Replikations-Slot »s« existiert nicht", Routine: "ReplicationSlotAcquire"}, fault.SlotMissing},
		{"bytes that are no text", &pgconn.PgError{Code: "22021", Message: `invalid byte sequence for encoding "UTF8": 0xe9`}, fault.StreamPoisoned},
		{"bytea over 512 MB", &pgconn.PgError{Code: "XX000", Message: "invalid memory alloc request size 1073743827"}, fault.StreamPoisoned},
		{"any other server error", &pgconn.PgError{Code: "XX000", Message: "cache lookup failed"}, fault.Internal},
		{"an answer that our query did not expect", pgx.ErrNoRows, fault.Internal},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := explain("do it", test.err)
			if !fault.Is(err, test.code) {
				t.Errorf("got %v, want %s", err, test.code)
			}
			if !errors.Is(err, test.err) {
				t.Errorf("%v has lost its cause", err)
			}
		})
	}
}

func TestExplainPassesOn(t *testing.T) {
	if err := explain("do it", nil); err != nil {
		t.Errorf("no error: got %v", err)
	}
	own := fault.New(fault.SlotLost, "read", nil, "hint")
	if err := explain("do it", own); !fault.Is(err, fault.SlotLost) || !strings.HasPrefix(err.Error(), "do it: ") {
		t.Errorf("a fault: got %v", err)
	}
	if err := explain("do it", fmt.Errorf("x: %w", context.Canceled)); fault.Of(err) != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled context: got %v", err)
	}
}

// startSlot sends START_REPLICATION and returns what the server says to it. The connection stays
// open for the test.
func startSlot(t *testing.T, c Config) error {
	t.Helper()
	conn, err := c.connect(t.Context(), true, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hangUp(conn) })
	conn.Frontend().Send(&pgproto3.Query{String: c.startCommand()})
	if err := conn.Frontend().Flush(); err != nil {
		t.Fatal(err)
	}
	for {
		msg, err := conn.ReceiveMessage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		switch msg := msg.(type) {
		case *pgproto3.CopyBothResponse:
			return nil
		case *pgproto3.ErrorResponse:
			return explain("start replication", pgconn.ErrorResponseToPgError(msg))
		}
	}
}

// TestStartErrors brings about what a real server of this version says to START_REPLICATION.
func TestStartErrors(t *testing.T) {
	db := pgtest.Shared(t).Database()
	other := pgtest.Shared(t).Database()
	db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
	c := configOf(db, "public.t")
	if err := prepared(t, c).CreateSlot(t.Context()); err != nil {
		t.Fatal(err)
	}
	with := func(change func(*Config)) Config { d := c; change(&d); return d }
	exec := func(sql string) { db.Exec(sql, c.Slot.Name+"_x") }
	drop := func() { // the server says that a start failed before it lets go of the slot
		exec("SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots WHERE slot_name = $1 AND active")
		exec("SELECT pg_drop_replication_slot($1)")
	}

	t.Run("no such slot", func(t *testing.T) {
		err := startSlot(t, with(func(d *Config) { d.Slot.Name += "_none" }))
		if !fault.Is(err, fault.SlotMissing) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("other database", func(t *testing.T) {
		err := startSlot(t, with(func(d *Config) { d.URL = other.DSN() }))
		if !fault.Is(err, fault.SlotDatabase) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("other plugin", func(t *testing.T) {
		exec("SELECT pg_create_logical_replication_slot($1, 'test_decoding')")
		defer drop()
		err := startSlot(t, with(func(d *Config) { d.Slot.Name += "_x" }))
		if !fault.Is(err, fault.SlotPlugin) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("physical slot", func(t *testing.T) {
		exec("SELECT pg_create_physical_replication_slot($1, true)")
		defer drop()
		err := startSlot(t, with(func(d *Config) { d.Slot.Name += "_x" }))
		if !fault.Is(err, fault.SlotPlugin) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("busy", func(t *testing.T) {
		if err := startSlot(t, c); err != nil {
			t.Fatal(err)
		}
		busy := startSlot(t, c)
		if !fault.Is(busy, fault.SlotBusy) || !fault.Retryable(busy) {
			t.Fatalf("got %v, want slot_busy", busy)
		}
		conn, err := c.connect(t.Context(), true, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = hangUp(conn) }()
		srv, err := c.serverState(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		if !srv.Slot.Active || !strings.Contains(busy.Error(), fmt.Sprintf("PID %d ", srv.Slot.PID)) {
			t.Errorf("the error says %v, the catalog %+v", busy, *srv.Slot)
		}
	})
}

// TestFault12_SlotLost makes the server drop WAL that a slot needs.
func TestFault12_SlotLost(t *testing.T) {
	s := pgtest.Start(t, pgserver.Options{Settings: map[string]string{"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "48MB"}})
	db := s.Database()
	db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
	c := configOf(db, "public.t")
	setup := prepared(t, c)
	if err := setup.CreateSlot(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn := db.Conn()
	for i := range 6 {
		for _, sql := range []string{"SELECT pg_switch_wal()", fmt.Sprintf("INSERT INTO public.t VALUES (%d)", i), "CHECKPOINT"} {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
	}
	repl, err := c.connect(t.Context(), true, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hangUp(repl) }()
	srv, err := c.serverState(t.Context(), repl)
	if err != nil {
		t.Fatal(err)
	}
	if srv.Slot == nil || srv.Slot.WALStatus != "lost" {
		t.Fatalf("the slot is %+v, want lost", srv.Slot)
	}
	reason := "wal_removed"
	if srv.Version < 160000 {
		reason = "" // the server does not tell
	}
	if srv.Slot.Invalidation != reason {
		t.Errorf("invalidation %q, want %q", srv.Slot.Invalidation, reason)
	}
	err = startSlot(t, c)
	if !fault.Is(err, fault.SlotLost) || hintOf(err) == "" {
		t.Errorf("got %v, want slot_lost", err)
	}
}

// TestFault56_Settings is about servers that are not set up for logical replication.
func TestFault56_Settings(t *testing.T) {
	t.Run("wal_level", func(t *testing.T) {
		s := pgtest.Start(t, pgserver.Options{Settings: map[string]string{"wal_level": "replica"}})
		db := s.Database()
		db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
		e := refused(t, configOf(db, "public.t"), fault.PostgresSettings)
		if !strings.Contains(e.Hint, "ALTER SYSTEM SET wal_level = 'logical'") {
			t.Errorf("hint %q", e.Hint)
		}
	})
	t.Run("no walsender and no slot left", func(t *testing.T) {
		s := pgtest.Start(t, pgserver.Options{Settings: map[string]string{"max_wal_senders": "1", "max_replication_slots": "1"}})
		db := s.Database()
		db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
		c := configOf(db, "public.t")
		setup := prepared(t, c)
		db.Exec("SELECT pg_create_physical_replication_slot('other')")
		defer db.Exec("SELECT pg_drop_replication_slot('other')")
		if err := setup.CreateSlot(t.Context()); !fault.Is(err, fault.PostgresSettings) || !strings.Contains(hintOf(err), "max_replication_slots") {
			t.Errorf("no slot left: got %v", err)
		}
		conn, err := c.connect(t.Context(), true, nil)
		for fault.Retryable(err) { // the walsender of a moment ago may still be there
			conn, err = c.connect(t.Context(), true, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = hangUp(conn) }()
		_, err = c.connect(t.Context(), true, nil)
		if !fault.Is(err, fault.PostgresUnavailable) || !strings.Contains(hintOf(err), "max_wal_senders") {
			t.Errorf("no walsender left: got %v", err)
		}
	})
}
