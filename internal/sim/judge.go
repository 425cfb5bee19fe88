package sim

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"regexp"
	"slices"
	"time"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/internal/cdctest"
)

// Verdict is what became of one seed.
type Verdict struct {
	Seed     uint64
	Delivery Delivery
	// Failures says where the promise was broken; it is empty where it held.
	Failures []string
	// Trace is what happened, line by line. Hash is one of every delivery on the network, Outcome one of
	// the records in their places: two runs of a seed can be compared by them.
	Trace         string
	Hash, Outcome uint64
	// Schedule is what was to be done when.
	Schedule []string
	// Changes were committed by Postgres, Records are what consumers can read, of which Repeats came again.
	Changes, Records, Repeats int
	// Faults were injected, and Instances started.
	Faults, Instances int
	// Took is the time that passed in the run.
	Took time.Duration
}

// patience is how long a healthy world may take until everything has arrived: longer than the brokers
// keep a dead instance's transaction open, and a start that waits for it.
const patience = 5 * time.Minute

// splits finds the member of a value that says in how many parts its transaction became visible.
var splits = regexp.MustCompile(`,"split":\d+`)

func tableTopics() []string {
	var topics []string
	for _, t := range tables {
		topics = append(topics, cdctest.Topic(Name, t.schema, t.name))
	}
	return topics
}

// judge waits until everything has arrived, stops the instances, and holds what is there against what
// was committed:
//
//   - what cdctest.Validator promises, without repeats under exactly_once, and under at_least_once where no
//     instance was killed, cut off or replaced;
//   - each logical message as often;
//   - under exactly_once the records of a transaction of Postgres stand in one of Kafka, or in parts that
//     say so, each complete;
//   - under exactly_once no checkpoint was committed before what it covers;
//   - the slot was never confirmed past the checkpoint that was durable at that moment;
//   - no instance ended in a way that wants a person, and all stop in order at the end.
func (w *world) judge(ctx context.Context, v *Verdict) error {
	watch := w.net.link("observer-kafka")
	watch.steady = true
	o, err := newObserver(watch)
	if err != nil {
		return err
	}
	defer o.client.Close()
	deadline := time.Now().Add(patience)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	truth, messages, err := w.truth(ctx)
	if err != nil {
		w.vacate()
		return err
	}
	v.Changes = len(truth)
	partitions, err := o.partitions(ctx)
	if err != nil {
		w.vacate()
		return err
	}
	repeatsAllowed := w.delivery != ExactlyOnce && (w.crashes > 0 || w.delivery == Mixed)
	validator := cdctest.NewValidator(truth, Name, partitions, repeatsAllowed)
	note := w.noting(validator)
	missing := func() bool { return validator.Missing() > 0 || len(o.messages) < len(messages) }
	for err == nil && missing() {
		time.Sleep(time.Second)
		err = o.read(ctx, note)
	}
	if err != nil && ctx.Err() == nil {
		w.vacate()
		return err
	}
	last, cancelLast := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancelLast()
	var standing []string
	if missing() {
		standing = o.standing(last)
	}
	w.settle()
	if err := o.read(last, note); err != nil {
		return err
	}
	if !missing() {
		standing = nil
	}
	for _, f := range append(validator.Failures(), standing...) {
		w.failed("%s", f)
	}
	v.Repeats, v.Records, v.Outcome = validator.Repeats(), len(o.records), o.outcome()
	w.countMessages(o.messages, messages, repeatsAllowed)
	if w.delivery == ExactlyOnce {
		w.whole(o.records)
		w.covered(o.records, o.saved)
	}
	w.neverAhead(o.saved)
	return nil
}

// noting returns what hands a record to the validator.
func (w *world) noting(validator *cdctest.Validator) func(cdctest.Record) {
	if w.delivery != Mixed {
		return validator.Note
	}
	return func(r cdctest.Record) { // what came again under the other guarantee need not have become visible in as many parts
		r.Value = splits.ReplaceAll(r.Value, nil)
		validator.Note(r)
	}
}

// truth returns what must arrive: all that was committed since the slot was made.
func (w *world) truth(ctx context.Context) ([]cdctest.Change, []string, error) {
	for ctx.Err() == nil {
		w.postgres.mu.Lock()
		s := w.postgres.slot
		w.postgres.mu.Unlock()
		if s != nil {
			changes, messages := w.postgres.wal.truth(s.created)
			return changes, messages, nil
		}
		time.Sleep(time.Second)
	}
	return nil, nil, fmt.Errorf("there is still no slot %s after all faults ended", patience)
}

