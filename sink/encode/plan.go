package encode

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// Plan is what can be known of a table's records before its first row: names as JSON, how each
// column is read, which columns are the key. It is immutable and safe for concurrent use.
type Plan struct {
	table   *event.Table
	columns []column
	key     []int // indexes into columns, rising; none for a table without a key
	records records
	json    []int // indexes of the json and jsonb columns
	// truncateKey is the whole key of a truncate's records.
	truncateKey []byte
}

// column is one column, ready to be appended.
type column struct {
	label []byte // ,"name"
	name  []byte // ,"name":
	codec *codec
}

// NewPlan prepares the records of t. The key is that of docs/events.md, or the named columns where
// key has any; the error is fault.TableKey where they are not all columns that a delete carries.
func NewPlan(t *event.Table, key []string, o Options) (*Plan, error) {
	p := &Plan{table: t, key: defaultKey(t)}
	if len(key) > 0 {
		at, err := chosenKey(t, key)
		if err != nil {
			return nil, err
		}
		p.key = at
	}
	if err := p.nameTable(o); err != nil {
		return nil, err
	}
	if err := p.nameColumns(o); err != nil {
		return nil, err
	}
	return p, nil
}

// nameTable makes everything that holds the table's name.
func (p *Plan) nameTable(o Options) error {
	t := p.table
	schema, err1 := appendString(nil, []byte(t.Schema))
	table, err2 := appendString(nil, []byte(t.Name))
	full, err3 := appendString([]byte(`{"truncate":`), []byte(t.String()))
	if err := errors.Join(err1, err2, err3); err != nil {
		return p.invalid("read the table's name", errNotUTF8, event.Position{})
	}
	p.truncateKey = append(full, '}')
	newRecord := func(op event.Op) Record {
		head := fmt.Appendf(nil, `{"op":"%c","schema":%s,"table":%s,"pos":"`, op, schema, table)
		return Record{Op: op, Headers: newHeaders(o, op, t), head: head}
	}
	p.records = newRecords(newRecord, p.HasKey(), o.Tombstones)
	return nil
}

// nameColumns makes everything that is known of the columns.
func (p *Plan) nameColumns(o Options) error {
	p.columns = make([]column, len(p.table.Columns))
	for i, c := range p.table.Columns {
		label, err := appendString([]byte{','}, []byte(c.Name))
		if err != nil {
			return p.invalid("read the columns' names", err, event.Position{})
		}
		p.columns[i] = column{label: label, name: append(slices.Clone(label), ':'), codec: newCodec(c.Type, o)}
		if p.columns[i].codec.shape == shapeJSON {
			p.json = append(p.json, i)
		}
	}
	return nil
}

// Table returns the table the plan was made of.
func (p *Plan) Table() *event.Table { return p.table }

// HasKey tells whether the table's records have a key.
func (p *Plan) HasKey() bool { return len(p.key) > 0 }

// Key returns the names of the key's columns, none for a table without a key. The slice is made anew.
func (p *Plan) Key() []string {
	names := make([]string, len(p.key))
	for i, at := range p.key {
		names[i] = p.table.Columns[at].Name
	}
	return names
}

// Records returns the records that ch makes, in the order they are to be written. The slice is
// shared and must not be changed.
func (p *Plan) Records(ch *event.Change) []Record {
	switch ch.Op {
	case event.OpInsert:
		return p.records.insert
	case event.OpUpdate:
		if p.keyChanged(ch) {
			return p.records.keyChange
		}
		return p.records.update
	case event.OpDelete:
		return p.records.delete
	case event.OpRead:
		return p.records.read
	}
	return nil
}

// Truncate returns the record of a truncate in one partition of the table's topic.
func (p *Plan) Truncate(partition int) Record {
	r := p.records.truncate
	r.Part = partition
	return r
}

// keyChanged compares the text of the key columns: two spellings of an equal value (1.0 and 1.00)
// are two record keys.
func (p *Plan) keyChanged(ch *event.Change) bool {
	if len(ch.Old) != len(p.columns) || len(ch.New) != len(p.columns) {
		return false
	}
	for _, i := range p.key {
		was, is := ch.Old[i], ch.New[i]
		if !known(was) || !known(is) {
			continue
		}
		if was.State != is.State || !bytes.Equal(was.Bytes, is.Bytes) {
			return true
		}
	}
	return false
}

// known tells whether v says what the column holds.
func known(v event.Value) bool { return v.State != event.Absent && v.State != event.Unchanged }

// current returns column i of the row after the change. A TOASTed value that the update did not
// touch is taken from the old row where that has it: under full identity it always does, and a
// server sends the old key along with an update whenever a key column is TOASTed.
func current(ch *event.Change, i int) event.Value {
	v := ch.New[i]
	if v.State == event.Unchanged && i < len(ch.Old) && known(ch.Old[i]) {
		return ch.Old[i]
	}
	return v
}

// defaultKey returns the key columns that follow from the replica identity.
func defaultKey(t *event.Table) []int {
	switch t.Identity {
	case event.IdentityFull:
		return t.PrimaryKey
	case event.IdentityDefault, event.IdentityIndex:
		return t.IdentityColumns()
	case event.IdentityNothing:
		return nil
	}
	return nil
}

// chosenKey returns the indexes of the named columns, in column order.
func chosenKey(t *event.Table, names []string) ([]int, error) {
	var at []int
	for i := range t.Columns {
		if slices.Contains(names, t.Columns[i].Name) {
			at = append(at, i)
		}
	}
	for _, name := range names {
		i := slices.IndexFunc(t.Columns, func(c event.Column) bool { return c.Name == name })
		if i < 0 {
			return nil, badKey(t, fmt.Errorf("there is no column %q", name))
		}
		if t.Identity != event.IdentityFull && !t.Columns[i].InIdentity {
			return nil, badKey(t, fmt.Errorf("a delete does not carry column %q", name))
		}
	}
	return at, nil
}

func badKey(t *event.Table, cause error) error {
	carried := make([]string, 0, len(t.Columns))
	for _, i := range t.IdentityColumns() {
		carried = append(carried, event.QuoteName(t.Columns[i].Name))
	}
	hint := "Without replica identity a delete carries no column at all."
	if len(carried) > 0 {
		hint = fmt.Sprintf("Under replica identity %s a delete carries %s.", t.Identity, strings.Join(carried, ", "))
	}
	return &fault.Error{
		Code: fault.TableKey, Op: "use the configured record key", Table: t.String(), Err: cause,
		Hint: hint + "\nName some of these columns, or ALTER TABLE " + t.String() + " REPLICA IDENTITY FULL.",
	}
}
