package vault

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// samples are answers of a real Vault, cut short, and such as it would not give.
var samples = []string{
	`{"data": {"username": "u", "password": "canary-secret"}}`,
	`{"data": {"data": {"username": "u", "password": "canary-secret"}, "metadata": {"version": 3, "deletion_time": "", "destroyed": false}}}`,
	`{"data": {"data": null, "metadata": {"version": 3, "deletion_time": "2026-01-01T00:00:00Z"}}}`,
	`{"lease_id": "database/creds/cdc/x", "lease_duration": 60, "renewable": true, "data": {"username": "u", "password": "canary-secret"}}`,
	`{"data": {"username": "u", "password": "canary-secret", "ttl": 3600, "rotation_period": 3600, "last_vault_rotation": "2026-01-01T00:00:00Z"}}`,
	`{"data": {"certificate": "-----BEGIN CERTIFICATE-----\ncanary-secret", "private_key": "canary-secret", "expiration": 1, "ca_chain": ["canary-secret"]}}`,
	`{"lease_id": "x", "lease_duration": 9223372036854775807, "data": {"username": 1, "password": ["canary-secret"]}}`,
	`{"lease_id": "x", "lease_duration": -5, "data": {"username": {"a": "canary-secret"}, "password": null}}`,
	`{"data": {"ttl": "canary-secret", "last_vault_rotation": 1, "username": "u", "password": "p"}}`,
	`{"warnings": ["Invalid path"], "data": null}`,
	`{"data": {"data": "canary-secret", "metadata": {"version": {"a": 1}}}}`,
	`[]`, `{}`, ``, `{"data": {"username": 1e400, "password": "\ud800"}}`,
}

// FuzzParseAnswer: whatever Vault answers, there is no panic, no field that was not asked for, no end that
// overflows, and no value in an error.
func FuzzParseAnswer(f *testing.F) {
	for _, s := range samples {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	spec := Spec{Name: "fuzz", Path: "p", Fields: map[string]string{FieldUsername: "username", FieldPassword: "password"}}
	cert := Spec{Name: "fuzz", Path: "p", Fields: map[string]string{FieldCertificate: "certificate", FieldPrivateKey: "private_key", FieldCA: "username"}}
	now := time.Unix(1_800_000_000, 0)
	f.Fuzz(func(t *testing.T, data []byte, certificate bool) {
		s, err := api.ParseSecret(bytes.NewReader(data))
		if err != nil {
			return
		}
		wanted := spec
		if certificate {
			wanted = cert
		}
		a, fields, err := parseAnswer(s, wanted, now)
		if err != nil {
			if strings.Contains(err.Error(), "canary-secret") || len(err.Error()) > 1000 {
				t.Errorf("the error shows what it should not: %v", err)
			}
			return
		}
		if len(fields) != len(wanted.Fields) {
			t.Errorf("%d fields", len(fields))
		}
		for name, value := range fields {
			if wanted.Fields[name] == "" || value.IsZero() {
				t.Errorf("the field %s", name)
			}
		}
		if a.lease != "" && !certificate && (a.expires.Before(now) || a.expires.After(now.Add(maxDuration))) {
			t.Errorf("it ends at %s", a.expires)
		}
		if a.rotates < 0 || a.rotates > maxDuration {
			t.Errorf("it rotates after %s", a.rotates)
		}
	})
}

// FuzzNewToken does the same for the answer to a login.
func FuzzNewToken(f *testing.F) {
	for _, s := range []string{
		`{"auth": {"client_token": "hvs.x", "lease_duration": 3600, "renewable": true}}`, `{"auth": {}}`, `{"auth": null}`, `{}`,
		`{"auth": {"client_token": "x", "lease_duration": -9223372036854775808}}`,
	} {
		f.Add([]byte(s))
	}
	now := time.Unix(1_800_000_000, 0)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := api.ParseSecret(bytes.NewReader(data))
		if err != nil {
			return
		}
		token, err := newToken(s, now)
		if err != nil {
			return
		}
		if token.value.IsZero() || token.due.Before(now) || !token.expires.IsZero() && (token.expires.Before(now) || token.expires.After(now.Add(maxDuration))) {
			t.Errorf("due %s, expires %s", token.due, token.expires)
		}
	})
}
