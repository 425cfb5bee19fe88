package model

import (
	"fmt"
	"slices"
)

// Rule is something that the algorithm heeds beside the order of its operations. A Mutation forgets some.
type Rule uint32

// The rules, each with where it stands in the code.
const (
	// SharedID: whoever runs the pipeline uses the same transactional id (checkpoint.TransactionalID).
	SharedID Rule = 1 << iota
	// NewProducer: who claims again does it with a new producer (sink.Transactional.Claim).
	NewProducer
	// UnknownIsUnknown: a commit without an answer is neither repeated with the old producer …
	UnknownIsUnknown
	// UnknownIsNotDone: … nor taken for done (exactlyOnce.failed).
	UnknownIsNotDone
	// Partial: the checkpoint of a split says how far it goes (exactlyOnce.cutIfDue).
	Partial
	// PartialIsNotEnd: of a transaction that is split nothing is confirmed before its end (cursor.done).
	PartialIsNotEnd
	// FromCheckpoint: a start goes on from the checkpoint, not from the slot (checkpoint.Judge).
	FromCheckpoint
	// CursorFollows: each claim sets the cursor anew (exactlyOnce.claimed).
	CursorFollows
	// CommitBelowDone: a transaction that commits exactly at the end of the one before is a new one
	// (Pipeline.begin: commit < done, not <=).
	CommitBelowDone
	// VoidCuts: what was cut under an earlier claim is void (exactlyOnce.claimed, place.claim).
	VoidCuts
	// CutOff: without its rest a transaction is not committed, however long that takes (exactlyOnce.halt).
	CutOff
	// ReadCommitted: a checkpoint that was not committed is none (checkpoint.KafkaStore.newest).
	ReadCommitted
	// FlushIsConfirmed: the server is told what was confirmed, not what was received (status.next).
	FlushIsConfirmed
	// Contiguous: what is durable is a prefix (checkpoint.Tracker.Durable).
	Contiguous
	// StillOurs: who was succeeded does not go on (Pipeline.stillOurs).
	StillOurs
	// NoGap: a slot beyond the checkpoint is refused (checkpoint.Judge: noGap).
	NoGap
	// SecondLook: who seems to be succeeded waits for what is committed to be visible (notSucceeded).
	SecondLook
	// HeldClaim: without a claim nothing is saved (claim.held).
	HeldClaim
)

// Mutation is the algorithm with something wrong in it. The zero value is the algorithm as it is.
type Mutation struct {
	// Name says in words what is different.
	Name string
	// Forget are rules that are not heeded.
	Forget Rule

	boot, start, commit []op // in place of the real ones; nil leaves them
}

func (m Mutation) apply(p programs) programs {
	for _, c := range []struct{ to, from *[]op }{{&p.boot, &m.boot}, {&p.start, &m.start}, {&p.commit, &m.commit}} {
		if *c.from != nil {
			*c.to = *c.from
		}
	}
	return p
}

// Neighbours returns one mutation for each two operations that follow each other in a program, swapped,
// and one for each operation, left out. With boot they are those of set-up, else those of a connection's
// start and of a commit.
func Neighbours(d Delivery, boot bool) []Mutation {
	p := programsOf(d)
	if boot {
		return neighbours(p.boot, func(m *Mutation, changed []op) { m.boot = changed })
	}
	return append(
		neighbours(p.start, func(m *Mutation, changed []op) { m.start = changed }),
		neighbours(p.commit, func(m *Mutation, changed []op) { m.commit = changed })...)
}

func neighbours(prog []op, set func(*Mutation, []op)) []Mutation {
	var all []Mutation
	add := func(name string, changed []op) {
		m := Mutation{Name: name}
		set(&m, changed)
		all = append(all, m)
	}
	for i, o := range prog {
		if i+1 < len(prog) {
			swapped := slices.Clone(prog)
			swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
			add(fmt.Sprintf("swap %s and %s", opTable[o].name, opTable[prog[i+1]].name), swapped)
		}
		add("leave out "+opTable[o].name, slices.Delete(slices.Clone(prog), i, i+1))
	}
	return all
}

// Mistakes returns mutations that are more than a swap of neighbours: mistakes that others have made, or
// that a change of the code could bring in.
func Mistakes(d Delivery) []Mutation {
	both := []Mutation{
		{Name: "a transactional id for each instance", Forget: SharedID},
		{Name: "go on from the slot, not from the checkpoint", Forget: FromCheckpoint},
		{Name: "take a transaction that commits at the end of the one before for done", Forget: CommitBelowDone},
		{Name: "tell the server what was received, not what was confirmed", Forget: FlushIsConfirmed},
		{Name: "read the checkpoint without read_committed", Forget: ReadCommitted},
		{Name: "save without a claim", Forget: HeldClaim},
		{Name: "believe in a successor at the first look", Forget: SecondLook},
		{Name: "go on although another instance has written since", Forget: StillOurs},
		{Name: "… and do not look before the claim", Forget: StillOurs, start: []op{
			startServer, startSlot, startFence, startRead, startJudge, startResume, startPublish,
		}},
		{Name: "claim the id and read before the slot is held", start: []op{
			startServer, startLook, startFence, startRead, startSlot, startJudge, startResume, startPublish,
		}},
		{Name: "read the checkpoint before the slot is held", start: []op{
			startServer, startRead, startSlot, startLook, startFence, startJudge, startResume, startPublish,
		}},
		{Name: "a standby that claims and publishes before it holds the slot", start: []op{
			startServer, startLook, startFence, startRead, startJudge, startResume, startPublish, startSlot,
		}},
		{Name: "publish before reading the checkpoint", start: []op{
			startServer, startSlot, startLook, startFence, startPublish, startRead, startJudge, startResume,
		}},
	}
	if d == AtLeastOnce {
		return append(both, []Mutation{
			{Name: "the newest acknowledgement in place of the oldest that is missing", Forget: Contiguous},
			{Name: "take a save without an answer for done", Forget: UnknownIsNotDone},
			{Name: "save again with the old producer after one without an answer", Forget: UnknownIsUnknown},
			{Name: "confirm before the save is answered", commit: []op{
				commitMark, commitRecord, commitFlush, commitEnd, commitConfirm, commitAnswer, commitNote,
			}},
		}...)
	}
	return append(both, []Mutation{
		{Name: "claim again without a new producer", Forget: NewProducer},
		{Name: "commit again with the old producer after one without an answer", Forget: UnknownIsUnknown},
		{Name: "take a commit without an answer for done", Forget: UnknownIsNotDone},
		{Name: "split without a partial checkpoint", Forget: Partial},
		{Name: "confirm the end of a transaction that is split", Forget: PartialIsNotEnd},
		{Name: "keep the cursor when the connection is made again", Forget: CursorFollows},
		{Name: "commit what was cut under an earlier claim", Forget: VoidCuts},
		{Name: "commit a transaction whose rest did not come", Forget: CutOff},
		{Name: "confirm before the commit", commit: []op{
			commitHold, commitRecord, commitFlush, commitConfirm, commitEnd, commitAnswer, commitRelease, commitNote,
		}},
		{Name: "confirm before the commit is answered", commit: []op{
			commitHold, commitRecord, commitFlush, commitEnd, commitConfirm, commitAnswer, commitRelease, commitNote,
		}},
		{Name: "the checkpoint in a transaction after that of the records", commit: []op{
			commitHold, commitFlush, commitEnd, commitAnswer, commitRecord, commitFlush, commitEnd, commitAnswer,
			commitRelease, commitNote, commitConfirm,
		}},
	}...)
}
