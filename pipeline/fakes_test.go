package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/walferry/walferry/checkpoint"
	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// The fakes stand for the rooms around the pipeline, in one process and on the clock of synctest:
// a server that sends what a script says and again whatever was not confirmed, a sink whose
// acknowledgements the test gives, and a store that can be away and shut writers out.

var origin = event.Origin{SystemID: "7", Database: "shop", Slot: "walferry_shop"}

// tx is one transaction of the script: the changes 1..rows, commit LSN and end.
type tx struct {
	commit, end event.LSN
	rows        int
}

// fakeSource sends the script from the slot's confirmed position on, on each connection.
type fakeSource struct {
	mu         sync.Mutex
	script     []tx
	slot       *event.Slot
	confirmed  []event.LSN   // each call of Confirm
	progress   event.LSN     // a keepalive behind the script, zero for none
	cutAfter   int           // rows after which the first connection breaks; 0 means never
	stallAfter int           // rows after which nothing more comes; 0 means never
	stallIn    event.LSN     // the commit of a transaction of which nothing comes but its begin
	pace       time.Duration // between two transactions
	busy       bool          // somebody else holds the slot
	breakRun   chan error    // ends Run with this error
	conns      int
	grown      event.LSN // where the WAL ends for the second connection on
	events     chan event.Event
	taken      chan struct{}
}

func newFakeSource(script ...tx) *fakeSource {
	return &fakeSource{
		script: script, slot: &event.Slot{Plugin: "pgoutput", Database: "shop"},
		breakRun: make(chan error), events: make(chan event.Event), taken: make(chan struct{}),
	}
}

func (s *fakeSource) server() event.Server {
	srv := event.Server{Origin: origin, Version: 180004, Timeline: 1, End: 1 << 40}
	if s.conns > 0 && s.grown > 0 {
		srv.End = s.grown
	}
	if s.slot != nil {
		slot := *s.slot
		srv.Slot = &slot
	}
	return srv
}

type fakeSetup struct {
	s   *fakeSource
	srv event.Server
}

func (f *fakeSetup) Server() event.Server   { return f.srv }
func (f *fakeSetup) Tables() []*event.Table { return nil }
func (f *fakeSetup) Fingerprint() string    { return "f1" }
func (f *fakeSetup) Close() error           { return nil }
func (f *fakeSetup) Look(context.Context) error {
	f.srv = f.s.server()
	return nil
}
func (f *fakeSetup) CreateSlot(context.Context) error {
	f.s.slot = &event.Slot{Plugin: "pgoutput", Database: "shop", Confirmed: 0x10}
	return nil
}

func (s *fakeSource) Prepare(context.Context) (Setup, error) { return &fakeSetup{s, s.server()}, nil }

func (s *fakeSource) Start(ctx context.Context, busy func()) (event.Server, error) {
	for said := false; ; said = true {
		s.mu.Lock()
		held, srv := s.busy, s.server()
		s.mu.Unlock()
		if !held {
			return srv, nil
		}
		if !said {
			busy()
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return event.Server{}, fault.New(fault.SlotBusy, "start", nil, "")
		}
	}
}

// hold has somebody else take the slot, or give it back.
func (s *fakeSource) hold(held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = held
}

// Run sends the script to Next, then waits.
func (s *fakeSource) Run(ctx context.Context) error {
	s.mu.Lock()
	s.conns++
	cut, from := 0, s.slot.Confirmed
	if s.conns == 1 {
		cut = s.cutAfter
	}
	s.mu.Unlock()
	sent := 0
	for _, t := range s.script {
		if t.commit < from {
			continue
		}
		time.Sleep(s.pace)
		head := &event.Tx{Commit: t.commit, XID: uint32(t.commit)}
		events := []event.Event{&event.Begin{Tx: head}}
		for i := 1; i <= t.rows; i++ {
			events = append(events, &event.Change{Op: event.OpInsert, Tx: head, Pos: event.Position{Commit: t.commit, Seq: uint64(i)}})
		}
		for _, ev := range append(events, &event.Commit{Tx: head, End: t.end}) {
			if !s.send(ctx, ev) {
				return nil
			}
			if _, row := ev.(*event.Change); row {
				sent++
			}
			if s.stallAfter > 0 && sent == s.stallAfter || s.stallIn == t.commit {
				<-ctx.Done()
				return nil
			}
			if cut > 0 && sent == cut {
				return fault.New(fault.PostgresUnavailable, "stream", errors.New("cut"), "")
			}
		}
	}
	if s.progress > 0 && !s.send(ctx, &event.Progress{LSN: s.progress}) {
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.breakRun:
		return err
	}
}

