package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	exactlyOnce = "exactly_once"
	atLeastOnce = "at_least_once"
)

// walferryConfig adopts a slot that was made before. Everything else is as it comes.
const walferryConfig = `
name: %[1]s
postgres:
  url: %[2]q
  tables: [public.orders]
  slot: {name: %[1]s, create: false, adopt: true}
  publication: {name: bench, manage: never}
kafka:
  brokers: [%[3]q]
delivery: %[4]s
`

// pollEvery is how often the brokers are asked how far the topic has come.
const pollEvery = 10 * time.Millisecond

// walferry runs the binary until every row is on record, stops it, and then reads the topic to see
// that each row is there once. The clock runs from the first rows at the brokers to the last: what
// a start takes has nothing to do with the size of the backlog.
func (r *rig) walferry(delivery string) func(context.Context, string, *filled) (result, error) {
	return func(ctx context.Context, slot string, f *filled) (result, error) {
		return r.drain(ctx, slot, delivery, f)
	}
}

func (r *rig) drain(ctx context.Context, slot, delivery string, f *filled) (result, error) {
	config, err := r.writeConfig(slot, delivery)
	if err != nil {
		return result{}, err
	}
	topic := slot + ".public.orders"
	client, err := kgo.NewClient(kgo.SeedBrokers(r.kafka.Addr()), kgo.MetadataMinAge(pollEvery)) // the topic is about to appear
	if err != nil {
		return result{}, err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	c, err := startChild(ctx, filepath.Join(r.dir, "walferry.log"), r.binary, "run", "--config", config)
	if err != nil {
		return result{}, err
	}
	took, err := drained(ctx, c, admin, topic, int64(f.rows))
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	res, waitErr := c.wait()
	if err := errors.Join(err, waitErr); err != nil {
		return result{}, err
	}
	res.took = took
	if err := r.verify(ctx, admin, topic, f.rows); err != nil {
		return result{}, err
	}
	_, err = admin.DeleteTopics(ctx, topic)
	return res, err
}

// settled is how long nothing must come any more. Offsets count the markers of transactions as well, of
// which nobody knows the number, so all rows may be there only some offsets later than their number.
const settled = 300 * time.Millisecond

// drained waits until the topic holds all rows for a read_committed consumer, and returns how long
// they would have taken at the pace that was seen from the first to the last.
func drained(ctx context.Context, c *child, admin *kadm.Client, topic string, rows int64) (time.Duration, error) {
	var began, newest time.Time
	var before, last int64 // offsets that were there then
	for {
		select {
		case <-c.ended:
			return 0, errors.New("walferry ended before the end of the load")
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(pollEvery):
		}
		n := visible(ctx, admin, topic)
		now := time.Now()
		switch {
		case n > 0 && began.IsZero():
			began, before, newest, last = now, n, now, n
		case n > last:
			newest, last = now, n
		case n >= rows && now.Sub(newest) > settled:
			return time.Duration(float64(newest.Sub(began)) * float64(n) / float64(n-before)), nil
		}
	}
}

// visible counts the offsets that a read_committed consumer may read of the topic, markers included; 0 where there is no topic yet.
func visible(ctx context.Context, admin *kadm.Client, topic string) int64 {
	ends, err := admin.ListCommittedOffsets(ctx, topic)
	if err != nil {
		return 0
	}
	var n int64
	ends.Each(func(o kadm.ListedOffset) { n += max(0, o.Offset) })
	return n
}

// verify reads the whole topic, read_committed, and wants each row once.
func (r *rig) verify(ctx context.Context, admin *kadm.Client, topic string, rows int) error {
	total := visible(ctx, admin, topic)
	client, err := kgo.NewClient(kgo.SeedBrokers(r.kafka.Addr()), kgo.ConsumeTopics(topic),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer client.Close()
	seen := make([]bool, rows+1)
	for n := int64(0); n < total; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		for record := range fetches.RecordsAll() {
			n++
			if record.Attrs.IsControl() {
				continue
			}
			id, err := rowID(record.Key, rows)
			if err != nil {
				return err
			}
			if seen[id] {
				return fmt.Errorf("row %d is there twice", id)
			}
			seen[id] = true
		}
	}
	for id := 1; id <= rows; id++ {
		if !seen[id] {
			return fmt.Errorf("row %d is not there", id)
		}
	}
	return nil
}
