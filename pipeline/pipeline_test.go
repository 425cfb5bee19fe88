package pipeline

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walferry/walferry/checkpoint"
	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

func TestPublishesInOrderAndConfirmsWhatIsSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := (&rig{}).start(t, tx{0x100, 0x120, 2}, tx{0x200, 0x220, 1})
		time.Sleep(time.Second)
		if got, want := r.sink.positions(), []event.Position{pos(0x100, 1), pos(0x100, 2), pos(0x200, 1)}; !slices.Equal(got, want) {
			t.Fatalf("written %v, want %v", got, want)
		}
		if got := r.store.stored(); got.End != 0x220 || got.Intent || got.Origin != origin || got.Partitions["shop.public.orders"] != 6 {
			t.Fatalf("stored %+v", got)
		}
		if got := r.source.lastConfirmed(); got != 0x220 {
			t.Fatalf("confirmed %v", got)
		}
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAnUnacknowledgedRecordHoldsEverythingBehindIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{sink: newFakeSink()}
		r.sink.hold = func(p event.Position) bool { return p == pos(0x200, 1) }
		r.start(t, tx{0x100, 0x120, 1}, tx{0x200, 0x220, 2}, tx{0x300, 0x320, 1})
		time.Sleep(time.Second)
		if got := r.store.stored().End; got != 0x120 {
			t.Fatalf("stored %v with a record of the second transaction outstanding", got)
		}
		if got := r.source.lastConfirmed(); got != 0x120 {
			t.Fatalf("confirmed %v", got)
		}
		r.sink.release(pos(0x200, 1))
		time.Sleep(time.Second)
		if got := r.source.lastConfirmed(); got != 0x320 {
			t.Fatalf("confirmed %v after the last acknowledgement", got)
		}
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestEveryConfirmedPositionWasSavedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var script []tx
		for i := range 50 {
			script = append(script, tx{event.LSN(0x100 * (i + 1)), event.LSN(0x100*(i+1) + 0x20), 1})
		}
		r := (&rig{}).start(t, script...)
		time.Sleep(time.Second)
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
		var saved []event.LSN
		for _, s := range r.store.saves {
			saved = append(saved, s.End)
		}
		for _, c := range r.source.confirmed {
			if !slices.Contains(saved, c) {
				t.Errorf("%v was confirmed and never saved", c)
			}
		}
		if !slices.IsSorted(r.source.confirmed) {
			t.Errorf("confirmed positions went back: %v", r.source.confirmed)
		}
	})
}

func TestACutOffTransactionGoesOnWithoutARepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{source: newFakeSource(tx{0x100, 0x120, 2}, tx{0x200, 0x220, 5}, tx{0x300, 0x320, 1})}
		r.source.cutAfter = 4
		r.store = &fakeStore{record: &checkpoint.Record{Version: 1, Origin: origin, Timeline: 1, Fingerprint: "f1"}}
		r.start(t)
		time.Sleep(5 * time.Second)
		want := []event.Position{
			pos(0x100, 1), pos(0x100, 2), pos(0x200, 1), pos(0x200, 2), pos(0x200, 3), pos(0x200, 4), pos(0x200, 5), pos(0x300, 1),
		}
		if got := r.sink.positions(); !slices.Equal(got, want) {
			t.Fatalf("written %v, want %v", got, want)
		}
		if got := r.source.lastConfirmed(); got != 0x320 {
			t.Fatalf("confirmed %v", got)
		}
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAStopInMidTransactionIsResumedThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := &rig{source: newFakeSource(tx{0x100, 0x120, 1}, tx{0x200, 0x220, 3})}
		first.source.cutAfter = 3 // the rest of the second transaction never comes
		first.store = &fakeStore{record: &checkpoint.Record{Version: 1, Origin: origin, Timeline: 1, Fingerprint: "f1"}}
		first.source.script[1].rows = 2
		first.start(t)
		time.Sleep(100 * time.Millisecond)
		if err := first.finish(); err != nil {
			t.Fatal(err)
		}
		if got := first.store.stored(); got.End != 0x120 || got.Partial != pos(0x200, 2) {
			t.Fatalf("stored %+v", got)
		}
		second := &rig{source: newFakeSource(tx{0x100, 0x120, 1}, tx{0x200, 0x220, 3}), store: first.store}
		second.start(t)
		time.Sleep(time.Second)
		if got, want := second.sink.positions(), []event.Position{pos(0x200, 3)}; !slices.Equal(got, want) {
			t.Fatalf("written after the restart %v, want %v", got, want)
		}
		if err := second.finish(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAnIdlePositionKeepsThePartOfATransaction: nothing new comes for long in the middle of a transaction of which a
// part was published by the process before. A kill then must not repeat that part, nor a stop.
func TestAnIdlePositionKeepsThePartOfATransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		partial := pos(0x200, 2)
		r := &rig{source: newFakeSource(tx{0x200, 0x220, 3})}
		r.source.stallAfter = 2 // the rest never comes
		r.store = &fakeStore{record: &checkpoint.Record{
			Version: 1, Origin: origin, Timeline: 1, End: 0x120, Partial: partial, Split: 4, Fingerprint: "f1", Instance: "before",
		}}
		r.start(t)
		time.Sleep(30 * time.Second)
		if got := r.store.stored(); got.End != 0x120 || got.Partial != partial || got.Split != 4 {
			t.Errorf("while it waited it stored %+v", got)
		}
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
		if got := r.store.stored(); got.End != 0x120 || got.Partial != partial || got.Split != 4 {
			t.Errorf("at the stop it stored %+v", got)
		}
		if got := r.sink.positions(); len(got) > 0 {
			t.Errorf("written again: %v", got)
		}
	})
}

