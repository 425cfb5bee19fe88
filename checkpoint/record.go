package checkpoint

import (
	"time"

	"github.com/walferry/walferry/event"
)

// Version is the newest record version that this code writes and reads.
const Version = 1

// Record is one checkpoint of one pipeline: what is durable, of which stream, under which
// settings. It is written as JSON; see docs/guarantees.md.
type Record struct {
	// Version tells readers apart; a record newer than Version is refused.
	Version int `json:"v"`
	// Intent marks the record that is written before the slot is created: it holds an Origin and
	// nothing else, and says that a slot without a checkpoint is this pipeline's own.
	Intent bool `json:"intent,omitempty"`
	event.Origin
	Timeline uint32 `json:"timeline"`
	// End is the LSN up to which every transaction is durable as a whole: what the slot may be
	// told, and no transaction with an end at or below it is published again.
	End event.LSN `json:"end_lsn"`
	// Partial is the last durable change of the transaction after End, zero where none of it is.
	// Changes at or before it are not published again.
	Partial event.Position `json:"partial,omitzero"`
	// Split counts the parts of that transaction that were committed, zero without a Partial.
	Split int `json:"split,omitempty"`
	// Fingerprint is a hash of what decides the sequence of the stream: publication and options.
	Fingerprint string `json:"fingerprint"`
	// Partitions are the partition counts of the topics, by name.
	Partitions map[string]int32 `json:"partitions,omitempty"`
	// Instance tells the processes that wrote records of one pipeline apart; it is random for each.
	Instance string `json:"instance,omitempty"`
	// Time is when the record was written.
	Time time.Time `json:"time"`
}
