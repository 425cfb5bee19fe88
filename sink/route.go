package sink

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/sink/encode"
)

// maxRoutes bounds the cache of routes: every schema change makes a new *event.Table.
const maxRoutes = 10_000

// route is where a table's records go and how they are made.
type route struct {
	table   string // as event.Table.String has it
	plan    *encode.Plan
	topic   *topic
	keyless int32 // the one partition of a table without a key
}

// route returns the table's route. A table that appears in mid-stream has its topic made here,
// and an unreachable broker is waited for.
func (k *Kafka) route(ctx context.Context, t *event.Table) (*route, error) {
	if r, ok := k.routes[t]; ok {
		return r, nil
	}
	plan, err := encode.NewPlan(t, k.cfg.Keys[t.String()], k.encoding)
	if err != nil {
		return nil, err
	}
	name, err := k.cfg.topicName(t)
	if err != nil {
		return nil, err
	}
	tp, err := k.topic(ctx, use{topic: name, by: t.String()})
	if err != nil {
		return nil, err
	}
	if !plan.HasKey() && tp.compacted {
		return nil, &fault.Error{
			Code: fault.TopicCompacted, Op: "check the topic", Table: t.String(), Topic: name,
			Hint: "The table has no key and compaction keeps records by key. Give the table a primary key or a replica identity index, or set cleanup.policy=delete on the topic.",
		}
	}
	r := &route{table: t.String(), plan: plan, topic: tp}
	k.noteKey(r)
	r.keyless = k.partition(tp, []byte(r.table))
	if len(k.routes) >= maxRoutes {
		clear(k.routes)
	}
	k.routes[t] = r
	return r, nil
}

// noteKey reports a table whose key is made of other columns than before, by a change of the schema or
// because the catalog knows the table no longer: a row's records go on under another key.
func (k *Kafka) noteKey(r *route) {
	key := r.plan.Key()
	was, known := k.keys[r.table]
	k.keys[r.table] = key
	if known && !slices.Equal(was, key) {
		k.log.Warn("the record key of a table has changed: records of one row may stand on two partitions, and only those of one partition are in order",
			"table", r.table, "was", was, "key", key)
	}
}

// topic returns the topic of a use, making sure of it the first time.
func (k *Kafka) topic(ctx context.Context, u use) (*topic, error) {
	logged := false
	for rest := 200 * time.Millisecond; ; rest = min(2*rest, 10*time.Second) {
		k.mu.RLock()
		tp := k.topics[u.topic]
		k.mu.RUnlock()
		switch {
		case tp != nil && tp.by != u.by:
			return nil, collision(u.topic, tp.by, u.by)
		case tp != nil:
			return tp, nil
		}
		err := k.ensure(ctx, []use{u})
		switch {
		case err == nil:
			continue
		case !fault.Retryable(err):
			return nil, err
		case !logged:
			k.log.Warn("cannot make sure of a topic, trying again", "topic", u.topic, "error", err)
			logged = true
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-k.failed:
			return nil, k.Err()
		case <-time.After(rest):
		}
	}
}

// partition is the Java client's choice for a key: murmur2 over the partitions that were there when
// the topic became known. More partitions that appear later are left alone, because keys would move.
func (k *Kafka) partition(tp *topic, key []byte) int32 {
	k.hashed.Key = key
	return int32(k.hash.Partition(&k.hashed, int(tp.partitions))) //nolint:gosec // below an int32
}

// preset is the client's partitioner: it takes the partition that the record names, and reports a
// topic that has grown.
type preset struct {
	grown func(topic string, partitions int)
	first func(topic string, partitions int) // called at the first record for a topic; nil to call nothing
}

func (p preset) ForTopic(topic string) kgo.TopicPartitioner {
	return &presetTopic{preset: p, topic: topic}
}

type presetTopic struct {
	preset
	topic string
	seen  int
}

// RequiresConsistency is true: the record waits for its partition, whatever state that is in.
func (*presetTopic) RequiresConsistency(*kgo.Record) bool { return true }

func (p *presetTopic) Partition(r *kgo.Record, n int) int {
	if p.seen == 0 && p.first != nil {
		p.first(p.topic, n)
	}
	if n != p.seen {
		p.seen = n
		p.grown(p.topic, n)
	}
	return int(r.Partition)
}

// grown logs that a topic has another number of partitions than records are spread over.
func (k *Kafka) grown(topic string, partitions int) {
	k.mu.RLock()
	tp := k.topics[topic]
	k.mu.RUnlock()
	if tp != nil && partitions != int(tp.partitions) {
		k.log.Warn("the topic's number of partitions has changed; this run goes on with the number it knows, and the next start will refuse",
			"topic", topic, "known", tp.partitions, "partitions", partitions)
	}
}
