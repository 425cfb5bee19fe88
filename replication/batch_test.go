package replication

import (
	"slices"
	"testing"
)

func TestBatchTakesWholeMessages(t *testing.T) {
	for _, c := range []struct {
		name  string
		bytes []byte
		tags  string // of the messages
		bad   bool
	}{
		{"nothing", nil, "", false},
		{"half a head", []byte{'d', 0, 0}, "", false},
		{"a cut body", []byte{'d', 0, 0, 0, 5}, "", false},
		{"an empty body", []byte{'c', 0, 0, 0, 4}, "c", false},
		{"two and a half", slices.Concat(message('d', []byte("a")), message('N', nil), []byte{'d', 0, 0, 0, 6, 'x'}), "dN", false},
		{"a length that does not count itself", []byte{'W', 0, 0, 0, 3, 0, 0}, "", true},
		{"no length", slices.Concat(message('S', nil), []byte{'W', 0, 0, 0, 0}), "S", true},
		{"more than Postgres can send", []byte{'d', 0x7f, 0xff, 0xff, 0xff}, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBatch()
			b.reset(c.bytes)
			var tags []byte
			for {
				tag, _, err := b.next()
				if (err != nil) != (c.bad && string(tags) == c.tags) {
					t.Fatalf("after %q: %v", tags, err)
				}
				if tag == 0 {
					break
				}
				tags = append(tags, tag)
			}
			if string(tags) != c.tags {
				t.Errorf("took %q, want %q", tags, c.tags)
			}
		})
	}
}
