package sink

import (
	"fmt"
	"strings"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// maxTopicName is Kafka's limit on the length of a topic name.
const maxTopicName = 249

// topicName expands the template for a table. Characters that Kafka does not allow become _, so two
// tables may come out alike; whoever collects the names refuses that.
func (c Config) topicName(t *event.Table) (string, error) {
	name := legalName(strings.NewReplacer("{name}", c.Pipeline, "{schema}", t.Schema, "{table}", t.Name).Replace(c.Topics.Name))
	if err := checkName(name); err != nil {
		return "", &fault.Error{
			Code: fault.TopicName, Op: "name the topic", Table: t.String(), Topic: name, Err: err,
			Hint: "Change kafka.topics.name.",
		}
	}
	return name, nil
}

// messagesTopic is where logical messages go.
func (c Config) messagesTopic() string { return c.Pipeline + "._messages" }

// checkpointTopic is where checkpoint's kafka store keeps its records: no table may go there.
func (c Config) checkpointTopic() string { return "_walferry." + c.Pipeline + ".checkpoint" }

// legalName replaces each character that a topic name cannot hold.
func legalName(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		default:
			return '_'
		}
	}, s)
}

func checkName(name string) error {
	switch {
	case name == "", name == ".", name == "..":
		return fmt.Errorf("%q is no topic name", name)
	case len(name) > maxTopicName:
		return fmt.Errorf("the name has %d characters, Kafka takes %d", len(name), maxTopicName)
	default:
		return nil
	}
}

// collision is the fault of two users of one topic.
func collision(topic, first, second string) error {
	return &fault.Error{
		Code: fault.TopicCollision, Op: "name the topics", Topic: topic,
		Err:  fmt.Errorf("%s and %s would both be written to it", first, second),
		Hint: "Characters that Kafka does not allow become _. Change kafka.topics.name so that the names differ ({schema} and {table} tell tables apart), or leave one of the two out of postgres.tables.",
	}
}
