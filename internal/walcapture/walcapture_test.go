package walcapture

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walferry/walferry/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m.Run)) }

// TestRecord records every case again and finds the same messages in the same order as in what is
// kept: of 14 for 14, of 18 for all later versions.
func TestRecord(t *testing.T) {
	all, err := List("../../testdata/wal")
	if err != nil {
		t.Fatal(err)
	}
	server := pgtest.Shared(t)
	kept := 18
	if server.Major() == 14 {
		kept = 14
	}
	for _, c := range all {
		if c.Major != kept {
			continue
		}
		t.Run(c.Case, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			got, err := Record(ctx, pgtest.Shared(t).Database().DSN(), c.CaseDir())
			if err != nil {
				t.Fatal(err)
			}
			want, err := c.Frames()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tags(want), tags(got)); diff != "" {
				t.Errorf("messages by their tags (-kept +recorded):\n%s", diff)
			}
		})
	}
}

// tags returns the first letters of the messages, one transaction per line. Keepalives come when
// they like, relations and types as often as a version's caches forget them, empty transactions
// from other work in the server: they are left out.
func tags(frames [][]byte) string {
	const header = 1 + 8 + 8 + 8
	var b strings.Builder
	for _, f := range frames {
		if f[0] != 'w' || f[header] == 'R' || f[header] == 'Y' {
			continue
		}
		b.WriteByte(f[header])
		if f[header] == 'C' {
			b.WriteByte('\n')
		}
	}
	return strings.ReplaceAll(b.String(), "BC\n", "")
}

func TestRecordReportsABadScript(t *testing.T) {
	db := pgtest.Shared(t).Database()
	missing := "42704"
	if pgtest.Shared(t).Major() >= 18 {
		missing = "55000" // a notice, and nothing is sent
	}
	for _, tt := range []struct{ name, schema, changes, want string }{
		{"no publication", "CREATE TABLE a (id int);\n", "INSERT INTO a VALUES (1);\n", missing},
		{"wrong SQL", "CREATE TABLE;\n", "", "42601"},
	} {
		dir := t.TempDir()
		for name, sql := range map[string]string{"schema.sql": tt.schema, "changes.sql": tt.changes} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(sql), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if _, err := Record(ctx, db.DSN(), dir); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want SQLSTATE %s", tt.name, err, tt.want)
		}
	}
}

func TestStatements(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes.sql")
	script := "-- a comment; of one line;\nBEGIN;\nINSERT INTO a\n  VALUES (';', 1);\n-- session other\nDELETE FROM a;\n"
	if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := statements(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []statement{{"", "BEGIN;"}, {"", "INSERT INTO a\n  VALUES (';', 1);"}, {"other", "DELETE FROM a;"}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(statement{})); diff != "" {
		t.Errorf("read otherwise (-want +got):\n%s", diff)
	}
	if err := os.WriteFile(path, []byte("BEGIN;\nCOMMIT\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := statements(path); err == nil {
		t.Error("a statement without an end was taken")
	}
}

func TestFramesRoundTrip(t *testing.T) {
	c := Capture{Case: "a", Major: 18, Dir: filepath.Join(t.TempDir(), "a", "pg18")}
	want := [][]byte{[]byte("k1"), {}, []byte("w2")}
	if err := c.WriteFrames(want); err != nil {
		t.Fatal(err)
	}
	got, err := c.Frames()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("read otherwise than written (-want +got):\n%s", diff)
	}
	file := filepath.Join(c.Dir, "frames.bin")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 3, 5, len(data) - 1} {
		if err := os.WriteFile(file, data[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Frames(); err == nil {
			t.Errorf("a file cut to %d of %d bytes was taken", n, len(data))
		}
	}
	if _, err := List(t.TempDir()); err == nil {
		t.Error("an empty folder was taken for captures")
	}
}
