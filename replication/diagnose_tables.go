package replication

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/doctor"
)

func (d *diagnosis) checkTables(ctx context.Context) error {
	const id = "tables"
	var err error
	if d.all, err = listTables(ctx, d.conn); err != nil {
		return err
	}
	tables, empty, err := d.cfg.expand(d.all)
	if err != nil {
		return err
	}
	d.tables = tables
	if err := d.cfg.checkLists(d.version); err != nil {
		return err
	}
	for _, pattern := range empty {
		d.add(doctor.Finding{
			ID: id, Severity: doctor.Warning, Subject: pattern, Found: "no table fits it", Why: "it is probably misspelled",
			Fixes: []doctor.Fix{{Kind: doctor.Advice, Do: "Check postgres.tables: an underscore or a star inside of quotes is part of the name."}},
		})
	}
	d.ok(id, "%d of this database are configured", len(tables))
	var left []string
	for _, t := range d.all {
		if !t.publishable() && t.kind != "v" && t.kind != "m" && !t.isPartition && d.cfg.captures(t.schema, t.name) {
			left = append(left, t.String())
		}
	}
	d.addNotLogged(left)
	return nil
}

// addNotLogged tells of tables that fit, and whose changes are not in the WAL.
func (d *diagnosis) addNotLogged(tables []string) {
	for _, name := range tables {
		d.add(doctor.Finding{
			ID: "tables_not_logged", Severity: doctor.Warning, Subject: name, Found: "it is unlogged or foreign",
			Why:   "its changes are not in the WAL, and so are not sent",
			Fixes: []doctor.Fix{{Kind: doctor.Advice, Do: "An unlogged table becomes an ordinary one by ALTER TABLE … SET LOGGED, which writes the whole table to the WAL under an exclusive lock."}},
		})
	}
}

func (d *diagnosis) checkPublication(ctx context.Context) error {
	const id = "publication"
	if d.needTables(id) {
		return nil
	}
	var err error
	if d.publication, err = readPublication(ctx, d.conn, d.cfg.Publication.Name, d.version); err != nil {
		return err
	}
	for _, t := range d.tables {
		d.captured = append(d.captured, member{dbTable: t})
	}
	if d.publication == nil {
		return d.missingPublication(ctx)
	}
	p := d.publication
	d.ok(id, "publication %s holds %d tables", p.name, len(p.members))
	d.checkPublicationOptions(p)
	captured, lacking, left := p.compare(d.cfg, d.tables)
	if len(lacking)+len(left) == 0 {
		d.ok("publication_tables", "all configured tables are in it")
	}
	for _, t := range lacking {
		d.add(p.lackFinding(d.cfg, t, doctor.Error))
	}
	for _, t := range left {
		d.add(p.lackFinding(d.cfg, t, doctor.Warning))
	}
	if len(captured) > 0 {
		d.captured = captured
		for _, t := range lacking {
			d.captured = append(d.captured, member{dbTable: t})
		}
	}
	d.checkExtra(p)
	return nil
}

// missingPublication says how it comes about: by the first start, where the role may, or by a person.
func (d *diagnosis) missingPublication(ctx context.Context) error {
	const id = "publication"
	name, sql := event.QuoteName(d.cfg.Publication.Name), d.cfg.createSQL(d.tables)
	if d.cfg.Publication.Create {
		may, err := d.mayPublish(ctx)
		if err != nil {
			return err
		}
		if may {
			d.ok(id, "publication %s does not exist: the first start makes it", name)
			return nil
		}
	}
	note := "takes a SHARE UPDATE EXCLUSIVE lock on the tables: reads and writes go on"
	if d.cfg.AllTables {
		note = "only a superuser may publish all tables"
	}
	d.add(doctor.Finding{
		ID: id, Severity: doctor.Error, Code: fault.PublicationMissing, Found: fmt.Sprintf("publication %s does not exist, and role %s may not make it", name, d.roleName),
		Why: "it says which changes the server sends; it must be there before the slot is",
		Fixes: []doctor.Fix{{
			Kind: doctor.SQL, Step: doctor.StepPublication, Do: sql, Note: note,
			Undo: "DROP PUBLICATION " + pgx.Identifier{d.cfg.Publication.Name}.Sanitize() + ";",
		}},
	})
	return nil
}

