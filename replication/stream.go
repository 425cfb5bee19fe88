package replication

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/failpoint"
	"github.com/walferry/walferry/replication/pgoutput"
)

// errShutdown is why a stalled stream lets go of its connection.
var errShutdown = errors.New("the server is shutting down")

// stream is one replication connection in COPY mode. One goroutine, run, reads it and writes the
// status updates; while nobody takes what was read, it goes on with the updates alone.
type stream struct {
	conn   net.Conn
	status status
	pace   pace
	bytes  int // of the last read
	out    chan<- *batch
	free   chan *batch
	batch  *batch // being filled
	// kept says that batch holds frames for which there was no room; see roomMade.
	kept atomic.Bool
	// begun are bytes of the stream that came before run.
	begun []byte
	// watch returns a channel that is closed when the server is shutting down; see watchShutdown.
	watch func(ctx context.Context) <-chan struct{}
	// moves is closed when the login of this connection is about to end; nil where it does not. The
	// stream goes on over another connection then, from the end of the transaction that it is in:
	// in mid-transaction the server would begin it again, each time, and a long one would never end.
	moves   <-chan struct{}
	moving  atomic.Bool
	within  bool // a transaction, whose rows have begun to arrive
	metrics *Metrics
	frames  pgoutput.Decoder
	msg     []byte // scratch for status updates

	mu      sync.Mutex // guards leaving, and the read deadline from then on
	leaving bool
}

// run reads until ctx ends or the connection is lost. It returns nil only when ctx has ended and
// the slot was given back.
func (s *stream) run(ctx context.Context) error {
	defer func() { _ = s.conn.Close() }()
	// A cancelled ctx ends a Read that blocks.
	defer context.AfterFunc(ctx, s.wake)()
	if s.moves != nil {
		running, end := context.WithCancel(ctx)
		defer end()
		go s.awaitMove(running) // ends with running
	}
	s.status.heard = time.Now()

	s.fresh(s.begun)
	defer func() { s.free <- s.batch }()
	for {
		err := s.step(ctx)
		if ctx.Err() != nil {
			return s.leave(s.batch.rest())
		}
		if err != nil {
			return err
		}
	}
}

// step gives away what has been read, rests if the stream is busy, and reads on.
func (s *stream) step(ctx context.Context) error {
	had := len(s.batch.frames)
	if err := s.parse(s.batch); err != nil {
		return err
	}
	if s.mayMove() {
		return s.move()
	}
	messages := len(s.batch.frames) - had
	if len(s.batch.frames) > 0 {
		if err := s.handOver(ctx); err != nil {
			return err
		}
	}
	if messages > 0 {
		time.Sleep(s.pace.read(s.status.heard, s.bytes, messages))
	}
	return s.read(ctx, s.batch)
}

