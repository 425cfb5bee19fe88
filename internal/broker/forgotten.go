package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walferry/walferry/fault"
)

// A coordinator that comes back after a crash ends what it had decided to end, in each partition of the
// transaction. Kafka 4.3.0 to 4.4.0 leave out partitions that have no leader at that moment, and take the transaction
// for complete: there it stays open for ever. Consumers wait behind it, and the next transaction that writes to
// such a partition would end it as it ends itself, whatever had been decided. So a claim looks for what is
// left open under its own producer id, and ends it as the coordinator had decided.

const (
	// ownEpochs is the level of the feature transaction.version from which on each transaction has an epoch of its own.
	// Before it an open transaction cannot be told from those that came before, and no broker is known that forgets one.
	ownEpochs = 2
	// askAgain is the pause before a coordinator that is not ready is asked again.
	askAgain = 50 * time.Millisecond
	// endWithin bounds what ends a transaction once that is begun.
	endWithin = 5 * time.Second
	// decideTries is how often an open transaction is aborted in vain before that is left to the claim.
	decideTries = 10
)

// Producer is a producer id in its epoch, by which the brokers know the records of one transaction.
type Producer struct {
	ID    int64
	Epoch int16
}

// Verdict is what the coordinator knows of the newest transaction of a transactional id.
type Verdict struct {
	State string // as Kafka names it
	Producer
}

// Verdicts is what was learned about the transactions of a transactional id. What was decided stays so: whoever fails to
// claim keeps it for the next try, by which time the coordinator itself knows nothing but that failed claim.
type Verdicts struct {
	decided []Verdict // the oldest first
	ending  struct {  // what End was about to do last
		by     Producer
		commit bool
	}
}

// Ask asks the coordinator and adds what it says, on brokers where that tells something: see ownEpochs. A transaction
// that is open is aborted first. Its owner may be about to commit it, and only one of the two comes through, so that
// what the coordinator says afterwards holds for good. It waits for one that is just coming up.
func (vs *Verdicts) Ask(ctx context.Context, client *kgo.Client, transactionalID string) error {
	const asking = "ask for the newest transaction"
	if own, err := hasOwnEpochs(ctx, client); err != nil || !own {
		return err
	}
	for tries := 0; ; {
		v, err := describeNewest(ctx, client, transactionalID)
		if err == nil && v.State == "Ongoing" {
			// One of an End that did not come through has its decision already.
			commit := vs.ending.commit && vs.ending.by == v.Producer
			err = endTransaction(ctx, client, transactionalID, v.Producer, commit)
		} else if err == nil {
			if v.State != "Empty" {
				vs.decided = append(vs.decided, v)
			}
			return nil
		}
		kafka := new(kerr.Error)
		switch {
		case err == nil, errors.Is(err, kerr.InvalidProducerEpoch), errors.Is(err, kerr.ProducerFenced), errors.Is(err, kerr.InvalidTxnState):
			// It is decided by now, by us or by its owner.
			if tries++; tries > decideTries {
				return nil
			}
		case !errors.As(err, &kafka):
			return fmt.Errorf("%s: %w", asking, err)
		case !kafka.Retriable:
			return nil // not for us to know
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", asking, errors.Join(ctx.Err(), err))
		}
	}
}

func describeNewest(ctx context.Context, client *kgo.Client, transactionalID string) (Verdict, error) {
	described, err := kadm.NewClient(client).DescribeTransactions(ctx, transactionalID)
	if err != nil {
		return Verdict{}, err
	}
	tx, err := described.On(transactionalID, nil)
	if err == nil {
		err = tx.Err
	}
	return Verdict{tx.State, Producer{tx.ProducerID, tx.ProducerEpoch}}, err
}

// Of returns whether the transaction of a producer was decided to be committed, if that is known.
func (vs *Verdicts) Of(p Producer) (commit, known bool) {
	for _, v := range vs.decided {
		if commit, known = v.of(p); known {
			break
		}
	}
	return commit, known
}

// of returns whether the transaction of a producer was decided to be committed, if that is known. The end of a
// transaction has the epoch behind its own.
func (v Verdict) of(p Producer) (commit, known bool) {
	if v.ID != p.ID {
		return false, false
	}
	switch v.State {
	case "PrepareEpochFence": // an earlier claim is giving it up
		return false, v.Epoch == p.Epoch
	case "PrepareCommit", "CompleteCommit":
		return true, v.Epoch == p.Epoch+1
	case "PrepareAbort", "CompleteAbort":
		return false, v.Epoch == p.Epoch+1
	}
	return false, false
}

// Forgotten is the partitions in which a transaction of one producer is open and should not be.
type Forgotten struct {
	Partitions int // how many

	producer Producer
	topics   kadm.TopicsSet
	several  bool // they are of more than one transaction
}

