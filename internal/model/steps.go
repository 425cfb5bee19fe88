package model

import "cmp"

// move is one step: where it leads, and what it broke.
type move struct {
	label
	to    state
	then  []label // what settle did, if somebody wants to tell
	fault bool
	bug   string
}

// moves collects the steps that are possible in a state.
type moves struct {
	*model
	from *state
	all  []move
}

// expand appends every step that is possible in from.
func (m *model) expand(from *state, buf []move) []move {
	ms := &moves{model: m, from: from, all: buf}
	for i := range m.cfg.Instances {
		ms.instance(i)
	}
	for k := range from.ids {
		ms.coordinator(k)
	}
	if from.left > 0 {
		ms.faults()
	}
	return ms.all
}

// try makes a copy of the state for a step to work on. The step is only there if keep is called.
func (ms *moves) try() state { return *ms.from }

// keep adds a step, with what follows from it by itself, after looking at slot and checkpoint.
func (ms *moves) keep(l label, to *state, bug string) {
	ms.said = nil
	ms.settle(to)
	bug = cmp.Or(bug, ms.ahead(to), ms.lost(to))
	to.renumber()
	ms.all = append(ms.all, move{label: l, to: *to, then: ms.said, bug: bug})
}

// instance adds what one instance can do next.
func (ms *moves) instance(i int) {
	p := &ms.from.procs[i]
	if p.phase == off {
		s := ms.try()
		q := &s.procs[i]
		q.phase, q.run = session, fresh
		if ms.cfg.FirstStart {
			q.phase = boot
		}
		ms.keep(label{act: starts, who: i}, &s, "")
		return
	}
	ms.sends(i)
	if p.phase == boot {
		ms.bootStep(i)
		return
	}
	ms.startStep(i)
	ms.commitStep(i)
	ms.stream(i)
}

// stream adds what the goroutines of a connection do: replication/stream.go:stream.run and
// pipeline/publish.go:Pipeline.publish.
func (ms *moves) stream(i int) {
	p := &ms.from.procs[i]
	if p.attached && ms.from.slot.holder != owner(i) { // stream.read fails: session ends
		s := ms.try()
		ms.endSession(&s, i)
		ms.keep(label{act: notices, who: i}, &s, "")
	}
	if p.pub && (p.spos < ms.end() || p.cur < p.spos) { // Source.Next, Pipeline.handOver
		s := ms.try()
		ms.readOne(&s.procs[i])
		ms.keep(label{act: reads, who: i, arg: int(p.spos)}, &s, "")
	}
	// stream.report: status.next
	flush := p.confirmed
	if ms.rule&FlushIsConfirmed != 0 {
		flush = ms.ends[p.spos]
	}
	if p.attached && ms.from.slot.holder == owner(i) && flush > ms.from.slot.confirmed {
		s := ms.try()
		s.slot.confirmed = flush
		ms.keep(label{act: reports, who: i, arg: int(flush)}, &s, "")
	}
}

// readOne hands the next event over, unless that was done before.
func (m *model) readOne(p *proc) {
	at := p.spos
	if at == m.end() { // a keepalive: exactlyOnce.progress, Tracker.Progress
		p.cur, p.next = at, m.row[at]
		return
	}
	p.spos++
	if at < p.cur { // Pipeline.begin and write leave out what was done before
		return
	}
	if at > p.cur { // what lies between never comes: the slot was moved, or the mutation is one
		p.next = m.row[at]
	}
	if e := m.events[at]; !e.commit && m.events[p.spos].commit && !m.cfg.Transactions[e.tx].Large {
		p.spos++ // a place that matters only where a transaction may be split there
	}
	p.cur = p.spos
}

// endSession is what a connection leaves behind: the slot is given back, publish has ended
// (exactlyOnce.halt), and the next one begins at the front.
func (m *model) endSession(s *state, i int) {
	p := &s.procs[i]
	if s.slot.holder == owner(i) {
		s.slot.holder = 0
	}
	if p.pub && m.exactlyOnce() && m.rule&CutOff == 0 {
		p.cutOff = m.isOpen(p.cur)
	}
	p.attached, p.pub, p.pc, p.rec, p.spos = false, false, 0, record{}, 0
	p.srvSlot, p.srvConf = false, 0
}

// exit is the end of a process, by its own will or not.
func (m *model) exit(s *state, i int) {
	if s.slot.holder == owner(i) {
		s.slot.holder = 0
	}
	if s.lock == owner(i) {
		s.lock = 0
	}
	s.procs[i] = proc{}
}

func owner(i int) uint8 { return uint8(i + 1) } //nolint:gosec // 1 or 2

