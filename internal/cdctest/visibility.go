package cdctest

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/walferry/walferry/event"
)

// Visibility watches, while a pipeline runs, that a read_committed consumer sees whole transactions
// of Postgres or nothing of them. Kafka shows a transaction partition by partition, so that a reader
// between two of them sees a part for a moment. The promise is: once any record of it is seen and
// every partition's last stable offset has passed what was its end then, the transaction is there as
// a whole, unless its records say that it was split.
//
// How many records a transaction has, only the truth knows, so Torn judges afterwards. Methods are
// not safe for concurrent use.
type Visibility struct {
	transactions map[event.LSN]*sight // by commit position
	fresh        []*sight             // seen since the last round began
	failures     []string
}

// sight is what was seen of one transaction.
type sight struct {
	records int
	split   bool
	due     int // how many records were there when all had to be; -1 as long as they had not
}

// NewVisibility returns a watcher that has seen nothing.
func NewVisibility() *Visibility { return &Visibility{transactions: make(map[event.LSN]*sight)} }

// Watch reads until ctx ends. Brokers that are away are waited for.
func (v *Visibility) Watch(ctx context.Context, r *Reader) {
	for ctx.Err() == nil {
		if err := r.Read(ctx, v.note, func() bool { return len(v.fresh) > 0 }); err != nil {
			continue
		}
		round := v.round()
		end, err := r.HighEnd(ctx)
		if err != nil || r.Read(ctx, v.note, end) != nil {
			continue // the round is not judged
		}
		due(round)
	}
}

// Rest reads what is left in the topics after Watch has ended, so that another watcher can go on
// behind it. It is not judged.
func (v *Visibility) Rest(ctx context.Context, r *Reader) error {
	end, err := r.End(ctx)
	if err != nil {
		return err
	}
	return r.Read(ctx, v.note, end)
}

// round returns the transactions that were seen since the last round.
func (v *Visibility) round() []*sight {
	round := v.fresh
	v.fresh = nil
	return round
}

// due notes what is there of transactions that must be there as a whole now.
func due(round []*sight) {
	for _, s := range round {
		s.due = s.records
	}
}

func (v *Visibility) note(r Record) {
	pos, _, err := event.ParseRecordPosition(r.Pos)
	if err != nil {
		v.failures = append(v.failures, fmt.Sprintf("%s/%d: %v", r.Topic, r.Partition, err))
		return
	}
	s := v.transactions[pos.Commit]
	if s == nil {
		s = &sight{due: -1}
		v.transactions[pos.Commit] = s
		v.fresh = append(v.fresh, s)
	}
	s.records++
	var val struct{ Split int }
	if r.Value != nil && json.Unmarshal(r.Value, &val) == nil && val.Split > 0 {
		s.split = true
	}
}

// Judged is how many transactions were seen early enough to judge.
func (v *Visibility) Judged() int {
	n := 0
	for _, s := range v.transactions {
		if s.due >= 0 {
			n++
		}
	}
	return n
}

// Torn says which transactions were seen in part when they had to be whole. The validator must have
// seen all records.
func (v *Visibility) Torn(of *Validator) []string {
	sizes := make(map[event.LSN]int)
	for id := range of.expected {
		sizes[of.commits[id.xid]]++
	}
	out := v.failures
	for commit, s := range v.transactions {
		if s.due >= 0 && s.due < sizes[commit] && !s.split && len(out) < maxFailures {
			out = append(out, fmt.Sprintf("torn: %d of %d records of the transaction at %s were visible when all had to be", s.due, sizes[commit], commit))
		}
	}
	return out
}
