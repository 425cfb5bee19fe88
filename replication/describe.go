package replication

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/walferry/walferry/event"
)

const columnsQuery = `
SELECT a.attrelid, a.attname::text, a.atttypid, a.atttypmod
FROM pg_attribute a
WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum`

// column is a column of a table as the catalog has it.
type column struct {
	table, typ uint32
	name       string
	mod        int32
}

// describe builds the captured tables as the stream would describe them now, by name.
func describe(ctx context.Context, conn *pgx.Conn, cat *catalog, captured []member, ids []identity) ([]*event.Table, error) {
	columns, err := readColumns(ctx, conn, captured)
	if err != nil {
		return nil, err
	}
	own := make(map[uint32]identity, len(captured)) // without those of partitions
	for _, id := range ids {
		if id.oid == id.root {
			own[id.oid] = id
		}
	}
	tables := make([]*event.Table, 0, len(captured))
	for _, m := range captured {
		id, ok := own[m.oid]
		if !ok {
			continue // dropped within this moment
		}
		t := &event.Table{OID: m.oid, Schema: m.schema, Name: m.name, Identity: id.letter}
		for _, c := range columns[m.oid] {
			if !slices.Contains(m.columns, c.name) {
				continue
			}
			typ, err := cat.typeOf(ctx, c.typ)
			if err != nil {
				return nil, err
			}
			t.Columns = append(t.Columns, event.Column{Name: c.name, Type: typ, Mod: c.mod, InIdentity: slices.Contains(id.columns, c.name)})
		}
		t.PrimaryKey = indexes(t, id)
		tables = append(tables, t)
	}
	return tables, nil
}

// indexes returns the primary key as indexes into the columns, nil where a part of it is not
// published. Under the default identity it is what the stream flags, which leaves a deferrable key out.
func indexes(t *event.Table, id identity) []int {
	if id.letter == event.IdentityDefault {
		return t.IdentityColumns()
	}
	var at []int
	for i := range t.Columns {
		if slices.Contains(id.primaryKey, t.Columns[i].Name) {
			at = append(at, i)
		}
	}
	if len(at) != len(id.primaryKey) {
		return nil
	}
	return at
}

// readColumns returns the columns of the tables, by table and in their order.
func readColumns(ctx context.Context, conn *pgx.Conn, tables []member) (map[uint32][]column, error) {
	const op = "read the columns"
	oids := make([]uint32, len(tables))
	for i, t := range tables {
		oids[i] = t.oid
	}
	rows, err := conn.Query(ctx, columnsQuery, oids)
	if err != nil {
		return nil, explain(op, err)
	}
	of := map[uint32][]column{}
	var c column
	_, err = pgx.ForEachRow(rows, []any{&c.table, &c.name, &c.typ, &c.mod}, func() error {
		of[c.table] = append(of[c.table], c)
		return nil
	})
	if err != nil {
		return nil, explain(op, err)
	}
	return of, nil
}
