package cdctest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/walferry/walferry/event"
)

// Record is one record of a topic.
type Record struct {
	Topic      string
	Partition  int32
	Key, Value []byte // nil for none
	Pos        string // the header `pos`
}

// Validator holds the records of a pipeline against what Postgres committed. The promise, for
// records noted in the order of their partitions and from the beginning:
//
//   - No loss: every committed change arrives, as all the records that docs/events.md has for it.
//   - Order: the first arrivals of a key's records come in the order in which the changes were
//     made, without a gap, and all in one partition. The positions of first arrivals rise in each
//     partition; the records of one transaction share its commit position, and their sequence is
//     the order of its changes.
//   - No phantom: every record belongs to a change that was committed, under its key, with its
//     values; a value that is named as unchanged is the one the row had before.
//   - Repeats: a record that arrives again is the same to the byte. Where repeats are not allowed
//     there is none.
//
// A run that is too long for one truth is judged in rounds; see Next. Methods are not safe for
// concurrent use.
type Validator struct {
	pipeline       string
	repeatsAllowed bool
	expected       map[recordID]*expectation
	chains         map[chainID]*chain
	missing        int
	repeats        int
	reordered      int

	newest event.LSN // the highest commit position that was seen
	floor  event.LSN // the highest of the rounds before

	commits    map[uint32]event.LSN // of each transaction that was seen
	xids       map[event.LSN]uint32
	partitions map[partitionID]event.Position // of the last first arrival
	parts      map[partitionID]int            // its part
	seed       maphash.Seed
	failures   []string
	failed     int
}

// recordID names a record by what the truth knows: a commit's LSN is not among it.
type recordID struct {
	xid  uint32
	seq  uint64
	part int
}

type chainID struct{ topic, key string }

type partitionID struct {
	topic     string
	partition int32
}

// chain is the records of one key in their order.
type chain struct {
	records   []*expectation
	next      int   // the first that has not arrived
	partition int32 // of the first arrival
}

// expectation is one record that must arrive.
type expectation struct {
	change  *Change
	part    int
	op      string // "" for a tombstone
	topic   string
	key     string // canonical JSON, "" for none
	at      int    // place in its chain; -1 for a record without order of its own
	arrived bool
	sum     uint64 // of key and value at the first arrival
}

// maxFailures bounds how many failures are spelled out; the others are counted.
const maxFailures = 20

// NewValidator takes the truth, the name of the pipeline, and the partitions of each of its
// topics. The pipeline must run with the default topic names and tombstones.
func NewValidator(truth []Change, pipeline string, partitions map[string]int, repeatsAllowed bool) *Validator {
	v := &Validator{
		pipeline:       pipeline,
		repeatsAllowed: repeatsAllowed,
		chains:         make(map[chainID]*chain),
		partitions:     make(map[partitionID]event.Position),
		parts:          make(map[partitionID]int),
		seed:           maphash.MakeSeed(),
	}
	v.Next(truth, partitions)
	return v
}

// Next begins another round, with what was committed since the one before: of that everything has
// arrived. Order and partitions are judged across rounds, and what comes from an earlier one is a
// repeat.
func (v *Validator) Next(truth []Change, partitions map[string]int) {
	v.floor = v.newest
	v.expected = make(map[recordID]*expectation, len(truth))
	v.commits, v.xids = make(map[uint32]event.LSN), make(map[event.LSN]uint32)
	for _, ch := range v.chains {
		ch.records, ch.next = nil, 0
	}
	for i := range truth {
		c := &truth[i]
		v.expect(c, Topic(v.pipeline, c.Schema, c.Table), partitions)
	}
	v.missing = len(v.expected)
}

// Topic is the default name of a table's topic.
func Topic(pipeline, schema, table string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
			return r
		}
		return '_'
	}, pipeline+"."+schema+"."+table)
}

// expect adds the records of one change.
func (v *Validator) expect(c *Change, topic string, partitions map[string]int) {
	oldKey, newKey := canonical([]byte(c.OldKey)), canonical([]byte(c.NewKey))
	add := func(part int, op, key string) {
		e := &expectation{change: c, part: part, op: op, topic: topic, key: key, at: -1}
		if key != "" && op != "t" {
			id := chainID{topic, key}
			ch := v.chains[id]
			if ch == nil {
				ch = &chain{partition: -1}
				v.chains[id] = ch
			}
			e.at = len(ch.records)
			ch.records = append(ch.records, e)
		}
		v.expected[recordID{c.XID, c.Seq, part}] = e
	}
	switch {
	case c.Op == "t":
		for p := range partitions[topic] {
			add(p, "t", canonical(fmt.Appendf(nil, `{"truncate":%q}`, event.QuoteName(c.Schema)+"."+event.QuoteName(c.Table))))
		}
	case c.Op == "d":
		add(0, "d", oldKey)
		if oldKey != "" {
			add(1, "", oldKey)
		}
	case c.Op == "u" && oldKey != newKey:
		add(0, "d", oldKey)
		add(1, "", oldKey)
		add(2, "u", newKey)
	default:
		add(0, c.Op, newKey)
	}
}

