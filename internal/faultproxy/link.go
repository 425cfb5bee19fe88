package faultproxy

import (
	"encoding/binary"
	"net"
	"sync"
	"time"
)

// link is one connection through the proxy.
type link struct {
	proxy *Proxy
	gone  chan struct{} // closed when the link is closed, by whomever
	once  sync.Once

	mu        sync.Mutex // guards what follows
	client    net.Conn
	server    net.Conn        // nil before it is made
	forgotten bool            // half-open: nothing gets through, nobody is told
	commits   map[uint32]bool // correlation ids of commits whose answers are to be lost
}

// run passes bytes on until both directions have ended.
func (l *link) run(server net.Conn) {
	l.mu.Lock()
	l.server = server
	l.mu.Unlock()
	select {
	case <-l.gone: // closed before it was there
		_ = server.Close()
		return
	default:
	}
	var both sync.WaitGroup
	both.Go(func() { l.pump(server, l.client, &frames{header: requestHeader, seen: l.request}) })
	both.Go(func() { l.pump(l.client, server, &frames{header: answerHeader, seen: l.answer}) })
	both.Wait()
}

// pieceBytes is how much is passed on at once.
const pieceBytes = 16 << 10

// pump passes on what comes from one side until it ends, then ends the other: one way of a connection
// without the other is of no use to either protocol.
func (l *link) pump(to, from net.Conn, f *frames) {
	buf := make([]byte, pieceBytes)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			upTo, lose := f.feed(buf[:n])
			if !l.pass(to, buf[:upTo]) {
				return
			}
			if lose {
				l.proxy.didLose()
				l.reset()
				return
			}
		}
		if err == nil {
			continue
		}
		if l.thaw() { // a frozen line does not tell of an end either
			l.close()
		}
		return
	}
}

// pass writes a piece as the line allows; false when the link is over.
func (l *link) pass(to net.Conn, piece []byte) bool {
	for len(piece) > 0 {
		if !l.thaw() {
			return false
		}
		now, _ := l.proxy.now()
		part := piece
		wait := now.delay
		if now.rate > 0 {
			part = piece[:min(len(piece), max(1, now.rate/10))]
			wait += time.Duration(len(part)) * time.Second / time.Duration(now.rate)
		}
		if wait > 0 && !l.rest(wait) {
			return false
		}
		if _, err := to.Write(part); err != nil {
			l.close()
			return false
		}
		piece = piece[len(part):]
	}
	return true
}

// thaw waits while nothing gets through; false when the link is over.
func (l *link) thaw() bool {
	for {
		now, changed := l.proxy.now()
		l.mu.Lock()
		forgotten := l.forgotten
		l.mu.Unlock()
		if forgotten {
			<-l.gone
			return false
		}
		if !now.frozen {
			select {
			case <-l.gone:
				return false
			default:
				return true
			}
		}
		select {
		case <-changed:
		case <-l.gone:
			return false
		}
	}
}

func (l *link) rest(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.gone:
		return false
	}
}

func (l *link) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgotten = true
}

// close ends both connections. A forgotten one stays as it is until the proxy ends, as between machines
// of which one has lost its memory.
func (l *link) close() {
	l.end(func(net.Conn) {})
}

func (l *link) reset() {
	l.end(func(c net.Conn) {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // the harm is done by Close then
		}
	})
}

func (l *link) end(before func(net.Conn)) {
	l.proxy.mu.Lock()
	ending := l.proxy.closed
	l.proxy.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.forgotten && !ending {
		return
	}
	l.once.Do(func() {
		close(l.gone)
		for _, c := range []net.Conn{l.client, l.server} {
			if c != nil {
				before(c)
				_ = c.Close()
			}
		}
	})
}

// request looks at the head of a request: size, key, version, correlation id.
func (l *link) request(head []byte) bool {
	const endTxn = 26
	if binary.BigEndian.Uint16(head[4:]) == endTxn && l.proxy.toLose() {
		l.mu.Lock()
		l.commits[binary.BigEndian.Uint32(head[8:])] = true
		l.mu.Unlock()
	}
	return false
}

// answer looks at the head of an answer, size and correlation id, and tells whether it is to be lost.
func (l *link) answer(head []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.commits[binary.BigEndian.Uint32(head[4:])]
}

// The bytes of a frame's head that are looked at, its size included.
const (
	requestHeader = 12
	answerHeader  = 8
)

// frames finds the heads of Kafka's frames in a stream of bytes. Of another protocol it makes nothing
// that means anything, and loses nothing, because it only looks.
type frames struct {
	header int
	seen   func(head []byte) (lose bool)
	head   []byte
	skip   int // bytes of the frame at hand that are not looked at
}

// feed looks at a piece of the stream. Where an answer is to be lost it returns how much comes before
// it.
func (f *frames) feed(piece []byte) (upTo int, lose bool) {
	for at := 0; at < len(piece); {
		if f.skip > 0 {
			n := min(f.skip, len(piece)-at)
			f.skip -= n
			at += n
			continue
		}
		begin := at
		n := min(f.header-len(f.head), len(piece)-at)
		f.head = append(f.head, piece[at:at+n]...)
		at += n
		if len(f.head) < f.header {
			break
		}
		if f.seen(f.head) {
			return begin, true
		}
		f.skip = max(0, int(int32(binary.BigEndian.Uint32(f.head)))+4-f.header) //nolint:gosec // a size of the protocol is signed
		f.head = f.head[:0]
	}
	return len(piece), false
}
