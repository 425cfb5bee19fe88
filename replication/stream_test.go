package replication

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// walsender is the server's side of a stream under test: it writes messages and notes the status
// updates it gets.
type walsender struct {
	conn net.Conn

	mu       sync.Mutex
	statuses []statusSeen
	left     bool // CopyDone came
	busy     bool // in the middle of a message: CopyDone is not answered by itself
}

// goodbye answers CopyDone: CopyDone and ReadyForQuery.
var goodbye = []byte{'c', 0, 0, 0, 4, 'Z', 0, 0, 0, 5, 'I'}

type statusSeen struct {
	at           time.Time
	write, flush event.LSN
	askBack      bool
}

// harness is a stream between a walsender and a reader of batches.
type harness struct {
	server    *walsender
	stream    *stream
	out       chan *batch
	free      chan *batch
	confirmed atomic.Uint64
	newest    atomic.Uint64
	gone      chan struct{} // closed: the server is shutting down
	stop      context.CancelFunc
	ended     chan error
}

// serve runs a stream over an in-memory connection, inside of a synctest bubble.
func serve(t *testing.T) *harness {
	t.Helper()
	client, server := net.Pipe()
	h := &harness{
		server: &walsender{conn: server}, out: make(chan *batch, batches-2), free: make(chan *batch, batches),
		gone: make(chan struct{}), ended: make(chan error, 1),
	}
	for range batches {
		h.free <- newBatch()
	}
	h.stream = &stream{
		conn: client, out: h.out, free: h.free,
		watch: func(context.Context) <-chan struct{} { return h.gone },
	}
	h.stream.status.confirmed, h.stream.status.newest = &h.confirmed, &h.newest
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	go func() { h.ended <- h.stream.run(ctx) }() // ends with stop
	go h.server.listen()                         // ends with the connection
	t.Cleanup(func() { cancel(); _ = server.Close() })
	return h
}

// leaves stops the stream, which is no error, and waits for its end.
func (h *harness) leaves(t *testing.T) {
	t.Helper()
	h.stop()
	if err := <-h.ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}

// listen notes what the client sends, and answers CopyDone as a server does.
func (w *walsender) listen() {
	var head [5]byte
	for {
		if _, err := io.ReadFull(w.conn, head[:]); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(w.conn, body); err != nil {
			return
		}
		w.mu.Lock()
		switch head[0] {
		case 'd':
			w.statuses = append(w.statuses, statusSeen{
				at:      time.Now(),
				write:   event.LSN(binary.BigEndian.Uint64(body[1:])),
				flush:   event.LSN(binary.BigEndian.Uint64(body[9:])),
				askBack: body[33] == 1,
			})
		case 'c':
			w.left = true
			if !w.busy {
				go func() { _, _ = w.conn.Write(goodbye) }() // ends with the connection
			}
		}
		w.mu.Unlock()
	}
}

func (w *walsender) seen() []statusSeen {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.statuses)
}

func message(tag byte, body []byte) []byte {
	m := append([]byte{tag, 0, 0, 0, 0}, body...)
	binary.BigEndian.PutUint32(m[1:], uint32(len(m)-1))
	return m
}

func keepalive(end event.LSN, ask bool) []byte {
	b := binary.BigEndian.AppendUint64([]byte{'k'}, uint64(end))
	b = binary.BigEndian.AppendUint64(b, 0)
	if ask {
		return message('d', append(b, 1))
	}
	return message('d', append(b, 0))
}

func xlogData(start event.LSN, payload []byte) []byte {
	b := binary.BigEndian.AppendUint64([]byte{'w'}, uint64(start))
	b = binary.BigEndian.AppendUint64(b, uint64(start))
	b = binary.BigEndian.AppendUint64(b, 0)
	return message('d', append(b, payload...))
}

func (w *walsender) send(t *testing.T, messages ...[]byte) {
	t.Helper()
	for _, m := range messages {
		if _, err := w.conn.Write(m); err != nil {
			t.Fatal(err)
		}
	}
}

// takes returns the payloads of the frames of n batches' worth, until frames have come.
func (h *harness) takes(frames int) [][]byte {
	var got [][]byte
	for len(got) < frames {
		b := <-h.out
		h.stream.roomMade()
		for _, f := range b.frames {
			got = append(got, bytes.Clone(b.buf[f.from:f.to]))
		}
		h.free <- b
	}
	return got
}

func TestStatusGoesOutWhileNobodyTakesWhatWasRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serve(t)
		go func() { // ends when the stream closes the connection
			row := xlogData(0x500, make([]byte, 64<<10))
			for {
				if _, err := h.server.conn.Write(row); err != nil {
					return
				}
			}
		}()
		time.Sleep(65 * time.Second)
		seen := h.server.seen()
		for i := 1; i < len(seen); i++ {
			if gap := seen[i].at.Sub(seen[i-1].at); gap > statusEvery+time.Second {
				t.Errorf("%s between two status updates", gap)
			}
		}
		if len(seen) < 6 {
			t.Fatalf("%d status updates in 65 s of back-pressure", len(seen))
		}
		for _, s := range seen {
			if s.flush != 0 {
				t.Fatalf("flush %v, and nothing was confirmed", s.flush)
			}
		}
		h.leaves(t)
	})
}

func TestFault37_AKeepaliveStormIsAnsweredTenTimesASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serve(t)
		go func() { // ends with stop
			for b := range h.out {
				h.stream.roomMade()
				h.free <- b
			}
		}()
		storm, end := context.WithTimeout(t.Context(), 10*time.Second)
		defer end()
		for storm.Err() == nil {
			h.server.send(t, keepalive(0x900, true))
			time.Sleep(time.Millisecond)
		}
		if n := len(h.server.seen()); n < 50 || n > 110 {
			t.Fatalf("%d answers in 10 s", n)
		}
		h.leaves(t)
		close(h.out)
	})
}

