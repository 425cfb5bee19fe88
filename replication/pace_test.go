package replication

import (
	"testing"
	"time"
)

// steady feeds reads of one message each at a rate, and returns the rest after the last.
func steady(p *pace, perSecond int, reads int) time.Duration {
	now := time.Unix(1_000_000, 0)
	var rest time.Duration
	for range reads {
		now = now.Add(time.Second / time.Duration(perSecond))
		rest = p.read(now, 300, 1)
	}
	return rest
}

func TestPaceFollowsTheRate(t *testing.T) {
	for _, c := range []struct {
		perSecond int
		from, to  time.Duration
	}{
		{100, 0, 0},
		{1000, 0, 0},
		{2000, 0, 100 * time.Microsecond},
		{8000, 700 * time.Microsecond, 1200 * time.Microsecond},
		{100000, maxRest, maxRest},
	} {
		if got := steady(&pace{}, c.perSecond, 5000); got < c.from || got > c.to {
			t.Errorf("at %d messages/s: rests %s, want %s to %s", c.perSecond, got, c.from, c.to)
		}
	}
}

func TestPaceDoesNotRestAfterALongRead(t *testing.T) {
	p := &pace{}
	steady(p, 100000, 5000)
	if got := p.read(p.since.Add(time.Millisecond), longRead, 50); got != 0 {
		t.Errorf("rests %s with more waiting", got)
	}
}

func TestPaceForgetsARateAfterASilence(t *testing.T) {
	p := &pace{}
	steady(p, 100000, 5000)
	if got := p.read(p.since.Add(time.Second), 300, 1); got != 0 {
		t.Errorf("the first message after a second of silence rests %s", got)
	}
}
