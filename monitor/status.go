package monitor

import (
	"fmt"
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
	// WALEnd is the end of the server's WAL as it was seen last, at WALSeen.
	WALEnd  event.LSN `json:"wal_end_lsn,omitzero"`
	WALSeen time.Time `json:"wal_seen_at,omitzero"`
	// Received is the highest LSN the server has named, Handed the one up to which everything was handed to
	// the Kafka client, Durable the one up to which the brokers have acknowledged everything, Confirmed what
	// the checkpoint has and the slot may be told.
	Received  event.LSN `json:"received_lsn"`
	Handed    event.LSN `json:"handed_over_lsn"`
	Durable   event.LSN `json:"durable_lsn"`
	Confirmed event.LSN `json:"confirmed_lsn"`
	// PendingRecords are handed to the Kafka client and not yet acknowledged.
	PendingRecords int64 `json:"pending_records"`
	// Lag is how far each stage is behind the server's WAL, in the order of the stages. Empty as long as
	// that is not known: before the checkpoint was claimed, and for a standby.
	Lag []StageLag `json:"lag,omitempty"`
	// ClockOffset is how far the server's clock is ahead of this machine's, in seconds.
	ClockOffset float64 `json:"clock_offset_seconds"`
	// Slot is the slot as the server sees it, nil where there is none or none was seen yet.
	Slot *Slot `json:"slot,omitempty"`
	// Oldest is the oldest transaction of the server that writes and has not ended.
	Oldest *Transaction `json:"oldest_transaction,omitempty"`
	// Checks are what must hold for the pipeline to work.
	Checks []CheckResult `json:"checks,omitempty"`
}

// Stage is a place on the way of a change.
type Stage string

// The stages, in their order. Each is behind the one before, or level with it.
const (
	StageReceived     Stage = "received"     // named by the server on the replication connection
	StageHandedOver   Stage = "handed_over"  // decoded and handed to the Kafka client
	StageAcknowledged Stage = "acknowledged" // on record at the brokers
	StageCheckpointed Stage = "checkpointed" // in the checkpoint
	StageConfirmed    Stage = "confirmed"    // confirmed by the slot: the server need not send it again
)

// StageLag is the lag of one stage.
type StageLag struct {
	Stage Stage `json:"stage"`
	Lag
}

// Slot is a replication slot as the server sees it.
type Slot struct {
	Name   string `json:"name"`
	Active bool   `json:"active"`
	PID    int    `json:"active_pid,omitempty"`
	// Restart is the oldest WAL that the slot keeps, Confirmed what it need not send again.
	Restart   event.LSN `json:"restart_lsn"`
	Confirmed event.LSN `json:"confirmed_flush_lsn"`
	// Retained are the bytes of WAL from Restart on, Held those of them from Restart to Confirmed, which
	// only open transactions still need.
	Retained uint64 `json:"retained_bytes"`
	Held     uint64 `json:"held_bytes"`
	// Safe are the bytes that can still be written before the slot may be invalidated; nil where no limit is
	// set, or where it is too late.
	Safe          *int64    `json:"safe_wal_bytes,omitempty"`
	WALStatus     string    `json:"wal_status,omitempty"`
	Invalidation  string    `json:"invalidation_reason,omitempty"`
	InactiveSince time.Time `json:"inactive_since,omitzero"`
	// What decoding has written to the server's disk.
	SpilledTransactions int64 `json:"spilled_transactions"`
	SpillCount          int64 `json:"spill_count"`
	SpilledBytes        int64 `json:"spilled_bytes"`
}

// Transaction is one that has not ended. Of a session's work nothing is shown but who and since when.
type Transaction struct {
	PID         int       `json:"pid,omitempty"`
	Application string    `json:"application_name,omitempty"`
	Prepared    bool      `json:"prepared,omitempty"`
	Began       time.Time `json:"began"`
	Seconds     float64   `json:"seconds"`
}

// Ready tells whether the pipeline does what it is there for, and nothing that it needs is broken.
func (s Status) Ready() bool {
	for _, c := range s.Checks {
		if c.State == Failing {
			return false
		}
	}
	return s.State.Ready()
}

// Who names the session of the transaction.
func (t Transaction) Who() string {
	if t.Prepared {
		return "a prepared transaction"
	}
	return fmt.Sprintf("process %d (%s)", t.PID, t.Application)
}
