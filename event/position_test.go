package event

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestRecordPositionReadsBack(t *testing.T) {
	for want, p := range map[string]struct {
		Position
		part int
	}{
		"0000000000000000:0000000000:0":       {},
		"0000000001A2B3C8:0000000003:0":       {Position{0x1A2B3C8, 3}, 0},
		"00000016B374D848:0000000000:17":      {Position{0x16_B374D848, 0}, 17},
		"FFFFFFFFFFFFFFFF:9999999999:2":       {Position{^LSN(0), MaxSeq}, 2},
		"0123456789ABCDEF:1234567890:1000000": {Position{0x0123456789ABCDEF, 1234567890}, 1000000},
	} {
		if got := string(p.AppendRecord(nil, p.part)); got != want {
			t.Errorf("printed %s, want %s", got, want)
		}
		read, part, err := ParseRecordPosition(want)
		if err != nil || read != p.Position || part != p.part {
			t.Errorf("%s reads as %v, %d, %v", want, read, part, err)
		}
	}
}

func TestFault57_PositionsSortAsTheirTexts(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var all []Position
	for range 1000 {
		all = append(all, Position{LSN(random.Uint64() >> random.IntN(64)), random.Uint64N(1 << random.IntN(33))})
	}
	slices.SortFunc(all, Position.Compare)
	if !slices.IsSortedFunc(all, func(a, b Position) int { return strings.Compare(a.String(), b.String()) }) {
		t.Error("the texts are in another order")
	}
}

func TestRecordPositionRefuses(t *testing.T) {
	for _, s := range []string{
		"", "0000000001A2B3C8:0000000003", "1A2B3C8:0000000003:0", "0000000001A2B3C8:3:0", "0000000001A2B3CG:0000000003:0",
		"0000000001A2B3C8:000000000x:0", "0000000001A2B3C8:0000000003:", "0000000001A2B3C8:0000000003:0:0",
	} {
		if p, part, err := ParseRecordPosition(s); err == nil {
			t.Errorf("%q was taken for %v, %d", s, p, part)
		}
	}
}

func TestLSN(t *testing.T) {
	for s, want := range map[string]LSN{"0/0": 0, "16/B374D848": 0x16_B374D848, "ffffffff/FFFFFFFF": ^LSN(0), "0/00000001": 1} {
		got, err := ParseLSN(s)
		if err != nil || got != want {
			t.Errorf("%s reads as %v, %v", s, got, err)
		}
		if again, err := ParseLSN(got.String()); err != nil || again != got {
			t.Errorf("%v prints as %s", got, got.String())
		}
	}
	for _, s := range []string{"", "0", "/", "0/", "/0", "0/123456789", "-1/0", "+1/0", "0x1/0", "0/0/0", " 0/0", "0/1_0"} {
		if got, err := ParseLSN(s); err == nil {
			t.Errorf("%q was taken for %v", s, got)
		}
	}
}

func BenchmarkAppendRecord(b *testing.B) {
	p := Position{0x1A2B3C8, 3}
	dst := make([]byte, 0, 64)
	for b.Loop() {
		dst = p.AppendRecord(dst[:0], 0)
	}
}
