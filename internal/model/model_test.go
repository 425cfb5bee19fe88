package model

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// large tells whether the bounds are those of make model.
func large() bool { return os.Getenv("WALFERRY_MODEL") == "large" }

// faults is how many of them a test tries: few everywhere, more where somebody has the time.
func faults(few, many int) int {
	if large() {
		return many
	}
	return few
}

// slow is why some of it is left out where the race detector is on: nothing here has goroutines, and make test
// runs it without as well.
const slow = "ten times slower under the race detector, and has no goroutines"

// most bounds a search in memory, at about 250 bytes a state.
const most = 25_000_000

var (
	// tiny is two transactions of one row.
	tiny = []Tx{{Rows: []int{0}}, {Rows: []int{0}}}
	// pair has a transaction with a row in each partition.
	pair = []Tx{{Rows: []int{0, 1}}, {Rows: []int{1}}}
	// three has one more.
	three = []Tx{{Rows: []int{0, 1}}, {Rows: []int{1}}, {Rows: []int{0, 1}}}
	// split has a transaction that is published in parts.
	split = []Tx{{Rows: []int{0, 1}, Large: true}, {Rows: []int{1}}}
	// one is a single one.
	one = []Tx{{Rows: []int{0}}}
)

// The promise: no state within the bounds breaks it, and from each of them everything can still be
// delivered.
func TestAlgorithmKeepsItsPromise(t *testing.T) {
	both := []Config{
		{Instances: 1, Transactions: pair, Faults: faults(2, 4)},
		{Instances: 2, Transactions: tiny, Faults: faults(1, 3)},
		{Instances: 2, Transactions: pair, Faults: faults(1, 3)},
		{Instances: 2, Transactions: tiny, Faults: faults(1, 2), Fine: true},
		{Instances: 2, Transactions: tiny, Faults: faults(1, 3), Meddler: true},
		{Instances: 2, Transactions: one, Faults: faults(1, 3), FirstStart: true},
	}
	for _, d := range []Delivery{ExactlyOnce, AtLeastOnce} {
		configs := both
		if d == ExactlyOnce {
			configs = append(configs, Config{Instances: faults(1, 2), Transactions: split, Faults: faults(1, 2)})
		}
		if large() {
			configs = append(configs, Config{Instances: 2, Transactions: three, Faults: 2})
		}
		for _, cfg := range configs {
			cfg.Delivery = d
			t.Run(name(cfg), func(t *testing.T) {
				if race && cfg.Instances > 1 && len(cfg.Transactions[0].Rows) > 1 {
					t.Skip(slow)
				}
				if !large() { // else one at a time, for memory
					t.Parallel()
				}
				r, err := Check(cfg, Mutation{}, most)
				t.Logf("%d states, %d steps, up to %d one after the other", r.States, r.Steps, r.Depth)
				if err != nil {
					t.Fatal(err)
				}
				if v := r.Violation; v != nil {
					t.Error(tell(v))
				}
			})
		}
	}
}

// harmless are the mutations that break nothing, and why. Every other one must be found.
var harmless = map[Delivery]map[string]string{
	ExactlyOnce: {
		"swap startJudge and startResume":                   "nothing is published or saved before both are done",
		"swap commitRelease and commitNote":                 "both come after the answer, and neither looks at what the other does",
		"swap commitNote and commitConfirm":                 "both come after the answer, under one lock",
		"leave out commitNote":                              "what was noted tells a record of one's own from another's, and the run in the record does that too",
		"go on although another instance has written since": "each claim sets the cursor to the newest checkpoint, whoever wrote it; the rule has the one who was replaced stop, where two would take turns",
		"… and do not look before the claim":                "the same",
	},
	AtLeastOnce: {
		"swap commitMark and commitRecord":                             "the record then holds the mark before, and what is confirmed is what the record holds",
		"swap commitAnswer and commitNote":                             "what is noted keeps the same place from being saved twice; the next place is saved all the same, and nothing is confirmed before the answer",
		"swap commitNote and commitConfirm":                            "both come after the answer, under one lock",
		"leave out commitNote":                                         "the same place is saved again and again",
		"save again with the old producer after one without an answer": "it is the same record, and one who was shut out is refused",
	},
}

// always are those that are harmless under both.
var always = map[string]string{
	"swap startServer and startSlot": "with the slot held the look at it is better; but a connection that replicates takes no questions",
	"swap startSlot and startLook":   "startJudge looks again",
	"swap startLook and startFence":  "startJudge looks again; who was replaced would disturb the one who replaced it, which then claims again",
	"leave out startLook":            "the same",
	// Set-up.
	"swap bootServer and bootLoad": "nobody else creates a slot under the lock, and a gap is judged again with the slot held",
	"swap bootAnswer and bootShow": "what is visible was committed",
	"swap bootShow and bootSlot":   "others wait for the lock meanwhile; a kill in between is a start that is refused once",
	"leave out bootUnlock":         "the end of the process gives the lock back; until then nobody becomes a standby",
}

