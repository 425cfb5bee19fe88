package model

import "slices"

// saving tells whether a commit has the claim's lock: from the record (exactlyOnce.store) or the mark
// (atLeastOnce.advance) to the end.
func (m *model) saving(p *proc) bool {
	if p.com == 0 {
		return false
	}
	return !m.exactlyOnce() || int(p.com) > slices.Index(m.prog.commit, commitHold)+1
}

// acquires tells whether the start of a connection has it.
func (m *model) acquires(p *proc) bool {
	return int(p.pc) > m.acquiring[0] && int(p.pc) <= m.acquiring[1]
}

// commitStep adds the next operation of a commit.
func (ms *moves) commitStep(i int) {
	s := ms.try()
	p := &s.procs[i]
	if p.com == 0 && !ms.isDue(p) || ms.acquires(p) {
		return
	}
	if p.com > 0 && !p.held && !ms.saving(p) && ms.rule&HeldClaim == 0 { // exactlyOnce.store: void
		p.com, p.void = 0, true
		ms.keep(label{act: voids, who: i}, &s, "")
		return
	}
	o := ms.prog.commit[p.com]
	switch {
	case o == commitFlush && !ms.flushed(p), o == commitAnswer && p.answer == unanswered:
		return
	case o == commitRecord && !p.producer: // KafkaStore.Save: the claim was given up
		ms.fail(&s, i, false)
	case o == commitAnswer && p.answer == refused:
		ms.fail(&s, i, true)
	case o == commitEnd:
		ms.sendEnd(&s, i)
		ms.local(p, o)
	default:
		ms.local(p, o)
	}
	ms.keep(label{act: does, who: i, arg: int(o)}, &s, "")
}

// local does an operation of a commit that changes nothing outside of the instance.
func (m *model) local(p *proc, o op) {
	switch o { //nolint:exhaustive // the others are of other programs, or reach further
	case commitHold:
		p.cut = p.cur
		if !p.hold {
			p.hold, p.stage = true, p.cur
		}
	case commitMark:
		p.cut = m.durable(p)
	case commitRecord:
		p.recKind, p.recPos, p.recSent, p.oursSelf = position, m.recordAt(p), false, true
	case commitAnswer:
		p.waiting, p.answer = false, unanswered
		m.stored(p)
	case commitRelease:
		p.hold, p.stage = false, 0
	case commitNote:
		p.last = record{kind: position, run: p.run, pos: p.cut}
	case commitConfirm:
		p.confirmed = max(p.confirmed, m.confirms(p))
	}
	p.com++
	if int(p.com) == len(m.prog.commit) {
		p.com, p.recKind, p.recPos, p.recSent = 0, missing, 0, false
	}
}

// isDue is exactlyOnce.isDue, for any clock: between transactions as soon as something is new, within
// one only where it is too large. At least once it is the look that advance takes first.
func (m *model) isDue(p *proc) bool {
	if !p.claimedOnce {
		return false
	}
	if !m.exactlyOnce() {
		if !p.held && m.rule&HeldClaim == 0 {
			return false
		}
		durable := m.durable(p)
		return p.last.kind == intent && durable > 0 || p.last.kind == position && durable != p.last.pos || m.isIdle(p, durable)
	}
	switch {
	case p.void, p.cutOff:
		return false
	case m.isIdle(p, p.cur):
		return true
	case !m.isOpen(p.cur):
		return m.ends[p.cur] > m.ends[p.cut] || p.cur > p.cut && m.rows(p.cut, p.cur)
	}
	tx := m.cfg.Transactions[m.events[p.cur].tx]
	// transactions.max_open is over only where the rest does not come.
	full := tx.Large || !p.pub
	return full && m.rows(max(p.cut, m.floor[p.cur]), p.cur)
}

// isIdle tells whether keepalives alone move the position: the server's WAL goes on behind the last
// transaction. That a start need not have told the server what its checkpoint says shows only there.
func (m *model) isIdle(p *proc, done uint8) bool {
	return p.pub && done == m.end() && p.confirmed < m.ends[done]
}

// durable is Tracker.Durable: the end of the last transaction such that all rows up to it are
// acknowledged.
func (m *model) durable(p *proc) uint8 {
	if m.rule&Contiguous != 0 { // of the last acknowledgement
		return m.floor[min(p.cur, max(p.next[0], p.next[1]))]
	}
	return m.floor[min(p.cur, p.next[0], p.next[1])]
}

// recordAt is the place of a record: of the cut, if that was made before.
func (m *model) recordAt(p *proc) uint8 {
	at := p.cut
	if m.exactlyOnce() {
		hold, rec := slices.Index(m.prog.commit, commitHold), slices.Index(m.prog.commit, commitRecord)
		if hold > rec || hold < 0 {
			at = p.cur
		}
		if m.rule&Partial != 0 {
			at = m.floor[at]
		}
	}
	return at
}

// confirms is what Source.Confirm is told.
func (m *model) confirms(p *proc) uint8 {
	at := p.cut
	if p.recKind != missing {
		at = p.recPos
	}
	if m.rule&PartialIsNotEnd != 0 && m.isOpen(at) {
		return m.ends[at] + 1
	}
	return m.ends[at]
}

// flushed tells whether the brokers have everything that was handed to the client.
func (m *model) flushed(p *proc) bool {
	if p.recKind != missing && !p.recSent {
		return false
	}
	if !m.exactlyOnce() {
		return true
	}
	return !m.hasRow(p, 0) && !m.hasRow(p, 1)
}

// sendEnd sends EndTxn.
func (m *model) sendEnd(s *state, i int) {
	p := &s.procs[i]
	p.waiting, p.answer = true, refused
	if m.isValid(s, i) {
		p.answer = unanswered
		s.ids[m.id(i)].ending = true
	}
}

// fail ends a commit that was refused, or whose outcome is not known: exactlyOnce.failed gives the
// connection up, atLeastOnce.failed only if it was refused, and else claims again.
func (m *model) fail(s *state, i int, fenced bool) {
	p := &s.procs[i]
	own := int(p.pc) > slices.Index(m.prog.start, startResume) // the claim rests on this connection
	p.held = false
	p.com, p.void = 0, m.exactlyOnce()
	p.waiting, p.answer, p.recKind, p.recPos, p.recSent = false, unanswered, missing, 0, false
	switch {
	case !own:
	case fenced || m.exactlyOnce():
		m.endSession(s, i)
	default:
		p.pc = uint8(min(m.acquiring[0], len(m.prog.start))) //nolint:gosec // a handful
	}
}
