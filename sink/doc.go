// Package sink writes events to Kafka: routing, topics, records, acknowledgements.
package sink
