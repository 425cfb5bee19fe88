package broker

import (
	"context"
	"errors"
	"fmt"
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
)

// Producer is a producer id in its epoch, by which the brokers know the records of one transaction.
type Producer struct {
	ID    int64
	Epoch int16
}

// Verdict is what the coordinator knows of the newest transaction of a transactional id.
type Verdict struct {
	State string // as Kafka names it, "" where the id is not known, or is not for us to know
	Producer
}

// AskVerdict asks the coordinator, on brokers where the answer tells something: see ownEpochs. It waits for one that is
// just coming up.
func AskVerdict(ctx context.Context, client *kgo.Client, transactionalID string) (Verdict, error) {
	const asking = "ask for the newest transaction"
	admin := kadm.NewClient(client)
	if own, err := hasOwnEpochs(ctx, admin); err != nil || !own {
		return Verdict{}, err
	}
	for {
		described, err := admin.DescribeTransactions(ctx, transactionalID)
		if err == nil {
			var tx kadm.DescribedTransaction
			if tx, err = described.On(transactionalID, nil); err == nil {
				err = tx.Err
			}
			if err == nil {
				return Verdict{tx.State, Producer{tx.ProducerID, tx.ProducerEpoch}}, nil
			}
		}
		kafka := new(kerr.Error)
		if !errors.As(err, &kafka) {
			return Verdict{}, fmt.Errorf("%s: %w", asking, err)
		}
		if !kafka.Retriable {
			return Verdict{}, nil
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return Verdict{}, fmt.Errorf("%s: %w (last: %w)", asking, ctx.Err(), err)
		}
	}
}

// of returns whether the transaction of a producer was decided to be committed, if that is known. The end of a
// transaction has the epoch behind its own.
func (v Verdict) of(p Producer) (commit, known bool) {
	if v.ID != p.ID {
		return false, false
	}
	switch v.State {
	case "Ongoing", "PrepareEpochFence": // the claim gave it up
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
// it has none. It returns nil where there is none, or where the brokers do not let it look, which takes the right
// to read the topics.
func FindForgotten(ctx context.Context, client *kgo.Client, id int64, topics []string) (*Forgotten, error) {
	const looking = "look for open transactions"
	admin := kadm.NewClient(client)
	if own, err := hasOwnEpochs(ctx, admin); err != nil || !own {
		return nil, err
	}
	listed, err := admin.ListTopics(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", looking, err)
	}
	described, err := admin.DescribeProducers(ctx, listed.TopicsSet())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", looking, err)
	}
	var found *Forgotten
	described.EachPartition(func(p kadm.DescribedProducersPartition) {
		if kafka := new(kerr.Error); errors.As(p.Err, &kafka) && kafka.Retriable {
			err = fmt.Errorf("%s in %s, partition %d: %w", looking, p.Topic, p.Partition, p.Err)
		}
		for _, open := range p.ActiveProducers {
			if open.ProducerID != id || open.CurrentTxnStartOffset < 0 {
				continue
			}
			if found == nil {
				found = &Forgotten{producer: Producer{id, open.ProducerEpoch}, topics: make(kadm.TopicsSet)}
			}
			found.several = found.several || found.producer.Epoch != open.ProducerEpoch
			found.topics.Add(p.Topic, p.Partition)
			found.Partitions++
		}
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// hasOwnEpochs tells whether each transaction has an epoch of its own.
func hasOwnEpochs(ctx context.Context, admin *kadm.Client) (bool, error) {
	versions, err := admin.ApiVersions(ctx)
	if err != nil {
		return false, fmt.Errorf("ask for the features of the brokers: %w", err)
	}
	has := false
	versions.Each(func(v kadm.BrokerApiVersions) {
		if v.Err != nil {
			return
		}
		for _, feature := range v.Raw().FinalizedFeatures {
			has = has || (feature.Name == "transaction.version" && feature.MaxVersionLevel >= ownEpochs)
		}
	})
	return has, nil
}

// End ends it in a transaction of the producer that has claimed the transactional id, as the coordinator had decided
// before that claim, and returns whether that was to commit it. Afterwards the client must produce nothing: the
// id is to be claimed anew. Where nobody knows any more what was decided it is a *fault.Error.
func (f *Forgotten) End(ctx context.Context, client *kgo.Client, transactionalID string, now Producer, before Verdict) (commit bool, err error) {
	const ending = "end a transaction that the brokers have left open"
	commit, known := before.of(f.producer)
	if !known || f.several {
		return false, fault.New(fault.KafkaUnavailable, ending,
			fmt.Errorf("it is open in %d partitions, and whether it was committed is not known any more", f.Partitions),
			"kafka-transactions.sh find-hanging names the partitions, and abort ends it there. Where a consumer has seen a part of it, that part comes again.")
	}
	if err := f.join(ctx, client, transactionalID, now); err != nil {
		return false, fmt.Errorf("%s: %w", ending, err)
	}
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = transactionalID, now.ID, now.Epoch, commit
	ended, err := end.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(ended.ErrorCode)
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", ending, err)
	}
	return commit, nil
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
