package encode

import (
	"errors"
	"fmt"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// The causes of fault.ValueInvalid. None of them shows the value.
var (
	errNotUTF8 = errors.New("the text is not valid UTF-8")
	errNotHex  = errors.New("the bytea is not in hexadecimal form")
	errBinary  = errors.New("the value is in binary form, which the json format does not read")
	errNoValue = errors.New("the server did not send the value, and the record cannot do without it")
	errColumns = errors.New("the row and the table differ in their number of columns")
)

// hintOf says what to do about a cause.
func hintOf(cause error) string {
	const kept = "Nothing was skipped: the change stays in the slot."
	switch {
	case errors.Is(cause, errNotUTF8):
		return "The server sent bytes that are not UTF-8 although the session asks for UTF-8, as a database of encoding SQL_ASCII may. " + kept
	case errors.Is(cause, errNoValue):
		return "A delete or a key change must carry the key's columns: look at the table's replica identity and at the configured key. " + kept
	default:
		return kept + " Please report this."
	}
}

// fits tells whether the rows that a record is made of have the table's columns.
func (p *Plan) fits(ch *event.Change, after bool) error {
	n := len(p.columns)
	if ch.Old != nil && len(ch.Old) != n || after && len(ch.New) != n {
		return p.invalid("encode row", errColumns, ch.Pos)
	}
	return nil
}

// invalid makes the error of what cannot be written.
func (p *Plan) invalid(op string, cause error, pos event.Position) error {
	return &fault.Error{Code: fault.ValueInvalid, Op: op, Table: p.table.String(), Pos: pos, Err: cause, Hint: hintOf(cause)}
}

// invalidColumn is invalid with the name of a column.
func (p *Plan) invalidColumn(i int, cause error, pos event.Position) error {
	return p.invalid(fmt.Sprintf("encode column %q", p.table.Columns[i].Name), cause, pos)
}
