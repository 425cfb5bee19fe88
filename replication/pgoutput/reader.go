package pgoutput

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/walferry/walferry/event"
)

// reader walks over one message. Its first failure sticks: every later read returns zeros, so that
// a decoder reads straight through and asks once, at the end.
type reader struct {
	data []byte
	at   int
	err  error
}

// fail records what is wrong at the current offset. The reason is about the form, never about data.
func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format+" at offset %d", append(args, r.at)...)
	}
	r.at = len(r.data)
}

// end returns the first failure; bytes that were not read are one.
func (r *reader) end() error {
	if r.err == nil && r.rest() != 0 {
		r.fail("%d bytes left over", r.rest())
	}
	return r.err
}

// rest is the number of bytes not read yet.
func (r *reader) rest() int { return len(r.data) - r.at }

// bytes returns the next n bytes as a slice of the input that cannot grow into what follows.
func (r *reader) bytes(n int) []byte {
	if n < 0 || n > r.rest() {
		r.fail("want %d bytes, have %d,", n, r.rest())
		return nil
	}
	b := r.data[r.at : r.at+n : r.at+n]
	r.at += n
	return b
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) lsn() event.LSN { return event.LSN(r.uint64()) }

// time reads microseconds since 2000. Any value is a time; absurd ones wrap around.
func (r *reader) time() time.Time {
	return time.UnixMicro(int64(r.uint64()) + epoch).UTC() //nolint:gosec // the wire has a signed number
}

// cstring returns the bytes before the next NUL and steps over it.
func (r *reader) cstring() []byte {
	n := bytes.IndexByte(r.data[r.at:], 0)
	if n < 0 {
		r.fail("a string without an end")
		return nil
	}
	b := r.bytes(n)
	r.at++
	return b
}

// flags reads a byte of which only the known bits may be set.
func (r *reader) flags(known byte) byte {
	b := r.byte()
	if b&^known != 0 {
		r.at--
		r.fail("unknown flags 0x%02x", b)
		return 0
	}
	return b
}

// epoch is the Unix time of 2000-01-01, where Postgres counts from, in microseconds.
const epoch int64 = 946_684_800_000_000