// A mutation is found in the world where it shows: pair, but for these.
var worlds = map[string]Config{
	"leave out startServer":                             {Transactions: pair, Meddler: true},
	"leave out startJudge":                              {Transactions: pair, Meddler: true},
	"split without a partial checkpoint":                {Transactions: split},
	"confirm the end of a transaction that is split":    {Transactions: split},
	"save without a claim":                              {Transactions: tiny},
	"go on although another instance has written since": {Transactions: tiny},
	"… and do not look before the claim":                {Transactions: tiny},
}

// deep are the mutations that one fault does not find.
var deep = map[Delivery][]string{
	ExactlyOnce: {"leave out startServer", "leave out startJudge", "save without a claim"},
	AtLeastOnce: {
		"leave out startServer", "leave out startJudge", "swap startJudge and startResume", "save without a claim",
		"go on although another instance has written since", "… and do not look before the claim",
	},
}

// The search finds what is wrong with every mutation that is not known to be harmless, by two faults at
// most. With -v it tells the shortest way there.
func TestMutationsAreFound(t *testing.T) {
	for _, d := range []Delivery{ExactlyOnce, AtLeastOnce} {
		met := map[string]bool{}
		for _, mut := range append(Neighbours(d, false), Mistakes(d)...) {
			cfg, ok := worlds[mut.Name]
			if !ok {
				cfg.Transactions = pair
			}
			met[mut.Name] = true
			mutate(t, d, cfg, mut)
		}
		for _, mut := range Neighbours(d, true) {
			met[mut.Name] = true
			mutate(t, d, Config{Transactions: one, FirstStart: true}, mut)
		}
		for _, table := range []map[string]string{harmless[d], always} {
			for name := range table {
				if !met[name] {
					t.Errorf("the table has %q, which is no mutation of %s", name, words(d))
				}
			}
		}
	}
}

func mutate(t *testing.T, d Delivery, cfg Config, mut Mutation) {
	t.Helper()
	t.Run(words(d)+"/"+mut.Name, func(t *testing.T) {
		t.Parallel()
		cfg.Delivery, cfg.Instances = d, 2
		why := harmless[d][mut.Name] + always[mut.Name]
		upTo := 1
		if slices.Contains(deep[d], mut.Name) {
			upTo = 2
		}
		if race && why != "" {
			t.Skip(slow)
		}
		if why != "" {
			upTo = faults(1, 2)
			cfg.Transactions = tiny
			if cfg.FirstStart {
				cfg.Transactions = one
			}
		}
		for cfg.Faults = 0; cfg.Faults <= upTo; cfg.Faults++ {
			if why != "" && cfg.Faults < upTo {
				continue // the last search visits all that this one would
			}
			if race && cfg.Faults > 0 {
				t.Skip(slow)
			}
			r, err := Check(cfg, mut, most)
			switch {
			case err != nil:
				t.Fatal(err)
			case r.Violation != nil && why != "":
				t.Fatalf("said to be harmless (%s), but:\n%s", why, tell(r.Violation))
			case r.Violation != nil:
				t.Logf("found among %d states, with %d faults: %s", r.States, cfg.Faults, tell(r.Violation))
				return
			case why != "":
				t.Logf("harmless in %d states: %s", r.States, why)
				return
			}
		}
		t.Errorf("not found with up to %d faults, and not said to be harmless", upTo)
	})
}

// Two searches of the same visit the same.
func TestSearchIsDeterministic(t *testing.T) {
	cfg := Config{Instances: 2, Transactions: tiny, Faults: 1}
	mut := Mistakes(ExactlyOnce)[0]
	a, errA := Check(cfg, mut, most)
	b, errB := Check(cfg, mut, most)
	if fmt.Sprint(a.States, a.Steps, a.Violation, errA) != fmt.Sprint(b.States, b.Steps, b.Violation, errB) {
		t.Errorf("%+v, then %+v", a, b)
	}
}

// A search that would visit too much says so, and does not pass for one that found nothing.
func TestSearchHasABound(t *testing.T) {
	if _, err := Check(Config{Instances: 2, Transactions: tiny, Faults: 1}, Mutation{}, 100); err != ErrTooLarge { //nolint:errorlint // as it is
		t.Errorf("error %v, want %v", err, ErrTooLarge)
	}
}

func words(d Delivery) string {
	if d == AtLeastOnce {
		return "at_least_once"
	}
	return "exactly_once"
}

func name(cfg Config) string {
	s := fmt.Sprintf("%s/%d instances, %d transactions, %d faults", words(cfg.Delivery), cfg.Instances, len(cfg.Transactions), cfg.Faults)
	for _, c := range []struct {
		on   bool
		what string
	}{
		{cfg.Transactions[0].Large, "split"}, {cfg.FirstStart, "first start"}, {cfg.Meddler, "meddler"}, {cfg.Fine, "fine"},
	} {
		if c.on {
			s += ", " + c.what
		}
	}
	return s
}

func tell(v *Violation) string { return v.What + "\n\t" + strings.Join(v.Trace, "\n\t") }
