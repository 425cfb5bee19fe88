package pgoutput

import (
	"time"

	"github.com/walferry/walferry/event"
)

// Begin opens a committed transaction.
type Begin struct {
	// FinalLSN is where the commit record starts, the position of the transaction in commit order.
	// It is the CommitLSN of the Commit to come.
	FinalLSN event.LSN
	// CommitTime is in UTC, to the microsecond.
	CommitTime time.Time
	XID        uint32
}

// Commit closes the transaction.
type Commit struct {
	// CommitLSN is where the commit record starts. Confirming it has the transaction sent again.
	CommitLSN event.LSN
	// EndLSN is behind the commit record: the value to confirm.
	EndLSN event.LSN
	// CommitTime is in UTC, to the microsecond.
	CommitTime time.Time
}

// Origin says that the transaction was itself replicated from elsewhere. It follows Begin.
type Origin struct {
	// CommitLSN is the commit's place in the WAL of the origin, not of this server.
	CommitLSN event.LSN
	// Name aliases the input.
	Name []byte
}

func (d *Decoder) decodeBegin(r *reader) *Begin {
	d.begin = Begin{FinalLSN: r.lsn(), CommitTime: r.time(), XID: r.uint32()}
	return &d.begin
}

func (d *Decoder) decodeCommit(r *reader) *Commit {
	r.flags(0) // none is defined
	d.commit = Commit{CommitLSN: r.lsn(), EndLSN: r.lsn(), CommitTime: r.time()}
	return &d.commit
}

func (d *Decoder) decodeOrigin(r *reader) *Origin {
	d.origin = Origin{CommitLSN: r.lsn(), Name: r.cstring()}
	return &d.origin
}
