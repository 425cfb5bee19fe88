package sink

import (
	"context"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/failpoint"
)

// Write hands the records of a change, a truncate or a logical message to the brokers; other events
// have none. It tells ack how many there are before it hands them over, and of each once the brokers
// have it. It blocks while too many bytes are on their way, and copies what it keeps. A record that
// cannot be written ends the sink; where nothing took it to a dead-letter topic, none of its event's
// records has been handed over. When ctx ends, none of the event's records has been handed over, and
// those of earlier events stay on their way.
func (k *Kafka) Write(ctx context.Context, ev event.Event, ack event.Ack) error {
	if err := k.Err(); err != nil {
		return err
	}
	if k.txn != nil {
		if err := k.txn.lost(); err != nil {
			return err
		}
	}
	var err error
	switch e := ev.(type) {
	case *event.Change:
		err = k.encodeChange(ctx, e)
	case *event.Truncate:
		err = k.encodeTruncate(ctx, e)
	case *event.Message:
		err = k.encodeMessage(ctx, e)
	case *event.Begin, *event.Commit, *event.Progress:
		return nil
	}
	if err == nil {
		err = k.fitOrDivert()
	}
	if err != nil {
		k.drop(k.batch)
		if ctx.Err() != nil {
			return err
		}
		return k.fail(err)
	}
	failpoint.Here(failpoint.Encoded)
	return k.handOver(ctx, ack)
}

// next starts one more record of the event in k.batch. It belongs to Write until it is handed over.
func (k *Kafka) next(table string, pos event.Position) *record {
	r, _ := k.records.Get().(*record) // the pool holds nothing else
	r.table, r.pos, r.buf = table, pos, r.buf[:0]
	k.batch = append(k.batch, r)
	return r
}

func (k *Kafka) encodeChange(ctx context.Context, ch *event.Change) error {
	k.batch = k.batch[:0]
	rt, err := k.route(ctx, ch.Table)
	if err != nil {
		return err
	}
	for _, form := range rt.plan.Records(ch) {
		r := k.next(rt.table, ch.Pos)
		if r.buf, err = k.encoder.AppendKey(r.buf, rt.plan, ch, form); err != nil {
			return err
		}
		keyEnd := len(r.buf)
		if r.buf, err = k.encoder.AppendValue(r.buf, rt.plan, ch, form); err != nil {
			return err
		}
		valueEnd := len(r.buf)
		r.buf = ch.Pos.AppendRecord(r.buf, form.Part)
		r.fill(rt.topic, keyEnd, valueEnd, form.Headers)
		r.Partition = rt.keyless
		if keyEnd > 0 {
			r.Partition = k.partition(rt.topic, r.Key)
		}
	}
	return nil
}

// encodeTruncate makes one record for each partition: whoever reads only some of them sees it too.
func (k *Kafka) encodeTruncate(ctx context.Context, t *event.Truncate) error {
	k.batch = k.batch[:0]
	rt, err := k.route(ctx, t.Table)
	if err != nil {
		return err
	}
	for partition := range rt.topic.partitions {
		form := rt.plan.Truncate(int(partition))
		r := k.next(rt.table, t.Pos)
		r.buf = k.encoder.AppendTruncateKey(r.buf, rt.plan)
		keyEnd := len(r.buf)
		r.buf = k.encoder.AppendTruncateValue(r.buf, t, form)
		valueEnd := len(r.buf)
		r.buf = t.Pos.AppendRecord(r.buf, form.Part)
		r.fill(rt.topic, keyEnd, valueEnd, form.Headers)
		r.Partition = partition
	}
	return nil
}

func (k *Kafka) encodeMessage(ctx context.Context, m *event.Message) error {
	k.batch = k.batch[:0]
	tp, err := k.topic(ctx, k.messages())
	if err != nil {
		return err
	}
	r := k.next("", m.Pos)
	if r.buf, err = k.encoder.AppendMessageKey(r.buf, m); err != nil {
		return err
	}
	keyEnd := len(r.buf)
	if r.buf, err = k.encoder.AppendMessageValue(r.buf, m); err != nil {
		return err
	}
	valueEnd := len(r.buf)
	r.buf = m.Pos.AppendRecord(r.buf, 0)
	r.fill(tp, keyEnd, valueEnd, k.messageHeaders)
	r.Partition = k.partition(tp, r.Key)
	return nil
}

// fitOrDivert checks the size of each record of the event before any is handed over: one that is too
// large goes to the dead-letter topic, or is the returned error.
func (k *Kafka) fitOrDivert() error {
	for _, r := range k.batch {
		if r.wireBytes() <= r.topic.limit {
			continue
		}
		if k.letters == nil {
			return r.tooLarge()
		}
		if err := k.letters.divert(r, fault.RecordTooLarge); err != nil {
			return err
		}
	}
	return nil
}

// handOver gives the event's records to the client once there is room for all of them: after a stop
// in between the next start would write those again that were handed over.
func (k *Kafka) handOver(ctx context.Context, ack event.Ack) error {
	ack.Expect(len(k.batch))
	var size int64
	for _, r := range k.batch {
		size += r.size
	}
	if err := k.admit(ctx, size); err != nil {
		k.drop(k.batch)
		if failure := k.Err(); failure != nil {
			return failure
		}
		return err
	}
	for _, r := range k.batch {
		r.ack = ack
		k.produce(r)
	}
	k.batch = k.batch[:0]
	return nil
}

// admit waits until no repair is under way and size more bytes fit.
func (k *Kafka) admit(ctx context.Context, size int64) error {
	if k.letters != nil {
		if err := k.letters.passage(ctx); err != nil {
			return err
		}
	}
	return k.window.take(ctx, k.failed, size)
}

// drop gives records back that were not handed over.
func (k *Kafka) drop(records []*record) {
	for _, r := range records {
		k.free(r)
	}
	k.batch = k.batch[:0]
}
