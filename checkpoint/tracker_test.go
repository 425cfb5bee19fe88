package checkpoint

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/walferry/walferry/event"
)

// model is the tracker said plainly: a list of everything that happened in stream order.
type model struct {
	items []modelItem
	low   event.LSN
}

type modelItem struct {
	lsn     event.LSN
	open    bool
	pending int
}

func (m *model) durable() event.LSN {
	for len(m.items) > 0 && !m.items[0].open && m.items[0].pending == 0 {
		m.low = max(m.low, m.items[0].lsn)
		m.items = m.items[1:]
	}
	return m.low
}

func (m *model) pending() (n int64) {
	for i := range m.items {
		n += int64(m.items[i].pending)
	}
	return n
}

// TestTrackerAgainstModel takes random walks through open, expect, acknowledge, close and idle
// marks, and compares the low-water mark and the count after every step.
func TestTrackerAgainstModel(t *testing.T) {
	for seed := range uint64(40) {
		walk(t, rand.New(rand.NewPCG(seed, 3)), 3_000)
	}
}

// walker drives a tracker and a model alike. The model's items are never removed from all, so that
// an outstanding record is named by a unit and the index of its item.
type walker struct {
	tracker *Tracker
	all     []modelItem
	popped  int
	low     event.LSN
	unit    *Unit // open, nil if none
	unacked []outstanding
	lsn     event.LSN
}

type outstanding struct {
	unit *Unit
	item int
}

func walk(t *testing.T, rnd *rand.Rand, steps int) {
	t.Helper()
	w := &walker{tracker: NewTracker()}
	// A high share of acknowledgements keeps the queue short, a low one lets it span chunks.
	acks := 10 + rnd.IntN(60)
	for step := range steps {
		if rnd.IntN(100) < acks {
			w.ack(rnd)
		} else {
			w.publish(rnd)
		}
		m := model{items: w.all[w.popped:], low: w.low}
		wantPending := m.pending()
		want := m.durable()
		if rnd.IntN(3) == 0 { // Durable is not asked after every step, so that several units pop at once.
			continue
		}
		w.popped, w.low = len(w.all)-len(m.items), want
		if got := w.tracker.Durable(); got != want {
			t.Fatalf("step %d: durable %v, want %v", step, got, want)
		}
		if got := w.tracker.Pending(); got != wantPending {
			t.Fatalf("step %d: pending %d, want %d", step, got, wantPending)
		}
	}
}

func (w *walker) ack(rnd *rand.Rand) {
	if len(w.unacked) == 0 {
		return
	}
	i := rnd.IntN(len(w.unacked))
	o := w.unacked[i]
	w.unacked[i] = w.unacked[len(w.unacked)-1]
	w.unacked = w.unacked[:len(w.unacked)-1]
	w.all[o.item].pending--
	o.unit.Acked(1)
}

func (w *walker) publish(rnd *rand.Rand) {
	w.lsn += event.LSN(rnd.IntN(3)) // equal LSNs happen: an idle mark at a commit's end
	switch {
	case w.unit == nil && rnd.IntN(3) == 0:
		w.tracker.Progress(w.lsn)
		w.all = append(w.all, modelItem{lsn: w.lsn})
	case w.unit == nil:
		w.unit = w.tracker.Open()
		w.all = append(w.all, modelItem{open: true})
	case rnd.IntN(3) == 0:
		w.unit.Close(w.lsn)
		w.unit = nil
		w.all[len(w.all)-1].open, w.all[len(w.all)-1].lsn = false, w.lsn
	default:
		n := rnd.IntN(4)
		w.unit.Expect(n)
		w.all[len(w.all)-1].pending += n
		for range n {
			w.unacked = append(w.unacked, outstanding{w.unit, len(w.all) - 1})
		}
	}
}

func TestTrackerHoldsBackBehindTheOldest(t *testing.T) {
	tr := NewTracker()
	first := tr.Open()
	first.Expect(2)
	first.Close(100)
	second := tr.Open()
	second.Expect(1)
	second.Close(200)
	tr.Progress(250)

	second.Acked(1)
	wantDurable(t, tr, 0)
	first.Acked(1)
	wantDurable(t, tr, 0)
	if got := tr.Pending(); got != 1 {
		t.Errorf("pending %d, want 1", got)
	}
	first.Acked(1)
	wantDurable(t, tr, 250)
}

func TestTrackerMarkBetweenUnits(t *testing.T) {
	tr := NewTracker()
	first := tr.Open()
	first.Expect(1)
	first.Close(100)
	tr.Progress(150)
	second := tr.Open()
	second.Expect(1)
	second.Close(200)

	first.Acked(1)
	wantDurable(t, tr, 150)
	second.Acked(1)
	wantDurable(t, tr, 200)
}

func TestTrackerOpenUnitIsNotDurable(t *testing.T) {
	tr := NewTracker()
	tr.Progress(50)
	u := tr.Open()
	u.Expect(1)
	u.Acked(1)
	wantDurable(t, tr, 50)
	u.Close(100)
	wantDurable(t, tr, 100)
}

func TestTrackerNeverFalls(t *testing.T) {
	tr := NewTracker()
	tr.Progress(100)
	tr.Progress(90)
	wantDurable(t, tr, 100)
	u := tr.Open()
	u.Close(80)
	wantDurable(t, tr, 100)
}

