package pgoutput_test

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/replication/pgoutput"
)

// encode writes a message as the server would. That it gives back the very bytes a message was
// decoded from is the proof that decoding lost nothing and made nothing up.
func encode(m pgoutput.Message) []byte {
	be := binary.BigEndian
	switch m := m.(type) {
	case *pgoutput.Begin:
		b := be.AppendUint64([]byte{'B'}, uint64(m.FinalLSN))
		return be.AppendUint32(be.AppendUint64(b, usec(m.CommitTime)), m.XID)
	case *pgoutput.Commit:
		b := be.AppendUint64([]byte{'C', 0}, uint64(m.CommitLSN))
		return be.AppendUint64(be.AppendUint64(b, uint64(m.EndLSN)), usec(m.CommitTime))
	case *pgoutput.Origin:
		return append(append(be.AppendUint64([]byte{'O'}, uint64(m.CommitLSN)), m.Name...), 0)
	case *pgoutput.Relation:
		return encodeRelation(m)
	case *pgoutput.Type:
		return append(be.AppendUint32([]byte{'Y'}, m.OID), m.Namespace+"\x00"+m.Name+"\x00"...)
	case *pgoutput.Insert:
		return appendRow(be.AppendUint32([]byte{'I'}, m.RelationID), 'N', m.New)
	case *pgoutput.Update:
		b := be.AppendUint32([]byte{'U'}, m.RelationID)
		if m.OldKind != pgoutput.OldNone {
			b = appendRow(b, byte(m.OldKind), m.Old)
		}
		return appendRow(b, 'N', m.New)
	case *pgoutput.Delete:
		return appendRow(be.AppendUint32([]byte{'D'}, m.RelationID), byte(m.OldKind), m.Old)
	case *pgoutput.Truncate:
		b := be.AppendUint32([]byte{'T'}, uint32(len(m.Relations)))
		b = append(b, bit(m.Cascade)|bit(m.RestartIdentity)<<1)
		for _, id := range m.Relations {
			b = be.AppendUint32(b, id)
		}
		return b
	case *pgoutput.LogicalMessage:
		b := be.AppendUint64([]byte{'M', bit(m.Transactional)}, uint64(m.LSN))
		b = append(append(b, m.Prefix...), 0)
		return append(be.AppendUint32(b, uint32(len(m.Content))), m.Content...)
	}
	return nil
}

func encodeRelation(m *pgoutput.Relation) []byte {
	be := binary.BigEndian
	b := append(be.AppendUint32([]byte{'R'}, m.ID), m.Namespace+"\x00"+m.Name+"\x00"...)
	b = be.AppendUint16(append(b, byte(m.Identity)), uint16(len(m.Columns)))
	for _, c := range m.Columns {
		b = append(append(b, c.Flags), c.Name+"\x00"...)
		b = be.AppendUint32(be.AppendUint32(b, c.TypeOID), uint32(c.TypeMod))
	}
	return b
}

func appendRow(b []byte, kind byte, row event.Row) []byte {
	b = binary.BigEndian.AppendUint16(append(b, kind), uint16(len(row)))
	for _, v := range row {
		b = append(b, map[event.State]byte{event.Null: 'n', event.Unchanged: 'u', event.Text: 't', event.Binary: 'b'}[v.State])
		if v.State == event.Text || v.State == event.Binary {
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(v.Bytes))), v.Bytes...)
		}
	}
	return b
}

// usec counts from 2000 on, as Postgres does.
func usec(t time.Time) uint64 {
	return uint64(t.UnixMicro() - time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro())
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// Every captured message comes back byte for byte.
func TestCapturesRoundTrip(t *testing.T) {
	var d pgoutput.Decoder
	for _, c := range captures(t) {
		for i, payload := range payloads(t, capturedFrames(t, c)) {
			m, err := d.Decode(payload)
			if err != nil {
				t.Fatalf("%s: message %d: %v", c, i, err)
			}
			if got := encode(m); !bytes.Equal(got, payload) {
				t.Errorf("%s: message %d, %s:\ngot  %x\nwant %x", c, i, printMessage(m), got, payload)
			}
		}
	}
}
