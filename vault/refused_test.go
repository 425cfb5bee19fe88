package vault_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/testca"
	"github.com/walferry/walferry/internal/vaulttest"
	"github.com/walferry/walferry/vault"
)

// TestFault48_WhatVaultRefuses makes one thing wrong at a time. Each must be named by its own code, with
// a hint, and without a secret.
func TestFault48_WhatVaultRefuses(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	v.KV()
	v.PutKV("kafka", vaulttest.Map{"user": "walferry", "pass": canary, "empty": "", "list": []any{map[string]any{}}})
	v.PutKV("deleted", vaulttest.Map{"user": "walferry", "pass": canary})
	v.Delete("kv/data/deleted")
	v.Write("sys/mounts/database", vaulttest.Map{"type": "database"})
	v.PKI("kafka")
	good := configOf(v, nil, "kv/data/kafka read", "kv/data/deleted read", "kv/data/missing read", "kv/kafka read", "database/creds/cdc read", "pki/issue/kafka read,update")
	other, err := testca.New("another")
	if err != nil {
		t.Fatal(err)
	}
	otherCA := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(otherCA, other.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	wrap := func(path string) string {
		answer, code, err := v.Do(http.MethodPut, path, v.RootToken(), nil, "X-Vault-Wrap-TTL", "60s")
		if err != nil || code != http.StatusOK {
			t.Fatalf("wrap: %d, %v", code, err)
		}
		info, _ := answer["wrap_info"].(map[string]any)
		token, _ := info["token"].(string)
		return token
	}
	spent := wrap("auth/approle/role/test/secret-id")
	v.Write("sys/wrapping/unwrap", vaulttest.Map{"token": spent})
	foreign := wrap("sys/tools/random/8")
	auth := func(change func(*vault.Auth)) func(*vault.Config, *vault.Spec) {
		return func(c *vault.Config, _ *vault.Spec) { change(&c.Auth) }
	}
	path := func(path string) func(*vault.Config, *vault.Spec) {
		return func(_ *vault.Config, s *vault.Spec) { s.Path = path }
	}
	for name, tc := range map[string]struct {
		wrong func(*vault.Config, *vault.Spec)
		code  fault.Code
		says  string
	}{
		"policy lacks the path": {path("kv/data/elsewhere"), fault.VaultDenied, "kv/data/elsewhere"},
		"no such secret":        {path("kv/data/missing"), fault.VaultSecret, "there is no such secret"},
		"deleted":               {path("kv/data/deleted"), fault.VaultSecret, "version 1 was deleted"},
		"path without data/":    {path("kv/kafka"), fault.VaultSecret, "Invalid path for a versioned K/V secrets engine"},
		"wrong role":            {path("database/creds/cdc"), fault.VaultSecret, "unknown role"},
		"PKI without params":    {path("pki/issue/kafka"), fault.VaultSecret, "vault.params"},
		"missing field":         {func(_ *vault.Config, s *vault.Spec) { s.Fields = map[string]string{vault.FieldPassword: "password"} }, fault.VaultSecret, "the field password is missing"},
		"empty field":           {func(_ *vault.Config, s *vault.Spec) { s.Fields = map[string]string{vault.FieldPassword: "empty"} }, fault.VaultSecret, "the field empty is empty"},
		"malformed field":       {func(_ *vault.Config, s *vault.Spec) { s.Fields = map[string]string{vault.FieldPassword: "list"} }, fault.VaultSecret, "the field list is a list"},
		"no certificate":        {func(_ *vault.Config, s *vault.Spec) { s.Fields = map[string]string{vault.FieldCA: "pass"} }, fault.VaultSecret, "the field pass holds no certificate"},
		"secret id":             {auth(func(a *vault.Auth) { a.SecretIDFile = v.File("id", canary) }), fault.VaultAuth, "invalid role or secret ID"},
		"role id":               {auth(func(a *vault.Auth) { a.RoleID = "nobody" }), fault.VaultAuth, "invalid role"},
		"mount":                 {auth(func(a *vault.Auth) { a.Mount = "elsewhere" }), fault.VaultAuth, "vault.auth.mount"},
		"token":                 {auth(func(a *vault.Auth) { *a = vault.Auth{Method: vault.MethodToken, Token: vault.NewSecret(canary)} }), fault.VaultAuth, "VAULT_TOKEN"},
		"spent wrapping token":  {auth(func(a *vault.Auth) { a.SecretIDFile, a.SecretIDWrapped = v.File("id", spent), true }), fault.VaultUnwrap, "stolen"},
		"another's wrapping":    {auth(func(a *vault.Auth) { a.SecretIDFile, a.SecretIDWrapped = v.File("id", foreign), true }), fault.VaultUnwrap, "was not made as a secret id"},
		"wrong CA":              {func(c *vault.Config, _ *vault.Spec) { c.CAFile = otherCA }, fault.VaultTLS, "vault.ca_file"},
		"system's CAs":          {func(c *vault.Config, _ *vault.Spec) { c.CAFile = "" }, fault.VaultTLS, "set vault.ca_file"},
		"wrong server name":     {func(c *vault.Config, _ *vault.Spec) { c.ServerName = "elsewhere" }, fault.VaultTLS, "vault.server_name"},
		"plaintext port":        {func(c *vault.Config, _ *vault.Spec) { c.Address = strings.Replace(plain.URL, "http:", "https:", 1) }, fault.VaultTLS, "does not speak TLS"},
		"nobody there": {func(c *vault.Config, _ *vault.Spec) {
			c.Address, c.StartTimeout = "https://127.0.0.1:1", time.Millisecond
		}, fault.VaultUnavailable, "vault.address"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, spec := good, vault.Spec{Name: "test", Path: "kv/data/kafka", Fields: userAndPassword}
			tc.wrong(&cfg, &spec)
			f := start(t, cfg, vault.NewEntry(spec))
			said := f.Error() + "\n" + f.Hint + "\n" + f.LogValue().String()
			if f.Code != tc.code || !strings.Contains(said, tc.says) {
				t.Errorf("want %s, and: %s", tc.code, tc.says)
			}
			shown(t, "the error", said)
			for _, secret := range []string{spent, foreign, v.RootToken()} {
				if strings.Contains(said, secret) {
					t.Errorf("the error shows a token: %s", said)
				}
			}
		})
	}
}

