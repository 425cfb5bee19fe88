// Package faultproxy passes TCP connections on and does them harm: latency, a slow line, a line that
// nothing gets through, connections that are dead without either side being told, resets, refusals, and the
// answer to the commit of a Kafka transaction that gets lost behind it.
//
// It works above TCP: bytes that it has read are acknowledged to the kernel of who sent them. A frozen
// line therefore looks like a peer that does not answer, not like one whose machine is gone, and there is
// no loss of single packets, which TCP turns into latency.
package faultproxy

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/walferry/walferry/internal/childproc"
)

// Proxy passes the connections to one address on to another. Its methods may be called from anywhere.
type Proxy struct {
	listener net.Listener
	running  sync.WaitGroup

	mu       sync.Mutex // guards what follows
	upstream string
	line     line
	changed  chan struct{} // closed when line is another one
	links    map[*link]struct{}
	lose     int // commits whose answers are to be lost
	lost     int // and how many were
	closed   bool
}

// line is how bytes get through now.
type line struct {
	delay  time.Duration
	rate   int  // bytes per second and direction, 0 for any
	frozen bool // nothing gets through
	cut    bool // connections are ended as soon as they are made
}

// New returns a proxy that listens on a free port of 127.0.0.1; it passes nothing on before To was
// called. The caller must Close it.
func New() (*Proxy, error) {
	port, err := childproc.FreePort()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	p := &Proxy{listener: l, changed: make(chan struct{}), links: make(map[*link]struct{})}
	p.running.Go(p.accept)
	return p, nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// To says where connections are passed on to.
func (p *Proxy) To(upstream string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.upstream = upstream
}

// Pass ends what Delay, Throttle, Freeze and Cut began.
func (p *Proxy) Pass() { p.set(line{}) }

// Delay has each piece arrive later.
func (p *Proxy) Delay(d time.Duration) { p.set(line{delay: d}) }

// Throttle lets so many bytes through per second, in each direction of each connection.
func (p *Proxy) Throttle(bytesPerSecond int) { p.set(line{rate: bytesPerSecond}) }

// Freeze lets nothing through; nothing is closed either, and connections that are made meanwhile hang.
func (p *Proxy) Freeze() { p.set(line{frozen: true}) }

// Cut ends all connections, and each new one at once.
func (p *Proxy) Cut() {
	p.set(line{cut: true})
	p.each(func(l *link) { l.close() })
}

// Reset ends all connections by RST. New ones pass.
func (p *Proxy) Reset() {
	p.each(func(l *link) { l.reset() })
}

// Forget makes all connections half-open: nothing gets through them any more, and neither side is told,
// also when the other one hangs up. New ones pass.
func (p *Proxy) Forget() {
	p.each(func(l *link) { l.forget() })
}

// LoseCommits lets the next n EndTxn requests of Kafka's protocol through, and resets their connections
// when the answers come, instead of passing them on.
func (p *Proxy) LoseCommits(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose = n
}

// LostCommits is how many answers were lost.
func (p *Proxy) LostCommits() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// Close ends all connections and waits until everything has ended.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.listener.Close()
	p.set(line{cut: true})
	p.each(func(l *link) { l.close() })
	p.running.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close the proxy: %w", err)
	}
	return nil
}

func (p *Proxy) set(l line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line = l
	close(p.changed)
	p.changed = make(chan struct{})
}

// now returns how bytes get through, and what is closed when that changes.
func (p *Proxy) now() (line, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.line, p.changed
}

// each does something to all connections of this moment.
func (p *Proxy) each(do func(*link)) {
	p.mu.Lock()
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	p.mu.Unlock()
	for _, l := range links {
		do(l)
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.running.Go(func() { p.serve(client) })
	}
}

// serve makes the other half of a connection, and passes bytes on until both directions have ended.
func (p *Proxy) serve(client net.Conn) {
	l := &link{proxy: p, client: client, gone: make(chan struct{}), commits: make(map[uint32]bool)}
	if !p.add(l) {
		l.close()
		return
	}
	defer p.remove(l)
	if !l.thaw() {
		return
	}
	p.mu.Lock()
	to := p.upstream
	p.mu.Unlock()
	server, err := net.DialTimeout("tcp", to, 5*time.Second)
	if err != nil {
		l.reset() // as from a machine on which nobody listens
		return
	}
	l.run(server)
}

// add notes a new connection; false where it must not be.
func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.line.cut {
		return false
	}
	p.links[l] = struct{}{}
	return true
}

func (p *Proxy) remove(l *link) {
	l.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// toLose tells whether the answer to a commit that is just sent is to be lost.
func (p *Proxy) toLose() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lose == 0 {
		return false
	}
	p.lose--
	return true
}

func (p *Proxy) didLose() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost++
}
