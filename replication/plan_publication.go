package replication

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walferry/walferry/event"
)

const (
	sharedLock  = "SHARE UPDATE EXCLUSIVE on the table: reads and writes go on, VACUUM and DDL wait"
	cutOff      = "rows that are in it now, and changes from before, are not sent: they need a copy"
	leavesLater = "its changes are not sent from then on"
)

// entriesQuery reads what a publication names itself, as against what comes of it.
const entriesQuery = `
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, c.relispartition,
    coalesce((SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = c.oid AND c.relispartition), 0)::oid, %s
FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE r.prpubid = $1 ORDER BY 2, 3`

const entryLists = `
    coalesce((SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
     WHERE a.attrelid = c.oid AND a.attnum = ANY (r.prattrs::int2[])), '{}'), r.prattrs IS NOT NULL, coalesce(pg_get_expr(r.prqual, r.prrelid), '')`

func (w *planning) entries(ctx context.Context, p *publication) ([]member, error) {
	lists := "'{}'::text[], false, ''"
	if w.version >= listsVersion {
		lists = entryLists
	}
	rows, err := w.conn.Query(ctx, fmt.Sprintf(entriesQuery, lists), p.oid)
	if err != nil {
		return nil, explain("read the publication", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m member, err error) {
		err = row.Scan(&m.oid, &m.schema, &m.name, &m.kind, &m.persistence, &m.isPartition, &m.parent, &m.columns, &m.list, &m.filter)
		if !m.list {
			m.columns = nil
		}
		return m, err
	})
	return all, explain("read the publication", err)
}

// schemas are those that the publication holds as a whole.
func (w *planning) schemas(ctx context.Context, p *publication) ([]string, error) {
	var names []string
	if w.version < listsVersion {
		return nil, nil
	}
	err := w.conn.QueryRow(ctx, `SELECT coalesce(array_agg(n.nspname::text ORDER BY 1), '{}')
FROM pg_publication_namespace s JOIN pg_namespace n ON n.oid = s.pnnspid WHERE s.pnpubid = $1`, p.oid).Scan(&names)
	return names, explain("read the publication", err)
}

func (w *planning) comparePublication(ctx context.Context, p *publication) error {
	if p == nil {
		rows := "the first start begins with the changes after the slot is made; rows that are there now need a copy"
		sql := w.cfg.createSQL(w.tables)
		w.add(Change{
			Change: "+ publication " + event.QuoteName(w.cfg.Publication.Name) + " of " + w.cfg.what(w.tables), SQL: sql, Undo: w.drop(),
			Locks: "SHARE UPDATE EXCLUSIVE on the tables: reads and writes go on, VACUUM and DDL wait", Effect: "none", Rows: rows,
		})
		return w.tryAll(ctx)
	}
	entries, err := w.entries(ctx, p)
	if err != nil {
		return err
	}
	schemas, err := w.schemas(ctx, p)
	if err != nil {
		return err
	}
	if p.allTables != w.cfg.AllTables || len(schemas) > 0 && w.schemasDiffer(p) {
		return w.rebuild(ctx, p, entries, schemas)
	}
	w.compareOptions(p)
	if w.cfg.AllTables || len(schemas) > 0 {
		return nil
	}
	return w.compareEntries(ctx, p, entries)
}

func (w *planning) drop() string {
	return "DROP PUBLICATION " + pgx.Identifier{w.cfg.Publication.Name}.Sanitize() + ";"
}

// what names the configured tables for a person.
func (c Config) what(tables []dbTable) string {
	if c.AllTables {
		return "all tables"
	}
	return strings.Join(names(tables), ", ")
}

// schemasDiffer tells whether a publication of whole schemas holds other tables than configured, or lacks
// configured lists.
func (w *planning) schemasDiffer(p *publication) bool {
	captured, lacking, left := p.compare(w.cfg, w.tables)
	if len(lacking)+len(left) > 0 || len(captured) != len(p.members) {
		return true
	}
	differ, err := p.checkWanted(w.cfg, captured)
	return err != nil || len(differ) > 0
}

