package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/walferry/walferry/fault"
)

// token is what a login gave.
type token struct {
	value     Secret
	expires   time.Time // zero where it does not end
	due       time.Time // when to renew it, or to look at its file again
	life      time.Duration
	failures  int
	renewable bool
}

// logIn sees to it that there are a client and a token. The turn is held. A new token ends what was leased
// under the one before, so all such credentials become due.
func (c *Client) logIn(ctx context.Context, now time.Time) error {
	const op = "log in to Vault"
	if err := c.connect(); err != nil {
		return err
	}
	if !c.token.value.IsZero() && (c.token.expires.IsZero() || now.Before(c.token.expires)) {
		return nil
	}
	c.api.ClearToken()
	s, err := c.authenticate(ctx)
	if err != nil {
		err := c.explain(op, err)
		if fault.Is(err, fault.VaultDenied) || fault.Is(err, fault.VaultSecret) {
			return fault.New(fault.VaultAuth, op, reason(err), c.authHint())
		}
		return err
	}
	t, err := newToken(s, now)
	if err != nil {
		return fault.New(fault.VaultAuth, op, err, c.authHint())
	}
	if c.cfg.Auth.Method == MethodTokenFile {
		t.due = earlier(t.due, now.Add(jittered(c.cfg.PollInterval)))
	}
	c.token = t
	c.api.SetToken(t.value.Reveal())
	if !c.had.IsZero() && c.had.Reveal() != t.value.Reveal() {
		for _, e := range c.entries {
			e.replaceLeased(now)
		}
	}
	c.had = t.value
	c.show()
	return nil
}

// connect makes the HTTP client where there is none.
func (c *Client) connect() error {
	if c.api != nil {
		return nil
	}
	client, err := c.dial()
	if err != nil {
		return err
	}
	client.SetToken(c.token.value.Reveal())
	c.api = client
	return nil
}

// tokenIsBad tells whether Vault does not know the token any more, which it calls "permission denied"
// like everything that a policy forbids.
func (c *Client) tokenIsBad(ctx context.Context) bool {
	_, err := c.api.Auth().Token().LookupSelfWithContext(ctx)
	return fault.Is(c.explain("look the token up", err), fault.VaultDenied)
}

