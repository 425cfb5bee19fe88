package pgoutput

import (
	"encoding/binary"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walferry/walferry/event"
)

// wire joins the parts of a message: strings as they are, numbers in network order.
func wire(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			b = append(b, p...)
		case byte:
			b = append(b, p)
		case uint16:
			b = binary.BigEndian.AppendUint16(b, p)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, p)
		case uint64:
			b = binary.BigEndian.AppendUint64(b, p)
		default:
			panic("wire: a part of unknown type")
		}
	}
	return b
}

// text is one value in text form on the wire.
func text(s string) string { return string(wire("t", uint32(len(s)), s)) }

const (
	lsn1 = event.LSN(0x16B374D848)
	lsn2 = event.LSN(0x16B374D900)
)

// usec is 2026-05-01T10:00:00.123456Z in microseconds since 2000.
const usec = uint64(830_944_800_123_456)

var commitTime = time.Date(2026, 5, 1, 10, 0, 0, 123_456_000, time.UTC)

// messages are well-formed messages, one or more of each kind, and what they mean.
var messages = []struct {
	name string
	data []byte
	want Message
}{
	{"begin", wire("B", uint64(lsn1), usec, uint32(751)), &Begin{FinalLSN: lsn1, CommitTime: commitTime, XID: 751}},
	{"commit", wire("C", byte(0), uint64(lsn1), uint64(lsn2), usec), &Commit{CommitLSN: lsn1, EndLSN: lsn2, CommitTime: commitTime}},
	{"origin", wire("O", uint64(lsn1), "elsewhere\x00"), &Origin{CommitLSN: lsn1, Name: []byte("elsewhere")}},
	{
		"relation",
		wire("R", uint32(16385), "public\x00orders\x00d", uint16(2), byte(1), "id\x00", uint32(20), ^uint32(0), byte(0), "Größe\x00", uint32(1043), uint32(36)),
		&Relation{
			ID: 16385, Namespace: "public", Name: "orders", Identity: event.IdentityDefault,
			Columns: []RelationColumn{
				{Flags: ColumnInIdentity, Name: "id", TypeOID: 20, TypeMod: -1},
				{Name: "Größe", TypeOID: 1043, TypeMod: 36},
			},
		},
	},
	{
		"relation without columns",
		wire("R", uint32(16385), "\x00empty\x00f", uint16(0)),
		&Relation{ID: 16385, Name: "empty", Identity: event.IdentityFull, Columns: []RelationColumn{}},
	},
	{"type", wire("Y", uint32(16500), "shop\x00mood\x00"), &Type{OID: 16500, Namespace: "shop", Name: "mood"}},
	{
		"insert",
		wire("I", uint32(16385), "N", uint16(5), text("42"), "n", text(""), "u", "b", uint32(2), "\x00\xff"),
		&Insert{RelationID: 16385, New: event.Row{
			{State: event.Text, Bytes: []byte("42")},
			{State: event.Null},
			{State: event.Text, Bytes: []byte{}},
			{State: event.Unchanged},
			{State: event.Binary, Bytes: []byte{0, 0xff}},
		}},
	},
	{"insert without columns", wire("I", uint32(16385), "N", uint16(0)), &Insert{RelationID: 16385, New: event.Row{}}},
	{
		"update",
		wire("U", uint32(7), "N", uint16(1), text("a")),
		&Update{RelationID: 7, New: event.Row{{State: event.Text, Bytes: []byte("a")}}},
	},
	{
		"update of a key",
		wire("U", uint32(7), "K", uint16(2), text("1"), "n", "N", uint16(2), text("2"), "u"),
		&Update{
			RelationID: 7, OldKind: OldKey,
			Old: event.Row{{State: event.Text, Bytes: []byte("1")}, {State: event.Null}},
			New: event.Row{{State: event.Text, Bytes: []byte("2")}, {State: event.Unchanged}},
		},
	},
	{
		"update under full identity",
		wire("U", uint32(7), "O", uint16(1), "n", "N", uint16(1), text("2")),
		&Update{
			RelationID: 7, OldKind: OldRow,
			Old: event.Row{{State: event.Null}},
			New: event.Row{{State: event.Text, Bytes: []byte("2")}},
		},
	},
	{
		"delete by key",
		wire("D", uint32(7), "K", uint16(2), text("1"), "n"),
		&Delete{RelationID: 7, OldKind: OldKey, Old: event.Row{{State: event.Text, Bytes: []byte("1")}, {State: event.Null}}},
	},
	{"delete of a row without columns", wire("D", uint32(7), "O", uint16(0)), &Delete{RelationID: 7, OldKind: OldRow, Old: event.Row{}}},
	{"truncate", wire("T", uint32(2), byte(0), uint32(7), uint32(8)), &Truncate{Relations: []uint32{7, 8}}},
	{
		"truncate with options",
		wire("T", uint32(1), byte(3), uint32(7)),
		&Truncate{Relations: []uint32{7}, Cascade: true, RestartIdentity: true},
	},
	{
		"logical message",
		wire("M", byte(1), uint64(lsn1), "audit\x00", uint32(3), "a\x00b"),
		&LogicalMessage{Transactional: true, LSN: lsn1, Prefix: []byte("audit"), Content: []byte("a\x00b")},
	},
	{
		"logical message outside of a transaction",
		wire("M", byte(0), uint64(lsn1), "\x00", uint32(0)),
		&LogicalMessage{LSN: lsn1, Prefix: []byte{}, Content: []byte{}},
	},
}

