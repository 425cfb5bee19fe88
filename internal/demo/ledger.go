package demo

import (
	"slices"
	"sync"
	"time"
)

// change names one committed change of the shop for ever: no two have the same table, operation,
// key and revision.
type change struct {
	table, op, key string
	revision       int // of the row; 0 for a delete, which no key lives to see twice
}

// Ledger compares what the shop committed with what the consumer saw. It is safe for concurrent
// use. The two sides may come in either order: a record can arrive before the shop's own COMMIT
// returns.
type Ledger struct {
	mu           sync.Mutex // guards all
	written      map[change]struct{}
	arrived      map[change]int
	lags         []time.Duration
	transactions int
	rolledBack   int
}

// NewLedger returns an empty one.
func NewLedger() *Ledger {
	return &Ledger{written: map[change]struct{}{}, arrived: map[change]int{}}
}

// committed notes the changes of one transaction.
func (l *Ledger) committed(changes []change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.transactions++
	for _, c := range changes {
		l.written[c] = struct{}{}
	}
}

// undone notes a transaction that was rolled back: nothing of it may arrive.
func (l *Ledger) undone() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rolledBack++
}

// saw notes an arrival, lag after its commit.
func (l *Ledger) saw(c change, lag time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.arrived[c]++
	l.lags = append(l.lags, lag)
}

// Summary is the state of a ledger.
type Summary struct {
	// Written are the changes in committed Transactions; RolledBack transactions wrote for nothing.
	Written, Transactions, RolledBack int
	// Arrived are the changes that arrived, each counted once; Repeated the further arrivals.
	Arrived, Repeated int
	// Lost were written and did not arrive; Unexpected arrived and were not written.
	Lost, Unexpected int
	// P50 and P95 are the time from commit to consumer.
	P50, P95 time.Duration
}

// Summary compares both sides as they are now.
func (l *Ledger) Summary() Summary {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Summary{Written: len(l.written), Arrived: len(l.arrived), Transactions: l.transactions, RolledBack: l.rolledBack}
	for c := range l.written {
		if l.arrived[c] == 0 {
			s.Lost++
		}
	}
	for c, n := range l.arrived {
		s.Repeated += n - 1
		if _, ok := l.written[c]; !ok {
			s.Unexpected++
		}
	}
	lags := slices.Sorted(slices.Values(l.lags))
	if n := len(lags); n > 0 {
		s.P50, s.P95 = lags[n/2], lags[min(n-1, n*95/100)]
	}
	return s
}
