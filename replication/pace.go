package replication

import "time"

// pace decides how long to rest after a read, so that bytes gather and one system call, on both
// sides of the connection, carries many messages. A reader that is always ready is woken for each
// message the walsender writes; that costs both sides a multiple of the work itself.
//
// The rest follows the rate of messages: none while the stream is quiet, so that nobody waits for
// it, about 1 ms at 8,000 messages a second, up to 5 ms in a backlog.
type pace struct {
	rate  float64 // messages per second, smoothed
	count int     // messages since the window began
	since time.Time
}

const (
	// longRead is a read that brought so much that more is likely to wait already: no rest.
	longRead = 16 << 10
	// paceWindow is how often the rate is taken.
	paceWindow = 20 * time.Millisecond
	// restless is the rate up to which nobody rests, restPerMessage what each message per second
	// above it adds, maxRest the end of it.
	restless       = 2000.0
	restPerMessage = 150 * time.Nanosecond
	maxRest        = 5 * time.Millisecond
)

// read notes a read that brought messages at time now, and returns how long to rest before the next.
func (p *pace) read(now time.Time, bytes, messages int) time.Duration {
	p.count += messages
	if took := now.Sub(p.since); took >= paceWindow {
		rate := float64(p.count) / took.Seconds()
		// Half of the old rate stays, so that one quiet window in a backlog does not end the rest.
		// A window that spans a long silence says what is true now.
		if took > 10*paceWindow {
			p.rate = rate
		} else {
			p.rate = (p.rate + rate) / 2
		}
		p.count, p.since = 0, now
	}
	if bytes >= longRead || p.rate < restless {
		return 0
	}
	return min(maxRest, time.Duration((p.rate-restless)*float64(restPerMessage)))
}