func (s *fakeSource) send(ctx context.Context, ev event.Event) bool {
	select {
	case s.events <- ev:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *fakeSource) Next(ctx context.Context, dry func()) (event.Event, error) {
	select {
	case ev := <-s.events:
		return ev, nil
	default:
		dry()
	}
	select {
	case ev := <-s.events:
		return ev, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *fakeSource) Confirm(lsn event.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.confirmed = append(s.confirmed, lsn)
}

func (s *fakeSource) Close()                                        {}
func (s *fakeSource) Received() event.LSN                           { return 0 }
func (s *fakeSource) Unpublished(context.Context) ([]string, error) { return nil, nil }

func (s *fakeSource) lastConfirmed() event.LSN {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.confirmed) == 0 {
		return 0
	}
	return s.confirmed[len(s.confirmed)-1]
}

// fakeSink notes what it is given; records are acknowledged at once unless hold says otherwise.
type fakeSink struct {
	mu      sync.Mutex
	written []event.Position
	hold    func(event.Position) bool
	held    map[event.Position]event.Ack
	refuse  map[event.Position]error // what Write answers
	failed  chan struct{}
	err     error
}

func newFakeSink() *fakeSink {
	return &fakeSink{held: map[event.Position]event.Ack{}, failed: make(chan struct{})}
}

func (s *fakeSink) Open(context.Context, []*event.Table, map[string]int32) (map[string]int32, error) {
	return s.Partitions(), nil
}

func (s *fakeSink) Write(_ context.Context, ev event.Event, ack event.Ack) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var pos event.Position
	switch ev := ev.(type) {
	case *event.Change:
		pos = ev.Pos
	case *event.Message:
		pos = ev.Pos
	case *event.Truncate, *event.Begin, *event.Commit, *event.Progress:
		return errors.New("not in the script")
	}
	if err := s.refuse[pos]; err != nil {
		return err
	}
	s.written = append(s.written, pos)
	ack.Expect(1)
	if s.hold != nil && s.hold(pos) {
		s.held[pos] = ack
	} else {
		ack.Acked(1)
	}
	return nil
}

// release acknowledges a record that was held.
func (s *fakeSink) release(pos event.Position) {
	s.mu.Lock()
	ack := s.held[pos]
	delete(s.held, pos)
	s.mu.Unlock()
	ack.Acked(1)
}

func (s *fakeSink) Drain(ctx context.Context) error {
	s.mu.Lock()
	n := len(s.held)
	s.mu.Unlock()
	if n > 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (s *fakeSink) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	close(s.failed)
}

func (s *fakeSink) Failed() <-chan struct{} { return s.failed }
func (s *fakeSink) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
func (s *fakeSink) Partitions() map[string]int32 { return map[string]int32{"shop.public.orders": 6} }
func (s *fakeSink) Close()                       {}

func (s *fakeSink) positions() []event.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]event.Position(nil), s.written...)
}

// fakeStore is one record, whom it belongs to, and how its saves fail.
type fakeStore struct {
	mu       sync.Mutex
	record   *checkpoint.Record
	saves    []checkpoint.Record
	failNext error // the next save fails with this
	written  bool  // and was written all the same
	acquired int
	// meanwhile happens just before the first call of one of the two.
	meanwhile struct{ load, acquire func() }
}

func (s *fakeStore) Load(context.Context) (*checkpoint.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.once(&s.meanwhile.load)
	return s.copy(), nil
}

func (s *fakeStore) Acquire(ctx context.Context) (*checkpoint.Record, error) {
	s.mu.Lock()
	s.acquired++
	s.once(&s.meanwhile.acquire)
	s.mu.Unlock()
	return s.Load(ctx)
}

func (s *fakeStore) once(f *func()) {
	if do := *f; do != nil {
		*f = nil
		do()
	}
}

func (s *fakeStore) copy() *checkpoint.Record {
	if s.record == nil {
		return nil
	}
	r := *s.record
	r.Partitions = maps.Clone(r.Partitions)
	return &r
}

func (s *fakeStore) Save(_ context.Context, r checkpoint.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failNext; err != nil {
		s.failNext = nil
		if s.written {
			s.record = &r
		}
		return err
	}
	s.record = &r
	s.saves = append(s.saves, r)
	return nil
}

func (s *fakeStore) Close() error { return nil }

func (s *fakeStore) stored() checkpoint.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.record == nil {
		return checkpoint.Record{}
	}
	return *s.copy()
}

// rig is a pipeline between fakes, running.
type rig struct {
	source *fakeSource
	sink   *fakeSink
	store  *fakeStore
	p      *Pipeline
	stop   context.CancelFunc
	ended  chan error
}

// start runs a pipeline; what is nil in r is made.
func (r *rig) start(t *testing.T, script ...tx) *rig {
	t.Helper()
	if r.source == nil {
		r.source = newFakeSource(script...)
		r.source.slot = nil
	}
	if r.sink == nil {
		r.sink = newFakeSink()
	}
	if r.store == nil {
		r.store = &fakeStore{}
	}
	log := slog.New(slog.DiscardHandler)
	p := New(Config{Name: "shop", Run: "r1", CreateSlot: true, StartTimeout: time.Minute}, r.source, r.sink, r.store, log, nil)
	ctx, cancel := context.WithCancel(context.Background())
	r.p, r.stop, r.ended = p, cancel, make(chan error, 1)
	go func() { r.ended <- p.Run(ctx) }() // ends with stop or by an error
	t.Cleanup(cancel)
	return r
}

// finish stops the pipeline and returns how it ended.
func (r *rig) finish() error {
	r.stop()
	return <-r.ended
}

func pos(commit event.LSN, seq uint64) event.Position {
	return event.Position{Commit: commit, Seq: seq}
}
