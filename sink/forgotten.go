package sink

import (
	"context"
	"maps"
	"slices"

	"github.com/walferry/walferry/internal/broker"
)

// written returns every topic that records of a transaction may be in: those that are written to now, and those
// that an earlier run wrote to. topic is the one of the checkpoint.
func (k *Kafka) written(topic string) []string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	names := map[string]bool{topic: true}
	for name := range k.topics {
		names[name] = true
	}
	for name := range k.earlier {
		names[name] = true
	}
	return slices.Collect(maps.Keys(names))
}

// endForgotten ends what brokers have left open as they had decided, and returns whether there was any. Then the
// claim is to be made again.
func (t *Transactional) endForgotten(ctx context.Context, c *claim, topic string) (bool, error) {
	open, err := broker.FindForgotten(ctx, t.client, c.producer.ID, t.written(topic))
	if err != nil || open == nil {
		return false, err
	}
	commit, err := open.End(ctx, t.client, c.id, c.producer, &t.verdicts)
	if err == nil {
		t.log.Warn("the brokers had left a transaction open after a crash: ended it as they had decided",
			"transactional_id", c.id, "committed", commit, "partitions", open.Partitions)
	}
	return err == nil, err
}
