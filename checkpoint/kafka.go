package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/internal/failpoint"
	"github.com/walferry/walferry/internal/lock"
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
	producer Producer // nil: the client of this store produces
	log      *slog.Logger

	// mu guards what follows.
	mu lock.Lock
	// client is nil before the first call and after a save of which the outcome is not known:
	// nothing more may be written through that client's producer.
	client  *kgo.Client
	claimed bool // client holds the transactional id
	closed  bool
	// connected tells that the settings have worked.
	connected bool
	// ours are the instances whose record may be the newest as long as nobody else has written
	// since the first claim: the one that was there, and the one that saves here. It is nil before the first
	// claim, and after an intent: that is no claim on the stream, which whoever takes the slot goes on with.
	ours map[string]bool
	// before is the instance of the record that the last claim found, "" for none.
	before string
	// verdicts is what claims have learned of the transactions before them since one came through.
	verdicts broker.Verdicts
}

// Producer writes checkpoint records inside of transactions that hold more than them: the events
// that the record covers. The store calls one method at a time.
type Producer interface {
	// Claim shuts out every other producer of the pipeline's transactional id, which it is told with the topic of
	// the checkpoint, and begins a transaction. Whatever was not committed is given up.
	Claim(ctx context.Context, transactionalID, topic string) error
	// Commit adds the record to the transaction, commits it and begins the next one. After an error
	// it is not known whether it was committed; go on with Claim.
	Commit(ctx context.Context, record *kgo.Record) error
}

// NewKafkaStore returns the store of a pipeline. It connects at the first call of a method. With a
// nil producer each record is written in a transaction of its own.
func NewKafkaStore(pipeline string, config broker.Config, producer Producer, log *slog.Logger) *KafkaStore {
	return &KafkaStore{pipeline: pipeline, config: config, producer: producer, log: log, mu: lock.New()}
}

// Topic returns the name of the topic that holds the checkpoint of a pipeline.
func Topic(pipeline string) string { return "_walferry." + pipeline + ".checkpoint" }

// TransactionalID returns the transactional id that the writers of a pipeline claim.
func TransactionalID(pipeline string) string { return "walferry." + pipeline }

// Load reads the newest record without claiming anything; nil where there is none. It creates the
// topic where it does not exist. While a claim is held it waits for what is committed to be visible.
func (s *KafkaStore) Load(ctx context.Context) (*Record, error) {
	return s.load(ctx, (*KafkaStore).createTopic)
}

// Peek is Load, but creates nothing: without the topic there is no record.
func (s *KafkaStore) Peek(ctx context.Context) (*Record, error) {
	r, err := s.load(ctx, func(*KafkaStore, context.Context, *kgo.Client) (kmsg.MetadataResponseTopic, error) {
		return kmsg.MetadataResponseTopic{}, errNoTopic
	})
	if errors.Is(err, errNoTopic) {
		return nil, nil
	}
	return r, err
}

func (s *KafkaStore) load(ctx context.Context, missing makeTopic) (*Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := s.connect(ctx, missing); err != nil {
		return nil, err
	}
	return s.newest(ctx, s.claimed)
}

// Acquire shuts out every other writer of this pipeline, ends what they left open, and reads the
// newest record. It must be called again after a Save that failed. Where another instance has
// saved a record since this one acquired, it shuts nobody out and returns fault.Fenced.
//
// A record that is there and cannot be read, or that the topic has lost, is an error (see unreadable)
// with which the claim is held all the same: Save and Forget put something in its place.
func (s *KafkaStore) Acquire(ctx context.Context) (*Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	s.discard() // only a new producer claims; one that has claimed stays as it is
	if err := s.connect(ctx, (*KafkaStore).createTopic); err != nil {
		return nil, err
	}
	if err := s.notSucceeded(ctx); err != nil {
		return nil, err
	}
	r, err := s.claim(ctx)
	if err == nil && r == nil && s.ours != nil && !s.ours[""] {
		s.discard()
		return nil, s.lost("claim the checkpoint again", errors.New("the checkpoint that this instance has read or written is gone"))
	}
	if err != nil && !unreadable(err) {
		s.discard()
		return nil, err
	}
	s.before, s.ours = instance(r), map[string]bool{instance(r): true}
	failpoint.Here(failpoint.CheckpointRead)
	return r, err
}

