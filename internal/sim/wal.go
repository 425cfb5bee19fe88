package sim

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/internal/cdctest"
)

// prefix is of the logical messages that pipelines publish; those of otherPrefix they leave out.
const (
	prefix      = "walferry"
	otherPrefix = "other"
)

// wal is the write-ahead log of the model, as far as it is decoded: units in the order of their commits.
type wal struct {
	rng *rand.Rand

	mu      sync.Mutex // guards what follows
	end     event.LSN
	xid     uint32
	units   []*unit
	changed chan struct{} // closed at each append
	rows    map[string]map[int]row
	message int
}

// unit is what a walsender sends as a whole: a transaction, or a message outside of any.
type unit struct {
	start    event.LSN // of the commit record, or of the message's
	end      event.LSN
	xid      uint32 // 0 for a message
	frames   []frame
	truth    []cdctest.Change
	messages []string // the contents that are published
}

// frame is one message of the stream, and the tables that must have been described before it.
type frame struct {
	at   event.LSN
	body []byte
	rels []*table
}

// row is a row of any table: the columns are the same everywhere.
type row struct {
	id   int
	note *string
	qty  *int64
}

func newWAL(seed uint64) *wal {
	w := &wal{rng: rng(seed, "wal"), end: 0x1000000, xid: 700, changed: make(chan struct{}), rows: make(map[string]map[int]row)}
	for _, t := range tables {
		w.rows[t.name] = make(map[int]row)
	}
	return w
}

// at returns the end of the log, and a channel that is closed when it moves.
func (w *wal) at() (event.LSN, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.end, w.changed
}

// from returns the units whose start is at or behind an LSN.
func (w *wal) from(lsn event.LSN) []*unit {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, _ := slices.BinarySearchFunc(w.units, lsn, func(u *unit, lsn event.LSN) int {
		if u.start < lsn {
			return -1
		}
		return 1
	})
	return w.units[at:]
}

// append writes transactions of so many changes each, or something else that moves the log.
func (w *wal) append(sizes ...int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range sizes {
		switch w.rng.IntN(20) {
		case 0: // of an unpublished table
			w.move(1 + w.rng.IntN(2000))
		case 1:
			w.single()
		default:
			w.transaction(n)
		}
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// move takes n bytes of the log.
func (w *wal) move(n int) event.LSN {
	was := w.end
	w.end += event.LSN(n+7) &^ 7 //nolint:gosec // not negative
	return was
}

// single writes a message outside of any transaction.
func (w *wal) single() {
	u := &unit{start: w.move(64), end: w.end}
	name, content := w.content(u)
	u.frames = []frame{{at: u.end, body: logical(0, u.end, name, content)}}
	w.units = append(w.units, u)
}

// content draws a logical message.
func (w *wal) content(u *unit) (name, content string) {
	w.message++
	content = "message " + strconv.Itoa(w.message)
	if w.rng.IntN(3) == 0 {
		return otherPrefix, content
	}
	u.messages = append(u.messages, content)
	return prefix, content
}

// transaction writes one of n changes, none of them where n is 0.
func (w *wal) transaction(n int) {
	w.xid++
	u := &unit{xid: w.xid}
	begin := w.end
	if w.rng.IntN(8) == 0 {
		u.frames = append(u.frames, frame{at: begin, body: origin(w.end, "elsewhere")})
	}
	seq := uint64(0)
	// What was written before others that commit earlier. Its commit record stands exactly where the last
	// keepalive may have said that the log ends.
	early := w.rng.IntN(2) == 0
	for range n {
		var at event.LSN
		if early {
			at = w.end - event.LSN(w.rng.IntN(4096)) //nolint:gosec // small, and the log begins far behind it
		} else {
			at = w.move(40 + w.rng.IntN(200))
		}
		if w.rng.IntN(30) == 0 {
			seq++
			name, content := w.content(u)
			u.frames = append(u.frames, frame{at: at, body: logical(1, at, name, content)})
			continue
		}
		seq += w.change(u, at, seq)
	}
	u.start = w.move(48)
	u.end = w.end
	now := pgTime(time.Now())
	first := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64([]byte{'B'}, uint64(u.start)), now), u.xid)
	u.frames = append([]frame{{at: begin, body: first}}, u.frames...)
	last := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64([]byte{'C', 0}, uint64(u.start)), uint64(u.end)), now)
	u.frames = append(u.frames, frame{at: u.end, body: last})
	w.units = append(w.units, u)
}