// mayPublish tells whether the role may make the publication: it must own the tables, and may create in
// the database.
func (d *diagnosis) mayPublish(ctx context.Context) (bool, error) {
	oids := make([]uint32, len(d.tables))
	for i, t := range d.tables {
		oids[i] = t.oid
	}
	var super, create, owns bool
	err := d.conn.QueryRow(ctx, `
SELECT r.rolsuper, has_database_privilege(current_database(), 'CREATE'),
    NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = ANY ($1::oid[]) AND NOT pg_has_role(c.relowner, 'USAGE'))
FROM pg_roles r WHERE r.rolname = current_user`, oids).Scan(&super, &create, &owns)
	if err != nil {
		return false, explain("read the role's rights", err)
	}
	return super || create && owns && !d.cfg.AllTables, nil
}

func (d *diagnosis) checkPublicationOptions(p *publication) {
	const id = "publication_options"
	err := p.checkOptions(d.tables)
	if err == nil {
		d.ok(id, "every kind of change is published")
		return
	}
	// Both options at once: the first that is wrong would hide the second.
	var was []string
	for _, o := range p.operations() {
		if o.on {
			was = append(was, o.name)
		}
	}
	f := doctor.FromFault(id, err, doctor.Fix{
		Kind: doctor.SQL, Step: doctor.StepPublication,
		Do:   p.alter("SET (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)"),
		Undo: p.alter(fmt.Sprintf("SET (publish = '%s', publish_via_partition_root = %t)", strings.Join(was, ", "), p.viaRoot)),
		Note: "other readers of this publication see it, too",
	})
	d.add(f)
}

// lackFinding is of one table that is configured and not published.
func (p *publication) lackFinding(c Config, t dbTable, severity doctor.Severity) doctor.Finding {
	f := doctor.Finding{
		ID: "publication_tables", Severity: severity, Subject: t.String(), Found: "publication " + event.QuoteName(p.name) + " does not hold it",
		Why: "its changes are not sent, and those from before it is added never will be",
		Fixes: []doctor.Fix{{
			Kind: doctor.SQL, Step: doctor.StepPublication, Do: p.alter("ADD TABLE " + c.clauses([]dbTable{t})), Undo: p.alter("DROP TABLE " + tableList([]dbTable{t})),
			Note: "takes a SHARE UPDATE EXCLUSIVE lock on the table: reads and writes go on",
		}},
	}
	if severity == doctor.Error {
		f.Code = fault.PublicationLacksTable
	}
	if t.isPartition && p.viaRoot {
		f.Fixes = []doctor.Fix{{Kind: doctor.Advice, Do: "It is a partition: where its root is published, configure that one instead."}}
	}
	return f
}

// checkExtra tells of published tables that nobody asked for.
func (d *diagnosis) checkExtra(p *publication) {
	const id = "publication_extra"
	var extra []dbTable
	for _, m := range p.members {
		if !d.cfg.captures(m.schema, m.name) {
			extra = append(extra, m.dbTable)
		}
	}
	if len(extra) == 0 {
		d.ok(id, "no other table is in it")
		return
	}
	f := doctor.Finding{
		ID: id, Severity: doctor.Warning, Found: "published and not configured: " + strings.Join(names(extra), ", "),
		Why: "their changes are decoded and sent by the server, and dropped here",
	}
	if !p.allTables {
		f.Fixes = []doctor.Fix{{
			Kind: doctor.SQL, Step: doctor.StepPublication, Do: p.alter("DROP TABLE " + tableList(extra)), Undo: p.alter("ADD TABLE " + tableList(extra)),
			Note: "if no other reader needs them: changes while they are out are not in the stream",
		}}
	}
	d.add(f)
}

