package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/sink/encode"
)

const (
	// windowBytes bounds what is on its way to the brokers, which bounds the memory of an outage.
	windowBytes = 32 << 20
	// unknownTopicRetries is how often a topic may be reported as unknown before its records fail.
	// A broker that has just started reports so for a moment, a deleted topic for ever: this is 10 s.
	unknownTopicRetries = 40
	// metadataMinAge is how long the client answers from what it knows of topics and leaders. Its own
	// default would have a start wait 5 s for a topic that was just created, and most of what a restart
	// of a broker takes is waiting for the next look.
	metadataMinAge = 250 * time.Millisecond
	// closeWithin bounds how long Close waits for the promises of records that are given up. With abortWithin it is
	// less than a pipeline waits for the whole.
	closeWithin = 500 * time.Millisecond
)

// errStopped ends a wait because the sink has failed or was closed.
var errStopped = errors.New("the sink has stopped")

// Kafka writes events to Kafka topics, at least once. Make it with New and Open it; Open may be
// called again after it failed. One goroutine calls Write; the other methods may be called from
// anywhere.
type Kafka struct {
	cfg      Config
	broker   broker.Config
	encoding encode.Options
	options  []kgo.Opt
	log      *slog.Logger
	metrics  *Metrics

	client  *kgo.Client
	admin   *kadm.Client
	window  *window
	records sync.Pool    // of *record
	letters *letters     // nil without a dead-letter topic
	txn     *transaction // nil at least once

	// What follows is Write's own.
	encoder        encode.Encoder
	routes         map[*event.Table]*route
	keys           map[string][]string // the columns of each table's key, by its name
	messageHeaders []encode.Header
	batch          []*record // the records of one event
	hash           kgo.TopicPartitioner
	hashed         kgo.Record // the argument of hash

	mu      sync.RWMutex // guards topics, counts and earlier
	topics  map[string]*topic
	counts  map[string]int32 // partitions of topics; another map each time, because others keep it
	earlier map[string]int32 // as counts, of an earlier run

	describeOnce sync.Once
	closeOnce    sync.Once
	failOnce     sync.Once
	failed       chan struct{} // closed after err is set
	err          error
}

// New prepares a sink. It does no I/O and starts nothing; an error is one of the configuration. A
// nil m means that nothing is measured.
func New(cfg Config, b broker.Config, enc encode.Options, log *slog.Logger, m *Metrics) (*Kafka, error) {
	common, err := broker.Options(b)
	if err != nil {
		return nil, err
	}
	codec, err := codec(cfg.Compression)
	if err != nil {
		return nil, err
	}
	if m == nil {
		m = NewMetrics(nil)
	}
	k := &Kafka{
		cfg: cfg, broker: b, encoding: enc, log: log, metrics: m,
		window:         &window{limit: windowBytes, gauge: m.inflight.Store},
		messageHeaders: encode.MessageHeaders(enc),
		routes:         make(map[*event.Table]*route),
		keys:           make(map[string][]string),
		topics:         make(map[string]*topic),
		hash:           kgo.StickyKeyPartitioner(nil).ForTopic(""),
		failed:         make(chan struct{}),
	}
	k.records.New = k.newRecord
	k.options = append(common,
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(codec),
		kgo.ProducerBatchMaxBytesFn(k.batchLimit),
		kgo.RecordPartitioner(preset{grown: k.grown}),
		kgo.MaxBufferedRecords(math.MaxInt32), // the window bounds them
		kgo.UnknownTopicRetries(unknownTopicRetries),
		kgo.MetadataMinAge(metadataMinAge),
		kgo.StopProducerOnDataLossDetected(),
		kgo.WithHooks(newHooks(b, log, m)),
	)
	return k, nil
}

