package encode

import "bytes"

// appendComposite appends the JSON object of a row literal such as (1,"a ""b""",).
func (e *Encoder) appendComposite(dst []byte, c *codec, text []byte) ([]byte, error) {
	if len(text) < 2 || text[0] != '(' || text[len(text)-1] != ')' {
		return dst, errMalformed
	}
	start := len(dst)
	// The closing parenthesis stays: it ends the last attribute.
	text = text[1:]
	for i := range c.fields {
		if i > 0 {
			if text[0] != ',' {
				return dst, errMalformed
			}
			text = text[1:]
		}
		dst = append(dst, c.fields[i].name...)
		var err error
		if dst, text, err = e.appendAttribute(dst, c.fields[i].codec, text); err != nil {
			return dst, err
		}
	}
	if len(text) != 1 {
		return dst, errMalformed
	}
	return closeList(dst, start, '{', '}'), nil
}

// appendAttribute appends the attribute that text starts with and returns what follows it, at
// least one byte. Nothing between two commas is NULL.
func (e *Encoder) appendAttribute(dst []byte, c *codec, text []byte) (out, rest []byte, err error) {
	switch text[0] {
	case ',', ')':
		return append(dst, "null"...), text, nil
	case '"':
		base := len(e.scratch)
		value, rest, ok := e.cutDoubled(text)
		if !ok || len(rest) == 0 {
			return dst, nil, errMalformed
		}
		dst, err = e.appendValue(dst, c, value)
		e.scratch = e.scratch[:base]
		return dst, rest, err
	}
	n := bytes.IndexAny(text, `,()"\`)
	if n < 0 || text[n] != ',' && text[n] != ')' {
		return dst, nil, errMalformed
	}
	dst, err = e.appendValue(dst, c, text[:n])
	return dst, text[n:], err
}

// cutDoubled reads the "…" that text starts with, in which quotes and backslashes stand twice. The
// value is a part of text, or of scratch where there were any.
func (e *Encoder) cutDoubled(text []byte) (value, rest []byte, ok bool) {
	text = text[1:]
	base := len(e.scratch)
	for {
		n := bytes.IndexAny(text, `"\`)
		if n < 0 {
			return nil, nil, false
		}
		if n+1 == len(text) || text[n+1] != text[n] {
			if text[n] == '\\' {
				return nil, nil, false
			}
			if len(e.scratch) == base {
				return text[:n], text[n+1:], true
			}
			e.scratch = append(e.scratch, text[:n]...)
			return e.scratch[base:], text[n+1:], true
		}
		e.scratch = append(e.scratch, text[:n+1]...)
		text = text[n+2:]
	}
}
