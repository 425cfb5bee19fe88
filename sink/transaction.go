package sink

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/internal/failpoint"
)

// transactionTimeout is how long the brokers let a transaction of a dead instance stay open: as long
// as a consumer waits behind it. The pipeline commits or splits well before.
const transactionTimeout = 60 * time.Second

// Transactional writes events and the checkpoint that covers them in Kafka transactions, one after
// the other. While one is being committed nothing may be produced, so what Write brings meanwhile is
// staged, within the same window, and belongs to the next.
//
// It implements pipeline.Transactional and checkpoint.Producer: the pipeline decides where a
// transaction ends (Hold), the checkpoint store claims and commits.
type Transactional struct {
	*Kafka
	txn *transaction
	// verdicts is what calls of Claim have learned of the transactions before them since one succeeded.
	verdicts broker.Verdicts
}

// abortWithin bounds the abort of what a stop leaves open. The brokers do it by themselves, later.
const abortWithin = time.Second

// transaction is the state of the one that is open.
type transaction struct {
	mu     sync.Mutex // guards held and staged; produce and release take turns by it
	held   bool
	staged []*record

	records, bytes atomic.Int64 // written since Hold
	claim          atomic.Pointer[claim]
}

// claim is what one call of Claim began: a producer, and why it can commit nothing any more. Records
// know theirs, so that one that a closed client gives up late does not harm the next.
type claim struct {
	id      string // the transactional id
	failure atomic.Pointer[failure]

	mu    sync.Mutex
	begun map[string]int // topics that the client has begun to write to since the last commit, with their partitions

	// What follows is Commit's own.
	producer broker.Producer // who began the open transaction
	silent   int             // how many questions in a row for the end of a transaction had no answer in time
	opaque   bool            // the brokers do not tell how far a transaction is
}

func producerOf(ctx context.Context, client *kgo.Client) (p broker.Producer, err error) {
	p.ID, p.Epoch, err = client.ProducerID(ctx)
	return p, err
}

type failure struct{ err error }

var (
	// errHeld fails a transaction whose end was already given.
	errHeld = errors.New("the transaction was held twice")
	// errReplaced fails a transaction of which the brokers have dropped the beginning.
	errReplaced = errors.New("the client has begun another transaction by itself, after the brokers had forgotten its producer")
)

// fail keeps the first reason why what was written cannot be committed. That this side gives it up is none.
func (c *claim) fail(err error) {
	if err != nil && !errors.Is(err, kgo.ErrAborting) {
		c.failure.CompareAndSwap(nil, &failure{err})
	}
}

// err returns that reason, nil as long as there is none.
func (c *claim) err() error {
	if f := c.failure.Load(); f != nil {
		return f.err
	}
	return nil
}

// begin notes a topic that nothing was written to before.
func (c *claim) begin(topic string, partitions int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun[topic] = partitions
}

// takeBegun returns the topics that were noted since it was called last.
func (c *claim) takeBegun() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.begun) == 0 {
		return nil
	}
	topics := c.begun
	c.begun = make(map[string]int)
	return topics
}

// Transactions makes k write in transactions. It must be called before Open, and each transaction
// begins with a Claim.
func (k *Kafka) Transactions() *Transactional {
	k.txn = &transaction{}
	return &Transactional{Kafka: k, txn: k.txn}
}

// Claim shuts out every other producer with the transactional id, gives up what was written and not
// committed, and begins a transaction. topic is the one of the checkpoint. What brokers have left open after a crash is ended
// as they had decided. It is not called while Write or Commit runs.
func (t *Transactional) Claim(ctx context.Context, transactionalID, topic string) error {
	for range broker.ClaimTries {
		c, err := t.fence(ctx, transactionalID)
		ended := false
		if err == nil {
			ended, err = t.endForgotten(ctx, c, topic)
		}
		if err == nil && ended {
			continue
		}
		if err == nil {
			err = t.client.BeginTransaction()
		}
		if err != nil {
			t.disconnect()
			return fmt.Errorf("begin a transaction: %w", err)
		}
		t.txn.claim.Store(c)
		t.verdicts = broker.Verdicts{}
		return nil
	}
	t.disconnect()
	return fault.New(fault.KafkaUnavailable, "begin a transaction", errors.New("the brokers leave transactions open"), "")
}

// fence makes a producer that shuts out every other one, after it has learned what became of the newest transaction.
func (t *Transactional) fence(ctx context.Context, transactionalID string) (*claim, error) {
	k := t.Kafka
	k.disconnect()
	c := &claim{id: transactionalID, begun: make(map[string]int)}
	err := k.connect(
		kgo.RecordPartitioner(preset{grown: k.grown, first: c.begin}),
		kgo.TransactionalID(transactionalID),
		kgo.TransactionTimeout(transactionTimeout),
		kgo.DisableClientMetrics(), // closing would wait for them
	)
	if err != nil {
		return nil, err
	}
	if err := broker.ProbeAgain(ctx, k.client, k.broker); err != nil {
		return nil, err
	}
	if err := t.verdicts.Ask(ctx, k.client, transactionalID); err != nil {
		return nil, err
	}
	c.producer, err = producerOf(ctx, k.client)
	return c, err
}