// TestAnIntentIsReplacedBeforeAnythingIsStreamed: once it streams, a slot that is gone must not be made again.
func TestAnIntentIsReplacedBeforeAnythingIsStreamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{source: newFakeSource()}
		r.source.slot.Confirmed = 0x100
		r.store = &fakeStore{record: &checkpoint.Record{Version: 1, Intent: true, Origin: origin, Timeline: 1, Fingerprint: "f1"}}
		r.start(t)
		time.Sleep(100 * time.Millisecond)
		if got, confirmed := r.store.stored(), r.source.slot.Confirmed; got.Intent || got.End != confirmed {
			t.Errorf("stored %+v, the slot is at %v", got, confirmed)
		}
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestATransactionThatCommitsAtTheCheckpointIsPublished(t *testing.T) {
	// A keepalive was confirmed while a transaction was open that then committed exactly there.
	synctest.Test(t, func(t *testing.T) {
		r := &rig{source: newFakeSource(tx{0xF0, 0x100, 1}, tx{0x100, 0x120, 1})}
		r.store = &fakeStore{record: &checkpoint.Record{Version: 1, Origin: origin, Timeline: 1, End: 0x100, Fingerprint: "f1"}}
		r.start(t)
		time.Sleep(time.Second)
		if got, want := r.sink.positions(), []event.Position{pos(0x100, 1)}; !slices.Equal(got, want) {
			t.Fatalf("written %v, want %v", got, want)
		}
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestIdleProgressIsSavedEveryTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{source: newFakeSource()}
		r.source.progress = 0x5000
		r.store = &fakeStore{record: &checkpoint.Record{Version: 1, Origin: origin, Timeline: 1, End: 0x100, Fingerprint: "f1"}}
		r.start(t)
		time.Sleep(9 * time.Second)
		if got := r.source.lastConfirmed(); got != 0x100 { // what the checkpoint says
			t.Fatalf("confirmed %v before ten seconds of silence", got)
		}
		time.Sleep(2 * time.Second)
		if stored, confirmed := r.store.stored().End, r.source.lastConfirmed(); stored != 0x5000 || confirmed != 0x5000 {
			t.Fatalf("stored %v, confirmed %v", stored, confirmed)
		}
		if n := len(r.store.saves); n != 1 {
			t.Fatalf("%d saves", n)
		}
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAnUncertainSaveIsClaimedAgain(t *testing.T) {
	for name, written := range map[string]bool{"written": true, "not written": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &rig{store: &fakeStore{record: &checkpoint.Record{Version: 1, Origin: origin, Timeline: 1, Fingerprint: "f1"}}}
				r.source = newFakeSource(tx{0x100, 0x120, 1})
				r.store.failNext, r.store.written = fault.New(fault.KafkaUnavailable, "save", errors.New("timed out"), ""), written
				r.start(t)
				time.Sleep(15 * time.Second)
				if got := r.source.lastConfirmed(); got != 0x120 {
					t.Fatalf("confirmed %v", got)
				}
				if r.store.acquired < 2 || r.source.conns != 1 {
					t.Fatalf("%d acquires over %d connections, want at least 2 over 1", r.store.acquired, r.source.conns)
				}
				if err := r.finish(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// TestAFencedInstanceWaitsForTheSlot: who has shut it out is not known. It was the brokers, and the slot is
// held by its own connection of before, or a successor that has not written yet: then it writes nothing.
func TestAFencedInstanceWaitsForTheSlot(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, r *rig){
		"its own connection is given up": func(t *testing.T, r *rig) {
			r.source.hold(false)
			time.Sleep(time.Second)
			if got := r.source.lastConfirmed(); got != 0x120 || r.source.conns != 2 {
				t.Errorf("confirmed %v over %d connections, want 0/120 over 2", got, r.source.conns)
			}
			if err := r.finish(); err != nil {
				t.Error(err)
			}
			if got, want := r.sink.positions(), []event.Position{pos(0x100, 1)}; !slices.Equal(got, want) {
				t.Errorf("written %v, want %v", got, want)
			}
		},
		"its successor writes": func(t *testing.T, r *rig) {
			r.store.mu.Lock()
			r.store.record.Instance = "another"
			r.store.mu.Unlock()
			if err := <-r.ended; !fault.Is(err, fault.Fenced) || fault.ExitCode(err) != 5 {
				t.Errorf("ended with %v", err)
			}
			if n := len(r.store.saves); n != 0 || r.store.acquired != 1 {
				t.Errorf("%d saves and %d claims by an instance that was replaced", n, r.store.acquired)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &rig{source: newFakeSource(tx{0x100, 0x120, 1})}
				r.store = &fakeStore{record: &checkpoint.Record{Version: 1, Origin: origin, Timeline: 1, Fingerprint: "f1"}}
				r.sink = newFakeSink()
				r.sink.hold = func(event.Position) bool { return true }
				r.start(t)
				time.Sleep(time.Second)
				r.source.hold(true)
				r.store.mu.Lock()
				r.store.failNext = fault.New(fault.Fenced, "save", nil, "")
				r.store.mu.Unlock()
				r.sink.release(pos(0x100, 1))
				time.Sleep(75 * time.Second) // longer than the server's own patience
				select {
				case err := <-r.ended:
					t.Fatalf("ended with %v, though nobody else has written", err)
				default:
				}
				if n := len(r.store.saves); n != 0 || r.store.acquired != 1 || r.p.Status().State != Standby {
					t.Fatalf("%d saves and %d claims without the slot, in state %s", n, r.store.acquired, r.p.Status().State)
				}
				end(t, r)
			})
		})
	}
}

func TestAFencedInstanceWithoutASuccessorGoesOn(t *testing.T) {
	// The brokers end the transaction of a process that was paused in the middle of a save, and shut it
	// out as they would for a successor.
	synctest.Test(t, func(t *testing.T) {
		r := &rig{source: newFakeSource(tx{0x100, 0x120, 1})}
		r.store = &fakeStore{record: &checkpoint.Record{Version: 1, Origin: origin, Timeline: 1, Fingerprint: "f1"}}
		r.store.failNext = fault.New(fault.Fenced, "save", nil, "")
		r.start(t)
		time.Sleep(15 * time.Second)
		if got := r.source.lastConfirmed(); got != 0x120 || r.source.conns != 2 {
			t.Errorf("confirmed %v over %d connections, want 0/120 over 2", got, r.source.conns)
		}
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
		if got, want := r.sink.positions(), []event.Position{pos(0x100, 1)}; !slices.Equal(got, want) {
			t.Errorf("written %v, want %v", got, want)
		}
	})
}

func TestAnInstanceThatWasReplacedMeanwhileStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{source: newFakeSource(tx{0x100, 0x120, 1})}
		r.store = &fakeStore{record: &checkpoint.Record{Version: 1, Origin: origin, Timeline: 1, Fingerprint: "f1"}}
		r.start(t)
		time.Sleep(time.Second)
		r.store.mu.Lock()
		r.store.record.Instance, r.store.record.End = "another", 0x900
		r.store.mu.Unlock()
		r.source.breakRun <- fault.New(fault.PostgresUnavailable, "stream", errors.New("EOF"), "")
		if err := <-r.ended; !fault.Is(err, fault.Fenced) {
			t.Fatalf("ended with %v", err)
		}
		if got := r.store.stored(); got.End != 0x900 {
			t.Fatalf("the successor's checkpoint was overwritten: %+v", got)
		}
	})
}

