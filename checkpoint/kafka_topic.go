package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
)

// topicConfig keeps the topic small: segments of the least size that brokers take are compacted
// soon, so that a topic with a few saves a second holds some megabytes.
func topicConfig() map[string]*string {
	return map[string]*string{
		"cleanup.policy": kadm.StringPtr("compact"),
		"segment.bytes":  kadm.StringPtr("1048576"),
		"segment.ms":     kadm.StringPtr("3600000"),
	}
}

// Need is the topic of a pipeline's checkpoint, as the store makes and expects it.
func Need(pipeline string) broker.Need {
	return broker.Need{
		Topic: Topic(pipeline), For: "the checkpoint", Create: true, Partitions: 1, Replicas: -1, Config: topicConfig(), Checkpoint: true,
	}
}

// visibleRest is how long to wait for a topic that was just created to be known to all brokers.
const visibleRest = 50 * time.Millisecond

// makeTopic decides what becomes of a topic that does not exist.
type makeTopic func(*KafkaStore, context.Context, *kgo.Client) (kmsg.MetadataResponseTopic, error)

// errNoTopic says that there is no topic, to a caller that wants none made.
var errNoTopic = errors.New("the checkpoint topic does not exist")

// ensureTopic sees to it that the topic exists, and refuses one that could lose the checkpoint or
// hold two. One that was there and is not any more is refused as well.
func (s *KafkaStore) ensureTopic(ctx context.Context, client *kgo.Client, missing makeTopic) error {
	topic, err := describe(ctx, client, Topic(s.pipeline))
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		if s.ours != nil && !s.ours[""] {
			return s.lost("find the checkpoint topic", errors.New("the topic was deleted"))
		}
		topic, err = missing(s, ctx, client)
	}
	if errors.Is(err, errNoTopic) {
		return err
	}
	if err != nil {
		return s.explain("find the checkpoint topic", err)
	}
	if n := len(topic.Partitions); n != 1 {
		return s.unfit(fmt.Errorf("it has %d partitions, not one", n),
			"Delete the topic and start again, if it holds no checkpoint that is needed: walferry creates it.")
	}
	policy, err := cleanupPolicy(ctx, client, Topic(s.pipeline))
	if err != nil {
		err = s.explain("read the checkpoint topic's configuration", err)
		if f := fault.Of(err); f != nil && f.Code == fault.KafkaACL {
			f.Hint = "Give the principal the ACL DescribeConfigs on the topic: walferry must see that it is compacted. " + f.Hint
		}
		return err
	}
	if policy != "compact" {
		return s.unfit(fmt.Errorf("its cleanup.policy is %q: the checkpoint would be deleted when it gets old", policy),
			"Set it:\nkafka-configs.sh --alter --topic "+Topic(s.pipeline)+" --add-config cleanup.policy=compact")
	}
	return nil
}

func (s *KafkaStore) createTopic(ctx context.Context, client *kgo.Client) (kmsg.MetadataResponseTopic, error) {
	name := Topic(s.pipeline)
	_, err := kadm.NewClient(client).CreateTopic(ctx, 1, -1, topicConfig(), name)
	switch {
	case err == nil:
		s.log.Info("created the checkpoint topic", "topic", name)
	case !errors.Is(err, kerr.TopicAlreadyExists):
		return kmsg.MetadataResponseTopic{}, fmt.Errorf("create it: %w", err)
	}
	for {
		topic, err := describe(ctx, client, name)
		if !errors.Is(err, kerr.UnknownTopicOrPartition) {
			return topic, err
		}
		if err := rest(ctx, visibleRest); err != nil {
			return topic, err
		}
	}
}

func (s *KafkaStore) unfit(err error, hint string) error {
	f := fault.New(fault.CheckpointTopic, "check the checkpoint topic", err, hint)
	f.Topic, f.Pipeline = Topic(s.pipeline), s.pipeline
	return f
}

// lost is the refusal to take a checkpoint that is gone for one that never was.
func (s *KafkaStore) lost(op string, err error) error {
	f := fault.New(fault.CheckpointLost, op, err,
		"Somebody deleted the topic or its records, or retention did. To go on from what the slot has confirmed, which repeats some changes and loses none:\n"+
			"walferry slot adopt")
	f.Topic, f.Pipeline = Topic(s.pipeline), s.pipeline
	return f
}

// describe asks the brokers for one topic, without the client's cache.
func describe(ctx context.Context, client *kgo.Client, name string) (kmsg.MetadataResponseTopic, error) {
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = kmsg.StringPtr(name)
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return kmsg.MetadataResponseTopic{}, err
	}
	if len(resp.Topics) != 1 {
		return kmsg.MetadataResponseTopic{}, fmt.Errorf("asked for one topic, got %d", len(resp.Topics))
	}
	return resp.Topics[0], kerr.ErrorForCode(resp.Topics[0].ErrorCode)
}

// cleanupPolicy asks for the one setting of the topic that decides whether records stay.
func cleanupPolicy(ctx context.Context, client *kgo.Client, name string) (string, error) {
	const key = "cleanup.policy"
	req := kmsg.NewPtrDescribeConfigsRequest()
	resource := kmsg.NewDescribeConfigsRequestResource()
	resource.ResourceType, resource.ResourceName, resource.ConfigNames = kmsg.ConfigResourceTypeTopic, name, []string{key}
	req.Resources = append(req.Resources, resource)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return "", err
	}
	for i := range resp.Resources {
		if err := kerr.ErrorForCode(resp.Resources[i].ErrorCode); err != nil {
			return "", err
		}
		for _, c := range resp.Resources[i].Configs {
			if c.Name == key && c.Value != nil {
				return *c.Value, nil
			}
		}
	}
	return "", nil
}

// rest waits, or returns ctx's error when it ends first.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
