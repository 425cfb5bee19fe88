package sim

import (
	"net"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/walferry/walferry/event"
)

// postgres is the model of a server: a log, one slot, and whoever is connected.
type postgres struct {
	seed    uint64
	trace   *trace
	wal     *wal
	version int

	mu          sync.Mutex // guards what follows
	types       *pgtype.Map
	state       state
	started     time.Time
	listener    net.Listener
	sessions    []*session
	pid         uint32
	publication bool
	slot        *slot
	locks       map[int64]*session
	confirms    []confirm
	faults      []string // what the model must never see
	slowness    time.Duration
}

// state is what the server says to new connections.
type state int

const (
	running state = iota
	starting
	shuttingDown
	stopped
)

// slot is the replication slot. Confirmed is in memory; persisted is what a crash leaves.
type slot struct {
	created, confirmed, persisted event.LSN
	holder                        *session
}

// confirm is what a client has confirmed first, and when.
type confirm struct {
	at  time.Time
	lsn event.LSN
}

func newPostgres(seed uint64, t *trace) *postgres {
	p := &postgres{seed: seed, trace: t, wal: newWAL(seed), types: pgtype.NewMap(), pid: 100, started: time.Now(), locks: make(map[int64]*session)}
	p.version = []int{140018, 160014, 180004}[seed%3]
	return p
}

// serve takes connections until the listener is closed.
func (p *postgres) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go p.accept(conn) // ends with the connection
	}
}

func (p *postgres) accept(conn net.Conn) {
	s := &session{server: p, conn: conn, rng: rng(p.seed, "session "+conn.RemoteAddr().String()), backend: pgproto3.NewBackend(conn, conn), status: 'I', prepared: make(map[string]*statement), ended: make(chan struct{}), told: make(chan string, 1)}
	p.mu.Lock()
	p.pid++
	s.pid = p.pid
	p.sessions = append(p.sessions, s)
	p.mu.Unlock()
	s.run()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(s)
}

// forget releases what a session held. It is called with the lock.
func (p *postgres) forget(s *session) {
	p.sessions = slices.DeleteFunc(p.sessions, func(o *session) bool { return o == s })
	for key, holder := range p.locks {
		if holder == s {
			delete(p.locks, key)
		}
	}
	if p.slot != nil && p.slot.holder == s {
		p.slot.holder = nil
	}
}

// wrong notes what must not happen.
func (p *postgres) wrong(what string) {
	p.trace.log("WRONG: %s", what)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, what)
}

// publish makes the publication.
func (p *postgres) publish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.publication = true
}

// createSlot makes the slot, once.
func (p *postgres) createSlot() bool {
	end, _ := p.wal.at()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.slot != nil {
		return false
	}
	p.slot = &slot{created: end, confirmed: end, persisted: end}
	p.trace.log("postgres: slot created at %s", end)
	return true
}

// take has a session hold the slot, and returns from where it reads; who is the pid of another holder.
func (p *postgres) take(s *session) (from event.LSN, there bool, who uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.slot == nil:
		return 0, false, 0
	case p.slot.holder != nil:
		return 0, true, p.slot.holder.pid
	}
	p.slot.holder = s
	return p.slot.confirmed, true, 0
}

// confirm is told a flush position by who holds the slot. The server believes everything.
func (p *postgres) confirm(s *session, lsn event.LSN) {
	end, _ := p.wal.at()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.slot.holder != s || lsn <= p.slot.confirmed {
		return
	}
	if lsn > end {
		p.faults = append(p.faults, "confirmed "+lsn.String()+", behind the end of the log "+end.String())
	}
	p.slot.confirmed = lsn
	p.confirms = append(p.confirms, confirm{time.Now(), lsn})
	if lsn/8%6 == 0 { // now and then
		p.slot.persisted = lsn
	}
}

// crash ends everything at once, takes the slot back to what is on disk, and starts again.
func (p *postgres) crash(away time.Duration) {
	p.mu.Lock()
	if p.state != running {
		p.mu.Unlock()
		return
	}
	p.state = stopped
	all := p.sessions
	p.sessions = nil
	for _, s := range all {
		p.forget(s)
	}
	if p.slot != nil {
		p.trace.log("postgres: crash, the slot goes from %s to %s", p.slot.confirmed, p.slot.persisted)
		p.slot.confirmed = p.slot.persisted
	}
	p.mu.Unlock()
	for _, s := range all {
		s.end()
	}
	p.startAgain(away)
}

// restart is a shutdown in order: sessions are told, the walsender sends all there is and waits until
// it has arrived.
func (p *postgres) restart(away time.Duration) {
	p.mu.Lock()
	if p.state != running {
		p.mu.Unlock()
		return
	}
	p.trace.log("postgres: fast shutdown")
	p.state = shuttingDown
	all := slices.Clone(p.sessions)
	p.mu.Unlock()
	for _, s := range all {
		s.tell("57P01")
	}
	began := time.Now()
	for _, s := range all {
		<-s.ended
	}
	p.trace.log("postgres: shut down after %s", time.Since(began))
	p.mu.Lock()
	p.state = stopped
	if p.slot != nil {
		p.slot.persisted = p.slot.confirmed
	}
	p.mu.Unlock()
	p.startAgain(away)
}

func (p *postgres) startAgain(away time.Duration) {
	time.Sleep(away)
	p.mu.Lock()
	p.started = time.Now()
	p.mu.Unlock()
	p.set(starting)
	time.Sleep(away / 4)
	p.set(running)
	p.trace.log("postgres: up")
}

func (p *postgres) set(s state) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = s
}

// persist is a checkpoint of the server: the slot is written.
func (p *postgres) persist() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.slot != nil {
		p.slot.persisted = p.slot.confirmed
	}
}

// terminate ends the walsender, as an operator does, or idle_session_timeout.
func (p *postgres) terminate() {
	p.mu.Lock()
	var s *session
	if p.slot != nil {
		s = p.slot.holder
	}
	p.mu.Unlock()
	if s != nil {
		p.trace.log("postgres: terminate walsender %d", s.pid)
		s.tell("57P01 now")
	}
}

// lag has walsenders pause between messages for up to a time.
func (p *postgres) lag(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slowness = d
}
