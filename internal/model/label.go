package model

import "fmt"

// act is what happened in a step.
type act uint8

const (
	does act = iota // arg: the op
	starts
	connects
	notices
	reads       // arg: the event
	reports     // arg: the transactions
	sendsRow    // arg: the event
	sendsRecord // arg: the place
	isRefused
	voids
	decides
	marks // arg: the transactional id
	waits
	crashes  // who
	isCut    // who
	givesUp  // who
	timesOut // arg: the transactional id
	serverCrashes
	meddles
)

// label names a step.
type label struct {
	act act
	who int
	arg int
}

// words says what happened.
func (m *model) words(l label) string {
	who := [maxInstances]string{"A", "B"}[l.who]
	switch l.act {
	case does:
		return who + " " + opTable[l.arg].words
	case starts:
		return who + " starts"
	case connects:
		return who + " goes on to its first connection"
	case notices:
		return who + " notices that its connection is gone"
	case reads:
		return who + " reads " + m.eventWords(l.arg)
	case reports:
		return fmt.Sprintf("%s tells the server that %d transactions are durable", who, l.arg)
	case sendsRow:
		return "the brokers take from " + who + " " + m.eventWords(l.arg)
	case sendsRecord:
		return fmt.Sprintf("the brokers take from %s the checkpoint %s", who, m.placeWords(l.arg))
	case isRefused:
		return "the brokers refuse what " + who + " sends"
	case voids:
		return who + " has no claim: the cut is void"
	case decides:
		return "the coordinator commits the transaction of " + who
	case marks:
		return "the commit becomes visible"
	case waits:
		return who + " has waited too long for an open transaction to end"
	default:
		return m.faultWords(l, who)
	}
}

func (m *model) faultWords(l label, who string) string {
	switch l.act {
	case crashes:
		return "FAULT: " + who + " is killed"
	case isCut:
		return "FAULT: the server gives up the connection of " + who
	case givesUp:
		return "FAULT: " + who + " waits no longer for the answer to EndTxn"
	case timesOut:
		return "the brokers give the open transaction up"
	case serverCrashes:
		return fmt.Sprintf("FAULT: Postgres crashes, and the slot is at %d transactions", l.arg)
	default:
		return fmt.Sprintf("FAULT: somebody moves the slot to %d transactions", l.arg)
	}
}

func (m *model) eventWords(at int) string {
	if at == len(m.events) {
		return "a keepalive"
	}
	e := m.events[at]
	if e.commit {
		return fmt.Sprintf("the end of transaction %d", e.tx+1)
	}
	row := 1
	for i := at - 1; i >= 0 && !m.events[i].commit; i-- {
		row++
	}
	return fmt.Sprintf("row %d of transaction %d (partition %d)", row, e.tx+1, e.partition)
}

func (m *model) placeWords(at int) string {
	pos := uint8(at) //nolint:gosec // a few dozen
	if at == 0 || !m.isOpen(pos) {
		return fmt.Sprintf("after %d transactions", m.ends[pos])
	}
	return fmt.Sprintf("after %d transactions and %d rows", m.ends[pos], pos-m.floor[pos])
}
