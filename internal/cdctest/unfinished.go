package cdctest

import (
	"context"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
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
