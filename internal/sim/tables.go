package sim

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/walferry/walferry/event"
)

// table is a table of the model. All have the columns id, note and qty.
type table struct {
	oid      uint32
	schema   string
	name     string
	identity byte // as in pg_class
	primary  bool // id is the primary key
}

// tables are what is there, and captured: one for each kind of record key.
var tables = []*table{
	{oid: 16401, schema: "public", name: "accounts", identity: 'd', primary: true},
	{oid: 16407, schema: "public", name: "audits", identity: 'f', primary: true},
	{oid: 16413, schema: "public", name: "journal", identity: 'f'},
}

// column is a column of all tables.
type column struct {
	name string
	typ  uint32
}

const columnCount = 3

var columns = [columnCount]column{{"id", 23}, {"note", 25}, {"qty", 20}}

// key returns the record key of a row as JSON.
func (t *table) key(r row) string {
	if !t.primary {
		return ""
	}
	return `{"id":` + strconv.Itoa(r.id) + `}`
}

// old appends the old row as the table's identity has it.
func (t *table) old(b []byte, r row) []byte {
	if t.identity == 'f' {
		return tuple(b, 'O', r, nil)
	}
	return tuple(b, 'K', row{id: r.id}, nil)
}

// relation returns the message that describes the table.
func (t *table) relation() []byte {
	b := binary.BigEndian.AppendUint32([]byte{'R'}, t.oid)
	b = append(append(b, t.schema...), 0)
	b = append(append(b, t.name...), 0, t.identity, 0, columnCount)
	for i, c := range columns {
		flag := byte(0)
		if i == 0 && t.primary || t.identity == 'f' {
			flag = 1
		}
		b = append(append(append(b, flag), c.name...), 0)
		b = binary.BigEndian.AppendUint32(b, c.typ)
		b = append(b, 0xff, 0xff, 0xff, 0xff)
	}
	return b
}

// tuple appends a row. A note that is unchanged is not sent.
func tuple(b []byte, kind byte, r row, unchanged *string) []byte {
	b = append(b, kind, 0, columnCount)
	b = text(b, strconv.Itoa(r.id))
	switch {
	case unchanged != nil:
		b = append(b, 'u')
	case r.note == nil:
		b = append(b, 'n')
	default:
		b = text(b, *r.note)
	}
	if r.qty == nil {
		return append(b, 'n')
	}
	return text(b, strconv.FormatInt(*r.qty, 10))
}

func text(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(append(b, 't'), uint32(len(s))) //nolint:gosec // short
	return append(b, s...)
}

// origin returns an Origin message.
func origin(at event.LSN, name string) []byte {
	return append(append(binary.BigEndian.AppendUint64([]byte{'O'}, uint64(at)), name...), 0)
}

// logical returns a logical message; flags are 1 for one within a transaction.
func logical(flags byte, at event.LSN, name, content string) []byte {
	b := binary.BigEndian.AppendUint64([]byte{'M', flags}, uint64(at))
	b = append(append(b, name...), 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(content))) //nolint:gosec // short
	return append(b, content...)
}

// xlogData wraps a message of the stream. The two LSNs are the same, as in every logical stream.
func xlogData(at event.LSN, body []byte) []byte {
	b := binary.BigEndian.AppendUint64([]byte{'w'}, uint64(at))
	b = binary.BigEndian.AppendUint64(b, uint64(at))
	return append(binary.BigEndian.AppendUint64(b, pgTime(time.Now())), body...)
}

// keepalive returns a keepalive.
func keepalive(end event.LSN, reply bool) []byte {
	b := binary.BigEndian.AppendUint64([]byte{'k'}, uint64(end))
	b = binary.BigEndian.AppendUint64(b, pgTime(time.Now()))
	if reply {
		return append(b, 1)
	}
	return append(b, 0)
}

// pgTime is microseconds since 2000.
func pgTime(t time.Time) uint64 {
	return uint64(t.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).Microseconds()) //nolint:gosec // later than that
}

// lsnText prints an LSN as Postgres does.
func lsnText(l event.LSN) string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) } //nolint:gosec // halves
