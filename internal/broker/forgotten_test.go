package broker

import "testing"

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
