package pgoutput

import (
	"slices"

	"github.com/walferry/walferry/event"
)

// Insert is a new row.
type Insert struct {
	RelationID uint32
	// New has one value for each column of the relation and is never nil.
	New event.Row
}

// Update is a changed row.
type Update struct {
	RelationID uint32
	// OldKind tells what Old is. Without an old row the key did not change.
	OldKind OldKind
	// Old is nil with OldNone. Its values that are Null with OldKey may be columns outside of the
	// replica identity, which the server does not send.
	Old event.Row
	// New has one value for each column of the relation and is never nil. Large values that the
	// update did not touch are Unchanged.
	New event.Row
}

// Delete is a row that is gone.
type Delete struct {
	RelationID uint32
	// OldKind is OldKey or OldRow.
	OldKind OldKind
	// Old is never nil. See Update.Old.
	Old event.Row
}

// OldKind tells what an old row holds; the bytes are those of the wire.
type OldKind byte

// The kinds of old rows.
const (
	OldNone OldKind = 0   // there is no old row
	OldKey  OldKind = 'K' // the values of the replica identity; nulls for the other columns
	OldRow  OldKind = 'O' // the whole row: replica identity full
)

func (d *Decoder) decodeInsert(r *reader) *Insert {
	d.insert.RelationID = r.uint32()
	r.expect('N')
	d.newRow = r.row(d.newRow)
	d.insert.New = d.newRow
	return &d.insert
}

func (d *Decoder) decodeUpdate(r *reader) *Update {
	m := &d.update
	*m = Update{RelationID: r.uint32()}
	if m.OldKind = r.oldKind(); m.OldKind != OldNone {
		d.oldRow = r.row(d.oldRow)
		m.Old = d.oldRow
	}
	r.expect('N')
	d.newRow = r.row(d.newRow)
	m.New = d.newRow
	return m
}

func (d *Decoder) decodeDelete(r *reader) *Delete {
	m := &d.deletion
	m.RelationID = r.uint32()
	if m.OldKind = r.oldKind(); m.OldKind == OldNone {
		r.fail("no old row")
	}
	d.oldRow = r.row(d.oldRow)
	m.Old = d.oldRow
	return m
}

// oldKind reads the letter of an old row; where another one stands, it reads nothing.
func (r *reader) oldKind() OldKind {
	if r.rest() > 0 {
		if k := OldKind(r.data[r.at]); k == OldKey || k == OldRow {
			r.at++
			return k
		}
	}
	return OldNone
}

// expect reads a letter that must be there.
func (r *reader) expect(letter byte) {
	if r.rest() == 0 || r.data[r.at] != letter {
		r.fail("want %q", letter)
		return
	}
	r.at++
}

// row reads the values of one row into the memory of an earlier one. The result is never nil: a row
// without columns is a row.
func (r *reader) row(into event.Row) event.Row {
	n := r.count(1)
	if into == nil {
		into = make(event.Row, 0, n)
	}
	into = slices.Grow(into[:0], n)[:n]
	for i := range into {
		into[i] = r.value()
	}
	return into
}

func (r *reader) value() event.Value {
	switch r.byte() {
	case 't':
		return event.Value{State: event.Text, Bytes: r.bytes(int(r.uint32()))}
	case 'n':
		return event.Value{State: event.Null}
	case 'u':
		return event.Value{State: event.Unchanged}
	case 'b':
		return event.Value{State: event.Binary, Bytes: r.bytes(int(r.uint32()))}
	default:
		r.at-- // fail does not say which kind: it may be a byte of the row
		r.fail("unknown kind of value")
		return event.Value{}
	}
}
