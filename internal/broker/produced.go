package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// producedEvery is the time between two looks of AwaitProduced, which hardly ever takes a second one.
const producedEvery = 100 * time.Microsecond

// AwaitProduced waits until the client has noted the partitions of a topic that it has produced to. A
// client hands its first records of a topic over before it does, so that all of them can be
// acknowledged by then, and EndTransaction goes by what is noted: it would take a transaction that wrote to
// nothing else for an empty one, abort it, and report no error.
func AwaitProduced(ctx context.Context, client *kgo.Client, topic string) error {
	for {
		leader, _, err := client.PartitionLeader(topic, 0)
		if leader >= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = ctx.Err()
			}
			return fmt.Errorf("look at the partitions of %s: %w", topic, err)
		case <-time.After(producedEvery):
		}
	}
}