func TestDecode(t *testing.T) {
	for _, tt := range messages {
		t.Run(tt.name, func(t *testing.T) {
			var d Decoder
			got, err := d.Decode(tt.data)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("decoded otherwise (-want +got):\n%s", diff)
			}
		})
	}
}

// One Decoder decodes everything in turn, forwards and backwards, as if each message were its first.
func TestDecoderForgets(t *testing.T) {
	var d Decoder
	for i := range 2 * len(messages) {
		tt := messages[min(i, 2*len(messages)-1-i)]
		if _, err := d.Decode(tt.data[:len(tt.data)-1]); err == nil {
			t.Errorf("%s: a cut message was taken", tt.name)
		}
		got, err := d.Decode(tt.data)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s after other messages (-want +got):\n%s", tt.name, diff)
		}
	}
}

// A message is taken whole or not at all: every cut and every surplus byte is an error that names
// the message.
func TestDecodeCutAndSurplus(t *testing.T) {
	for _, tt := range messages {
		var d Decoder
		name := messageName(tt.data[0])
		for n := range len(tt.data) {
			if _, err := d.Decode(tt.data[:n:n]); err == nil {
				t.Errorf("%s cut to %d of %d bytes was taken", tt.name, n, len(tt.data))
			} else if n > 0 && !strings.HasPrefix(err.Error(), "decode "+name+": ") {
				t.Errorf("%s cut to %d bytes: the error does not name it: %v", tt.name, n, err)
			}
		}
		_, err := d.Decode(append(tt.data[:len(tt.data):len(tt.data)], 0))
		if err == nil || !strings.Contains(err.Error(), "left over at offset") {
			t.Errorf("%s with a surplus byte: %v", tt.name, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "decode message: it is empty"},
		{"an unknown tag", wire("Q"), "decode message: unknown tag 0x51 at offset 0"},
		{"flags in a commit", wire("C", byte(1), uint64(1), uint64(2), usec), "decode commit: unknown flags 0x01 at offset 1"},
		{"flags in a truncate", wire("T", uint32(1), byte(4), uint32(7)), "decode truncate: unknown flags 0x04 at offset 5"},
		{"flags in a logical message", wire("M", byte(2), uint64(1), "\x00", uint32(0)), "decode logical message: unknown flags 0x02 at offset 1"},
		{"flags of a column", wire("R", uint32(1), "\x00t\x00d", uint16(1), byte(2), "a\x00", uint32(20), ^uint32(0)), "decode relation: unknown flags 0x02 at offset 11"},
		{"an unknown identity", wire("R", uint32(1), "\x00t\x00x", uint16(0)), "decode relation: unknown replica identity 0x78 at offset 8"},
		{"a name without an end", wire("Y", uint32(1), "public\x00mood"), "decode type: a string without an end at offset 12"},
		{"a delete without a row", wire("D", uint32(1), "N", uint16(0)), "decode delete: no old row at offset 5"},
		{"an insert of an old row", wire("I", uint32(1), "K", uint16(0)), "decode insert: want 'N' at offset 5"},
		{"an update without a new row", wire("U", uint32(1), "K", uint16(0), "O", uint16(0)), "decode update: want 'N' at offset 8"},
		{"an unknown kind of value", wire("I", uint32(1), "N", uint16(1), "x"), "decode insert: unknown kind of value at offset 8"},
		{"a long value", wire("I", uint32(1), "N", uint16(1), "t", ^uint32(0), "abc"), "decode insert: want 4294967295 bytes, have 3, at offset 13"},
		{"more values than bytes", wire("I", uint32(1), "N", uint16(1600), "nn"), "decode insert: 1600 columns in 2 bytes at offset 8"},
		{"more columns than bytes", wire("R", uint32(1), "\x00t\x00d", uint16(1600), "nn"), "decode relation: 1600 columns in 2 bytes at offset 11"},
		{"more columns than Postgres has", wire("I", uint32(1), "N", uint16(1601), strings.Repeat("n", 1601)), "decode insert: 1601 columns, more than a table can have, at offset 8"},
		{"more relations than bytes", wire("T", ^uint32(0), byte(0), uint32(7)), "decode truncate: 4294967295 relations in 4 bytes at offset 6"},
		{"more content than bytes", wire("M", byte(0), uint64(1), "p\x00", ^uint32(0), "abc"), "decode logical message: want 4294967295 bytes, have 3, at offset 16"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var d Decoder
			_, err := d.Decode(tt.data)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if errors.Is(err, ErrUnsupported) {
				t.Error("a malformed message counts as one of another protocol version")
			}
		})
	}
}