// wake ends a Read that blocks, so that run looks at ctx and at what was confirmed. One that comes late
// must not end the wait for the server's goodbye.
func (s *stream) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.leaving {
		_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// roomMade has a batch that was kept handed over. Whoever takes a batch calls it, from any goroutine.
func (s *stream) roomMade() {
	if s.kept.CompareAndSwap(true, false) {
		s.wake()
	}
}

// read reads once into b, after sending what status update is due. It returns without anything read
// when there is room for a batch that was kept.
func (s *stream) read(ctx context.Context, b *batch) error {
	for {
		if err := s.report(time.Now()); err != nil {
			return err
		}
		// The deadline is set before ctx, status and kept are looked at: whoever changes one of
		// them afterwards wakes the Read by a deadline of its own, which then is the later one.
		due := s.status.due()
		if err := s.conn.SetReadDeadline(due); err != nil {
			return s.lost(err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if s.mayMove() {
			return nil
		}
		if s.status.due().Before(due) {
			continue
		}
		if len(b.frames) > 0 && !s.kept.Load() {
			return nil
		}
		n, err := s.conn.Read(b.room())
		now := time.Now()
		if n > 0 {
			s.status.heard = now
			s.bytes = n
			b.buf = b.buf[:len(b.buf)+n]
			failpoint.Here(failpoint.Read)
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return s.lost(err)
		}
		if now.Sub(s.status.heard) > silence {
			return s.lost(fmt.Errorf("no word from the server for %s, though each status update asked for one", silence))
		}
	}
}

// awaitMove notes that the connection is to be given up, and has a Read that blocks look at that.
func (s *stream) awaitMove(ctx context.Context) {
	select {
	case <-s.moves:
		s.moving.Store(true)
		s.wake()
	case <-ctx.Done():
	}
}

func (s *stream) mayMove() bool { return !s.within && s.moving.Load() }

// move ends the stream in order. What was read and is not confirmed comes again on the next connection.
func (s *stream) move() error {
	if err := s.leave(s.batch.rest()); err != nil {
		return err
	}
	return fault.New(fault.CredentialRotated, "stream from the slot", nil, "")
}

// report sends a status update if one is due at now.
func (s *stream) report(now time.Time) error {
	if now.Before(s.status.due()) {
		return nil
	}
	return s.send(now)
}

func (s *stream) send(now time.Time) error {
	s.msg = append(s.msg[:0], 'd', 0, 0, 0, 0)
	s.msg = pgoutput.AppendStatus(s.msg, s.status.next(now))
	binary.BigEndian.PutUint32(s.msg[1:], uint32(len(s.msg)-1)) //nolint:gosec // 38
	if err := s.conn.SetWriteDeadline(now.Add(statusEvery)); err != nil {
		return s.lost(err)
	}
	if _, err := s.conn.Write(s.msg); err != nil {
		return s.lost(err)
	}
	failpoint.Here(failpoint.Reported)
	return nil
}

// parse takes the whole protocol messages out of b: CopyData becomes frames, keepalives are noted
// on the way, and anything that ends the stream is an error.
func (s *stream) parse(b *batch) error {
	for {
		tag, body, err := b.next()
		switch {
		case err != nil:
			return fault.New(fault.StreamInvalid, "read the replication stream", err, "")
		case tag == 0:
			return nil
		case tag == 'd':
			if err := s.note(body); err != nil {
				return err
			}
			b.frames = append(b.frames, span{b.done - len(body), b.done})
			if s.mayMove() {
				return nil
			}
		default:
			if err := s.handle(tag, body); err != nil {
				return err
			}
		}
	}
}

// handle takes a protocol message that is no CopyData.
func (s *stream) handle(tag byte, body []byte) error {
	switch tag {
	case 'N':
		return s.notice(body)
	case 'S': // ParameterStatus: a reload changed a setting; ours are pinned.
		return nil
	case 'E':
		return explain("stream from the slot", decodeError(body))
	case 'c', 'C', 'Z': // the server has ended the stream without a word
		return s.lost(errors.New("the server ended the stream"))
	default:
		return fault.New(fault.StreamInvalid, "read the replication stream", fmt.Errorf("unexpected message %q", tag), "")
	}
}

// note keeps the LSNs that a CopyData payload names, and whether the server wants an answer.
func (s *stream) note(body []byte) error {
	frame, err := s.frames.DecodeFrame(body)
	if err != nil {
		return fault.New(fault.StreamInvalid, "read the replication stream", err, "")
	}
	switch f := frame.(type) {
	case *pgoutput.XLogData:
		s.status.saw(f.WALStart)
		if len(f.Payload) > 0 && (f.Payload[0] == 'B' || f.Payload[0] == 'C') {
			s.within = f.Payload[0] == 'B'
		}
	case *pgoutput.Keepalive:
		s.status.saw(f.WALEnd)
		s.status.asked = s.status.asked || f.ReplyRequested
	}
	return nil
}

// notice looks at a NoticeResponse. From 18 on a missing publication is only a warning, while the
// server skips its changes and moves on: that one is an error here.
func (s *stream) notice(body []byte) error {
	n := decodeError(body)
	if n.Code == "55000" {
		e := explain("stream from the slot", n)
		if fault.Is(e, fault.PublicationMissing) {
			return e
		}
	}
	return nil
}

// decodeError reads an ErrorResponse or NoticeResponse.
func decodeError(body []byte) *pgconn.PgError {
	var r pgproto3.ErrorResponse
	if err := r.Decode(body); err != nil {
		return &pgconn.PgError{Severity: "ERROR", Code: "08P01", Message: "an error response that cannot be read"}
	}
	return pgconn.ErrorResponseToPgError(&r)
}

// handOver gives the batch away and takes an empty one. If nobody waits and the batch has room
// left, it is kept, to be filled further. While handOver blocks, status updates go on.
func (s *stream) handOver(ctx context.Context) error {
	if s.offer() {
		return nil
	}
	// Room that is made from here on wakes the reader; what was made before shows in the next offer.
	s.kept.Store(true)
	if s.offer() || !s.batch.full() {
		return nil
	}
	return s.stall(ctx)
}

// offer hands the batch over if there is room for it.
func (s *stream) offer() bool {
	select {
	case s.out <- s.batch:
		s.fresh(s.batch.rest())
		return true
	default:
		return false
	}
}

// stallWatch is how long a hand-over may block before the server is watched for a shutdown.
const stallWatch = time.Second

// stall hands the batch over when there is room again. Nothing is read meanwhile, so a server that shuts
// down could never send the rest and would wait for us; therefore a stall that lasts watches
// the server over another connection and lets go of this one when that is told to end.
func (s *stream) stall(ctx context.Context) error {
	watchCtx, endWatch := context.WithCancel(ctx)
	defer endWatch()
	var gone <-chan struct{}
	long := time.NewTimer(stallWatch)
	defer long.Stop()
	report := time.NewTicker(time.Second)
	defer report.Stop()
	s.metrics.stall(true)
	defer s.metrics.stall(false)
	for {
		select {
		case s.out <- s.batch:
			s.status.heard = time.Now() // the silence was ours
			s.fresh(s.batch.rest())
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-gone:
			return s.lost(errShutdown)
		case <-long.C:
			gone = s.watch(watchCtx)
		case now := <-report.C:
			if err := s.report(now); err != nil {
				return err
			}
		}
	}
}

// fresh takes an empty batch and puts begun at its front: the start of a message that was cut off
// at the end of the batch before. That one is given away already, but its owner only reads. There is
// always an empty one: between the reader and the assembler are fewer batches than the source owns.
func (s *stream) fresh(begun []byte) {
	s.batch = <-s.free
	s.batch.reset(begun)
}

// leaveIn is how long the server gets to take the last status update and end the stream.
const leaveIn = 2 * time.Second

// leave tells the server what was confirmed last, ends the stream and waits for the server's word
// that it is over: then the slot is free and knows its position. A server that is in the middle of
// a large transaction does not answer in time; what it missed is in the checkpoint. begun are the
// bytes of a message that was read in part.
func (s *stream) leave(begun []byte) error {
	now := time.Now()
	if err := s.send(now); err != nil {
		return err
	}
	failpoint.Here(failpoint.Leaving)
	if _, err := s.conn.Write([]byte{'c', 0, 0, 0, 4}); err != nil { // CopyDone
		return s.lost(err)
	}
	s.mu.Lock()
	s.leaving = true
	err := s.conn.SetReadDeadline(now.Add(leaveIn))
	s.mu.Unlock()
	if err != nil {
		return s.lost(err)
	}
	if drainUntilReady(io.MultiReader(bytes.NewReader(begun), s.conn)) {
		_, _ = s.conn.Write([]byte{'X', 0, 0, 0, 4}) // Terminate
	}
	return nil
}

// drainUntilReady reads and drops what comes until ReadyForQuery; false when the time is up or the
// connection is gone.
func drainUntilReady(r io.Reader) bool {
	in := bufio.NewReaderSize(r, 64<<10)
	var head [5]byte
	for {
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return false
		}
		if head[0] == 'Z' {
			return true
		}
		if _, err := io.CopyN(io.Discard, in, int64(binary.BigEndian.Uint32(head[1:]))-4); err != nil {
			return false
		}
	}
}

// lost wraps what ended a connection without the server saying why.
func (s *stream) lost(err error) error {
	return fault.New(fault.PostgresUnavailable, "stream from the slot", err, "")
}
