package sink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
)

const (
	// defaultLimit is max.message.bytes of Kafka and Redpanda as they come, less what the protocol
	// adds: what is assumed of a topic whose configuration may not be read.
	defaultLimit = 1_000_012
	// maxLimit is what one request can carry: the brokers' socket.request.max.bytes of 100 MiB.
	maxLimit = 100<<20 - 64<<10
	// deadLetterLimit is max.message.bytes of a dead-letter topic that is made here: it takes what
	// other topics would not.
	deadLetterLimit = 64 << 20
	// visibleWithin bounds the wait for a topic that was just made.
	visibleWithin = 30 * time.Second
)

// use is a topic and what it is used for.
type use struct {
	topic      string
	by         string // schema.table, or words
	deadLetter bool
}

// topic is what is known of a topic. It does not change once it is known.
type topic struct {
	name       string
	by         string
	partitions int32
	limit      int // bytes of the largest batch
	compacted  bool
	produced   prometheus.Counter
}

// uses lists the topics that the tables and the configuration need, each once.
func (k *Kafka) uses(tables []*event.Table) ([]use, error) {
	all := []use{}
	if k.cfg.Messages {
		all = append(all, k.messages())
	}
	if k.cfg.DeadLetterTopic != "" {
		all = append(all, use{topic: k.cfg.DeadLetterTopic, by: "dead letters", deadLetter: true})
	}
	for _, t := range tables {
		name, err := k.cfg.topicName(t)
		if err != nil {
			return nil, err
		}
		all = append(all, use{topic: name, by: t.String()})
	}
	taken := map[string]string{k.cfg.checkpointTopic(): "the checkpoint"}
	for _, u := range all {
		if other, ok := taken[u.topic]; ok {
			return nil, collision(u.topic, other, u.by)
		}
		taken[u.topic] = u.by
	}
	return all, nil
}

func (k *Kafka) messages() use { return use{topic: k.cfg.messagesTopic(), by: "logical messages"} }

// ensure makes sure that the topics exist, creating what is missing where it may, and learns their
// partitions and limits.
func (k *Kafka) ensure(ctx context.Context, uses []use) error {
	if len(uses) == 0 {
		return nil
	}
	found, missing, err := k.list(ctx, uses)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		if !k.cfg.Topics.Create {
			return k.missingFault(missing)
		}
		if err := k.create(ctx, missing); err != nil {
			return err
		}
		if found, err = k.visible(ctx, uses); err != nil {
			return err
		}
	}
	configs := k.describe(ctx, uses)
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, u := range uses {
		c := configs[u.topic]
		k.topics[u.topic] = &topic{
			name: u.topic, by: u.by, partitions: int32(len(found[u.topic].Partitions)), //nolint:gosec // Kafka counts them in an int32
			limit: c.limit, compacted: c.compacted, produced: k.metrics.produced(u.topic),
		}
	}
	k.counts = make(map[string]int32, len(k.topics))
	for name, tp := range k.topics {
		k.counts[name] = tp.partitions
	}
	return nil
}

// list asks for the topics and returns those that do not exist apart.
func (k *Kafka) list(ctx context.Context, uses []use) (map[string]kmsg.MetadataResponseTopic, []use, error) {
	const op = "look up the topics"
	req := kmsg.NewPtrMetadataRequest()
	for _, u := range uses {
		asked := kmsg.NewMetadataRequestTopic()
		asked.Topic = &u.topic
		req.Topics = append(req.Topics, asked)
	}
	resp, err := req.RequestWith(ctx, k.client)
	if err != nil {
		return nil, nil, broker.Explain(op, err, k.broker)
	}
	found := make(map[string]kmsg.MetadataResponseTopic, len(resp.Topics))
	for _, t := range resp.Topics {
		if t.Topic != nil {
			found[*t.Topic] = t
		}
	}
	var missing []use
	for _, u := range uses {
		t, ok := found[u.topic]
		switch err := kerr.ErrorForCode(t.ErrorCode); {
		case !ok || errors.Is(err, kerr.UnknownTopicOrPartition):
			missing = append(missing, u)
		case err != nil:
			return nil, nil, k.explain(op, u, err)
		}
	}
	return found, missing, nil
}

// missingFault says how to make the topics.
func (k *Kafka) missingFault(missing []use) error {
	lines := []string{"Set kafka.topics.create: true, or create what is missing:"}
	for _, u := range missing {
		lines = append(lines, fmt.Sprintf("kafka-topics.sh --bootstrap-server %s --create --topic %s --partitions %d",
			strings.Join(k.broker.Seeds, ","), u.topic, max(k.cfg.Topics.Partitions, 1)))
	}
	f := &fault.Error{Code: fault.TopicMissing, Op: "look up the topics", Topic: missing[0].topic, Hint: strings.Join(lines, "\n")}
	if len(missing) > 1 {
		f.Err = fmt.Errorf("it and %d more do not exist", len(missing)-1)
	}
	return f
}

