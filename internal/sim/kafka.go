package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/internal/cdctest"
)

// Addresses of the servers.
const (
	postgresAddress = "127.0.0.1:5432"
	firstBroker     = 9092
	brokers         = 3
)

// Name is the pipeline's name in every run.
const Name = "shop"

func brokerAddress(i int) string { return fmt.Sprintf("127.0.0.1:%d", firstBroker+i) }

// startKafka starts the brokers. Topics get this many partitions.
func startKafka(n *network, partitions int) (*kfake.Cluster, error) {
	ports := make([]int, brokers)
	for i := range ports {
		ports[i] = firstBroker + i
	}
	return kfake.NewCluster(kfake.Ports(ports...), kfake.DefaultNumPartitions(partitions),
		kfake.ListenFn(func(_, address string) (net.Listener, error) { return n.listen(address) }))
}

// refusal is an answer of the brokers in place of the work, or, for some errors, after it.
type refusal struct {
	keys []kmsg.Key
	errs []*kerr.Error
}

// refusals are errors that brokers give for a while, and which a client must live with.
var refusals = []refusal{
	{[]kmsg.Key{kmsg.Produce}, []*kerr.Error{
		kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut,
		kerr.KafkaStorageError, kerr.UnknownTopicOrPartition, kerr.CoordinatorNotAvailable,
	}},
	{[]kmsg.Key{kmsg.EndTxn}, []*kerr.Error{
		kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.ConcurrentTransactions,
		kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.UnknownServerError, kerr.RequestTimedOut, kerr.InvalidTxnState,
	}},
	{[]kmsg.Key{kmsg.InitProducerID}, []*kerr.Error{
		kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.ConcurrentTransactions,
	}},
	{[]kmsg.Key{kmsg.Metadata, kmsg.ListOffsets, kmsg.Fetch}, []*kerr.Error{
		kerr.NotLeaderForPartition, kerr.LeaderNotAvailable, kerr.RequestTimedOut,
	}},
}

// record is one record of a topic as it lies there.
type record struct {
	cdctest.Record
	producer int64
	epoch    int16
	split    int
}

// saved is a checkpoint, and when it was committed.
type saved struct {
	end      event.LSN
	at       time.Time
	producer int64
	epoch    int16
}

// observer reads what consumers can see, over a connection that never fails.
type observer struct {
	client *kgo.Client
	topics []string
	next   map[string]map[int32]int64
	// open are checkpoints whose marker has not been read yet.
	open, saved []saved
	records     []record
	messages    []string
	markers     int
}

func checkpointTopic() string { return "_walferry." + Name + ".checkpoint" }
func messageTopic() string    { return Name + "._messages" }

func newObserver(l *link) (*observer, error) {
	topics := []string{checkpointTopic(), messageTopic()}
	for _, t := range tables {
		topics = append(topics, cdctest.Topic(Name, t.schema, t.name))
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(brokerAddress(0)), kgo.Dialer(l.dial), kgo.ConsumeTopics(topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), kgo.DisableClientMetrics(), kgo.MetadataMinAge(250*time.Millisecond))
	if err != nil {
		return nil, fmt.Errorf("make a consumer: %w", err)
	}
	return &observer{client: client, topics: topics, next: make(map[string]map[int32]int64)}, nil
}

// partitions returns how many partitions each topic has.
func (o *observer) partitions(ctx context.Context) (map[string]int, error) {
	details, err := kadm.NewClient(o.client).ListTopics(ctx, o.topics...)
	if err != nil {
		return nil, fmt.Errorf("list the topics: %w", err)
	}
	counts := make(map[string]int)
	for _, t := range o.topics {
		counts[t] = len(details[t].Partitions)
	}
	return counts, nil
}

// read reads all that is committed now, and hands the records of tables to note.
func (o *observer) read(ctx context.Context, note func(cdctest.Record)) error {
	ends, err := kadm.NewClient(o.client).ListCommittedOffsets(ctx, o.topics...)
	if err != nil {
		return fmt.Errorf("list the ends: %w", err)
	}
	for !o.reached(ends) {
		fetches := o.client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return fmt.Errorf("read the topics: %w", err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if o.next[r.Topic] == nil {
				o.next[r.Topic] = make(map[int32]int64)
			}
			o.next[r.Topic][r.Partition] = r.Offset + 1
			o.take(r, note)
		})
	}
	return nil
}

func (o *observer) reached(ends kadm.ListedOffsets) bool {
	reached := true
	ends.Each(func(e kadm.ListedOffset) {
		reached = reached && o.next[e.Topic][e.Partition] >= e.Offset
	})
	return reached
}

// take keeps one record.
func (o *observer) take(r *kgo.Record, note func(cdctest.Record)) {
	switch {
	case r.Attrs.IsControl():
		o.markers++
		if r.Topic != checkpointTopic() {
			return
		}
		for _, s := range o.open { // read_committed shows none that was aborted
			if s.producer == r.ProducerID {
				s.at = r.Timestamp
				o.saved = append(o.saved, s)
			}
		}
		o.open = nil
	case r.Topic == checkpointTopic():
		var c struct {
			End    event.LSN `json:"end_lsn"`
			Intent bool      `json:"intent"`
		}
		if json.Unmarshal(r.Value, &c) == nil && !c.Intent {
			o.open = append(o.open, saved{end: c.End, producer: r.ProducerID, epoch: r.ProducerEpoch})
		}
	case r.Topic == messageTopic():
		var m struct {
			Content []byte `json:"content"`
		}
		_ = json.Unmarshal(r.Value, &m) // what cannot be read is missed
		o.messages = append(o.messages, string(m.Content))
		o.keep(r, cdctest.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Pos: header(r)})
	default:
		rec := cdctest.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Pos: header(r)}
		o.keep(r, rec)
		note(rec)
	}
}

func (o *observer) keep(r *kgo.Record, rec cdctest.Record) {
	var v struct {
		Split int `json:"split"`
	}
	if r.Value != nil {
		_ = json.Unmarshal(r.Value, &v) // the validator says what cannot be read
	}
	o.records = append(o.records, record{rec, r.ProducerID, r.ProducerEpoch, v.Split})
}

func header(r *kgo.Record) string {
	for _, h := range r.Headers {
		if h.Key == "pos" {
			return string(h.Value)
		}
	}
	return ""
}
