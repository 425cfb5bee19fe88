package vault

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/walferry/walferry/fault"
)

const (
	// requestTimeout bounds one request to Vault.
	requestTimeout = 10 * time.Second
	// tooSoon is how long a failure answers for all who ask meanwhile.
	tooSoon = time.Second
	// The first and the longest delay between tries, before jitter.
	firstWait = time.Second
	maxWait   = 30 * time.Second
	// afterRotation is how long after the announced moment a static role is looked at again.
	afterRotation = 500 * time.Millisecond
	// revokeWithin bounds the goodbye.
	revokeWithin = 2 * time.Second
)

// Client reads the secrets of a configuration from Vault and keeps them fresh. Its methods are safe for
// concurrent use; Start comes first, then Run.
type Client struct {
	cfg     Config
	entries []*Entry
	log     *slog.Logger
	metrics *Metrics

	// woken has Run look again at what is due.
	woken chan struct{}
	// shown is the token's state for those who must not wait for a turn.
	shown atomic.Pointer[token]

	// turn is held by whoever talks to Vault: one request at a time. It guards all below.
	turn  chan struct{}
	api   *api.Client // nil before the first request, and after a failure that a new CA file may heal
	token token       // the zero token where none is good
	had   Secret      // the newest token there was
	// wrapped is the secret id that was unwrapped, and the wrapping token it came from.
	wrapped struct{ token, secretID Secret }
}

// New makes a client and joins the entries to it; it does no I/O. A nil Metrics counts nothing.
func New(cfg Config, entries []*Entry, log *slog.Logger, m *Metrics) *Client {
	c := &Client{cfg: cfg, entries: entries, log: log, metrics: m, turn: make(chan struct{}, 1), woken: make(chan struct{}, 1)}
	c.shown.Store(&token{})
	for _, e := range entries {
		e.client = c
	}
	m.watch(c)
	return c
}

// Start logs in and reads every secret once. While Vault is away it tries again, for as long as
// StartTimeout says. Its errors are *fault.Error, but for a cancelled context.
func (c *Client) Start(ctx context.Context) error {
	began, said := time.Now(), false
	for n := 0; ; n++ {
		err := c.readAll(ctx)
		switch {
		case err == nil:
			if said {
				c.log.Info("Vault answers", "after", time.Since(began).Round(time.Millisecond))
			}
			return nil
		case ctx.Err() != nil, !fault.Retryable(err), time.Since(began) > c.cfg.StartTimeout:
			return err
		case !said:
			c.log.Warn("waiting for Vault", "at_most", c.cfg.StartTimeout, "error", fault.Of(err))
			said = true
		}
		rest := time.Until(began.Add(c.cfg.StartTimeout))
		if sleep(ctx, min(backOff(n), max(rest, 0)+time.Millisecond)) != nil {
			return err
		}
	}
}

func (c *Client) readAll(ctx context.Context) error {
	for _, e := range c.entries {
		if e.held() != nil {
			continue
		}
		if err := c.refresh(ctx, e, 0); err != nil {
			return err
		}
	}
	return nil
}

// Run renews the token and every secret when each is due, until ctx ends, and revokes then what this
// process logged in for. It never fails: while Vault is away the metrics count down, and what has ended
// is the error of whoever needs it.
func (c *Client) Run(ctx context.Context) error {
	for c.rest(ctx) {
		if !c.tokenDue().After(time.Now()) {
			c.tendToken(ctx)
		}
		for _, e := range c.entries {
			if !e.dueAt().After(time.Now()) {
				c.tend(ctx, e)
			}
		}
	}
	c.leave()
	return nil
}

// rest waits until something is due; false once ctx has ended.
func (c *Client) rest(ctx context.Context) bool {
	t := time.NewTimer(time.Until(c.next()))
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.woken:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// next is when something is due.
func (c *Client) next() time.Time {
	next := c.tokenDue()
	for _, e := range c.entries {
		if due := e.dueAt(); due.Before(next) {
			next = due
		}
	}
	return next
}

// tend renews an entry or reads it anew, and logs when that begins to fail and when it works again.
func (c *Client) tend(ctx context.Context, e *Entry) {
	before := e.failing()
	err := c.refresh(ctx, e, e.Version())
	switch {
	case ctx.Err() != nil:
	case err == nil && before != nil:
		c.log.Info("reading from Vault again", "credential", e.Name())
	case err != nil && fault.CodeOf(before) != fault.CodeOf(err):
		left := "it does not end by itself"
		if end, ends := e.expiry(); ends {
			left = time.Until(end).Round(time.Second).String()
		}
		c.log.Warn("cannot renew a credential, going on with the one of now", "credential", e.Name(), "left", left, "error", fault.Of(err))
	}
}

// refresh renews the entry's lease, or reads it anew: always where the version at hand was refused or
// has ended. It returns at once where somebody else has read a newer version meanwhile.
func (c *Client) refresh(ctx context.Context, e *Entry, version int) error {
	if err := c.take(ctx); err != nil {
		return err
	}
	defer c.give()
	if e.Version() > version {
		return nil
	}
	now := time.Now()
	if err := e.lately(now); err != nil {
		return err
	}
	err := c.readOrRenew(ctx, e, now)
	if err == nil || ctx.Err() != nil {
		return err
	}
	e.fail(err, now)
	c.metrics.failure(e.Name())
	return err
}

// wake has Run look at what is due.
func (c *Client) wake() {
	select {
	case c.woken <- struct{}{}:
	default:
	}
}

// take waits for the turn, which give ends.
func (c *Client) take(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for Vault: %w", context.Cause(ctx))
	}
}