// isValid tells whether the producer of an instance has the newest epoch.
func (m *model) isValid(s *state, i int) bool {
	return s.procs[i].producer && s.ids[m.id(i)].owner == owner(i)
}

// sends adds what the client of an instance does by itself: it hands the brokers one record after the
// other of each partition. At least once the records go their own way, without a transaction.
func (ms *moves) sends(i int) {
	p := &ms.from.procs[i]
	for k := range p.next {
		if ms.canSend(ms.from, i, k) {
			s := ms.try()
			bug := ms.send(&s, i, k)
			ms.keep(label{act: sendsRow, who: i, arg: int(p.next[k])}, &s, bug)
		}
	}
	if ms.canSendRecord(ms.from, i) {
		s := ms.try()
		ms.sendRecord(&s, i)
		ms.keep(label{act: sendsRecord, who: i, arg: int(p.recPos)}, &s, "")
	}
	record := p.recKind != missing && !p.recSent
	if p.producer && !ms.isValid(ms.from, i) && (record || ms.exactlyOnce() && (ms.hasRow(p, 0) || ms.hasRow(p, 1))) {
		ms.refused(i)
	}
}

// hasRow tells whether the client has a row for partition k: one that is not staged.
func (m *model) hasRow(p *proc, k int) bool {
	limit := p.cur
	if p.hold {
		limit = p.stage
	}
	return p.claimedOnce && p.next[k] < limit
}

func (m *model) canSend(s *state, i, k int) bool {
	return m.hasRow(&s.procs[i], k) && (!m.exactlyOnce() || m.isValid(s, i) && s.ids[m.id(i)].state != committing)
}

func (m *model) send(s *state, i, k int) (bug string) {
	p := &s.procs[i]
	next := p.next[k]
	p.next[k] = m.row[next+1][k]
	return m.produce(s, m.id(i), m.events[next])
}

func (m *model) canSendRecord(s *state, i int) bool {
	p := &s.procs[i]
	return p.recKind != missing && !p.recSent && m.isValid(s, i) && s.ids[m.id(i)].state != committing
}

func (m *model) sendRecord(s *state, i int) {
	p, x := &s.procs[i], &s.ids[m.id(i)]
	p.recSent, x.state, x.rec = true, open, recordOf(p)
	if m.rule&ReadCommitted != 0 {
		s.dirty = x.rec
	}
}

func recordOf(p *proc) record { return record{kind: p.recKind, run: p.run, pos: p.recPos} }

// refused adds that the brokers do not take what an old epoch sends: claim.fail, Transactional.Commit and
// Write, explainSave.
func (ms *moves) refused(i int) {
	s := ms.try()
	p := &s.procs[i]
	l := label{act: isRefused, who: i}
	switch {
	case p.phase == boot:
		ms.exit(&s, i)
	case p.com > 0 && p.recKind != missing:
		ms.fail(&s, i, true)
	case p.pub:
		ms.endSession(&s, i)
	default:
		return
	}
	ms.keep(l, &s, "")
}

// produce has the brokers append one row.
func (m *model) produce(s *state, id int, e event) string {
	k := e.partition
	if !m.exactlyOnce() {
		return see(&s.seen[k], e.ordinal, true)
	}
	x := &s.ids[id]
	x.state = open
	switch {
	case x.n[k] == 0:
		x.from[k], x.n[k] = e.ordinal, 1
	case x.from[k]+x.n[k] == e.ordinal:
		x.n[k]++
	default:
		x.bad[k] = true
	}
	return ""
}

// see has a consumer see one more record of a partition.
func see(seen *uint8, ordinal uint8, repeats bool) string {
	switch {
	case ordinal > *seen+1:
		return "a record is lost: a later one is seen"
	case ordinal == *seen+1:
		*seen++
	case !repeats:
		return "a record is seen twice"
	}
	return ""
}

// claim takes a transactional id: the predecessor's epoch ends, and with it what it has not committed.
// The brokers let nobody claim while markers are being written.
func (m *model) claim(s *state, i int) (bug string, ok bool) {
	p, x := &s.procs[i], &s.ids[m.id(i)]
	if m.rule&NewProducer != 0 && m.isValid(s, i) {
		p.hold, p.stage = false, 0
		return "", true
	}
	if x.state == committing {
		return "", false
	}
	if j := int(x.owner) - 1; j >= 0 && j != i && m.unharmed(s) &&
		s.procs[j].attached && s.slot.holder == x.owner {
		bug = "without any fault, an instance that holds the slot is shut out"
	}
	m.invalidate(s, m.id(i))
	x.owner = owner(i)
	p.producer, p.recKind, p.recSent = true, missing, false
	if m.exactlyOnce() { // Kafka.disconnect, transaction.drop
		p.hold, p.stage = false, 0
		for k := range p.next {
			p.next[k] = m.end()
		}
	}
	return bug, true
}

