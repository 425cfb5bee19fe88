package event

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// LSN is a byte position in the WAL of one timeline. The zero LSN means "none".
type LSN uint64

// errLSN is wrapped by every error of ParseLSN.
var errLSN = errors.New("want two hexadecimal halves of at most 8 digits, such as 16/B374D848")

// ParseLSN reads the X/X form that Postgres prints. It accepts what pg_lsn accepts: one to eight
// hexadecimal digits, upper or lower case, on both sides of one slash.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if !ok || len(hi) > 8 || len(lo) > 8 {
		return 0, fmt.Errorf("parse LSN %q: %w", s, errLSN)
	}
	h, errHi := strconv.ParseUint(hi, 16, 32)
	l, errLo := strconv.ParseUint(lo, 16, 32)
	if errHi != nil || errLo != nil {
		return 0, fmt.Errorf("parse LSN %q: %w", s, errLSN)
	}
	return LSN(h<<32 | l), nil
}

// String prints the X/X form of Postgres, upper case and without leading zeros.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) } //nolint:gosec // the halves are cut on purpose

// IsZero tells whether l is "none".
func (l LSN) IsZero() bool { return l == 0 }

// MarshalText prints the X/X form, so that an LSN reads the same in JSON as in psql.
func (l LSN) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads the X/X form; see ParseLSN.
func (l *LSN) UnmarshalText(b []byte) error {
	v, err := ParseLSN(string(b))
	if err == nil {
		*l = v
	}
	return err
}

// Position is the place of one change in commit order, the only total order the stream has: row
// LSNs go backwards between transactions, commit timestamps and transaction ids need not rise.
//
// The zero Position stands before every change.
type Position struct {
	// Commit is the LSN of the transaction's commit record (its start, as Begin announces it).
	// For a logical message outside of a transaction it is where the message's own record ends; a
	// transaction may commit exactly there.
	Commit LSN `json:"commit_lsn"`
	// Seq counts the row messages of the transaction as pgoutput delivers them, from 1, also
	// those that are dropped afterwards; a truncate of n tables takes n, a transactional logical
	// message takes one. It is 0 for a logical message outside of a transaction. It depends on
	// the WAL alone, never on settings.
	Seq uint64 `json:"seq"`
}

// MaxSeq is the largest sequence that the ten digits of a printed position hold.
const MaxSeq = 9_999_999_999

// Compare orders positions: negative when p stands before q, zero when they are the same place.
func (p Position) Compare(q Position) int {
	if c := cmp.Compare(p.Commit, q.Commit); c != 0 {
		return c
	}
	return cmp.Compare(p.Seq, q.Seq)
}

// IsZero tells whether p stands before every change.
func (p Position) IsZero() bool { return p == Position{} }

// String prints the position without a part: sixteen hexadecimal digits, a colon, ten decimal
// digits. The text sorts as the positions do.
func (p Position) String() string { return string(p.append(make([]byte, 0, 27))) }

// AppendRecord appends the position of one record, "commit:sequence:part", to dst and returns the
// longer slice. Part tells the records of one change apart; see docs/events.md.
func (p Position) AppendRecord(dst []byte, part int) []byte {
	dst = append(p.append(dst), ':')
	return strconv.AppendInt(dst, int64(part), 10)
}

func (p Position) append(dst []byte) []byte {
	const hex = "0123456789ABCDEF"
	var text [27]byte
	for i, c := 15, p.Commit; i >= 0; i, c = i-1, c>>4 {
		text[i] = hex[c&0xF]
	}
	text[16] = ':'
	for i, n := 26, p.Seq; i > 16; i, n = i-1, n/10 {
		text[i] = byte('0' + n%10)
	}
	return append(dst, text[:]...)
}

// ParseRecordPosition reads what AppendRecord wrote.
func ParseRecordPosition(s string) (p Position, part int, err error) {
	f := strings.Split(s, ":")
	if len(f) != 3 || len(f[0]) != 16 || len(f[1]) != 10 {
		return Position{}, 0, fmt.Errorf("parse position %q: want 16 hexadecimal digits, 10 digits and a part, with colons between", s)
	}
	commit, err1 := strconv.ParseUint(f[0], 16, 64)
	seq, err2 := strconv.ParseUint(f[1], 10, 64)
	part, err3 := strconv.Atoi(f[2])
	if err := errors.Join(err1, err2, err3); err != nil {
		return Position{}, 0, fmt.Errorf("parse position %q: %w", s, err)
	}
	return Position{Commit: LSN(commit), Seq: seq}, part, nil
}
