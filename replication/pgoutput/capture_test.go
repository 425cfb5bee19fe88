package pgoutput_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walferry/walferry/internal/pgtest"
	"github.com/walferry/walferry/internal/walcapture"
	"github.com/walferry/walferry/replication/pgoutput"
)

var (
	captureFlag = flag.Bool("capture", false, "record testdata/wal anew from real servers, goldens included")
	updateFlag  = flag.Bool("update", false, "rewrite the goldens of testdata/wal from the recorded frames")
)

const captureRoot = "../../testdata/wal"

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m.Run)) }

// captures lists what is recorded.
func captures(tb testing.TB) []walcapture.Capture {
	tb.Helper()
	all, err := walcapture.List(captureRoot)
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

// capturedFrames reads one capture.
func capturedFrames(tb testing.TB, c walcapture.Capture) [][]byte {
	tb.Helper()
	frames, err := c.Frames()
	if err != nil {
		tb.Fatal(err)
	}
	return frames
}

// TestCaptures decodes what real servers sent and compares it with the goldens, which people have
// read. With -capture it first records the frames again.
func TestCaptures(t *testing.T) {
	for _, c := range captures(t) {
		t.Run(c.String(), func(t *testing.T) {
			if *captureFlag {
				record(t, c)
			}
			got := printFrames(t, capturedFrames(t, c))
			golden := filepath.Join(c.Dir, "messages.golden")
			if *captureFlag || *updateFlag {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("decoded otherwise than %s (-want +got):\n%s", golden, diff)
			}
		})
	}
}

func record(t *testing.T, c walcapture.Capture) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	db := pgtest.SharedMajor(t, c.Major).Database()
	frames, err := walcapture.Record(ctx, db.DSN(), c.CaseDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.WriteFrames(frames); err != nil {
		t.Fatal(err)
	}
}

// The captures hold every message of the protocol and every kind of value, so that what is tested
// with them is tested with all.
func TestCapturesAreComplete(t *testing.T) {
	missing := map[string]bool{
		"begin": true, "commit": true, "origin": true, "relation": true, "type": true, "insert": true, "update": true,
		"delete": true, "truncate": true, "message": true, "keepalive": true,
		"text": true, "null": true, "unchanged": true, "binary": true, "old key": true, "old row": true,
	}
	for _, c := range captures(t) {
		for _, f := range decodeFrames(t, capturedFrames(t, c)) {
			for _, kind := range kinds(f) {
				delete(missing, kind)
			}
		}
	}
	for kind := range missing {
		t.Errorf("no capture holds: %s", kind)
	}
}

// No beginning of a captured message is a message, and none panics.
func TestCapturesCut(t *testing.T) {
	var d pgoutput.Decoder
	for _, c := range captures(t) {
		for i, payload := range payloads(t, capturedFrames(t, c)) {
			for n := range payload {
				if m, err := d.Decode(payload[:n:n]); err == nil {
					t.Fatalf("%s: message %d cut to %d of %d bytes was taken as %T", c, i, n, len(payload), m)
				}
			}
		}
	}
}

// payloads returns the messages of a capture.
func payloads(tb testing.TB, frames [][]byte) [][]byte {
	tb.Helper()
	var d pgoutput.Decoder
	var all [][]byte
	for _, data := range frames {
		f, err := d.DecodeFrame(data)
		if err != nil {
			tb.Fatal(err)
		}
		if x, ok := f.(*pgoutput.XLogData); ok {
			all = append(all, x.Payload)
		}
	}
	return all
}
