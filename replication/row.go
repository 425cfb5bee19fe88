package replication

import (
	"errors"
	"strconv"
	"time"

	"github.com/walferry/walferry/event"
)

// textRow reads the columns of a row of simpleQuery one after the other. NULL is the zero value of
// each. The first thing that cannot be read stays in err.
type textRow struct {
	columns [][]byte
	err     error
}

func newRow(columns [][]byte) *textRow { return &textRow{columns: columns} }

// next returns the next column, nil for NULL.
func (r *textRow) next() []byte {
	if len(r.columns) == 0 {
		r.fail(errors.New("fewer columns than were asked for"))
		return nil
	}
	c := r.columns[0]
	r.columns = r.columns[1:]
	return c
}

func (r *textRow) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *textRow) text() string { return string(r.next()) }
func (r *textRow) bool() bool   { return r.text() == "t" }

func (r *textRow) lsn() event.LSN {
	lsn, err := lsnOrZero(r.next())
	r.fail(err)
	return lsn
}

func (r *textRow) int() int64 {
	c := r.next()
	if c == nil {
		return 0
	}
	n, err := strconv.ParseInt(string(c), 10, 64)
	r.fail(err)
	return n
}

// intOrNil is int where NULL means something.
func (r *textRow) intOrNil() *int64 {
	if len(r.columns) > 0 && r.columns[0] == nil {
		r.next()
		return nil
	}
	n := r.int()
	return &n
}

// time reads seconds since 1970. To the microsecond, a float64 is exact enough for three centuries.
func (r *textRow) time() time.Time {
	c := r.next()
	if c == nil {
		return time.Time{}
	}
	seconds, err := strconv.ParseFloat(string(c), 64)
	r.fail(err)
	return time.UnixMicro(int64(seconds * 1e6)).UTC()
}

// slot reads the columns of stateSQL that are the slot's, nil where its name is NULL.
func (r *textRow) slot() *SlotView {
	name := r.next()
	s := &SlotView{}
	s.Plugin, s.Database, s.Active, s.PID = r.text(), r.text(), r.bool(), int(r.int())
	s.WALStatus, s.Invalidation = r.text(), r.text()
	s.Restart, s.Confirmed = r.lsn(), r.lsn()
	s.SafeWAL, s.InactiveSince = r.intOrNil(), r.time()
	if name == nil {
		return nil
	}
	return s
}
