package sink_test

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/sink"
)

// TestOpenRefuses opens sinks that must not start.
func TestOpenRefuses(t *testing.T) {
	named := func(schema, name string) *event.Table {
		table := orders(name)
		table.Schema = schema
		return table
	}
	for _, tc := range []struct {
		name   string
		cfg    func(*sink.Config)
		topics func(*kfake.Cluster) error // makes topics of pipeline "p" beforehand
		tables []*event.Table
		want   map[string]int32
		code   fault.Code
		says   []string
	}{
		{
			name: "missing topic", cfg: func(c *sink.Config) { c.Topics.Create = false },
			tables: []*event.Table{orders("a"), orders("b")}, code: fault.TopicMissing,
			says: []string{"p.public.a", "--create --topic p.public.b --partitions 6", "kafka.topics.create: true"},
		}, {
			name: "illegal characters", tables: []*event.Table{named("public", "a b"), named("public", "a/b")},
			code: fault.TopicCollision, says: []string{`public."a b"`, `public."a/b"`, "p.public.a_b", "kafka.topics.name"},
		}, {
			name: "dots", tables: []*event.Table{named("a.b", "c"), named("a", "b.c")},
			code: fault.TopicCollision, says: []string{`"a.b".c`, `a."b.c"`},
		}, {
			name: "one topic for all", cfg: func(c *sink.Config) { c.Topics.Name = "all" },
			tables: []*event.Table{orders("a"), orders("b")}, code: fault.TopicCollision, says: []string{"{table}"},
		}, {
			name: "the dead letters' topic", cfg: func(c *sink.Config) { c.DeadLetterTopic = "p.public.a" },
			tables: []*event.Table{orders("a")}, code: fault.TopicCollision, says: []string{"dead letters", "public.a"},
		}, {
			name: "the checkpoint's topic", cfg: func(c *sink.Config) { c.Topics.Name = "_walferry.{name}.{table}" },
			tables: []*event.Table{orders("checkpoint")}, code: fault.TopicCollision, says: []string{"the checkpoint"},
		}, {
			name: "name too long", tables: []*event.Table{named(strings.Repeat("s", 200), strings.Repeat("t", 60))},
			code: fault.TopicName, says: []string{"249"},
		}, {
			name: "name is dots", cfg: func(c *sink.Config) { c.Topics.Name = "{table}" },
			tables: []*event.Table{named("public", "..")}, code: fault.TopicName, says: []string{`public.".."`},
		}, {
			name: "compacted without key", topics: func(c *kfake.Cluster) error {
				return c.CreateTopic("p.public.log", 1, map[string]string{"cleanup.policy": "compact"})
			},
			tables: []*event.Table{logTable("log")}, code: fault.TopicCompacted, says: []string{"public.log", "cleanup.policy"},
		}, {
			name: "partitions have changed", topics: func(c *kfake.Cluster) error { return c.CreateTopic("p.public.a", 3, nil) },
			tables: []*event.Table{orders("a")}, want: map[string]int32{"p.public.a": 2, "p.public.gone": 9},
			code: fault.TopicPartitions, says: []string{"3 partitions", "wrote to 2", "p.public.a"},
		}, {
			name: "key column does not exist", cfg: func(c *sink.Config) { c.Keys = map[string][]string{"public.a": {"nope"}} },
			tables: []*event.Table{orders("a")}, code: fault.TableKey, says: []string{"public.a"},
		}, {
			name: "brokers refuse the settings", cfg: func(c *sink.Config) { c.Topics.ReplicationFactor = 5 },
			tables: []*event.Table{orders("a")}, code: fault.TopicMissing, says: []string{"kafka.topics.replication_factor"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := kafkatest.StartFake(t)
			cfg := config(t)
			cfg.Pipeline = "p"
			if tc.cfg != nil {
				tc.cfg(&cfg)
			}
			if tc.topics != nil {
				if err := tc.topics(c); err != nil {
					t.Fatal(err)
				}
			}
			k := prepare(t, cfg, c.ListenAddrs())
			_, err := k.Open(t.Context(), tc.tables, tc.want)
			f := fault.Of(err)
			if f == nil || f.Code != tc.code {
				t.Fatalf("got %v, want %s", err, tc.code)
			}
			for _, says := range tc.says {
				if !strings.Contains(f.Error()+"\n"+f.Hint, says) {
					t.Errorf("%v\n%s\ndoes not say %q", f, f.Hint, says)
				}
			}
		})
	}
}

