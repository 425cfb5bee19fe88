package sink

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A commit is answered as soon as it is decided. The brokers go on to mark its end in each partition, and
// what is produced meanwhile they refuse to add to the next transaction; Kafka's own retry then comes
// after 20 ms, which is many times what the marking takes. So the end of the marking is waited for here.
const (
	// settleWithin bounds that wait. Past it producing costs no more than the brokers' own retry.
	settleWithin = 25 * time.Millisecond
	// settleEvery is the shortest time between two looks.
	settleEvery = time.Millisecond
	// silentAtMost is how many commits in a row may wait in vain for any answer. Brokers so far away are through
	// by the time that the next records reach them.
	silentAtMost = 3
)

// settle waits until the transaction that was ended last is complete, or for as long as it is worth it. A
// cluster that does not say is not asked again under the same claim.
func (t *Transactional) settle(ctx context.Context, client *kgo.Client, claim *claim) {
	if claim.opaque {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	began, answered := time.Now(), false
	for {
		done, known := isComplete(ctx, client, claim.id)
		switch {
		case known:
			claim.silent = 0
		case ctx.Err() == nil:
			claim.opaque = true
		case time.Since(began) >= settleWithin && !answered:
			claim.silent++
			claim.opaque = claim.silent >= silentAtMost
		}
		answered = true
		if done || !known {
			return
		}
		select {
		case <-time.After(max(settleEvery, time.Since(began)/2)):
		case <-ctx.Done():
			return
		}
	}
}

// isComplete asks the coordinator whether nothing is left to do for a transaction that was ended.
func isComplete(ctx context.Context, client *kgo.Client, transactionalID string) (done, known bool) {
	req := kmsg.NewPtrDescribeTransactionsRequest()
	req.TransactionalIDs = []string{transactionalID}
	resp, err := req.RequestWith(ctx, client)
	if err != nil || len(resp.TransactionStates) != 1 || resp.TransactionStates[0].ErrorCode != 0 {
		return false, false
	}
	state := resp.TransactionStates[0].State
	return state != "PrepareCommit" && state != "PrepareAbort", true
}
