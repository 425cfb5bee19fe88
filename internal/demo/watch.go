package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Watch reads until ctx ends: it notes each change of the shop in the ledger and hands every
// record to show, with the time from its commit until now; zero for a record that has no commit time.
// It returns nil when ctx has ended.
func Watch(ctx context.Context, client *kgo.Client, l *Ledger, show func(*kgo.Record, time.Duration)) error {
	for {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		now := time.Now()
		if failed := fetches.Errors(); len(failed) > 0 {
			return fmt.Errorf("read topic %s: %w", failed[0].Topic, failed[0].Err)
		}
		for records := fetches.RecordIter(); !records.Done(); {
			r := records.Next()
			var lag time.Duration
			if c, committed, ok := parse(r.Value); ok {
				lag = now.Sub(committed)
				l.saw(c, lag)
			}
			show(r, lag)
		}
	}
}

// parse reads a record's value as a change of the shop; ok is false for a tombstone and for what
// is not the shop's.
func parse(value []byte) (c change, committed time.Time, ok bool) {
	var e struct {
		Op     string
		Schema string
		Table  string
		TS     time.Time
		Before row
		After  row
	}
	if value == nil || json.Unmarshal(value, &e) != nil || e.Schema != schema {
		return c, committed, false
	}
	r := e.After
	if e.Op == "d" {
		r = row{ID: e.Before.ID, SKU: e.Before.SKU}
	}
	return change{table: e.Table, op: e.Op, key: r.key(), revision: r.Revision}, e.TS, true
}

// row is what the ledger needs of a row: its key, in one of two columns, and its revision.
type row struct {
	ID       json.RawMessage
	SKU      string
	Revision int
}

// key is the row's key as text, whichever type it has.
func (r row) key() string {
	if r.SKU != "" {
		return r.SKU
	}
	var text string
	if json.Unmarshal(r.ID, &text) == nil {
		return text
	}
	return string(r.ID)
}