// create makes topics. One that somebody else makes at the same time is as good.
func (k *Kafka) create(ctx context.Context, missing []use) error {
	for _, u := range missing {
		resp, err := k.admin.CreateTopic(ctx, k.cfg.Topics.Partitions, k.cfg.Topics.ReplicationFactor, k.cfg.topicSettings(u), u.topic)
		switch {
		case err == nil:
			k.log.Info("created topic", "topic", u.topic, "for", u.by, "partitions", resp.NumPartitions)
		case errors.Is(err, kerr.TopicAlreadyExists):
		default:
			return k.createFault(u, err, resp.ErrMessage)
		}
	}
	return nil
}

func (k *Kafka) createFault(u use, err error, detail string) error {
	const op = "create topic"
	if detail != "" {
		err = fmt.Errorf("%w (%s)", err, detail)
	}
	explained := k.explain(op, u, err)
	if f := fault.Of(explained); f == nil || f.Code != fault.KafkaUnsupported {
		return explained
	}
	// The brokers have answered and will not have the topic as it was asked for.
	return &fault.Error{
		Code: fault.TopicMissing, Op: op, Topic: u.topic, Err: err,
		Hint: "Check kafka.topics.partitions, kafka.topics.replication_factor and kafka.topics.config, or create the topic yourself.",
	}
}

// visible waits until all topics have partitions that somebody leads.
func (k *Kafka) visible(ctx context.Context, uses []use) (map[string]kmsg.MetadataResponseTopic, error) {
	deadline := time.Now().Add(visibleWithin)
	for {
		found, missing, err := k.list(ctx, uses)
		if err != nil && !fault.Retryable(err) {
			return nil, err
		}
		if err == nil && len(missing) == 0 && led(found, uses) {
			return found, nil
		}
		if time.Now().After(deadline) {
			return nil, fault.New(fault.KafkaUnavailable, "wait for the created topics", err,
				"The brokers accepted the topics but do not serve them yet.")
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// led tells whether each partition has a leader.
func led(found map[string]kmsg.MetadataResponseTopic, uses []use) bool {
	for _, u := range uses {
		t := found[u.topic]
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 || p.Leader < 0 {
				return false
			}
		}
		if len(t.Partitions) == 0 {
			return false
		}
	}
	return true
}

// topicConfig is what decides whether a record fits.
type topicConfig struct {
	limit     int
	compacted bool
}

// describe reads the topics' configurations. Where that is not allowed, the brokers' defaults are
// assumed: a record that they refuse later is still not lost.
func (k *Kafka) describe(ctx context.Context, uses []use) map[string]topicConfig {
	configs := make(map[string]topicConfig, len(uses))
	names := make([]string, 0, len(uses))
	for _, u := range uses {
		configs[u.topic] = topicConfig{limit: defaultLimit}
		names = append(names, u.topic)
	}
	described, err := k.admin.DescribeTopicConfigs(ctx, names...)
	for _, d := range described {
		if d.Err != nil {
			err = d.Err
			continue
		}
		c := configs[d.Name]
		for _, entry := range d.Configs {
			switch entry.Key {
			case "max.message.bytes":
				if n, parseErr := strconv.Atoi(entry.MaybeValue()); parseErr == nil {
					c.limit = max(min(n, maxLimit), 1024)
				}
			case "cleanup.policy":
				c.compacted = slices.Contains(strings.Split(entry.MaybeValue(), ","), "compact")
			}
		}
		configs[d.Name] = c
	}
	if err != nil {
		k.describeOnce.Do(func() {
			k.log.Warn("the topics' configurations cannot be read; taking the default for the largest record (the ACL is DescribeConfigs)",
				"limit", defaultLimit, "error", err)
		})
	}
	return configs
}

// compare notes what an earlier run wrote to, and refuses topics that have another number of partitions than it saw.
func (k *Kafka) compare(want map[string]int32) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.earlier = want
	for _, name := range slices.Sorted(maps.Keys(want)) {
		tp := k.topics[name]
		if tp == nil || tp.partitions == want[name] || name == k.cfg.DeadLetterTopic {
			continue
		}
		return &fault.Error{
			Code: fault.TopicPartitions, Op: "check the topic", Table: tp.by, Topic: name,
			Err: fmt.Errorf("it has %d partitions, an earlier run wrote to %d", tp.partitions, want[name]),
			Hint: "A key's later records would go to another partition than its earlier ones, and a consumer could see them in the wrong order. " +
				"Create the topic again with the old number, or let all consumers read to its end and write to new topics (kafka.topics.name). To go on with the new number all the same, which repeats what the slot has not confirmed:\n" +
				"walferry checkpoint forget\nwalferry slot adopt",
		}
	}
	return nil
}

// batchLimit is the client's limit for a topic's batches.
func (k *Kafka) batchLimit(name string) int32 {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if tp := k.topics[name]; tp != nil {
		return int32(tp.limit) //nolint:gosec // at most maxLimit
	}
	return defaultLimit
}

// explain adds the topic and its table to what the broker room makes of an error.
func (k *Kafka) explain(op string, u use, err error) error {
	err = broker.Explain(op, err, k.broker)
	if f := fault.Of(err); f != nil {
		placed := *f
		placed.Topic = u.topic
		return &placed
	}
	return err
}
