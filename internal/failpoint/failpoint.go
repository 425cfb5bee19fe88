// Package failpoint kills the process at a named place, so that a test can see what the next start
// makes of it. It does so only in a binary that was built with the tag failpoints:
//
//	WALFERRY_FAILPOINT=commit_sent    the place to die at
//	WALFERRY_FAILPOINT_AFTER=3        at the third arrival there (the first)
//
// Without the tag Here is empty and compiled away, and neither these names nor those of the points are in
// the binary; a test of internal/e2e looks for them.
package failpoint

// Point is a place to die at.
type Point string

// The places, in the order in which a pipeline gets to them: first those of a start, then the way of a
// change, then a stop.
const (
	Prepared       Point = "prepared"        // server, role and publication were checked, the publication is there
	TopicsMade     Point = "topics_made"     // the topics are there
	IntentSaved    Point = "intent_saved"    // the checkpoint says that the slot is about to be made
	SlotCreated    Point = "slot_created"    // the slot is there, and no checkpoint with a position
	SlotTaken      Point = "slot_taken"      // the walsender has begun
	Fenced         Point = "fenced"          // every predecessor's writes are shut out
	CheckpointRead Point = "checkpoint_read" // the newest checkpoint is known

	Read       Point = "read"        // bytes of the stream were read
	Decoded    Point = "decoded"     // an event was made of them
	Encoded    Point = "encoded"     // records were made of the event
	Staged     Point = "staged"      // a record waits for the commit before it
	HandedOver Point = "handed_over" // a record was given to the Kafka client
	Acked      Point = "acked"       // the brokers have acknowledged a record
	Held       Point = "held"        // the end of a Kafka transaction was decided

	CheckpointProduced Point = "checkpoint_produced" // the record was given to the Kafka client
	Flushed            Point = "flushed"             // the brokers have everything that the commit covers
	CommitSent         Point = "commit_sent"         // EndTxn is on its way
	CommitAnswered     Point = "commit_answered"     // EndTxn is answered
	Begun              Point = "begun"               // the next Kafka transaction has begun, nothing staged is in it
	Released           Point = "released"            // what was staged is given to the client
	FileWritten        Point = "file_written"        // the new checkpoint file is on disk under a name of its own
	FileRenamed        Point = "file_renamed"        // it has taken the old one's place

	Saved     Point = "saved"     // the checkpoint is durable and the server does not know
	Confirmed Point = "confirmed" // the next status update says so
	Reported  Point = "reported"  // a status update was sent

	Leaving Point = "leaving" // at a stop, the last status update was sent
)

// All returns the points in their order.
func All() []Point {
	return []Point{
		Prepared, TopicsMade, IntentSaved, SlotCreated, SlotTaken, Fenced, CheckpointRead,
		Read, Decoded, Encoded, Staged, HandedOver, Acked, Held,
		CheckpointProduced, Flushed, CommitSent, CommitAnswered, Begun, Released, FileWritten, FileRenamed,
		Saved, Confirmed, Reported, Leaving,
	}
}
