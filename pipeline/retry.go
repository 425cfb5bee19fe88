package pipeline

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/walferry/walferry/fault"
)

// retry waits between attempts, longer each time and never the same time twice, and logs once when
// something breaks and once when it works again.
type retry struct {
	log    *slog.Logger
	what   string
	delays *backoff.ExponentialBackOff
	rng    *rand.Rand // keeps two instances that wait for the same server from trying at the same moments
	broken time.Time  // when the first attempt failed, zero while all is well
	code   fault.Code // of the failure that was logged last
}

// The first and the longest delay between attempts.
const (
	firstDelay = 200 * time.Millisecond
	maxDelay   = 5 * time.Second
)

func newRetry(log *slog.Logger, what string) *retry {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.RandomizationFactor = firstDelay, maxDelay, 0
	// Drawn from the clock, so that a simulation on a clock of its own repeats itself.
	now := uint64(time.Now().UnixNano())
	return &retry{log: log, what: what, delays: b, rng: rand.New(rand.NewPCG(now, now))} //nolint:gosec // nothing is secret
}

// wait logs the failure if it is a new one, and waits until the next attempt is due or ctx ends.
func (r *retry) wait(ctx context.Context, err error) {
	if r.broken.IsZero() {
		r.broken = time.Now()
	}
	if code := fault.CodeOf(err); code != r.code {
		r.code = code
		r.log.Warn("trying again: "+r.what, "error", logged(err))
	}
	delay := r.delays.NextBackOff()
	select {
	case <-time.After(delay/2 + time.Duration(r.rng.Int64N(int64(delay)))):
	case <-ctx.Done():
	}
}

// healed says that an attempt worked.
func (r *retry) healed() {
	if r.broken.IsZero() {
		return
	}
	r.log.Info("working again: "+r.what, "after", time.Since(r.broken).Round(time.Millisecond))
	r.broken, r.code = time.Time{}, ""
	r.delays.Reset()
}

// since returns how long attempts have been failing.
func (r *retry) since() time.Duration {
	if r.broken.IsZero() {
		return 0
	}
	return time.Since(r.broken)
}

// logged returns what of err belongs into a log: the failure with its parts where it is one.
func logged(err error) any {
	if f := fault.Of(err); f != nil {
		return f
	}
	return err
}
