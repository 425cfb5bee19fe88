// Package checkpoint keeps what is durable, and decides where a start goes on.
//
//	acks ──▶ Tracker ──▶ low-water mark ──▶ Record ──▶ KafkaStore, FileStore
//	                                                        │ next start
//	               Decision, or a refusal ◀── Judge ◀───────┘
//	                                            ▲ event.Server
//
// Tracker, Judge and the record's codec are pure. The stores promise: what Save returned nil for is
// read by every later Acquire, whole; and of two instances that both believe they are the one, at
// most the one that acquired last writes. They do not promise to know the outcome of a Save that
// failed: Acquire tells.
//
// The package does not confirm anything to the slot and does not decide who holds it; that is the
// pipeline's, in one function.
package checkpoint
