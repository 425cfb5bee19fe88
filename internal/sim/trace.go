package sim

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"
	"time"
)

// trace is what happened in a run: words for a person, and a hash of every delivery on the network, in
// whatever order those of one instant were sent, to tell whether two runs were the same.
type trace struct {
	mu    sync.Mutex // guards what follows
	began time.Time
	text  strings.Builder
	sum   uint64
}

func newTrace() *trace { return &trace{began: time.Now()} }

// log notes what happened.
func (t *trace) log(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = fmt.Fprintf(&t.text, "%12.6f ", time.Since(t.began).Seconds())
	_, _ = fmt.Fprintf(&t.text, format+"\n", args...)
}

// Write notes a line of a pipeline's log.
func (t *trace) Write(line []byte) (int, error) {
	t.log("%s", strings.TrimSuffix(string(line), "\n"))
	return len(line), nil
}

// sent notes a delivery.
func (t *trace) sent(name string, at time.Time, size int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := fnv.New64a()
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(at.Sub(t.began))) //nolint:gosec // a hash
	binary.BigEndian.PutUint64(b[8:], uint64(size))           //nolint:gosec // a hash
	_, _ = h.Write(b[:])                                      // never fails
	_, _ = h.Write([]byte(name))                              // never fails
	t.sum += h.Sum64()
}

func (t *trace) hash() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sum
}

func (t *trace) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}
