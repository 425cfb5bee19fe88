package model

import (
	"bytes"
	"crypto/sha256"
)

const (
	maxInstances  = 2
	maxPartitions = 2
)

// state is all there is at one moment. It is a value: a step works on a copy.
//
// A place in the stream is the number of its events (rows and commits) before it, so that one number
// tells End and Partial of a checkpoint. Instances are numbered from 1 where 0 stands for nobody.
type state struct {
	procs [maxInstances]proc
	ids   [maxInstances]txn // by transactional id: the pipeline has the first, a mutation one per instance
	ckpt  record            // the newest that is committed
	dirty record            // the newest that was written; only kept for the mutation that reads it
	seen  [maxPartitions]uint8
	slot  slot
	lock  uint8 // who has the lock of the set-up
	left  uint8 // how many more faults there may be
	// meddled tells that somebody else has moved the slot.
	meddled bool
	// own tells that each instance has a transactional id of its own, which is a mutation.
	own bool
}

// slot is the replication slot in the server's memory.
type slot struct {
	exists    bool
	confirmed uint8 // transactions
	holder    uint8
}

// record is a checkpoint record.
type record struct {
	kind kind
	run  uint8 // of the process that wrote it
	pos  uint8
}

type kind uint8

const (
	missing kind = iota
	intent
	position
)

// txn is what the brokers know of a transactional id.
type txn struct {
	owner  uint8 // who has the newest epoch
	state  txnState
	ending bool                 // an EndTxn of the newest epoch is on its way
	from   [maxPartitions]uint8 // the first record of the open transaction, 0 for none
	n      [maxPartitions]uint8 // how many follow each other from there
	bad    [maxPartitions]bool  // one does not follow
	rec    record               // the checkpoint record in it
}

type txnState uint8

const (
	empty txnState = iota
	open
	committing // decided, and not visible yet
)

type phase uint8

const (
	off phase = iota
	boot
	session
)

type reply uint8

const (
	unanswered reply = iota
	accepted
	refused
)

// proc is the memory of one instance: all of it is gone after a crash.
type proc struct {
	phase phase
	pc    uint8 // of boot or start: the operations that are done
	run   uint8

	// The connection.
	attached bool  // it has taken the slot, and has not heard that it lost it
	pub      bool  // publish runs
	spos     uint8 // the next event of the stream
	srvSlot  bool  // the server as seen before
	srvConf  uint8
	rec      record // the checkpoint as read

	// pipeline.claim, and checkpoint.KafkaStore.ours.
	held, claimedOnce bool
	last              record
	looked            bool // ours is set
	ours              uint8
	oursSelf          bool
	before            uint8 // the run of the record that the last claim found

	// The cursor, and the delivery.
	cur       uint8 // handed to the sink
	cut       uint8 // the newest place to commit at
	hold      bool  // what comes after stage is staged
	stage     uint8
	cutOff    bool
	void      bool  // running, without a claim: nothing is cut until the next one
	com       uint8 // of commit: the operations that are done, 0 while nothing is cut
	confirmed uint8 // what the stream may tell the server

	// The producer.
	producer bool                 // there is one that has claimed, be it in vain by now
	next     [maxPartitions]uint8 // the next row to send to each partition, as a place in the stream
	recKind  kind                 // of the record in the client, missing for none
	recPos   uint8
	recSent  bool
	waiting  bool // for the answer to EndTxn
	answer   reply
}

// key identifies a state: the first half of a SHA-256 of all its fields. Two states that differ only in which
// instance is called A have the same one.
type key [16]byte

func (s *state) key() key {
	var one, two [160]byte
	a, swapped := s.append(one[:0]), s.swapped()
	if b := swapped.append(two[:0]); bytes.Compare(b, a) < 0 {
		a = b
	}
	sum := sha256.Sum256(a)
	return key(sum[:16])
}

func (s *state) append(b []byte) []byte {
	for i := range s.procs {
		b = s.procs[i].append(b)
	}
	for i := range s.ids {
		b = s.ids[i].append(b)
	}
	b = s.ckpt.append(b)
	b = s.dirty.append(b)
	b = append(b, s.seen[:]...)
	return append(b, bits(s.slot.exists, s.meddled), s.slot.confirmed, s.slot.holder, s.lock, s.left)
}

// swapped returns the state with the names of the instances exchanged.
func (s *state) swapped() state {
	o := *s
	o.procs[0], o.procs[1] = s.procs[1], s.procs[0]
	if s.own {
		o.ids[0], o.ids[1] = s.ids[1], s.ids[0]
	}
	for _, who := range []*uint8{&o.ids[0].owner, &o.ids[1].owner, &o.slot.holder, &o.lock} {
		if *who != 0 {
			*who = 3 - *who
		}
	}
	o.renumber()
	return o
}

func (p *proc) append(b []byte) []byte {
	b = append(b, byte(p.phase), p.pc, p.run, p.spos, p.srvConf, p.ours, p.before, p.cur, p.cut, p.stage, p.com, p.confirmed,
		byte(p.recKind), p.recPos, byte(p.answer),
		bits(p.attached, p.pub, p.srvSlot, p.held, p.claimedOnce, p.looked, p.oursSelf),
		bits(p.hold, p.cutOff, p.void, p.producer, p.recSent, p.waiting))
	b = append(b, p.next[:]...)
	b = p.rec.append(b)
	return p.last.append(b)
}

func (x *txn) append(b []byte) []byte {
	b = append(b, x.owner, byte(x.state), bits(x.ending, x.bad[0], x.bad[1]))
	b = append(b, x.from[:]...)
	b = append(b, x.n[:]...)
	return x.rec.append(b)
}

func (r record) append(b []byte) []byte { return append(b, byte(r.kind), r.run, r.pos) }

func bits(flags ...bool) (b byte) {
	for i, f := range flags {
		if f {
			b |= 1 << i
		}
	}
	return b
}

// renumber gives the runs that anybody remembers the numbers 1, 2, … in the order in which they are
// met, so that two states that differ in nothing but how often something was restarted are one.
func (s *state) renumber() {
	var names [fresh + 1]uint8
	next := uint8(1)
	name := func(run *uint8) {
		if *run == 0 {
			return
		}
		if names[*run] == 0 {
			names[*run] = next
			next++
		}
		*run = names[*run]
	}
	for i := range s.procs {
		p := &s.procs[i]
		name(&p.run)
		name(&p.rec.run)
		name(&p.last.run)
		name(&p.ours)
		name(&p.before)
	}
	for i := range s.ids {
		name(&s.ids[i].rec.run)
	}
	name(&s.ckpt.run)
	name(&s.dirty.run)
}

// fresh is a run that nobody remembers; renumber makes a small number of it.
const fresh = 255
