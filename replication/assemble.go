package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/replication/pgoutput"
)

// assembler turns the messages of the stream into events: it knows the transaction they stand in,
// counts their sequence, and keeps the tables that Relation messages described. Rows of tables that
// are not captured and messages with other prefixes are counted and dropped here.
//
// It does no I/O but for the catalog, which it asks when a Relation names what the stream does not
// tell. One goroutine uses it.
type assembler struct {
	cfg     Config
	catalog typeCatalog
	metrics *Metrics
	decoder pgoutput.Decoder
	tables  map[uint32]relation
	// generation is the catalog's when the tables' types were asked for.
	generation uint64

	inTx bool
	tx   event.Tx
	seq  uint64

	// Truncated tables of the message at hand that are still to be yielded.
	truncates []*event.Table

	// The events are used again and again; see package event.
	begin    event.Begin
	commit   event.Commit
	change   event.Change
	truncate event.Truncate
	message  event.Message
	progress event.Progress
}

// typeCatalog is what the assembler asks of the database's catalog.
type typeCatalog interface {
	typeOf(ctx context.Context, oid uint32) (*event.Type, error)
	noteType(oid uint32, schema, name string)
	primaryKey(ctx context.Context, table uint32) ([]string, error)
	generation() uint64
}

// relation is what the stream last said of a relation id. The table is nil where its rows are dropped.
type relation struct{ table *event.Table }

func newAssembler(cfg Config, catalog typeCatalog, m *Metrics) *assembler {
	return &assembler{cfg: cfg, catalog: catalog, metrics: m, tables: map[uint32]relation{}}
}

// restart forgets what a lost connection left behind: the next one begins with whole transactions
// and describes its tables again.
func (a *assembler) restart() {
	a.inTx, a.truncates = false, nil
}

// pending returns the next event of a message that makes several, or nil.
func (a *assembler) pending() event.Event {
	for len(a.truncates) > 0 {
		table := a.truncates[0]
		a.truncates = a.truncates[1:]
		a.seq++
		if table != nil {
			a.truncate.Table, a.truncate.Tx, a.truncate.Pos = table, &a.tx, a.pos()
			return &a.truncate
		}
		a.metrics.dropped(reasonTable)
	}
	return nil
}

// frame takes one CopyData payload and returns the event it makes, nil if it makes none. After a
// retryable error (the catalog could not be asked) the same frame may be given again.
func (a *assembler) frame(ctx context.Context, data []byte) (event.Event, error) {
	frame, err := a.decoder.DecodeFrame(data)
	if err != nil {
		return nil, a.invalid(err)
	}
	switch f := frame.(type) {
	case *pgoutput.Keepalive:
		if a.inTx { // then it may speak of the transaction that is still being sent
			return nil, nil
		}
		a.progress.LSN = f.WALEnd
		return &a.progress, nil
	case *pgoutput.XLogData:
		m, err := a.decoder.Decode(f.Payload)
		if err != nil {
			return nil, a.invalid(err)
		}
		return a.assemble(ctx, m)
	}
	return nil, nil
}

func (a *assembler) assemble(ctx context.Context, m pgoutput.Message) (event.Event, error) {
	switch m := m.(type) {
	case *pgoutput.Begin:
		return a.onBegin(ctx, m)
	case *pgoutput.Commit:
		return a.onCommit(m)
	case *pgoutput.Origin:
		return nil, nil
	case *pgoutput.Type:
		a.catalog.noteType(m.OID, m.Namespace, m.Name)
		return nil, nil
	case *pgoutput.Relation:
		return nil, a.onRelation(ctx, m)
	case *pgoutput.Insert:
		return a.row(event.OpInsert, m.RelationID, pgoutput.OldNone, nil, m.New)
	case *pgoutput.Update:
		return a.row(event.OpUpdate, m.RelationID, m.OldKind, m.Old, m.New)
	case *pgoutput.Delete:
		return a.row(event.OpDelete, m.RelationID, m.OldKind, m.Old, nil)
	case *pgoutput.Truncate:
		return a.onTruncate(m)
	case *pgoutput.LogicalMessage:
		return a.onMessage(m)
	}
	return nil, nil
}

func (a *assembler) onBegin(ctx context.Context, m *pgoutput.Begin) (event.Event, error) {
	if a.inTx {
		return nil, a.invalid(errors.New("begin inside of a transaction"))
	}
	if now := a.catalog.generation(); now != a.generation {
		if err := a.retype(ctx); err != nil {
			return nil, err
		}
		a.generation = now
	}
	a.inTx, a.seq = true, 0
	a.tx = event.Tx{XID: m.XID, Commit: m.FinalLSN, Time: m.CommitTime}
	a.begin.Tx = &a.tx
	return &a.begin, nil
}

func (a *assembler) onCommit(m *pgoutput.Commit) (event.Event, error) {
	if !a.inTx || m.CommitLSN != a.tx.Commit {
		return nil, a.invalid(fmt.Errorf("commit of %s without its begin", m.CommitLSN))
	}
	a.inTx = false
	a.commit.Tx, a.commit.End = &a.tx, m.EndLSN
	return &a.commit, nil
}

// row makes the event of an insert, update or delete.
func (a *assembler) row(op event.Op, id uint32, oldKind pgoutput.OldKind, old, row event.Row) (event.Event, error) {
	table, err := a.table(id)
	if err != nil {
		return nil, err
	}
	if err := a.count(); err != nil {
		return nil, err
	}
	if table == nil {
		a.metrics.dropped(reasonTable)
		return nil, nil
	}
	if op != event.OpDelete && len(row) != len(table.Columns) || oldKind != pgoutput.OldNone && len(old) != len(table.Columns) {
		return nil, a.invalid(fmt.Errorf("a row of %s has another number of columns than its relation", table))
	}
	if oldKind == pgoutput.OldKey {
		// The server sends nulls in place of the columns that it does not log.
		for i := range old {
			if !table.Columns[i].InIdentity {
				old[i] = event.Value{}
			}
		}
	}
	a.change = event.Change{
		Op: op, Table: table, Tx: &a.tx, Pos: a.pos(),
		Old: old, OldIsKey: oldKind == pgoutput.OldKey, New: row,
	}
	return &a.change, nil
}

