package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walferry/walferry/config"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
)

// tailOptions are the flags of tail beside those of every command.
type tailOptions struct {
	fromStart, json, key bool
	count                int
}

func newTailCommand() *cobra.Command {
	var o tailOptions
	cmd := &cobra.Command{
		Use:   "tail [TOPIC…]",
		Short: "Print events as a consumer sees them",
		Long: "Prints the records of topics as they arrive, as a read_committed consumer gets them. Without\n" +
			"topics it takes all of the pipeline's, also those that come later. It ends on SIGINT, SIGTERM\n" +
			"or after --count records, and changes nothing at the brokers.",
		Example: "  walferry tail --config walferry.yaml\n" +
			"  walferry tail --to localhost:9092 --name shop --from-start --count 10\n" +
			"  walferry tail --config walferry.yaml --json shop.public.orders | jq .value.after",
	}
	flags := config.AddFlags(cmd.Flags())
	cmd.Flags().BoolVar(&o.fromStart, "from-start", false, "begin with the oldest records instead of new ones")
	cmd.Flags().BoolVar(&o.json, "json", false, "print one JSON object a line, for programs")
	cmd.Flags().BoolVar(&o.key, "key", false, "show the records' keys")
	cmd.Flags().IntVar(&o.count, "count", 0, "end after `N` records")
	cmd.RunE = func(cmd *cobra.Command, topics []string) error {
		if cmd.Flags().Changed("count") && o.count < 1 {
			return usageError(cmd, errors.New("--count: want a number from 1 on"))
		}
		cfg, err := config.LoadKafka(flags.Config.Text, *flags, os.LookupEnv)
		if err != nil {
			return err
		}
		p := newPrinter(cmd.OutOrStdout())
		p.json, p.key = o.json, o.key
		log := newLogger(config.Log{Level: slog.LevelWarn}, cmd.ErrOrStderr())
		return withSecrets(cmd.Context(), cfg, log, nil, func(ctx context.Context) error {
			return tail(ctx, cfg, topics, o, p, cmd.ErrOrStderr())
		})
	}
	return cmd
}

// tail prints records until ctx ends or enough were printed, and returns nil then.
func tail(ctx context.Context, cfg config.Config, topics []string, o tailOptions, p *printer, stderr io.Writer) error {
	opts, err := broker.Options(cfg.Kafka)
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(append(opts, consumerOptions(cfg, topics, o.fromStart)...)...)
	if err != nil {
		return fault.New(fault.Internal, "make a Kafka client", err, "")
	}
	defer client.Close()
	if err := tailStart(ctx, client, cfg, topics, stderr); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop before there was anything to print
		}
		return err
	}
	for left := o.count; ; {
		fetches := client.PollFetches(ctx)
		for _, failed := range fetches.Errors() {
			if ctx.Err() == nil {
				return errors.Join(broker.Explain("read topic "+failed.Topic, failed.Err, cfg.Kafka), p.flush())
			}
		}
		for records := fetches.RecordIter(); !records.Done(); {
			p.show(records.Next(), "")
			if left--; left == 0 {
				return p.flush()
			}
		}
		if err := p.flush(); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// tailStart checks the way to the brokers, and that the topics exist where they were named.
func tailStart(ctx context.Context, client *kgo.Client, cfg config.Config, topics []string, stderr io.Writer) error {
	if err := broker.Probe(ctx, client, cfg.Kafka); err != nil {
		return err
	}
	details, err := kadm.NewClient(client).ListTopics(ctx, topics...)
	if err != nil {
		return broker.Explain("list the topics", err, cfg.Kafka)
	}
	if len(topics) == 0 {
		if len(details.Names()) == 0 || !anyMatch(topicPatterns(cfg), details.Names()) {
			fmt.Fprintf(stderr, "walferry: there are no topics of pipeline %s yet; waiting for them\n", cfg.Name)
		}
		return nil
	}
	for _, topic := range topics {
		if err := details[topic].Err; err != nil {
			f := fault.Of(broker.Explain("read the topic", err, cfg.Kafka))
			if !details.Has(topic) {
				f = fault.New(fault.TopicMissing, "read the topic", errors.New("it does not exist"), "walferry tail without a topic shows all of the pipeline's.")
			}
			f.Topic = topic
			return f
		}
	}
	return nil
}

func anyMatch(patterns, names []string) bool {
	all := regexp.MustCompile(strings.Join(patterns, "|"))
	for _, name := range names {
		if all.MatchString(name) {
			return true
		}
	}
	return false
}

// discoverEvery bounds how long a topic that is made while we read stays unseen.
const discoverEvery = time.Second

// consumerOptions are those of a consumer of the topics, or of all of the pipeline's.
func consumerOptions(cfg config.Config, topics []string, fromStart bool) []kgo.Opt {
	// By time, not at the end: a topic that is made later is read from its first record on.
	offset := kgo.NewOffset().AfterMilli(time.Now().UnixMilli())
	if fromStart {
		offset = kgo.NewOffset().AtStart()
	}
	opts := []kgo.Opt{
		kgo.ConsumeResetOffset(offset),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	}
	if len(topics) > 0 {
		return append(opts, kgo.ConsumeTopics(topics...))
	}
	return append(opts,
		kgo.ConsumeRegex(),
		kgo.ConsumeTopics(topicPatterns(cfg)...),
		kgo.ConsumeExcludeTopics(`^_walferry\.`),
		kgo.MetadataMinAge(discoverEvery/2),
		kgo.MetadataMaxAge(discoverEvery),
		kgo.FetchMaxWait(discoverEvery), // a topic waits for the fetch that is under way without it
	)
}

// topicPatterns are the regular expressions of the topics that a pipeline writes: its template with
// anything for schema and table, and its logical messages.
func topicPatterns(cfg config.Config) []string {
	anything := "[A-Za-z0-9._-]+"
	template := regexp.QuoteMeta(strings.ReplaceAll(cfg.Sink.Topics.Name, "{name}", cfg.Name))
	table := strings.NewReplacer(`\{schema\}`, anything, `\{table\}`, anything).Replace(template)
	return []string{"^" + table + "$", "^" + regexp.QuoteMeta(cfg.Name+"._messages") + "$"}
}
