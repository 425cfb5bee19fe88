package main

import (
	"bufio"
	"context"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walferry/walferry/config"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/sink"
)

// produce writes one record.
func produce(t *testing.T, addr, topic, value string, opts ...kgo.Opt) {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func TestTail(t *testing.T) {
	kafka := kafkatest.StartFake(t, kfake.SeedTopics(1, "shop.public.a", "shop._messages", "shop2.public.a", "_walferry.shop.checkpoint", "other"))
	addr := kafka.ListenAddrs()[0]
	for _, topic := range []string{"shop2.public.a", "_walferry.shop.checkpoint", "other", "shop.public.a", "shop._messages"} {
		produce(t, addr, topic, `{"in": "`+topic+`"}`)
	}
	code, stdout, stderr := walferry(t, "tail", "--to", addr, "--name", "shop", "--from-start", "--count", "2")
	if code != 0 || !strings.Contains(stdout, `{"in":"shop.public.a"}`) || !strings.Contains(stdout, `{"in":"shop._messages"}`) || strings.Count(stdout, "\n") != 2 {
		t.Errorf("of a pipeline: exit code %d, %s%s", code, stdout, stderr)
	}
	code, stdout, stderr = walferry(t, "tail", "--to", addr, "--json", "--from-start", "--count", "1", "other")
	if code != 0 || !strings.Contains(stdout, `"value":{"in":"other"}}`) {
		t.Errorf("of a topic: exit code %d, %s%s", code, stdout, stderr)
	}
	code, _, stderr = walferry(t, "tail", "--to", addr, "none")
	if code != 3 || !strings.Contains(stderr, "topic none: it does not exist [topic_missing]") {
		t.Errorf("of a topic that does not exist: exit code %d, %s", code, stderr)
	}
}

// TestTailOnlyNew: without --from-start old records are not shown, and those of a topic that is made
// meanwhile are, from its first on.
func TestTailOnlyNew(t *testing.T) {
	kafka := kafkatest.StartFake(t, kfake.SeedTopics(1, "shop.public.a"), kfake.AllowAutoTopicCreation())
	addr := kafka.ListenAddrs()[0]
	produce(t, addr, "shop.public.a", `"old"`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	done := make(chan int, 1)
	go func() { // ends with ctx, below
		code := run(ctx, []string{"tail", "--to", addr, "--name", "shop"}, in, io.Discard)
		_ = in.Close()
		done <- code
	}()
	lines := make(chan string)
	go func() { // ends when the command closes its side
		defer close(lines)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			lines <- scan.Text()
		}
	}()
	// Nothing says when the consumer has found its place, so we write until it shows something.
	var first string
	for first == "" {
		produce(t, addr, "shop.public.a", `"new"`)
		select {
		case first = <-lines:
		default:
		}
	}
	if !strings.HasSuffix(first, `shop.public.a  "new"`) {
		t.Errorf("the first line is %q", first)
	}
	produce(t, addr, "shop.public.later", `"first"`, kgo.AllowAutoTopicCreation())
	line := first
	for line != "" && !strings.HasSuffix(line, `shop.public.later  "first"`) {
		line = <-lines
	}
	if line == "" {
		t.Error("the record of the later topic is not shown")
	}
	cancel()
	for range lines { // until the command has ended
	}
	if code := <-done; code != 0 {
		t.Errorf("exit code %d after a stop", code)
	}
}

// TestTailReadsCommitted: records of a transaction that was aborted are not shown.
func TestTailReadsCommitted(t *testing.T) {
	kafka := kafkatest.StartFake(t, kfake.SeedTopics(1, "shop.public.a"))
	addr := kafka.ListenAddrs()[0]
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.TransactionalID("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for _, tx := range []struct {
		value  string
		commit kgo.TransactionEndTry
	}{{`"aborted"`, kgo.TryAbort}, {`"committed"`, kgo.TryCommit}} {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "shop.public.a", Value: []byte(tx.value)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(t.Context(), tx.commit); err != nil {
			t.Fatal(err)
		}
	}
	code, stdout, stderr := walferry(t, "tail", "--to", addr, "--name", "shop", "--from-start", "--count", "1")
	if code != 0 || !strings.Contains(stdout, `"committed"`) || strings.Contains(stdout, "aborted") {
		t.Errorf("exit code %d, %s%s", code, stdout, stderr)
	}
}

func TestTailCannotConnect(t *testing.T) {
	kafka := kafkatest.StartFake(t)
	addr := kafka.ListenAddrs()[0]
	kafka.Close()
	if code, _, stderr := walferry(t, "tail", "--to", addr); code != 3 || !strings.Contains(stderr, "[kafka_unavailable]") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

func TestTopicPatterns(t *testing.T) {
	for template, topics := range map[string]map[string]bool{
		"{name}.{schema}.{table}": {"shop.public.orders": true, "shop.a.b.c": true, "shop2.public.orders": false, "x.shop.public.orders": false, "shop.orders": false, "shop._messages": true, "shopX_messages": false},
		"cdc.{table}":             {"cdc.orders": true, "cdcXorders": false, "shop._messages": true, "shop.public.orders": false},
	} {
		cfg := config.Config{Name: "shop", Sink: sink.Config{Topics: sink.TopicConfig{Name: template}}}
		for topic, want := range topics {
			if got := regexp.MustCompile(strings.Join(topicPatterns(cfg), "|")).MatchString(topic); got != want {
				t.Errorf("%s: %s matches: %v, want %v", template, topic, got, want)
			}
		}
	}
}
