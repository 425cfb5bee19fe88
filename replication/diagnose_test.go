package replication

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walferry/walferry/internal/doctor"
	"github.com/walferry/walferry/internal/pgserver"
	"github.com/walferry/walferry/internal/pgtest"
)

// worst returns the findings of an id that are not in order, and fails on findings that have no way out.
func worst(t *testing.T, findings []doctor.Finding, id string) []doctor.Finding {
	t.Helper()
	var bad []doctor.Finding
	for _, f := range findings {
		if f.Severity == doctor.OK {
			continue
		}
		if f.Severity != doctor.Unknown && (f.Why == "" || len(f.Fixes) == 0) {
			t.Errorf("finding without a reason or a way out: %+v", f)
		}
		if f.ID == id {
			bad = append(bad, f)
		}
	}
	return bad
}

// script runs a block of SQL as psql would, statement by statement.
func script(t *testing.T, dsn, block string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hangUp(conn) }()
	for _, sql := range statementsOf(block) {
		if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// statementsOf splits a script at semicolons that end a line outside of $$, without the comments.
func statementsOf(block string) []string {
	var all []string
	var b strings.Builder
	quoted := false
	for line := range strings.Lines(block) {
		if strings.HasPrefix(line, "--") {
			continue
		}
		b.WriteString(line)
		quoted = quoted != (strings.Count(line, "$do$")%2 == 1)
		if strings.HasSuffix(strings.TrimSpace(line), ";") && !quoted {
			all = append(all, b.String())
			b.Reset()
		}
	}
	return all
}

// undoOf is what a block says brings the old state back.
func undoOf(block string) string {
	_, undo, _ := strings.Cut(block, "-- Undo:\n")
	return strings.ReplaceAll(undo, "-- ", "")
}

func describeFindings(findings []doctor.Finding) string {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "%s %s %s: %s\n", f.Severity, f.ID, f.Subject, f.Found)
	}
	return b.String()
}