// unreadable tells whether an error says that there is, or was, a record that is of no use.
func unreadable(err error) bool {
	return fault.Is(err, fault.CheckpointInvalid) || fault.Is(err, fault.CheckpointNewer) || fault.Is(err, fault.CheckpointLost)
}

// claim takes the transactional id. The claim comes first and the reading second: the record that
// is read is the last that any other writer could have brought in.
func (s *KafkaStore) claim(ctx context.Context) (*Record, error) {
	if err := s.fence(ctx); err != nil {
		return nil, s.explain("claim the checkpoint", err)
	}
	s.claimed = true
	failpoint.Here(failpoint.Fenced)
	return s.newest(ctx, true)
}

// fence shuts out the producers that had the transactional id before.
func (s *KafkaStore) fence(ctx context.Context) error {
	if s.producer != nil {
		return s.producer.Claim(ctx, TransactionalID(s.pipeline), Topic(s.pipeline))
	}
	for range broker.ClaimTries {
		if ended, err := s.fenceOnce(ctx); err != nil {
			return err
		} else if !ended {
			s.verdicts = broker.Verdicts{}
			return nil
		}
		s.discard()
		if err := s.connect(ctx, (*KafkaStore).createTopic); err != nil {
			return err
		}
	}
	return errors.New("the brokers leave transactions open")
}

// fenceOnce claims with the client as it is, and ends what brokers have left open as they had decided before. It
// returns whether there was any: then the client can produce nothing any more.
func (s *KafkaStore) fenceOnce(ctx context.Context) (bool, error) {
	topics := s.written(ctx)
	if err := s.verdicts.Ask(ctx, s.client, TransactionalID(s.pipeline)); err != nil {
		return false, err
	}
	id, epoch, err := s.client.ProducerID(ctx)
	if err != nil {
		return false, err
	}
	open, err := broker.FindForgotten(ctx, s.client, id, topics)
	if err != nil || open == nil {
		return false, err
	}
	commit, err := open.End(ctx, s.client, TransactionalID(s.pipeline), broker.Producer{ID: id, Epoch: epoch}, &s.verdicts)
	if err == nil {
		s.log.Warn("the brokers had left a transaction open after a crash: ended it as they had decided",
			"transactional_id", TransactionalID(s.pipeline), "committed", commit, "partitions", open.Partitions)
	}
	return err == nil, err
}

// written returns the topics that an earlier writer's transactions may be in: those of events as well, if it
// delivered exactly once. A record that cannot be read tells of none.
func (s *KafkaStore) written(ctx context.Context) []string {
	topics := []string{Topic(s.pipeline)}
	if r, err := s.newest(ctx, false); err == nil && r != nil {
		topics = slices.AppendSeq(topics, maps.Keys(r.Partitions))
	}
	return topics
}

// notSucceeded looks, before claiming again, whether another instance has taken over meanwhile. A
// process that was stopped for minutes and wakes up in the middle of a save may get an error that
// does not say so; claiming again would shut out the healthy one.
func (s *KafkaStore) notSucceeded(ctx context.Context) error {
	if s.ours == nil {
		return nil // the first claim: whoever calls it holds the slot
	}
	r, err := s.newest(ctx, false)
	if err == nil && !s.ours[instance(r)] && instance(r) == s.before {
		// The brokers answer a commit before they show it: the newest may be this instance's all the same.
		// Whoever has come since needs no second look, which may have to wait for a dead one's transaction.
		r, err = s.newest(ctx, true)
	}
	switch {
	case err != nil:
		return err
	case r == nil, s.ours[r.Instance]:
		// None where ours should be may only mean that the brokers do not show yet what they have answered;
		// with the claim they do.
		return nil
	}
	return s.explain("claim the checkpoint again", fmt.Errorf("another instance has written a checkpoint since: %w", kerr.ProducerFenced))
}

// instance returns who wrote a record, "" for none.
func instance(r *Record) string {
	if r == nil {
		return ""
	}
	return r.Instance
}

