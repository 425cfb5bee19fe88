package sim

import (
	"context"
	"errors"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// window is how many bytes may be on their way in one direction: a socket's buffers.
const window = 256 << 10

// network joins instances and servers. Every byte takes a while, and no two writes of a direction arrive
// at the same instant.
type network struct {
	seed  uint64
	trace *trace

	mu        sync.Mutex // guards what follows
	listeners map[string]*listener
	links     []*link
	away      map[string]bool // addresses where nobody answers
	flaky     float64         // how likely a new connection is one that breaks somewhere
	losses    []loss
	traps     []*trap
}

// trap does something when a request is sent: before it is on its way, or after.
type trap struct {
	key   int16
	by    *link // who sends it; with other set, whoever else
	other bool
	after bool
	do    func()
}

// loss says that the answer to a request of a kind is lost: with or after it was done, or with the
// request itself.
type loss struct {
	key  int16
	done bool
}

func newNetwork(seed uint64, t *trace) *network {
	return &network{seed: seed, trace: t, listeners: make(map[string]*listener), away: make(map[string]bool)}
}

// rng returns the source of chance of one thing, whatever others have drawn.
func rng(seed uint64, name string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))                  // never fails
	return rand.New(rand.NewPCG(seed, h.Sum64())) //nolint:gosec // to be repeated, not to be secret
}

// listen opens an address.
func (n *network) listen(address string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &listener{address: address, accepted: make(chan net.Conn, 64), closed: make(chan struct{})}
	n.listeners[address] = l
	return l, nil
}

// unreliable sets how likely a new connection is one that breaks somewhere.
func (n *network) unreliable(p float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.flaky = p
}

// lose has the answer to the next request with an API key of Kafka be lost.
func (n *network) lose(l loss) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.losses = append(n.losses, l)
}

// heal ends what unreliable, lose, set and absent began, for connections that are yet to be made.
func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.flaky, n.losses, n.traps, n.away = 0, nil, nil, make(map[string]bool)
}

// set lays a trap. It springs once.
func (n *network) set(t *trap) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.traps = append(n.traps, t)
}

// spring does what traps were laid for.
func (n *network) spring(l *link, key int16, after bool) {
	n.mu.Lock()
	var sprung []*trap
	n.traps = slices.DeleteFunc(n.traps, func(t *trap) bool {
		is := t.key == key && t.after == after && t.other != (t.by == l) && !l.steady
		if is {
			sprung = append(sprung, t)
		}
		return is
	})
	n.mu.Unlock()
	for _, t := range sprung {
		n.trace.log("%s sends request %d: the trap springs, after it: %t", l.name, key, after)
		t.do()
	}
}

// lost takes the first loss that a request is due for.
func (n *network) lost(key int16) (loss, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	at := slices.IndexFunc(n.losses, func(l loss) bool { return l.key == key })
	if at < 0 {
		return loss{}, false
	}
	l := n.losses[at]
	n.losses = slices.Delete(n.losses, at, at+1)
	return l, true
}

// listener implements net.Listener.
type listener struct {
	address  string
	accepted chan net.Conn
	once     sync.Once
	closed   chan struct{}
}

// Accept returns the next connection.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close refuses what comes.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr returns the address that was listened on.
func (l *listener) Addr() net.Addr { return address(l.address) }

// address implements net.Addr.
type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

// link is the way from one client to one service. Its connections share its fate.
type link struct {
	net    *network
	name   string
	steady bool // never breaks by itself

	mu       sync.Mutex // guards what follows
	rng      *rand.Rand
	dead     bool
	released chan struct{} // while held; closed at release
	wires    []*wire
	count    map[string]int // connections by address
}

func (n *network) link(name string) *link {
	l := &link{net: n, name: name, rng: rng(n.seed, "link "+name), count: make(map[string]int)}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links = append(n.links, l)
	return l
}

// absent has the server of an address vanish, or come back.
func (n *network) absent(addr string, away bool) {
	n.mu.Lock()
	n.away[addr] = away
	links := slices.Clone(n.links)
	n.mu.Unlock()
	if !away {
		return
	}
	for _, l := range links {
		l.mu.Lock()
		l.each(func(w *wire) {
			if w.client.remote.String() == addr {
				w.cut(syscall.ECONNRESET)
			}
		})
		l.mu.Unlock()
	}
}

// dial connects.
func (l *link) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	l.mu.Lock()
	released := l.released
	delay := time.Duration(100+l.rng.IntN(400)) * time.Microsecond
	l.mu.Unlock()
	if released != nil { // nobody answers
		select {
		case <-released:
		case <-ctx.Done():
			return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: address(addr), Err: ctx.Err()}
		}
	}
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: address(addr), Err: ctx.Err()}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.net.mu.Lock()
	ln, flaky := l.net.listeners[addr], l.net.flaky
	refused := l.dead || ln == nil || l.net.away[addr] && !l.steady
	l.net.mu.Unlock()
	if !refused {
		select {
		case <-ln.closed:
			refused = true
		default:
		}
	}
	if refused {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: address(addr), Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	l.count[addr]++
	w := newWire(l, l.name+" "+addr+"#"+strconv.Itoa(l.count[addr]), addr)
	if !l.steady && l.rng.Float64() < flaky {
		w.breakSomewhere(l.rng)
	}
	w.up.quiet, w.down.quiet = l.steady, l.steady
	if l.released != nil {
		w.hold(true)
	}
	select {
	case ln.accepted <- w.server:
	default:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: address(addr), Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	l.wires = append(slices.DeleteFunc(l.wires, (*wire).over), w)
	return w.client, nil
}

// each does something to every connection.
func (l *link) each(f func(*wire)) {
	for _, w := range l.wires {
		f(w)
	}
}

// cut breaks all connections.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.each(func(w *wire) { w.cut(syscall.ECONNRESET) })
}

