package vault_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/vaulttest"
	"github.com/walferry/walferry/vault"
)

const patience = time.Minute

// userAndPassword are the fields of a login, under names of their own in Vault.
var userAndPassword = map[string]string{vault.FieldUsername: "user", vault.FieldPassword: "pass"}

// entryOf names a secret of a test.
func entryOf(path string, fields, params map[string]string) *vault.Entry {
	return vault.NewEntry(vault.Spec{Name: "test", Path: path, Fields: fields, Params: params})
}

// configOf is a login by an approle that has a policy of the given lines.
func configOf(v *vaulttest.Server, settings vaulttest.Map, lines ...string) vault.Config {
	v.Policy("test", lines...)
	role := v.AppRole("test", "test", settings)
	return vault.Config{
		Address: v.Addr(), CAFile: v.CAFile(), StartTimeout: 10 * time.Second, PollInterval: 100 * time.Millisecond,
		Auth: vault.Auth{Method: vault.MethodAppRole, RoleID: role.RoleID, SecretIDFile: role.SecretIDFile},
	}
}

// running starts a client and runs it until the test ends. It returns what the client logged.
func running(t *testing.T, cfg vault.Config, entries ...*vault.Entry) *logged {
	t.Helper()
	log := &logged{}
	c := vault.New(cfg, entries, slog.New(slog.NewTextHandler(log, nil)), nil)
	if err := c.Start(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, fault.Of(err).Hint)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return log
}

// start wants Start to fail, and returns the fault.
func start(t *testing.T, cfg vault.Config, entries ...*vault.Entry) *fault.Error {
	t.Helper()
	c := vault.New(cfg, entries, slog.New(slog.DiscardHandler), nil)
	f := fault.Of(c.Start(t.Context()))
	if f == nil {
		t.Fatal("it started")
	}
	t.Logf("%v\n%s", f, f.Hint)
	return f
}

// current returns a field of what the entry holds.
func current(t *testing.T, e *vault.Entry, field string) string {
	t.Helper()
	v, err := e.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v.Field(field).Reveal()
}

// eventually polls until ok says so.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for !ok() {
		select {
		case <-poll.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func TestKeyValueSecretIsWatched(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	v.KV()
	v.PutKV("kafka", vaulttest.Map{"user": "walferry", "pass": canary})
	e := entryOf("kv/data/kafka", userAndPassword, nil)
	log := running(t, configOf(v, nil, "kv/data/kafka read"), e)
	first, err := e.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if first.Field(vault.FieldUsername).Reveal() != "walferry" || first.Field(vault.FieldPassword).Reveal() != canary || first.Leased() {
		t.Error("it is not what was stored")
	}
	changed := e.Changed(first.Version())
	v.PutKV("kafka", vaulttest.Map{"user": "walferry", "pass": canary + "-2"})
	select {
	case <-changed:
	case <-time.After(patience):
		t.Fatal("the new version was not seen")
	}
	if got := current(t, e, vault.FieldPassword); got != canary+"-2" {
		t.Error("the password is not the new one")
	}
	if e.Version() != first.Version()+1 {
		t.Errorf("version %d after %d", e.Version(), first.Version())
	}
	shown(t, "the log", log.String())
	if !strings.Contains(log.String(), "read a credential from Vault") {
		t.Errorf("the log says nothing of it: %s", log)
	}
}