// settle stops the instances in order, one after the other.
func (w *world) settle() {
	for _, s := range w.seats {
		s.mu.Lock()
		s.empty = true
		p := s.occupant
		s.mu.Unlock()
		if p != nil {
			p.cancel()
		}
		began := time.Now()
		s.wg.Wait()
		if took := time.Since(began); took > 15*time.Second {
			w.failed("the instances of seat %s took %s to stop", s.name, took)
		}
	}
}

// vacate stops the instances, however.
func (w *world) vacate() {
	for _, s := range w.seats {
		s.mu.Lock()
		s.empty = true
		if s.occupant != nil {
			s.occupant.cancel()
		}
		s.mu.Unlock()
	}
}

func (w *world) countMessages(is, want []string, repeatsAllowed bool) {
	count := make(map[string]int)
	for _, m := range is {
		count[m]++
	}
	for _, m := range want {
		if n := count[m]; n == 0 || n > 1 && !repeatsAllowed {
			w.failed("logical %s is there %d times", m, n)
		}
		delete(count, m)
	}
	for m := range count {
		w.failed("phantom: logical %q", m)
	}
}

// part is the records of one transaction of Postgres in one of Kafka. The epoch of a producer rises with
// each of its transactions.
type part struct {
	producer int64
	epoch    int16
	first    string
	splits   []int
}

// whole judges that what belongs together became visible together.
func (w *world) whole(records []record) {
	parts := make(map[event.LSN][]*part)
	for _, r := range records {
		pos, _, err := event.ParseRecordPosition(r.Pos)
		if err != nil || pos.Seq == 0 {
			continue // the validator has said so; or a message outside of any transaction
		}
		all := parts[pos.Commit]
		at := slices.IndexFunc(all, func(p *part) bool { return p.producer == r.producer && p.epoch == r.epoch })
		if at < 0 {
			at, all = len(all), append(all, &part{producer: r.producer, epoch: r.epoch, first: r.Pos})
			parts[pos.Commit] = all
		}
		p := all[at]
		p.first = min(p.first, r.Pos)
		if r.Value != nil {
			p.splits = append(p.splits, r.split)
		}
	}
	for commit, all := range parts {
		slices.SortFunc(all, func(a, b *part) int { return cmp.Compare(a.first, b.first) })
		for i, p := range all {
			if slices.ContainsFunc(p.splits, func(n int) bool { return n != i }) {
				w.failed("transaction %s: part %d of %d says %v", commit, i, len(all), p.splits)
			}
		}
	}
}

// covered judges that no checkpoint became visible before a record that a start from it would leave out.
func (w *world) covered(records []record, all []saved) {
	for _, r := range records {
		pos, _, err := event.ParseRecordPosition(r.Pos)
		if err != nil {
			continue // the validator has said so
		}
		for _, c := range all {
			if c.producer == r.producer && c.epoch < r.epoch && c.end > pos.Commit {
				w.failed("the record at %s became visible in epoch %d of its producer, and the checkpoint %s in epoch %d", r.Pos, r.epoch, c.end, c.epoch)
				break
			}
		}
	}
}

// neverAhead judges that whenever the server was told a position, a checkpoint at or behind it was
// committed. The brokers' clock has milliseconds.
func (w *world) neverAhead(all []saved) {
	slices.SortStableFunc(all, func(a, b saved) int { return a.at.Compare(b.at) })
	var durable event.LSN
	next := 0
	for _, c := range w.postgres.confirms {
		for next < len(all) && !all[next].at.After(c.at) {
			durable = max(durable, all[next].end)
			next++
		}
		if c.lsn > durable {
			w.failed("the slot was told %s at %s, when the checkpoint was %s", c.lsn, c.at, durable)
		}
	}
}

// outcome is a hash of which record lies where.
func (o *observer) outcome() uint64 {
	all := slices.Clone(o.records)
	slices.SortStableFunc(all, func(a, b record) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	h := fnv.New64a()
	for _, r := range all {
		_, _ = h.Write([]byte(r.Topic))                                         // never fails
		_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(r.Partition))) //nolint:gosec // a hash
		_, _ = h.Write([]byte(r.Pos))
	}
	return h.Sum64()
}
