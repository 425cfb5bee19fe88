package model

// faults adds what can go wrong. A frozen instance needs none: it is one that makes no step for a while,
// and a zombie is one whose connection the server has given up meanwhile.
func (ms *moves) faults() {
	first := len(ms.all)
	for i := range ms.cfg.Instances {
		if ms.from.procs[i].phase == off {
			continue
		}
		s := ms.try()
		ms.exit(&s, i)
		ms.keep(label{act: crashes, who: i}, &s, "")
		ms.lostConnection(i)
		ms.lostAnswer(i)
	}
	ms.serverCrash()
	for k := range ms.from.ids {
		if !ms.isDead(k) {
			ms.timeOut(k)
		}
	}
	if ms.cfg.Meddler {
		ms.meddler()
	}
	for k := first; k < len(ms.all); k++ {
		ms.all[k].fault = true
		ms.all[k].to.left--
	}
}

// isDead tells whether nobody is left who could end a transaction. That the brokers do it is no fault.
func (ms *moves) isDead(id int) bool {
	x := &ms.from.ids[id]
	return x.owner != 0 && !x.ending && !ms.from.procs[x.owner-1].producer
}

// timeOut adds that the brokers give an open transaction up, because its time is over.
func (ms *moves) timeOut(id int) {
	if ms.from.ids[id].state == open {
		s := ms.try()
		ms.invalidate(&s, id)
		ms.keep(label{act: timesOut, arg: id}, &s, "")
	}
}

// lostConnection adds that the server gives up a connection, of which the instance does not know yet.
func (ms *moves) lostConnection(i int) {
	s := ms.try()
	if s.slot.holder != owner(i) && s.lock != owner(i) {
		return
	}
	if s.slot.holder == owner(i) {
		s.slot.holder = 0
	}
	if s.lock == owner(i) {
		s.lock = 0
	}
	ms.keep(label{act: isCut, who: i}, &s, "")
}

// lostAnswer adds that an instance gives up waiting for the answer to EndTxn. The request may still be on
// its way.
func (ms *moves) lostAnswer(i int) {
	s := ms.try()
	p := &s.procs[i]
	if !p.waiting {
		return
	}
	switch {
	case p.phase == boot: // set-up begins anew
		ms.anew(&s, i)
	case ms.rule&UnknownIsNotDone != 0:
		p.answer = accepted
	case ms.rule&UnknownIsUnknown != 0:
		p.waiting, p.answer, p.recKind, p.recSent = false, unanswered, missing, false
		p.com = 1
		if ms.exactlyOnce() {
			p.next = ms.row[ms.known(p)]
		}
	default:
		ms.fail(&s, i, false)
	}
	ms.keep(label{act: givesUp, who: i}, &s, "")
}

// known is the place of the newest record that an instance knows to be stored.
func (m *model) known(p *proc) uint8 {
	if p.last.kind == position {
		return p.last.pos
	}
	return 0
}

// serverCrash adds a crash of Postgres: the slot goes back to what is on disk, which is any position that
// it ever had, and all connections end.
func (ms *moves) serverCrash() {
	if !ms.from.slot.exists {
		return
	}
	for to := range ms.from.slot.confirmed + 1 {
		s := ms.try()
		s.slot.confirmed, s.slot.holder, s.lock = to, 0, 0
		if s.slot != ms.from.slot || s.lock != ms.from.lock {
			ms.keep(label{act: serverCrashes, arg: int(to)}, &s, "")
		}
	}
}

// meddler adds that somebody else moves the slot forward while it is free, once. Nobody would notice before the
// first checkpoint, and between the look at the slot and the start of replication: these are left out.
func (ms *moves) meddler() {
	if ms.from.meddled || !ms.from.slot.exists || ms.from.slot.holder != 0 || ms.from.ckpt.kind != position {
		return
	}
	for i := range ms.from.procs {
		if p := &ms.from.procs[i]; p.phase == session && p.pc > 0 && !p.attached {
			return
		}
	}
	for to := ms.from.slot.confirmed + 1; int(to) < len(ms.bounds); to++ {
		s := ms.try()
		s.slot.confirmed, s.meddled = to, true
		ms.keep(label{act: meddles, arg: int(to)}, &s, "")
	}
}
