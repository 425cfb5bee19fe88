package pgoutput

import "github.com/walferry/walferry/event"

// LogicalMessage is what pg_logical_emit_message wrote. Any role that may log in can write one.
type LogicalMessage struct {
	// Transactional messages stand in their transaction. The others arrive at once, before the Begin
	// of the transaction they were sent from and even where that rolls back.
	Transactional bool
	// LSN is the place of the message itself.
	LSN event.LSN
	// Prefix and Content alias the input.
	Prefix  []byte
	Content []byte
}

// messageTransactional is the one flag of a logical message.
const messageTransactional byte = 1

func (d *Decoder) decodeLogicalMessage(r *reader) *LogicalMessage {
	d.logical = LogicalMessage{
		Transactional: r.flags(messageTransactional) != 0,
		LSN:           r.lsn(),
		Prefix:        r.cstring(),
		Content:       r.bytes(int(r.uint32())),
	}
	return &d.logical
}