// FindForgotten looks into topics for a transaction that is open under a producer id of which the coordinator says that
// it has none. It returns nil where there is none. Topics that the brokers do not let it look into, which takes the right to
// read them, are left out.
func FindForgotten(ctx context.Context, client *kgo.Client, id int64, topics []string) (*Forgotten, error) {
	const looking = "look for open transactions"
	if own, err := hasOwnEpochs(ctx, client); err != nil || !own {
		return nil, err
	}
	listed, err := kadm.NewClient(client).ListTopics(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", looking, err)
	}
	ask := kmsg.NewPtrDescribeProducersRequest()
	for topic, partitions := range listed.TopicsSet() {
		t := kmsg.NewDescribeProducersRequestTopic()
		t.Topic, t.Partitions = topic, slices.Collect(maps.Keys(partitions))
		ask.Topics = append(ask.Topics, t)
	}
	found := &Forgotten{topics: make(kadm.TopicsSet)}
	for _, shard := range client.RequestSharded(ctx, ask) {
		resp, ok := shard.Resp.(*kmsg.DescribeProducersResponse)
		if shard.Err != nil || !ok {
			return nil, fmt.Errorf("%s: %w", looking, shard.Err)
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if err := found.look(id, t.Topic, p); err != nil {
					return nil, fmt.Errorf("%s in %s, partition %d: %w", looking, t.Topic, p.Partition, err)
				}
			}
		}
	}
	if found.Partitions == 0 {
		return nil, nil
	}
	return found, nil
}

// look adds a partition in which a transaction of the producer id is open.
func (f *Forgotten) look(id int64, topic string, p kmsg.DescribeProducersResponseTopicPartition) error {
	if err := kerr.ErrorForCode(p.ErrorCode); kerr.IsRetriable(err) {
		return err // what it has may be seen later
	}
	for _, open := range p.ActiveProducers {
		if open.ProducerID != id || open.CurrentTxnStartOffset < 0 {
			continue
		}
		producer := Producer{id, int16(open.ProducerEpoch)} //nolint:gosec // an int32 in this answer only
		f.several = f.several || f.Partitions > 0 && f.producer != producer
		f.producer = producer
		f.topics.Add(topic, p.Partition)
		f.Partitions++
	}
	return nil
}

// hasOwnEpochs tells whether each transaction has an epoch of its own. Any broker knows that of the whole cluster.
func hasOwnEpochs(ctx context.Context, client *kgo.Client) (bool, error) {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "walferry", "1" // required, as words and dots
	resp, err := req.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return false, fmt.Errorf("ask for the features of the brokers: %w", err)
	}
	for _, feature := range resp.FinalizedFeatures {
		if feature.Name == "transaction.version" {
			return feature.MaxVersionLevel >= ownEpochs, nil
		}
	}
	return false, nil
}

// End ends it in a transaction of the producer that has claimed the transactional id, as the coordinator had decided
// before that claim, and returns whether that was to commit it. Afterwards the client must produce nothing: the
// id is to be claimed anew. Where nobody knows any more what was decided it is a *fault.Error.
func (f *Forgotten) End(ctx context.Context, client *kgo.Client, transactionalID string, now Producer, before *Verdicts) (commit bool, err error) {
	const ending = "end a transaction that the brokers have left open"
	commit, known := before.Of(f.producer)
	if !known || f.several {
		return false, fault.New(fault.KafkaUnavailable, ending,
			fmt.Errorf("it is open in %d partitions, and whether it was committed is not known any more", f.Partitions),
			"kafka-transactions.sh find-hanging names the partitions, and abort ends it there. With the checkpoint's topic among them all of it comes again. Without that compare the tables of these topics with what consumers have: if it was committed, its rows there are given up.")
	}
	before.ending.by, before.ending.commit = now, commit
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin) // a stop in between would have it given up
	defer cancel()
	if err := f.join(ctx, client, transactionalID, now); err != nil {
		return false, fmt.Errorf("%s: %w", ending, err)
	}
	if err := endTransaction(ctx, client, transactionalID, now, commit); err != nil {
		return false, fmt.Errorf("%s: %w", ending, err)
	}
	return commit, nil
}

func endTransaction(ctx context.Context, client *kgo.Client, transactionalID string, p Producer, commit bool) error {
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = transactionalID, p.ID, p.Epoch, commit
	ended, err := end.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(ended.ErrorCode)
}

// join begins a transaction of which the partitions are part. It writes nothing into them.
func (f *Forgotten) join(ctx context.Context, client *kgo.Client, transactionalID string, now Producer) error {
	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch = transactionalID, now.ID, now.Epoch
	for topic, partitions := range f.topics {
		t := kmsg.NewAddPartitionsToTxnRequestTopic()
		t.Topic = topic
		for p := range partitions {
			t.Partitions = append(t.Partitions, p)
		}
		add.Topics = append(add.Topics, t)
	}
	added, err := add.RequestWith(ctx, client)
	if err != nil {
		return fmt.Errorf("add partitions: %w", err)
	}
	for _, t := range added.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("add partition %d of %s: %w", p.Partition, t.Topic, err)
			}
		}
	}
	return nil
}

// ClaimTries is how often a claim ends what brokers have left open before it gives up: they may leave it again.
const ClaimTries = 3