func (d *diagnosis) checkIdentities(ctx context.Context) error {
	const id = "replica_identity"
	if d.needTables(id) {
		return nil
	}
	var err error
	if d.ids, err = identities(ctx, d.conn, plain(d.captured)); err != nil {
		return err
	}
	d.addNotLogged(unlogged(d.ids))
	sent := func(uint32, string) bool { return false }
	if d.publication != nil {
		sent = d.publication.sends
	}
	bad := flaws(d.ids, d.version, sent)
	for _, f := range bad {
		d.add(d.identityFinding(f))
	}
	if len(bad) == 0 {
		d.ok(id, "updates and deletes of all %d tables can be told", len(d.ids))
	}
	if d.publication == nil {
		d.checkConfiguredLists()
		return nil
	}
	published := slices.DeleteFunc(slices.Clone(d.captured), func(m member) bool { return m.columns == nil })
	if err := d.cfg.checkKeys(published, d.ids); err != nil {
		d.add(doctor.FromFault("record_key", err))
	}
	d.checkLists(published)
	if _, err := d.publication.checkWanted(d.cfg, published); err != nil {
		d.add(doctor.FromFault("publication_columns", err))
	}
	return d.checkFilters(ctx, published)
}

// identityFinding is of one table whose updates and deletes would fail.
func (d *diagnosis) identityFinding(f flaw) doctor.Finding {
	at := slices.IndexFunc(d.ids, func(id identity) bool { return id.oid == f.table.oid })
	id := d.ids[at]
	fix := doctor.Fix{
		Kind: doctor.SQL, Step: doctor.StepTable, Do: f.sql, Undo: id.asIs(),
		Note: "takes an ACCESS EXCLUSIVE lock on the table for a moment, and rewrites nothing",
	}
	switch {
	case strings.HasPrefix(f.sql, "--"):
		fix = doctor.Fix{Kind: doctor.Advice, Do: strings.TrimPrefix(f.sql, "-- ")}
	case strings.HasSuffix(f.sql, " FULL;"):
		fix.Note += "; FULL writes the whole old row of each update and delete to the WAL: a primary key is cheaper"
	}
	return doctor.Finding{
		ID: "replica_identity", Severity: doctor.Error, Subject: f.table.String(), Code: fault.TableIdentity, Found: f.reason,
		Why: "once it is published, the application's updates and deletes of it fail or come without a key", Fixes: []doctor.Fix{fix},
	}
}

// asIs is the SQL that brings the identity of now back, "" where that cannot be.
func (id identity) asIs() string {
	switch id.letter {
	case event.IdentityDefault:
		return id.alter("DEFAULT")
	case event.IdentityNothing:
		return id.alter("NOTHING")
	case event.IdentityFull:
		return id.alter("FULL")
	case event.IdentityIndex: // the index's name is not known here
	}
	return ""
}

// checkConfiguredLists looks at the columns that the publication would have.
func (d *diagnosis) checkConfiguredLists() {
	p := &publication{name: d.cfg.Publication.Name}
	for _, m := range d.captured {
		if m.columns = d.cfg.entry(m.dbTable).Columns; m.columns == nil {
			continue
		}
		m.list = true
		if err := p.checkColumns([]member{m}, d.ids); err != nil {
			d.add(doctor.FromFault("publication_columns", err, doctor.Fix{Kind: doctor.Advice, Do: "Add the column to the columns of the table in postgres.tables."}))
		}
	}
}

// checkLists looks at the column lists table by table.
func (d *diagnosis) checkLists(published []member) {
	const id = "publication_columns"
	lists, bad := 0, 0
	for _, m := range published {
		if !m.list {
			continue
		}
		lists++
		if err := d.publication.checkColumns([]member{m}, d.ids); err != nil {
			bad++
			d.add(doctor.FromFault(id, err, d.relist(m)))
		}
	}
	switch {
	case lists == 0:
		d.ok(id, "no table has a column list")
	case bad == 0:
		d.ok(id, "%d tables have a column list, each with its replica identity", lists)
	}
}

