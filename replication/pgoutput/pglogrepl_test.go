package pgoutput_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pglogrepl"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/replication/pgoutput"
)

// TestCapturesAgainstPglogrepl compares every captured frame and message with what an independent
// decoder makes of it. What that one cannot read is counted and must be what is known of it: rows
// without columns.
func TestCapturesAgainstPglogrepl(t *testing.T) {
	var compared, refused int
	for _, c := range captures(t) {
		frames := capturedFrames(t, c)
		for i, f := range decodeFrames(t, frames) {
			if f.keepalive != nil {
				compareKeepalive(t, frames[i], f.keepalive)
				continue
			}
			x, err := pglogrepl.ParseXLogData(frames[i][1:])
			if err != nil || event.LSN(x.WALStart) != f.start {
				t.Errorf("%s: frame %d: pglogrepl says %v, %v", c, i, x.WALStart, err)
			}
			m, err := pglogrepl.Parse(x.WALData)
			if err != nil {
				if rows := f.message; !withoutColumns(rows) {
					t.Errorf("%s: frame %d: pglogrepl cannot read %s: %v", c, i, printMessage(rows), err)
				}
				refused++
				continue
			}
			if diff := cmp.Diff(fromPglogrepl(t, m), f.message); diff != "" {
				t.Errorf("%s: frame %d: decoded otherwise (-pglogrepl +got):\n%s", c, i, diff)
			}
			compared++
		}
	}
	t.Logf("%d messages agree, %d rows without columns that pglogrepl refuses", compared, refused)
	if compared < 500 || refused > 10 {
		t.Errorf("compared %d messages and left out %d: too few, or too many", compared, refused)
	}
}

func compareKeepalive(t *testing.T, data []byte, got *pgoutput.Keepalive) {
	t.Helper()
	k, err := pglogrepl.ParsePrimaryKeepaliveMessage(data[1:])
	if err != nil {
		t.Fatal(err)
	}
	want := &pgoutput.Keepalive{WALEnd: event.LSN(k.ServerWALEnd), ServerTime: k.ServerTime.UTC(), ReplyRequested: k.ReplyRequested}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a keepalive decoded otherwise (-pglogrepl +got):\n%s", diff)
	}
}

func withoutColumns(m pgoutput.Message) bool {
	switch m := m.(type) {
	case *pgoutput.Insert:
		return len(m.New) == 0
	case *pgoutput.Delete:
		return len(m.Old) == 0
	}
	return false
}

// fromPglogrepl says in our words what pglogrepl decoded.
func fromPglogrepl(t *testing.T, m pglogrepl.Message) pgoutput.Message {
	t.Helper()
	switch m := m.(type) {
	case *pglogrepl.BeginMessage:
		return &pgoutput.Begin{FinalLSN: event.LSN(m.FinalLSN), CommitTime: m.CommitTime.UTC(), XID: m.Xid}
	case *pglogrepl.CommitMessage:
		return &pgoutput.Commit{CommitLSN: event.LSN(m.CommitLSN), EndLSN: event.LSN(m.TransactionEndLSN), CommitTime: m.CommitTime.UTC()}
	case *pglogrepl.OriginMessage:
		return &pgoutput.Origin{CommitLSN: event.LSN(m.CommitLSN), Name: []byte(m.Name)}
	case *pglogrepl.RelationMessage:
		r := &pgoutput.Relation{
			ID: m.RelationID, Namespace: m.Namespace, Name: m.RelationName, Identity: event.Identity(m.ReplicaIdentity),
			Columns: []pgoutput.RelationColumn{},
		}
		for _, c := range m.Columns {
			r.Columns = append(r.Columns, pgoutput.RelationColumn{Flags: c.Flags, Name: c.Name, TypeOID: c.DataType, TypeMod: c.TypeModifier})
		}
		return r
	case *pglogrepl.TypeMessage:
		return &pgoutput.Type{OID: m.DataType, Namespace: m.Namespace, Name: m.Name}
	case *pglogrepl.InsertMessage:
		return &pgoutput.Insert{RelationID: m.RelationID, New: fromTuple(m.Tuple)}
	case *pglogrepl.UpdateMessage:
		return &pgoutput.Update{RelationID: m.RelationID, OldKind: pgoutput.OldKind(m.OldTupleType), Old: fromTuple(m.OldTuple), New: fromTuple(m.NewTuple)}
	case *pglogrepl.DeleteMessage:
		return &pgoutput.Delete{RelationID: m.RelationID, OldKind: pgoutput.OldKind(m.OldTupleType), Old: fromTuple(m.OldTuple)}
	case *pglogrepl.TruncateMessage:
		return &pgoutput.Truncate{Relations: m.RelationIDs, Cascade: m.Option&1 != 0, RestartIdentity: m.Option&2 != 0}
	case *pglogrepl.LogicalDecodingMessage:
		return &pgoutput.LogicalMessage{Transactional: m.Transactional, LSN: event.LSN(m.LSN), Prefix: []byte(m.Prefix), Content: m.Content}
	}
	t.Fatalf("pglogrepl decoded a %T, which no capture should hold", m)
	return nil
}

func fromTuple(t *pglogrepl.TupleData) event.Row {
	if t == nil {
		return nil
	}
	row := event.Row{}
	for _, c := range t.Columns {
		row = append(row, event.Value{
			State: map[uint8]event.State{'n': event.Null, 'u': event.Unchanged, 't': event.Text, 'b': event.Binary}[c.DataType],
			Bytes: c.Data,
		})
	}
	return row
}
