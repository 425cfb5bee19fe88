package sim

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
)

// standing says what the brokers hold back: for each partition that has more than may be read, how much, and
// which producer's open transaction is the cause. Where it is nothing, what is missing was never committed.
func (o *observer) standing(ctx context.Context) []string {
	behind, err := o.heldBack(ctx, kadm.NewClient(o.client))
	switch {
	case err != nil:
		return []string{fmt.Sprintf("what the brokers hold back is not known: %v", err)}
	case len(behind) == 0:
		return []string{"nothing is held back by the brokers: what is missing was not committed"}
	}
	return behind
}

func (o *observer) heldBack(ctx context.Context, brokers *kadm.Client) ([]string, error) {
	ends, err := brokers.ListEndOffsets(ctx, o.topics...)
	if err != nil {
		return nil, fmt.Errorf("list the ends: %w", err)
	}
	stable, err := brokers.ListCommittedOffsets(ctx, o.topics...)
	if err != nil {
		return nil, fmt.Errorf("list the last stable offsets: %w", err)
	}
	producers, err := brokers.DescribeProducers(ctx, ends.Offsets().TopicsSet())
	if err != nil {
		return nil, fmt.Errorf("describe the producers: %w", err)
	}
	var behind []string
	for _, end := range ends.Offsets().Sorted() {
		s, _ := stable.Lookup(end.Topic, end.Partition) // asked for the same topics
		if s.Offset >= end.At {
			continue
		}
		cause := "no producer that the brokers name"
		for _, p := range producers[end.Topic].Partitions[end.Partition].ActiveProducers.Sorted() {
			if p.CurrentTxnStartOffset >= 0 {
				cause = fmt.Sprintf("producer %d, epoch %d, from offset %d on", p.ProducerID, p.ProducerEpoch, p.CurrentTxnStartOffset)
				break
			}
		}
		behind = append(behind, fmt.Sprintf("held back: %s/%d ends at %d and may be read up to %d, because of %s", end.Topic, end.Partition, end.At, s.Offset, cause))
	}
	return behind, nil
}
