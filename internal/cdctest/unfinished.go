package cdctest

import (
	"context"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Unfinished says what keeps a read_committed consumer from the end of the pipeline's topics: each partition
// whose last stable offset is behind its end, the producer that holds it there, and what the coordinator
// knows of the pipeline's transaction. It is for the report of a test that has failed.
func Unfinished(ctx context.Context, admin *kadm.Client, pipeline string) string {
	var out strings.Builder
	all, err := admin.ListTopics(ctx)
	if err != nil {
		return fmt.Sprintf("list topics: %v", err)
	}
	topics := make(kadm.TopicsSet)
	for _, t := range all {
		if strings.Contains(t.Topic, pipeline) {
			for _, p := range t.Partitions.Numbers() {
				topics.Add(t.Topic, p)
			}
		}
	}
	ends, err := admin.ListEndOffsets(ctx, topics.Topics()...)
	if err != nil {
		return fmt.Sprintf("list end offsets: %v", err)
	}
	stable, err := admin.ListCommittedOffsets(ctx, topics.Topics()...)
	if err != nil {
		return fmt.Sprintf("list stable offsets: %v", err)
	}
	ends.Each(func(end kadm.ListedOffset) {
		if s, _ := stable.Lookup(end.Topic, end.Partition); s.Offset != end.Offset {
			fmt.Fprintf(&out, "%s[%d]: readable to %d, ends at %d\n", end.Topic, end.Partition, s.Offset, end.Offset)
		}
	})
	producers, err := admin.DescribeProducers(ctx, topics)
	if err != nil {
		fmt.Fprintf(&out, "describe producers: %v\n", err)
	}
	producers.EachProducer(func(p kadm.DescribedProducer) {
		if p.CurrentTxnStartOffset >= 0 {
			fmt.Fprintf(&out, "%s[%d]: producer %d epoch %d has been in a transaction since offset %d\n",
				p.Topic, p.Partition, p.ProducerID, p.ProducerEpoch, p.CurrentTxnStartOffset)
		}
	})
	transactions, err := admin.DescribeTransactions(ctx, "walferry."+pipeline)
	if err != nil {
		fmt.Fprintf(&out, "describe transactions: %v\n", err)
	}
	transactions.Each(func(tx kadm.DescribedTransaction) {
		fmt.Fprintf(&out, "%s: %s, producer %d epoch %d, partitions left %v\n", tx.TxnID, tx.State, tx.ProducerID, tx.ProducerEpoch, tx.Topics)
	})
	return out.String()
}

// History lists what is in partition 0 of a topic, to the end as it is now: offset, producer, and whether it is
// a record or the marker of a commit or an abort. It shows no row, and is for the report of a test that has failed.
func History(ctx context.Context, seed, topic string) string {
	var out strings.Builder
	client, err := kgo.NewClient(kgo.SeedBrokers(seed), kgo.KeepControlRecords(), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		topic: {0: kgo.NewOffset().AtStart()},
	}))
	if err != nil {
		return err.Error()
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err != nil {
		return fmt.Sprintf("list end offsets: %v", err)
	}
	end, _ := ends.Lookup(topic, 0)
	for next := int64(0); next < end.Offset; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return out.String() + err.Error()
		}
		fetches.EachRecord(func(r *kgo.Record) {
			what := "record"
			if r.Attrs.IsControl() {
				what = fmt.Sprintf("marker, key %x", r.Key) // version, then 0 for an abort and 1 for a commit
			}
			fmt.Fprintf(&out, "%s[0] offset %d: producer %d epoch %d, %s, %s\n", topic, r.Offset, r.ProducerID, r.ProducerEpoch,
				r.Timestamp.Format("15:04:05.000"), what)
			next = r.Offset + 1
		})
	}
	return out.String()
}