func TestFlushFollowsWhatIsConfirmedAndNeverWhatWasNotReceived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serve(t)
		h.confirmed.Store(0x800) // of an earlier connection
		h.server.send(t, keepalive(0x500, true))
		h.takes(1)
		time.Sleep(time.Second)
		h.server.send(t, keepalive(0x900, true))
		h.takes(1)
		time.Sleep(2 * time.Second)
		seen := h.server.seen()
		if seen[0].flush != 0 {
			t.Errorf("the first update confirms %v before the server has named it", seen[0].flush)
		}
		last := seen[len(seen)-1]
		if last.flush != 0x800 || last.write != 0x900 {
			t.Errorf("last update: write %v, flush %v", last.write, last.flush)
		}
		// With more received than confirmed, and nothing new to confirm, the flush is left out.
		time.Sleep(statusEvery + time.Second)
		seen = h.server.seen()
		if last := seen[len(seen)-1]; last.flush != 0 || last.write != 0x900 {
			t.Errorf("update without news: write %v, flush %v", last.write, last.flush)
		}
		// All confirmed: it is repeated, so that the server shows it.
		h.confirmed.Store(0x900)
		h.stream.wake()
		time.Sleep(2 * statusEvery)
		seen = h.server.seen()
		if last := seen[len(seen)-1]; last.flush != 0x900 {
			t.Errorf("update with everything confirmed: flush %v", last.flush)
		}
		h.leaves(t)
	})
}

func TestLeavingConfirmsThenEndsTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serve(t)
		h.server.busy = true
		h.server.send(t, keepalive(0x900, false), xlogData(0x900, []byte("row"))[:20]) // cut off in the middle
		h.takes(1)
		h.confirmed.Store(0x880)
		h.stop()
		synctest.Wait()
		h.server.send(t, xlogData(0x900, []byte("row"))[20:], goodbye)
		if err := <-h.ended; err != nil {
			t.Fatal(err)
		}
		seen := h.server.seen()
		if last := seen[len(seen)-1]; last.flush != 0x880 {
			t.Errorf("the last update confirms %v", last.flush)
		}
		if !h.server.left {
			t.Error("no CopyDone")
		}
		if len(h.free) != batches {
			t.Errorf("%d of %d batches came back", len(h.free), batches)
		}
	})
}

func TestFramesSurviveEveryCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serve(t)
		h.stream.pace = pace{}
		huge := bytes.Repeat([]byte("x"), 3*batchSize)
		var wire []byte
		want := [][]byte{[]byte("a"), {}, huge, []byte("b")}
		for _, p := range want {
			wire = append(wire, xlogData(0x100, p)...)
		}
		go func() { // ends with the last byte
			for step := 1; len(wire) > 0; step = step*3%4093 + 1 {
				n := min(step, len(wire))
				if _, err := h.server.conn.Write(wire[:n]); err != nil {
					return
				}
				wire = wire[n:]
			}
		}()
		for i, got := range h.takes(len(want)) {
			if !bytes.Equal(got[25:], want[i]) {
				t.Errorf("frame %d: %d bytes, want %d", i, len(got)-25, len(want[i]))
			}
		}
		h.leaves(t)
	})
}

func TestWhatNobodyHadRoomForIsHandedOverWhenThereIsSome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serve(t)
		const frames = batches + 3 // the last of a burst; the server then says nothing more
		for range frames {
			h.server.send(t, xlogData(0x500, nil))
			synctest.Wait()
		}
		began := time.Now()
		h.takes(frames)
		if took := time.Since(began); took > 10*time.Millisecond {
			t.Errorf("the end of the burst came after %s", took)
		}
		h.leaves(t)
	})
}

func TestFault15_TheNoticeOfAMissingPublicationEndsTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serve(t)
		notice := &pgproto3.NoticeResponse{
			Severity: "WARNING", Code: "55000", Message: `skipped loading publication "walferry_shop"`,
			Detail: "The publication does not exist at this point in the WAL.", Routine: "LoadPublications",
		}
		raw, err := notice.Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		h.server.send(t, raw)
		if err := <-h.ended; !fault.Is(err, fault.PublicationMissing) {
			t.Fatalf("ended with %v", err)
		}
	})
}

func TestFault36_AnAnnouncedLengthIsNotAllocated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serve(t)
		h.server.send(t, []byte{'d', 0x7f, 0xff, 0xff, 0xff})
		if err := <-h.ended; !fault.Is(err, fault.StreamInvalid) {
			t.Fatalf("ended with %v", err)
		}
	})
}

func TestAServerThatShutsDownIsLetGoDuringBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serve(t)
		go func() { // ends when the stream closes the connection
			row := xlogData(0x500, make([]byte, 64<<10))
			for {
				if _, err := h.server.conn.Write(row); err != nil {
					return
				}
			}
		}()
		time.Sleep(5 * time.Second)
		close(h.gone)
		if err := <-h.ended; !fault.Is(err, fault.PostgresUnavailable) || !errors.Is(err, errShutdown) {
			t.Fatalf("ended with %v", err)
		}
	})
}

func TestASilentServerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serve(t)
		began := time.Now()
		if err := <-h.ended; !fault.Is(err, fault.PostgresUnavailable) {
			t.Fatalf("ended with %v", err)
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("after %s", took)
		}
		asked := slices.ContainsFunc(h.server.seen(), func(s statusSeen) bool { return s.askBack })
		if !asked {
			t.Error("no status update asked for an answer")
		}
	})
}
