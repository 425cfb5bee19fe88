package event

import "time"

// Event is one of *Begin, *Change, *Truncate, *Message, *Commit and *Progress: what a source
// yields, in the order of the stream. The set is closed; switches on it are exhaustive.
//
//sumtype:decl
type Event interface{ event() }

func (*Begin) event()    {}
func (*Change) event()   {}
func (*Truncate) event() {}
func (*Message) event()  {}
func (*Commit) event()   {}
func (*Progress) event() {}

// Tx is what Begin announces of a transaction; every event of the transaction points at it.
type Tx struct {
	// XID is the 32-bit transaction id; it wraps around and orders nothing.
	XID uint32
	// Commit is the LSN of the commit record: the first half of every Position in it.
	Commit LSN
	// Split counts the parts of this transaction that were published before, where it is too large
	// to become visible at once. The pipeline sets it; a source leaves it zero.
	Split int
	// Time is the commit time by the server's clock, in UTC, to the microsecond. It need not rise.
	Time time.Time
}

// Begin opens a transaction that has committed.
type Begin struct{ Tx *Tx }

// Commit closes the transaction. End is the LSN behind its commit record, the one value that may
// be confirmed for it: confirming Tx.Commit would have the server send the transaction again.
type Commit struct {
	Tx  *Tx
	End LSN
}

// Op says what happened to a row.
type Op byte

// The operations on rows. The bytes are the `op` letters of docs/events.md.
const (
	OpInsert Op = 'c'
	OpUpdate Op = 'u'
	OpDelete Op = 'd'
	OpRead   Op = 'r' // a row of an initial copy
)

// Change is one row inserted, updated, deleted or read.
type Change struct {
	Op    Op
	Table *Table
	Tx    *Tx
	Pos   Position
	// Old is the old row as far as the server sent it, nil where it sent none. It has one value
	// for each column of Table. With OldIsKey only the replica identity's columns are known; the
	// others are Absent.
	Old      Row
	OldIsKey bool
	// New is the row afterwards, nil for a delete.
	New Row
}

// Truncate is one table emptied. A statement that truncates several tables yields one for each,
// in the order of the stream.
type Truncate struct {
	Table           *Table
	Tx              *Tx
	Pos             Position
	Cascade         bool
	RestartIdentity bool
}

// Message is a logical message (pg_logical_emit_message). Any role that may log in can write one:
// its content is untrusted.
type Message struct {
	// Tx is nil for a message outside of a transaction, which arrives at once, even where the
	// transaction it was sent from rolls back.
	Tx  *Tx
	Pos Position
	// Prefix and Content alias the frame.
	Prefix  []byte
	Content []byte
}

// Progress says that everything committed before LSN has been yielded before this event: a
// keepalive outside of any transaction. Once all of that is durable, LSN may be confirmed.
type Progress struct{ LSN LSN }

// Row holds one Value per column of its table.
type Row []Value

// State tells what is known of a value.
type State uint8

// The states. The zero Value is Absent.
const (
	Absent    State = iota // not sent: not part of what the server logs for this row
	Null                   // SQL NULL
	Unchanged              // a TOASTed value that the update did not touch; its value was not sent
	Text                   // Bytes hold Postgres's text form, UTF-8
	Binary                 // Bytes hold Postgres's binary form
)

// Value is one column of one row.
type Value struct {
	State State
	// Bytes alias the frame; nil unless State is Text or Binary.
	Bytes []byte
}
