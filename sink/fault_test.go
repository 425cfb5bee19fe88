package sink_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/internal/kafkaserver"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/sink"
	"github.com/walferry/walferry/sink/encode"
)

const canary = "canary-row-data"

// TestFault30_OversizeStops writes a record that its topic does not take between two that it does.
// The first one arrives, the third one is never handed over, and the error says it all but the row.
func TestFault30_OversizeStops(t *testing.T) {
	for name, seeds := range map[string]func() []string{
		"kfake": func() []string { return kafkatest.StartFake(t).ListenAddrs() },
		"kafka": func() []string { return []string{kafkatest.Shared(t).Addr()} },
	} {
		t.Run(name, func(t *testing.T) {
			cfg, addrs, table := config(t), seeds(), orders("orders")
			k := open(t, cfg, addrs, table)
			s, before, large, after := newStream(), new(ack), new(ack), new(ack)
			write(t, k, before, s.insert(table, 1, "a"))
			err := k.Write(t.Context(), s.insert(table, 2, strings.Repeat(canary, 100_000)), large)
			f := fault.Of(err)
			if f == nil || f.Code != fault.RecordTooLarge || f.Table != "public.orders" || f.Topic != cfg.Pipeline+".public.orders" || f.Pos.Seq != 2 {
				t.Fatalf("got %v", err)
			}
			for _, says := range []string{"key hash ", "1048588", "kafka.oversize", "max.message.bytes"} {
				if !strings.Contains(f.Error()+f.Hint, says) {
					t.Errorf("%v\n%s\ndoes not say %q", f, f.Hint, says)
				}
			}
			if strings.Contains(f.Error()+f.Hint, canary) {
				t.Error("row data in the error")
			}
			if !errors.Is(waitFailed(t, k), f) || !errors.Is(k.Write(t.Context(), s.insert(table, 3, "c"), after), f) || !errors.Is(k.Drain(t.Context()), f) {
				t.Error("the failure is not kept")
			}
			after.want(t, 0, 0)
			large.want(t, 0, 0)
			if got := read(t, addrs, cfg.Pipeline+".public.orders"); len(got) > 1 || len(got) == 1 && header(got[0], "pos") != "0000000000000100:0000000001:0" {
				t.Errorf("got %v", got)
			}
		})
	}
}

// TestLargestRecord writes records of rising size up to the limit: what passes the check of the
// sink must pass those of client and broker.
func TestLargestRecord(t *testing.T) {
	for name, seeds := range map[string]func() []string{
		"kfake": func() []string { return kafkatest.StartFake(t).ListenAddrs() },
		"kafka": func() []string { return []string{kafkatest.Shared(t).Addr()} },
	} {
		t.Run(name, func(t *testing.T) {
			cfg, table := config(t), orders("orders")
			cfg.Topics.Config = map[string]string{"max.message.bytes": "2000"}
			k := open(t, cfg, seeds(), table)
			s, a := newStream(), new(ack)
			for size := 1000; ; size++ {
				err := k.Write(t.Context(), s.insert(table, 1, strings.Repeat("x", size)), a)
				if err == nil {
					drain(t, k)
					continue
				}
				if !fault.Is(err, fault.RecordTooLarge) || !strings.Contains(err.Error(), "the record takes 2001 bytes") {
					t.Fatalf("at a note of %d bytes: %v", size, err)
				}
				return
			}
		})
	}
}

