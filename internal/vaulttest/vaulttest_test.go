package vaulttest_test

import (
	"net/http"
	"testing"

	"github.com/walferry/walferry/internal/vaulttest"
)

// TestServer seals, unseals and restarts a server, which keeps what was written to it.
func TestServer(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	v.KV()
	v.PutKV("a", vaulttest.Map{"b": "c"})
	v.Seal()
	if _, code, err := v.Do(http.MethodGet, "kv/data/a", v.RootToken(), nil); err != nil || code != http.StatusServiceUnavailable {
		t.Errorf("sealed, it answers %d, %v", code, err)
	}
	v.Unseal()
	v.Restart()
	data, ok := v.Read("kv/data/a")["data"].(vaulttest.Map)
	if !ok || data["b"] != "c" {
		t.Errorf("after a restart it holds %v", data)
	}
}
