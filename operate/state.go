package operate

import (
	"context"
	"time"

	"github.com/walferry/walferry/checkpoint"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/replication"
)

// lookFor bounds what is waited for a server that does not answer, for each of the two.
const lookFor = 15 * time.Second

// Store keeps the checkpoint record, as pipeline.Store says, and can do what only an operator may want.
type Store interface {
	// Peek reads the newest record and creates nothing; nil where there is none.
	Peek(ctx context.Context) (*checkpoint.Record, error)
	// Acquire shuts out every other writer and reads. A record that cannot be read is an error with
	// which Save and Forget may be called all the same.
	Acquire(ctx context.Context) (*checkpoint.Record, error)
	// Save and Forget put a record in its place, or nothing. After an error it is not known whether they did.
	Save(ctx context.Context, r checkpoint.Record) error
	Forget(ctx context.Context) error
	Close() error
}

// Pipeline is one pipeline as its operator sees it.
type Pipeline struct {
	// Keeper is for the slot and the publication, Store for the checkpoint.
	Keeper *replication.Keeper
	Store  Store
	// Judge are the settings of a start, without the fingerprint.
	Judge checkpoint.JudgeOptions
	// Run tells the records that this process writes apart from others.
	Run string
	// Place says where the checkpoint is, and Publication is the configured name.
	Place, Publication string
}

// State is what a pipeline has at its servers, as far as these could be asked.
type State struct {
	Record *checkpoint.Record
	// RecordErr is why the record is not known. It may be one that cannot be read.
	RecordErr error
	View      replication.View
	// ViewErr is why nothing is known of the server.
	ViewErr error
}

// Look reads checkpoint and server, and changes nothing. It may be called while instances run.
func (p *Pipeline) Look(ctx context.Context) State {
	var s State
	// The slot comes first: what it has confirmed then is in every record that is read after it.
	s.View, s.ViewErr = p.view(ctx)
	within, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	s.Record, s.RecordErr = p.Store.Peek(within)
	if s.ViewErr != nil || s.Record == nil || s.Record.End <= s.View.Server.End && s.Record.Partial.Commit < s.View.Server.End {
		return s
	}
	// An instance may have saved since the server was asked where its WAL ends.
	if again, err := p.view(ctx); err == nil {
		again.Server.Slot = s.View.Server.Slot
		s.View = again
	}
	return s
}

func (p *Pipeline) view(ctx context.Context) (replication.View, error) {
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	return p.Keeper.Look(ctx)
}

// judge decides as a start does.
func (p *Pipeline) judge(s State) (checkpoint.Decision, error) {
	switch {
	case s.ViewErr != nil:
		return checkpoint.Decision{}, s.ViewErr
	case s.RecordErr != nil:
		return checkpoint.Decision{}, s.RecordErr
	}
	o := p.Judge
	o.Fingerprint = s.View.Fingerprint
	return checkpoint.Judge(s.Record, s.View.Server, o)
}

// Start is what a start would do.
type Start string

// The values of Start; docs/commands.md has them.
const (
	GoesOn      Start = "goes_on"
	AdoptsSlot  Start = "adopts_slot"
	CreatesSlot Start = "creates_slot"
	Waits       Start = "waits"
	Refuses     Start = "refuses"
)

// Verdict is what a start would do, and from where, or why not.
type Verdict struct {
	Start    Start
	Decision checkpoint.Decision
	// Err is set where Start is Refuses.
	Err error
}

// Verdict returns what a start would do in a state.
func (p *Pipeline) Verdict(s State) Verdict {
	d, err := p.judge(s)
	v := Verdict{Start: GoesOn, Decision: d, Err: err}
	switch slot := s.View.Server.Slot; {
	case err != nil:
		v.Start = Refuses
	case slot != nil && slot.Active:
		v.Start = Waits
	case d.CreateSlot:
		v.Start = CreatesSlot
	case s.Record == nil:
		v.Start = AdoptsSlot
	}
	return v
}

// unreadable tells whether an error is of a record that is, or was, there and can be replaced.
func unreadable(err error) bool {
	return fault.Is(err, fault.CheckpointInvalid) || fault.Is(err, fault.CheckpointNewer) || fault.Is(err, fault.CheckpointLost)
}
