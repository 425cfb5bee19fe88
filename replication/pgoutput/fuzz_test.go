package pgoutput_test

import (
	"bytes"
	"runtime/metrics"
	"testing"

	"github.com/walferry/walferry/replication/pgoutput"
)

// FuzzDecode: whatever the bytes, there is no panic, no memory beyond a multiple of the input, and
// a message that is taken is taken whole: encoded again it is the same bytes. An earlier message of
// any kind makes no difference.
func FuzzDecode(f *testing.F) {
	seen := map[string]bool{}
	for _, c := range captures(f) {
		for _, payload := range payloads(f, capturedFrames(f, c)) {
			if !seen[string(payload)] && len(payload) < 1000 {
				seen[string(payload)] = true
				f.Add(payload)
			}
		}
	}
	for _, hostile := range []string{
		"", "T\xff\xff\xff\xff\x00\x00\x00\x00\x01", "I\x00\x00\x00\x01N\xff\xffnnn", "I\x00\x00\x00\x01N\x00\x01t\xff\xff\xff\xff",
		"M\x00\x00\x00\x00\x00\x00\x00\x00\x00p\x00\x7f\xff\xff\xff", "R\x00\x00\x00\x01\x00t\x00d\xff\xff", "S\x00\x00\x00\x01\x01", "b", "K",
	} {
		f.Add([]byte(hostile))
	}
	var used pgoutput.Decoder
	f.Fuzz(func(t *testing.T, data []byte) {
		before := allocated()
		var fresh pgoutput.Decoder
		m, err := fresh.Decode(data)
		// A value of 40 bytes at most stands for each byte of a row, names are copied once, and the
		// runtime rounds up. The rest is for an error's text, what else runs in the process, and what is told late.
		if got, limit := allocated()-before, uint64(100*len(data)+1<<20); got > limit {
			t.Errorf("%d bytes made the decoder allocate %d", len(data), got)
		}

		again, errAgain := used.Decode(data)
		if (err == nil) != (errAgain == nil) {
			t.Fatalf("a fresh Decoder says %v, a used one %v", err, errAgain)
		}
		if err != nil {
			return
		}
		if got := encode(m); !bytes.Equal(got, data) {
			t.Errorf("%s\ncame from %x\nbut means  %x", printMessage(m), data, got)
		}
		if a, b := printMessage(m), printMessage(again); a != b {
			t.Errorf("a fresh Decoder says %s, a used one %s", a, b)
		}
	})
}

// allocated is how many bytes this process has ever allocated; small objects may be told late. Unlike
// runtime.ReadMemStats it does not stop the world, which would be most of the time that fuzzing takes.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// FuzzDecodeFrame: a frame is a keepalive of its one length, or a header with everything behind it
// as payload, or an error.
func FuzzDecodeFrame(f *testing.F) {
	for _, c := range captures(f) {
		frames := capturedFrames(f, c)
		f.Add(frames[0])
		f.Add(frames[len(frames)/2])
	}
	f.Add([]byte{})
	f.Add([]byte("k"))
	f.Add([]byte("w\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var d pgoutput.Decoder
		frame, err := d.DecodeFrame(data)
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *pgoutput.Keepalive:
			if len(data) != 18 || data[0] != 'k' || frame.ReplyRequested != (data[17] != 0) {
				t.Errorf("% x is taken for %+v", data, frame)
			}
		case *pgoutput.XLogData:
			if len(data) < 25 || data[0] != 'w' || !bytes.Equal(frame.Payload, data[25:]) {
				t.Errorf("% x is taken for %+v", data, frame)
			}
		}
	})
}
