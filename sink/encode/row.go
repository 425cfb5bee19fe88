package encode

import (
	"bytes"

	"github.com/walferry/walferry/event"
)

// Objects and lists are appended with a comma ahead of each member; closeList then turns the first
// comma into the opening bracket.
func closeList(dst []byte, start int, open, end byte) []byte {
	if len(dst) == start {
		return append(dst, open, end)
	}
	dst[start] = open
	return append(dst, end)
}

// appendKey appends the key columns as the old row or the row after the change has them.
func (e *Encoder) appendKey(dst []byte, p *Plan, ch *event.Change, old bool) ([]byte, error) {
	start := len(dst)
	for _, i := range p.key {
		var v event.Value
		switch {
		case !old:
			v = current(ch, i)
		case ch.Old != nil:
			v = ch.Old[i]
		}
		if !known(v) {
			return dst, p.invalidColumn(i, errNoValue, ch.Pos)
		}
		var err error
		if dst, err = e.appendMember(dst, &p.columns[i], v); err != nil {
			return dst, p.invalidColumn(i, err, ch.Pos)
		}
	}
	return closeList(dst, start, '{', '}'), nil
}

// appendBefore appends the old row as far as it was sent.
func (e *Encoder) appendBefore(dst []byte, p *Plan, ch *event.Change) ([]byte, error) {
	start := len(dst)
	for i, v := range ch.Old {
		if !known(v) || ch.OldIsKey && !p.table.Columns[i].InIdentity {
			continue
		}
		var err error
		if dst, err = e.appendMember(dst, &p.columns[i], v); err != nil {
			return dst, p.invalidColumn(i, err, ch.Pos)
		}
	}
	return closeList(dst, start, '{', '}'), nil
}

// appendAfter appends the row after the change as far as it is known.
func (e *Encoder) appendAfter(dst []byte, p *Plan, ch *event.Change) ([]byte, error) {
	start := len(dst)
	for i := range ch.New {
		v := current(ch, i)
		if !known(v) {
			continue
		}
		var err error
		if dst, err = e.appendMember(dst, &p.columns[i], v); err != nil {
			return dst, p.invalidColumn(i, err, ch.Pos)
		}
	}
	return closeList(dst, start, '{', '}'), nil
}

// appendMember appends `,"name":value`.
func (e *Encoder) appendMember(dst []byte, c *column, v event.Value) ([]byte, error) {
	dst = append(dst, c.name...)
	switch v.State {
	case event.Null:
		return append(dst, "null"...), nil
	case event.Text:
		return e.appendValue(dst, c.codec, v.Bytes)
	case event.Binary:
		return dst, errBinary
	case event.Absent, event.Unchanged:
		return dst, errNoValue
	}
	return dst, errNoValue
}

// appendUnchanged appends the list of the columns whose value is not known, if there are any.
func (p *Plan) appendUnchanged(dst []byte, ch *event.Change) []byte {
	was := len(dst)
	dst = append(dst, `,"unchanged":`...)
	start := len(dst)
	for i := range ch.New {
		if current(ch, i).State == event.Unchanged {
			dst = append(dst, p.columns[i].label...)
		}
	}
	if len(dst) == start {
		return dst[:was]
	}
	return closeList(dst, start, '[', ']')
}

// appendJSONNull appends the list of the columns of after, or of before where the record is a
// delete, that hold the JSON value null, if there are any.
func (p *Plan) appendJSONNull(dst []byte, ch *event.Change, deleted bool) []byte {
	if len(p.json) == 0 {
		return dst
	}
	was := len(dst)
	dst = append(dst, `,"json_null":`...)
	start := len(dst)
	for _, i := range p.json {
		var v event.Value
		switch {
		case !deleted:
			v = current(ch, i)
		case ch.Old != nil && (!ch.OldIsKey || p.table.Columns[i].InIdentity):
			v = ch.Old[i]
		}
		if v.State == event.Text && string(bytes.TrimSpace(v.Bytes)) == "null" {
			dst = append(dst, p.columns[i].label...)
		}
	}
	if len(dst) == start {
		return dst[:was]
	}
	return closeList(dst, start, '[', ']')
}
