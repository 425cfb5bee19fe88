package monitor_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/monitor"
)

// runChecks runs checks on a clock that skips waits, and ends them with the test.
func runChecks(t *testing.T, checks ...monitor.Check) *monitor.Checks {
	t.Helper()
	c := monitor.NewChecks(checks...)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

func TestAChecksResultFollowsWhatItFinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var err atomic.Pointer[fault.Error]
		began := time.Now().UTC()
		c := runChecks(t, monitor.Check{
			Name: "slot", Every: time.Second, Timeout: 500 * time.Millisecond, Late: fault.PostgresUnavailable,
			Run: func(context.Context) monitor.Finding {
				if e := err.Load(); e != nil {
					return monitor.Failed(e)
				}
				return monitor.Finding{}
			},
		})
		want := func(w monitor.CheckResult) {
			t.Helper()
			w.Name, w.Timeout = "slot", .5
			if diff := cmp.Diff([]monitor.CheckResult{w}, c.Results()); diff != "" {
				t.Errorf("after %v (-want +got):\n%s", time.Since(began), diff)
			}
		}
		synctest.Wait()
		want(monitor.CheckResult{State: monitor.OK, Since: began})
		err.Store(&fault.Error{Code: fault.SlotMissing, Op: "x", Err: errors.New("gone")})
		time.Sleep(2500 * time.Millisecond)
		synctest.Wait()
		failedAt, lastAt := began.Add(time.Second), began.Add(2*time.Second)
		want(monitor.CheckResult{State: monitor.Failing, Since: failedAt, Code: fault.SlotMissing, LastError: fault.SlotMissing, LastErrorAt: lastAt})
		err.Store(nil)
		time.Sleep(time.Second)
		synctest.Wait()
		want(monitor.CheckResult{State: monitor.OK, Since: began.Add(3 * time.Second), LastError: fault.SlotMissing, LastErrorAt: lastAt})
	})
}

func TestAChecksResultIsUnknownBeforeItHasRun(t *testing.T) {
	want := []monitor.CheckResult{{Name: "slot", State: monitor.Unknown, Timeout: 2}}
	if diff := cmp.Diff(want, monitor.NewChecks(monitor.Check{Name: "slot", Timeout: 2 * time.Second}).Results()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A check that hangs is failing when its time is up, holds up no other, and is not begun a second time.
func TestACheckThatHangsIsFailingAndAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var begun, others atomic.Int64
		release := make(chan struct{})
		c := runChecks(t,
			monitor.Check{
				Name: "kafka", Every: time.Second, Timeout: 3 * time.Second, Late: fault.KafkaUnavailable,
				Run: func(context.Context) monitor.Finding { begun.Add(1); <-release; return monitor.Finding{} },
			},
			monitor.Check{
				Name: "slot", Every: time.Second, Timeout: time.Second,
				Run: func(context.Context) monitor.Finding { others.Add(1); return monitor.Finding{} },
			})
		time.Sleep(60*time.Second + time.Millisecond)
		synctest.Wait()
		r := c.Results()
		if r[0].State != monitor.Failing || r[0].Code != fault.KafkaUnavailable || r[0].Took != 3 {
			t.Errorf("the one that hangs: %+v", r[0])
		}
		if r[1].State != monitor.OK || others.Load() != 61 || begun.Load() != 1 {
			t.Errorf("the other: %+v, run %d times, the one that hangs %d times", r[1], others.Load(), begun.Load())
		}
		close(release)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if r := c.Results(); r[0].State != monitor.OK || r[0].LastError != fault.KafkaUnavailable {
			t.Errorf("once it answers again: %+v", r[0])
		}
	})
}
