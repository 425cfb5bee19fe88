package replication

import (
	"encoding/binary"
	"fmt"
)

// maxMessage is the largest protocol message that is believed. Postgres builds a message in one
// allocation of at most 1 GB.
const maxMessage = 1<<30 + 64<<10

// batchSize is how many bytes one batch holds before it is handed over whether the other side is
// ready or not. It is as large as the read that drains a full socket buffer on loopback, and small
// enough that the four batches of a stream weigh little.
const batchSize = 256 << 10

// batch is a run of whole CopyData payloads, in the order of the stream, all of one connection.
// The reader fills it, the assembler empties it; it belongs to one of them at a time.
type batch struct {
	// buf holds protocol messages as they came. Bytes from done on are not a whole message yet.
	buf  []byte
	done int
	// frames are the CopyData payloads within buf[:done].
	frames []span
}

// span is a part of a batch's buf.
type span struct{ from, to int }

func newBatch() *batch { return &batch{buf: make([]byte, 0, batchSize)} }

// reset empties the batch, and takes over the bytes of a message that
// was cut off at the end of the batch before. A buffer that one huge row blew up is let go.
func (b *batch) reset(rest []byte) {
	if cap(b.buf) > 4*batchSize && len(rest) < batchSize {
		b.buf = make([]byte, 0, batchSize)
	}
	b.buf = append(b.buf[:0], rest...)
	b.done = 0
	b.frames = b.frames[:0]
}

// next takes the next whole protocol message out of the buffer; its tag is 0 where there is none yet.
func (b *batch) next() (tag byte, body []byte, err error) {
	msg := b.rest()
	if len(msg) < 5 {
		return 0, nil, nil
	}
	size := 1 + int64(binary.BigEndian.Uint32(msg[1:]))
	if size < 5 || size > maxMessage {
		return 0, nil, fmt.Errorf("message %q announces %d bytes", msg[0], size)
	}
	if size > int64(len(msg)) {
		return 0, nil, nil
	}
	b.done += int(size)
	return msg[0], msg[5:size], nil
}

// rest returns the bytes behind the last whole message.
func (b *batch) rest() []byte { return b.buf[b.done:] }

// room returns space to read into, of at least one byte. The buffer grows by doubling while a
// message does not fit, so it follows what has arrived and never what a length field announces.
func (b *batch) room() []byte {
	if len(b.buf) == cap(b.buf) {
		grown := make([]byte, len(b.buf), 2*cap(b.buf))
		copy(grown, b.buf)
		b.buf = grown
	}
	return b.buf[len(b.buf):cap(b.buf)]
}

// full tells whether the batch must be handed over before more is read.
func (b *batch) full() bool { return len(b.buf) == cap(b.buf) && len(b.frames) > 0 }
