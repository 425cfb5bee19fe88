package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/failpoint"
)

// batches is how many batches a source owns: one being filled, one being emptied, and two between.
const batches = 4

// Source reads one slot of one database. Its methods are called as pipeline.Source says: Start and
// Run by one goroutine, Next by another, Confirm and Received by any.
type Source struct {
	cfg     Config
	log     *slog.Logger
	metrics *Metrics
	catalog *catalog

	confirmed atomic.Uint64 // what is durable, over all connections
	received  atomic.Uint64 // the highest LSN that the connection of now has named
	out       chan *batch   // filled, towards Next
	free      chan *batch   // emptied, towards the reader

	mu     sync.Mutex // guards stream against Confirm, which wakes it
	stream *stream    // of the connection that Start made last

	// Start's own: the server of the newest connection, and the highest LSN that any has named.
	server  event.Server
	reached event.LSN

	// The rest belongs to Next.
	assembler *assembler
	current   *batch // being emptied, nil where there is none
	frame     int    // the next frame of current
}

// New makes a Source; it does no I/O. A nil Metrics counts nothing.
func New(cfg Config, log *slog.Logger, m *Metrics) *Source {
	s := &Source{
		cfg: cfg, log: log, metrics: m, catalog: newCatalog(cfg),
		out: make(chan *batch, batches-2), free: make(chan *batch, batches),
	}
	s.assembler = newAssembler(cfg, s.catalog, m)
	for range batches {
		s.free <- newBatch()
	}
	return s
}

// Prepare checks server, role, tables and publication, and holds the lock of the set-up; see
// pipeline.Source.
func (s *Source) Prepare(ctx context.Context) (*Setup, error) {
	return prepare(ctx, s.cfg, s.catalog, s.log)
}

// Unpublished names the configured tables that the publication does not hold now, and has types that were
// altered meanwhile read anew.
func (s *Source) Unpublished(ctx context.Context) ([]string, error) {
	if err := s.catalog.refresh(ctx); err != nil {
		return nil, err
	}
	return s.catalog.checkPublished(ctx)
}

// slotPoll is how often a slot that another instance holds is looked at.
const slotPoll = 500 * time.Millisecond

// Start connects, takes the slot and begins to stream from its confirmed position. While another
// walsender holds the slot it waits, calling busy once, until ctx ends; the error is then
// fault.SlotBusy. It returns the server as the new connection sees it.
func (s *Source) Start(ctx context.Context, busy func()) (event.Server, error) {
	for said := false; ; said = true {
		srv, err := s.start(ctx)
		if !fault.Is(err, fault.SlotBusy) {
			return srv, err
		}
		if !said {
			busy()
			s.log.Info("waiting for the slot: another instance holds it", "slot", s.cfg.Slot.Name, "cause", err)
		}
		select {
		case <-time.After(slotPoll):
		case <-ctx.Done():
			return event.Server{}, err
		}
	}
}

// start makes one attempt.
func (s *Source) start(ctx context.Context) (event.Server, error) {
	var (
		srv   event.Server
		began string
	)
	conn, used, err := s.cfg.connectAs(ctx, true, func(ctx context.Context, conn *pgconn.PgConn) (err error) {
		if err = isPrimary(ctx, conn); err != nil {
			return err
		}
		if began, err = serverStart(ctx, conn); err != nil {
			return err
		}
		if srv, err = s.cfg.serverState(ctx, conn); err != nil {
			return err
		}
		err = s.goesOn(srv)
		if err != nil && srv.Timeline > s.server.Timeline {
			err = settled{err}
		}
		return err
	})
	if err != nil {
		return event.Server{}, err
	}
	switch {
	case srv.Slot == nil:
		err = s.slotGone(srv)
	case srv.Slot.Active:
		err = fault.New(fault.SlotBusy, "start replication", fmt.Errorf("slot %s is held by process %d", s.cfg.Slot.Name, srv.Slot.PID), "")
	default:
		asking, cancel := s.cfg.inTime(ctx) // a replication connection has no statement_timeout
		_, err = simpleQuery(asking, conn, "start replication", limitsSQL)
		cancel()
	}
	if err != nil {
		_ = hangUp(conn) // nothing is at stake: it has not streamed
		return event.Server{}, err
	}
	raw, rest, err := startReplication(ctx, conn, s.cfg.startCommand())
	if err != nil {
		return event.Server{}, err
	}
	s.forget()
	s.catalog.follow(began)
	s.server = srv
	s.adopt(raw, rest, s.cfg.moves(used))
	return srv, nil
}

