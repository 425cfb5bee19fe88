package model

// refuses is the bug of a start that is refused although nothing is wrong with server and checkpoint.
const refuses = "a start is refused although nothing is wrong"

// bootStep adds the next operation of set-up.
func (ms *moves) bootStep(i int) {
	s := ms.try()
	p := &s.procs[i]
	if int(p.pc) == len(ms.prog.boot) {
		p.phase, p.pc, p.rec, p.srvSlot, p.srvConf = session, 0, record{}, false, 0
		ms.keep(label{act: connects, who: i}, &s, "")
		return
	}
	o := ms.prog.boot[p.pc]
	p.pc++
	bug, ok := "", true
	switch o { //nolint:exhaustive // the others are of other programs
	case bootLock:
		ok = s.lock == 0
		s.lock = owner(i)
	case bootServer:
		p.srvSlot, p.srvConf = s.slot.exists, s.slot.confirmed
	case bootLoad:
		p.rec = s.ckpt
	case bootJudge:
		bug = ms.bootJudge(&s, i)
	case bootShow:
		ok = ms.isStable()
	case bootFence:
		if ms.succeeded(&s, i) {
			ms.exit(&s, i)
		} else {
			bug, ok = ms.claim(&s, i)
		}
	case bootRead:
		if !ms.isStable() { // KafkaStore.newest: readTimeout, and set-up begins anew
			s = ms.try()
			ms.anew(&s, i)
			ms.keep(label{act: waits, who: i}, &s, "")
			return
		}
		ms.read(&s, i)
		if p.rec.kind == position { // another instance has made the slot meanwhile
			ms.anew(&s, i)
		}
	case bootIntent:
		p.recKind, p.recPos, p.recSent, p.oursSelf = intent, 0, false, true
	case bootEnd:
		ok = p.recSent || p.recKind == missing
		ms.sendEnd(&s, i)
	case bootAnswer:
		ok = p.answer != unanswered
		if p.answer == refused {
			ms.exit(&s, i)
		} else {
			ms.stored(p)
		}
		p.waiting, p.answer, p.recKind, p.recSent = false, unanswered, missing, false
	case bootSlot:
		s.slot.exists = true // one that exists is fine
	case bootUnlock:
		if s.lock == owner(i) {
			s.lock = 0
		}
	}
	if ok {
		ms.keep(label{act: does, who: i, arg: int(o)}, &s, bug)
	}
}

// bootJudge is checkpoint.Judge at set-up: it refuses, creates the slot, or goes on without.
func (ms *moves) bootJudge(s *state, i int) (bug string) {
	p := &s.procs[i]
	create := false
	if p.rec.kind == position && !p.srvSlot { // Setup.Look
		p.srvSlot, p.srvConf = s.slot.exists, s.slot.confirmed
	}
	switch {
	case p.rec.kind == position && !p.srvSlot, p.rec.kind == missing && p.srvSlot: // a gap is judged again, with the slot held
		ms.exit(s, i)
		if ms.unharmed(s) { // after a fault another attempt may be needed
			bug = refuses
		}
		return bug
	case !p.srvSlot:
		create = true
	}
	for !create && int(p.pc) < len(ms.prog.boot) && ms.prog.boot[p.pc] != bootUnlock {
		p.pc++
	}
	return ""
}

func (m *model) gap(p *proc) bool {
	return m.rule&NoGap == 0 && p.rec.kind == position && m.ends[p.rec.pos] < p.srvConf
}

// startStep adds the next operation of a connection's start.
func (ms *moves) startStep(i int) {
	s := ms.try()
	p := &s.procs[i]
	if int(p.pc) == len(ms.prog.start) {
		return
	}
	at := int(p.pc)
	o := ms.prog.start[at]
	if at == ms.acquiring[0] {
		if ms.saving(p) { // Pipeline.acquire waits for the claim's lock
			return
		}
		p.held = false
	}
	p.pc++
	bug, ok := "", true
	switch o {
	case startServer:
		p.srvSlot, p.srvConf = s.slot.exists, s.slot.confirmed
		switch {
		case !s.slot.exists:
			ms.exit(&s, i)
			bug = refuses
		case s.slot.holder != 0 && s.slot.holder != owner(i):
			// Pipeline.start: watchSuccessor; everybody else waits as a standby
			ok = p.claimedOnce && p.producer && ms.isStable() && ms.isSucceeded(p, s.ckpt)
			ms.exit(&s, i)
		}
	case startSlot:
		if s.slot.holder != 0 && s.slot.holder != owner(i) {
			ms.endSession(&s, i) // 55006: look again
		} else {
			s.slot.holder, p.attached, p.spos = owner(i), true, ms.bounds[s.slot.confirmed]
		}
	case startLook:
		if ms.succeeded(&s, i) {
			// What was there before the own record is read once more, to the end.
			ok = ms.isStable() || ms.visible(&s).run != p.before || ms.rule&SecondLook != 0
			if ms.newest(&s).run == p.run {
				bug = "an instance stops for a successor that there is not"
			}
			ms.exit(&s, i)
		}
	case startFence:
		bug, ok = ms.claim(&s, i)
	case startRead:
		if !ms.isStable() { // KafkaStore.newest: readTimeout, and keepClaim acquires again
			s = ms.try()
			s.procs[i].pc = uint8(ms.acquiring[0]) //nolint:gosec // a handful
			ms.keep(label{act: waits, who: i}, &s, "")
			return
		}
		ms.read(&s, i)
	case startJudge:
		v := ms.refusal(p)
		if v == isRefusedFor && !s.meddled {
			bug = refuses
		}
		if v != passes {
			ms.exit(&s, i)
		}
	default:
		p.pc--
		ms.enter(p, o)
	}
	if ok && s != *ms.from {
		ms.keep(label{act: does, who: i, arg: int(o)}, &s, bug)
	}
}