// show publishes the token's state, and has Run look at it.
func (c *Client) show() {
	t := c.token
	c.shown.Store(&t)
	c.wake()
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// authenticate returns what the login of the configured method answered.
func (c *Client) authenticate(ctx context.Context) (*api.Secret, error) {
	a := c.cfg.Auth
	switch a.Method {
	case MethodToken:
		return c.lookUp(ctx, a.Token)
	case MethodTokenFile:
		t, err := Credential{File: a.TokenFile}.Read()
		if err != nil {
			return nil, c.unread(err)
		}
		return c.lookUp(ctx, t)
	case MethodAppRole:
		id, err := c.secretID(ctx)
		if err != nil {
			return nil, err
		}
		return c.loginWith(ctx, map[string]any{"role_id": a.RoleID, "secret_id": id.Reveal()}, id)
	case MethodKubernetes, MethodJWT:
		jwt, err := Credential{File: a.JWTFile}.Read()
		if err != nil {
			return nil, c.unread(err)
		}
		return c.loginWith(ctx, map[string]any{"role": a.Role, "jwt": jwt.Reveal()}, jwt)
	case MethodCert:
		return c.loginWith(ctx, map[string]any{"name": a.Role}, Secret{})
	default:
		return nil, fault.New(fault.ConfigInvalid, "log in to Vault", fmt.Errorf("there is no method %q", a.Method), "")
	}
}

func (c *Client) unread(err error) error {
	return fault.New(fault.VaultAuth, "log in to Vault", err, c.authHint())
}

// loginWith posts to the login of the method. sent is taken out of what Vault says to it.
func (c *Client) loginWith(ctx context.Context, body map[string]any, sent Secret) (*api.Secret, error) {
	s, err := c.api.Logical().WriteWithContext(ctx, "auth/"+c.cfg.Auth.mount()+"/login", body)
	return s, without(err, sent)
}

// lookUp asks what a given token is good for, in the form that a login answers.
func (c *Client) lookUp(ctx context.Context, t Secret) (*api.Secret, error) {
	c.api.SetToken(strings.TrimSpace(t.Reveal()))
	s, err := c.api.Auth().Token().LookupSelfWithContext(ctx)
	if err != nil {
		return nil, without(err, t)
	}
	if s == nil {
		return nil, errors.New("the answer holds no data")
	}
	ttl, err := number(s.Data["ttl"])
	if err != nil {
		return nil, fmt.Errorf("the token's ttl %w", err)
	}
	renewable, _ := s.Data["renewable"].(bool) // whoever writes the file renews the token in it
	return &api.Secret{Auth: &api.SecretAuth{
		ClientToken: strings.TrimSpace(t.Reveal()), LeaseDuration: ttl, Renewable: renewable && c.cfg.Auth.Method == MethodToken,
	}}, nil
}

// newToken makes a token of what a login answered.
func newToken(s *api.Secret, now time.Time) (token, error) {
	if s == nil || s.Auth == nil || s.Auth.ClientToken == "" {
		return token{}, errors.New("the answer holds no token")
	}
	t := token{value: NewSecret(s.Auth.ClientToken), renewable: s.Auth.Renewable}
	t.lasts(seconds(s.Auth.LeaseDuration), now)
	return t, nil
}

// never is so far away that nothing is due for it.
const never = 24 * time.Hour

// lasts notes how long the token lives from now on; 0 means for ever.
func (t *token) lasts(life time.Duration, now time.Time) {
	t.life, t.expires, t.due = life, time.Time{}, now.Add(never)
	if life > 0 {
		t.expires, t.due = now.Add(life), now.Add(renewAfter(life))
	}
}

// tokenDue is when the token is to be renewed.
func (c *Client) tokenDue() time.Time {
	t := c.shown.Load()
	if t.value.IsZero() {
		return time.Now().Add(never) // whoever needs one logs in
	}
	return t.due
}

// tendToken renews the token, or logs in again: where it cannot be renewed, or near the end of the
// longest life that it may have.
func (c *Client) tendToken(ctx context.Context) {
	if c.take(ctx) != nil {
		return
	}
	defer c.give()
	defer c.show()
	request, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	now := time.Now()
	old := c.token
	err := c.renewToken(request, now)
	if err == nil || ctx.Err() != nil {
		return
	}
	if c.token.value.IsZero() {
		c.token = old // it lasts for a while yet
		if c.api != nil {
			c.api.SetToken(old.value.Reveal())
		}
	}
	c.metrics.failure(tokenName)
	c.token.due = now.Add(backOff(c.token.failures))
	c.token.failures++
	if c.token.failures == 1 {
		c.log.Warn("cannot renew the token of Vault, going on with the one of now", "expires", c.token.expires.UTC().Format(time.RFC3339), "error", fault.Of(err))
	}
}

// renewToken is one try. The turn is held.
func (c *Client) renewToken(ctx context.Context, now time.Time) error {
	if err := c.connect(); err != nil {
		return err
	}
	if c.token.renewable && now.Before(c.token.expires) {
		s, err := c.api.Auth().Token().RenewSelfWithContext(ctx, int(c.token.life/time.Second))
		if err == nil && s != nil && s.Auth != nil && seconds(s.Auth.LeaseDuration) >= c.token.life/2 {
			life := c.token.life
			c.token.lasts(seconds(s.Auth.LeaseDuration), now)
			c.token.life, c.token.failures = life, 0
			return nil
		}
		if err := c.explain("renew the token", err); away(err) {
			return err
		}
	}
	if c.cfg.Auth.Method == MethodToken {
		// There is no other: it is used to its end, which the metric counts down to.
		c.token.due = now.Add(never)
		return nil
	}
	c.forgetToken()
	return c.logIn(ctx, now)
}

// forgetToken has the next request log in. The turn is held.
func (c *Client) forgetToken() {
	c.token = token{}
	c.show()
}

// secretID returns the secret id of approle: what the file holds, or what the wrapping token in it
// was unwrapped to.
func (c *Client) secretID(ctx context.Context) (Secret, error) {
	held, err := Credential{File: c.cfg.Auth.SecretIDFile}.Read()
	if err != nil {
		return Secret{}, c.unread(err)
	}
	if !c.cfg.Auth.SecretIDWrapped {
		return held, nil
	}
	if c.wrapped.token.Reveal() == held.Reveal() {
		return c.wrapped.secretID, nil
	}
	id, err := c.unwrap(ctx, held)
	if err != nil {
		return Secret{}, err
	}
	c.wrapped.token, c.wrapped.secretID = held, id
	return id, nil
}

// unwrap redeems a wrapping token for the secret id in it. A token can be redeemed once: one that is
// spent was redeemed by somebody else, or has expired, and only a person can tell which.
func (c *Client) unwrap(ctx context.Context, wrapping Secret) (Secret, error) {
	const op = "unwrap the secret id"
	stolen := func(err error) error {
		return fault.New(fault.VaultUnwrap, op, without(err, wrapping),
			"The wrapping token in "+c.cfg.Auth.SecretIDFile+" has expired, or somebody else has used it: if it should still have been good, treat the secret id as stolen and revoke it. Then write a new one to the file.")
	}
	spent := func(err error) error {
		if err := c.explain(op, without(err, wrapping)); away(err) || fault.Of(err) == nil {
			return err
		}
		return stolen(reason(err))
	}
	// A token of another origin would hand us another's secret id: what it wraps was made for our role.
	s, err := c.api.Logical().WriteWithContext(ctx, "sys/wrapping/lookup", map[string]any{"token": wrapping.Reveal()})
	if err != nil {
		return Secret{}, spent(err)
	}
	var path string
	if s != nil {
		path, _ = s.Data["creation_path"].(string)
	}
	if !strings.HasPrefix(path, "auth/"+c.cfg.Auth.mount()+"/role/") || !strings.HasSuffix(path, "/secret-id") {
		return Secret{}, stolen(errors.New("what is wrapped was not made as a secret id of " + "auth/" + c.cfg.Auth.mount()))
	}
	s, err = c.api.Logical().UnwrapWithContext(ctx, wrapping.Reveal())
	c.api.ClearToken()
	if err != nil {
		return Secret{}, spent(err)
	}
	if s != nil {
		if id, ok := s.Data["secret_id"].(string); ok && id != "" {
			return NewSecret(id), nil
		}
	}
	return Secret{}, stolen(errors.New("there is no secret id in it"))
}

// authHint says which settings the login rests on.
func (c *Client) authHint() string {
	a := c.cfg.Auth
	switch a.Method {
	case MethodToken:
		return "Vault does not take the token: see whether it has expired or was revoked (vault.auth.token, VAULT_TOKEN)."
	case MethodTokenFile:
		return "See whether Vault Agent still renews the token in " + a.TokenFile + " (vault.auth.token_file)."
	case MethodAppRole:
		return "Check vault.auth.role_id, the secret id in " + a.SecretIDFile + " (does it still live, and may it be used from here?), and vault.auth.mount."
	case MethodKubernetes, MethodJWT:
		return fmt.Sprintf("Check vault.auth.role (%s), the token in %s (does its audience fit?), and vault.auth.mount.", a.Role, a.JWTFile)
	default:
		return "Check vault.auth.cert_file and key_file, the role in Vault that knows their authority, and vault.auth.mount."
	}
}

// without takes a secret that was sent out of Vault's answer, should it repeat it.
func without(err error, sent Secret) error {
	var answer *api.ResponseError
	if err == nil || sent.IsZero() || !errors.As(err, &answer) {
		return err
	}
	clean := *answer
	clean.Errors = nil
	for _, line := range answer.Errors {
		clean.Errors = append(clean.Errors, strings.ReplaceAll(line, sent.Reveal(), redacted))
	}
	return &clean
}