// invalidate ends the epoch of a transactional id, aborts what is open, and refuses what is on its way.
func (m *model) invalidate(s *state, id int) {
	x := &s.ids[id]
	if j := int(x.owner) - 1; j >= 0 && s.procs[j].waiting && s.procs[j].answer == unanswered {
		s.procs[j].answer = refused
	}
	*x = txn{}
}

// coordinator adds what the brokers do with a transactional id.
func (ms *moves) coordinator(id int) {
	x := &ms.from.ids[id]
	if ms.isDead(id) {
		ms.timeOut(id)
	}
	if x.ending && x.state != committing { // EndTxn arrives; while markers are written it is sent again
		s := ms.try()
		y := &s.ids[id]
		y.ending = false
		if y.state == open {
			y.state = committing
		}
		if p := &s.procs[y.owner-1]; p.waiting {
			p.answer = accepted
		}
		ms.keep(label{act: decides, who: int(y.owner) - 1}, &s, "")
	}
	if x.state == committing {
		s := ms.try()
		bug := ms.appear(&s, id)
		ms.keep(label{act: marks, arg: id}, &s, bug)
	}
}

// appear has a commit become visible. It is one step for all partitions and the checkpoint: between them
// there is nothing that an instance or an invariant looks at. Then the next transaction may begin.
func (m *model) appear(s *state, id int) string {
	x := s.ids[id]
	s.ids[id] = txn{owner: x.owner, ending: x.ending}
	if x.rec.kind != missing {
		s.ckpt = x.rec
	}
	for k, n := range x.n {
		if x.bad[k] {
			return "a transaction holds a record twice, or records out of order"
		}
		for j := range n {
			if bug := see(&s.seen[k], x.from[k]+j, false); bug != "" {
				return bug
			}
		}
	}
	if m.exactlyOnce() {
		return m.torn(s)
	}
	return ""
}

// settle does what an instance does by itself and for itself: nobody else sees whether it is done already, so
// that to try every order of it with the steps of others would find nothing more. It also forgets
// what nobody will look at again.
func (m *model) settle(s *state) {
	for i := range s.procs {
		for m.settleOne(s, i) {
		}
	}
	for k := range s.ids {
		x := &s.ids[k]
		if x.owner != 0 && x.state == empty && !x.ending && !s.procs[x.owner-1].producer {
			x.owner = 0
		}
	}
}

// settleOne does one operation, and tells whether there was any.
func (m *model) settleOne(s *state, i int) bool {
	p := &s.procs[i]
	if p.phase == off {
		return false
	}
	if m.settleSends(s, i) {
		return true
	}
	if p.phase != session {
		return false
	}
	if at := int(p.pc); m.tail && at >= len(m.prog.start)-3 && at < len(m.prog.start) {
		o := m.prog.start[at]
		if o == startJudge && m.refusal(p) != passes {
			return false
		}
		m.enter(p, o)
		m.say(label{act: does, who: i, arg: int(o)})
		return true
	}
	return m.settleCommit(p, i)
}

// settleSends hands one record to the brokers, where it makes no difference when that happens: what is in a
// transaction is looked at when that ends, and where the program flushes before it all of it is there by then.
func (m *model) settleSends(s *state, i int) bool {
	if !m.flushes {
		return false
	}
	if m.canSendRecord(s, i) {
		m.sendRecord(s, i)
		m.say(label{act: sendsRecord, who: i, arg: int(s.procs[i].recPos)})
		return true
	}
	for k := range maxPartitions {
		if m.exactlyOnce() && m.canSend(s, i, k) {
			m.say(label{act: sendsRow, who: i, arg: int(s.procs[i].next[k])})
			m.send(s, i, k)
			return true
		}
	}
	return false
}

// settleCommit does one operation of a commit, and tells whether there was any.
func (m *model) settleCommit(p *proc, i int) bool {
	if p.com == 0 || m.acquires(p) || !m.saving(p) {
		return false
	}
	o := m.prog.commit[p.com]
	switch {
	case o == commitFlush && m.flushed(p), o == commitNote:
	case o == commitAnswer && p.answer == accepted:
	case o == commitRelease, o == commitConfirm:
	default:
		return false
	}
	m.local(p, o)
	m.say(label{act: does, who: i, arg: int(o)})
	return true
}

func (m *model) say(l label) {
	if m.telling {
		m.said = append(m.said, l)
	}
}