// Hold ends what the next commit covers: records written from now on are staged until it is done. A second
// one before that would have the commit cover records that are only staged, and makes it fail.
func (t *Transactional) Hold() {
	t.txn.mu.Lock()
	defer t.txn.mu.Unlock()
	if t.txn.held {
		t.txn.claim.Load().fail(errHeld)
	}
	t.txn.held = true
	failpoint.Here(failpoint.Held)
	t.txn.records.Store(0)
	t.txn.bytes.Store(0)
}

// Size returns how many records and bytes were written since the last Hold.
func (t *Transactional) Size() (records, bytes int64) {
	return t.txn.records.Load(), t.txn.bytes.Load()
}

// Commit adds the checkpoint record, waits until the brokers have everything, commits, begins the
// next transaction and hands it what was staged. After an error, and when ctx has ended, it is not
// known whether it was committed.
func (t *Transactional) Commit(ctx context.Context, record *kgo.Record) (err error) {
	client, claim := t.client, t.txn.claim.Load()
	defer func() { claim.fail(err) }()
	// The client by itself waits for ever for the answer to what it has sent.
	stop := context.AfterFunc(ctx, client.Close)
	defer stop()
	client.Produce(context.Background(), record, func(_ *kgo.Record, err error) { claim.fail(err) })
	failpoint.Here(failpoint.CheckpointProduced)
	began := time.Now()
	err = client.Flush(ctx)
	t.window.adapt(time.Since(began), err != nil)
	if err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	if err := claim.err(); err != nil {
		return err
	}
	for topic, partitions := range claim.takeBegun() {
		if err := broker.AwaitProduced(ctx, client, topic, partitions); err != nil {
			return err
		}
	}
	// Where the brokers have removed what was written last, the client takes a missing number for theirs: it
	// makes itself known anew, which drops the open transaction, and goes on in another one.
	if now, err := producerOf(ctx, client); err != nil {
		return fmt.Errorf("look at the open transaction: %w", err)
	} else if now != claim.producer {
		return errReplaced
	}
	failpoint.Here(failpoint.Flushed)
	if err := client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	failpoint.Here(failpoint.CommitAnswered)
	t.settle(ctx, client, claim)
	if err := client.BeginTransaction(); err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	if claim.producer, err = producerOf(ctx, client); err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	failpoint.Here(failpoint.Begun)
	t.release()
	failpoint.Here(failpoint.Released)
	return nil
}

// Close gives up what was written and not committed, and has the brokers know it: a read_committed consumer
// would wait behind it until they give it up themselves, or the next claim. Where that does not work at
// once it is left to them. After a commit that failed, the outcome of which is not known, and with a claim
// that is lost, nothing more is sent: another producer may be at work. Else it is Kafka.Close.
func (t *Transactional) Close() {
	if claim := t.txn.claim.Load(); claim != nil && claim.err() == nil && t.client != nil {
		ctx, cancel := context.WithTimeout(context.Background(), abortWithin)
		defer cancel()
		// What is on its way must have arrived: it would begin another transaction.
		if t.client.AbortBufferedRecords(ctx) == nil && claim.err() == nil {
			_ = t.client.EndTransaction(ctx, kgo.TryAbort)
		}
	}
	t.Kafka.Close()
}

// release produces what was staged, in order, before anything newer.
func (t *Transactional) release() {
	t.txn.mu.Lock()
	defer t.txn.mu.Unlock()
	for _, r := range t.txn.staged {
		t.send(r)
	}
	clear(t.txn.staged)
	t.txn.staged, t.txn.held = t.txn.staged[:0], false
}

// produce stages a record for the next transaction, or hands it to the client.
func (x *transaction) produce(k *Kafka, r *record) {
	x.records.Add(1)
	x.bytes.Add(r.size)
	r.claim = x.claim.Load()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.held {
		x.staged = append(x.staged, r)
		failpoint.Here(failpoint.Staged)
		return
	}
	k.send(r)
}

// drop gives up what is staged, with the client it was to go to.
func (x *transaction) drop(k *Kafka) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, r := range x.staged {
		k.window.release(r.size)
		k.free(r)
	}
	x.staged, x.held = nil, false
	x.records.Store(0)
	x.bytes.Store(0)
}

// lost returns why nothing more can be written into the open transaction, nil as long as it can. It
// is retryable: another claim makes a new one, from the last checkpoint on.
func (x *transaction) lost() error {
	if err := x.claim.Load().err(); err != nil {
		return fault.New(fault.KafkaUnavailable, "write into the open transaction", err, "")
	}
	return nil
}
