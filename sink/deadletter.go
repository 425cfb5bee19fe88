package sink

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
)

// letters sends records to the dead-letter topic that their own topic does not take. Most are too
// large by the limit that Open read, and Write diverts them before they are sent. What the brokers
// refuse all the same is harder: they refuse a whole batch, and the client gives up everything behind
// it in that partition. So Write pauses until everything else has arrived, and the refused records
// are sent again one at a time and in their order. Only those that are refused alone are diverted. (A
// record that Write hands over between the refusal and its arrival here may come to stand before them.)
type letters struct {
	sink *Kafka
	work chan struct{} // has room for one: there is something in queue
	stop chan struct{}
	done chan struct{}

	paused atomic.Bool // whether resume is set, for Write to see at no cost
	mu     sync.Mutex  // guards the fields below
	queue  []*record   // in the order of their promises, which is the order within each partition
	resume chan struct{}
}

func newLetters(k *Kafka) *letters {
	return &letters{sink: k, work: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
}

// divert turns a record into its dead letter: the same key, value and headers, and headers that say
// what happened and where it belonged.
func (l *letters) divert(r *record, code fault.Code) error {
	k := l.sink
	k.mu.RLock()
	tp := k.topics[k.cfg.DeadLetterTopic]
	k.mu.RUnlock()
	r.headers = append(r.headers,
		kgo.RecordHeader{Key: "error", Value: []byte(code)},
		kgo.RecordHeader{Key: "topic", Value: []byte(r.topic.name)},
		kgo.RecordHeader{Key: "table", Value: []byte(r.table)})
	r.Headers = r.headers
	key := r.Key
	if key == nil {
		key = []byte(r.table)
	}
	partition := kgo.StickyKeyPartitioner(nil).ForTopic("").Partition(&kgo.Record{Key: key}, int(tp.partitions))
	k.metrics.deadLetters.WithLabelValues(r.topic.name).Inc()
	r.topic, r.Topic, r.Partition, r.dead = tp, tp.name, int32(partition), true //nolint:gosec // below an int32
	if r.wireBytes() > tp.limit {
		return r.tooLarge()
	}
	return nil
}

// refuse takes a record that the brokers refused. It is called by a promise and does not block.
func (l *letters) refuse(r *record) {
	l.mu.Lock()
	l.queue = append(l.queue, r)
	l.sink.window.park(r.size) // still under the lock: after it r is run's, which may be done with it already
	if l.resume == nil {
		l.resume = make(chan struct{})
		l.paused.Store(true)
	}
	l.mu.Unlock()
	select {
	case l.work <- struct{}{}:
	default: // the worker already knows
	}
}

// passage waits while a repair is under way.
func (l *letters) passage(ctx context.Context) error {
	if !l.paused.Load() {
		return nil
	}
	l.mu.Lock()
	resume := l.resume
	l.mu.Unlock()
	if resume == nil {
		return nil
	}
	select {
	case <-resume:
		return nil
	case <-l.sink.failed:
		return errStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run repairs until close.
func (l *letters) run() {
	defer close(l.done)
	for {
		select {
		case <-l.stop:
			return
		case <-l.work:
		}
		if l.sink.window.settled(context.Background(), l.stop) != nil {
			return
		}
		for r := l.first(); r != nil; r = l.first() {
			err := l.again(r)
			if err != nil && !errors.Is(err, kgo.ErrClientClosed) {
				_ = l.sink.fail(err) // Write and Drain return it
			}
			if err != nil {
				return
			}
		}
	}
}

// first takes the first refused record, or lets Write go on where there is none.
func (l *letters) first() *record {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) > 0 {
		r := l.queue[0]
		l.queue = l.queue[1:]
		return r
	}
	if l.resume != nil {
		close(l.resume)
		l.resume = nil
		l.paused.Store(false)
	}
	return nil
}

// again sends a record alone, and as a dead letter if it is refused alone.
func (l *letters) again(r *record) error {
	k := l.sink
	err := l.alone(r)
	if refused(err) {
		code := fault.CodeOf(broker.Explain("publish change", err, k.broker))
		if err = l.divert(r, code); err == nil {
			err = l.alone(r)
		}
	}
	if err != nil {
		if fault.Of(err) == nil {
			err = r.refusal(err)
		}
		return err
	}
	r.ack.Acked(1)
	r.topic.produced.Inc()
	k.window.releaseParked(r.size)
	k.free(r)
	return nil
}

// alone sends a record and waits for the answer. Closing the client is one.
func (l *letters) alone(r *record) error {
	return l.sink.client.ProduceSync(context.Background(), &r.Record).FirstErr()
}

// close ends run. The client is closed already.
func (l *letters) close() {
	close(l.stop)
	<-l.done
}
