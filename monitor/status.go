package monitor

import (
	"time"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// State is the word for what a pipeline is doing.
type State string

// The states, in the order a pipeline usually goes through them.
const (
	Starting     State = "starting"     // connecting and checking; nothing is read yet
	Standby      State = "standby"      // another instance holds the slot; this one waits for it
	Streaming    State = "streaming"    // changes are read and published
	Reconnecting State = "reconnecting" // a connection was lost and is being made again
	Stopping     State = "stopping"     // draining what was read, then leaving
)

// states lists all of them, for the gauge that has one series for each.
var states = [...]State{Starting, Standby, Streaming, Reconnecting, Stopping}

// Ready tells whether the instance does what it is there for. A standby is ready: if it were not, a
// rolling update would wait for it while it waits for the instance it is to replace.
func (s State) Ready() bool { return s == Streaming || s == Standby }

// Status is one moment of a pipeline. It is what /status prints, member by member, so the names in
// JSON are a contract.
type Status struct {
	Pipeline string `json:"pipeline"`
	State    State  `json:"state"`
	// Since is when State began.
	Since time.Time `json:"since"`
	// LastError is the code of the newest failure, also of one that was got over since; empty when
	// there was none. LastErrorAt is when it happened.
	LastError   fault.Code `json:"last_error,omitempty"`
	LastErrorAt time.Time  `json:"last_error_at,omitzero"`
	// Received is the highest LSN the server has named, Durable the one up to which the brokers have
	// acknowledged everything, Confirmed what the checkpoint has and the slot may be told.
	Received  event.LSN `json:"received_lsn"`
	Durable   event.LSN `json:"durable_lsn"`
	Confirmed event.LSN `json:"confirmed_lsn"`
	// PendingRecords are handed to the Kafka client and not yet acknowledged.
	PendingRecords int64 `json:"pending_records"`
}
