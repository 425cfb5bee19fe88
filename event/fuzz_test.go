package event

import (
	"regexp"
	"strings"
	"testing"
)

// lsnForm is what pg_lsn accepts.
var lsnForm = regexp.MustCompile(`^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$`)

// FuzzParseLSN: what pg_lsn accepts is accepted, nothing else, and it reads back from its printed form.
func FuzzParseLSN(f *testing.F) {
	for _, s := range []string{"0/0", "16/B374D848", "ffffffff/FFFFFFFF", "1/", "/", "123456789/0", "+1/0", "0x1/1", "1_0/1", " 1/1", "١/1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		lsn, err := ParseLSN(s)
		if (err == nil) != lsnForm.MatchString(s) {
			t.Fatalf("%q: %v", s, err)
		}
		if err != nil {
			return
		}
		again, err := ParseLSN(lsn.String())
		if err != nil || again != lsn {
			t.Fatalf("%q printed as %s reads as %v, %v", s, lsn, again, err)
		}
		var text LSN
		if b, _ := lsn.MarshalText(); text.UnmarshalText(b) != nil || text != lsn {
			t.Fatalf("%q as text reads as %v", s, text)
		}
	})
}

// FuzzPosition: printed positions sort as positions do, and read back; any other text is an error or means a
// position.
func FuzzPosition(f *testing.F) {
	f.Add(uint64(1), uint64(2), uint64(1), uint64(10), 0, "0000000001A2B3C8:0000000003:0")
	f.Add(^uint64(0), uint64(MaxSeq), uint64(0), uint64(0), 1000000, "::")
	f.Fuzz(func(t *testing.T, c1, s1, c2, s2 uint64, part int, text string) {
		p, q := Position{LSN(c1), s1 % (MaxSeq + 1)}, Position{LSN(c2), s2 % (MaxSeq + 1)}
		if p.Compare(q) != strings.Compare(p.String(), q.String()) || p.Compare(q) != -q.Compare(p) {
			t.Fatalf("%v and %v sort otherwise as texts", p, q)
		}
		printed := string(p.AppendRecord(nil, part))
		if got, n, err := ParseRecordPosition(printed); err != nil || got != p || n != part {
			t.Fatalf("%s reads as %v %d, %v", printed, got, n, err)
		}
		if got, n, err := ParseRecordPosition(text); err == nil {
			if again, m, err := ParseRecordPosition(string(got.AppendRecord(nil, n))); err != nil || again != got || m != n {
				t.Fatalf("%q reads as %v, and again as %v: %v", text, got, again, err)
			}
		}
	})
}