// rebuild drops the publication and makes it again, because it cannot be altered from all tables or whole
// schemas to named ones, or back.
func (w *planning) rebuild(ctx context.Context, p *publication, entries []member, schemas []string) error {
	var leave []string
	for _, m := range p.members {
		wanted := slices.ContainsFunc(w.tables, func(t dbTable) bool { return t.oid == m.oid || t.oid == m.parent })
		if !wanted && !w.cfg.AllTables && !w.cfg.captures(m.schema, m.name) {
			leave = append(leave, m.String())
		}
	}
	captured, _, _ := p.compare(w.cfg, w.tables)
	_, lists := p.checkWanted(w.cfg, captured)
	old := "named tables"
	switch {
	case p.allTables:
		old = "all tables"
	case len(schemas) > 0:
		old = "schemas " + strings.Join(schemas, ", ")
	}
	c := Change{
		Change:  fmt.Sprintf("~ publication %s: %s → %s", event.QuoteName(p.name), old, w.cfg.what(w.tables)),
		SQL:     w.drop() + "\n" + w.cfg.createSQL(w.tables),
		Undo:    w.drop() + "\n" + p.createSQL(entries, schemas),
		Locks:   sharedLock,
		Effect:  "it belongs to whoever runs this afterwards",
		Rows:    "none are missed: the stream sees either the one or the other",
		Narrows: len(leave) > 0 || lists != nil,
	}
	if len(leave) > 0 {
		c.Change += "\n- out of the stream: " + strings.Join(leave, ", ")
		c.Rows = "changes of what leaves are not sent from then on; none of the rest are missed"
	}
	w.add(c)
	return w.tryAll(ctx)
}

// createSQL is the statement that would make the publication as it is.
func (p *publication) createSQL(entries []member, schemas []string) string {
	var b strings.Builder
	b.WriteString("CREATE PUBLICATION " + pgx.Identifier{p.name}.Sanitize())
	var what []string
	if len(entries) > 0 {
		tables := make([]string, len(entries))
		for i, m := range entries {
			tables[i] = clause(m.dbTable, m.columns, m.filter)
		}
		what = append(what, "TABLE "+strings.Join(tables, ", "))
	}
	if len(schemas) > 0 {
		quoted := make([]string, len(schemas))
		for i, s := range schemas {
			quoted[i] = pgx.Identifier{s}.Sanitize()
		}
		what = append(what, "TABLES IN SCHEMA "+strings.Join(quoted, ", "))
	}
	if p.allTables {
		what = []string{"ALL TABLES"}
	}
	if len(what) > 0 {
		b.WriteString(" FOR " + strings.Join(what, ", "))
	}
	fmt.Fprintf(&b, " WITH (publish = '%s', publish_via_partition_root = %t", p.published(), p.viaRoot)
	if p.generated == "s" {
		b.WriteString(", publish_generated_columns = stored")
	}
	b.WriteString(");")
	return b.String()
}

// published lists the operations as WITH takes them.
func (p *publication) published() string {
	var on []string
	for _, o := range p.operations() {
		if o.on {
			on = append(on, o.name)
		}
	}
	return strings.Join(on, ", ")
}

func (w *planning) compareOptions(p *publication) {
	every := p.insert && p.update && p.deletes && p.truncate
	if !every {
		w.add(Change{
			Change: fmt.Sprintf("~ publication %s: %s → insert, update, delete, truncate", event.QuoteName(p.name), p.published()),
			SQL:    p.alter("SET (publish = 'insert, update, delete, truncate')"), Undo: p.alter("SET (publish = '" + p.published() + "')"),
			Locks: "none on tables", Effect: "from then on updates and deletes of published tables need a replica identity", Rows: "changes of the kinds that were left out, from before, are not sent",
		})
	}
	rooted := slices.ContainsFunc(w.tables, func(t dbTable) bool { return t.kind == kindPartitioned })
	if rooted && !p.viaRoot {
		w.add(Change{
			Change: fmt.Sprintf("~ publication %s: partitioned tables under their own name", event.QuoteName(p.name)),
			SQL:    p.alter("SET (publish_via_partition_root = true)"), Undo: p.alter("SET (publish_via_partition_root = false)"),
			Locks: "none on tables", Effect: "none", Rows: "none are missed; from then on they come under the name of the partitioned table",
		})
	}
}

// compareEntries compares table by table.
func (w *planning) compareEntries(ctx context.Context, p *publication, entries []member) error {
	parents := map[uint32]bool{}
	for _, t := range w.tables {
		parents[t.oid] = true
		at := slices.IndexFunc(entries, func(m member) bool { return m.oid == t.oid })
		var err error
		if at < 0 {
			err = w.addTable(ctx, p, t)
		} else {
			err = w.compareEntry(ctx, p, entries[at])
		}
		if err != nil {
			return err
		}
	}
	for _, m := range entries {
		if !w.cfg.captures(m.schema, m.name) && !parents[m.parent] {
			w.add(Change{
				Change: "- table " + m.String() + " leaves the stream", SQL: p.alter("DROP TABLE ONLY " + m.sql()), Undo: p.alter("ADD TABLE " + clause(m.dbTable, m.columns, m.filter)),
				Locks: sharedLock, Effect: "other readers of this publication lose it, too", Rows: leavesLater, Narrows: true,
			})
		}
	}
	return nil
}

func (w *planning) addTable(ctx context.Context, p *publication, t dbTable) error {
	s := w.cfg.entry(t)
	w.add(Change{
		Change: "+ table " + t.String() + " is published" + ofLists(s), SQL: p.alter("ADD TABLE " + clause(t, s.Columns, s.Where)), Undo: p.alter("DROP TABLE ONLY " + t.sql()),
		Locks: sharedLock, Effect: "none", Rows: cutOff,
	})
	_, err := w.try(ctx, t, s)
	return err
}