func (c *Client) give() { <-c.turn }

// readOrRenew renews the lease of an entry that is due while its credential lasts; where it is not
// due but asked for, it was refused, and so is read anew. The turn is held.
func (c *Client) readOrRenew(ctx context.Context, e *Entry, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := c.logIn(ctx, now); err != nil {
		return err
	}
	if e.renewable(now) {
		renewed, err := c.renewLease(ctx, e, e.held(), now)
		if renewed || err != nil {
			return err
		}
	}
	return c.read(ctx, e, now)
}

// renewLease asks for the lease's whole length again. Near the end of the longest life that a
// credential may have Vault gives less than half of it: then a new one is due.
func (c *Client) renewLease(ctx context.Context, e *Entry, v *Values, now time.Time) (renewed bool, err error) {
	s, err := c.api.Logical().WriteWithContext(ctx, "sys/leases/renew", map[string]any{
		"lease_id": v.answer.lease, "increment": int(v.answer.duration / time.Second),
	})
	if err != nil {
		if err := c.explain("renew the lease of "+e.place(), err); away(err) {
			return false, err
		}
		return false, nil // revoked, or the policy does not allow it: a new one will do
	}
	if s == nil || seconds(s.LeaseDuration) < v.answer.duration/2 {
		return false, nil
	}
	life := seconds(s.LeaseDuration)
	e.extend(now.Add(life), now.Add(renewAfter(life)))
	return true, nil
}

// read reads an entry anew. The turn is held, and there is a token.
func (c *Client) read(ctx context.Context, e *Entry, now time.Time) error {
	op := "read " + e.place() + " from Vault"
	s, err := c.request(ctx, e.spec)
	if fault.Is(c.explain(op, err), fault.VaultDenied) && c.tokenIsBad(ctx) {
		c.forgetToken()
		if err := c.logIn(ctx, now); err != nil {
			return err
		}
		s, err = c.request(ctx, e.spec)
	}
	if err != nil {
		return c.explain(op, err)
	}
	a, fields, err := parseAnswer(s, e.spec, now)
	if err != nil {
		return fault.New(fault.VaultSecret, op, err, "Compare the path with the engine (version 2 of the key-value engine reads kv/data/…), and vault.fields with what is stored.")
	}
	if e.take(a, fields, now, now.Add(c.renewIn(a, now))) {
		c.metrics.rotation(e.Name())
		c.log.Info("read a credential from Vault", "credential", e.Name(), "version", e.Version(), "expires", expiresWord(e))
	}
	return nil
}

func expiresWord(e *Entry) string {
	if end, ends := e.expiry(); ends {
		return end.UTC().Format(time.RFC3339)
	}
	return "never by itself"
}

func (c *Client) request(ctx context.Context, spec Spec) (*api.Secret, error) {
	if len(spec.Params) == 0 {
		return c.api.Logical().ReadWithContext(ctx, spec.Path)
	}
	params := make(map[string]any, len(spec.Params))
	for k, v := range spec.Params {
		params[k] = v
	}
	return c.api.Logical().WriteWithContext(ctx, spec.Path, params)
}

// renewIn is when an answer is to be renewed: at two thirds of its life where it has one, when Vault
// rotates it, or when it is time to look again.
func (c *Client) renewIn(a answer, now time.Time) time.Duration {
	poll := jittered(c.cfg.PollInterval)
	switch {
	case a.lease != "", a.issued:
		return renewAfter(a.expires.Sub(now))
	case a.rotates > 0:
		return min(poll, a.rotates+afterRotation)
	default:
		return poll
	}
}

// renewAfter is two thirds of a life, and a little less, so that many clients do not come at once. No
// life is so short that Vault is asked without a pause.
func renewAfter(life time.Duration) time.Duration {
	return max(time.Second, life*2/3-rand.N(life/20+1)) //nolint:gosec // no secret
}

// jittered is d, up to a tenth less or more.
func jittered(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1) //nolint:gosec // no secret
}

// backOff is how long to wait after so many failures before: twice as long each time, with jitter.
func backOff(failures int) time.Duration {
	wait := maxWait
	if failures < 5 {
		wait = firstWait << failures
	}
	return wait/2 + rand.N(wait/2+1) //nolint:gosec // no secret
}

// sleep waits; its error is the context's, which ended first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *Entry) failing() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.failed
}

// leave revokes the token that this process logged in for, and with it all that was leased under it.
func (c *Client) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), revokeWithin)
	defer cancel()
	if c.take(ctx) != nil {
		return
	}
	defer c.give()
	if c.api == nil || c.token.value.IsZero() || !c.cfg.Auth.ownToken() {
		return
	}
	if err := c.api.Auth().Token().RevokeSelfWithContext(ctx, ""); err != nil {
		c.log.Info("the token could not be revoked; it ends by itself", "error", c.explain("revoke the token", err))
	}
	c.forgetToken()
}
