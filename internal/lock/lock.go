// Package lock is a mutual exclusion that is held while waiting for a network.
//
// It differs from sync.Mutex in one thing: who waits for it waits on a channel. The simulation
// (internal/sim) runs pipelines on a clock that moves on when every goroutine waits, and a goroutine
// that waits for a sync.Mutex does not count as one; held over a network's delay that clock would stand
// still for ever. For what is held for a few instructions use sync.Mutex.
package lock

// Lock is a mutual exclusion; make it with New.
type Lock struct{ held chan struct{} }

// New returns a lock that nobody holds.
func New() Lock { return Lock{held: make(chan struct{}, 1)} }

// Lock waits until nobody else holds the lock, and holds it.
func (l Lock) Lock() { l.held <- struct{}{} }

// Unlock gives the lock back. Only who holds it may call it.
func (l Lock) Unlock() { <-l.held }
