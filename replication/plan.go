package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// Change is one difference between configuration and database, and the SQL that ends it.
type Change struct {
	// Change says what differs: + for what is added, - for what leaves, ~ for what changes.
	Change string `json:"change"`
	SQL    string `json:"sql"`
	Undo   string `json:"undo"`
	// Locks, Effect and Rows say what the SQL locks, what it does to applications that run, and which rows
	// are missed.
	Locks  string `json:"locks"`
	Effect string `json:"effect"`
	Rows   string `json:"rows"`
	// Narrows tells that something leaves the stream.
	Narrows bool `json:"narrows"`
}

// Plan is every difference, in the order in which the SQL has to be run.
type Plan struct {
	Database string   `json:"database"`
	Changes  []Change `json:"changes"`
	// Problems are what no SQL of ours mends: with any of them nothing is applied.
	Problems []string `json:"problems"`
	// Notes are what could not be told for sure.
	Notes []string `json:"notes,omitempty"`
}

// SQL is the plan as a script, "" where there is nothing to do.
func (p Plan) SQL() string {
	if len(p.Changes) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "-- In database %s, as a superuser or as the owner of the tables. Undo: see the end.\n", remark(p.Database))
	b.WriteString("BEGIN;\nSET LOCAL lock_timeout = '5s';\n")
	for _, c := range p.Changes {
		fmt.Fprintf(&b, "\n-- %s\n-- locks:  %s\n-- effect: %s\n-- rows:   %s\n%s\n", remark(c.Change), c.Locks, c.Effect, c.Rows, c.SQL)
	}
	b.WriteString("\nCOMMIT;\n\n-- Undo:\n")
	for _, c := range slices.Backward(p.Changes) {
		fmt.Fprintf(&b, "-- %s\n", remark(c.Undo))
	}
	return b.String()
}

// remark keeps every line of a text within a comment.
func remark(text string) string { return strings.ReplaceAll(text, "\n", "\n-- ") }

// Narrows tells whether anything leaves the stream.
func (p Plan) Narrows() bool {
	return slices.ContainsFunc(p.Changes, func(c Change) bool { return c.Narrows })
}

// Planner compares a configuration with its database, and makes them agree. Role is the one that the
// pipeline logs in as; Config may log in as another one.
type Planner struct {
	Config Config
	Role   string
}

// Plan compares. It changes nothing: filters are tried in a transaction that is rolled back.
func (p Planner) Plan(ctx context.Context) (Plan, error) {
	var plan Plan
	err := p.within(ctx, func(w *planning) error {
		var err error
		plan, err = w.compare(ctx)
		return errors.Join(err, errLookOnly)
	})
	if errors.Is(err, errLookOnly) && fault.Of(err) == nil {
		err = nil
	}
	return plan, err
}

// errLookOnly has a transaction rolled back that only looked.
var errLookOnly = errors.New("only looked")

// Apply compares and makes the changes, in one transaction that waits five seconds at most for a lock. It
// refuses what takes something out of the stream unless narrow is set, and what would break an
// application. After an error nothing has changed.
func (p Planner) Apply(ctx context.Context, narrow bool) (Plan, error) {
	const op = "apply the plan"
	var plan Plan
	err := p.within(ctx, func(w *planning) error {
		var err error
		if plan, err = w.compare(ctx); err != nil {
			return err
		}
		switch {
		case len(plan.Problems) > 0:
			return fault.New(fault.PublicationOptions, op, errors.New(strings.Join(plan.Problems, "; ")), "Nothing was changed.")
		case plan.Narrows() && !narrow:
			return fault.New(fault.PublicationOptions, op, errors.New("it would take something out of the stream"), "walferry plan shows what. If that is meant, add --narrow.")
		}
		for _, c := range plan.Changes {
			for _, sql := range c.statements() {
				if err := execOne(ctx, w.conn, sql); err != nil {
					return explainApply(op, c, err)
				}
			}
		}
		return w.verify(ctx)
	})
	return plan, err
}

// statements are the single ones of a change: a semicolon at the end of a line ends one, but within a DO block.
func (c Change) statements() []string {
	var all []string
	var b strings.Builder
	inside := false
	for line := range strings.Lines(c.SQL) {
		b.WriteString(line)
		inside = inside != (strings.Count(line, "$do$") == 1)
		if !inside && strings.HasSuffix(strings.TrimSpace(line), ";") {
			all = append(all, b.String())
			b.Reset()
		}
	}
	return all
}

func explainApply(op string, c Change, err error) error {
	if pg := serverError(err); pg != nil {
		switch pg.Code {
		case "42501":
			return fault.New(fault.PostgresPrivilege, op, err, "Log in as somebody who may (--as), or hand the SQL to them (walferry plan --out plan.sql):\n"+c.SQL)
		case "55P03":
			return fault.New(fault.PostgresUnavailable, op, err, "Another session holds a lock on the table. Nothing was changed; try again.")
		}
	}
	return explain(op, err)
}

// planning is one comparison, within a transaction of conn.
type planning struct {
	cfg     Config
	role    string
	conn    *pgx.Conn
	tx      pgx.Tx // of conn
	version int

	tables []dbTable
	ids    []identity
	// mending are the tables whose replica identity the plan changes.
	mending map[uint32]bool
	plan    Plan
}

