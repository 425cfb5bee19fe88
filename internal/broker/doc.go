// Package broker turns the configuration of a Kafka connection into franz-go options, and the
// errors of a Kafka client into faults with a code and a hint. Sink, checkpoint store and the
// commands that read topics share it, so that every connection behaves alike.
package broker
