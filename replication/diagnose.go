package replication

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/doctor"
)

// checkTimeout bounds each check of a diagnosis. Connecting has the URL's own, ten seconds by default.
const checkTimeout = 10 * time.Second

// Diagnosis is what Diagnose found.
type Diagnosis struct {
	Findings []doctor.Finding
	// Platform and Database say which server was asked.
	Platform, Database string
	// Tables are what would be captured, as the catalog has it now; nil where that is not known.
	Tables []*event.Table
}

// Diagnose looks at everything that a start of the pipeline needs of Postgres, with the judgement of
// the start itself, and changes nothing. What cannot be reached is a finding. It ends when ctx does.
func Diagnose(ctx context.Context, cfg Config) Diagnosis {
	return (&diagnosis{cfg: cfg, now: time.Now, openLong: openLong}).run(ctx)
}

// diagnosis is one run of all checks. The fields behind conn are what checks learn for later ones.
type diagnosis struct {
	cfg Config
	// now and openLong are the clock and the constant, others in tests.
	now      func() time.Time
	openLong time.Duration

	platform platform
	role     string // quoted for SQL
	roleName string
	database string
	conn     *pgx.Conn
	version  int

	all, tables []dbTable
	publication *publication
	captured    []member // what is captured once the publication is in order
	ids         []identity
	described   []*event.Table
	found       []doctor.Finding
}

// check is one look over SQL. An error is a finding of its own.
type check struct {
	id  string
	run func(*diagnosis, context.Context) error
}

// checks come in the order in which they learn from each other.
func checks() []check {
	return []check{
		{"server_version", (*diagnosis).checkVersion},
		{"wal_level", (*diagnosis).checkWAL},
		{"encoding", (*diagnosis).checkEncoding},
		{"clock", (*diagnosis).checkClock},
		{"role_replication", (*diagnosis).checkRole},
		{"slot", (*diagnosis).checkSlot},
		{"slot_failover", (*diagnosis).checkFailover},
		{"open_transactions", (*diagnosis).checkTransactions},
		{"tables", (*diagnosis).checkTables},
		{"publication", (*diagnosis).checkPublication},
		{"replica_identity", (*diagnosis).checkIdentities},
		{"types_as_text", (*diagnosis).checkTypes},
	}
}

func (d *diagnosis) run(ctx context.Context) Diagnosis {
	pc, err := d.cfg.parse(false, nil)
	if err != nil {
		return Diagnosis{Findings: []doctor.Finding{doctor.FromFault("postgres_connection", err, doctor.Fix{Kind: doctor.Advice, Do: "Check postgres.url and postgres.password_file."})}, Platform: string(selfHosted)}
	}
	_, _ = d.cfg.logIn(ctx, pc) // for the role's name; what is wrong with it the connection tells
	d.platform, d.roleName, d.database = platformOfHost(pc.Host), pc.User, pc.Database
	d.role = pgx.Identifier{d.roleName}.Sanitize()
	if d.database == "" {
		d.database = d.roleName // as libpq has it
	}
	var stream []doctor.Finding
	var both sync.WaitGroup
	both.Go(func() { stream = d.tryReplication(ctx) })
	d.runSQL(ctx)
	both.Wait()
	// What refuses every login is told once.
	if d.conn == nil && len(stream) == 1 && len(d.found) > 0 && stream[0].Code == d.found[0].Code {
		stream[0] = doctor.Skipped("replication_connection", "postgres_connection")
	}
	return Diagnosis{
		Findings: slices.Concat(d.found[:1], stream, d.found[1:]),
		Platform: string(d.platform), Database: d.database, Tables: d.described,
	}
}

// tryReplication opens a replication connection and asks it what a start asks.
func (d *diagnosis) tryReplication(ctx context.Context) []doctor.Finding {
	const id = "replication_connection"
	role, p := d.role, d.platform
	ctx, cancel := context.WithTimeout(ctx, 2*checkTimeout)
	defer cancel()
	conn, err := d.cfg.connect(ctx, true, nil)
	if err == nil {
		defer func() { _ = hangUp(conn) }() // nothing is at stake: it only read
		_, err = d.cfg.serverState(ctx, conn)
	}
	if err == nil {
		return []doctor.Finding{{ID: id, Severity: doctor.OK, Found: "the replication protocol is spoken to role " + d.roleName}}
	}
	var fixes []doctor.Fix
	if pg := serverError(err); pg != nil {
		switch {
		case fault.Is(err, fault.PostgresPrivilege):
			fixes = []doctor.Fix{p.grantReplication(role)}
		case pg.Code == "28000":
			fixes = d.hbaFixes(pg.Message)
		}
	}
	return []doctor.Finding{doctor.FromFault(id, err, fixes...)}
}

