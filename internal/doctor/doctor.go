// Package doctor holds the words of a diagnosis: findings, how to mend them, and the report that joins
// them. The rooms that know a server make the findings (replication, sink); this package does no I/O.
//
// docs/doctor.md lists every finding, and is a contract.
package doctor

import (
	"github.com/walferry/walferry/fault"
)

// Severity says what a finding means for a start.
type Severity string

// The severities.
const (
	OK      Severity = "ok"
	Warning Severity = "warning" // walferry would run
	Error   Severity = "error"   // walferry would not start, or an application breaks
	Unknown Severity = "unknown" // could not be looked at; another finding says why
)

// Finding is what one check found. ID is stable; docs/doctor.md has a section for each.
type Finding struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	// Subject is the table, topic or slot that it is about, as far as it is about one.
	Subject string `json:"subject,omitempty"`
	// Found is what is there, in a sentence without a full stop. It holds no secret and no value of a row.
	Found string `json:"found"`
	// Why says why it matters; empty for what is in order.
	Why string `json:"why,omitempty"`
	// Code is the error that a start would end with, where there is one.
	Code  fault.Code `json:"code,omitempty"`
	Fixes []Fix      `json:"fixes,omitempty"`
}

// Kind says where a fix is done.
type Kind string

// The kinds of a fix.
const (
	SQL     Kind = "sql"     // in the database of the pipeline, in a transaction
	Setting Kind = "setting" // a setting of the server: SQL outside of a transaction, or a place to set it
	Command Kind = "command" // a shell command, or a line of a file
	Advice  Kind = "advice"  // words
)

// Fix is one way to mend a finding. Of several the first that can be done is enough.
type Fix struct {
	Kind Kind `json:"kind"`
	// Do is the SQL, the command or the words.
	Do string `json:"do"`
	// Undo takes it back: SQL for SQL. Empty where there is nothing to take back.
	Undo string `json:"undo,omitempty"`
	// Then is what must follow: restart or reload of the server; empty for nothing.
	Then string `json:"then,omitempty"`
	// Note says who may do it, and what it does to others: locks, restarts.
	Note string `json:"note,omitempty"`
	// Step orders SQL of several findings: lower first.
	Step int `json:"-"`
}

// Steps of SQL: what a publication names must be in order before it is made.
const (
	StepRole = iota
	StepTable
	StepPublication
	StepSetting
)

// FromFault makes an error finding of an error. A hint of the error becomes advice where there is no
// better fix.
func FromFault(id string, err error, fixes ...Fix) Finding {
	f := Finding{ID: id, Severity: Error, Found: err.Error(), Fixes: fixes}
	e := fault.Of(err)
	if e == nil {
		return f
	}
	f.Code, f.Subject, f.Why = e.Code, e.Table, e.Code.Title()
	if e.Table == "" {
		f.Subject = e.Topic
	}
	if cause := e.Err; cause != nil {
		f.Found = cause.Error()
	} else {
		f.Found = e.Code.Title()
	}
	if inner := fault.Of(e.Err); inner != nil && inner.Err != nil {
		f.Found = inner.Err.Error()
	}
	if len(fixes) == 0 && e.Hint != "" {
		f.Fixes = []Fix{{Kind: Advice, Do: e.Hint}}
	}
	return f
}

// Skipped is the finding of a check that could not be made because of another one.
func Skipped(id, because string) Finding {
	return Finding{ID: id, Severity: Unknown, Found: "not looked at: see " + because}
}
