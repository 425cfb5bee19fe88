package sim

import (
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"time"
)

// pipe is one direction of a connection.
type pipe struct {
	name     string
	kafka    bool
	quiet    bool // who watches does not count
	trace    *trace
	breaksAt int64 // the byte at which the connection breaks; 0 for none

	mu      sync.Mutex // guards what follows
	rng     *rand.Rand
	chunks  []chunk // on their way, in order
	size    int
	written int64
	last    time.Time // when the newest chunk arrives
	held    bool
	end     error // what comes after the last chunk, nil while it is open
	endAt   time.Time
	refused error         // what a write says
	wake    chan struct{} // closed at each change

	readDeadline, writeDeadline time.Time
}

// chunk is what one write has sent, and when it arrives.
type chunk struct {
	data []byte
	at   time.Time
}

func newPipe(n *network, name string) *pipe {
	return &pipe{name: name, kafka: strings.Contains(name, "kafka"), trace: n.trace, rng: rng(n.seed, name), wake: make(chan struct{})}
}

// delay is how long the next bytes take. It is called with the lock.
func (p *pipe) delay() time.Duration {
	d := time.Duration(50_000 + p.rng.IntN(400_000))
	if p.rng.IntN(200) == 0 {
		d += time.Duration(p.rng.IntN(100)) * time.Millisecond // a lost packet
	}
	return d
}

// changed wakes whoever waits. It is called with the lock.
func (p *pipe) changed() {
	close(p.wake)
	p.wake = make(chan struct{})
}

func (p *pipe) read(buf []byte) (int, error) {
	for {
		p.mu.Lock()
		now := time.Now()
		until := p.readDeadline
		switch {
		case !until.IsZero() && !until.After(now):
			p.mu.Unlock()
			return 0, errDeadline
		case len(p.chunks) > 0 && !p.held:
			if at := p.chunks[0].at; at.After(now) {
				until = earlier(until, at)
				break
			}
			n := p.take(buf)
			p.mu.Unlock()
			return n, nil
		case len(p.chunks) == 0 && p.end != nil:
			if p.endAt.After(now) {
				until = earlier(until, p.endAt)
				break
			}
			err := p.end
			p.mu.Unlock()
			return 0, err
		}
		wake := p.wake
		p.mu.Unlock()
		await(wake, until)
	}
}

// take moves what has arrived into buf. It is called with the lock.
func (p *pipe) take(buf []byte) int {
	c := &p.chunks[0]
	n := copy(buf, c.data)
	c.data = c.data[n:]
	p.size -= n
	if len(c.data) == 0 {
		p.chunks = p.chunks[1:]
	}
	p.changed() // there is room
	return n
}

func (p *pipe) write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.refused != nil:
			return 0, p.refused
		case !p.writeDeadline.IsZero() && !p.writeDeadline.After(time.Now()):
			return 0, errDeadline
		case p.size == 0 || p.size+len(data) <= window:
			return p.send(data)
		}
		wake, until := p.wake, p.writeDeadline
		p.mu.Unlock()
		await(wake, until)
		p.mu.Lock()
	}
}

// send puts data on its way. It is called with the lock.
func (p *pipe) send(data []byte) (int, error) {
	breaks := p.breaksAt > p.written && p.written+int64(len(data)) >= p.breaksAt
	if breaks {
		data = data[:p.breaksAt-p.written]
	}
	if len(data) == 0 {
		return 0, nil
	}
	p.written += int64(len(data))
	at := time.Now().Add(p.delay())
	if !at.After(p.last) {
		at = p.last.Add(time.Microsecond)
	}
	p.last = at
	if !p.quiet {
		p.trace.sent(p.name, at, len(data))
	}
	p.chunks = append(p.chunks, chunk{append([]byte(nil), data...), at})
	p.size += len(data)
	p.changed()
	if breaks {
		return 0, errBreak
	}
	return len(data), nil
}

// finish says what comes behind the bytes that are on their way. Of those only keep chunks arrive; -1
// means all, and 0 all that have arrived by now.
func (p *pipe) finish(err error, keep int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end != nil {
		return
	}
	now := time.Now()
	if keep >= 0 {
		kept := 0
		for i, c := range p.chunks {
			if !c.at.After(now) || i < keep {
				kept = i + 1
			}
		}
		for _, c := range p.chunks[kept:] {
			p.size -= len(c.data)
		}
		p.chunks = p.chunks[:kept]
	}
	p.end, p.endAt = err, now.Add(p.delay())
	if n := len(p.chunks); n > 0 && p.chunks[n-1].at.After(p.endAt) {
		p.endAt = p.chunks[n-1].at
	}
	p.changed()
}

// refuse has every further write fail.
func (p *pipe) refuse(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refused == nil {
		p.refused = err
		p.changed()
	}
}

// drop has every further read fail, at once, and gives up what is on its way.
func (p *pipe) drop(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.chunks, p.size, p.held = nil, 0, false
	p.end, p.endAt = err, time.Time{}
	if p.refused == nil {
		p.refused = syscall.EPIPE // the other side's writes are answered by a reset
	}
	p.changed()
}

// hold stops what is on its way, or lets it go on, one after the other.
func (p *pipe) hold(held bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = held
	if !held {
		at := time.Now().Add(p.delay())
		for i := range p.chunks {
			if p.chunks[i].at.Before(at) {
				p.chunks[i].at = at
			}
			at = p.chunks[i].at.Add(time.Microsecond)
			p.last = at
		}
	}
	p.changed()
}

func (p *pipe) over() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.end != nil && len(p.chunks) == 0
}

func (p *pipe) setReadDeadline(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readDeadline = t
	p.changed()
}

func (p *pipe) setWriteDeadline(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writeDeadline = t
	p.changed()
}

// earlier returns the earlier of two times, of which the zero one stands for never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// await waits for a change, or until a time that is not zero.
func await(wake <-chan struct{}, until time.Time) {
	if until.IsZero() {
		<-wake
		return
	}
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-wake:
	case <-t.C:
	}
}