// TestFault30_OversizeToDeadLetters goes on behind a record that is too large.
func TestFault30_OversizeToDeadLetters(t *testing.T) {
	for name, seeds := range map[string]func() []string{
		"kfake": func() []string { return kafkatest.StartFake(t).ListenAddrs() },
		"kafka": func() []string { return []string{kafkatest.Shared(t).Addr()} },
	} {
		t.Run(name, func(t *testing.T) {
			cfg, addrs, table := config(t), seeds(), orders("orders")
			cfg.DeadLetterTopic = cfg.Pipeline + ".dead"
			k := open(t, cfg, addrs, table)
			s, a := newStream(), new(ack)
			note := strings.Repeat("x", 2<<20)
			write(t, k, a, s.insert(table, 1, "a"), s.insert(table, 1, note), s.insert(table, 1, "c"))
			drain(t, k)
			a.want(t, 3, 3)
			if got := positions(read(t, addrs, cfg.Pipeline+".public.orders")); got != "1 3" {
				t.Errorf("the topic holds %s", got)
			}
			dead := read(t, addrs, cfg.DeadLetterTopic)
			if len(dead) != 1 || !strings.Contains(string(dead[0].Value), note) || string(dead[0].Key) != `{"id":1}` {
				t.Fatalf("%d dead letters", len(dead))
			}
			for name, want := range map[string]string{
				"pos": "0000000000000100:0000000002:0", "error": "record_too_large",
				"topic": cfg.Pipeline + ".public.orders", "table": "public.orders",
			} {
				if got := header(dead[0], name); got != want {
					t.Errorf("header %s is %q", name, got)
				}
			}
		})
	}
}

// positions lists the sequences of records.
func positions(records []*kgo.Record) string {
	var all []string
	for _, r := range records {
		pos, _, err := event.ParseRecordPosition(header(r, "pos"))
		if err != nil {
			all = append(all, err.Error())
		}
		all = append(all, fmt.Sprint(pos.Seq))
	}
	return strings.Join(all, " ")
}

// TestDeadLetterTooLarge stops where not even the dead-letter topic takes a record.
func TestDeadLetterTooLarge(t *testing.T) {
	c := kafkatest.StartFake(t)
	if err := c.CreateTopic("dead", 1, nil); err != nil {
		t.Fatal(err)
	}
	cfg, table := config(t), orders("orders")
	cfg.DeadLetterTopic = "dead"
	k := open(t, cfg, c.ListenAddrs(), table)
	s, a := newStream(), new(ack)
	err := k.Write(t.Context(), s.insert(table, 1, strings.Repeat("x", 2<<20)), a)
	if f := fault.Of(err); f == nil || f.Code != fault.RecordTooLarge || f.Topic != "dead" || !strings.Contains(f.Hint, "dead-letter topic") {
		t.Fatalf("got %v", err)
	}
	a.want(t, 0, 0)
}

// lower sets a topic's limit below what Open read.
func lower(t *testing.T, c *kfake.Cluster, topic, limit string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	done, err := kadm.NewClient(cl).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &limit}}, topic)
	if err != nil || done[0].Err != nil {
		t.Fatal(err, done)
	}
}

// TestBrokerRefusesBatch lowers the limit in mid-run. The brokers then refuse a whole batch for one
// record in it: with dead letters only that one is diverted and the others keep their order; without,
// the sink fails and acknowledges nothing of the batch.
func TestBrokerRefusesBatch(t *testing.T) {
	for _, deadLetters := range []bool{true, false} {
		t.Run(fmt.Sprintf("dead letters %t", deadLetters), func(t *testing.T) {
			c := kafkatest.StartFake(t)
			cfg, table := config(t), logTable("log")
			if deadLetters {
				cfg.DeadLetterTopic = "dead"
			}
			k := open(t, cfg, c.ListenAddrs(), table)
			topic := cfg.Pipeline + ".public.log"
			s, a := newStream(), new(ack)
			write(t, k, a, s.insert(table, 1, "a"))
			drain(t, k)
			lower(t, c, topic, "1000")
			resume := make(chan struct{}) // holds the next request back, so that what follows is one batch
			c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
				c.SleepControl(func() { <-resume })
				return nil, nil, false
			})
			write(t, k, a, s.insert(table, 2, "b"), s.insert(table, 3, "c"), s.insert(table, 4, strings.Repeat("x", 2000)), s.insert(table, 5, "e"))
			close(resume)
			if !deadLetters {
				err := waitFailed(t, k)
				if f := fault.Of(err); f == nil || f.Code != fault.RecordTooLarge || f.Table != "public.log" || f.Topic != topic {
					t.Errorf("got %v", err)
				}
				return
			}
			drain(t, k)
			write(t, k, a, s.insert(table, 6, "f"))
			drain(t, k)
			a.want(t, 6, 6)
			if got := positions(read(t, c.ListenAddrs(), topic)); got != "1 2 3 5 6" {
				t.Errorf("the topic holds %s", got)
			}
			dead := read(t, c.ListenAddrs(), "dead")
			if positions(dead) != "4" || header(dead[0], "error") != "record_too_large" {
				t.Errorf("dead letters: %s", positions(dead))
			}
		})
	}
}

