package cdctest

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Topics are the topics of a pipeline that captures Tables.
func Topics(pipeline string) []string {
	return []string{
		Topic(pipeline, "public", "accounts"),
		Topic(pipeline, "public", "audits"),
		Topic(pipeline, "public", "journal"),
		Topic(pipeline, "sales", "Order Lines"),
	}
}

// Reader reads topics as a consumer of a pipeline does: read_committed, from the beginning.
type Reader struct {
	client *kgo.Client
	admin  *kadm.Client
	topics []string
	next   map[string]map[int32]int64 // the offset behind the last one read
}

// NewReader returns a reader of topics that exist. The caller must Close it.
func NewReader(brokers, topics []string) (*Reader, error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...),
		kgo.ConsumeTopics(topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// The end of a topic may be a marker of a transaction; without seeing it there would be no
		// telling that the end has been reached.
		kgo.KeepControlRecords(),
	)
	if err != nil {
		return nil, fmt.Errorf("make a consumer: %w", err)
	}
	return &Reader{client: client, admin: kadm.NewClient(client), topics: topics, next: make(map[string]map[int32]int64)}, nil
}

// Partitions returns the number of partitions of each topic.
func (r *Reader) Partitions(ctx context.Context) (map[string]int, error) {
	details, err := r.admin.ListTopics(ctx, r.topics...)
	if err == nil {
		err = details.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list the topics: %w", err)
	}
	counts := make(map[string]int)
	for _, t := range r.topics {
		counts[t] = len(details[t].Partitions)
	}
	return counts, nil
}

// Read hands records to note until done says so; it asks after each batch. It goes on where the
// last call ended.
func (r *Reader) Read(ctx context.Context, note func(Record), done func() bool) error {
	for !done() {
		fetches := r.client.PollFetches(ctx)
		fetches.EachRecord(func(rec *kgo.Record) {
			if r.next[rec.Topic] == nil {
				r.next[rec.Topic] = make(map[int32]int64)
			}
			r.next[rec.Topic][rec.Partition] = rec.Offset + 1
			if !rec.Attrs.IsControl() {
				note(Record{Topic: rec.Topic, Partition: rec.Partition, Key: rec.Key, Value: rec.Value, Pos: header(rec, "pos")})
			}
		})
		// What was fetched is noted in any case: it does not come again.
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read the topics: %w", context.Cause(ctx))
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read the topics: %w", err)
		}
	}
	return nil
}

// End returns a function for Read that tells whether everything that is in the topics now, and is
// not part of an open transaction, has been read.
func (r *Reader) End(ctx context.Context) (func() bool, error) {
	ends, err := r.admin.ListCommittedOffsets(ctx, r.topics...)
	return r.reached(ends, err)
}

// HighEnd is End with what is part of an open transaction now: it is read once that has ended.
func (r *Reader) HighEnd(ctx context.Context) (func() bool, error) {
	ends, err := r.admin.ListEndOffsets(ctx, r.topics...)
	return r.reached(ends, err)
}

func (r *Reader) reached(ends kadm.ListedOffsets, err error) (func() bool, error) {
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list the ends of the topics: %w", err)
	}
	return func() bool {
		reached := true
		ends.Each(func(o kadm.ListedOffset) {
			reached = reached && r.next[o.Topic][o.Partition] >= o.Offset
		})
		return reached
	}, nil
}

// Forget deletes what has been read from the topics, so that a long run needs little room.
func (r *Reader) Forget(ctx context.Context) error {
	upTo := make(kadm.Offsets)
	for topic, partitions := range r.next {
		for partition, offset := range partitions {
			upTo.Add(kadm.Offset{Topic: topic, Partition: partition, At: offset})
		}
	}
	done, err := r.admin.DeleteRecords(ctx, upTo)
	if err == nil {
		err = done.Error()
	}
	if err != nil {
		return fmt.Errorf("delete what has been read: %w", err)
	}
	return nil
}

// Close releases the connections.
func (r *Reader) Close() { r.client.Close() }

func header(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}
