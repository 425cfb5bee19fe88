package monitor

import (
	"context"
	"sync"
	"time"

	"github.com/walferry/walferry/fault"
)

// CheckState is the word for how a check came out.
type CheckState string

// The states of a check.
const (
	Unknown CheckState = "unknown" // not run yet
	OK      CheckState = "ok"
	Warning CheckState = "warning" // works, and will not for ever
	Failing CheckState = "failing"
)

// checkStates lists all of them, for the gauge that has one series for each.
var checkStates = [...]CheckState{Unknown, OK, Warning, Failing}

// Check is one thing that must hold for a pipeline to do its work.
type Check struct {
	// Name is a contract: docs/metrics.md.
	Name string
	// Every is the time between two runs, Timeout what one may take. A run that takes longer is failing with
	// the code Late, and no other begins before it has ended.
	Every, Timeout time.Duration
	Late           fault.Code
	// Run looks. It should end with ctx.
	Run func(ctx context.Context) Finding
}

// Finding is what a check found. The zero value is that all is well.
type Finding struct {
	// State is "" for OK.
	State CheckState
	// Code is the error's, "" for what is no error.
	Code fault.Code
	// Detail says more, in words that hold no secret and no row.
	Detail string
}

// Failed is the finding of an error, and of nil, which is none.
func Failed(err error) Finding {
	if err == nil {
		return Finding{}
	}
	return Finding{State: Failing, Code: fault.CodeOf(err)}
}

// CheckResult is how a check came out last. The names in JSON are a contract.
type CheckResult struct {
	Name  string     `json:"name"`
	State CheckState `json:"state"`
	// Since is when State, with this code, began.
	Since  time.Time  `json:"since,omitzero"`
	Code   fault.Code `json:"code,omitempty"`
	Detail string     `json:"detail,omitempty"`
	// LastError is the code of the newest failure, also of one that has passed; LastErrorAt is when it was
	// seen last.
	LastError   fault.Code `json:"last_error,omitempty"`
	LastErrorAt time.Time  `json:"last_error_at,omitzero"`
	// Took and Timeout are in seconds.
	Took    float64 `json:"took_seconds"`
	Timeout float64 `json:"timeout_seconds"`
}

// Words names the check, and the cause where there is one.
func (r CheckResult) Words() string {
	text := r.Name
	if r.Code != "" {
		text += ": " + string(r.Code)
	}
	if r.Detail != "" {
		text += ": " + r.Detail
	}
	return text
}

// Checks runs checks and keeps what they found. Reading the results waits for none of them.
type Checks struct {
	checks []Check

	mu      sync.Mutex // guards results
	results []CheckResult
}

// NewChecks returns checks that do not run yet.
func NewChecks(checks ...Check) *Checks {
	c := &Checks{checks: checks}
	for _, k := range checks {
		c.results = append(c.results, CheckResult{Name: k.Name, State: Unknown, Timeout: k.Timeout.Seconds()})
	}
	return c
}

// Results returns how the checks came out last, in the order in which they were given.
func (c *Checks) Results() []CheckResult {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]CheckResult(nil), c.results...)
}

// Run runs the checks side by side, each at its own pace, until ctx ends. It waits for those under way.
func (c *Checks) Run(ctx context.Context) {
	var all sync.WaitGroup
	for i, k := range c.checks {
		all.Go(func() { c.repeat(ctx, i, k) })
	}
	all.Wait()
}

// repeat runs one check until ctx ends.
func (c *Checks) repeat(ctx context.Context, i int, k Check) {
	tick := time.NewTicker(k.Every)
	defer tick.Stop()
	for ctx.Err() == nil {
		c.once(ctx, i, k)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// once runs a check to its end. When its time is up before that, the result is noted at once.
func (c *Checks) once(ctx context.Context, i int, k Check) {
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, k.Timeout)
	defer cancel()
	found := make(chan Finding, 1)
	go func() { found <- k.Run(limited) }() // ends before once does
	late := time.NewTimer(k.Timeout)
	defer late.Stop()
	var f Finding
	select {
	case f = <-found:
	case <-late.C:
		f = Finding{State: Failing, Code: k.Late, Detail: "no answer within its time"}
		c.note(i, f, began)
		<-found
		return
	}
	if ctx.Err() == nil { // one that was cut off says nothing
		c.note(i, f, began)
	}
}

func (c *Checks) note(i int, f Finding, began time.Time) {
	if f.State == "" {
		f.State = OK
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &c.results[i]
	if r.State != f.State || r.Code != f.Code {
		r.Since = now.UTC()
	}
	r.State, r.Code, r.Detail, r.Took = f.State, f.Code, f.Detail, now.Sub(began).Seconds()
	if f.State == Failing {
		r.LastError, r.LastErrorAt = f.Code, now.UTC()
	}
}
