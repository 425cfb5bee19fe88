package pgoutput_test

import (
	"fmt"
	"hash/crc32"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/replication/pgoutput"
)

// decoded is one frame of a capture: a keepalive, or a message and where it stood. It is for a
// look right after decoding: the next frame overwrites what it points at.
type decoded struct {
	start     event.LSN
	keepalive *pgoutput.Keepalive
	message   pgoutput.Message
}

// decodeFrames yields the frames of a capture, decoded one by one with one Decoder.
func decodeFrames(tb testing.TB, frames [][]byte) iter.Seq2[int, decoded] {
	tb.Helper()
	return func(yield func(int, decoded) bool) {
		tb.Helper()
		var d pgoutput.Decoder
		for i, data := range frames {
			frame, err := d.DecodeFrame(data)
			if err != nil {
				tb.Fatalf("frame %d: %v", i, err)
			}
			var out decoded
			switch frame := frame.(type) {
			case *pgoutput.Keepalive:
				out.keepalive = frame
			case *pgoutput.XLogData:
				out.start = frame.WALStart
				if out.message, err = d.Decode(frame.Payload); err != nil {
					tb.Fatalf("frame %d: %v", i, err)
				}
			}
			if !yield(i, out) {
				return
			}
		}
	}
}

// printFrames writes a capture as text, one line per frame: the place of the message, what it is,
// and all it says.
func printFrames(tb testing.TB, frames [][]byte) string {
	tb.Helper()
	var b strings.Builder
	for _, f := range decodeFrames(tb, frames) {
		if f.keepalive != nil {
			fmt.Fprintf(&b, "- keepalive end=%s reply=%t\n", f.keepalive.WALEnd, f.keepalive.ReplyRequested)
			continue
		}
		fmt.Fprintf(&b, "%s %s\n", f.start, printMessage(f.message))
	}
	return b.String()
}

func printMessage(m pgoutput.Message) string {
	switch m := m.(type) {
	case *pgoutput.Begin:
		return fmt.Sprintf("begin commit=%s time=%s xid=%d", m.FinalLSN, m.CommitTime.Format(time.RFC3339Nano), m.XID)
	case *pgoutput.Commit:
		return fmt.Sprintf("commit commit=%s end=%s time=%s", m.CommitLSN, m.EndLSN, m.CommitTime.Format(time.RFC3339Nano))
	case *pgoutput.Origin:
		return fmt.Sprintf("origin commit=%s name=%q", m.CommitLSN, m.Name)
	case *pgoutput.Relation:
		return printRelation(m)
	case *pgoutput.Type:
		return fmt.Sprintf("type %d %q.%q", m.OID, m.Namespace, m.Name)
	case *pgoutput.Insert:
		return fmt.Sprintf("insert %d new=%s", m.RelationID, printRow(m.New))
	case *pgoutput.Update:
		if m.OldKind == pgoutput.OldNone {
			return fmt.Sprintf("update %d new=%s", m.RelationID, printRow(m.New))
		}
		return fmt.Sprintf("update %d old %c=%s new=%s", m.RelationID, m.OldKind, printRow(m.Old), printRow(m.New))
	case *pgoutput.Delete:
		return fmt.Sprintf("delete %d old %c=%s", m.RelationID, m.OldKind, printRow(m.Old))
	case *pgoutput.Truncate:
		return fmt.Sprintf("truncate %v cascade=%t restart_identity=%t", m.Relations, m.Cascade, m.RestartIdentity)
	case *pgoutput.LogicalMessage:
		return fmt.Sprintf("message lsn=%s transactional=%t prefix=%q content=%q", m.LSN, m.Transactional, m.Prefix, m.Content)
	}
	return fmt.Sprintf("%T", m)
}

// printRelation writes a column as name:type(modifier), with a * where it is in the identity.
func printRelation(m *pgoutput.Relation) string {
	var b strings.Builder
	fmt.Fprintf(&b, "relation %d %q.%q identity=%s", m.ID, m.Namespace, m.Name, m.Identity)
	for _, c := range m.Columns {
		fmt.Fprintf(&b, " %q:%d", c.Name, c.TypeOID)
		if c.TypeMod != -1 {
			fmt.Fprintf(&b, "(%d)", c.TypeMod)
		}
		if c.Flags == pgoutput.ColumnInIdentity {
			b.WriteByte('*')
		}
	}
	return b.String()
}

func printRow(row event.Row) string {
	values := make([]string, len(row))
	for i, v := range row {
		values[i] = printValue(v)
	}
	return "(" + strings.Join(values, ", ") + ")"
}

// printValue writes a value; of a long one the beginning, the length and a checksum.
func printValue(v event.Value) string {
	const long = 500
	switch v.State {
	case event.Null:
		return "null"
	case event.Unchanged:
		return "unchanged"
	case event.Binary:
		return fmt.Sprintf("0x%x", v.Bytes)
	case event.Text:
		if len(v.Bytes) > long {
			return fmt.Sprintf("%q… %d bytes crc32 %08x", v.Bytes[:20], len(v.Bytes), crc32.ChecksumIEEE(v.Bytes))
		}
		return fmt.Sprintf("%q", v.Bytes)
	case event.Absent:
	}
	return "absent, which the wire does not have"
}

// kinds names what a frame holds.
func kinds(f decoded) []string {
	if f.keepalive != nil {
		return []string{"keepalive"}
	}
	name, _, _ := strings.Cut(printMessage(f.message), " ")
	all := []string{name}
	var rows []event.Row
	var old pgoutput.OldKind
	switch m := f.message.(type) {
	case *pgoutput.Insert:
		rows = append(rows, m.New)
	case *pgoutput.Update:
		rows, old = append(rows, m.Old, m.New), m.OldKind
	case *pgoutput.Delete:
		rows, old = append(rows, m.Old), m.OldKind
	}
	switch old {
	case pgoutput.OldKey:
		all = append(all, "old key")
	case pgoutput.OldRow:
		all = append(all, "old row")
	case pgoutput.OldNone:
	}
	for _, row := range rows {
		for _, v := range row {
			all = append(all, map[event.State]string{event.Null: "null", event.Unchanged: "unchanged", event.Text: "text", event.Binary: "binary"}[v.State])
		}
	}
	return all
}
