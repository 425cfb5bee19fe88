package sim

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walferry/walferry/event"
)

// senderTimeout is wal_sender_timeout.
const senderTimeout = 60 * time.Second

// walsender sends the log to one client.
type walsender struct {
	s    *session
	next event.LSN // units that start before it are sent, or were confirmed
	sent event.LSN // what the client was sent, as keepalives say it

	described map[uint32]bool

	mu      sync.Mutex // guards what follows
	write   event.LSN  // what the client has
	flush   event.LSN
	heard   time.Time
	asked   bool // the client wants an answer
	left    bool // the client has ended the stream
	lost    bool
	wakeup  chan struct{} // of one
	pending int           // messages since the last flush
}

// stream is a session in COPY mode, until its end.
func (s *session) stream() {
	p := s.server
	p.mu.Lock()
	from := p.slot.confirmed
	p.mu.Unlock()
	w := &walsender{s: s, next: from, sent: from, described: make(map[uint32]bool), heard: time.Now(), wakeup: make(chan struct{}, 1)}
	p.trace.log("postgres: walsender %d streams from %s", s.pid, from)
	s.backend.Send(&pgproto3.CopyBothResponse{})
	if s.backend.Flush() != nil {
		return
	}
	read := make(chan struct{})
	go func() { // ends with the connection
		defer close(read)
		w.listen()
	}()
	w.run()
	p.trace.log("postgres: walsender %d ends, sent %s, lost %t, left %t", s.pid, w.sent, w.lost, w.left)
	s.end()
	<-read
}

// listen takes what the client says.
func (w *walsender) listen() {
	for {
		m, err := w.s.backend.Receive()
		w.mu.Lock()
		w.heard = time.Now()
		switch m := m.(type) {
		case *pgproto3.CopyData:
			w.status(m.Data)
		case *pgproto3.CopyDone:
			w.left = true
		case *pgproto3.Terminate:
			w.lost = true
		}
		if err != nil {
			w.lost = true
		}
		over := w.lost
		w.mu.Unlock()
		select {
		case w.wakeup <- struct{}{}:
		default:
		}
		if over {
			return
		}
	}
}

// status takes a standby status update.
func (w *walsender) status(b []byte) {
	if len(b) != 34 || b[0] != 'r' {
		w.s.server.wrong("a message in COPY mode that is no status update")
		return
	}
	write, flush := event.LSN(binary.BigEndian.Uint64(b[1:])), event.LSN(binary.BigEndian.Uint64(b[9:]))
	w.write, w.flush = write, flush
	if flush != 0 {
		w.s.server.confirm(w.s, flush)
	}
	w.asked = w.asked || b[33] == 1
}

// run sends until the client or the server has enough.
func (w *walsender) run() {
	for {
		end, changed := w.s.server.wal.at()
		for _, u := range w.s.server.wal.from(w.next) {
			if !w.unit(u) {
				return
			}
			w.next, w.sent = u.end, u.end
		}
		w.sent = max(w.sent, end)
		if !w.idle(changed) {
			return
		}
	}
}

// unit sends one transaction or message.
func (w *walsender) unit(u *unit) bool {
	p := w.s.server
	slow := time.Duration(0)
	if len(u.frames) > 3 && w.s.chance(30) {
		slow = 400 * time.Millisecond // a server that reads a spilled transaction from a slow disk
	}
	p.mu.Lock()
	lag := max(p.slowness, slow)
	p.mu.Unlock()
	for _, f := range u.frames {
		for _, t := range f.rels {
			if !w.described[t.oid] {
				w.described[t.oid] = true
				w.send(xlogData(0, t.relation()))
			}
		}
		w.send(xlogData(f.at, f.body))
		if w.s.chance(80) {
			w.send(keepalive(min(u.start, w.sent), w.s.chance(2)))
		}
		if w.pending > 20 || w.s.chance(8) {
			if lag > 0 {
				time.Sleep(w.s.upTo(lag))
			}
			if !w.flushed() || !w.goesOn() {
				return false
			}
		}
	}
	return w.flushed()
}

func (w *walsender) send(data []byte) {
	w.s.backend.Send(&pgproto3.CopyData{Data: data})
	w.pending++
}

// flushed hands what was sent to the network, which may take as long as wal_sender_timeout.
func (w *walsender) flushed() bool {
	w.pending = 0
	_ = w.s.conn.SetWriteDeadline(time.Now().Add(senderTimeout)) // the network of the model takes any
	return w.s.backend.Flush() == nil
}

// goesOn looks at what the client and the operator have said meanwhile.
func (w *walsender) goesOn() bool {
	w.mu.Lock()
	left, lost, asked, heard := w.left, w.lost, w.asked, w.heard
	w.asked = false
	w.mu.Unlock()
	switch {
	case lost:
		return false
	case left:
		w.s.backend.Send(&pgproto3.CopyDone{})
		w.s.backend.Send(&pgproto3.CommandComplete{CommandTag: []byte("COPY 0")})
		w.s.ready()
		w.await(2 * time.Second) // for its Terminate
		return false
	case time.Since(heard) >= senderTimeout:
		w.s.server.trace.log("postgres: walsender %d: timeout", w.s.pid)
		return false
	}
	if asked {
		w.send(keepalive(w.sent, false))
		if !w.flushed() {
			return false
		}
	}
	select {
	case code := <-w.s.told:
		return w.leave(code)
	default:
		return true
	}
}

// leave ends the stream because the server says so: at once, or, in a shutdown, after all there is has
// arrived. It returns whether there is more to send before.
func (w *walsender) leave(code string) bool {
	if len(code) > 5 {
		w.s.fail("FATAL", code[:5], "terminating connection due to administrator command")
		return false
	}
	w.mu.Lock()
	has := w.write
	if w.flush > 0 {
		has = w.flush
	}
	w.mu.Unlock()
	if end, _ := w.s.server.wal.at(); w.sent < end || has < w.sent {
		w.s.tell(code) // look again
		w.send(keepalive(w.sent, true))
		if !w.flushed() {
			return false
		}
		w.await(10 * time.Millisecond)
		return true
	}
	w.s.backend.Send(&pgproto3.CommandComplete{CommandTag: []byte("COPY 0")})
	_ = w.s.backend.Flush() // it ends, whoever hears it
	return false
}

// idle waits, with everything sent, until there is something to do.
func (w *walsender) idle(changed <-chan struct{}) bool {
	if w.s.chance(3) {
		w.send(keepalive(w.sent, w.s.chance(4)))
		if !w.flushed() {
			return false
		}
	}
	t := time.NewTimer(senderTimeout / 2)
	defer t.Stop()
	select {
	case <-changed:
	case <-w.wakeup:
	case code := <-w.s.told:
		w.s.tell(code)
	case <-t.C:
		w.send(keepalive(w.sent, true))
		if !w.flushed() {
			return false
		}
	}
	return w.goesOn()
}

// await waits for a word of the client.
func (w *walsender) await(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-w.wakeup:
	case <-t.C:
	}
}
