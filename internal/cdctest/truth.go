package cdctest

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
)

//go:embed schema.sql
var schema string

// Tables is what to capture, in the form of walferry's --tables.
const Tables = `public.*,sales.*`

// Setup creates the tables of the load and the triggers that keep the truth, in an empty database.
func Setup(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, schema); err != nil {
		return fmt.Errorf("create the tables of the load: %w", err)
	}
	return nil
}

// Change is one change that Postgres committed, as the trigger saw it.
type Change struct {
	XID uint32
	// Seq is the place within the transaction, from 1.
	Seq           uint64
	Op            string // c, u, d, t as in docs/events.md
	Schema, Table string
	// OldKey and NewKey are JSON objects; empty where there is none.
	OldKey, NewKey string
	// OldRow and NewRow are JSON objects of all columns; nil where there is none.
	OldRow, NewRow json.RawMessage
}

// ReadTruth returns everything that has been committed. The changes of one key stand in the order
// in which they were made, and so do those of one transaction; the order of transactions is not
// that of their commits.
func ReadTruth(ctx context.Context, dsn string) ([]Change, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, `
		SELECT xid, row_number() OVER (PARTITION BY xid ORDER BY n), op, schema_name, table_name,
			coalesce(old_key::text, ''), coalesce(new_key::text, ''), old_row::text, new_row::text
		FROM cdctest.truth ORDER BY n`)
	if err != nil {
		return nil, fmt.Errorf("read the truth: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Change, error) {
		var c Change
		var oldRow, newRow *string
		err := row.Scan(&c.XID, &c.Seq, &c.Op, &c.Schema, &c.Table, &c.OldKey, &c.NewKey, &oldRow, &newRow)
		if oldRow != nil {
			c.OldRow = json.RawMessage(*oldRow)
		}
		if newRow != nil {
			c.NewRow = json.RawMessage(*newRow)
		}
		return c, err
	})
}
