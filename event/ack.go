package event

// Ack is told of the records that one unit of the stream became: a transaction, or a logical
// message outside of one. A source of acknowledgements calls Expect before it hands the records to
// a broker and Acked after the broker has them all on record; the unit is durable when as many
// were acknowledged as were expected and the unit is closed. A record that failed is never
// acknowledged. Both methods are safe for concurrent use, do not block and do not allocate.
type Ack interface {
	Expect(records int)
	Acked(records int)
}
