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

// publication is what the catalog says of the configured publication.
type publication struct {
	oid       uint32
	name      string
	allTables bool
	insert    bool
	update    bool
	deletes   bool
	truncate  bool
	viaRoot   bool
	generated string   // from 18: "n" for none, "s" for stored columns; "n" before
	members   []member // by name
}

// member is a table that the publication holds, as the stream will name it: with viaRoot the root
// of a partitioned table, else its leaves.
type member struct {
	dbTable
	columns []string // the published columns, by column number
	// list is set where the publication names the columns; filter is its row filter, "" for none.
	list   bool
	filter string
}

const publicationQuery = `
SELECT oid, puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot, %s
FROM pg_publication WHERE pubname = $1`

// From 15 on the view tells columns and filters. Generated columns are in it only where they are
// published, from 18 on; before that they never are.
const membersQuery = `
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, c.relispartition,
    (SELECT coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{}') FROM pg_attribute a
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND %s), %s
FROM pg_publication_tables t
JOIN pg_namespace n ON n.nspname = t.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
LEFT JOIN pg_publication_rel r ON r.prpubid = $2 AND r.prrelid = c.oid
WHERE t.pubname = $1
ORDER BY 2, 3`

// membersSQL returns membersQuery for a server.
func membersSQL(version int) string {
	switch {
	case version >= 180000:
		return fmt.Sprintf(membersQuery, `a.attname = ANY (t.attnames)`, `r.prattrs IS NOT NULL, coalesce(t.rowfilter, '')`)
	case version >= 150000:
		return fmt.Sprintf(membersQuery, `a.attname = ANY (t.attnames) AND a.attgenerated = ''`, `r.prattrs IS NOT NULL, coalesce(t.rowfilter, '')`)
	default:
		return fmt.Sprintf(membersQuery, `a.attgenerated = ''`, `false, ''`)
	}
}

// readPublication returns the publication, nil where it does not exist.
func readPublication(ctx context.Context, conn *pgx.Conn, name string, version int) (*publication, error) {
	const op = "read the publication"
	generated := "'n'"
	if version >= 180000 {
		generated = "pubgencols::text"
	}
	p := &publication{name: name}
	err := conn.QueryRow(ctx, fmt.Sprintf(publicationQuery, generated), name).
		Scan(&p.oid, &p.allTables, &p.insert, &p.update, &p.deletes, &p.truncate, &p.viaRoot, &p.generated)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(op, err)
	}
	rows, err := conn.Query(ctx, membersSQL(version), name, p.oid)
	if err == nil {
		p.members, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (m member, err error) {
			err = row.Scan(&m.oid, &m.schema, &m.name, &m.kind, &m.persistence, &m.isPartition, &m.columns, &m.list, &m.filter)
			return m, err
		})
	}
	if err != nil {
		return nil, explain(op, err)
	}
	return p, nil
}

// createSQL is the statement that makes the publication.
func (c Config) createSQL(tables []dbTable) string {
	var b strings.Builder
	b.WriteString("CREATE PUBLICATION " + pgx.Identifier{c.Publication.Name}.Sanitize())
	if c.AllTables {
		b.WriteString(" FOR ALL TABLES")
	} else {
		b.WriteString(" FOR TABLE " + c.clauses(tables))
	}
	b.WriteString(" WITH (publish_via_partition_root = true);")
	return b.String()
}

// tableList names tables as CREATE and ALTER PUBLICATION take them.
func tableList(tables []dbTable) string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = "ONLY " + t.sql()
	}
	return strings.Join(names, ", ")
}

// check holds an existing publication against the configuration. tables are what the configuration
// means by the catalog of now. It returns the members that are captured, and the tables that fit a
// pattern but are not in the publication.
func (p *publication) check(c Config, tables []dbTable) (captured []member, left []dbTable, err error) {
	if err := p.checkOptions(tables); err != nil {
		return nil, nil, err
	}
	captured, lacking, left := p.compare(c, tables)
	if len(lacking) > 0 {
		return nil, nil, p.lacks(c, lacking)
	}
	if len(captured) == 0 {
		return nil, nil, p.lacks(c, left)
	}
	return captured, left, nil
}

// compare returns the members that are captured, the tables that are named but not in the publication
// (lacking), and those that only fit a pattern and are not in it (left).
func (p *publication) compare(c Config, tables []dbTable) (captured []member, lacking, left []dbTable) {
	published := map[uint32]bool{}
	for _, m := range p.members {
		published[m.oid] = true
		if c.captures(m.schema, m.name) {
			captured = append(captured, m)
		}
	}
	for _, t := range tables {
		switch {
		case published[t.oid]:
		case c.named(t):
			lacking = append(lacking, t)
		default:
			left = append(left, t)
		}
	}
	return captured, lacking, left
}