// TestFindings makes each finding true, sees it, runs the SQL that comes with it, and sees it gone. Where the
// SQL can be undone, the finding must be back then.
func TestFindings(t *testing.T) {
	for _, test := range []struct {
		name   string
		id     string
		worst  doctor.Severity
		since  int // major version
		role   string
		setup  string
		tables []string
		manage bool // may make the publication
		undo   bool
	}{
		{name: "no publication", id: "publication", worst: doctor.Error, role: "REPLICATION", undo: true,
			setup: "CREATE TABLE a (id int PRIMARY KEY)", tables: []string{"public.a"}},
		{name: "no right to replicate", id: "role_replication", worst: doctor.Error, role: "NOREPLICATION", undo: true,
			setup: "CREATE TABLE a (id int PRIMARY KEY)", tables: []string{"public.a"}},
		{name: "too many rights", id: "role_excess", worst: doctor.Warning, role: "REPLICATION CREATEDB BYPASSRLS",
			setup: "CREATE TABLE a (id int PRIMARY KEY)", tables: []string{"public.a"}},
		{name: "password ends", id: "role_expiry", worst: doctor.Warning, role: "REPLICATION VALID UNTIL '" + time.Now().Add(24*time.Hour).Format(time.RFC3339) + "'",
			setup: "CREATE TABLE a (id int PRIMARY KEY)", tables: []string{"public.a"}},
		{name: "no primary key", id: "replica_identity", worst: doctor.Error, role: "REPLICATION", undo: true,
			setup: "CREATE TABLE a (id int)", tables: []string{"public.a"}},
		{name: "identity nothing", id: "replica_identity", worst: doctor.Error, role: "REPLICATION", undo: true,
			setup: "CREATE TABLE a (id int PRIMARY KEY); ALTER TABLE a REPLICA IDENTITY NOTHING", tables: []string{"public.a"}},
		{name: "a published table without identity", id: "replica_identity", worst: doctor.Error, role: "REPLICATION", undo: true,
			setup: "CREATE TABLE a (id int); CREATE PUBLICATION walferry_shop FOR TABLE a", tables: []string{"public.a"}},
		{name: "generated column in the identity", id: "replica_identity", worst: doctor.Error, since: 18, role: "REPLICATION", undo: true,
			setup:  "CREATE TABLE a (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED); ALTER TABLE a REPLICA IDENTITY FULL; CREATE PUBLICATION walferry_shop FOR TABLE a",
			tables: []string{"public.a"}},
		{name: "a partition without identity", id: "replica_identity", worst: doctor.Error, role: "REPLICATION", undo: true,
			setup: `CREATE TABLE a (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE a_1 PARTITION OF a FOR VALUES FROM (1) TO (9);
				ALTER TABLE a_1 REPLICA IDENTITY NOTHING`, tables: []string{"public.a"}},
		{name: "table lacking", id: "publication_tables", worst: doctor.Error, role: "REPLICATION", undo: true,
			setup:  "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE PUBLICATION walferry_shop FOR TABLE a",
			tables: []string{"public.a", "public.b"}},
		{name: "new table of a pattern", id: "publication_tables", worst: doctor.Warning, role: "REPLICATION",
			setup:  "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE PUBLICATION walferry_shop FOR TABLE a",
			tables: []string{"public.*"}},
		{name: "more than configured", id: "publication_extra", worst: doctor.Warning, role: "REPLICATION",
			setup:  "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE PUBLICATION walferry_shop FOR TABLE a, b",
			tables: []string{"public.a"}},
		{name: "operations", id: "publication_options", worst: doctor.Error, role: "REPLICATION", undo: true,
			setup: "CREATE TABLE a (id int PRIMARY KEY); CREATE PUBLICATION walferry_shop FOR TABLE a WITH (publish = 'insert')", tables: []string{"public.a"}},
		{name: "partitions under their own names", id: "publication_options", worst: doctor.Error, role: "REPLICATION", undo: true,
			setup: `CREATE TABLE a (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE a_1 PARTITION OF a FOR VALUES FROM (1) TO (9);
				CREATE PUBLICATION walferry_shop FOR TABLE a`, tables: []string{"public.a"}},
		{name: "column list", id: "publication_columns", worst: doctor.Error, since: 15, role: "REPLICATION", undo: true,
			setup: `CREATE TABLE a (id int PRIMARY KEY, n int, secret text); CREATE PUBLICATION walferry_shop FOR TABLE a (n)`, tables: []string{"public.a"}},
		{name: "row filter", id: "publication_filter", worst: doctor.Error, since: 15, role: "REPLICATION", undo: true,
			setup: `CREATE TABLE a (id int PRIMARY KEY, n int); CREATE PUBLICATION walferry_shop FOR TABLE a WHERE (n > 3)`, tables: []string{"public.a"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := pgtest.Shared(t)
			if s.Major() < test.since {
				t.Skipf("from Postgres %d on", test.since)
			}
			db := s.Database()
			c := configOf(db, test.tables...)
			c.Publication.Create = test.manage
			c.URL = role(t, db, "r_"+db.Name, test.role)
			db.Exec(test.setup)

			found := Diagnose(t.Context(), c).Findings
			bad := worst(t, found, test.id)
			if len(bad) != 1 || bad[0].Severity != test.worst {
				t.Fatalf("%v\n%s", bad, describeFindings(found))
			}
			block := doctor.Block(db.Name, bad)
			if test.worst == doctor.Warning {
				block = bad[0].Fixes[0].Do
			}
			script(t, db.DSN(), block)
			found = Diagnose(t.Context(), c).Findings
			if bad := worst(t, found, test.id); len(bad) != 0 {
				t.Fatalf("after\n%s\n%s", block, describeFindings(found))
			}
			if !test.undo {
				return
			}
			script(t, db.DSN(), undoOf(block))
			if again := worst(t, Diagnose(t.Context(), c).Findings, test.id); len(again) != 1 || again[0].Found != bad[0].Found {
				t.Errorf("undone by %s: %v, was %v", undoOf(block), again, bad)
			}
		})
	}
}