func codec(name string) (kgo.CompressionCodec, error) {
	switch name {
	case "", "none":
		return kgo.NoCompression(), nil
	case "gzip":
		return kgo.GzipCompression(), nil
	case "snappy":
		return kgo.SnappyCompression(), nil
	case "lz4":
		return kgo.Lz4Compression(), nil
	case "zstd":
		return kgo.ZstdCompression(), nil
	default:
		return kgo.NoCompression(), fault.New(fault.ConfigInvalid, "configure the Kafka producer",
			fmt.Errorf("unknown compression %q", name), "kafka.compression is none, gzip, snappy, lz4 or zstd.")
	}
}

// Open connects, creates or checks the topics of the tables, and returns the partition counts of all
// topics by name. Want are the counts of an earlier run; a difference is a fault.TopicPartitions.
// Until the first Write it may be called again: after a retryable error, which leaves nothing open,
// and also after it succeeded.
func (k *Kafka) Open(ctx context.Context, tables []*event.Table, want map[string]int32) (map[string]int32, error) {
	uses, err := k.uses(tables)
	if err != nil {
		return nil, err
	}
	k.disconnect()
	if err := k.connect(); err != nil {
		return nil, err
	}
	if err := k.prepare(ctx, uses, tables, want); err != nil {
		k.disconnect()
		return nil, err
	}
	return k.Partitions(), nil
}

// connect makes the client, which connects when it is first used.
func (k *Kafka) connect(more ...kgo.Opt) error {
	client, err := kgo.NewClient(append(slices.Clip(k.options), more...)...)
	if err != nil {
		return fault.New(fault.ConfigInvalid, "configure the Kafka producer", err, "Check the kafka section of the configuration.")
	}
	k.client, k.admin = client, kadm.NewClient(client)
	if k.cfg.DeadLetterTopic != "" {
		k.letters = newLetters(k)
		go k.letters.run() // disconnect ends it
	}
	return nil
}

// disconnect undoes connect. Records that are on their way are given up.
func (k *Kafka) disconnect() {
	if k.client == nil {
		return
	}
	k.client.Close()
	if k.letters != nil {
		k.letters.close()
	}
	if k.txn != nil {
		k.txn.drop(k)
	}
	k.client, k.admin = nil, nil // promises still read letters
}

// prepare is what Open does once there is a client.
func (k *Kafka) prepare(ctx context.Context, uses []use, tables []*event.Table, want map[string]int32) error {
	if err := broker.Probe(ctx, k.client, k.broker); err != nil {
		return err
	}
	if err := k.ensure(ctx, uses); err != nil {
		return err
	}
	for _, t := range tables {
		if _, err := k.route(ctx, t); err != nil {
			return err
		}
	}
	return k.compare(want)
}

// Drain blocks until every record is acknowledged, one has failed, or ctx ends.
func (k *Kafka) Drain(ctx context.Context) error {
	err := k.window.empty(ctx, k.failed)
	if failure := k.Err(); failure != nil {
		return failure
	}
	return err
}

// Failed is closed once a record cannot be delivered; Err then says why.
func (k *Kafka) Failed() <-chan struct{} { return k.failed }

// Err returns what closed Failed, nil before.
func (k *Kafka) Err() error {
	select {
	case <-k.failed:
		return k.err
	default:
		return nil
	}
}

// fail keeps the first failure and returns it.
func (k *Kafka) fail(err error) error {
	k.metrics.failures.WithLabelValues(string(fault.CodeOf(err))).Inc()
	k.failOnce.Do(func() {
		k.err = err
		close(k.failed)
	})
	return k.err
}

// Partitions returns the partition counts of all topics that are known by now. The map stays as it is, and must
// be left so.
func (k *Kafka) Partitions() map[string]int32 {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.counts
}

// Close releases the connections. Records that are not acknowledged are given up. It may be called
// more than once, and when Open failed, but not while Write runs.
func (k *Kafka) Close() {
	k.closeOnce.Do(func() {
		k.disconnect()
		ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
		defer cancel()
		if err := k.window.settled(ctx, nil); err != nil {
			k.log.Warn("the Kafka client did not give up its records in time", "within", closeWithin)
		}
	})
}