// relist adds what the list lacks. There is no ALTER for one table's list: it is taken out and added
// again, which within one transaction nobody sees.
func (d *diagnosis) relist(m member) doctor.Fix {
	full := slices.Clone(m.columns)
	for _, id := range d.ids {
		if id.root != m.oid {
			continue
		}
		for _, c := range slices.Concat(id.columns, id.keyColumns()) {
			if !slices.Contains(full, c) {
				full = append(full, c)
			}
		}
	}
	out := d.publication.alter("DROP TABLE " + tableList([]dbTable{m.dbTable}))
	return doctor.Fix{
		Kind: doctor.SQL, Step: doctor.StepPublication,
		Do:   out + "\n" + d.publication.alter("ADD TABLE "+clause(m.dbTable, full, m.filter)),
		Undo: out + "\n" + d.publication.alter("ADD TABLE "+clause(m.dbTable, m.columns, m.filter)),
		Note: "in one transaction, so that nothing is missed",
	}
}

// checkFilters looks at row filters: Postgres refuses updates and deletes of a table whose filter has
// columns that are not in the replica identity.
func (d *diagnosis) checkFilters(ctx context.Context, published []member) error {
	const id = "publication_filter"
	of, err := d.publication.filterColumns(ctx, d.conn, d.version)
	if err != nil {
		return err
	}
	for _, m := range published {
		if m.filter != "" {
			d.addFilter(id, m, of[m.oid])
		}
	}
	return nil
}

func (d *diagnosis) addFilter(name string, m member, columns []string) {
	err := checkFilter(m, columns, d.ids)
	if err == nil {
		d.add(doctor.Finding{ID: name, Severity: doctor.OK, Subject: m.String(), Found: "only rows that fit are sent: " + m.filter})
		return
	}
	place := fault.Of(err).Table
	id := d.ids[slices.IndexFunc(d.ids, func(id identity) bool { return id.String() == place })]
	d.add(doctor.FromFault(name, err, doctor.Fix{
		Kind: doctor.SQL, Step: doctor.StepTable, Do: id.alter("FULL"), Undo: id.asIs(),
		Note: "takes an ACCESS EXCLUSIVE lock on the table for a moment; FULL writes the whole old row of each update and delete to the WAL",
	}))
}

// natural are types whose text form is what one would expect of JSON.
var natural = []string{"text", "varchar", "bpchar", "char", "name", "uuid", "citext"}

// checkTypes names the columns whose values are sent as Postgres prints them.
func (d *diagnosis) checkTypes(ctx context.Context) error {
	const id = "types_as_text"
	if d.needTables(id) {
		return nil
	}
	cat := newCatalog(d.cfg)
	defer cat.close()
	if d.publication == nil {
		all, err := readColumns(ctx, d.conn, d.captured)
		if err != nil {
			return err
		}
		for i := range d.captured {
			for _, c := range all[d.captured[i].oid] {
				d.captured[i].columns = append(d.captured[i].columns, c.name)
			}
		}
	}
	tables, err := describe(ctx, d.conn, cat, d.captured, d.ids)
	if err != nil {
		return err
	}
	d.described = tables
	enums, err := d.enums(ctx)
	if err != nil {
		return err
	}
	var said []string
	for _, t := range tables {
		for i := range t.Columns {
			typ := t.Columns[i].Type.Basic()
			for typ.Kind == event.KindArray {
				typ = typ.Elem.Basic()
			}
			if typ.Kind == event.KindText && !slices.Contains(natural, typ.Name) && !slices.Contains(enums, typ.OID) {
				said = append(said, fmt.Sprintf("%s.%s (%s)", t, event.QuoteName(t.Columns[i].Name), typ.Name))
			}
		}
	}
	if len(said) == 0 {
		d.ok(id, "every column has a form of its own in JSON")
	} else {
		d.ok(id, "sent as Postgres prints them: %s", strings.Join(said, ", "))
	}
	return nil
}

// enums are the types whose values are words.
func (d *diagnosis) enums(ctx context.Context) ([]uint32, error) {
	var oids []uint32
	if err := d.conn.QueryRow(ctx, "SELECT coalesce(array_agg(oid), '{}') FROM pg_type WHERE typtype = 'e'").Scan(&oids); err != nil {
		return nil, explain("read the enum types", err)
	}
	return oids, nil
}