// keys is how many keys a table has: few, so that changes meet.
const keys = 24

// change writes one change, and returns how many positions it takes.
func (w *wal) change(u *unit, at event.LSN, seq uint64) uint64 {
	t := tables[w.rng.IntN(len(tables))]
	rows := w.rows[t.name]
	if w.rng.IntN(60) == 0 {
		return w.truncate(u, at, seq)
	}
	c := cdctest.Change{XID: u.xid, Seq: seq + 1, Schema: t.schema, Table: t.name}
	id := 1 + w.rng.IntN(keys)
	was, there := rows[id]
	f := frame{at: at, rels: []*table{t}}
	switch {
	case !there:
		is := w.draw(id)
		rows[id] = is
		c.Op, c.NewRow, c.NewKey = "c", is.json(), t.key(is)
		f.body = tuple(binary.BigEndian.AppendUint32([]byte{'I'}, t.oid), 'N', is, nil)
	case w.rng.IntN(4) == 0:
		delete(rows, id)
		c.Op, c.OldRow, c.OldKey = "d", was.json(), t.key(was)
		f.body = t.old(binary.BigEndian.AppendUint32([]byte{'D'}, t.oid), was)
	default:
		is := w.draw(id)
		var unchanged *string
		if w.rng.IntN(3) == 0 && was.note != nil {
			is.note, unchanged = was.note, was.note
		}
		if to := 1 + w.rng.IntN(keys); w.rng.IntN(5) == 0 && !has(rows, to) {
			is.id = to
		}
		delete(rows, id)
		rows[is.id] = is
		c.Op, c.OldRow, c.NewRow, c.OldKey, c.NewKey = "u", was.json(), is.json(), t.key(was), t.key(is)
		f.body = binary.BigEndian.AppendUint32([]byte{'U'}, t.oid)
		if is.id != was.id || t.identity == 'f' {
			f.body = t.old(f.body, was)
		}
		f.body = tuple(f.body, 'N', is, unchanged)
	}
	u.truth, u.frames = append(u.truth, c), append(u.frames, f)
	return 1
}

// truncate empties some tables.
func (w *wal) truncate(u *unit, at event.LSN, seq uint64) uint64 {
	first := w.rng.IntN(len(tables))
	chosen := tables[first : first+1+w.rng.IntN(len(tables)-first)]
	body := append(binary.BigEndian.AppendUint32([]byte{'T'}, uint32(len(chosen))), 0) //nolint:gosec // a few
	for i, t := range chosen {
		body = binary.BigEndian.AppendUint32(body, t.oid)
		clear(w.rows[t.name])
		u.truth = append(u.truth, cdctest.Change{XID: u.xid, Seq: seq + 1 + uint64(i), Op: "t", Schema: t.schema, Table: t.name})
	}
	u.frames = append(u.frames, frame{at: at, body: body, rels: chosen})
	return uint64(len(chosen))
}

// draw makes the values of a row.
func (w *wal) draw(id int) row {
	r := row{id: id}
	if w.rng.IntN(6) > 0 {
		note := fmt.Sprintf("note %d", w.rng.Uint64())
		r.note = &note
	}
	if w.rng.IntN(6) > 0 {
		qty := w.rng.Int64()
		r.qty = &qty
	}
	return r
}

func has(rows map[int]row, id int) bool {
	_, is := rows[id]
	return is
}

func (r row) json() json.RawMessage {
	b, _ := json.Marshal(map[string]any{"id": r.id, "note": r.note, "qty": r.qty}) // these can be marshalled
	return b
}

// truth returns the changes and messages of what began at or behind an LSN.
func (w *wal) truth(from event.LSN) (changes []cdctest.Change, messages []string) {
	for _, u := range w.from(from) {
		changes = append(changes, u.truth...)
		messages = append(messages, u.messages...)
	}
	return changes, messages
}