func TestTrackerWake(t *testing.T) {
	woken := func(tr *Tracker) bool {
		select {
		case <-tr.Wake():
			return true
		default:
			return false
		}
	}
	tr := NewTracker()
	tr.Progress(10)
	tr.Open().Close(20)
	if woken(tr) {
		t.Error("an idle mark or a unit without records woke the saver")
	}
	u := tr.Open()
	u.Expect(2)
	u.Acked(1)
	if woken(tr) {
		t.Error("an open unit woke the saver")
	}
	u.Close(30)
	if woken(tr) {
		t.Error("a unit with a record outstanding woke the saver")
	}
	u.Acked(1)
	if !woken(tr) {
		t.Error("the last record of a closed unit did not wake the saver")
	}
	u = tr.Open()
	u.Expect(1)
	u.Acked(1)
	u.Close(40)
	if !woken(tr) {
		t.Error("closing a unit whose records are all acknowledged did not wake the saver")
	}
	wantDurable(t, tr, 40)
}

// TestTrackerConcurrent has several goroutines acknowledge in their own order while the publisher
// goes on and a saver asks. The mark must never pass a unit with a record outstanding, which is
// counted here a second time.
func TestTrackerConcurrent(t *testing.T) {
	const units, ackers = 20_000, 4
	tr := NewTracker()
	var outstanding [units]atomic.Int32 // falls just before Acked, so it is never behind the tracker
	work := make(chan func(), 1024)
	var group sync.WaitGroup
	for range ackers {
		group.Go(func() {
			for ack := range work {
				ack()
			}
		})
	}
	saved := make(chan struct{})
	go func() {
		defer close(saved)
		for low, last := event.LSN(0), 0; low < units; {
			if low = tr.Durable(); int(low) < last {
				t.Errorf("the mark fell from %d to %d", last, low)
			}
			for ; last < int(low); last++ {
				if n := outstanding[last].Load(); n != 0 {
					t.Errorf("the mark is at %d, but unit %d has %d records outstanding", low, last+1, n)
				}
			}
		}
	}()
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range units {
		u := tr.Open()
		for range rnd.IntN(4) {
			n := 1 + rnd.IntN(3)
			u.Expect(n)
			outstanding[i].Add(1)
			work <- func() {
				outstanding[i].Add(-1)
				u.Acked(n)
			}
		}
		u.Close(event.LSN(i + 1))
	}
	close(work)
	group.Wait()
	<-saved
	if got := tr.Pending(); got != 0 {
		t.Errorf("pending %d after everything was acknowledged", got)
	}
}

func TestTrackerDoesNotAllocate(t *testing.T) {
	tr := NewTracker()
	cycle := func() {
		var units [3 * chunkUnits]*Unit
		for i := range units {
			units[i] = tr.Open()
			units[i].Expect(1)
			units[i].Close(event.LSN(i))
		}
		for i := len(units) - 1; i >= 0; i-- {
			units[i].Acked(1)
		}
		tr.Durable()
	}
	cycle()
	if n := testing.AllocsPerRun(20, cycle); n != 0 {
		t.Errorf("%v allocations for %d units, want none", n, 3*chunkUnits)
	}
}

func TestTrackerMarksTakeNoMemory(t *testing.T) {
	tr := NewTracker()
	blocked := tr.Open()
	blocked.Expect(1)
	blocked.Close(1)
	for i := range event.LSN(100_000) {
		tr.Progress(2 + i)
		tr.Open().Close(2 + i)
	}
	if tr.head != tr.tail {
		t.Error("idle marks and empty units grew the queue")
	}
	blocked.Acked(1)
	wantDurable(t, tr, 100_001)
}

func wantDurable(t *testing.T, tr *Tracker, want event.LSN) {
	t.Helper()
	if got := tr.Durable(); got != want {
		t.Errorf("durable %v, want %v", got, want)
	}
}

// BenchmarkTrackerUnit is one transaction of one record: open, expect, close, acknowledge, and a
// look at the mark every 1000 units.
func BenchmarkTrackerUnit(b *testing.B) {
	tr := NewTracker()
	var flight [512]*Unit
	b.ReportAllocs()
	for i := range b.N {
		at := i % len(flight)
		if flight[at] != nil {
			flight[at].Acked(1)
		}
		u := tr.Open()
		u.Expect(1)
		u.Close(event.LSN(i))
		flight[at] = u
		if i%1000 == 0 {
			tr.Durable()
		}
	}
}

// BenchmarkTrackerTwoGoroutines has the acknowledgements come from another goroutine, as they do.
func BenchmarkTrackerTwoGoroutines(b *testing.B) {
	tr := NewTracker()
	batches := make(chan []*Unit, 16)
	spare := make(chan []*Unit, 18)
	for range cap(spare) {
		spare <- make([]*Unit, 0, 128)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for batch := range batches {
			for _, u := range batch {
				u.Acked(1)
			}
			tr.Durable()
			spare <- batch[:0]
		}
	}()
	b.ReportAllocs()
	batch := <-spare
	for i := range b.N {
		u := tr.Open()
		u.Expect(1)
		u.Close(event.LSN(i))
		if batch = append(batch, u); len(batch) == cap(batch) {
			batches <- batch
			batch = <-spare
		}
	}
	batches <- batch
	close(batches)
	<-done
}
