package replication

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// relation kinds and persistences, by the letters of pg_class.
const (
	kindTable       = "r"
	kindPartitioned = "p"
	kindForeign     = "f"

	persistent = "p"
)

// dbTable is a relation of the catalog, of any kind that a person could take for a table.
type dbTable struct {
	oid          uint32
	schema, name string
	kind         string
	persistence  string
	isPartition  bool
	parent       uint32 // of a partition, else 0
}

func (t dbTable) String() string { return event.QuoteName(t.schema) + "." + event.QuoteName(t.name) }

// sql is the table's name for a statement.
func (t dbTable) sql() string { return pgx.Identifier{t.schema, t.name}.Sanitize() }

// publishable tells whether changes of the table are in the WAL and can be decoded.
func (t dbTable) publishable() bool {
	return (t.kind == kindTable || t.kind == kindPartitioned) && t.persistence == persistent
}

// why says why a relation is not publishable.
func (t dbTable) why() string {
	switch t.kind {
	case "v", "m":
		return "is a view: its tables are what changes"
	case kindForeign:
		return "is a foreign table: its changes are made on another server"
	}
	switch t.persistence {
	case "u":
		return "is unlogged: its changes are not in the WAL"
	case "t":
		return "is temporary: its changes are not in the WAL"
	}
	return "is not a table"
}

const listTablesQuery = `
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, c.relispartition,
    coalesce((SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = c.oid AND c.relispartition), 0)::oid
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY 2, 3`

// listTables returns the relations of all schemas but the system's, by name.
func listTables(ctx context.Context, conn *pgx.Conn) ([]dbTable, error) {
	rows, err := conn.Query(ctx, listTablesQuery)
	if err == nil {
		var all []dbTable
		all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t dbTable, err error) {
			err = row.Scan(&t.oid, &t.schema, &t.name, &t.kind, &t.persistence, &t.isPartition, &t.parent)
			return t, err
		})
		if err == nil {
			return all, nil
		}
	}
	return nil, explain("list the tables", err)
}

// expand returns the tables that the configuration means, by name, out of all relations. A table
// that is named must exist and be publishable; a pattern stands for the ordinary tables and the
// roots of partitioned ones that fit it, and empty are the patterns that fit none.
func (c Config) expand(all []dbTable) (tables []dbTable, empty []string, err error) {
	const op = "find the configured tables"
	var missing, hints []string
	chosen := map[uint32]bool{}
	add := func(t dbTable) {
		if !chosen[t.oid] {
			chosen[t.oid] = true
			tables = append(tables, t)
		}
	}
	for _, spec := range c.specs() {
		found := false
		for _, t := range all {
			switch {
			case !c.AllTables && !spec.matches(t.schema, t.name):
			case t.publishable() && (!spec.Pattern || !t.isPartition):
				found = true
				add(t)
			case !spec.Pattern:
				found = true
				missing = append(missing, fmt.Sprintf("%s %s", t, t.why()))
			}
		}
		switch {
		case found:
		case spec.Pattern:
			empty = append(empty, spec.String())
		default:
			missing = append(missing, spec.String()+" does not exist")
			if near := nearest(spec.String(), all); len(near) > 0 {
				hints = append(hints, "Instead of "+spec.String()+" there is "+strings.Join(near, ", ")+".")
			}
		}
	}
	missing = append(missing, doubled(tables, all)...)
	if len(missing) > 0 {
		return nil, nil, fault.New(fault.TableMissing, op, errors.New(strings.Join(missing, "; ")), strings.Join(hints, "\n"))
	}
	if len(tables) == 0 {
		return nil, nil, fault.New(fault.TableMissing, op, errors.New("there is no table in this database that fits "+strings.Join(empty, ", ")), "Check the database in the URL, and the patterns: an underscore or a star inside of quotes is part of the name.")
	}
	slices.SortFunc(tables, func(a, b dbTable) int {
		return cmp.Or(cmp.Compare(a.schema, b.schema), cmp.Compare(a.name, b.name))
	})
	return tables, empty, nil
}

// doubled says which tables are partitions of others among them.
func doubled(tables, all []dbTable) []string {
	byOID := make(map[uint32]dbTable, len(all))
	for _, t := range all {
		byOID[t.oid] = t
	}
	chosen := make(map[uint32]bool, len(tables))
	for _, t := range tables {
		chosen[t.oid] = true
	}
	var said []string
	for _, t := range tables {
		for at := t.parent; at != 0; at = byOID[at].parent {
			if chosen[at] {
				said = append(said, fmt.Sprintf("%s is a partition of %s, which is configured as well: its changes arrive as that table's, so leave it out", t, byOID[at]))
				break
			}
		}
	}
	return said
}

// specs are the configured entries. "All tables" is a pattern for every schema.
func (c Config) specs() []TableSpec {
	if c.AllTables {
		return []TableSpec{everyTable}
	}
	return c.Tables
}

// everyTable is what "all tables" means; no schema has an empty name.
var everyTable = TableSpec{Name: "*", Pattern: true}

// String prints the entry as the configuration spells it.
func (t TableSpec) String() string {
	switch {
	case t.Schema == "" && t.Pattern:
		return "all tables"
	case t.Pattern:
		return event.QuoteName(t.Schema) + "." + t.Name
	default:
		return event.QuoteName(t.Schema) + "." + event.QuoteName(t.Name)
	}
}

// nearest returns up to three publishable tables whose names differ little from a name.
func nearest(name string, all []dbTable) []string {
	type candidate struct {
		name     string
		distance int
	}
	var found []candidate
	for _, t := range all {
		if !t.publishable() {
			continue
		}
		// A third of the name may differ; or it is the right table in another schema.
		d := distance(strings.ToLower(name), strings.ToLower(t.String()))
		if d <= max(2, len(name)/3) || strings.EqualFold(afterDot(name), afterDot(t.String())) {
			found = append(found, candidate{t.String(), d})
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return cmp.Compare(a.distance, b.distance) })
	var names []string
	for _, c := range found[:min(3, len(found))] {
		names = append(names, c.name)
	}
	return names
}

func afterDot(s string) string { return s[strings.IndexByte(s, '.')+1:] }

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func names(tables []dbTable) []string {
	all := make([]string, len(tables))
	for i, t := range tables {
		all[i] = t.String()
	}
	return all
}
