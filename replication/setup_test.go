package replication

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/pgserver"
	"github.com/walferry/walferry/internal/pgtest"
)

// members of a publication, as schema.table, by name.
const publishedQuery = `SELECT coalesce(string_agg(schemaname || '.' || tablename, ' ' ORDER BY schemaname, tablename), '') FROM pg_publication_tables WHERE pubname = $1`

// describeTables writes tables down: identity, columns with * for the identity's and ! for the primary key's.
func describeTables(tables []*event.Table) string {
	var lines []string
	for _, t := range tables {
		line := t.String() + " " + t.Identity.String() + ":"
		for i, c := range t.Columns {
			line += " " + c.Name + " " + c.Type.Name
			if c.InIdentity {
				line += "*"
			}
			for _, k := range t.PrimaryKey {
				if k == i {
					line += "!"
				}
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestPrepare(t *testing.T) {
	db := pgtest.Shared(t).Database()
	db.Exec(`
		CREATE SCHEMA inventory;
		CREATE TABLE orders (note text, id bigint PRIMARY KEY, gone int, total numeric(10, 2), twice numeric GENERATED ALWAYS AS (total * 2) STORED);
		ALTER TABLE orders DROP COLUMN gone;
		CREATE TABLE inventory.items (id int PRIMARY KEY, name text NOT NULL UNIQUE);
		ALTER TABLE inventory.items REPLICA IDENTITY USING INDEX items_name_key;
		CREATE TABLE inventory.moves (id int PRIMARY KEY, n int);
		ALTER TABLE inventory.moves REPLICA IDENTITY FULL;
		CREATE TABLE inventory.stock (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
		CREATE TABLE inventory.stock_1 PARTITION OF inventory.stock FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
		CREATE TABLE inventory.parent (id int PRIMARY KEY);
		CREATE TABLE other (id int);
		CREATE TABLE heir (extra int) INHERITS (inventory.parent);
		CREATE VIEW inventory.v AS SELECT 1;
		CREATE UNLOGGED TABLE inventory.u (id int)`)
	c := configOf(db, "public.orders", "inventory.*")
	s, log := preparedWithLog(t, c)

	if got, want := pgtest.Value[string](db, publishedQuery, c.Publication.Name), "inventory.items inventory.moves inventory.parent inventory.stock public.orders"; got != want {
		t.Errorf("published: %s\nwant       %s", got, want)
	}
	want := `inventory.items index: id int4! name text*
inventory.moves full: id int4*! n int4*
inventory.parent default: id int4*!
inventory.stock default: id int4*! day date*!
public.orders default: note text id int8*! total numeric`
	if got := describeTables(s.Tables()); got != want {
		t.Errorf("tables:\n%s\nwant\n%s", got, want)
	}
	srv := s.Server()
	if srv.Version/10000 != db.Server.Major() || srv.Timeline != 1 || srv.End.IsZero() || srv.Slot != nil || len(srv.Switches) != 0 ||
		srv.Origin.Database != db.Name || srv.Origin.Slot != c.Slot.Name ||
		srv.Origin.SystemID != pgtest.Value[string](db, "SELECT system_identifier::text FROM pg_control_system()") {
		t.Errorf("server: %+v", srv)
	}
	if !strings.Contains(log.String(), "created the publication") {
		t.Errorf("the log is silent about the publication:\n%s", log)
	}
	first := s.Fingerprint()
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}

	// A second start finds everything, creates nothing, and sees the same.
	again, log := preparedWithLog(t, c)
	if got := describeTables(again.Tables()); got != want {
		t.Errorf("tables of the second start:\n%s", got)
	}
	if again.Fingerprint() != first {
		t.Error("the fingerprint has changed by itself")
	}
	if log.String() != "" {
		t.Errorf("the second start logs:\n%s", log)
	}
}

func TestFingerprint(t *testing.T) {
	db := pgtest.Shared(t).Database()
	db.Exec("CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (id int PRIMARY KEY)")
	c := configOf(db, "public.a")
	fingerprint := func() string {
		t.Helper()
		s := prepared(t, c)
		defer func() { _ = s.Close() }()
		return s.Fingerprint()
	}
	seen := map[string]string{fingerprint(): "as created"}
	if f := fingerprint(); seen[f] == "" {
		t.Error("not stable")
	}
	db.Exec("ALTER TABLE a ADD COLUMN later int")
	if f := fingerprint(); seen[f] == "" {
		t.Error("a new column of a table that is published whole has changed it")
	}
	steps := []string{"ALTER PUBLICATION walferry_shop ADD TABLE b"}
	if db.Server.Major() >= 15 {
		steps = append(steps, "ALTER PUBLICATION walferry_shop SET TABLE a (id), b", "ALTER PUBLICATION walferry_shop SET TABLE a WHERE (id > 5), b")
	}
	for _, sql := range steps {
		db.Exec(sql)
		f := fingerprint()
		if was := seen[f]; was != "" {
			t.Errorf("%s: the fingerprint is that of %s", sql, was)
		}
		seen[f] = sql
	}
}

// TestFault23_Names: tables are found, published and described under the strangest names.
func TestFault23_Names(t *testing.T) {
	db := pgtest.Shared(t).Database()
	odd := []string{`Orders`, `or.ders`, `"`, `a"b'c`, "new\nline", `ж`, strings.Repeat("ü", 31) + "x", `$1`, `--`, `select`, `x\'`}
	c := configOf(db)
	c.Publication.Name = `walferry "odd", 'name'`
	const schema = `S; "'\x`
	db.Exec("CREATE SCHEMA " + pgx.Identifier{schema}.Sanitize())
	for _, name := range odd {
		db.Exec("CREATE TABLE " + pgx.Identifier{schema, name}.Sanitize() + " (" + pgx.Identifier{name}.Sanitize() + " int PRIMARY KEY)")
		c.Tables = append(c.Tables, TableSpec{Schema: schema, Name: name})
	}
	s := prepared(t, c)
	if len(s.Tables()) != len(odd) {
		t.Fatalf("%d tables, want %d", len(s.Tables()), len(odd))
	}
	for _, table := range s.Tables() {
		if table.Schema != schema || len(table.Columns) != 1 || table.Columns[0].Name != table.Name || len(table.PrimaryKey) != 1 {
			t.Errorf("got %+v", *table)
		}
	}
	if err := s.CreateSlot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := startSlot(t, c); err != nil {
		t.Errorf("start: %v", err)
	}
}

func TestPrepareRefusesSlotNames(t *testing.T) {
	db := pgtest.Shared(t).Database()
	db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
	for _, name := range []string{"", "UPPER", `x" LOGICAL`, "x'y", strings.Repeat("x", 64)} {
		c := configOf(db, "public.t")
		c.Slot.Name = name
		if e := refused(t, c, fault.ConfigInvalid); !strings.Contains(e.Error(), "slot name") {
			t.Errorf("%q: got %v", name, e)
		}
	}
}

// TestPrivileges takes a role through the messages, with the SQL they give.
func TestPrivileges(t *testing.T) {
	db := pgtest.Shared(t).Database()
	db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
	c := configOf(db, "public.t")
	c.URL = role(t, db, "cdc_"+db.Name, "")

	e := refused(t, c, fault.PostgresPrivilege)
	db.Exec(statements(e.Hint)) // ALTER ROLE … REPLICATION

	e = refused(t, c, fault.PostgresPrivilege)
	if want := `CREATE PUBLICATION "walferry_shop" FOR TABLE ONLY "public"."t" WITH (publish_via_partition_root = true);`; !strings.Contains(e.Hint, want) {
		t.Errorf("hint %q, want %q in it", e.Hint, want)
	}
	all := c
	all.AllTables, all.Publication.Name = true, "walferry_all"
	e = refused(t, all, fault.PostgresPrivilege)
	if want := `CREATE PUBLICATION "walferry_all" FOR ALL TABLES`; !strings.Contains(e.Hint, want) || !strings.Contains(e.Hint, "superuser") {
		t.Errorf("hint %q, want %q in it", e.Hint, want)
	}
	db.Exec(statements(refused(t, c, fault.PostgresPrivilege).Hint)) // CREATE PUBLICATION, as the superuser
	db.Exec(statements(e.Hint))

	// A role with nothing but LOGIN and REPLICATION is enough now.
	for _, c := range []Config{c, all} {
		s := prepared(t, c)
		if got, want := describeTables(s.Tables()), "public.t default: id int4*!"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	c.Slot.Name += "_least"
	if err := prepared(t, c).CreateSlot(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestFault04_TwoPrepare: the second instance waits until the first is done, and can be called off.
func TestFault04_TwoPrepare(t *testing.T) {
	db := pgtest.Shared(t).Database()
	db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
	c := configOf(db, "public.t")
	first := prepared(t, c)

	ctx, cancel := context.WithCancel(t.Context())
	log := newLogBuffer()
	result := make(chan error, 1)
	second := func(ctx context.Context) {
		cat := newCatalog(c)
		defer cat.close()
		s, err := prepare(ctx, c, cat, log.logger())
		if err == nil {
			err = s.Close()
		}
		result <- err
	}
	go second(ctx)
	log.await(t, "another instance of this pipeline is starting")
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("called off: got %v, want context.Canceled", err)
	}

	log = newLogBuffer()
	go second(t.Context())
	log.await(t, "another instance of this pipeline is starting")
	select {
	case err := <-result:
		t.Fatalf("the second did not wait: %v", err)
	case <-time.After(2 * lockPoll): // long enough for two more attempts
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if err := <-result; err != nil {
		t.Errorf("after the first was done: %v", err)
	}
	if n := strings.Count(log.String(), "another instance"); n != 1 {
		t.Errorf("said %d times that it waits", n)
	}
}

func TestCreateSlot(t *testing.T) {
	db := pgtest.Shared(t).Database()
	db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
	c := configOf(db, "public.t")
	s := prepared(t, c)
	for range 2 { // the second time it is there, and ours
		if err := s.CreateSlot(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if was := s.Server().Slot; was != nil {
		t.Errorf("it was there before: %+v", was)
	}
	if err := s.Look(t.Context()); err != nil || s.Server().Slot == nil {
		t.Errorf("looked again and found %v, %v", s.Server().Slot, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	slot := prepared(t, c).Server().Slot
	if slot == nil || slot.Plugin != "pgoutput" || slot.Database != db.Name || slot.TwoPhase || slot.Temporary || slot.Active || slot.PID != 0 ||
		slot.WALStatus != "reserved" || slot.Invalidation != "" || slot.Restart.IsZero() || slot.Confirmed < slot.Restart {
		t.Errorf("got %+v", slot)
	}
}

func TestCreateSlotOverAnotherOne(t *testing.T) {
	db := pgtest.Shared(t).Database()
	other := pgtest.Shared(t).Database()
	db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
	c := configOf(db, "public.t")
	for _, test := range []struct {
		name string
		in   *pgtest.DB
		sql  string
		code fault.Code
	}{
		{"plugin", db, "SELECT pg_create_logical_replication_slot($1, 'test_decoding')", fault.SlotPlugin},
		{"physical", db, "SELECT pg_create_physical_replication_slot($1)", fault.SlotPlugin},
		{"database", other, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", fault.SlotDatabase},
		{"two-phase", db, "SELECT pg_create_logical_replication_slot($1, 'pgoutput', false, true)", fault.SlotTwoPhase},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.in.Exec(test.sql, c.Slot.Name)
			defer test.in.Exec("SELECT pg_drop_replication_slot($1)", c.Slot.Name)
			if err := prepared(t, c).CreateSlot(t.Context()); !fault.Is(err, test.code) {
				t.Errorf("got %v, want %s", err, test.code)
			}
		})
	}
}

// TestCreateSlotWaits: a slot can only be made once the transactions of this moment have ended.
func TestCreateSlotWaits(t *testing.T) {
	db := pgtest.Shared(t).Database()
	db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
	c := configOf(db, "public.t")
	log := newLogBuffer()
	s, err := tryPrepare(t, c, log)
	if err != nil {
		t.Fatal(err)
	}
	s.blockersEvery = 50 * time.Millisecond
	open := db.Conn()
	exec := func(sql string) {
		t.Helper()
		if _, err := open.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec("SET application_name = 'the slow one'")
	exec("BEGIN; INSERT INTO public.t VALUES (4711)")

	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- s.CreateSlot(ctx) }()
	log.await(t, "the slow one")
	if want := fmt.Sprintf("pid=%d", open.PgConn().PID()); !strings.Contains(log.String(), want) || strings.Contains(log.String(), "4711") {
		t.Errorf("want %s and no query in\n%s", want, log)
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("called off: got %v, want context.Canceled", err)
	}
	if n := pgtest.Value[int](db, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1", c.Slot.Name); n != 0 {
		t.Error("a slot that was called off is there")
	}

	go func() { result <- s.CreateSlot(t.Context()) }()
	select {
	case err := <-result:
		t.Fatalf("did not wait: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	exec("COMMIT")
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// TestCreateSlotWaitsForPrepared: a prepared transaction holds a slot up without any process to blame.
func TestCreateSlotWaitsForPrepared(t *testing.T) {
	db := pgtest.Start(t, pgserver.Options{Settings: map[string]string{"max_prepared_transactions": "2"}}).Database()
	db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
	log := newLogBuffer()
	s, err := tryPrepare(t, configOf(db, "public.t"), log)
	if err != nil {
		t.Fatal(err)
	}
	s.blockersEvery = 50 * time.Millisecond
	db.Exec("BEGIN; INSERT INTO public.t VALUES (1); PREPARE TRANSACTION 'left behind'")
	result := make(chan error, 1)
	go func() { result <- s.CreateSlot(t.Context()) }()
	log.await(t, "left behind")
	db.Exec("COMMIT PREPARED 'left behind'")
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// TestTimelines: after a recovery the server is on another timeline, and says where the old one ended.
func TestTimelines(t *testing.T) {
	server := pgtest.Start(t, pgserver.Options{Settings: map[string]string{"restore_command": "false"}})
	db := server.Database()
	db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
	c := configOf(db, "public.t")
	before := prepared(t, c)
	if err := errors.Join(before.CreateSlot(t.Context()), before.Close()); err != nil {
		t.Fatal(err)
	}
	data := pgtest.Value[string](db, "SHOW data_directory")
	ctx := t.Context()
	if err := server.Stop(ctx, pgserver.Fast); err != nil {
		t.Fatal(err)
	}
	installFile(t, data, "recovery.signal", nil)
	if err := server.Server.Start(ctx); err != nil {
		t.Fatal(err)
	}
	for pgtest.Value[bool](db, "SELECT pg_is_in_recovery()") { // it takes connections before it is done
		if ctx.Err() != nil {
			t.Fatal("the recovery does not end")
		}
	}
	srv := prepared(t, c).Server()
	if srv.Timeline != 2 || len(srv.Switches) != 1 || srv.Switches[0].Timeline != 1 || srv.Switches[0].At < before.Server().End || srv.Switches[0].At > srv.End {
		t.Errorf("got %+v", srv)
	}
	if srv.Origin != before.Server().Origin || srv.Slot == nil {
		t.Errorf("origin %+v, was %+v; slot %+v", srv.Origin, before.Server().Origin, srv.Slot)
	}
}

// TestLostSetupConnection: a server that ends the connection before it is closed has taken the lock
// back; the start is tried again.
func TestLostSetupConnection(t *testing.T) {
	db := pgtest.Shared(t).Database()
	db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
	c := configOf(db, "public.t")
	s := prepared(t, c)
	db.Exec("SELECT pg_terminate_backend($1::int, 10000)", s.conn.PgConn().PID())
	if err := s.Close(); !fault.Retryable(err) {
		t.Errorf("got %v, exit code %d", err, fault.ExitCode(err))
	}
	if err := s.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if err := prepared(t, c).Close(); err != nil {
		t.Error(err)
	}
}