// hold lets nothing through, in either direction, until release.
func (l *link) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.released == nil {
		l.released = make(chan struct{})
		l.each(func(w *wire) { w.hold(true) })
	}
}

// release delivers what was held.
func (l *link) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.released != nil {
		close(l.released)
		l.released = nil
		l.each(func(w *wire) { w.hold(false) })
	}
}

// abandon ends the connections of a held link on the server's side, as TCP's keepalives do.
func (l *link) abandon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.released != nil {
		l.each((*wire).abandon)
	}
}

// kill ends the client: it writes and reads no more. Of what it had written a part still arrives.
func (l *link) kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	l.each(func(w *wire) { w.die(l.rng) })
}

// errKilled is what a killed client's connections say.
var errKilled = errors.New("this process was killed")

// wire is one connection, seen from both ends.
type wire struct {
	link           *link
	up, down       *pipe // from the client to the server, and back
	client, server *end
	muted          bool // the server's next answer is lost; guarded by up.mu
}

func newWire(l *link, name, addr string) *wire {
	w := &wire{link: l}
	w.up, w.down = newPipe(l.net, name+">"), newPipe(l.net, name+"<")
	w.client = &end{wire: w, in: w.down, out: w.up, remote: address(addr), asks: true}
	w.server = &end{wire: w, in: w.up, out: w.down, remote: address(name)}
	return w
}

// breakSomewhere has the connection break at some byte of some direction.
func (w *wire) breakSomewhere(r *rand.Rand) {
	p := w.up
	if r.IntN(2) == 0 {
		p = w.down
	}
	p.breaksAt = 1 + r.Int64N(1<<(4+r.IntN(13)))
}

// cut breaks the connection: what is on its way may arrive, nothing more does.
func (w *wire) cut(err error) {
	w.up.finish(err, 0)
	w.down.finish(err, 0)
	w.up.refuse(err)
	w.down.refuse(err)
}

func (w *wire) hold(held bool) {
	w.up.hold(held)
	w.down.hold(held)
}

func (w *wire) abandon() {
	w.up.drop(syscall.ETIMEDOUT)
	w.down.refuse(syscall.ETIMEDOUT)
	w.down.finish(syscall.ECONNRESET, 0)
}

func (w *wire) die(r *rand.Rand) {
	w.down.drop(errKilled)
	w.up.refuse(errKilled)
	w.up.finish(io.EOF, r.IntN(3))
}

func (w *wire) over() bool { return w.up.over() && w.down.over() }

// end is one end of a wire; it implements net.Conn.
type end struct {
	wire    *wire
	in, out *pipe
	remote  net.Addr
	asks    bool // the end that sends requests
}

func (e *end) Read(p []byte) (int, error) {
	n, err := e.in.read(p)
	return n, e.said("read", err)
}

// said dresses an error number as package net does: by that clients tell a network that fails for a while from
// a mistake.
func (e *end) said(op string, err error) error {
	if no, is := errors.AsType[syscall.Errno](err); is {
		return &net.OpError{Op: op, Net: "tcp", Source: e.LocalAddr(), Addr: e.remote, Err: os.NewSyscallError(op, no)}
	}
	return err
}

// Write sends. Here a request whose answer is to be lost meets its fate: clients of Kafka write each
// request at once, and so do the brokers with each answer.
func (e *end) Write(p []byte) (int, error) {
	w := e.wire
	if e.asks && w.up.kafka && len(p) > 6 {
		key := int16(p[4])<<8 | int16(p[5])
		w.link.net.spring(w.link, key, false)
		defer w.link.net.spring(w.link, key, true)
		if l, is := w.link.net.lost(key); is {
			w.link.net.trace.log("the answer to request %d of %s is lost, done: %t", l.key, w.up.name, l.done)
			if !l.done {
				w.cut(syscall.ECONNRESET)
				return len(p), nil
			}
			w.up.mu.Lock()
			w.muted = true
			w.up.mu.Unlock()
		}
	} else if !e.asks {
		w.up.mu.Lock()
		muted := w.muted
		w.up.mu.Unlock()
		if muted {
			w.cut(syscall.ECONNRESET)
			return len(p), nil
		}
	}
	n, err := e.out.write(p)
	if errors.Is(err, errBreak) {
		w.cut(syscall.ECONNRESET)
		return len(p), nil // into the kernel's buffer, as far as the writer knows
	}
	return n, e.said("write", err)
}

// Close ends the connection: what was written arrives.
func (e *end) Close() error {
	e.out.finish(io.EOF, -1)
	e.out.refuse(net.ErrClosed)
	e.in.drop(net.ErrClosed)
	return nil
}

func (e *end) LocalAddr() net.Addr  { return address("local") }
func (e *end) RemoteAddr() net.Addr { return e.remote }

func (e *end) SetDeadline(t time.Time) error {
	e.in.setReadDeadline(t)
	e.out.setWriteDeadline(t)
	return nil
}

func (e *end) SetReadDeadline(t time.Time) error {
	e.in.setReadDeadline(t)
	return nil
}

func (e *end) SetWriteDeadline(t time.Time) error {
	e.out.setWriteDeadline(t)
	return nil
}

var _ net.Conn = (*end)(nil)

// errBreak says that a write met the byte at which its connection breaks.
var errBreak = errors.New("the connection breaks here")

var errDeadline = os.ErrDeadlineExceeded
