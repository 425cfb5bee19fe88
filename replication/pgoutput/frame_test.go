package pgoutput

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walferry/walferry/event"
)

var frames = []struct {
	name string
	data []byte
	want Frame
}{
	{
		"xlogdata",
		wire("w", uint64(lsn1), uint64(lsn2), usec, "payload"),
		&XLogData{WALStart: lsn1, WALEnd: lsn2, ServerTime: commitTime, Payload: []byte("payload")},
	},
	{
		"xlogdata without payload",
		wire("w", uint64(0), uint64(0), usec),
		&XLogData{ServerTime: commitTime, Payload: []byte{}},
	},
	{"keepalive", wire("k", uint64(lsn1), usec, byte(0)), &Keepalive{WALEnd: lsn1, ServerTime: commitTime}},
	{"keepalive that wants a reply", wire("k", uint64(lsn1), usec, byte(1)), &Keepalive{WALEnd: lsn1, ServerTime: commitTime, ReplyRequested: true}},
}

func TestDecodeFrame(t *testing.T) {
	var d Decoder
	for _, tt := range frames {
		t.Run(tt.name, func(t *testing.T) {
			got, err := d.DecodeFrame(tt.data)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("decoded otherwise (-want +got):\n%s", diff)
			}
			if n := testing.AllocsPerRun(100, func() { _, _ = d.DecodeFrame(tt.data) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

func TestDecodeFrameRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "decode frame: it is empty"},
		{"an unknown tag", wire("x", uint64(1)), "decode frame: unknown tag 0x78 at offset 0"},
		{"a cut header", wire("w", uint64(1), uint64(2), uint32(3)), "decode XLogData: want 8 bytes, have 4, at offset 17"},
		{"a cut keepalive", wire("k", uint64(1), usec), "decode keepalive: want 1 bytes, have 0, at offset 17"},
		{"a long keepalive", wire("k", uint64(1), usec, byte(0), byte(0)), "decode keepalive: 1 bytes left over at offset 18"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var d Decoder
			if _, err := d.DecodeFrame(tt.data); err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// A message decoded from a frame's payload leaves the frame as it is, so that a caller may use both.
func TestFrameOutlivesItsMessage(t *testing.T) {
	var d Decoder
	f, err := d.DecodeFrame(wire("w", uint64(lsn1), uint64(lsn1), usec, string(messages[0].data)))
	if err != nil {
		t.Fatal(err)
	}
	x, ok := f.(*XLogData)
	if !ok {
		t.Fatalf("decoded a %T", f)
	}
	if _, err := d.Decode(x.Payload); err != nil {
		t.Fatal(err)
	}
	if x.WALStart != lsn1 || string(x.Payload) != string(messages[0].data) {
		t.Errorf("the frame changed: %+v", x)
	}
}

func TestAppendStatus(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status Status
		want   string
	}{
		{
			"all set",
			Status{Write: 0x10000000A, Flush: 0x9, Apply: 0x8, Time: commitTime, ReplyRequested: true},
			"72" + "000000010000000a" + "0000000000000009" + "0000000000000008" + "0002f3bd69a3aa40" + "01",
		},
		{
			// Were flush filled in from write, changes that no broker has would be confirmed.
			"flush 0 stays 0",
			Status{Write: 0x10000000A, Time: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)},
			"72" + "000000010000000a" + "0000000000000000" + "0000000000000000" + "0000000000000000" + "00",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := AppendStatus([]byte("kept"), tt.status)
			if len(got) != 4+StatusSize || string(got[:4]) != "kept" {
				t.Fatalf("appended to % x", got)
			}
			if s := hex.EncodeToString(got[4:]); s != tt.want {
				t.Errorf("got  %s\nwant %s", s, tt.want)
			}
		})
	}
	buf := make([]byte, 0, StatusSize)
	if n := testing.AllocsPerRun(100, func() { buf = AppendStatus(buf[:0], Status{Write: 1, Time: commitTime}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// parseStatus reads a status as the server does (walsender.c, ProcessStandbyReplyMessage).
func parseStatus(b []byte) (Status, error) {
	r := reader{data: b}
	r.expect('r')
	s := Status{Write: r.lsn(), Flush: r.lsn(), Apply: r.lsn(), Time: r.time(), ReplyRequested: r.byte() != 0}
	return s, r.end()
}

func FuzzAppendStatus(f *testing.F) {
	f.Add(uint64(1), uint64(0), uint64(0), int64(usec), true)
	f.Add(^uint64(0), uint64(1), uint64(2), int64(-1), false)
	f.Fuzz(func(t *testing.T, write, flush, apply uint64, usec int64, reply bool) {
		want := Status{
			Write: event.LSN(write), Flush: event.LSN(flush), Apply: event.LSN(apply),
			Time: time.UnixMicro(usec).UTC(), ReplyRequested: reply,
		}
		got, err := parseStatus(AppendStatus(nil, want))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("a status came back otherwise (-want +got):\n%s", diff)
		}
	})
}