// TestFindingsWithoutSQL are those that a person must see to.
func TestFindingsWithoutSQL(t *testing.T) {
	for _, test := range []struct {
		name, id string
		worst    doctor.Severity
		setup    string
		tables   []string
		change   func(*Config, *pgtest.DB)
	}{
		{"missing table", "tables", doctor.Error, "CREATE TABLE orders (id int PRIMARY KEY)", []string{"public.order"}, nil},
		{"empty pattern", "tables", doctor.Warning, "CREATE TABLE orders (id int PRIMARY KEY)", []string{"public.*", "public.x*"}, nil},
		{"unlogged", "tables_not_logged", doctor.Warning, "CREATE TABLE a (id int PRIMARY KEY); CREATE UNLOGGED TABLE b (id int PRIMARY KEY)", []string{"public.*"}, nil},
		{"unlogged partition", "tables_not_logged", doctor.Warning, `CREATE TABLE a (id int PRIMARY KEY) PARTITION BY RANGE (id);
			CREATE UNLOGGED TABLE a_1 PARTITION OF a FOR VALUES FROM (1) TO (9)`, []string{"public.a"}, nil},
		{"record key", "record_key", doctor.Error, "CREATE TABLE a (id int PRIMARY KEY, n int); CREATE PUBLICATION walferry_shop FOR TABLE a", []string{"public.a"},
			func(c *Config, _ *pgtest.DB) { c.Tables[0].Key = []string{"n"} }},
		{"slot of another plugin", "slot", doctor.Error, "CREATE TABLE a (id int PRIMARY KEY)", []string{"public.a"},
			func(c *Config, db *pgtest.DB) {
				c.Slot.Name = "d_" + db.Name
				db.Exec("SELECT pg_create_logical_replication_slot($1, 'test_decoding')", c.Slot.Name)
			}},
		{"no slot and none to make", "slot", doctor.Error, "CREATE TABLE a (id int PRIMARY KEY)", []string{"public.a"}, func(c *Config, _ *pgtest.DB) { c.Slot.Create = false }},
		{"wrong password", "postgres_connection", doctor.Error, "CREATE TABLE a (id int PRIMARY KEY)", []string{"public.a"},
			func(c *Config, db *pgtest.DB) { c.URL = db.DSNFor("postgres", "wrong") }},
		{"no database", "postgres_connection", doctor.Error, "CREATE TABLE a (id int PRIMARY KEY)", []string{"public.a"},
			func(c *Config, db *pgtest.DB) { c.URL = db.Server.DSN("nowhere") }},
		{"nobody listens", "postgres_connection", doctor.Error, "CREATE TABLE a (id int PRIMARY KEY)", []string{"public.a"},
			func(c *Config, _ *pgtest.DB) { c.URL = "postgres://u@127.0.0.1:1/x?sslmode=disable" }},
		{"not a URL", "postgres_connection", doctor.Error, "CREATE TABLE a (id int PRIMARY KEY)", []string{"public.a"}, func(c *Config, _ *pgtest.DB) { c.URL = "postgres://h:port/x" }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.Shared(t).Database()
			db.Exec(test.setup)
			c := configOf(db, test.tables...)
			if test.change != nil {
				test.change(&c, db)
			}
			found := Diagnose(t.Context(), c).Findings
			if bad := worst(t, found, test.id); len(bad) != 1 || bad[0].Severity != test.worst {
				t.Fatalf("%v\n%s", bad, describeFindings(found))
			}
		})
	}
}

