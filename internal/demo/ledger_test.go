package demo

import (
	"testing"
	"time"
)

func TestLedgerFindsWhatIsWrong(t *testing.T) {
	a := change{table: "orders", op: "c", key: "a", revision: 1}
	b := change{table: "orders", op: "d", key: "a"}
	phantom := change{table: "orders", op: "u", key: "a", revision: 2}

	l := NewLedger()
	l.saw(a, 30*time.Millisecond) // before the shop knows that it is committed
	l.committed([]change{a, b})
	l.undone()
	if got := l.Summary(); got.Lost != 1 || got.Written != 2 || got.Arrived != 1 {
		t.Errorf("one is missing: %+v", got)
	}
	l.saw(b, 10*time.Millisecond)
	l.saw(b, 20*time.Millisecond)
	want := Summary{
		Written: 2, Transactions: 1, RolledBack: 1, Arrived: 2, Repeated: 1,
		P50: 20 * time.Millisecond, P95: 30 * time.Millisecond,
	}
	if got := l.Summary(); got != want {
		t.Errorf("all arrived: got %+v, want %+v", got, want)
	}
	l.saw(phantom, 0)
	if got := l.Summary(); got.Unexpected != 1 || got.Lost != 0 {
		t.Errorf("one was never committed: %+v", got)
	}
	if got := NewLedger().Summary(); got != (Summary{}) {
		t.Errorf("empty: %+v", got)
	}
}

func TestParse(t *testing.T) {
	at := time.Date(2026, 5, 1, 10, 0, 0, 124_001_000, time.UTC)
	for name, tc := range map[string]struct {
		value string
		want  change
		ok    bool
	}{
		"number": {`{"op":"c","schema":"shop","table":"customers","ts":"2026-05-01T10:00:00.124001Z","after":{"id":7,"revision":1}}`, change{"customers", "c", "7", 1}, true},
		"text":   {`{"op":"u","schema":"shop","table":"orders","ts":"2026-05-01T10:00:00.124001Z","after":{"id":"x","revision":2}}`, change{"orders", "u", "x", 2}, true},
		"sku":    {`{"op":"u","schema":"shop","table":"stock","ts":"2026-05-01T10:00:00.124001Z","before":{"sku":"old"},"after":{"sku":"cup","revision":3}}`, change{"stock", "u", "cup", 3}, true},
		"delete": {`{"op":"d","schema":"shop","table":"orders","ts":"2026-05-01T10:00:00.124001Z","before":{"id":"x","revision":9}}`, change{"orders", "d", "x", 0}, true},
		"other":  {`{"op":"c","schema":"public","table":"t","after":{"id":1}}`, change{}, false},
		"broken": {`{`, change{}, false},
	} {
		got, committed, ok := parse([]byte(tc.value))
		if got != tc.want || ok != tc.ok || ok && !committed.Equal(at) {
			t.Errorf("%s: got %+v at %s, %v", name, got, committed, ok)
		}
	}
	if _, _, ok := parse(nil); ok {
		t.Error("a tombstone is no change")
	}
}
