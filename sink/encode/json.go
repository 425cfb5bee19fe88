package encode

import (
	"encoding/base64"
	"strconv"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// Encoder appends the keys and values of records. The zero Encoder is ready. It holds scratch
// space, so one goroutine uses it at a time; once it is warm it does not allocate.
type Encoder struct {
	// scratch holds the unescaped elements of nested values, the innermost last.
	scratch []byte
	// txText is `,"xid":…,"ts":"…"`, with the split where there is one, of tx: rows of one transaction come in a row.
	tx     event.Tx
	txText []byte
}

// maxScratch bounds the memory that one large nested value leaves behind.
const maxScratch = 1 << 20

// AppendKey appends the key of record r of ch to dst. Without a key (see Plan.HasKey) dst comes
// back as it is; such a record's key is null. An error is a fault.ValueInvalid, and the returned
// slice then has no use.
func (e *Encoder) AppendKey(dst []byte, p *Plan, ch *event.Change, r Record) ([]byte, error) {
	if !p.HasKey() {
		return dst, nil
	}
	old := r.Form == DeleteOld || r.Form == Tombstone || ch.Op == event.OpDelete
	if err := p.fits(ch, !old); err != nil {
		return dst, err
	}
	return e.appendKey(dst, p, ch, old)
}

// AppendTruncateKey appends the key of a truncate's records to dst.
func (e *Encoder) AppendTruncateKey(dst []byte, p *Plan) []byte { return append(dst, p.truncateKey...) }

// AppendMessageKey appends the key of a logical message's record to dst: its prefix as a JSON string.
func (e *Encoder) AppendMessageKey(dst []byte, m *event.Message) ([]byte, error) {
	dst, err := appendString(dst, m.Prefix)
	if err != nil {
		return dst, &fault.Error{Code: fault.ValueInvalid, Op: "encode message prefix", Pos: m.Pos, Err: err, Hint: hintOf(err)}
	}
	return dst, nil
}

// AppendValue appends the value of record r of ch to dst; for a tombstone, which has none, dst
// comes back as it is. An error is a fault.ValueInvalid, and the returned slice then has no use.
func (e *Encoder) AppendValue(dst []byte, p *Plan, ch *event.Change, r Record) ([]byte, error) {
	if !r.HasValue() {
		return dst, nil
	}
	if err := p.fits(ch, r.Op != event.OpDelete); err != nil {
		return dst, err
	}
	dst = e.appendHead(dst, r.head, ch.Pos, r.Part, ch.Tx)
	dst, err := e.appendRows(dst, p, ch, r)
	e.scratch = e.scratch[:0]
	if cap(e.scratch) > maxScratch {
		e.scratch = nil
	}
	return append(dst, '}'), err
}

// AppendTruncateValue appends the value of a truncate's record, as made by Plan.Truncate, to dst.
func (e *Encoder) AppendTruncateValue(dst []byte, t *event.Truncate, r Record) []byte {
	dst = e.appendHead(dst, r.head, t.Pos, r.Part, t.Tx)
	if t.Cascade {
		dst = append(dst, `,"cascade":true`...)
	}
	if t.RestartIdentity {
		dst = append(dst, `,"restart_identity":true`...)
	}
	return append(dst, '}')
}

// AppendMessageValue appends the value of a logical message's record to dst.
func (e *Encoder) AppendMessageValue(dst []byte, m *event.Message) ([]byte, error) {
	dst = e.appendHead(dst, []byte(`{"op":"m","pos":"`), m.Pos, 0, m.Tx)
	dst = append(dst, `,"prefix":`...)
	dst, err := e.AppendMessageKey(dst, m)
	if err != nil {
		return dst, err
	}
	dst = append(dst, `,"content":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, m.Content)
	return append(dst, `"}`...), nil
}

// appendHead appends a value from its start to the transaction's members.
func (e *Encoder) appendHead(dst, head []byte, pos event.Position, part int, tx *event.Tx) []byte {
	dst = append(dst, head...)
	dst = append(pos.AppendRecord(dst, part), '"')
	if tx == nil {
		return dst
	}
	if len(e.txText) == 0 || *tx != e.tx {
		e.tx = *tx
		e.txText = append(e.txText[:0], `,"xid":`...)
		e.txText = strconv.AppendUint(e.txText, uint64(tx.XID), 10)
		e.txText = append(e.txText, `,"ts":"`...)
		e.txText = append(appendCommitTime(e.txText, tx.Time.UTC()), '"')
		if tx.Split > 0 {
			e.txText = strconv.AppendInt(append(e.txText, `,"split":`...), int64(tx.Split), 10)
		}
	}
	return append(dst, e.txText...)
}

// appendRows appends the members that hold rows, and the lists about them.
func (e *Encoder) appendRows(dst []byte, p *Plan, ch *event.Change, r Record) ([]byte, error) {
	var err error
	if r.Form == UpsertNew {
		if dst, err = e.appendKey(append(dst, `,"old_key":`...), p, ch, true); err != nil {
			return dst, err
		}
	}
	deleted := r.Op == event.OpDelete
	if deleted || ch.Old != nil {
		if dst, err = e.appendBefore(append(dst, `,"before":`...), p, ch); err != nil {
			return dst, err
		}
	}
	if !deleted {
		if dst, err = e.appendAfter(append(dst, `,"after":`...), p, ch); err != nil {
			return dst, err
		}
		dst = p.appendUnchanged(dst, ch)
	}
	return p.appendJSONNull(dst, ch, deleted), nil
}
