// Package event holds the words every room speaks: positions in the WAL, tables as the stream
// described them, values as the server sent them, and the closed set of events that a source
// yields and a sink takes.
//
//	replication ──event──▶ pipeline ──event──▶ sink
//
// The package imports the standard library alone, does no I/O and starts nothing.
//
// # Who owns the bytes
//
// A source hands out the same Begin, Change, Truncate, Message, Commit and Progress structs again
// and again, and the Bytes of their values alias the buffer the frame was read into. Everything
// reachable from an event is valid until the next event is asked for; whoever wants to keep it
// copies it. The exceptions are *Table, *Column and *Type: they are immutable once handed out and
// may be kept and compared by pointer for ever. A changed table is a new *Table.
package event
