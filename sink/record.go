package sink

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/internal/failpoint"
	"github.com/walferry/walferry/sink/encode"
)

const (
	// recordOverhead stands for what a record on its way costs beside its bytes: the structs here
	// and in the client. It also bounds the number of records in the window.
	recordOverhead = 512
	// maxKept is the largest buffer that goes back to the pool.
	maxKept = 64 << 10
	// batchBytes is more than the protocol adds to a batch of one record, without headers.
	batchBytes = 128
	// headerBytes is more than the protocol adds to a header.
	headerBytes = 10
)

// record is one record on its way, with all it needs: no part of it is allocated again once the
// pool is warm. It belongs to Write until it is sent, then to the client until its promise is
// called, then to the pool.
type record struct {
	kgo.Record
	sink    *Kafka
	topic   *topic
	table   string
	pos     event.Position
	ack     event.Ack
	buf     []byte // key, value and the pos header's value, in this order
	headers []kgo.RecordHeader
	size    int64  // what it takes of the window
	claim   *claim // of the transaction it is written in, nil at least once
	dead    bool   // on its way to the dead-letter topic
	promise func(*kgo.Record, error)
}

// newRecord makes a record for the pool; its promise closes over it once and for all.
func (k *Kafka) newRecord() any {
	r := &record{sink: k}
	r.promise = func(_ *kgo.Record, err error) { k.done(r, err) }
	return r
}

// free gives a record back to the pool.
func (k *Kafka) free(r *record) {
	if cap(r.buf) > maxKept {
		r.buf = nil
	}
	clear(r.headers)
	r.Record, r.topic, r.ack, r.claim, r.dead = kgo.Record{}, nil, nil, nil, false
	k.records.Put(r)
}

// fill sets the record from the bytes in buf: the key ends at keyEnd, the value at valueEnd, and
// the position's text is the rest. An empty key or value is null.
func (r *record) fill(tp *topic, keyEnd, valueEnd int, headers []encode.Header) {
	r.topic = tp
	r.Topic = tp.name
	if keyEnd > 0 {
		r.Key = r.buf[:keyEnd:keyEnd]
	}
	if valueEnd > keyEnd {
		r.Value = r.buf[keyEnd:valueEnd:valueEnd]
	}
	r.headers = append(r.headers[:0], kgo.RecordHeader{Key: "pos", Value: r.buf[valueEnd:]})
	for _, h := range headers {
		r.headers = append(r.headers, kgo.RecordHeader(h))
	}
	r.Headers = r.headers
	r.size = int64(cap(r.buf)) + recordOverhead
}

// wireBytes is at least what a batch of this record alone takes.
func (r *record) wireBytes() int {
	n := batchBytes + len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += headerBytes + len(h.Key) + len(h.Value)
	}
	return n
}

// keyHash names a key without showing it.
func (r *record) keyHash() string {
	h := fnv.New64a()
	_, _ = h.Write(r.Key) // never fails
	return fmt.Sprintf("%016x", h.Sum64())
}

// tooLarge is the fault of a record that its topic does not take.
func (r *record) tooLarge() *fault.Error {
	f := &fault.Error{
		Code: fault.RecordTooLarge, Op: "publish change", Table: r.table, Topic: r.topic.name, Pos: r.pos,
		Err: fmt.Errorf("the record takes %d bytes, the topic's max.message.bytes is %d (key hash %s)",
			r.wireBytes(), r.topic.limit, r.keyHash()),
		Hint: "Raise max.message.bytes of the topic and start again, or set kafka.oversize: dead_letter and kafka.dead_letter_topic. " +
			"The change stays in the slot until then.",
	}
	if r.dead {
		f.Hint = "Raise max.message.bytes of the dead-letter topic and start again. The change stays in the slot until then."
	}
	return f
}

// refusal is the fault of a record that the brokers did not take. They refuse whole batches, and the
// client gives up what waits behind one, so the record need not be the guilty one.
func (r *record) refusal(err error) error {
	explained := broker.Explain("publish change", err, r.sink.broker)
	f := fault.Of(explained)
	if f == nil {
		return explained
	}
	placed := *f
	placed.Table, placed.Topic, placed.Pos = r.table, r.topic.name, r.pos
	placed.Err = fmt.Errorf("in a batch that holds a record of %d bytes with key hash %s: %w", r.wireBytes(), r.keyHash(), err)
	return &placed
}

// produce hands the record to the client. It does not wait, because the window holds what the client
// would bound; and the record gets no context that could end: a batch that was sent and is then
// given up may or may not be in the topic.
func (k *Kafka) produce(r *record) {
	if k.txn != nil {
		k.txn.produce(k, r)
		return
	}
	k.send(r)
}

func (k *Kafka) send(r *record) {
	r.Timestamp = time.Now()
	k.client.Produce(context.Background(), &r.Record, r.promise)
	failpoint.Here(failpoint.HandedOver)
}

// done is every record's promise. Promises run one after the other: nothing here blocks.
func (k *Kafka) done(r *record, err error) {
	if r.claim != nil {
		r.claim.fail(err)
	}
	switch {
	case err == nil:
		r.ack.Acked(1)
		r.topic.produced.Inc()
		failpoint.Here(failpoint.Acked)
	case errors.Is(err, kgo.ErrClientClosed), errors.Is(err, kgo.ErrAborting): // given up by Close
	case r.claim != nil && !r.forGood(err): // the transaction is lost, the record is not: it comes again
	case r.claim == nil && k.letters != nil && !r.dead && refused(err):
		k.letters.refuse(r)
		return
	default:
		_ = k.fail(r.refusal(err)) // Write and Drain return it
	}
	k.window.release(r.size)
	k.free(r)
}

// forGood tells whether an error would come again in another transaction, until a person does
// something. Most others say that this one is lost.
func (r *record) forGood(err error) bool {
	switch fault.CodeOf(r.refusal(err)) {
	case fault.KafkaACL, fault.KafkaAuth, fault.KafkaTLS, fault.TopicMissing:
		return true
	default:
		return refused(err) || errors.Is(err, kerr.InvalidTimestamp)
	}
}

// refused tells whether the brokers answered that they will never take the record as it is.
func refused(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) || errors.Is(err, kerr.InvalidRecord)
}
