// Package pgoutput decodes what a logical walsender sends: the frames of the copy stream, and
// inside them the messages of the pgoutput plugin, protocol version 1. It also builds the one
// answer a client gives, the standby status update.
//
//	CopyData ─DecodeFrame─▶ *Keepalive
//	                    └─▶ *XLogData ─Payload─▶ Decode ─▶ *Begin, *Relation, *Insert … *Commit
//	CopyData ◀─AppendStatus─ Status
//
// The package is pure: bytes in, a value or an error out; no I/O, no clock, no memory of earlier
// messages. One family of messages stands in each file.
//
// # What it promises
//
// Decoding is total: whatever the bytes, the result is a message or an error, never a panic, and
// memory in proportion to the bytes that came, not to the lengths they announce. Bytes left over
// behind a message, unknown tags and unknown flags are errors: a message that is not understood
// whole is not a message. Errors name the message and the offset and hold no row data.
//
// Decoding rows allocates nothing once the Decoder has seen a row as wide.
//
// # Who owns the bytes
//
// Messages are structs of the Decoder, used again by its next call, and their byte slices alias the
// input. *Relation and *Type are the exception: they are made anew each time, own their strings and
// may be kept.
//
// # What it leaves to the caller
//
// Rows are as the wire has them. In an old row of kind OldKey the server sends the columns outside
// of the replica identity as nulls; only the Relation tells them from real nulls. A namespace of ""
// is pg_catalog. The Type of a domain names the base type. Positions come from Begin and Commit:
// those of an XLogData are 0/0 for some messages and go backwards.
//
// Streaming of transactions in progress and two-phase commit (protocol 2 to 4) are told by
// their tags and refused with ErrUnsupported.
package pgoutput
