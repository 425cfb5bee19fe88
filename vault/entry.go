package vault

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/walferry/walferry/fault"
)

// The fields that a secret can have for those who use it, whatever they are called in Vault.
const (
	FieldUsername    = "username"
	FieldPassword    = "password"
	FieldSession     = "session_token" // beside the other two, of a login at AWS
	FieldCertificate = "certificate"   // PEM; the chain may follow
	FieldPrivateKey  = "private_key"   // PEM
	FieldCA          = "ca"            // PEM; one or several
)

// Spec is one secret of the configuration.
type Spec struct {
	// Name names it in logs, errors and metrics: the credential it serves, such as kafka_sasl.
	Name string
	// Path is where it is read, such as database/creds/cdc or kv/data/kafka.
	Path string
	// Fields say for each field that is wanted (FieldUsername …) what Vault calls it.
	Fields map[string]string
	// Params make the read a write of them, which is how PKI issues a certificate.
	Params map[string]string
}

// Entry is one secret of the configuration and what Vault gave for it last. NewEntry makes it, New
// joins it to a Client. It is safe for concurrent use.
type Entry struct {
	spec   Spec
	client *Client

	mu       sync.Mutex // guards all below
	values   *Values    // nil before the first read
	changed  chan struct{}
	due      time.Time // when to renew or to read again
	failed   error     // of the last try, nil after one that worked
	failedAt time.Time
	failures int

	stale    bool      // a renewal will not do, it must be read anew
	accepted bool      // a server has taken what was read here
	refused  time.Time // since when one refuses it, zero while none does
}

// Values are one version of a secret. They do not change.
type Values struct {
	version int
	fields  map[string]Secret
	expires time.Time
	read    time.Time
	answer  answer
}

// Field returns one of the fields that the Spec names; the zero Secret where it is not among them.
func (v *Values) Field(name string) Secret { return v.fields[name] }

// Version counts the changes since the process began, from 1 on.
func (v *Values) Version() int { return v.version }

// Leased tells whether Vault made this credential for us and will take it away: the user of a dynamic
// role. Such a user must own nothing, or Vault could not drop it.
func (v *Values) Leased() bool { return v.answer.lease != "" }

// NewEntry makes an Entry; see New.
func NewEntry(spec Spec) *Entry {
	return &Entry{spec: spec, changed: make(chan struct{})}
}

// Name is the Spec's name.
func (e *Entry) Name() string { return e.spec.Name }

// Has tells whether the field is among those that the Spec names.
func (e *Entry) Has(field string) bool { return e.spec.Fields[field] != "" }

// Current returns what is held; it asks Vault only where nothing is, or where what is held has
// ended. Its errors are *fault.Error, but for a cancelled context.
func (e *Entry) Current(ctx context.Context) (*Values, error) {
	if v := e.held(); v != nil && !v.expired(time.Now()) {
		return v, nil
	}
	if e.client == nil {
		return nil, fault.New(fault.Internal, "read "+e.spec.Name+" from Vault", errors.New("no client was made for it"), "")
	}
	if err := e.client.refresh(ctx, e, e.Version()); err != nil {
		return nil, err
	}
	return e.held(), nil
}

// Changed returns a channel that is closed once there is a version newer than the given one.
func (e *Entry) Changed(version int) <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.values != nil && e.values.version > version {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	return e.changed
}

// Accepted notes that a server took the credential.
func (e *Entry) Accepted() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.accepted, e.refused = true, time.Time{}
}

// rotationGrace is how long a credential that was good may be refused before a person has to look:
// whoever rotates changes the server first and Vault then, or the other way round.
const rotationGrace = time.Minute

// freshly is how old a credential must be for a refusal to have it read anew: else a server that refuses
// every login would have Vault make one role after the other.
const freshly = 2 * time.Second

