package pipeline

import (
	"context"

	"github.com/walferry/walferry/checkpoint"
	"github.com/walferry/walferry/event"
)

// Source is a database's committed changes, read through a slot that one instance holds at a time.
//
// The calls come in this order: Prepare, then for each connection Start, then Run in one goroutine
// while Next is called in another; both have returned before the next Start. Confirm may be called at any time from anywhere.
type Source interface {
	// Prepare checks server, role, tables and publication over a connection of its own, creates
	// the publication where it may, and reports what it found. Until the Setup is closed no other
	// instance of this pipeline gets past its own Prepare.
	Prepare(ctx context.Context) (Setup, error)
	// Start takes the slot and begins to stream from its confirmed position. While another
	// instance holds the slot it waits, calling busy once; when ctx ends meanwhile, the error is
	// fault.SlotBusy. It returns the server as seen by the new connection. A server whose history does
	// not hold all that earlier connections have read is refused: fault.StreamDiverged.
	Start(ctx context.Context, busy func()) (event.Server, error)
	// Run reads the stream and tells the server what was confirmed, until ctx ends (then it sends
	// a last status, gives the slot back and returns nil) or the connection is lost. A slow caller
	// of Next never delays a status.
	Run(ctx context.Context) error
	// Next blocks for the next event of this connection; before it blocks it calls dry. The event is
	// valid until the next call. A connection begins with whole transactions: one that was cut off
	// by the end of the connection before begins again. Next returns ctx.Err() when ctx ends. After a
	// retryable error the next call tries the same again.
	Next(ctx context.Context, dry func()) (event.Event, error)
	// Received is the highest LSN that the server has named on the newest connection.
	Received() event.LSN
	// Unpublished names the configured tables that the publication does not hold any more: dropped
	// and created again, detached, or taken out. Their changes are not in the stream. What else the
	// stream does not tell, and a poll can, is looked at by the way.
	Unpublished(ctx context.Context) ([]string, error)
	// Confirm says that everything up to lsn is durable and need not be sent again. It does not
	// block; a value at or below an earlier one changes nothing.
	Confirm(lsn event.LSN)
	// Close releases what is left open between connections.
	Close()
}

// Setup is what Prepare found, and the lock it holds.
type Setup interface {
	// Server is the server with the slot's state; Slot is nil where the slot does not exist.
	Server() event.Server
	// Look asks the server again: Server returns what it says then.
	Look(ctx context.Context) error
	// Tables are the captured tables as the catalog has them now.
	Tables() []*event.Table
	// Fingerprint is a hash of publication and stream options.
	Fingerprint() string
	// CreateSlot creates the slot. It blocks until the transactions that run at this moment have ended.
	CreateSlot(ctx context.Context) error
	// Close gives the lock back.
	Close() error
}

// Sink takes events and writes them as records.
type Sink interface {
	// Open connects, creates or checks the topics of the tables, and returns their partition
	// counts by topic. want are the counts of an earlier run; a difference is an error.
	Open(ctx context.Context, tables []*event.Table, want map[string]int32) (map[string]int32, error)
	// Write hands the records of a *event.Change, *event.Truncate or *event.Message to the
	// brokers, telling ack of each. It blocks while too many bytes are on their way, and copies
	// what it keeps. One goroutine calls it.
	Write(ctx context.Context, ev event.Event, ack event.Ack) error
	// Drain blocks until every record is acknowledged, one has failed, or ctx ends.
	Drain(ctx context.Context) error
	// Failed is closed once a record can not be delivered; Err then says why.
	Failed() <-chan struct{}
	Err() error
	// Partitions returns the partition counts of all topics that are known by now. Nobody changes what it has
	// returned: checkpoint records keep it.
	Partitions() map[string]int32
	// Close releases the connections. Records that are not acknowledged are given up.
	Close()
}

// Transactional is a Sink whose records become visible together with the checkpoint that covers
// them: Store.Save commits what was written before the last Hold. Close has the brokers give up what is
// open, where that is sure to end no other instance's transaction, so that nobody waits behind it.
type Transactional interface {
	Sink
	// Hold ends what the next Save commits. Write goes on meanwhile; what it brings belongs to the
	// transaction after, within the same bound of bytes. It is called once for each Save, and not while
	// Store.Acquire runs.
	Hold()
	// Size returns how many records and bytes were written since the last Hold.
	Size() (records, bytes int64)
}

// Store keeps one checkpoint record.
type Store interface {
	// Load reads the newest record without claiming it; nil where there is none. After a Save that
	// succeeded it returns once everybody can read what was saved.
	Load(ctx context.Context) (*checkpoint.Record, error)
	// Acquire shuts out every other writer, then reads the newest record. It is called with the
	// slot held: shutting out whoever holds the slot would stop a healthy instance.
	Acquire(ctx context.Context) (*checkpoint.Record, error)
	// Save writes a record and returns when it is durable. An error says nothing about whether the
	// record was written; go on with Acquire. A fault.Fenced error means that another instance acquired.
	Save(ctx context.Context, r checkpoint.Record) error
	// Close releases what the store holds.
	Close() error
}
