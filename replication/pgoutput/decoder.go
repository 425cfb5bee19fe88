package pgoutput

import (
	"errors"
	"fmt"

	"github.com/walferry/walferry/event"
)

// Message is one of *Begin, *Commit, *Origin, *Relation, *Type, *Insert, *Update, *Delete,
// *Truncate and *LogicalMessage. The set is closed; switches on it are exhaustive.
type Message interface{ message() }

func (*Begin) message()          {}
func (*Commit) message()         {}
func (*Origin) message()         {}
func (*Relation) message()       {}
func (*Type) message()           {}
func (*Insert) message()         {}
func (*Update) message()         {}
func (*Delete) message()         {}
func (*Truncate) message()       {}
func (*LogicalMessage) message() {}

// ErrUnsupported is wrapped by the error for a message that only protocol version 2 to 4 or a
// two-phase slot sends. A slot made with two_phase sends its messages even to a client of version 1.
var ErrUnsupported = errors.New("not part of protocol version 1")

// Decoder decodes frames and messages into structs of its own. The zero Decoder is ready. It is not
// safe for concurrent use. A result is valid until the next call of the same method, and as long as
// the input it aliases is left alone; *Relation and *Type may be kept for ever.
type Decoder struct {
	begin    Begin
	commit   Commit
	origin   Origin
	insert   Insert
	update   Update
	deletion Delete
	truncate Truncate
	logical  LogicalMessage

	xlog      XLogData
	keepalive Keepalive

	// The rows' memory stands apart from the messages, because Update.Old is nil where no old row
	// came and must not lose its capacity by that.
	oldRow, newRow event.Row
	relations      []uint32
}

// Decode decodes one message, the payload of one XLogData. After an error the message is lost, the
// Decoder is as good as before.
func (d *Decoder) Decode(data []byte) (Message, error) {
	r := reader{data: data}
	tag := r.byte()
	var m Message
	switch tag {
	case 'B':
		m = d.decodeBegin(&r)
	case 'C':
		m = d.decodeCommit(&r)
	case 'O':
		m = d.decodeOrigin(&r)
	case 'R':
		m = decodeRelation(&r)
	case 'Y':
		m = decodeType(&r)
	case 'I':
		m = d.decodeInsert(&r)
	case 'U':
		m = d.decodeUpdate(&r)
	case 'D':
		m = d.decodeDelete(&r)
	case 'T':
		m = d.decodeTruncate(&r)
	case 'M':
		m = d.decodeLogicalMessage(&r)
	default:
		return nil, refuse(tag, len(data))
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("decode %s: %w", messageName(tag), err)
	}
	return m, nil
}

// refuse makes the error for a tag that Decode does not take.
func refuse(tag byte, length int) error {
	if length == 0 {
		return errors.New("decode message: it is empty")
	}
	if name := messageName(tag); name != "" {
		return fmt.Errorf("decode %s (%q): %w", name, tag, ErrUnsupported)
	}
	return fmt.Errorf("decode message: unknown tag 0x%02x at offset 0", tag)
}

// messageName returns the name of a tag of protocol version 1 to 4, "" for any other byte.
func messageName(tag byte) string {
	switch tag {
	case 'B':
		return "begin"
	case 'C':
		return "commit"
	case 'O':
		return "origin"
	case 'R':
		return "relation"
	case 'Y':
		return "type"
	case 'I':
		return "insert"
	case 'U':
		return "update"
	case 'D':
		return "delete"
	case 'T':
		return "truncate"
	case 'M':
		return "logical message"
	case 'S':
		return "stream start"
	case 'E':
		return "stream stop"
	case 'c':
		return "stream commit"
	case 'A':
		return "stream abort"
	case 'b':
		return "begin prepare"
	case 'P':
		return "prepare"
	case 'K':
		return "commit prepared"
	case 'r':
		return "rollback prepared"
	case 'p':
		return "stream prepare"
	}
	return ""
}
