package sink

import (
	"context"
	"sync"
)

// window bounds the bytes that are on their way. The client's own limits are out of use, because
// there the context that ends the wait would also be the record's.
type window struct {
	limit  int64
	gauge  func(used int64)
	mu     sync.Mutex // guards the fields below
	used   int64
	parked int64         // the part of used that waits for a repair, not for a broker
	wake   chan struct{} // closed when used falls to low, or to what is parked; nil while nobody waits
	low    int64
}

// take waits until n more bytes fit, or nothing else is on its way: an event larger than the whole
// window passes alone. It fails with the context's error, or errStopped once stop is closed.
func (w *window) take(ctx context.Context, stop <-chan struct{}, n int64) error {
	return w.wait(ctx, stop, w.limit-w.limit/4, func() bool {
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

// wait blocks until ready, which is called with the lock held, says so. It asks again whenever used
// has fallen to low: waking a writer for every released record would have it write tiny batches.
func (w *window) wait(ctx context.Context, stop <-chan struct{}, low int64, ready func() bool) error {
	for {
		w.mu.Lock()
		if ready() {
			w.mu.Unlock()
			return nil
		}
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