func (p Planner) within(ctx context.Context, f func(*planning) error) error {
	conn, err := p.Config.connectSQL(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = hangUp(conn) }() // a transaction that is left open ends with it
	w := &planning{cfg: p.Config, role: p.Role, conn: conn, mending: map[uint32]bool{}}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		w.tx = tx
		if _, err := conn.Exec(ctx, "SET LOCAL lock_timeout = '5s'"); err != nil {
			return explain("set the lock timeout", err)
		}
		return f(w)
	})
}

func (w *planning) add(c Change) { w.plan.Changes = append(w.plan.Changes, c) }

func (w *planning) problem(err error) {
	text := err.Error()
	if e := fault.Of(err); e != nil && e.Err != nil {
		if text = e.Err.Error(); e.Table != "" {
			text = e.Table + ": " + text
		}
	}
	w.plan.Problems = append(w.plan.Problems, text)
}

// compare finds every difference.
func (w *planning) compare(ctx context.Context) (Plan, error) {
	var err error
	if w.version, err = sqlVersion(ctx, w.conn); err != nil {
		return Plan{}, err
	}
	if err := w.conn.QueryRow(ctx, "SELECT current_database()").Scan(&w.plan.Database); err != nil {
		return Plan{}, explain("compare the publication", err)
	}
	all, err := listTables(ctx, w.conn)
	if err != nil {
		return Plan{}, err
	}
	if w.tables, _, err = w.cfg.expand(all); err != nil {
		return Plan{}, err
	}
	if err := w.cfg.checkLists(w.version); err != nil {
		return Plan{}, err
	}
	p, err := readPublication(ctx, w.conn, w.cfg.Publication.Name, w.version)
	if err != nil {
		return Plan{}, err
	}
	for _, compare := range []func(context.Context, *publication) error{w.compareRole, w.compareIdentities, w.comparePublication} {
		if err := compare(ctx, p); err != nil {
			return Plan{}, err
		}
	}
	return w.plan, nil
}

func (w *planning) compareRole(ctx context.Context, _ *publication) error {
	if w.role == "" {
		return nil
	}
	on := selfHosted
	var there, may bool
	var roles []string
	err := w.conn.QueryRow(ctx, `
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1),
    EXISTS (SELECT FROM pg_roles r WHERE rolname = $1 AND (rolsuper OR rolreplication
        OR EXISTS (SELECT FROM pg_roles g WHERE g.rolname = 'rds_replication' AND pg_has_role(r.oid, g.oid, 'MEMBER')))),
    (SELECT array_agg(rolname::text) FROM pg_roles)`, w.role).Scan(&there, &may, &roles)
	if err != nil {
		return explain("compare the role", err)
	}
	for _, p := range providers {
		if slices.Contains(roles, p.role) {
			on = p.platform
		}
	}
	quoted := pgx.Identifier{w.role}.Sanitize()
	c := Change{Locks: "none", Effect: "none", Rows: "none"}
	switch {
	case !there:
		fix := on.createRole(w.role, quoted)
		c.Change, c.SQL, c.Undo = "+ role "+quoted+", which may read the stream (give it a password: \\password "+quoted+")", fix.Do, "DROP ROLE "+quoted+";"
	case !may:
		fix := on.grantReplication(quoted)
		c.Change, c.SQL, c.Undo = "+ role "+quoted+" may read the stream", fix.Do, fix.Undo
	default:
		return nil
	}
	w.add(c)
	return nil
}

// compareIdentities looks at what is published or will be.
func (w *planning) compareIdentities(ctx context.Context, p *publication) error {
	captured := slices.Clone(w.tables)
	sent := func(uint32, string) bool { return false }
	if p != nil {
		sent = p.sends
		members, _, _ := p.compare(w.cfg, nil)
		for _, m := range members {
			if !slices.ContainsFunc(captured, func(t dbTable) bool { return t.oid == m.oid }) && !m.isPartition {
				captured = append(captured, m.dbTable)
			}
		}
	}
	var err error
	if w.ids, err = identities(ctx, w.conn, captured); err != nil {
		return err
	}
	for _, f := range flaws(w.ids, w.version, sent) {
		if strings.HasPrefix(f.sql, "--") {
			w.plan.Problems = append(w.plan.Problems, fmt.Sprintf("%s: %s. %s", f.table, f.reason, strings.TrimPrefix(f.sql, "-- ")))
			continue
		}
		w.mending[f.table.oid] = true
		id := w.ids[slices.IndexFunc(w.ids, func(id identity) bool { return id.oid == f.table.oid })]
		c := Change{
			Change: fmt.Sprintf("~ table %s: a replica identity, because %s", f.table, f.reason), SQL: f.sql, Undo: id.asIs(),
			Locks: "ACCESS EXCLUSIVE on the table, for a moment", Effect: "none", Rows: "none",
		}
		if strings.HasSuffix(f.sql, " FULL;") {
			c.Effect = "the whole old row of each update and delete is written to the WAL"
		}
		w.add(c)
	}
	return nil
}

// verify looks at the result as a start would.
func (w *planning) verify(ctx context.Context) error {
	p, err := readPublication(ctx, w.conn, w.cfg.Publication.Name, w.version)
	if err != nil {
		return err
	}
	if p == nil {
		return fault.New(fault.Internal, "verify the plan", fmt.Errorf("publication %s is not there", event.QuoteName(w.cfg.Publication.Name)), "")
	}
	if _, left, err := p.check(w.cfg, w.tables); err != nil {
		return err
	} else if len(left) > 0 {
		return fault.New(fault.Internal, "verify the plan", fmt.Errorf("%s is not published", left[0]), "")
	}
	return w.cfg.harmless(ctx, w.conn, p, w.version)
}