// stored is the end of KafkaStore.Save: what was there before is not the newest any more.
func (m *model) stored(p *proc) { p.ours, p.oursSelf = p.run, false }

// newest is the newest record that is committed, whether it is visible yet or not.
func (m *model) newest(s *state) record {
	for _, x := range s.ids {
		if x.state == committing && x.rec.kind != missing {
			return x.rec
		}
	}
	return s.ckpt
}

// succeeded is KafkaStore.notSucceeded: another instance has written since this one claimed.
func (m *model) succeeded(s *state, i int) bool {
	p, rec := &s.procs[i], m.visible(s)
	return p.looked && rec.run != p.ours && (!p.oursSelf || rec.run != p.run)
}

// read is KafkaStore.newest.
func (m *model) read(s *state, i int) {
	p := &s.procs[i]
	p.rec = m.visible(s)
	p.looked, p.ours, p.before, p.oursSelf = true, p.rec.run, p.rec.run, false
}

// visible is the newest record that a read brings.
func (m *model) visible(s *state) record {
	if m.rule&ReadCommitted != 0 && s.dirty.kind != missing {
		return s.dirty
	}
	return s.ckpt
}

// isStable tells whether nothing is open in the checkpoint topic. With the claim held newest waits for that.
func (ms *moves) isStable() bool {
	for _, x := range ms.from.ids {
		if x.rec.kind != missing && ms.rule&ReadCommitted == 0 {
			return false
		}
	}
	return true
}

// anew has set-up begin again, after an error that is worth another attempt.
func (m *model) anew(s *state, i int) {
	p := &s.procs[i]
	if s.lock == owner(i) {
		s.lock = 0
	}
	p.pc, p.waiting, p.answer, p.recKind, p.recSent = 0, false, unanswered, missing, false
	p.rec, p.srvSlot, p.srvConf = record{}, false, 0
}

// verdict is what Pipeline.judge says.
type verdict uint8

const (
	passes       verdict = iota
	isRefusedFor         // server or checkpoint
	isTakenOver
)

// isSucceeded is Pipeline.stillOurs.
func (m *model) isSucceeded(p *proc, rec record) bool { return rec.run != p.run && rec != p.last }

// refusal is Pipeline.judge: checkpoint.Judge, and from the second claim on stillOurs.
func (m *model) refusal(p *proc) verdict {
	switch {
	case p.rec.kind == missing, m.gap(p):
		return isRefusedFor
	case p.claimedOnce && m.isSucceeded(p, p.rec) && m.rule&StillOurs == 0:
		return isTakenOver
	}
	return passes
}

// enter does one of the last three operations of a start, which change nothing outside of the instance.
func (m *model) enter(p *proc, o op) {
	p.pc++
	switch o { //nolint:exhaustive // startJudge changes nothing
	case startResume:
		m.resume(p)
	case startPublish:
		p.pub = true
		if m.tail { // Pipeline.begin and write leave out what was done before
			p.spos = max(p.spos, p.cur)
			p.srvSlot, p.srvConf, p.rec = false, 0, record{}
		}
	}
}

// resume is claimed: it sets the cursor and voids what was cut before.
func (m *model) resume(p *proc) {
	first := !p.claimedOnce
	if p.rec.kind != missing {
		p.last = p.rec
	}
	p.held, p.claimedOnce = true, true
	if p.rec.kind == position { // Pipeline.judge
		p.confirmed = max(p.confirmed, m.ends[p.rec.pos])
	}
	if !first && (!m.exactlyOnce() || m.rule&CursorFollows != 0) {
		p.com, p.void, p.cutOff = 0, false, false
		if m.exactlyOnce() {
			p.cut, p.next = p.cur, m.row[p.cur]
		}
		return
	}
	p.cur = m.bounds[p.srvConf] // judgeFresh
	if p.rec.kind == position && m.rule&FromCheckpoint == 0 {
		p.cur = p.rec.pos
	}
	if m.rule&CommitBelowDone != 0 && !m.isOpen(p.cur) && p.cur < m.end() {
		p.cur = m.bounds[m.ends[p.cur]+1]
	}
	p.next, p.void, p.cutOff = m.row[p.cur], false, false
	if m.rule&VoidCuts != 0 && p.com > 0 {
		return
	}
	p.cut, p.com = p.cur, 0
}
