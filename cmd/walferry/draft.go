package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.yaml.in/yaml/v3"

	"github.com/walferry/walferry/config"
	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/replication"
)

// draft asks the servers that the flags name, and returns a configuration of what they have.
func draft(ctx context.Context, flags config.Flags) (string, error) {
	cfg, err := config.Load("", flags, os.LookupEnv)
	if err != nil {
		return "", err
	}
	found, err := replication.Look(ctx, cfg.Postgres)
	if err != nil {
		return "", err
	}
	d := drafted{cfg: cfg, survey: found, url: flags.From.Given}
	d.topics, d.brokers, d.kafka = lookAtBrokers(ctx, cfg)
	return d.text(), nil
}

// askTimeout bounds the questions to brokers, which may want a login that no flag can say.
const askTimeout = 10 * time.Second

// lookAtBrokers returns the topics of the pipeline with their partitions, and how many brokers there are.
func lookAtBrokers(ctx context.Context, cfg config.Config) (map[string]int, int, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	opts, err := broker.Options(cfg.Kafka)
	if err != nil {
		return nil, 0, err
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, 0, fault.New(fault.Internal, "make a Kafka client", err, "")
	}
	defer client.Close()
	if err := broker.Probe(ctx, client, cfg.Kafka); err != nil {
		return nil, 0, err
	}
	metadata, err := kadm.NewClient(client).Metadata(ctx)
	if err != nil {
		return nil, 0, broker.Explain("list the topics", err, cfg.Kafka)
	}
	topics := map[string]int{}
	for name, topic := range metadata.Topics {
		if strings.HasPrefix(name, cfg.Name+".") {
			topics[name] = len(topic.Partitions)
		}
	}
	return topics, len(metadata.Brokers), nil
}

// drafted is what a first configuration is made of.
type drafted struct {
	cfg     config.Config
	survey  replication.Survey
	url     bool // was given, and not taken from PGHOST or PGSERVICE
	topics  map[string]int
	brokers int
	kafka   error // why the brokers could not be asked
}

// text is the file.
func (d drafted) text() string {
	b := new(strings.Builder)
	line := func(format string, args ...any) { fmt.Fprintf(b, format+"\n", args...) }
	line("# walferry configuration. Every key with its default: walferry config check --config FILE prints what holds,")
	line("# walferry doctor --config FILE asks the servers, walferry run --config FILE starts it.")
	line("# yaml-language-server: $schema=https://raw.githubusercontent.com/walferry/walferry/main/docs/schema/configuration.schema.json\n")
	d.key(b, "", "name", d.cfg.Name)
	line("\npostgres:")
	if d.url {
		d.key(b, "  ", "postgres.url", d.cfg.Postgres.URL)
	}
	line("  # %s. PGPASSWORD and a passfile serve as well.", config.Description("postgres.password_file"))
	line("  # password_file: /run/secrets/postgres")
	d.server(line)
	d.tables(line)
	line("\nkafka:")
	line("  # %s", config.Description("kafka.brokers"))
	seeds := make([]string, len(d.cfg.Kafka.Seeds))
	for i, seed := range d.cfg.Kafka.Seeds {
		seeds[i] = inQuotes(seed)
	}
	line("  brokers: [%s]", strings.Join(seeds, ", "))
	d.cluster(line)
	line("\n# %s", config.Description("delivery"))
	line("delivery: %s", d.cfg.Delivery)
	return b.String()
}

// key writes a key with its description above it.
func (d drafted) key(b *strings.Builder, indent, key, value string) {
	name := key[strings.LastIndexByte(key, '.')+1:]
	fmt.Fprintf(b, "%s# %s\n%s%s: %s\n", indent, config.Description(key), indent, name, scalar(value))
}

// server tells what the start needs of the server, and what is there already.
func (d drafted) server(line func(string, ...any)) {
	line("  # Postgres %d, wal_level %s%s", d.survey.Version/10000, d.survey.WALLevel,
		map[bool]string{false: ": ALTER SYSTEM SET wal_level = 'logical', then restart Postgres"}[d.survey.WALLevel == "logical"])
	state := func(there bool) string {
		return map[bool]string{true: "is there already", false: "does not exist: the first start makes it"}[there]
	}
	line("  # The publication %s %s.", event.QuoteName(d.cfg.Postgres.Publication.Name), state(d.survey.Published))
	line("  # The slot %s %s.", d.cfg.Postgres.Slot.Name, state(d.survey.Slot))
}

// tables lists those that can be captured, and the others as comments.
func (d drafted) tables(line func(string, ...any)) {
	line("  # %s", config.Description("postgres.tables"))
	line("  tables:")
	ready := 0
	for _, t := range d.survey.Tables {
		what := ""
		if t.Partitions > 0 {
			what = fmt.Sprintf(" # %d partitions", t.Partitions)
		}
		if t.Flaw == "" {
			ready++
			line("    - %s%s", scalar(t.Name), what)
			continue
		}
		line("    # - %s%s", scalar(t.Name), what)
		line("    #   %s", oneLine(t.Flaw))
		if t.Fix != "" {
			line("    #   %s", oneLine(t.Fix))
		}
	}
	if ready == 0 {
		line("    [] # none can be captured as it is: mend one, and remove its # and these brackets")
	}
}

// cluster tells what the brokers have.
func (d drafted) cluster(line func(string, ...any)) {
	if d.kafka != nil {
		line("  # The brokers could not be asked: %s", oneLine(d.kafka.Error()))
		line("  # tls: {ca_file: /etc/walferry/ca.pem}")
		line("  # sasl: {mechanism: scram-sha-512, username: walferry, password_file: /run/secrets/kafka}")
	} else {
		line("  # Brokers in the cluster: %d.", d.brokers)
	}
	line("  topics:")
	line("    # %s", config.Description("kafka.topics.partitions"))
	line("    partitions: %d", d.cfg.Sink.Topics.Partitions)
	line("    # %s: -1 is the brokers' default", config.Description("kafka.topics.replication_factor"))
	line("    replication_factor: %d", d.cfg.Sink.Topics.ReplicationFactor)
	for _, name := range slices.Sorted(maps.Keys(d.topics)) {
		line("    # There is %s with %d partitions: it is used as it is.", name, d.topics[name])
	}
}

// scalar is a text as YAML has it, on one line: bare where it can be.
func scalar(text string) string {
	bare, err := yaml.Marshal(strings.ReplaceAll(text, "$", "$$"))
	if one := strings.TrimSuffix(string(bare), "\n"); err == nil && !strings.Contains(one, "\n") {
		return one
	}
	return inQuotes(text)
}

// inQuotes is scalar where quotes are always needed, such as for addresses in a list.
func inQuotes(text string) string {
	quoted, err := json.Marshal(strings.ReplaceAll(text, "$", "$$"))
	if err != nil {
		return `""` // a text can always be encoded
	}
	return string(quoted)
}

// oneLine is for comments: a name may hold a line break.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
