package pgoutput

import (
	"errors"
	"fmt"
	"time"

	"github.com/walferry/walferry/event"
)

// Frame is what one CopyData of a walsender holds: *XLogData or *Keepalive. The set is closed.
type Frame interface{ frame() }

func (*XLogData) frame()  {}
func (*Keepalive) frame() {}

// XLogData carries one message.
type XLogData struct {
	// WALStart is the place of the message in the WAL; 0/0 for Relation and Type, and for the Begin
	// of a transaction with an Origin. It goes backwards between transactions.
	WALStart event.LSN
	// WALEnd equals WALStart in a logical stream: it is not the end of the server's WAL.
	WALEnd event.LSN
	// ServerTime is when the frame was sent, in UTC.
	ServerTime time.Time
	// Payload is the message, for Decode. It aliases the input.
	Payload []byte
}

// Keepalive tells how far the walsender has got.
type Keepalive struct {
	// WALEnd may be confirmed once every transaction that came before this frame is durable.
	WALEnd event.LSN
	// ServerTime is when the frame was sent, in UTC.
	ServerTime time.Time
	// ReplyRequested asks for a status soon. A server that shuts down may ask without end.
	ReplyRequested bool
}

// DecodeFrame decodes what one CopyData holds.
func (d *Decoder) DecodeFrame(data []byte) (Frame, error) {
	r := reader{data: data}
	switch tag := r.byte(); {
	case len(data) == 0:
		return nil, errors.New("decode frame: it is empty")
	case tag == 'w':
		d.xlog = XLogData{WALStart: r.lsn(), WALEnd: r.lsn(), ServerTime: r.time(), Payload: r.bytes(r.rest())}
		if err := r.end(); err != nil {
			return nil, fmt.Errorf("decode XLogData: %w", err)
		}
		return &d.xlog, nil
	case tag == 'k':
		d.keepalive = Keepalive{WALEnd: r.lsn(), ServerTime: r.time(), ReplyRequested: r.byte() != 0}
		if err := r.end(); err != nil {
			return nil, fmt.Errorf("decode keepalive: %w", err)
		}
		return &d.keepalive, nil
	default:
		return nil, fmt.Errorf("decode frame: unknown tag 0x%02x at offset 0", tag)
	}
}
