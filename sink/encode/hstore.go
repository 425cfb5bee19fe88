package encode

import "bytes"

// appendHstore appends the JSON object of an hstore such as "a"=>"1", "b"=>NULL.
func (e *Encoder) appendHstore(dst, text []byte) ([]byte, error) {
	start := len(dst)
	for len(text) > 0 {
		if len(dst) > start {
			var ok bool
			if text, ok = bytes.CutPrefix(text, []byte(", ")); !ok {
				return dst, errMalformed
			}
		}
		var err error
		if dst, text, err = e.appendPair(append(dst, ','), text); err != nil {
			return dst, err
		}
	}
	return closeList(dst, start, '{', '}'), nil
}

// appendPair appends the pair that text starts with and returns what follows it.
func (e *Encoder) appendPair(dst, text []byte) (out, rest []byte, err error) {
	if dst, text, err = e.appendQuoted(dst, text); err != nil {
		return dst, nil, err
	}
	text, ok := bytes.CutPrefix(text, []byte("=>"))
	if !ok {
		return dst, nil, errMalformed
	}
	dst = append(dst, ':')
	if rest, ok = bytes.CutPrefix(text, []byte("NULL")); ok {
		return append(dst, "null"...), rest, nil
	}
	return e.appendQuoted(dst, text)
}

// appendQuoted appends the string that text starts with and returns what follows it.
func (e *Encoder) appendQuoted(dst, text []byte) (out, rest []byte, err error) {
	if len(text) == 0 || text[0] != '"' {
		return dst, nil, errMalformed
	}
	base := len(e.scratch)
	value, rest, ok := e.cutQuoted(text)
	if !ok {
		return dst, nil, errMalformed
	}
	dst, err = appendString(dst, value)
	e.scratch = e.scratch[:base]
	return dst, rest, err
}
