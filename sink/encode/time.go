package encode

import "time"

// The forms of ISO dates and times as the server prints them, years of four digits only: every
// other year, an era and the infinities do not fit and so stay Postgres text.
const (
	dateForm  = "0000-00-00"
	clockForm = "00:00:00"
)

// appendTimestamp appends a timestamp with T, six digits and, with a zone, Z. It reports false,
// having appended nothing, where the text is not of the years 1 to 9999 in UTC.
func appendTimestamp(dst, text []byte, zone bool) ([]byte, bool) {
	const dateLen = len(dateForm)
	if len(text) <= dateLen || text[dateLen] != ' ' || !hasForm(text, dateForm) || string(text[:4]) == "0000" {
		return dst, false
	}
	clock, fraction, rest, ok := cutClock(text[dateLen+1:])
	if !ok || zone != (string(rest) == "+00") || !zone && len(rest) > 0 {
		return dst, false
	}
	dst = append(dst, '"')
	dst = append(dst, text[:dateLen]...)
	dst = append(dst, 'T')
	dst = appendClock(dst, clock, fraction)
	if zone {
		dst = append(dst, 'Z')
	}
	return append(dst, '"'), true
}

// appendTime appends a time of day with six digits and, with a zone, its offset in hours and
// minutes. It reports false, having appended nothing, where the text is of another form, such as
// an offset with seconds.
func appendTime(dst, text []byte, zone bool) ([]byte, bool) {
	clock, fraction, offset, ok := cutClock(text)
	if !ok || !zone && len(offset) > 0 || zone && !isOffset(offset) {
		return dst, false
	}
	dst = append(dst, '"')
	dst = appendClock(dst, clock, fraction)
	dst = append(dst, offset...)
	if len(offset) == len("+00") {
		dst = append(dst, ":00"...)
	}
	return append(dst, '"'), true
}

// cutClock splits hh:mm:ss, the digits behind a point, and the rest.
func cutClock(text []byte) (clock, fraction, rest []byte, ok bool) {
	if !hasForm(text, clockForm) {
		return nil, nil, nil, false
	}
	clock, rest = text[:len(clockForm)], text[len(clockForm):]
	if len(rest) > 0 && rest[0] == '.' {
		n := digits(rest[1:])
		if n == 0 || n > 6 {
			return nil, nil, nil, false
		}
		fraction, rest = rest[1:1+n], rest[1+n:]
	}
	return clock, fraction, rest, true
}

func appendClock(dst, clock, fraction []byte) []byte {
	dst = append(dst, clock...)
	dst = append(dst, '.')
	dst = append(dst, fraction...)
	return append(dst, "000000"[len(fraction):]...)
}

// isOffset tells whether b is ±hh or ±hh:mm.
func isOffset(b []byte) bool {
	if len(b) != len("+00") && len(b) != len("+00:00") || b[0] != '+' && b[0] != '-' {
		return false
	}
	return hasForm(b[1:], "00:00"[:len(b)-1])
}

// hasForm tells whether text starts as form does, where a 0 of form stands for any digit.
func hasForm(text []byte, form string) bool {
	if len(text) < len(form) {
		return false
	}
	for i := range len(form) {
		if form[i] == '0' {
			if text[i]-'0' > 9 {
				return false
			}
		} else if text[i] != form[i] {
			return false
		}
	}
	return true
}

// appendCommitTime appends a time in UTC with six digits. RFC3339 is the one layout for which the
// time package is quick, and it has no such digits.
func appendCommitTime(dst []byte, t time.Time) []byte {
	dst = t.AppendFormat(dst, time.RFC3339)
	dst[len(dst)-1] = '.' // in place of the Z
	for unit := 100_000_000; unit >= 1000; unit /= 10 {
		dst = append(dst, byte('0'+t.Nanosecond()/unit%10))
	}
	return append(dst, 'Z')
}
