package model

import "slices"

// Delivery is which of the two algorithms is checked.
type Delivery uint8

const (
	// ExactlyOnce commits records and checkpoint together: pipeline/commit.go.
	ExactlyOnce Delivery = iota
	// AtLeastOnce saves the checkpoint after the records: pipeline/save.go.
	AtLeastOnce
)

// Tx is a transaction of Postgres.
type Tx struct {
	// Rows holds the partition of each row: 0 or 1.
	Rows []int
	// Large says that it may be split.
	Large bool
}

// Config bounds a search.
type Config struct {
	Delivery Delivery
	// Instances is 1 or 2.
	Instances int
	// Transactions have 15 rows per partition at most.
	Transactions []Tx
	// Faults is how many faults of any kind may happen, one after the other.
	Faults int
	// FirstStart begins with neither slot nor checkpoint. Otherwise there are a slot and an intent, and
	// what set-up does is left out.
	FirstStart bool
	// Fine makes each record on its way to the brokers a step of its own also where it makes no difference.
	Fine bool
	// Meddler adds a fault: somebody else moves the slot forward while nobody holds it.
	Meddler bool
}

// event is one of the stream: a row, or the end of a transaction.
type event struct {
	tx        int
	commit    bool
	partition uint8
	ordinal   uint8 // of the record in its partition, from 1
}

// model is what a search does not change, but for said.
type model struct {
	cfg  Config
	prog programs
	rule Rule // the forgotten ones

	events []event
	// By place in the stream:
	ends  []uint8                // transactions that have ended
	floor []uint8                // the place after the last of them
	row   [][maxPartitions]uint8 // the place of the next row of a partition
	// rowsTo counts the rows of a partition before the place.
	rowsTo [][maxPartitions]uint8
	// bounds[n] is the place where n transactions have ended.
	bounds []uint8
	total  [maxPartitions]uint8
	// acquiring are the first and the last of the operations of start under the claim's lock.
	acquiring [2]int
	// flushes tells that all records are with the brokers before a transaction is ended.
	flushes bool
	// tail tells that a start ends as it should: startJudge, startResume, startPublish.
	tail bool
	// telling has each move say what settle did; said collects it.
	telling bool
	said    []label
}

func newModel(cfg Config, mut Mutation) *model {
	m := &model{cfg: cfg, prog: mut.apply(programsOf(cfg.Delivery)), rule: mut.Forget, bounds: []uint8{0}}
	for i, tx := range cfg.Transactions {
		for _, p := range tx.Rows {
			m.total[p]++
			m.events = append(m.events, event{tx: i, partition: uint8(p), ordinal: m.total[p]}) //nolint:gosec // 0 or 1
		}
		m.events = append(m.events, event{tx: i, commit: true})
		m.bounds = append(m.bounds, m.end())
	}
	m.tables()
	flush := slices.Index(m.prog.commit, commitFlush)
	m.flushes = !cfg.Fine && flush > 0 && flush+1 < len(m.prog.commit) &&
		m.prog.commit[flush-1] == commitRecord && m.prog.commit[flush+1] == commitEnd
	m.tail = len(m.prog.start) > 3 && slices.Equal(m.prog.start[len(m.prog.start)-3:], []op{startJudge, startResume, startPublish})
	m.acquiring = [2]int{len(m.prog.start), -1}
	for i, o := range m.prog.start {
		if o >= startLook && o <= startResume {
			m.acquiring = [2]int{min(m.acquiring[0], i), i}
		}
	}
	return m
}

// end is the place after the last event.
func (m *model) end() uint8 { return uint8(len(m.events)) } //nolint:gosec // a few dozen

func (m *model) tables() {
	n := len(m.events)
	m.ends, m.floor = make([]uint8, n+1), make([]uint8, n+1)
	m.row, m.rowsTo = make([][maxPartitions]uint8, n+1), make([][maxPartitions]uint8, n+1)
	for i, e := range m.events {
		m.ends[i+1], m.floor[i+1], m.rowsTo[i+1] = m.ends[i], m.floor[i], m.rowsTo[i]
		if !e.commit {
			m.rowsTo[i+1][e.partition]++
		}
		if e.commit {
			m.ends[i+1]++
			m.floor[i+1] = uint8(i + 1)
		}
	}
	for p := range maxPartitions {
		m.row[n][p] = m.end()
		for i := n - 1; i >= 0; i-- {
			m.row[i][p] = m.row[i+1][p]
			if e := m.events[i]; !e.commit && int(e.partition) == p {
				m.row[i][p] = uint8(i) //nolint:gosec // as end
			}
		}
	}
}

// initial is where a search begins: nobody runs.
func (m *model) initial() state {
	s := state{left: uint8(m.cfg.Faults), own: m.rule&SharedID != 0} //nolint:gosec // a handful
	if !m.cfg.FirstStart {
		s.slot.exists = true
		s.ckpt = record{kind: intent}
		s.dirty = s.ckpt
	}
	return s
}

// isOpen tells whether a place is within a transaction.
func (m *model) isOpen(pos uint8) bool { return m.floor[pos] != pos }

// rows tells whether there are any between two places.
func (m *model) rows(from, to uint8) bool {
	return from < to && (m.row[from][0] < to || m.row[from][1] < to)
}

// id returns the transactional id of an instance: checkpoint.TransactionalID has the pipeline's name alone.
func (m *model) id(i int) int {
	if m.rule&SharedID != 0 {
		return i
	}
	return 0
}

func (m *model) exactlyOnce() bool { return m.cfg.Delivery == ExactlyOnce }

// unharmed tells whether there was no fault yet.
func (m *model) unharmed(s *state) bool { return int(s.left) == m.cfg.Faults }

// done tells whether everything is delivered, on record and confirmed: where a run without faults must be
// able to end. A slot that somebody else has moved may be refused for ever.
func (m *model) done(s *state) bool {
	return s.meddled ||
		s.seen == m.total && s.ckpt.kind == position && s.ckpt.pos == m.end() && s.slot.confirmed == m.ends[m.end()]
}

// ahead is the invariant of the slot: never beyond what the checkpoint says is durable. That is one for
// which the coordinator has decided, whether it is visible yet or not.
func (m *model) ahead(s *state) string {
	ckpt := m.newest(s)
	durable := uint8(0)
	if ckpt.kind == position {
		durable = m.ends[ckpt.pos]
	}
	if s.slot.confirmed > durable && !s.meddled {
		return "the slot is confirmed beyond the checkpoint"
	}
	return ""
}

// lost is the invariant of the checkpoint: a consumer has seen all that it covers.
func (m *model) lost(s *state) string {
	if s.ckpt.kind != position {
		return ""
	}
	for k, seen := range s.seen {
		if seen < m.rowsTo[s.ckpt.pos][k] {
			return "a record is lost: the checkpoint covers it"
		}
	}
	return ""
}

// torn is the invariant of whole transactions: all rows are seen or none, once no marker is missing.
func (m *model) torn(s *state) string {
	var seen, all, n [maxPartitions]uint8
	tx := 0
	for _, e := range m.events {
		if !e.commit {
			p := e.partition
			all[p]++
			if n[p]++; n[p] <= s.seen[p] {
				seen[p]++
			}
			continue
		}
		if got := seen[0] + seen[1]; got > 0 && got < all[0]+all[1] && !m.cfg.Transactions[tx].Large {
			return "a transaction that is not too large is seen in part"
		}
		seen, all = [maxPartitions]uint8{}, [maxPartitions]uint8{}
		tx++
	}
	return ""
}