func ofLists(s TableSpec) string {
	var text string
	if s.Columns != nil {
		text = ": columns " + strings.Join(s.Columns, ", ")
	}
	if s.Where != "" {
		text += ": rows where " + s.Where
	}
	return text
}

// compareEntry compares the lists of a table that is in the publication.
func (w *planning) compareEntry(ctx context.Context, p *publication, m member) error {
	s := w.cfg.entry(m.dbTable)
	columns, where := m.columns, m.filter
	c := Change{Change: "~ table " + m.String(), Locks: sharedLock, Effect: "none"}
	var said, rows []string
	if s.Columns != nil && !sameColumns(s.Columns, m.columns) {
		was := "all columns"
		if m.list {
			was = "columns " + strings.Join(m.columns, ", ")
		}
		columns = s.Columns
		said = append(said, was+" → columns "+strings.Join(columns, ", "))
		rows = append(rows, "columns that come in arrive with the next change of each row")
		c.Narrows = !m.list || slices.ContainsFunc(m.columns, func(name string) bool { return !slices.Contains(columns, name) })
	}
	if s.Where != "" {
		printed, err := w.try(ctx, m.dbTable, s)
		if err != nil {
			return err
		}
		same := printed == m.filter
		if printed == "" {
			same = sameFilter(s.Where, m.filter)
		}
		if !same {
			was := "all rows"
			if m.filter != "" {
				was = "rows where " + m.filter
			}
			where, c.Narrows = s.Where, true
			said = append(said, was+" → rows where "+where)
			rows = append(rows, "rows that only now come in or fall out are told with their next change")
		}
	}
	if len(said) == 0 {
		return nil
	}
	out := p.alter("DROP TABLE ONLY " + m.sql())
	c.Change += ": " + strings.Join(said, "; ")
	c.SQL, c.Undo = out+"\n"+p.alter("ADD TABLE "+clause(m.dbTable, columns, where)), out+"\n"+p.alter("ADD TABLE "+clause(m.dbTable, m.columns, m.filter))
	c.Rows = "none are missed; " + strings.Join(rows, "; ")
	w.add(c)
	return nil
}

// tryAll tries the filters and columns of all tables, so that a plan does not fail where it is applied.
func (w *planning) tryAll(ctx context.Context) error {
	for _, t := range w.tables {
		if _, err := w.try(ctx, t, w.cfg.entry(t)); err != nil {
			return err
		}
	}
	return nil
}

// try has the server make a publication of one table with the configured lists, and returns the filter as
// the server prints it; "" where there is none or it cannot be tried. Nothing of it stays.
func (w *planning) try(ctx context.Context, t dbTable, s TableSpec) (printed string, err error) {
	if s.Columns == nil && s.Where == "" {
		return "", nil
	}
	sub, err := w.tx.Begin(ctx) // a savepoint
	if err != nil {
		return "", explain("try a publication", err)
	}
	defer func() { err = firstOf(err, explain("try a publication", sub.Rollback(ctx))) }()
	const name = "walferry_plan_tries_this"
	sql := "CREATE PUBLICATION " + name + " FOR TABLE " + clause(t, s.Columns, s.Where) + " WITH (publish_via_partition_root = true);"
	if err := execOne(ctx, w.conn, sql); err != nil {
		if pg := serverError(err); pg != nil && pg.Code == "42501" {
			w.plan.Notes = append(w.plan.Notes, fmt.Sprintf("%s: columns and where could not be tried, because the role may not make a publication; filters are compared as texts", t))
			return "", nil
		}
		if pg := serverError(err); pg != nil && !strings.HasPrefix(pg.Code, "57") && pg.Code != "55P03" {
			w.plan.Problems = append(w.plan.Problems, fmt.Sprintf("%s: columns or where: %s %s", t, pg.Message, pg.Detail))
			return "", nil
		}
		return "", explain("try a publication", err)
	}
	p, err := readPublication(ctx, w.conn, name, w.version)
	if err != nil || len(p.members) == 0 {
		return "", err
	}
	of, err := p.filterColumns(ctx, w.conn, w.version)
	if err != nil {
		return "", err
	}
	for _, m := range p.members {
		var ids []identity
		for _, id := range w.ids {
			if id.root == m.oid && !w.mending[id.oid] { // else the result is looked at before it is committed
				ids = append(ids, id)
			}
		}
		if err := p.checkColumns([]member{m}, ids); err != nil {
			w.problem(err)
		} else if err := checkFilter(m, of[m.oid], ids); err != nil {
			w.problem(err)
		}
		printed = m.filter
	}
	return printed, nil
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
