package pipeline

import (
	"context"
	"log/slog"
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
	b.InitialInterval, b.MaxInterval = firstDelay, maxDelay
	return &retry{log: log, what: what, delays: b}
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
	select {
	case <-time.After(r.delays.NextBackOff()):
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