// goesOn refuses a server whose history does not hold all that earlier connections named: a standby
// that lagged when it was promoted, or an older copy. It gives the same LSNs to other transactions,
// and whoever remembers how far it got would take these for repeats. The checkpoint need not tell,
// because what was read last may not be in it yet.
func (s *Source) goesOn(srv event.Server) error {
	s.reached = max(s.reached, s.Received())
	if s.reached.IsZero() {
		return nil
	}
	was := s.server
	end, known := srv.End, srv.Timeline == was.Timeline
	for _, ended := range srv.Switches {
		if ended.Timeline == was.Timeline {
			end, known = ended.At, true
		}
	}
	var err error
	switch {
	case srv.Origin != was.Origin:
		err = fmt.Errorf("the server was cluster %s, database %q, and is now cluster %s, database %q",
			was.Origin.SystemID, was.Origin.Database, srv.Origin.SystemID, srv.Origin.Database)
	case !known:
		err = fmt.Errorf("the server was on timeline %d, which is not in the history of its timeline %d of now", was.Timeline, srv.Timeline)
	case s.reached > end:
		err = fmt.Errorf("timeline %d was read up to %v, but ends at %v on the server of now, which is on timeline %d", was.Timeline, s.reached, end, srv.Timeline)
	default:
		return nil
	}
	f := fault.New(fault.StreamDiverged, "go on after a lost connection", err,
		"The server that answers now is another one, an older copy, or lost its last changes in a failover. The topics may hold changes that it does not have. "+
			"Go back to the server that has them, or accept it: compare the tables with what consumers hold before starting again. What a start would do, and from where, says\nwalferry checkpoint show")
	f.LSN = s.reached
	return f
}

// slotGone says that the slot is not there, and where a promotion explains it, that one.
func (s *Source) slotGone(srv event.Server) error {
	err := fmt.Errorf("slot %s does not exist", s.cfg.Slot.Name)
	hint := "Changes that are not in the topics are not kept for this pipeline any more. To begin with the present:\nwalferry checkpoint set --now"
	for _, ended := range srv.Switches {
		if ended.Timeline == s.server.Timeline {
			err = fmt.Errorf("slot %s does not exist: the server was promoted, timeline %d ended at %v, and the slot did not come along",
				s.cfg.Slot.Name, ended.Timeline, ended.At)
			hint = slotStaysHint
		}
	}
	f := fault.New(fault.SlotMissing, "start replication", err, hint)
	f.LSN = s.reached
	return f
}

// adopt makes a stream of a connection in COPY mode. rest are bytes of the stream that came with
// the answer to START_REPLICATION; moves is closed when the stream is to go on over another connection.
func (s *Source) adopt(raw net.Conn, rest []byte, moves <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &stream{
		conn: raw, begun: rest,
		out: s.out, free: s.free,
		watch: s.watchShutdown, moves: moves, metrics: s.metrics,
	}
	st.status.confirmed, st.status.newest = &s.confirmed, &s.received
	s.stream = st
}

// Run reads the stream that Start began; see pipeline.Source.
func (s *Source) Run(ctx context.Context) error {
	s.mu.Lock()
	st := s.stream
	s.mu.Unlock()
	return st.run(ctx)
}

