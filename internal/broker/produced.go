package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// producedEvery is the time between two looks of AwaitProduced, which hardly ever takes a second one.
const producedEvery = 100 * time.Microsecond

// AwaitProduced waits until the client has noted the partitions of a topic that it has produced to, of which
// there are so many. A client hands its first records of a topic over before it does, so that all of them can be
// acknowledged by then, and EndTransaction goes by what is noted: it would take a transaction that wrote to
// nothing else for an empty one, abort it, and report no error.
func AwaitProduced(ctx context.Context, client *kgo.Client, topic string, partitions int) error {
	for {
		for p := range partitions {
			// All are noted at once. The one that has acknowledged a record has a leader; others may have none.
			if leader, _, _ := client.PartitionLeader(topic, int32(p)); leader >= 0 {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("look at the partitions of %s: %w", topic, ctx.Err())
		case <-time.After(producedEvery):
		}
	}
}