// TestSettingsFindings does it for what is of the whole server, on one of its own that has room for
// nothing.
func TestSettingsFindings(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t, pgserver.Options{Settings: map[string]string{"wal_level": "replica", "max_replication_slots": "1", "max_wal_senders": "1"}})
	db := s.CreateDatabase("shop")
	db.Exec("CREATE TABLE a (id int PRIMARY KEY); CREATE ROLE cdc LOGIN REPLICATION PASSWORD 'right'; SELECT pg_create_physical_replication_slot('standby')")
	c := configOf(db, "public.a")
	c.URL = db.DSNFor("cdc", "right")
	want := map[string]doctor.Severity{
		"wal_level": doctor.Error, "replication_slots": doctor.Error, "wal_senders": doctor.Warning, "slot_wal_limit": doctor.Warning,
	}
	if s.Major() >= 17 {
		want["slot_failover"] = doctor.Warning // there is no slot yet, which would be made right, but nobody waits for the standby
	}
	d := Diagnose(t.Context(), c)
	var advised []string
	for id, severity := range want {
		bad := worst(t, d.Findings, id)
		if len(bad) != 1 || bad[0].Severity != severity {
			t.Fatalf("%s: %v\n%s", id, bad, describeFindings(d.Findings))
		}
		if severity == doctor.Warning {
			advised = append(advised, bad[0].Fixes[0].Do)
		}
	}
	report := doctor.NewReport("shop", d.Platform, d.Database, d.Findings)
	script(t, db.DSN(), report.SQL+strings.Join(advised, "\n"))
	if s.Major() >= 17 { // the physical slot must exist for the setting, and be there
		db.Exec("SELECT pg_drop_replication_slot('standby')")
	}
	s.Restart(pgserver.Fast)
	d = Diagnose(t.Context(), c)
	for id := range want {
		if bad := worst(t, d.Findings, id); len(bad) != 0 {
			t.Errorf("%s is still there: %v", id, bad)
		}
	}
	if r := doctor.NewReport("shop", d.Platform, d.Database, d.Findings); r.Errors != 0 {
		t.Errorf("after the whole block:\n%s", describeFindings(d.Findings))
	}
}

func TestOpenTransaction(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).Database()
	db.Exec("CREATE TABLE a (id int PRIMARY KEY)")
	c := configOf(db, "public.a")
	app := db.Conn()
	if _, err := app.Exec(t.Context(), "BEGIN; SELECT pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	later := func() []doctor.Finding {
		d := &diagnosis{cfg: c, now: time.Now, openLong: time.Nanosecond}
		return d.run(t.Context()).Findings
	}
	// The oldest is told, and other tests have theirs.
	var mine []doctor.Finding
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for len(mine) == 0 {
		for _, f := range worst(t, later(), "open_transactions") {
			if f.Subject == fmt.Sprintf("process %d", app.PgConn().PID()) {
				mine = append(mine, f)
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("not told: %s", describeFindings(later()))
		}
	}
	script(t, db.DSN(), mine[0].Fixes[0].Do)
	if _, err := app.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("the session goes on")
	}
	for _, f := range worst(t, later(), "open_transactions") {
		if f.Subject == mine[0].Subject {
			t.Errorf("still told: %+v", f)
		}
	}
	hidden := c
	hidden.URL = role(t, db, "r_"+db.Name, "REPLICATION")
	if bad := worst(t, Diagnose(t.Context(), hidden).Findings, "open_transactions"); len(bad) != 0 {
		t.Errorf("a role that sees nothing: %v", bad)
	}
}

