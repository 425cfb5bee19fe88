package cdctest

import (
	"strings"
	"testing"
)

// TestTorn shows a part of a transaction when all of it must be there, and the rest too late.
func TestTorn(t *testing.T) {
	records := publish(t, truth()) // the first three are transaction 10, the next three 11
	for name, tc := range map[string]struct {
		atFirst, whenDue int
		mark             bool
		torn             bool
	}{
		"whole at once":         {3, 3, false, false},
		"whole when due":        {1, 3, false, false},
		"a part when due":       {1, 2, false, true},
		"a part, but split":     {1, 2, true, false},
		"two, one of them torn": {4, 5, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			v, all := NewVisibility(), publish(t, truth())
			if tc.mark {
				all[1].Value = []byte(strings.Replace(string(all[1].Value), `"op":`, `"split":1,"op":`, 1))
			}
			note := func(from, to int) {
				for _, r := range all[from:to] {
					v.note(r)
				}
			}
			note(0, tc.atFirst)
			round := v.round()
			note(tc.atFirst, tc.whenDue)
			due(round)
			note(tc.whenDue, len(all))
			torn := v.Torn(judge(truth(), records, false))
			if (len(torn) > 0) != tc.torn {
				t.Errorf("torn: %v", torn)
			}
			if v.Judged() != len(round) {
				t.Errorf("%d transactions judged, want %d", v.Judged(), len(round))
			}
		})
	}
}