// An instance that had nothing to save is not told by the brokers that it was replaced.
func TestAnIdleInstanceThatWasReplacedStopsWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{source: newFakeSource(tx{0x100, 0x120, 1})}
		r.store = &fakeStore{record: &checkpoint.Record{Version: 1, Origin: origin, Timeline: 1, Fingerprint: "f1"}}
		r.start(t)
		time.Sleep(time.Second)
		r.source.hold(true)
		r.source.breakRun <- fault.New(fault.PostgresUnavailable, "stream", errors.New("EOF"), "")
		time.Sleep(time.Minute)
		select {
		case err := <-r.ended:
			t.Fatalf("ended with %v, though nobody has written", err)
		default:
		}
		if state := r.p.Status().State; state != Standby {
			t.Errorf("the state is %s", state)
		}
		acquired := r.store.acquired
		r.store.mu.Lock()
		r.store.record.Instance, r.store.record.End = "another", 0x900
		r.store.mu.Unlock()
		if err := <-r.ended; fault.ExitCode(err) != 5 {
			t.Fatalf("ended with %v", err)
		}
		if r.store.acquired != acquired {
			t.Error("it shut its successor out")
		}
	})
}

func TestAStopWithoutAcknowledgementsSaysWhatComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{sink: newFakeSink()}
		r.sink.hold = func(p event.Position) bool { return p.Commit >= 0x200 }
		r.start(t, tx{0x100, 0x120, 1}, tx{0x200, 0x220, 3})
		time.Sleep(time.Second)
		asked := time.Now()
		err := r.finish()
		if !fault.Is(err, fault.Undelivered) || fault.ExitCode(err) != 4 {
			t.Fatalf("ended with %v", err)
		}
		if want := "3 changes will be sent again"; !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
		if took := time.Since(asked); took > 10*time.Second {
			t.Errorf("the stop took %s", took)
		}
		if got := r.store.stored().End; got != 0x120 {
			t.Errorf("stored %v", got)
		}
	})
}

