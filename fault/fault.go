package fault

import (
	"errors"
	"log/slog"
	"strings"

	"github.com/walferry/walferry/event"
)

// Error is a failure with its place. Only Code, Op and Err or Hint are always there; the rest is
// filled in where it is known, by the room that met the failure or by one further out (see With).
type Error struct {
	Code Code
	// Op is what was being done, as a verb phrase without a subject: "start replication".
	Op string
	// Pipeline, Table (schema.table) and Topic say where. Empty means not known or not meaningful.
	Pipeline, Table, Topic string
	// Pos is the change in whose handling it happened, zero if none.
	Pos event.Position
	// LSN is a place in the WAL that is not a change, zero if none.
	LSN event.LSN
	// Err is the cause, kept for errors.Is and errors.As; it may be nil.
	Err error
	// Hint says what to do, in one or two sentences or as SQL. It may have several lines.
	Hint string
}

// New makes an error of a code. Err may be nil.
func New(code Code, op string, err error, hint string) *Error {
	return &Error{Code: code, Op: op, Err: err, Hint: hint}
}

// Error prints the whole on one line, without the hint: op, place, cause, code.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Table != "" {
		b.WriteString(", table " + e.Table)
	}
	if e.Topic != "" {
		b.WriteString(", topic " + e.Topic)
	}
	if !e.Pos.IsZero() {
		b.WriteString(", position " + e.Pos.String())
	}
	if !e.LSN.IsZero() {
		b.WriteString(", LSN " + e.LSN.String())
	}
	b.WriteString(": ")
	if e.Err != nil {
		b.WriteString(e.Err.Error())
	} else {
		b.WriteString(e.Code.Title())
	}
	return b.String() + " [" + string(e.Code) + "]"
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// LogValue gives the parts to a structured log.
func (e *Error) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("code", string(e.Code)), slog.String("op", e.Op)}
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	add("table", e.Table)
	add("topic", e.Topic)
	if !e.Pos.IsZero() {
		add("pos", e.Pos.String())
	}
	if !e.LSN.IsZero() {
		add("lsn", e.LSN.String())
	}
	if e.Err != nil {
		add("cause", e.Err.Error())
	}
	add("hint", e.Hint)
	return slog.GroupValue(attrs...)
}

// Of returns the outermost *Error in err's chain, or nil.
func Of(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// CodeOf returns the code of err, Internal where it has none.
func CodeOf(err error) Code {
	if e := Of(err); e != nil {
		return e.Code
	}
	return Internal
}

// Is tells whether err carries the code.
func Is(err error, code Code) bool {
	e := Of(err)
	return e != nil && e.Code == code
}

// Retryable tells whether trying again, without a person, can help.
func Retryable(err error) bool {
	e := Of(err)
	return e != nil && e.Code.Kind() == KindRetry
}

// ExitCode returns the exit code of docs/configuration.md for what ended a run; 0 for nil.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	return CodeOf(err).Kind().ExitCode()
}
