//go:build failpoints

package failpoint

import (
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// armed is what the environment asked for: one process dies once, so that one is enough.
var armed = fromEnvironment()

type trigger struct {
	point Point
	left  atomic.Int64
}

func fromEnvironment() *trigger {
	t := &trigger{point: Point(os.Getenv("WALFERRY_FAILPOINT"))}
	after, err := strconv.ParseInt(os.Getenv("WALFERRY_FAILPOINT_AFTER"), 10, 64)
	if err != nil || after < 1 {
		after = 1
	}
	t.left.Store(after)
	return t
}

// Here kills the process, as kill -9 does, where it was asked for at this point.
func Here(p Point) {
	if p != armed.point || armed.left.Add(-1) > 0 {
		return
	}
	_, _ = os.Stderr.WriteString("failpoint: died at " + string(p) + "\n")
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Kill()
	}
	select {} // the signal is on its way; nothing more happens here
}

// Kafka returns the options by which CommitSent is noticed.
func Kafka() []kgo.Opt { return []kgo.Opt{kgo.WithHooks(commitSent{})} }

type commitSent struct{}

// OnBrokerWrite is called by the client when a request has left.
func (commitSent) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if key == int16(kmsg.EndTxn) && err == nil {
		Here(CommitSent)
	}
}
