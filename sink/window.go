package sink

import (
	"context"
	"sync"
	"time"
)

// window bounds the bytes that are on their way or staged. The client's own limits are out of use, because
// there the context that ends the wait would also be the record's.
type window struct {
	gauge  func(used int64)
	mu     sync.Mutex // guards the fields below
	limit  int64
	used   int64
	parked int64         // the part of used that waits for a repair, not for a broker
	wake   chan struct{} // closed when used falls to low, or to what is parked; nil while nobody waits
	low    int64
}

// take waits until n more bytes fit, or nothing else is on its way: an event larger than the whole
// window passes alone. It fails with the context's error, or errStopped once stop is closed.
func (w *window) take(ctx context.Context, stop <-chan struct{}, n int64) error {
	return w.wait(ctx, stop, 3, func() bool {
		if w.used > 0 && w.used+n > w.limit {
			return false
		}
		w.used += n
		w.gauge(w.used)
		return true
	})
}

// empty waits until nothing is on its way.
func (w *window) empty(ctx context.Context, stop <-chan struct{}) error {
	return w.wait(ctx, stop, 0, func() bool { return w.used == 0 })
}

// settled waits until only parked bytes are left.
func (w *window) settled(ctx context.Context, stop <-chan struct{}) error {
	return w.wait(ctx, stop, 0, func() bool { return w.used == w.parked })
}

// Slow brokers make the window smaller, so that what is in it can be flushed before the time for a
// commit is up; otherwise a link that is slow for good would see the same records again and again.
const (
	slowFlush   = 5 * time.Second
	fastFlush   = time.Second
	leastWindow = 256 << 10
)

// adapt changes the limit after a flush that took so long, or failed.
func (w *window) adapt(took time.Duration, failed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case failed, took > slowFlush:
		w.limit = max(w.limit/4, leastWindow)
	case took < fastFlush:
		w.limit = min(w.limit+w.limit/4, windowBytes)
	}
}

// wait blocks until ready, which is called with the lock held, says so. It asks again whenever used
// has fallen to some quarters of the limit: waking a writer for every released record would have it
// write tiny batches.
func (w *window) wait(ctx context.Context, stop <-chan struct{}, quarters int64, ready func() bool) error {
	for {
		w.mu.Lock()
		if ready() {
			w.mu.Unlock()
			return nil
		}
		low := w.limit * quarters / 4
		if w.wake == nil {
			w.wake, w.low = make(chan struct{}), low
		}
		w.low = max(w.low, low)
		wake := w.wake
		w.mu.Unlock()
		select {
		case <-wake:
		case <-stop:
			return errStopped
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// release gives n bytes back.
func (w *window) release(n int64) { w.change(-n, 0) }

// park says that n of the used bytes wait for a repair.
func (w *window) park(n int64) { w.change(0, n) }

// releaseParked gives n parked bytes back.
func (w *window) releaseParked(n int64) { w.change(-n, -n) }

func (w *window) change(used, parked int64) {
	w.mu.Lock()
	w.used += used
	w.parked += parked
	w.gauge(w.used)
	if w.wake != nil && (w.used <= w.low || w.used == w.parked) {
		close(w.wake)
		w.wake = nil
	}
	w.mu.Unlock()
}