// TestOpenKeepsTopics opens on topics that are there, with the counts of an earlier run, and makes
// the others as configured.
func TestOpenKeepsTopics(t *testing.T) {
	c := kafkatest.StartFake(t)
	if err := c.CreateTopic("p.public.a", 3, nil); err != nil {
		t.Fatal(err)
	}
	cfg := config(t)
	cfg.Pipeline = "p"
	cfg.DeadLetterTopic = "dead"
	cfg.Topics.Config = map[string]string{"retention.ms": "1234", "max.message.bytes": "5000"}
	k := prepare(t, cfg, c.ListenAddrs())
	got, err := k.Open(t.Context(), []*event.Table{orders("a"), orders("b")}, map[string]int32{"p.public.a": 3})
	if err != nil {
		t.Fatal(err)
	}
	if got["p.public.a"] != 3 || got["p.public.b"] != 6 || got["dead"] != 6 || len(got) != 3 {
		t.Errorf("partitions %v", got)
	}
	config := func(topic, name string) string {
		if v := c.TopicInfo(topic).Configs[name]; v != nil {
			return *v
		}
		return ""
	}
	if config("p.public.b", "retention.ms") != "1234" || config("p.public.b", "max.message.bytes") != "5000" {
		t.Errorf("configuration %v", c.TopicInfo("p.public.b").Configs)
	}
	if config("dead", "max.message.bytes") != "67108864" {
		t.Errorf("the dead-letter topic takes %s bytes", config("dead", "max.message.bytes"))
	}
}

// TestOpenAgain opens while the brokers do not create topics, and again once they do.
func TestOpenAgain(t *testing.T) {
	c := kafkatest.StartFake(t)
	busy := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.RequestTimedOut, Count: -1})
	cfg := config(t)
	cfg.DeadLetterTopic = "dead"
	k := prepare(t, cfg, c.ListenAddrs())
	table := orders("a")
	if _, err := k.Open(t.Context(), []*event.Table{table}, nil); !fault.Retryable(err) {
		t.Fatalf("got %v", err)
	}
	busy.Remove()
	for range 2 { // a caller whose later steps failed opens again too
		if _, err := k.Open(t.Context(), []*event.Table{table}, nil); err != nil {
			t.Fatal(err)
		}
	}
	s, a := newStream(), new(ack)
	write(t, k, a, s.insert(table, 1, "a"))
	drain(t, k)
	a.want(t, 1, 1)
}

// TestUnreachable must not take long, and must say that trying again may help.
func TestUnreachable(t *testing.T) {
	k := prepare(t, config(t), []string{"127.0.0.1:1"})
	start := time.Now()
	_, err := k.Open(t.Context(), nil, nil)
	if !fault.Retryable(err) || time.Since(start) > patience/3 {
		t.Errorf("after %s: %v", time.Since(start), err)
	}
}

// TestManyTables opens a few hundred tables.
func TestManyTables(t *testing.T) {
	c := kafkatest.StartFake(t)
	cfg := config(t)
	cfg.Topics.Partitions = 1
	var tables []*event.Table
	for i := range 300 {
		tables = append(tables, orders("t"+strings.Repeat("x", i%7)+string(rune('a'+i%26))+strings.Repeat("y", i/26)))
	}
	k := prepare(t, cfg, c.ListenAddrs())
	got, err := k.Open(t.Context(), tables, nil)
	if err != nil || len(got) != 300 {
		t.Fatalf("%d topics, %v", len(got), err)
	}
}
