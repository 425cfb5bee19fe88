package encode

import (
	"bytes"
	"errors"
)

// errMalformed stays inside: it makes a nested value fall back to its text.
var errMalformed = errors.New("the text does not have the form of its type")

// maxDimensions is the server's own limit (MAXDIM).
const maxDimensions = 6

// appendArray appends the JSON array of an array literal such as {1,NULL,"a b"}. A literal with
// lower bounds, [2:3]={1,2}, is malformed to it: JSON has no place for them.
func (e *Encoder) appendArray(dst []byte, c *codec, text []byte) ([]byte, error) {
	dst, rest, err := e.appendDimension(dst, c, text, 1)
	if err == nil && len(rest) > 0 {
		err = errMalformed
	}
	return dst, err
}

// appendDimension appends one {…} that text starts with and returns what follows it.
func (e *Encoder) appendDimension(dst []byte, c *codec, text []byte, depth int) (out, rest []byte, err error) {
	if len(text) < 2 || text[0] != '{' || depth > maxDimensions {
		return dst, nil, errMalformed
	}
	start := len(dst)
	text = text[1:]
	if text[0] == '}' {
		return closeList(dst, start, '[', ']'), text[1:], nil
	}
	for {
		dst = append(dst, ',')
		if len(text) > 0 && text[0] == '{' {
			dst, text, err = e.appendDimension(dst, c, text, depth+1)
		} else {
			dst, text, err = e.appendElement(dst, c, text)
		}
		switch {
		case err != nil:
			return dst, nil, err
		case len(text) > 0 && text[0] == '}':
			return closeList(dst, start, '[', ']'), text[1:], nil
		case len(text) == 0 || text[0] != c.delim:
			return dst, nil, errMalformed
		}
		text = text[1:]
	}
}

// appendElement appends one element that text starts with and returns what follows it.
func (e *Encoder) appendElement(dst []byte, c *codec, text []byte) (out, rest []byte, err error) {
	if len(text) > 0 && text[0] == '"' {
		base := len(e.scratch)
		elem, rest, ok := e.cutQuoted(text)
		if !ok {
			return dst, nil, errMalformed
		}
		dst, err = e.appendValue(dst, c.elem, elem)
		e.scratch = e.scratch[:base]
		return dst, rest, err
	}
	n := 0
	for n < len(text) && text[n] != c.delim && text[n] != '}' {
		n++
	}
	elem := text[:n]
	if n == 0 || bytes.ContainsAny(elem, `"{\`) {
		return dst, nil, errMalformed
	}
	if string(elem) == "NULL" {
		return append(dst, "null"...), text[n:], nil
	}
	dst, err = e.appendValue(dst, c.elem, elem)
	return dst, text[n:], err
}

// cutQuoted reads the "…" that text starts with, in which a backslash stands before what is meant
// as it is. The value is a part of text, or of scratch where there was a backslash.
func (e *Encoder) cutQuoted(text []byte) (value, rest []byte, ok bool) {
	text = text[1:]
	base := len(e.scratch)
	for {
		n := bytes.IndexAny(text, `"\`)
		switch {
		case n < 0:
			return nil, nil, false
		case text[n] == '"':
			if len(e.scratch) == base {
				return text[:n], text[n+1:], true
			}
			e.scratch = append(e.scratch, text[:n]...)
			return e.scratch[base:], text[n+1:], true
		case n+1 == len(text):
			return nil, nil, false
		}
		e.scratch = append(e.scratch, text[:n]...)
		e.scratch = append(e.scratch, text[n+1])
		text = text[n+2:]
	}
}