// Confirm says that everything up to lsn is durable. It does not block.
func (s *Source) Confirm(lsn event.LSN) {
	for {
		was := s.confirmed.Load()
		if uint64(lsn) <= was {
			return
		}
		if s.confirmed.CompareAndSwap(was, uint64(lsn)) {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stream != nil {
		s.stream.wake()
	}
}

// Close hangs up what the catalog holds. Run has ended by then.
func (s *Source) Close() { s.catalog.close() }

// Received returns the highest LSN that the server has named on the newest connection that named one.
func (s *Source) Received() event.LSN { return event.LSN(s.received.Load()) }

// Next returns the next event; see pipeline.Source. An error that is retryable (the catalog could
// not be asked) loses nothing: the next call tries the same message again.
func (s *Source) Next(ctx context.Context, dry func()) (event.Event, error) {
	for {
		if ev := s.assembler.pending(); ev != nil {
			return ev, nil
		}
		if s.current == nil || s.frame == len(s.current.frames) {
			if err := s.take(ctx, dry); err != nil {
				return nil, err
			}
			continue
		}
		f := s.current.frames[s.frame]
		ev, err := s.assembler.frame(ctx, s.current.buf[f.from:f.to])
		if err != nil {
			return nil, err
		}
		s.frame++
		if ev != nil {
			failpoint.Here(failpoint.Decoded)
			return ev, nil
		}
	}
}

// take gives the emptied batch back and waits for the next one.
func (s *Source) take(ctx context.Context, dry func()) error {
	s.giveBack()
	select {
	case b := <-s.out:
		s.use(b)
		return nil
	default:
		dry()
	}
	select {
	case b := <-s.out:
		s.use(b)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Source) use(b *batch) {
	s.current, s.frame = b, 0
	s.roomMade()
}

// giveBack returns the batch at hand. It never blocks: the channel has room for all of them.
func (s *Source) giveBack() {
	if s.current != nil {
		s.free <- s.current
		s.current = nil
	}
}

// forget drops what an earlier connection has left behind: the next one begins with whole
// transactions and describes its tables again.
func (s *Source) forget() {
	s.giveBack()
	for {
		select {
		case b := <-s.out:
			s.free <- b
		default:
			s.assembler.restart()
			return
		}
	}
}

// roomMade tells the reader that a batch was taken.
func (s *Source) roomMade() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stream != nil {
		s.stream.roomMade()
	}
}

// startCommand returns START_REPLICATION for the configured slot and publication. It asks for the
// slot's own confirmed position: the server would go there silently from any earlier one, and skip
// silently to any later one.
func (c Config) startCommand() string {
	publication := `"` + strings.ReplaceAll(c.Publication.Name, `"`, `""`) + `"`
	return fmt.Sprintf(`START_REPLICATION SLOT "%s" LOGICAL 0/0 (proto_version '1', publication_names '%s', messages 'true')`,
		c.Slot.Name, strings.ReplaceAll(publication, `'`, `''`))
}

// startWithin is how long the server gets to enter COPY mode.
const startWithin = 30 * time.Second

// startReplication sends the command and waits for the server to enter COPY mode. It takes the
// connection over: it is closed after an error. rest are bytes of the stream that came with the answer.
func startReplication(ctx context.Context, conn *pgconn.PgConn, command string) (raw net.Conn, rest []byte, err error) {
	hijacked, err := conn.Hijack()
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, nil, fault.New(fault.Internal, "start replication", err, "")
	}
	_ = hijacked.Conn.SetDeadline(time.Now().Add(startWithin)) // a connection that cannot set it cannot write either
	defer context.AfterFunc(ctx, func() { _ = hijacked.Conn.SetDeadline(time.Unix(1, 0)) })()
	if rest, err = beginCopy(hijacked.Conn, command); err != nil {
		_ = hijacked.Conn.Close()
		return nil, nil, err
	}
	return hijacked.Conn, rest, nil
}

// beginCopy sends START_REPLICATION and reads until the server has entered COPY mode.
func beginCopy(conn net.Conn, command string) (rest []byte, err error) {
	const op = "start replication"
	query := append([]byte{'Q', 0, 0, 0, 0}, command...)
	query = append(query, 0)
	binary.BigEndian.PutUint32(query[1:], uint32(len(query)-1)) //nolint:gosec // short
	if _, err := conn.Write(query); err != nil {
		return nil, explain(op, err)
	}
	b := newBatch()
	for {
		tag, body, err := b.next()
		switch {
		case err != nil:
			return nil, fault.New(fault.StreamInvalid, op, err, "")
		case tag == 0: // not a whole message yet
			n, err := conn.Read(b.room())
			if err != nil {
				return nil, explain(op, err)
			}
			b.buf = b.buf[:len(b.buf)+n]
		case tag == 'W': // CopyBothResponse
			return b.rest(), nil
		case tag == 'E':
			return nil, explain(op, decodeError(body))
		case tag == 'N', tag == 'S':
		default:
			return nil, fault.New(fault.StreamInvalid, op, fmt.Errorf("unexpected message %q", tag), "")
		}
	}
}

// watchShutdown returns a channel that is closed when the server tells clients to leave: it ends
// this connection (57P01), or takes no new one (57P03). It watches until ctx ends.
func (s *Source) watchShutdown(ctx context.Context) <-chan struct{} {
	gone := make(chan struct{})
	go func() { // ends with ctx, which stream.stall cancels
		for ctx.Err() == nil {
			if s.toldToLeave(ctx) {
				close(gone)
				return
			}
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	}()
	return gone
}

// toldToLeave connects, waits for the connection to end, and tells whether it was ended by a shutdown.
func (s *Source) toldToLeave(ctx context.Context) bool {
	conn, err := s.cfg.connect(ctx, false, nil)
	if err == nil {
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		for err == nil {
			_, err = conn.ReceiveMessage(ctx)
		}
	}
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "57P01" || pg.Code == "57P03")
}
