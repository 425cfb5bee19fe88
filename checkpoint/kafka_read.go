package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// firstStep is how many offsets before the end are read first; each save takes two, its record
	// and the transaction's marker. Every further step is twice as long.
	firstStep = 64
	// fetchWaitMillis is how long the brokers may wait for records that are not there yet.
	fetchWaitMillis = 250
	// leaderRest is the pause before asking again for a partition that is changing its leader.
	leaderRest = 100 * time.Millisecond
	fetchBytes = 4 << 20
)

// newest reads the newest committed record of this pipeline, nil where there is none. It reads
// from the end backwards, because the part of the topic that is not compacted yet may be long. With all
// it waits for the transactions that are open at this moment to end, and to become visible.
func (s *KafkaStore) newest(ctx context.Context, all bool) (*Record, error) {
	last, start, err := s.newestMessage(ctx, all)
	switch {
	case err != nil:
		return nil, s.explain("read the checkpoint", err)
	case last == nil && start > 0:
		// Compaction leaves the start where it is, so somebody else removed what was there.
		return nil, s.lost("read the checkpoint", fmt.Errorf("the records before offset %d were deleted, and none of this pipeline is left", start))
	case last == nil || last.Value == nil: // a tombstone is a checkpoint that somebody deleted
		return nil, nil
	}
	return decode(s.pipeline, fmt.Sprintf("topic %s, offset %d", last.Topic, last.Offset), last.Value)
}

// newestMessage returns the newest record of this pipeline, nil for none, and where the topic begins.
func (s *KafkaStore) newestMessage(ctx context.Context, all bool) (last *kgo.Record, start int64, err error) {
	start, end, err := s.bounds(ctx, all)
	if err != nil {
		return nil, 0, err
	}
	// An empty topic is asked as well, so that a missing permission to read shows at the first
	// start and not at the second.
	for to, step := end, int64(firstStep); ; step *= 2 {
		from := max(start, to-step)
		last, err := s.lastBetween(ctx, from, to, all)
		if last != nil || err != nil || from == start {
			return last, start, err
		}
		to = from
	}
}

// bounds returns the first offset and the offset behind the last. With all that is everything that
// was ever written; with the claim held, the end of any other writer's transaction is on record by then.
// Without it, it is everything before the first transaction that is open.
func (s *KafkaStore) bounds(ctx context.Context, all bool) (start, end int64, err error) {
	admin := kadm.NewClient(s.client)
	list := admin.ListCommittedOffsets
	if all {
		list = admin.ListEndOffsets
	}
	if start, err = offsetOf(admin.ListStartOffsets(ctx, Topic(s.pipeline))); err != nil {
		return 0, 0, fmt.Errorf("list the start offset: %w", err)
	}
	if end, err = offsetOf(list(ctx, Topic(s.pipeline))); err != nil {
		return 0, 0, fmt.Errorf("list the end offset: %w", err)
	}
	return start, end, nil
}

// offsetOf picks the one partition out of a listing.
func offsetOf(listed kadm.ListedOffsets, err error) (int64, error) {
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return 0, err
	}
	var offset int64
	var found bool
	listed.Each(func(o kadm.ListedOffset) {
		if o.Partition == 0 {
			offset, found = o.Offset, true
		}
	})
	if !found {
		return 0, errors.New("the brokers did not list partition 0")
	}
	return offset, nil
}

// lastBetween returns the last committed record of this pipeline with an offset in [from, to), nil
// where there is none. It fetches by itself and not through a consumer, because a consumer does
// not tell how far it got where the last offsets hold nothing but markers or compacted records.
func (s *KafkaStore) lastBetween(ctx context.Context, from, to int64, all bool) (*kgo.Record, error) {
	var last *kgo.Record
	var heldBack error // why the last answer brought nothing
	for {
		part, next, err := s.fetch(ctx, from)
		if ctx.Err() != nil && heldBack != nil {
			return nil, fmt.Errorf("%w: %w", heldBack, ctx.Err())
		}
		if retry := new(kerr.Error); errors.As(err, &retry) && retry.Retriable {
			if err := rest(ctx, leaderRest); err != nil {
				return nil, fmt.Errorf("%w (last: %w)", err, retry)
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, r := range part.Records {
			if r.Offset < to && string(r.Key) == s.pipeline {
				last = r
			}
		}
		if next >= to || (next == from && isAll(part, to, all)) {
			return last, nil
		}
		heldBack = nil
		if next == from && part.LastStableOffset != throttled { // fetch has waited a little
			heldBack = fmt.Errorf("an open transaction holds offsets %d to %d back", part.LastStableOffset, to-1)
		}
		from = next
	}
}

// isAll tells whether an answer without anything new means that there is nothing more before an
// offset: what was there is compacted away. With all that is so once everything up to there is stable;
// without it, a transaction that is open is not waited for.
func isAll(part kgo.FetchPartition, to int64, all bool) bool {
	if part.LastStableOffset == throttled {
		return false
	}
	return !all || part.LastStableOffset >= to
}

// throttled stands for the last stable offset in an answer that a broker made empty because this
// client asks for too much.
const throttled = -1

// fetch asks the partition's leader for records from an offset on. Next is the offset behind what
// was answered, records and markers alike.
func (s *KafkaStore) fetch(ctx context.Context, from int64) (part kgo.FetchPartition, next int64, err error) {
	topic, err := describe(ctx, s.client, Topic(s.pipeline))
	if err != nil {
		return part, from, err
	}
	if len(topic.Partitions) != 1 {
		return part, from, fmt.Errorf("the topic has %d partitions, not one", len(topic.Partitions))
	}
	if err := kerr.ErrorForCode(topic.Partitions[0].ErrorCode); err != nil {
		return part, from, err
	}
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = fetchWaitMillis, 1, fetchBytes
	req.IsolationLevel = 1 // read_committed
	asked := kmsg.NewFetchRequestTopic()
	asked.Topic, asked.TopicID = Topic(s.pipeline), topic.TopicID
	partition := kmsg.NewFetchRequestTopicPartition()
	partition.FetchOffset, partition.PartitionMaxBytes = from, fetchBytes
	asked.Partitions = append(asked.Partitions, partition)
	req.Topics = append(req.Topics, asked)

	answer, err := s.client.Broker(int(topic.Partitions[0].Leader)).RetriableRequest(ctx, req)
	if err != nil {
		return part, from, err
	}
	resp, ok := answer.(*kmsg.FetchResponse)
	if !ok {
		return part, from, fmt.Errorf("the brokers answered a fetch with %T", answer)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return part, from, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return kgo.FetchPartition{LastStableOffset: throttled}, from, nil
	}
	part, next = kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: from, IsolationLevel: kgo.ReadCommitted(), Topic: Topic(s.pipeline),
	}, &resp.Topics[0].Partitions[0], kgo.DefaultDecompressor(), nil)
	return part, next, part.Err
}