// TestFailures has the brokers refuse records for good.
func TestFailures(t *testing.T) {
	for _, tc := range []struct {
		err  *kerr.Error
		code fault.Code
	}{
		{kerr.TopicAuthorizationFailed, fault.KafkaACL},
		{kerr.ClusterAuthorizationFailed, fault.KafkaACL},
		{kerr.InvalidRecord, fault.RecordRefused},
		{kerr.InvalidTimestamp, fault.RecordRefused},
		{kerr.OutOfOrderSequenceNumber, fault.RecordRefused},
	} {
		t.Run(tc.err.Message, func(t *testing.T) {
			c := kafkatest.StartFake(t)
			cfg, table := config(t), orders("orders")
			k := open(t, cfg, c.ListenAddrs(), table)
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: tc.err, Count: -1})
			s, a := newStream(), new(ack)
			write(t, k, a, s.insert(table, 1, canary))
			err := waitFailed(t, k)
			f := fault.Of(err)
			if f == nil || f.Code != tc.code || f.Table != "public.orders" || f.Topic == "" || f.Pos.Seq != 1 || f.Hint == "" || !errors.Is(err, tc.err) {
				t.Fatalf("got %v", err)
			}
			if strings.Contains(f.Error()+f.Hint, canary) {
				t.Error("row data in the error")
			}
			a.want(t, 1, 0)
		})
	}
}

// deleteTopic deletes a topic and waits until it takes no records any more: a broker answers before.
func deleteTopic(t *testing.T, admin *kadm.Client, topic string) {
	t.Helper()
	if _, err := admin.DeleteTopic(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		found, err := admin.ListTopics(ctx, topic)
		if err != nil {
			t.Fatal(err)
		}
		if errors.Is(found[topic].Err, kerr.UnknownTopicOrPartition) {
			return
		}
	}
}

// TestFault43_TopicDeleted deletes a topic under a running sink.
func TestFault43_TopicDeleted(t *testing.T) {
	for _, name := range []string{"kfake", "kafka"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var seeds []string
			if name == "kfake" {
				seeds = kafkatest.StartFake(t).ListenAddrs()
			} else {
				seeds = []string{kafkatest.Shared(t).Addr()}
			}
			cfg, table := config(t), orders("orders")
			k := open(t, cfg, seeds, table)
			s, a := newStream(), new(ack)
			write(t, k, a, s.insert(table, 1, "a"))
			drain(t, k)
			cl, err := kgo.NewClient(kgo.SeedBrokers(seeds...))
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			deleteTopic(t, kadm.NewClient(cl), cfg.Pipeline+".public.orders")
			start := time.Now()
			write(t, k, a, s.insert(table, 1, "b"))
			if err := waitFailed(t, k); !fault.Is(err, fault.TopicMissing) {
				t.Errorf("got %v", err)
			}
			t.Logf("after %s", time.Since(start))
			a.want(t, 2, 1)
		})
	}
}