// runSQL connects and makes all checks over SQL, one after the other.
func (d *diagnosis) runSQL(ctx context.Context) {
	const id = "postgres_connection"
	conn, err := d.cfg.connectSQL(ctx, nil)
	if err != nil {
		d.add(doctor.FromFault(id, err, d.loginFixes(err)...))
		d.skipFrom(0, id)
		return
	}
	d.conn = conn
	defer func() { _ = hangUp(conn) }() // nothing is at stake: it only read
	d.add(doctor.Finding{ID: id, Severity: doctor.OK, Found: fmt.Sprintf("logged in to database %s as %s", d.database, d.roleName)})
	d.checkProxy(ctx)
	for i, c := range checks() {
		if conn.IsClosed() {
			d.skipFrom(i, "the lost connection")
			return
		}
		one, cancel := context.WithTimeout(ctx, checkTimeout)
		err := c.run(d, one)
		cancel()
		if err != nil {
			d.add(doctor.FromFault(c.id, err))
		}
	}
}

// skipFrom tells of the checks that were not made.
func (d *diagnosis) skipFrom(i int, because string) {
	for _, c := range checks()[i:] {
		d.add(doctor.Skipped(c.id, because))
	}
}

func (d *diagnosis) add(f doctor.Finding) { d.found = append(d.found, f) }

// ok tells of something in order.
func (d *diagnosis) ok(id, format string, args ...any) {
	d.add(doctor.Finding{ID: id, Severity: doctor.OK, Found: fmt.Sprintf(format, args...)})
}

// loginFixes are for a login that was refused: nobody can tell from outside whether the role exists.
func (d *diagnosis) loginFixes(err error) []doctor.Fix {
	pg := serverError(err)
	switch {
	case fault.Is(err, fault.PostgresUnavailable) && fault.Of(err).Hint == "":
		return []doctor.Fix{{Kind: doctor.Advice, Do: "Check host and port in postgres.url, that Postgres listens on that address (listen_addresses), and the firewalls in between."}}
	case pg == nil:
		return nil
	case pg.Code == "28000" && len(d.hbaFixes(pg.Message)) > 0:
		return d.hbaFixes(pg.Message)
	case pg.Code == "28P01", pg.Code == "28000":
		return []doctor.Fix{
			d.platform.createRole(d.roleName, d.role),
			{Kind: doctor.Advice, Do: "If the role exists, the password is wrong: check postgres.password_file, PGPASSWORD or the passfile."},
		}
	case pg.Code == "42501": // CONNECT on the database
		database := pgx.Identifier{d.database}.Sanitize()
		return []doctor.Fix{{
			Kind: doctor.SQL, Step: doctor.StepRole,
			Do:   fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s;", database, d.role),
			Undo: fmt.Sprintf("REVOKE CONNECT ON DATABASE %s FROM %s;", database, d.role),
		}}
	}
	return nil
}

// checkProxy compares the process that greeted us with the one that answers.
func (d *diagnosis) checkProxy(ctx context.Context) {
	const id = "proxy"
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var pid uint32
	if err := d.conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		d.add(doctor.FromFault(id, explain("ask for the process", err)))
		return
	}
	if pid == d.conn.PgConn().PID() {
		d.ok(id, "nothing stands between walferry and Postgres that would show")
		return
	}
	d.add(doctor.Finding{
		ID: id, Severity: doctor.Warning,
		Found: "the connection was greeted by another process than the one that answers: a pooler or proxy stands in between",
		Why:   "poolers do not carry the replication protocol, and mix up sessions",
		Fixes: []doctor.Fix{{Kind: doctor.Advice, Do: "Point postgres.url at Postgres itself: another port, or the provider's direct endpoint."}},
	})
}

// needTables skips a check whose tables are not known.
func (d *diagnosis) needTables(id string) bool {
	if len(d.tables) == 0 {
		d.add(doctor.Skipped(id, "tables"))
		return true
	}
	return false
}