func TestEncodingAndClock(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DatabaseIn("SQL_ASCII")
	db.Exec("CREATE TABLE a (id int PRIMARY KEY)")
	d := &diagnosis{cfg: configOf(db, "public.a"), now: func() time.Time { return time.Now().Add(-time.Hour) }, openLong: openLong}
	found := d.run(t.Context()).Findings
	for _, id := range []string{"encoding", "clock"} {
		if bad := worst(t, found, id); len(bad) != 1 || bad[0].Severity != doctor.Warning {
			t.Errorf("%s: %v\n%s", id, bad, describeFindings(found))
		}
	}
	fine := pgtest.Shared(t).Database()
	fine.Exec("CREATE TABLE a (id int PRIMARY KEY, at point, words text[], day date)")
	found = Diagnose(t.Context(), configOf(fine, "public.a")).Findings
	for _, id := range []string{"encoding", "clock", "types_as_text"} {
		if bad := worst(t, found, id); len(bad) != 0 {
			t.Errorf("%s: %v", id, bad)
		}
	}
	if !strings.Contains(describeFindings(found), "types_as_text : sent as Postgres prints them: public.a.at (point)\n") {
		t.Errorf("types: %s", describeFindings(found))
	}
}

// TestProxy puts something between that greets with a process of its own, as poolers do.
func TestProxy(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).Database()
	db.Exec("CREATE TABLE a (id int PRIMARY KEY)")
	c := configOf(db, "public.a")
	c.URL = strings.Replace(c.URL, db.Server.Addr(), pooler(t, db.Server.Addr()), 1)
	found := Diagnose(t.Context(), c).Findings
	if bad := worst(t, found, "proxy"); len(bad) != 1 || bad[0].Severity != doctor.Warning {
		t.Fatalf("%s", describeFindings(found))
	}
}

// pooler passes everything on but the process id of the greeting. It ends with the test.
func pooler(t *testing.T, to string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the listener
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = pass(client, to) }() // ends with the connection
		}
	}()
	return l.Addr().String()
}

func pass(client net.Conn, to string) error {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return err
	}
	go func() { // ends with either side
		defer func() { _ = server.Close() }()
		buf := make([]byte, 4096)
		for {
			n, err := client.Read(buf)
			if err != nil {
				return
			}
			if _, err := server.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	front := pgproto3.NewFrontend(server, server)
	for {
		msg, err := front.Receive()
		if err != nil {
			return err
		}
		if key, ok := msg.(*pgproto3.BackendKeyData); ok {
			key.ProcessID++
		}
		out, err := msg.Encode(nil)
		if err != nil {
			return err
		}
		if _, err := client.Write(out); err != nil {
			return err
		}
	}
}

// TestPlatforms tells providers by their roles, and gives their way. What it says of them is from their documents.
func TestPlatforms(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t, pgserver.Options{Settings: map[string]string{"wal_level": "replica"}})
	db := s.CreateDatabase("shop")
	db.Exec("CREATE TABLE a (id int PRIMARY KEY); CREATE ROLE cdc LOGIN PASSWORD 'right'; CREATE ROLE rds_replication")
	c := configOf(db, "public.a")
	c.URL = db.DSNFor("cdc", "right")
	for name, want := range map[string][2]string{
		"rds_superuser":     {"rds.logical_replication = 1", "GRANT rds_replication TO"},
		"cloudsqlsuperuser": {"cloudsql.logical_decoding=on", " REPLICATION;"},
		"azure_pg_admin":    {"--name wal_level --value logical", " REPLICATION;"},
		"supabase_admin":    {"wal_level=logical", " REPLICATION;"},
		"neon_superuser":    {"Logical Replication", " REPLICATION;"},
	} {
		db.Exec("CREATE ROLE " + name)
		found := Diagnose(t.Context(), c).Findings
		db.Exec("DROP ROLE " + name)
		for i, id := range []string{"wal_level", "role_replication"} {
			if bad := worst(t, found, id); len(bad) != 1 || !strings.Contains(bad[0].Fixes[0].Do, want[i]) {
				t.Errorf("%s: %s: %+v", name, id, bad)
			}
		}
	}
	db.Exec("GRANT rds_replication TO cdc")
	if bad := worst(t, Diagnose(t.Context(), c).Findings, "role_replication"); len(bad) != 0 {
		t.Errorf("a member of rds_replication: %v", bad)
	}
}
