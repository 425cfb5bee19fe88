// Package sink writes events to Kafka: routing, topics, records, acknowledgements.
//
//	event ──route──▶ topic, partition, key ──encode──▶ record ──franz-go──▶ brokers
//	                                                      │                    │
//	                     window (bytes on their way) ◀────┴──── promise ◀──────┘
//	                                                               │
//	                                          event.Ack.Acked ◀────┴────▶ Failed, Err
//
// One goroutine calls Write. It routes the event's table (route.go), encodes the records into
// pooled buffers (record.go), waits for room in the window (window.go) and hands them to the
// client, which calls each record's promise once the brokers have answered. A warm Write does not
// allocate.
//
// What the package promises:
//
//   - Records of one partition are written in the order of Write, also over retries, and a record's
//     partition depends on its key and on the number of partitions that Open found, not on one that
//     changed in the meantime. The one exception is a batch that fits and is refused all the same:
//     see letters.
//   - A record is acknowledged only after all in-sync replicas have it. An unreachable broker is
//     waited for without end: no record is given up for its age, and the caller's context ends
//     waits, never records.
//   - A record that cannot be delivered is never passed over: it ends the sink (Failed, Err), or
//     goes to the dead-letter topic if one is configured.
//
// What it does not: nothing is remembered over a restart. What was not acknowledged is written again.
package sink