func (a *assembler) onTruncate(m *pgoutput.Truncate) (event.Event, error) {
	if err := a.room(len(m.Relations)); err != nil {
		return nil, err
	}
	tables := make([]*event.Table, len(m.Relations))
	for i, id := range m.Relations {
		table, err := a.table(id)
		if err != nil {
			return nil, err
		}
		tables[i] = table
	}
	a.truncates = tables
	a.truncate.Cascade, a.truncate.RestartIdentity = m.Cascade, m.RestartIdentity
	return a.pending(), nil
}

func (a *assembler) onMessage(m *pgoutput.LogicalMessage) (event.Event, error) {
	a.message = event.Message{Prefix: m.Prefix, Content: m.Content}
	if m.Transactional {
		if err := a.count(); err != nil {
			return nil, err
		}
		a.message.Tx, a.message.Pos = &a.tx, a.pos()
	} else {
		a.message.Pos = event.Position{Commit: m.LSN}
	}
	if slices.Contains(a.cfg.MessagePrefixes, string(m.Prefix)) {
		return &a.message, nil
	}
	a.metrics.dropped(reasonPrefix)
	return nil, nil
}

// count moves the sequence on by one row message, which must stand in a transaction.
func (a *assembler) count() error {
	if err := a.room(1); err != nil {
		return err
	}
	a.seq++
	return nil
}

// room tells whether n more row messages may stand here.
func (a *assembler) room(n int) error {
	if !a.inTx {
		return a.invalid(errors.New("a row outside of a transaction"))
	}
	if a.seq+uint64(n) > event.MaxSeq { //nolint:gosec // a length
		return a.invalid(errors.New("more rows in one transaction than a position can count"))
	}
	return nil
}

func (a *assembler) pos() event.Position { return event.Position{Commit: a.tx.Commit, Seq: a.seq} }

// table returns the table of a relation id, nil where it is not captured.
func (a *assembler) table(id uint32) (*event.Table, error) {
	r, ok := a.tables[id]
	if !ok {
		return nil, a.invalid(fmt.Errorf("a row of relation %d, which was not described", id))
	}
	return r.table, nil
}

// onRelation keeps what the stream says of a table from here on.
func (a *assembler) onRelation(ctx context.Context, m *pgoutput.Relation) error {
	schema := m.Namespace
	if schema == "" {
		schema = "pg_catalog"
	}
	if !a.cfg.captures(schema, m.Name) {
		a.tables[m.ID] = relation{}
		return nil
	}
	t := &event.Table{OID: m.ID, Schema: schema, Name: m.Name, Identity: m.Identity, Columns: make([]event.Column, len(m.Columns))}
	for i, c := range m.Columns {
		typ, err := a.catalog.typeOf(ctx, c.TypeOID)
		if err != nil {
			return err
		}
		t.Columns[i] = event.Column{Name: c.Name, Type: typ, Mod: c.TypeMod, InIdentity: c.Flags&pgoutput.ColumnInIdentity != 0}
	}
	if err := a.findPrimaryKey(ctx, t); err != nil {
		return err
	}
	if old := a.tables[m.ID].table; old == nil || !sameTable(old, t) {
		a.tables[m.ID] = relation{table: t}
	}
	return nil
}

// retype asks for the types of all tables again: one of them was altered, of which the stream says nothing.
func (a *assembler) retype(ctx context.Context) error {
	for id, r := range a.tables {
		if r.table == nil {
			continue
		}
		t := *r.table
		t.Columns = slices.Clone(t.Columns)
		for i, c := range t.Columns {
			if c.Type.OID < firstUserOID {
				continue
			}
			typ, err := a.catalog.typeOf(ctx, c.Type.OID)
			if err != nil {
				return err
			}
			t.Columns[i].Type = typ
		}
		if !sameTable(r.table, &t) {
			a.tables[id] = relation{table: &t}
		}
	}
	return nil
}

// findPrimaryKey fills in the primary key. Only the default identity's flags tell it.
func (a *assembler) findPrimaryKey(ctx context.Context, t *event.Table) error {
	if t.Identity == event.IdentityDefault {
		t.PrimaryKey = t.IdentityColumns()
		return nil
	}
	names, err := a.catalog.primaryKey(ctx, t.OID)
	if err != nil {
		return err
	}
	for i := range t.Columns {
		if slices.Contains(names, t.Columns[i].Name) {
			t.PrimaryKey = append(t.PrimaryKey, i)
		}
	}
	if len(t.PrimaryKey) != len(names) { // the catalog of now has columns that the stream does not know (yet)
		t.PrimaryKey = nil
	}
	return nil
}

// sameTable tells whether two descriptions say the same, so that what was built upon the first may
// be kept: the server describes a table again whenever anything about it was touched.
func sameTable(a, b *event.Table) bool {
	return a.Schema == b.Schema && a.Name == b.Name && a.Identity == b.Identity &&
		slices.Equal(a.Columns, b.Columns) && slices.Equal(a.PrimaryKey, b.PrimaryKey)
}

func (a *assembler) invalid(err error) error {
	f := fault.New(fault.StreamInvalid, "decode the replication stream", err, "")
	if a.inTx {
		f.Pos = a.pos()
	}
	return f
}