// checkOptions refuses a publication that leaves out kinds of changes, or that would publish a
// configured partitioned table under the names of its partitions.
func (p *publication) checkOptions(tables []dbTable) error {
	const op = "check the publication"
	var lacking []string
	for _, o := range p.operations() {
		if !o.on {
			lacking = append(lacking, o.name)
		}
	}
	if len(lacking) > 0 {
		return fault.New(fault.PublicationOptions, op,
			fmt.Errorf("publication %s does not publish %s", event.QuoteName(p.name), strings.Join(lacking, ", ")),
			p.alter("SET (publish = 'insert, update, delete, truncate')"))
	}
	if p.viaRoot {
		return nil
	}
	for _, t := range tables {
		if t.kind == kindPartitioned {
			e := fault.New(fault.PublicationOptions, op,
				fmt.Errorf("publication %s publishes a partitioned table under the names of its partitions", event.QuoteName(p.name)),
				p.alter("SET (publish_via_partition_root = true)"))
			e.Table = t.String()
			return e
		}
	}
	return nil
}

// operation is a kind of change, and whether it is published.
type operation struct {
	on   bool
	name string
}

func (p *publication) operations() []operation {
	return []operation{{p.insert, "insert"}, {p.update, "update"}, {p.deletes, "delete"}, {p.truncate, "truncate"}}
}

// lacks is the refusal of a publication without a configured table.
func (p *publication) lacks(c Config, tables []dbTable) error {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.String()
		if t.isPartition && p.viaRoot {
			names[i] += " (a partition: where its root is published, configure that one instead)"
		}
	}
	return fault.New(fault.PublicationLacksTable, "check the publication",
		fmt.Errorf("publication %s lacks %s", event.QuoteName(p.name), strings.Join(names, ", ")),
		p.alter("ADD TABLE "+c.clauses(tables))+"\nChanges from before that are not in the stream.")
}

func (p *publication) alter(what string) string {
	return "ALTER PUBLICATION " + pgx.Identifier{p.name}.Sanitize() + " " + what + ";"
}

// named tells whether an entry names the table, as against a pattern that fits it.
func (c Config) named(t dbTable) bool {
	return slices.ContainsFunc(c.Tables, func(s TableSpec) bool { return !s.Pattern && s.matches(t.schema, t.name) })
}

// checkColumns refuses a column list that leaves out what the record key is made of. ids are the
// identities of the captured tables.
func (p *publication) checkColumns(captured []member, ids []identity) error {
	for _, m := range captured {
		if !m.list {
			continue
		}
		for _, id := range ids {
			if id.oid != m.oid {
				continue
			}
			need := slices.Concat(id.columns, id.keyColumns())
			at := slices.IndexFunc(need, func(c string) bool { return !slices.Contains(m.columns, c) })
			if at < 0 {
				continue
			}
			e := fault.New(fault.PublicationOptions, "check the publication",
				fmt.Errorf("the column list of publication %s leaves out %s, which is part of the replica identity: updates and deletes of the table fail, or come without a key", event.QuoteName(p.name), event.QuoteName(need[at])),
				fmt.Sprintf("%s\n%s\nor add the column to the list.", p.alter("DROP TABLE "+tableList([]dbTable{m.dbTable})), p.alter("ADD TABLE "+tableList([]dbTable{m.dbTable}))))
			e.Table = m.String()
			return e
		}
	}
	return nil
}

// sends tells whether the publication holds a column of a table.
func (p *publication) sends(oid uint32, column string) bool {
	for _, m := range p.members {
		if m.oid == oid {
			return slices.Contains(m.columns, column)
		}
	}
	return false
}

// unpublished returns the names of the tables that the configuration means and the publication does
// not hold now: those that were dropped and made again, partitions that were detached, and tables
// that a pattern has come to fit.
func (c Config) unpublished(all []dbTable, p *publication) []string {
	var names []string
	for _, spec := range c.Tables {
		if !spec.Pattern && !slices.ContainsFunc(all, func(t dbTable) bool { return spec.matches(t.schema, t.name) }) {
			names = append(names, spec.String())
		}
	}
	published := make(map[uint32]bool, len(p.members))
	for _, m := range p.members {
		published[m.oid] = true
	}
	for _, t := range all {
		fits := t.publishable() && c.captures(t.schema, t.name) && (!t.isPartition || c.named(t))
		if fits && !published[t.oid] {
			names = append(names, t.String())
		}
	}
	return names
}

// checkPublished returns the names of the tables whose changes are asked for, but do not arrive,
// because the publication does not hold them (any more). It is cheap enough for a poll. The error
// is a fault.PublicationMissing where there is no publication.
func (c *catalog) checkPublished(ctx context.Context) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	const op = "check the publication"
	var missing []string
	err := c.query(ctx, op, func(ctx context.Context, conn *pgx.Conn) error {
		version, err := sqlVersion(ctx, conn)
		if err != nil {
			return err
		}
		p, err := readPublication(ctx, conn, c.cfg.Publication.Name, version)
		if err != nil {
			return err
		}
		if p == nil {
			return c.cfg.publicationMissing("")
		}
		all, err := listTables(ctx, conn)
		if err != nil {
			return err
		}
		missing = c.cfg.unpublished(all, p)
		return nil
	})
	return missing, err
}

// publicationMissing is the refusal to go on without a publication; sql makes it.
func (c Config) publicationMissing(sql string) error {
	hint := publicationHint
	if sql != "" {
		hint = sql
	}
	return fault.New(fault.PublicationMissing, "read the publication", fmt.Errorf("publication %s does not exist", event.QuoteName(c.Publication.Name)), hint)
}

// plain returns the members as tables.
func plain(members []member) []dbTable {
	all := make([]dbTable, len(members))
	for i, m := range members {
		all[i] = m.dbTable
	}
	return all
}