func TestDecodeUnsupported(t *testing.T) {
	for tag, name := range map[byte]string{
		'S': "stream start", 'E': "stream stop", 'c': "stream commit", 'A': "stream abort", 'p': "stream prepare",
		'b': "begin prepare", 'P': "prepare", 'K': "commit prepared", 'r': "rollback prepared",
	} {
		var d Decoder
		_, err := d.Decode([]byte{tag, 0, 0, 0, 1})
		if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), name+" ('"+string(tag)+"')") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The bytes of a value belong to the input, and appending to one does not reach the next.
func TestDecodeAliases(t *testing.T) {
	data := wire("I", uint32(1), "N", uint16(2), text("ab"), text("cd"))
	var d Decoder
	m, err := d.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	insert, ok := m.(*Insert)
	if !ok {
		t.Fatalf("decoded a %T", m)
	}
	row := insert.New
	_ = append(row[0].Bytes, "overwritten"...)
	data[len(data)-1] = 'e'
	if got := string(row[1].Bytes); got != "ce" {
		t.Errorf("the second value reads %q, want the input's bytes as they are now, ce", got)
	}
}

// Relations and types outlive the next call, because caches hold them.
func TestRelationMayBeKept(t *testing.T) {
	first := wire("R", uint32(1), "public\x00a\x00d", uint16(1), byte(1), "id\x00", uint32(20), ^uint32(0))
	var d Decoder
	m, err := d.Decode(first)
	if err != nil {
		t.Fatal(err)
	}
	clear(first)
	if _, err := d.Decode(wire("R", uint32(2), "public\x00b\x00d", uint16(1), byte(0), "no\x00", uint32(25), ^uint32(0))); err != nil {
		t.Fatal(err)
	}
	want := &Relation{ID: 1, Namespace: "public", Name: "a", Identity: 'd', Columns: []RelationColumn{{Flags: 1, Name: "id", TypeOID: 20, TypeMod: -1}}}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("a relation changed after the fact (-want +got):\n%s", diff)
	}
}

// Rows and transactions cost no allocation once the Decoder is warm; relations and types may.
func TestDecodeAllocatesNothing(t *testing.T) {
	var d Decoder
	for _, tt := range messages {
		switch tt.want.(type) {
		case *Relation, *Type:
			continue
		}
		if n := testing.AllocsPerRun(100, func() {
			if _, err := d.Decode(tt.data); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", tt.name, n)
		}
	}
}

// What a message announces costs nothing before its bytes are there. The limit is far below what is
// announced and above what else the process does meanwhile.
func TestFault35_HostileLengths(t *testing.T) {
	for _, data := range [][]byte{
		wire("T", ^uint32(0), byte(0), uint32(7)),
		wire("M", byte(0), uint64(1), "p\x00", ^uint32(0), "abc"),
		wire("I", uint32(1), "N", ^uint16(0), "nnn"),
		wire("I", uint32(1), "N", uint16(1), "t", uint32(1<<31), "abc"),
		wire("U", uint32(1), "O", ^uint16(0), "nnn"),
		wire("R", uint32(1), "public\x00t\x00d", ^uint16(0), byte(1), "a\x00"),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var d Decoder
		_, err := d.Decode(data)
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; err == nil || got > 64<<10 {
			t.Errorf("%d bytes of %s made the decoder allocate %d and say %v", len(data), messageName(data[0]), got, err)
		}
	}
}