func TestAFailedRecordEndsThePipelineAndKeepsWhatWasBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{sink: newFakeSink()}
		r.sink.hold = func(p event.Position) bool { return p.Commit >= 0x200 }
		r.start(t, tx{0x100, 0x120, 1}, tx{0x200, 0x220, 1}, tx{0x300, 0x320, 1})
		time.Sleep(50 * time.Millisecond)
		r.sink.fail(fault.New(fault.RecordTooLarge, "publish", nil, ""))
		if err := <-r.ended; !fault.Is(err, fault.RecordTooLarge) {
			t.Fatalf("ended with %v", err)
		}
		if got := r.source.lastConfirmed(); got != 0x120 {
			t.Fatalf("confirmed %v", got)
		}
	})
}

func TestAServerThatLeavesATransactionOutIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{source: newFakeSource(tx{0x100, 0x120, 1}, tx{0x200, 0x220, 3}, tx{0x300, 0x320, 1})}
		r.source.cutAfter = 2
		r.store = &fakeStore{record: &checkpoint.Record{Version: 1, Origin: origin, Timeline: 1, Fingerprint: "f1"}}
		r.start(t)
		synctest.Wait()
		r.source.mu.Lock()
		r.source.script = slices.Delete(r.source.script, 1, 2)
		r.source.mu.Unlock()
		if err := <-r.ended; !fault.Is(err, fault.StreamDiverged) {
			t.Fatalf("ended with %v", err)
		}
	})
}

func TestATransactionThatCommitsWhereALogicalMessageEndsIsPublished(t *testing.T) {
	// INSERT, pg_logical_emit_message(false, …), COMMIT: the LSN of the message is where its record
	// ends, and that is where the record of the commit begins.
	sink := newFakeSink()
	p := New(Config{Name: "shop", Run: "r1"}, newFakeSource(), sink, &fakeStore{}, slog.New(slog.DiscardHandler), nil)
	head := &event.Tx{Commit: 0x100}
	message := &event.Message{Pos: pos(0x100, 0)}
	events := []event.Event{
		message, &event.Begin{Tx: head}, &event.Change{Tx: head, Pos: pos(0x100, 1)}, &event.Commit{Tx: head, End: 0x120},
	}
	give := func(events ...event.Event) {
		t.Helper()
		for _, ev := range events {
			if err := p.handOver(t.Context(), ev); err != nil {
				t.Fatal(err)
			}
		}
	}
	give(events[0])
	if got := p.delivery.durable(); got != 0x100 {
		t.Errorf("behind the message %v may be confirmed", got)
	}
	give(message) // it comes again after a lost connection
	give(events[1:]...)
	give(events...)
	if got, want := sink.positions(), []event.Position{pos(0x100, 0), pos(0x100, 1)}; !slices.Equal(got, want) {
		t.Errorf("written %v, want %v", got, want)
	}
	if got := p.delivery.durable(); got != 0x120 {
		t.Errorf("behind the transaction %v may be confirmed", got)
	}
}

