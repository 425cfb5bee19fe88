package broker

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walferry/walferry/internal/kafkaserver"
	"github.com/walferry/walferry/internal/kafkatest"
)

func TestVerdict(t *testing.T) {
	open := Producer{ID: 7, Epoch: 5}
	for _, c := range []struct {
		verdict       Verdict
		commit, known bool
	}{
		{Verdict{"PrepareEpochFence", Producer{7, 5}}, false, true},  // an earlier claim is giving it up
		{Verdict{"PrepareEpochFence", Producer{7, 6}}, false, false}, // a later one
		{Verdict{"PrepareCommit", Producer{7, 6}}, true, true},
		{Verdict{"CompleteCommit", Producer{7, 6}}, true, true},
		{Verdict{"CompleteCommit", Producer{7, 7}}, false, false}, // a later one
		{Verdict{"CompleteCommit", Producer{8, 6}}, false, false}, // another producer
		{Verdict{"PrepareAbort", Producer{7, 6}}, false, true},
		{Verdict{"CompleteAbort", Producer{7, 6}}, false, true},
		{Verdict{"Empty", Producer{7, 6}}, false, false}, // claimed since
		{Verdict{}, false, false},
	} {
		later := Verdicts{decided: []Verdict{c.verdict, {"CompleteAbort", Producer{7, 9}}}} // of a claim that failed
		commit, known := later.Of(open)
		if known != c.known || known && commit != c.commit {
			t.Errorf("%+v: commit %v, known %v", c.verdict, commit, known)
		}
	}
}

// TestInterruptedEndKeepsItsDecision: between the two requests of End its transaction is open, and looks as if somebody
// was writing. Who goes on after that does not give it up.
func TestInterruptedEndKeepsItsDecision(t *testing.T) {
	b := kafkatest.Start(t, kafkaserver.Options{Settings: kafkatest.Unverified()})
	const id = "walferry.interrupted"
	topic := b.Topic("interrupted", 1)
	b.LeaveOpen(id, topic, true)
	ctx, before := t.Context(), new(Verdicts)
	client := b.Client(kgo.TransactionalID(id))
	if err := before.Ask(ctx, client, id); err != nil {
		t.Fatal(err)
	}
	now := Producer{}
	var err error
	if now.ID, now.Epoch, err = client.ProducerID(ctx); err != nil {
		t.Fatal(err)
	}
	open, err := FindForgotten(ctx, client, now.ID, []string{topic})
	if err != nil || open == nil {
		t.Fatalf("found %v, %v", open, err)
	}
	before.ending.by, before.ending.commit = now, true
	if err := open.join(ctx, client, id, now); err != nil {
		t.Fatal(err)
	}
	if err := before.Ask(ctx, b.Client(), id); err != nil {
		t.Fatal(err)
	}
	if commit, known := before.Of(now); !commit || !known {
		t.Errorf("commit %v, known %v", commit, known)
	}
	for ctx := t.Context(); ; { // its end is marked after it is decided
		left, err := FindForgotten(ctx, client, now.ID, []string{topic})
		if err != nil {
			t.Fatal(err)
		}
		if left == nil {
			break
		}
	}
	stable, err := kadm.NewClient(client).ListCommittedOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	if offset, _ := stable.Lookup(topic, 0); offset.Offset != 2 { // the record and the marker
		t.Errorf("stable up to %d", offset.Offset)
	}
}
