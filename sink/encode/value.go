package encode

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"unicode/utf8"
)

// appendValue appends the JSON of a text to dst.
func (e *Encoder) appendValue(dst []byte, c *codec, text []byte) ([]byte, error) {
	switch c.shape {
	case shapeNumber:
		if isNumber(text) {
			return append(dst, text...), nil
		}
	case shapeBool:
		switch string(text) {
		case "t":
			return append(dst, "true"...), nil
		case "f":
			return append(dst, "false"...), nil
		}
	case shapeJSON:
		return appendDocument(dst, text)
	case shapeCheckedJSON:
		if json.Valid(text) {
			return appendDocument(dst, text)
		}
	case shapeBytea:
		return appendBytea(dst, text)
	case shapeTimestamp, shapeTimestampTZ:
		if out, ok := appendTimestamp(dst, text, c.shape == shapeTimestampTZ); ok {
			return out, nil
		}
	case shapeTime, shapeTimeTZ:
		if out, ok := appendTime(dst, text, c.shape == shapeTimeTZ); ok {
			return out, nil
		}
	case shapeArray, shapeComposite, shapeHstore:
		return e.appendNested(dst, c, text)
	case shapeChar:
		if len(text) == 1 && text[0] >= utf8.RuneSelf {
			return appendOctal(dst, text[0]), nil
		}
	case shapeString:
	}
	return appendString(dst, text)
}

// appendOctal appends the string \ooo, which is what Postgres prints from 16 on for a "char" that is no ASCII
// character. Older servers send the byte itself, which may be none of UTF-8.
func appendOctal(dst []byte, b byte) []byte {
	return append(dst, '"', '\\', '\\', '0'+b>>6, '0'+b>>3&7, '0'+b&7, '"')
}

// appendNested appends a value that holds other values, or its text where that is not well-formed.
func (e *Encoder) appendNested(dst []byte, c *codec, text []byte) ([]byte, error) {
	start := len(dst)
	var err error
	switch c.shape {
	case shapeArray:
		dst, err = e.appendArray(dst, c, text)
	case shapeComposite:
		dst, err = e.appendComposite(dst, c, text)
	default:
		dst, err = e.appendHstore(dst, text)
	}
	if errors.Is(err, errMalformed) {
		return appendString(dst[:start], text)
	}
	return dst, err
}

// isNumber tells whether b is a number by the grammar of JSON.
func isNumber(b []byte) bool {
	if len(b) > 0 && b[0] == '-' {
		b = b[1:]
	}
	n := digits(b)
	if n == 0 || n > 1 && b[0] == '0' {
		return false
	}
	b = b[n:]
	if len(b) > 0 && b[0] == '.' {
		if n = digits(b[1:]); n == 0 {
			return false
		}
		b = b[1+n:]
	}
	if len(b) > 0 && (b[0] == 'e' || b[0] == 'E') {
		b = b[1:]
		if len(b) > 0 && (b[0] == '+' || b[0] == '-') {
			b = b[1:]
		}
		if n = digits(b); n == 0 {
			return false
		}
		b = b[n:]
	}
	return len(b) == 0
}

// digits counts the decimal digits that b starts with.
func digits(b []byte) int {
	n := 0
	for n < len(b) && b[n]-'0' <= 9 {
		n++
	}
	return n
}

// appendDocument appends a JSON document as it is. The server has checked its grammar.
func appendDocument(dst, text []byte) ([]byte, error) {
	if len(text) == 0 {
		return append(dst, `""`...), nil
	}
	if !utf8.Valid(text) {
		return dst, errNotUTF8
	}
	return append(dst, text...), nil
}

// appendBytea appends the base64 of a bytea in hexadecimal form, in steps that need no memory.
func appendBytea(dst, text []byte) ([]byte, error) {
	if len(text) < 2 || text[0] != '\\' || text[1] != 'x' || len(text)%2 != 0 {
		return dst, errNotHex
	}
	text = text[2:]
	dst = slices.Grow(dst, base64.StdEncoding.EncodedLen(len(text)/2)+2)
	dst = append(dst, '"')
	var step [768]byte // a multiple of three: no padding but at the end
	for len(text) > 0 {
		n, err := hex.Decode(step[:], text[:min(len(text), 2*len(step))])
		if err != nil {
			return dst, errNotHex
		}
		dst = base64.StdEncoding.AppendEncode(dst, step[:n])
		text = text[2*n:]
	}
	return append(dst, '"'), nil
}

// appendString appends text as a JSON string.
func appendString(dst, text []byte) ([]byte, error) {
	if !utf8.Valid(text) {
		return dst, errNotUTF8
	}
	dst = append(dst, '"')
	for {
		n := plainLen(text)
		dst = append(dst, text[:n]...)
		if n == len(text) {
			return append(dst, '"'), nil
		}
		dst = appendEscape(dst, text[n])
		text = text[n+1:]
	}
}

// plainLen counts the bytes of b ahead of the first that JSON wants escaped: quote, backslash,
// control character. It looks at eight bytes at a time, by the well-known tricks for "has a byte
// less than n" and "has a zero byte".
func plainLen(b []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; n+8 <= len(b); n += 8 {
		w := binary.LittleEndian.Uint64(b[n:])
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		if ((w-ones*0x20)&^w|(quote-ones)&^quote|(slash-ones)&^slash)&tops != 0 {
			break
		}
	}
	for n < len(b) && b[n] >= 0x20 && b[n] != '"' && b[n] != '\\' {
		n++
	}
	return n
}

// appendEscape appends the escape of one character that needs it.
func appendEscape(dst []byte, c byte) []byte {
	const digits = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	default:
		return append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
	}
}