// TestFault48_VaultAway starts while Vault is sealed, and lets it be sealed, stopped and paused in mid-run.
func TestFault48_VaultAway(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	v.KV()
	v.PutKV("kafka", vaulttest.Map{"user": "walferry", "pass": canary})
	cfg := configOf(v, nil, "kv/data/kafka read")
	v.Seal()
	short := cfg
	short.StartTimeout = 500 * time.Millisecond
	if f := start(t, short, entryOf("kv/data/kafka", userAndPassword, nil)); f.Code != fault.VaultUnavailable || !strings.Contains(f.Error(), "sealed") {
		t.Errorf("sealed: %v", f)
	}
	v.Unseal()
	e := entryOf("kv/data/kafka", userAndPassword, nil)
	log := running(t, cfg, e)
	for name, away := range map[string]struct{ begin, end func() }{
		"sealed":  {v.Seal, v.Unseal},
		"stopped": {v.Stop, v.Restart},
	} {
		had := strings.Count(log.String(), "cannot renew a credential")
		away.begin()
		eventually(t, name+": it is said", func() bool { return strings.Count(log.String(), "cannot renew a credential") > had })
		if got := current(t, e, vault.FieldPassword); got != canary {
			t.Errorf("%s: it has not got what it had", name)
		}
		away.end()
		eventually(t, name+": it works again", func() bool { return strings.Count(log.String(), "reading from Vault again") > had })
	}
	v.PutKV("kafka", vaulttest.Map{"user": "walferry", "pass": canary + "-2"})
	eventually(t, "the new version arrives", func() bool { return current(t, e, vault.FieldPassword) == canary+"-2" })
	v.Delete("kv/data/kafka")
	eventually(t, "deleted: it is said", func() bool { return strings.Contains(log.String(), "version 2 was deleted") })
	if got := current(t, e, vault.FieldPassword); got != canary+"-2" {
		t.Error("it has not got what it had before it was deleted")
	}
	shown(t, "the log", log.String())
}
