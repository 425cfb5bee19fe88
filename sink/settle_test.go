package sink_test

import (
	"slices"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/sink"
)

// TestNextTransactionWaitsForTheMarkers has the coordinator say twice that the ended transaction is still
// being marked: nothing is produced before it says that it is complete.
func TestNextTransactionWaitsForTheMarkers(t *testing.T) {
	c := kafkatest.StartFake(t)
	cfg, table := config(t), orders("orders")
	k := transactional(t, cfg, c.ListenAddrs(), table)
	var requests []string // only the fake's own goroutine appends
	var looks int
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		requests = append(requests, "produce")
		return nil, nil, false
	})
	c.ControlKey(int16(kmsg.DescribeTransactions), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		looks++
		requests = append(requests, "look")
		if looks > 2 {
			return nil, nil, false
		}
		return ending(req, "PrepareCommit"), nil, true
	})
	s, a := newStream(), new(ack)
	k.Hold()
	write(t, k.Kafka, a, s.insert(table, 1, "staged"))
	if err := finishCommit(t, k, cfg); err != nil {
		t.Fatal(err)
	}
	if err := commit(t, k, cfg); err != nil {
		t.Fatal(err)
	}
	k.Close()
	// The checkpoint; the looks after its commit; what was staged and the next checkpoint; the last look.
	if want := []string{"produce", "look", "look", "look", "produce"}; !slices.Equal(requests[:5], want) {
		t.Errorf("requests: %v", requests)
	}
}

// TestUnknownStateIsAskedOnce has brokers that refuse to tell the state of a transaction: commits go on
// without, and the question is not asked again under the same claim.
func TestUnknownStateIsAskedOnce(t *testing.T) {
	c := kafkatest.StartFake(t)
	cfg, table := config(t), orders("orders")
	k := transactional(t, cfg, c.ListenAddrs(), table)
	var looks atomic.Int32
	c.ControlKey(int16(kmsg.DescribeTransactions), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		looks.Add(1)
		resp := ending(req, "")
		resp.TransactionStates[0].ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
		return resp, nil, true
	})
	commits := func(n int) {
		t.Helper()
		for range n {
			if err := commit(t, k, cfg); err != nil {
				t.Fatal(err)
			}
		}
	}
	commits(3)
	if n := looks.Load(); n != 1 {
		t.Errorf("asked %d times in three commits", n)
	}
	claim(t, k, cfg)
	commits(2)
	if n := looks.Load(); n != 3 { // the second claim asks as well
		t.Errorf("asked %d times under two claims", n)
	}
}

// TestSilentCoordinatorIsLeftAlone has brokers that do not answer in time: after some commits they are not
// asked any more, and commits cost no waiting.
func TestSilentCoordinatorIsLeftAlone(t *testing.T) {
	c := kafkatest.StartFake(t)
	cfg, table := config(t), orders("orders")
	k := transactional(t, cfg, c.ListenAddrs(), table)
	var looks atomic.Int32
	answer := make(chan struct{})
	c.ControlKey(int16(kmsg.DescribeTransactions), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		looks.Add(1)
		c.SleepControl(func() { <-answer })
		return nil, nil, false
	})
	for range 6 {
		if err := commit(t, k, cfg); err != nil {
			t.Fatal(err)
		}
	}
	close(answer)
	if !sink.IsOpaque(k) {
		t.Error("the brokers are still asked")
	}
	if n := looks.Load(); n > 3 {
		t.Errorf("asked %d times in six commits", n)
	}
}

// TestRealBrokerTellsTheState commits on a real broker, where the question must have an answer: without
// one each transaction would begin with a wait.
func TestRealBrokerTellsTheState(t *testing.T) {
	cfg, table := config(t), orders("orders")
	k := transactional(t, cfg, []string{kafkatest.Shared(t).Addr()}, table)
	if err := commit(t, k, cfg); err != nil {
		t.Fatal(err)
	}
	if sink.IsOpaque(k) {
		t.Error("the broker does not tell how far a transaction is")
	}
}

func ending(req kmsg.Request, state string) *kmsg.DescribeTransactionsResponse {
	resp := req.ResponseKind().(*kmsg.DescribeTransactionsResponse)               //nolint:errcheck // it is of this kind
	for _, id := range req.(*kmsg.DescribeTransactionsRequest).TransactionalIDs { //nolint:errcheck // called for this key
		s := kmsg.NewDescribeTransactionsResponseTransactionState()
		s.TransactionalID, s.State = id, state
		resp.TransactionStates = append(resp.TransactionStates, s)
	}
	return resp
}