// Save writes a record and returns when the brokers have it on record. After an error it is not
// known whether they do; go on with Acquire, which tells. A fault.Fenced error means that another
// instance has acquired. When ctx ends Save returns early, which is such an error as well.
func (s *KafkaStore) Save(ctx context.Context, r Record) error {
	value, err := encode(s.pipeline, r)
	if err != nil {
		return err
	}
	err = s.write(ctx, r.Instance, value)
	if err == nil && r.Intent {
		s.mu.Lock()
		s.ours = nil
		s.mu.Unlock()
	}
	return err
}

// Forget removes the record, by a tombstone; the topic stays. It needs Acquire, and its errors are
// those of Save.
func (s *KafkaStore) Forget(ctx context.Context) error { return s.write(ctx, "", nil) }

// write writes a value, or a tombstone, on behalf of an instance.
func (s *KafkaStore) write(ctx context.Context, instance string, value []byte) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.claimed {
		// Also after a save that went well just when its context ended: Acquire tells.
		return fault.New(fault.KafkaUnavailable, "save the checkpoint", errors.New("the claim on it was given up"), "")
	}
	if s.ours == nil {
		s.ours = make(map[string]bool)
	}
	s.ours[instance] = true // even if the save fails, it may have been written
	record := &kgo.Record{Topic: Topic(s.pipeline), Key: []byte(s.pipeline), Value: value}
	if s.producer == nil {
		err = s.commitOrAbandon(ctx, record)
	} else if err = s.commitWithEvents(ctx, record); err != nil {
		s.claimed = false
	}
	if err != nil {
		return s.explainSave(ctx, err)
	}
	if len(s.ours) > 1 { // what was there before is not the newest any more
		s.ours = map[string]bool{instance: true}
	}
	return nil
}

func (s *KafkaStore) commitWithEvents(ctx context.Context, record *kgo.Record) error {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	return s.producer.Commit(ctx, record)
}

// commitOrAbandon commits, or closes the client when ctx ends or the time is up: the client by
// itself would wait for the answer to a record that it has sent, however long that takes.
func (s *KafkaStore) commitOrAbandon(ctx context.Context, record *kgo.Record) error {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	client, closed := s.client, make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		client.Close()
		close(closed)
	})
	err := s.commit(ctx, record)
	abandoned := !stop()
	if abandoned {
		<-closed
	}
	if err != nil || abandoned {
		s.discard()
	}
	return err
}

// commit writes one record in one transaction. After an error the producer must not be used again.
func (s *KafkaStore) commit(ctx context.Context, record *kgo.Record) error {
	if err := s.client.BeginTransaction(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := s.client.ProduceSync(ctx, record).FirstErr(); err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	if err := broker.AwaitProduced(ctx, s.client, record.Topic, 1); err != nil {
		return err
	}
	failpoint.Here(failpoint.CheckpointProduced)
	if err := s.client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	failpoint.Here(failpoint.CommitAnswered)
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
func (s *KafkaStore) connect(ctx context.Context, missing makeTopic) error {
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
	probe := broker.Probe
	if s.connected {
		probe = broker.ProbeAgain
	}
	if err := probe(ctx, client, s.config); err != nil {
		client.Close()
		return err
	}
	s.connected = true
	if err := s.ensureTopic(ctx, client, missing); err != nil {
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
	if s.producer == nil {
		opts = append(opts, kgo.TransactionalID(TransactionalID(s.pipeline)), kgo.TransactionTimeout(transactionTimeout))
	}
	client, err := kgo.NewClient(append(opts,
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), // partition 0
		kgo.DisableClientMetrics(),                     // closing would wait for them
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
func (s *KafkaStore) explainSave(ctx context.Context, err error) error {
	const op = "save the checkpoint"
	if errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch) {
		return s.explain(op, err)
	}
	err = fmt.Errorf("whether it was written is not known: %w", err)
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("%s: %w (%w)", op, ctx.Err(), err)
	}
	explained := s.explain(op, err)
	switch fault.CodeOf(explained) {
	case fault.KafkaACL, fault.KafkaAuth, fault.KafkaTLS:
		return explained
	}
	// Everything else, also an answer that sounds final, leaves the outcome open (a commit that
	// was retried may be refused because it took): acquiring again tells.
	unknown := fault.New(fault.KafkaUnavailable, op, err, "Check that the brokers are up and can be reached from here.")
	unknown.Topic, unknown.Pipeline = Topic(s.pipeline), s.pipeline
	return unknown
}