func TestACutOffRepeatDoesNotHideTheNextTransaction(t *testing.T) {
	sink := newFakeSink()
	p := New(Config{Name: "shop", Run: "r1"}, newFakeSource(), sink, &fakeStore{}, slog.New(slog.DiscardHandler), nil)
	p.resume(checkpoint.Decision{End: 0x180}, 0)
	done, next := &event.Tx{Commit: 0x100}, &event.Tx{Commit: 0x200}
	for _, ev := range []event.Event{
		&event.Begin{Tx: done}, // and the connection is lost
		&event.Begin{Tx: next}, &event.Change{Tx: next, Pos: pos(0x200, 1)}, &event.Commit{Tx: next, End: 0x220},
	} {
		if err := p.handOver(t.Context(), ev); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := sink.positions(), []event.Position{pos(0x200, 1)}; !slices.Equal(got, want) {
		t.Errorf("written %v, want %v", got, want)
	}
}

func TestAStandbyBelievesACheckpointThatIsYoungerThanItsQuestion(t *testing.T) {
	// The instance that holds the slot saved after the standby had asked the server where its WAL ends.
	synctest.Test(t, func(t *testing.T) {
		r := &rig{source: newFakeSource()}
		r.source.busy, r.source.slot.Active = true, true
		end := r.source.server().End
		r.store = &fakeStore{record: &checkpoint.Record{Version: 1, Origin: origin, Timeline: 1, End: end + 1, Instance: "another", Fingerprint: "f1"}}
		r.start(t)
		time.Sleep(time.Second)
		select {
		case err := <-r.ended:
			t.Fatalf("ended with %v while another instance is well", err)
		default:
		}
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestACheckpointThatWasSavedWhileThisInstanceWasFrozen: between its look at the server and its claim another
// instance had the slot. The next connection sees a server that holds all of it.
func TestACheckpointThatWasSavedWhileThisInstanceWasFrozen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{source: newFakeSource()}
		end := r.source.server().End
		r.source.grown = end + 2
		r.store = &fakeStore{record: &checkpoint.Record{Version: 1, Origin: origin, Timeline: 1, End: end + 1, Instance: "another", Fingerprint: "f1"}}
		r.start(t)
		time.Sleep(time.Minute)
		if err := r.finish(); err != nil || r.source.conns != 2 {
			t.Fatalf("ended with %v after %d connections", err, r.source.conns)
		}
	})
}

func TestAnEventThatCannotBeWrittenIsNotLeftOut(t *testing.T) {
	// An error that is worth another attempt costs the connection: the next one brings the event again.
	synctest.Test(t, func(t *testing.T) {
		r := &rig{sink: newFakeSink()}
		r.sink.refuse = map[event.Position]error{pos(0x100, 2): fault.New(fault.KafkaUnavailable, "write", nil, "")}
		r.start(t, tx{0x100, 0x120, 3})
		time.Sleep(time.Minute) // connection after connection
		if err := r.finish(); err != nil && !fault.Is(err, fault.Undelivered) {
			t.Errorf("ended with %v", err)
		}
		if got := r.source.lastConfirmed(); got >= 0x120 {
			t.Errorf("confirmed %v with a change left out", got)
		}
	})
}

func TestAMessageThatWasNotAskedForBeforeIsLeftOut(t *testing.T) {
	// A run was stopped in mid-transaction; the next one has another prefix configured, and the server
	// sends from the checkpoint on, which is before messages of that prefix.
	sink := newFakeSink()
	p := New(Config{Name: "shop", Run: "r1"}, newFakeSource(), sink, &fakeStore{}, slog.New(slog.DiscardHandler), nil)
	p.resume(checkpoint.Decision{End: 0x180, Partial: pos(0x200, 1)}, 0)
	head := &event.Tx{Commit: 0x200}
	for _, ev := range []event.Event{
		&event.Message{Pos: pos(0x190, 0)}, &event.Message{Pos: pos(0x200, 0)},
		&event.Begin{Tx: head}, &event.Change{Tx: head, Pos: pos(0x200, 1)}, &event.Change{Tx: head, Pos: pos(0x200, 2)}, &event.Commit{Tx: head, End: 0x220},
		&event.Message{Pos: pos(0x230, 0)},
	} {
		if err := p.handOver(t.Context(), ev); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := sink.positions(), []event.Position{pos(0x200, 2), pos(0x230, 0)}; !slices.Equal(got, want) {
		t.Errorf("written %v, want %v", got, want)
	}
}
