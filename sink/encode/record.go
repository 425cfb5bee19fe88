package encode

import "github.com/walferry/walferry/event"

// Record says which record of a change to write. Records are made by Plan.Records and
// Plan.Truncate; the bytes come from an Encoder.
type Record struct {
	// Op is the op of the record's value; a tombstone has that of the delete before it.
	Op   event.Op
	Form Form
	// Part is the last number of the record's position.
	Part int
	// Headers are the record's headers but for pos. They are shared: read them, never change them.
	Headers []Header
	// head is the value up to its position.
	head []byte
}

// HasValue tells whether the record has a value; a tombstone has none.
func (r Record) HasValue() bool { return r.Form != Tombstone }

// Form tells the records of one change apart.
type Form uint8

// The forms.
const (
	Plain     Form = iota // the change itself
	DeleteOld             // a key change: the delete of the old key
	Tombstone             // a null value under the key of the delete before it
	UpsertNew             // a key change: the row under its new key
)

// Header is a record header. It converts to the client library's type.
type Header struct {
	Key   string
	Value []byte
}

// The ops that are not event.Op constants, because they are not of rows.
const (
	opTruncate event.Op = 't'
	opMessage  event.Op = 'm'
)

// records are the answers of Plan.Records, made once.
type records struct {
	insert, update, delete, read []Record
	keyChange                    []Record
	truncate                     Record
}

// newRecords makes them of a table's first record of each op, as made by newRecord.
func newRecords(newRecord func(event.Op) Record, keyed, tombstones bool) records {
	record := func(op event.Op, form Form, part int) Record {
		r := newRecord(op)
		r.Form, r.Part = form, part
		return r
	}
	r := records{
		insert:   []Record{record(event.OpInsert, Plain, 0)},
		update:   []Record{record(event.OpUpdate, Plain, 0)},
		read:     []Record{record(event.OpRead, Plain, 0)},
		delete:   []Record{record(event.OpDelete, Plain, 0)},
		truncate: record(opTruncate, Plain, 0),
	}
	if !keyed {
		return r
	}
	r.keyChange = []Record{record(event.OpDelete, DeleteOld, 0)}
	if tombstones {
		r.delete = append(r.delete, record(event.OpDelete, Tombstone, 1))
		r.keyChange = append(r.keyChange, record(event.OpDelete, Tombstone, 1))
	}
	r.keyChange = append(r.keyChange, record(event.OpUpdate, UpsertNew, 2))
	return r
}

// newHeaders returns the headers of one op that o asks for, in o's order. Schema and table are
// left out for a message, which has none.
func newHeaders(o Options, op event.Op, t *event.Table) []Header {
	var all []Header
	for _, name := range o.Headers {
		switch {
		case name == "op":
			all = append(all, Header{Key: name, Value: []byte{byte(op)}})
		case name == "schema" && t != nil:
			all = append(all, Header{Key: name, Value: []byte(t.Schema)})
		case name == "table" && t != nil:
			all = append(all, Header{Key: name, Value: []byte(t.Name)})
		}
	}
	return all
}

// MessageHeaders returns the headers of a logical message's record but for pos.
func MessageHeaders(o Options) []Header { return newHeaders(o, opMessage, nil) }