// TestFault43_TopicGrows adds partitions under a running sink: no key may move.
func TestFault43_TopicGrows(t *testing.T) {
	c := kafkatest.StartFake(t)
	cfg, table := config(t), orders("orders")
	cfg.Topics.Partitions = 2
	var log logs
	k, err := sink.New(cfg, broker.Config{Seeds: c.ListenAddrs()}, encode.DefaultOptions(), slog.New(slog.NewTextHandler(&log, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	if _, err := k.Open(t.Context(), []*event.Table{table}, nil); err != nil {
		t.Fatal(err)
	}
	s, a := newStream(), new(ack)
	topic := cfg.Pipeline + ".public.orders"
	for id := range 50 {
		write(t, k, a, s.insert(table, id, "a"))
	}
	drain(t, k)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreatePartitions(t.Context(), 5, topic); err != nil {
		t.Fatal(err)
	}
	// A leader that moves has the client ask for the topic's partitions again.
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition, Count: 1})
	for id := range 50 {
		write(t, k, a, s.update(table, id, id, "b"))
	}
	drain(t, k)
	write(t, k, a, s.insert(table, 1000, "c"))
	drain(t, k)
	at := make(map[string]int32)
	for _, r := range read(t, c.ListenAddrs(), topic) {
		if p, ok := at[string(r.Key)]; ok && p != r.Partition {
			t.Fatalf("key %s is in partitions %d and %d", r.Key, p, r.Partition)
		}
		at[string(r.Key)] = r.Partition
	}
	if k.Partitions()[topic] != 2 {
		t.Errorf("partitions %v", k.Partitions())
	}
	if n := strings.Count(log.String(), "number of partitions has changed"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}
}

// TestFault41_NotEnoughReplicas waits for the replicas and delivers once.
func TestFault41_NotEnoughReplicas(t *testing.T) {
	c := kafkatest.StartFake(t)
	cfg, table := config(t), orders("orders")
	k := open(t, cfg, c.ListenAddrs(), table)
	h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: 5})
	s, a := newStream(), new(ack)
	write(t, k, a, s.insert(table, 1, "a"), s.insert(table, 1, "b"))
	drain(t, k)
	a.want(t, 2, 2)
	if got := positions(read(t, c.ListenAddrs(), cfg.Pipeline+".public.orders")); got != "1 2" {
		t.Errorf("the topic holds %s", got)
	}
	if h.Hits() != 5 {
		t.Errorf("refused %d times", h.Hits())
	}
}

// TestFault38_BrokerRestart kills a real broker under load and starts it again: nothing is lost,
// repeated or moved, and the log tells of it once when it begins and once when it is over.
func TestFault38_BrokerRestart(t *testing.T) {
	t.Parallel()
	b := kafkatest.Start(t, kafkaserver.Options{})
	cfg, table := config(t), logTable("log")
	var log logs
	reg := prometheus.NewRegistry()
	k, err := sink.New(cfg, broker.Config{Seeds: []string{b.Addr()}}, encode.DefaultOptions(), slog.New(slog.NewTextHandler(&log, nil)), sink.NewMetrics(reg))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	if _, err := k.Open(t.Context(), []*event.Table{table}, nil); err != nil {
		t.Fatal(err)
	}
	s, a := newStream(), new(ack)
	for range 3000 {
		write(t, k, a, s.insert(table, 1, "x"))
		if s.seq == 1500 {
			b.Kill()
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := k.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("drained without a broker: %v", err)
	}
	b.Restart()
	drain(t, k)
	a.want(t, 3000, 3000)
	last := ""
	records := read(t, []string{b.Addr()}, cfg.Pipeline+".public.log")
	for _, r := range records {
		if header(r, "pos") <= last {
			t.Fatalf("%s after %s", header(r, "pos"), last)
		}
		last = header(r, "pos")
	}
	if len(records) != 3000 {
		t.Errorf("%d records", len(records))
	}
	if strings.Count(log.String(), "cannot be used") != 1 || strings.Count(log.String(), "can be used again") != 1 {
		t.Errorf("logged:\n%s", log.String())
	}
	got := gather(t, reg)
	if got["walferry_records_produced_total"] != 3000 || got["walferry_inflight_bytes"] != 0 || got["walferry_kafka_connects_total"] < 3 {
		t.Errorf("metrics %v", got)
	}
}

// gather sums each metric over its labels; of a histogram it takes the count.
func gather(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sums := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			sums[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sums
}
