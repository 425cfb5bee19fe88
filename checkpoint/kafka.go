package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
)

const (
	// transactionTimeout is how long a transaction of a dead instance may stay open at most.
	transactionTimeout = 30 * time.Second
	// saveTimeout is shorter, so that this side gives a save up before the brokers abort it: an
	// abort by the brokers would look like being shut out by another instance.
	saveTimeout = 20 * time.Second
	// readTimeout bounds Load and Acquire. Being shut in behind a predecessor's open transaction
	// is part of it.
	readTimeout = 40 * time.Second
)

// KafkaStore keeps the checkpoint in a compacted topic of one partition, one record for each save.
//
// Each save is a Kafka transaction under a transactional id that Acquire claims. The brokers let
// one claimant write at a time, so an instance that lost its claim without noticing can never put
// an older checkpoint after a newer one, and readers never see a save that was not completed.
//
// The methods may be called from any goroutine; one at a time is served.
type KafkaStore struct {
	pipeline string
	config   broker.Config
	log      *slog.Logger

	// mu guards what follows.
	mu sync.Mutex
	// client is nil before the first call and after a save of which the outcome is not known:
	// nothing more may be written through that client's producer.
	client  *kgo.Client
	claimed bool // client holds the transactional id
	closed  bool
}

// NewKafkaStore returns the store of a pipeline. It connects at the first call of a method.
func NewKafkaStore(pipeline string, config broker.Config, log *slog.Logger) *KafkaStore {
	return &KafkaStore{pipeline: pipeline, config: config, log: log}
}

// Topic returns the name of the topic that holds the checkpoint of a pipeline.
func Topic(pipeline string) string { return "_walferry." + pipeline + ".checkpoint" }

// TransactionalID returns the transactional id that the writers of a pipeline claim.
func TransactionalID(pipeline string) string { return "walferry." + pipeline }

// Load reads the newest record without claiming anything; nil where there is none. It creates the
// topic where it does not exist.
func (s *KafkaStore) Load(ctx context.Context) (*Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	return s.newest(ctx)
}

// Acquire shuts out every other writer of this pipeline, ends what they left open, and reads the
// newest record. It must be called again after a Save that failed.
func (s *KafkaStore) Acquire(ctx context.Context) (*Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if s.claimed {
		s.discard() // a claim that was used before is claimed anew by a new producer
	}
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	// The claim comes first and the reading second: the record that is read is the last that any
	// other writer could have brought in.
	if _, _, err := s.client.ProducerID(ctx); err != nil {
		s.discard()
		return nil, s.explain("claim the checkpoint", err)
	}
	s.claimed = true
	return s.newest(ctx)
}

// Save writes a record and returns when the brokers have it on record. After an error it is not
// known whether they do; go on with Acquire, which tells. A fault.Fenced error means that another
// instance has acquired. When ctx ends Save returns early, which is such an error as well.
func (s *KafkaStore) Save(ctx context.Context, r Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.claimed {
		return fault.New(fault.Internal, "save the checkpoint", errors.New("not acquired"), "")
	}
	value, err := encode(s.pipeline, r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	if err := s.commit(ctx, value); err != nil {
		s.discard()
		return s.explainSave(err)
	}
	return nil
}

// commit writes one value in one transaction. After an error the producer must not be used again.
func (s *KafkaStore) commit(ctx context.Context, value []byte) error {
	if err := s.client.BeginTransaction(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	record := &kgo.Record{Topic: Topic(s.pipeline), Key: []byte(s.pipeline), Value: value}
	if err := s.client.ProduceSync(ctx, record).FirstErr(); err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	if err := s.client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// Close releases the connections. The claim needs no release: the next Acquire takes it.
func (s *KafkaStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.discard()
	return nil
}

// connect makes a client where there is none, and makes sure of the topic.
func (s *KafkaStore) connect(ctx context.Context) error {
	if s.closed {
		return fault.New(fault.Internal, "open the checkpoint topic", errors.New("the store is closed"), "")
	}
	if s.client != nil {
		return nil
	}
	client, err := s.newClient()
	if err != nil {
		return err
	}
	if err := broker.Probe(ctx, client, s.config); err != nil {
		client.Close()
		return err
	}
	if err := s.ensureTopic(ctx, client); err != nil {
		client.Close()
		return err
	}
	s.client = client
	return nil
}

func (s *KafkaStore) newClient() (*kgo.Client, error) {
	opts, err := broker.Options(s.config)
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(append(opts,
		kgo.TransactionalID(TransactionalID(s.pipeline)),
		kgo.TransactionTimeout(transactionTimeout),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), // partition 0
	)...)
	if err != nil {
		return nil, fault.New(fault.Internal, "make a Kafka client", err, "")
	}
	return client, nil
}

// discard ends the client: records that are still on their way are given up.
func (s *KafkaStore) discard() {
	if s.client != nil {
		s.client.Close()
	}
	s.client, s.claimed = nil, false
}

// explain gives an error of the client its code and its place.
func (s *KafkaStore) explain(op string, err error) error {
	err = broker.Explain(op, err, s.config)
	if f := fault.Of(err); f != nil {
		f.Topic, f.Pipeline = Topic(s.pipeline), s.pipeline
	}
	return err
}

// explainSave sorts what a save may end in: shut out by another instance, a person must do
// something, or not known, in which case acquiring again tells.
func (s *KafkaStore) explainSave(err error) error {
	const op = "save the checkpoint"
	if errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch) {
		return s.explain(op, err)
	}
	explained := s.explain(op, err)
	f := fault.Of(explained)
	if f == nil || f.Code.Kind() == fault.KindPerson {
		return explained
	}
	unknown := fault.New(fault.KafkaUnavailable, op, fmt.Errorf("it is not known whether it was written: %w", err), f.Hint)
	unknown.Topic, unknown.Pipeline = Topic(s.pipeline), s.pipeline
	return unknown
}
