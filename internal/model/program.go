package model

// op is one step of an instance that others can come between.
type op uint8

const (
	none op = iota

	// Set-up, before the first connection: pipeline/prepare.go:Pipeline.setUp.
	bootLock   // replication.Source.Prepare: the lock of the set-up
	bootServer // Setup.Server: does the slot exist, what has it confirmed
	bootLoad   // checkpoint.KafkaStore.Load: the newest record, without a claim
	bootJudge  // checkpoint.Judge; without slot and checkpoint, go on with the next, else with bootUnlock
	bootFence  // Pipeline.createSlot: KafkaStore.Acquire → notSucceeded, claim → fence
	bootRead   // KafkaStore.Acquire → newest; a record that holds a position is refused
	bootIntent // KafkaStore.Save: the intent goes to the brokers
	bootEnd    // … EndTransaction is sent
	bootAnswer // … and answered
	bootShow   // KafkaStore.Load with the claim held: it waits until the intent is visible
	bootSlot   // Setup.CreateSlot
	bootUnlock // Setup.Close

	// Each connection: pipeline/stream.go:Pipeline.session.
	startServer  // replication.Source.start: serverState; who finds the slot busy waits as a standby, and watches for a successor
	startSlot    // … startReplication: the slot is the lock
	startLook    // Pipeline.acquire → KafkaStore.Acquire: notSucceeded
	startFence   // … claim → fence → sink.Transactional.Claim: a new producer, what was written is given up
	startRead    // … newest: read_committed, up to the end as it is after the claim
	startJudge   // Pipeline.judge → checkpoint.Judge, stillOurs
	startResume  // exactlyOnce.claimed, atLeastOnce.claimed → Pipeline.resume: the cursor
	startPublish // keepClaim → claimed(): Pipeline.publish may begin

	// Each commit: exactlyOnce.cutIfDue and store, or atLeastOnce.advance.
	commitHold    // cutIfDue: the place, and Transactional.Hold: from here on records are staged
	commitMark    // advance: Tracker.Durable, the contiguous prefix that is acknowledged
	commitRecord  // Pipeline.record; Transactional.Commit or KafkaStore.commit: Produce
	commitFlush   // … Flush or ProduceSync: the brokers have everything
	commitEnd     // … EndTransaction is sent
	commitAnswer  // … and answered; else claim.held = false, failed
	commitRelease // … BeginTransaction, Transactional.release: what was staged goes out
	commitNote    // Pipeline.saved: claim.last
	commitConfirm // … Source.Confirm; the next status update tells the server

	ops
)

// opTable has the name of each operation, and what an instance does in it.
var opTable = [ops]struct{ name, words string }{
	none:          {"none", "nothing"},
	bootLock:      {"bootLock", "takes the lock of the set-up"},
	bootServer:    {"bootServer", "looks at server and slot"},
	bootLoad:      {"bootLoad", "loads the checkpoint"},
	bootJudge:     {"bootJudge", "judges whether to create the slot"},
	bootFence:     {"bootFence", "claims the transactional id, to create the slot"},
	bootRead:      {"bootRead", "reads the checkpoint again, with the claim"},
	bootIntent:    {"bootIntent", "writes the intent"},
	bootEnd:       {"bootEnd", "sends EndTxn for the intent"},
	bootAnswer:    {"bootAnswer", "hears the answer to the intent"},
	bootShow:      {"bootShow", "waits for the intent to be visible"},
	bootSlot:      {"bootSlot", "creates the slot"},
	bootUnlock:    {"bootUnlock", "gives the lock of the set-up back"},
	startServer:   {"startServer", "looks at the slot, which nobody else holds"},
	startSlot:     {"startSlot", "starts replication, which takes the slot if it is free"},
	startLook:     {"startLook", "looks whether it was succeeded"},
	startFence:    {"startFence", "claims the transactional id with a new producer"},
	startRead:     {"startRead", "reads the checkpoint"},
	startJudge:    {"startJudge", "judges checkpoint and slot"},
	startResume:   {"startResume", "sets its cursor to the checkpoint"},
	startPublish:  {"startPublish", "may publish from now on"},
	commitHold:    {"commitHold", "cuts, and stages from here on"},
	commitMark:    {"commitMark", "reads the mark of what is acknowledged"},
	commitRecord:  {"commitRecord", "hands the checkpoint record to the client"},
	commitFlush:   {"commitFlush", "has flushed"},
	commitEnd:     {"commitEnd", "sends EndTxn"},
	commitAnswer:  {"commitAnswer", "hears the answer to EndTxn"},
	commitRelease: {"commitRelease", "begins the next transaction with what was staged"},
	commitNote:    {"commitNote", "notes what is stored"},
	commitConfirm: {"commitConfirm", "confirms to its stream"},
}

// programs are the operations of an instance, each list in order.
type programs struct {
	boot, start, commit []op
}

// programsOf returns the algorithm as the code has it.
func programsOf(d Delivery) programs {
	p := programs{
		boot: []op{
			bootLock, bootServer, bootLoad, bootJudge, bootFence, bootRead, bootIntent, bootEnd, bootAnswer, bootShow,
			bootSlot, bootUnlock,
		},
		start: []op{
			startServer, startSlot, startLook, startFence, startRead, startJudge, startResume, startPublish,
		},
		commit: []op{
			commitHold, commitRecord, commitFlush, commitEnd, commitAnswer, commitRelease, commitNote, commitConfirm,
		},
	}
	if d == AtLeastOnce {
		p.commit = []op{commitMark, commitRecord, commitFlush, commitEnd, commitAnswer, commitNote, commitConfirm}
	}
	return p
}