// value is the value of a record as far as it is judged.
type value struct {
	Op        string                     `json:"op"`
	Schema    string                     `json:"schema"`
	Table     string                     `json:"table"`
	Pos       string                     `json:"pos"`
	XID       uint32                     `json:"xid"`
	OldKey    json.RawMessage            `json:"old_key"`
	Before    map[string]json.RawMessage `json:"before"`
	After     map[string]json.RawMessage `json:"after"`
	Unchanged []string                   `json:"unchanged"`
}

// Note judges one record.
func (v *Validator) Note(r Record) {
	pos, part, err := event.ParseRecordPosition(r.Pos)
	if err != nil {
		v.fail(r, "%v", err)
		return
	}
	if pos.Commit <= v.floor {
		v.repeats++
		if !v.repeatsAllowed {
			v.fail(r, "repeated, from an earlier round")
		}
		return
	}
	var val value
	if r.Value != nil {
		if err := json.Unmarshal(r.Value, &val); err != nil {
			v.fail(r, "read the value: %v", err)
			return
		}
		if val.Pos != r.Pos {
			v.fail(r, "the header says position %q and the value %q", r.Pos, val.Pos)
		}
		v.bind(r, val.XID, pos.Commit)
	}
	xid, known := v.xids[pos.Commit]
	e := v.expected[recordID{xid, pos.Seq, part}]
	if !known || e == nil || e.topic != r.Topic || (e.op == "") != (r.Value == nil) {
		v.fail(r, "phantom: nothing that was committed has this record (transaction %d)", xid)
		return
	}
	if key := canonical(r.Key); key != e.key {
		v.fail(r, "key %s, want %s", key, e.key)
	}
	if v.repeated(r, e) {
		return
	}
	v.newest = max(v.newest, pos.Commit)
	v.order(r, e, pos)
	if r.Value != nil {
		v.content(r, e, &val)
	}
}

// bind learns which transaction a commit position belongs to, and that they stay together.
func (v *Validator) bind(r Record, xid uint32, commit event.LSN) {
	if was, ok := v.commits[xid]; ok && was != commit {
		v.fail(r, "transaction %d has two commit positions, %s and %s", xid, was, commit)
	}
	if was, ok := v.xids[commit]; ok && was != xid {
		v.fail(r, "commit position %s belongs to two transactions, %d and %d", commit, was, xid)
	}
	v.commits[xid], v.xids[commit] = commit, xid
}

// repeated tells whether the record had arrived before, and marks it as arrived.
func (v *Validator) repeated(r Record, e *expectation) bool {
	var h maphash.Hash
	h.SetSeed(v.seed)
	_, _ = h.Write(r.Key)
	_ = h.WriteByte(0)
	_, _ = h.Write(r.Value)
	sum := h.Sum64()
	if !e.arrived {
		e.arrived, e.sum = true, sum
		v.missing--
		return false
	}
	v.repeats++
	if !v.repeatsAllowed {
		v.fail(r, "repeated")
	}
	if sum != e.sum {
		v.fail(r, "repeated with another key or value")
	}
	return true
}

// order judges the place of a first arrival.
func (v *Validator) order(r Record, e *expectation, pos event.Position) {
	id := partitionID{r.Topic, r.Partition}
	if last := v.partitions[id]; pos.Compare(last) < 0 || pos == last && e.part <= v.parts[id] {
		v.reordered++
		v.fail(r, "arrived for the first time after position %s:%d in its partition", last, v.parts[id])
	}
	v.partitions[id], v.parts[id] = pos, e.part
	if e.op == "t" && e.part != int(r.Partition) {
		v.fail(r, "the truncate of partition %d", e.part)
	}
	if e.at < 0 {
		return
	}
	ch := v.chains[chainID{e.topic, e.key}]
	if ch.partition >= 0 && ch.partition != r.Partition {
		v.fail(r, "the key was in partition %d before", ch.partition)
	}
	ch.partition = r.Partition
	if e.at != ch.next {
		v.reordered++
		if ch.next == len(ch.records) {
			v.fail(r, "number %d of its key arrived after the last one", e.at)
		} else {
			want := ch.records[ch.next]
			v.fail(r, "number %d of its key arrived, number %d (%s of transaction %d, %d:%d) did not", e.at, ch.next, opName(want.op), want.change.XID, want.change.Seq, want.part)
		}
	}
	ch.next = e.at + 1
}

