package lock_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/walferry/walferry/internal/lock"
)

// TestWaitersLetTheClockMove holds the lock over a time in which another goroutine waits for it: with a
// sync.Mutex the clock of the bubble would not move.
func TestWaitersLetTheClockMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, order := lock.New(), make(chan string, 2)
		l.Lock()
		go func() {
			l.Lock()
			defer l.Unlock()
			order <- "second"
		}()
		time.Sleep(time.Minute)
		order <- "first"
		l.Unlock()
		if got := []string{<-order, <-order}; got[0] != "first" || got[1] != "second" {
			t.Errorf("held in the order %v", got)
		}
	})
}
