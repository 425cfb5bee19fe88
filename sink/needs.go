package sink

import (
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/internal/broker"
)

// Needs returns the topics that Open would look for and create. The error is of names: not legal in
// Kafka, or of two tables alike.
func (c Config) Needs(tables []*event.Table) ([]broker.Need, error) {
	uses, err := (&Kafka{cfg: c}).uses(tables)
	if err != nil {
		return nil, err
	}
	needs := make([]broker.Need, len(uses))
	for i, u := range uses {
		needs[i] = broker.Need{
			Topic: u.topic, For: u.by, Create: c.Topics.Create,
			Partitions: c.Topics.Partitions, Replicas: c.Topics.ReplicationFactor, Config: c.topicSettings(u),
		}
	}
	return needs, nil
}

// topicSettings are those that a topic is created with.
func (c Config) topicSettings(u use) map[string]*string {
	config := make(map[string]*string)
	if u.deadLetter {
		config["max.message.bytes"] = kadm.StringPtr(strconv.Itoa(deadLetterLimit))
	}
	for name, value := range c.Topics.Config {
		if !u.deadLetter || name != "max.message.bytes" && name != "cleanup.policy" {
			config[name] = &value
		}
	}
	return config
}