// Refused notes that a server refused the given version, has Vault asked for a newer one, and tells
// whether another try makes sense: there is a newer one already, or the credential was good until now
// and may be in the middle of a rotation. It does not block.
func (e *Entry) Refused(version int) (again bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	switch {
	case e.values == nil, e.values.version > version:
		return true
	case e.refused.IsZero():
		e.refused = now
	}
	if now.Sub(e.values.read) >= freshly && now.Sub(e.failedAt) >= tooSoon {
		e.stale, e.due = true, now
		e.client.wake()
	}
	return e.accepted && now.Sub(e.refused) < rotationGrace
}

// expiry returns when what is held ends; false where it does not end by itself, or nothing is held. A
// lease ends with the token that it was made under.
func (e *Entry) expiry() (time.Time, bool) {
	v := e.held()
	if v == nil || v.ends().IsZero() {
		return time.Time{}, false
	}
	end := v.ends()
	if t := e.client.shown.Load(); v.Leased() && !t.expires.IsZero() {
		end = earlier(end, t.expires)
	}
	return end, true
}

func (e *Entry) held() *Values {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.values
}

// Version is that of what is held, 0 for nothing.
func (e *Entry) Version() int {
	if v := e.held(); v != nil {
		return v.version
	}
	return 0
}

// expired tells whether the credential is of no use any more. The password of a static role is
// replaced by Vault itself: where Vault cannot be reached, it has not been.
func (v *Values) expired(now time.Time) bool { return !v.expires.IsZero() && !now.Before(v.expires) }

// ends is what the metric counts down to: the end, or the next rotation of a static role.
func (v *Values) ends() time.Time {
	if v.expires.IsZero() && v.answer.rotates > 0 {
		return v.read.Add(v.answer.rotates)
	}
	return v.expires
}

// take keeps an answer, and tells whether it brought something new. next is when it is due again.
func (e *Entry) take(a answer, fields map[string]Secret, now, next time.Time) (changed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := &Values{version: 1, fields: fields, expires: a.expires, read: now, answer: a}
	if was := e.values; was != nil {
		if v.version = was.version; !sameFields(was.fields, fields) {
			v.version++
		}
	}
	changed = e.values == nil || v.version != e.values.version
	e.values, e.due, e.failed, e.failures, e.stale = v, next, nil, 0, false
	if changed {
		close(e.changed)
		e.changed = make(chan struct{})
	}
	return changed
}

// extend moves the end of a lease that was renewed.
func (e *Entry) extend(expires, next time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := *e.values
	v.expires = expires
	e.values, e.due, e.failed, e.failures = &v, next, nil, 0
}

// fail notes a try that did not work, and when the next one is due.
func (e *Entry) fail(err error, now time.Time) (wait time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	wait = backOff(e.failures)
	e.failures++
	e.failed, e.failedAt, e.due = err, now, now.Add(wait)
	return wait
}

// lately returns the error of a try that failed only a moment ago, so that many connections which need
// the secret at once do not all ask for it.
func (e *Entry) lately(now time.Time) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failed != nil && now.Sub(e.failedAt) < tooSoon {
		return e.failed
	}
	return nil
}

func (e *Entry) dueAt() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.due
}

// replaceLeased has a leased credential read anew at the next turn: it ends with the token that it was
// made under, whatever becomes of its lease.
func (e *Entry) replaceLeased(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.values != nil && e.values.Leased() {
		e.stale, e.due = true, now
	}
}

// renewable tells whether the lease of what is held can be made longer.
func (e *Entry) renewable(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := e.values
	return v != nil && v.Leased() && v.answer.renewable && !v.expired(now) && !e.stale && !e.due.After(now)
}

func sameFields(a, b map[string]Secret) bool {
	return maps.EqualFunc(a, b, func(x, y Secret) bool { return x.Reveal() == y.Reveal() })
}

// place says which secret is meant, for the text of an error.
func (e *Entry) place() string { return fmt.Sprintf("%s for %s", e.spec.Path, e.spec.Name) }