// content holds the value against the change.
func (v *Validator) content(r Record, e *expectation, val *value) {
	c := e.change
	if val.Op != e.op || val.Schema != c.Schema || val.Table != c.Table {
		v.fail(r, "op %q of %s.%s, want %q of %s.%s", val.Op, val.Schema, val.Table, e.op, c.Schema, c.Table)
	}
	if e.part == 2 && canonical(val.OldKey) != canonical([]byte(c.OldKey)) {
		v.fail(r, "old_key %s, want %s", val.OldKey, c.OldKey)
	}
	old := v.columns(r, c.OldRow)
	for name, is := range val.Before {
		if want, ok := old[name]; !ok || canonical(is) != canonical(want) {
			v.fail(r, "before.%s does not hold the old value", name)
		}
	}
	if e.op == "d" || e.op == "t" {
		if val.After != nil || val.Unchanged != nil {
			v.fail(r, "has after or unchanged")
		}
		return
	}
	row := v.columns(r, c.NewRow)
	for name, want := range row {
		is, sent := val.After[name]
		switch unchanged := slices.Contains(val.Unchanged, name); {
		case sent == unchanged:
			v.fail(r, "column %s stands in after and unchanged, or in neither", name)
		case sent && canonical(is) != canonical(want):
			v.fail(r, "after.%s does not hold the new value", name)
		case unchanged && canonical(want) != canonical(old[name]):
			v.fail(r, "%s is named as unchanged but did change", name)
		}
	}
	if n := len(val.After) + len(val.Unchanged); n != len(row) {
		v.fail(r, "%d columns, want %d", n, len(row))
	}
}

func (v *Validator) columns(r Record, row json.RawMessage) map[string]json.RawMessage {
	if row == nil {
		return nil
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(row, &m); err != nil {
		v.fail(r, "read the truth: %v", err)
	}
	return m
}

func (v *Validator) fail(r Record, format string, args ...any) {
	v.failed++
	if len(v.failures) < maxFailures {
		v.failures = append(v.failures, fmt.Sprintf("%s/%d key %s pos %s: ", r.Topic, r.Partition, r.Key, r.Pos)+fmt.Sprintf(format, args...))
	}
}

// Missing is how many records have not arrived yet. At 0 everything is there.
func (v *Validator) Missing() int { return v.missing }

// Expected is how many records there must be in this round, repeats apart.
func (v *Validator) Expected() int { return len(v.expected) }

// Repeats is how many records arrived again, over all rounds.
func (v *Validator) Repeats() int { return v.repeats }

// Reordered is how many first arrivals came too early or too late, over all rounds.
func (v *Validator) Reordered() int { return v.reordered }

// Failures says where the promise was broken, including what is still missing; it is empty when the
// promise holds.
func (v *Validator) Failures() []string {
	out := slices.Clone(v.failures)
	if v.failed > len(out) {
		out = append(out, fmt.Sprintf("and %d more", v.failed-len(out)))
	}
	if v.missing == 0 {
		return out
	}
	out = append(out, fmt.Sprintf("lost: %d of %d records did not arrive", v.missing, len(v.expected)))
	named := 0
	for id, e := range v.expected {
		if !e.arrived && named < maxFailures {
			named++
			out = append(out, fmt.Sprintf("lost: %s of %s key %s, transaction %d, %d:%d", opName(e.op), e.topic, e.key, id.xid, id.seq, id.part))
		}
	}
	return out
}

func opName(op string) string {
	if op == "" {
		return "tombstone"
	}
	return op
}

// canonical is a JSON text without blanks and with its members sorted; "" for none. What is not
// JSON stays as it is, so that it differs from everything that is.
func canonical(text []byte) string {
	if len(text) == 0 {
		return ""
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var parsed any
	if err := d.Decode(&parsed); err != nil {
		return string(text)
	}
	out, err := json.Marshal(parsed)
	if err != nil {
		return string(text)
	}
	return string(out)
}
