// Package pipeline runs the way of one row: it holds every long-lived goroutine, and the order in
// which a change becomes durable and is confirmed.
//
//	stream ──connection──▶ Source ──event──▶ publish ──▶ Sink ──record──▶ brokers
//	   │                     ▲                  │                            │
//	   │ claims              │ Confirm          ▼ Open, Close                ▼ Acked
//	   └────▶ Store ◀──Save── save ◀──Durable── checkpoint.Tracker ◀─────────┘
//
// The goroutines stand in run, one line each: stream keeps a connection and claims the checkpoint
// for it, publish moves events to the sink, save turns what is durable into a checkpoint and then
// confirms it, failed and watchTables wait for trouble.
//
// # What it promises
//
// A position is confirmed to the server only after the store has it, and saved only after every
// record before it was acknowledged (advance, the one place). A connection that is lost repeats
// nothing: the server sends again, and the cursor knows what was handed over. A stop drains, saves,
// in mid-transaction if need be, and gives the slot back; the next start goes on there.
//
// # How a record is published twice
//
// Under at_least_once, only by the end of the process: what was acknowledged after the last save
// (saveEvery) and what was on its way is sent again. The records are the same, position and all.
//
// # What it does not do
//
// It knows Source, Sink and Store by the contracts it declares itself, and no database or broker.
package pipeline
