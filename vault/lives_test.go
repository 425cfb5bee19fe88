package vault_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/pgserver"
	"github.com/walferry/walferry/internal/pgtest"
	"github.com/walferry/walferry/internal/vaulttest"
	"github.com/walferry/walferry/vault"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m.Run)) }

var login = map[string]string{vault.FieldUsername: "username", vault.FieldPassword: "password"}

// withDatabase is a Vault with the database engine on a database of the test.
func withDatabase(t *testing.T) (*vaulttest.Server, *pgtest.DB) {
	t.Helper()
	db := pgtest.Shared(t).Database()
	v := vaulttest.Start(t)
	v.Database(fmt.Sprintf("postgresql://{{username}}:{{password}}@%s/%s?sslmode=disable", db.Server.Addr(), db.Name), pgserver.User, pgserver.Password)
	return v, db
}

// next waits for a version newer than the one of now.
func next(t *testing.T, e *vault.Entry) *vault.Values {
	t.Helper()
	select {
	case <-e.Changed(e.Version()):
	case <-time.After(patience):
		t.Fatal("no newer version came")
	}
	v, err := e.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

const createRole = `CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'`

// TestDynamicRole renews a lease while Vault gives its whole length, and reads a new role before its longest
// life ends. When the client stops, its role is dropped.
func TestDynamicRole(t *testing.T) {
	t.Parallel()
	v, _ := withDatabase(t)
	v.DynamicRole("cdc", 2, createRole, vaulttest.Map{"max_ttl": "6s"})
	e := entryOf("database/creds/cdc", login, nil)
	t.Run("life", func(t *testing.T) {
		running(t, configOf(v, nil, "database/creds/cdc read"), e)
		first, err := e.Current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !first.Leased() {
			t.Error("it is not leased")
		}
		began := time.Now()
		second := next(t, e)
		if lived := time.Since(began); lived < 2*time.Second {
			t.Errorf("replaced after %s: its lease was not renewed", lived)
		}
		if second.Field(vault.FieldUsername).Reveal() == first.Field(vault.FieldUsername).Reveal() {
			t.Error("it is the same user")
		}
	})
	eventually(t, "no lease is left", func() bool {
		_, code, err := v.Do("LIST", "sys/leases/lookup/database/creds/cdc", v.RootToken(), nil)
		return err == nil && code == http.StatusNotFound
	})
}

// TestChildLeases lets the token end: what was leased under it is read anew with the next one.
func TestChildLeases(t *testing.T) {
	t.Parallel()
	v, _ := withDatabase(t)
	v.DynamicRole("cdc", 3600, createRole, nil)
	e := entryOf("database/creds/cdc", login, nil)
	running(t, configOf(v, vaulttest.Map{"token_period": "0", "token_ttl": "3s", "token_max_ttl": "3s"}, "database/creds/cdc read"), e)
	was := current(t, e, vault.FieldUsername)
	if now := next(t, e).Field(vault.FieldUsername).Reveal(); now == was {
		t.Error("it is the same user")
	}
}

// TestStaticRole sees the password that Vault has rotated, and after a refusal at once.
func TestStaticRole(t *testing.T) {
	t.Parallel()
	v, db := withDatabase(t)
	db.Exec("CREATE ROLE fixed_" + db.Name + " LOGIN")
	t.Cleanup(func() { db.Server.Exec("postgres", "DROP ROLE fixed_"+db.Name) })
	v.Write("database/static-roles/cdc", vaulttest.Map{"db_name": "pg", "username": "fixed_" + db.Name, "rotation_period": "1h"})
	e := entryOf("database/static-creds/cdc", login, nil)
	cfg := configOf(v, nil, "database/static-creds/cdc read")
	cfg.PollInterval = time.Hour
	running(t, cfg, e)
	was := e.Version()
	e.Accepted()
	if e.Refused(was) != true {
		t.Error("a login that was good is not tried again")
	}
	v.Write("database/rotate-role/cdc", nil)
	changed := e.Changed(was)
	eventually(t, "the refused password is read anew", func() bool {
		e.Refused(was)
		select {
		case <-changed:
			return true
		default:
			return false
		}
	})
}

// TestRefusedBeforeItWasGood: a wrong secret is an error at once.
func TestRefusedBeforeItWasGood(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	v.KV()
	v.PutKV("kafka", vaulttest.Map{"user": "walferry", "pass": canary})
	e := entryOf("kv/data/kafka", userAndPassword, nil)
	running(t, configOf(v, nil, "kv/data/kafka read"), e)
	if e.Refused(e.Version()) {
		t.Error("it is tried again")
	}
}

// TestCertificate is renewed at two thirds of its life; a new one comes with its chain.
func TestCertificate(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	v.PKI("kafka")
	e := entryOf("pki/issue/kafka", map[string]string{vault.FieldCertificate: "certificate", vault.FieldPrivateKey: "private_key", vault.FieldCA: "issuing_ca"},
		map[string]string{"common_name": "walferry", "ttl": "4s"})
	running(t, configOf(v, nil, "pki/issue/kafka update"), e)
	pair := func(v *vault.Values) *x509.Certificate {
		p, err := tls.X509KeyPair([]byte(v.Field(vault.FieldCertificate).Reveal()), []byte(v.Field(vault.FieldPrivateKey).Reveal()))
		if err != nil {
			t.Fatal(err)
		}
		return p.Leaf
	}
	first, err := e.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	old := pair(first)
	fresh := pair(next(t, e))
	if fresh.SerialNumber.Cmp(old.SerialNumber) == 0 || !fresh.NotAfter.After(old.NotAfter) || old.Subject.CommonName != "walferry" {
		t.Errorf("%s until %s, then %s until %s", old.Subject, old.NotAfter, fresh.Subject, fresh.NotAfter)
	}
	if time.Now().After(old.NotAfter.Add(time.Second)) {
		t.Error("it came after the old one had ended")
	}
}

// TestLoginMethods logs in by each method that this machine can drive.
func TestLoginMethods(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	v.KV()
	v.PutKV("kafka", vaulttest.Map{"user": "walferry", "pass": canary})
	good := configOf(v, nil, "kv/data/kafka read")
	token := v.Write("auth/token/create", vaulttest.Map{"policies": []string{"test"}, "period": "1h"})["client_token"].(string)
	answer, _, err := v.Do(http.MethodPut, "auth/approle/role/test/secret-id", v.RootToken(), nil, "X-Vault-Wrap-TTL", "60s")
	if err != nil {
		t.Fatal(err)
	}
	info, _ := answer["wrap_info"].(map[string]any)
	wrapped, _ := info["token"].(string)
	for name, auth := range map[string]vault.Auth{
		"approle":    good.Auth,
		"wrapped":    {Method: vault.MethodAppRole, RoleID: good.Auth.RoleID, SecretIDFile: v.File("wrapped", wrapped), SecretIDWrapped: true},
		"token":      {Method: vault.MethodToken, Token: vault.NewSecret(token)},
		"token_file": {Method: vault.MethodTokenFile, TokenFile: v.File("token", token)},
		"jwt":        jwtLogin(t, v),
		"cert":       certLogin(t, v),
		"kubernetes": kubernetesLogin(t, v),
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			cfg.Auth = auth
			e := entryOf("kv/data/kafka", userAndPassword, nil)
			running(t, cfg, e)
			if got := current(t, e, vault.FieldPassword); got != canary {
				t.Error("it is not what was stored")
			}
		})
	}
	if _, code, err := v.Do(http.MethodGet, "auth/token/lookup-self", token, nil); err != nil || code != http.StatusOK {
		t.Errorf("a token that was given was revoked: %d, %v", code, err)
	}
}

// jwtLogin has Vault trust a key of the test, and signs a token with it.
func jwtLogin(t *testing.T, v *vaulttest.Server) vault.Auth {
	t.Helper()
	key, public := keyPair(t)
	v.Write("sys/auth/jwt", vaulttest.Map{"type": "jwt"})
	v.Write("auth/jwt/config", vaulttest.Map{"jwt_validation_pubkeys": []string{public}})
	v.Write("auth/jwt/role/walferry", vaulttest.Map{"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{"vault"}, "token_policies": "test"})
	return vault.Auth{Method: vault.MethodJWT, Role: "walferry", JWTFile: v.File("jwt", signed(t, key, map[string]any{
		"sub": "walferry", "aud": "vault", "iat": time.Now().Unix() - 5, "exp": time.Now().Unix() + 600,
	}))}
}

// kubernetesLogin has Vault ask a stand-in for the Kubernetes API whose token it is.
func kubernetesLogin(t *testing.T, v *vaulttest.Server) vault.Auth {
	t.Helper()
	key, public := keyPair(t)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": {"authenticated": true, "audiences": ["vault"],
			"user": {"username": "system:serviceaccount:shop:walferry", "uid": "1", "groups": ["system:serviceaccounts"]}}}`))
	}))
	t.Cleanup(api.Close)
	v.Write("sys/auth/kubernetes", vaulttest.Map{"type": "kubernetes"})
	v.Write("auth/kubernetes/config", vaulttest.Map{"kubernetes_host": api.URL, "pem_keys": []string{public}, "disable_local_ca_jwt": true, "disable_iss_validation": true})
	v.Write("auth/kubernetes/role/walferry", vaulttest.Map{
		"bound_service_account_names": "walferry", "bound_service_account_namespaces": "shop", "audience": "vault", "token_policies": "test",
	})
	return vault.Auth{Method: vault.MethodKubernetes, Role: "walferry", JWTFile: v.File("service-account", signed(t, key, map[string]any{
		"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:shop:walferry", "aud": []string{"vault"},
		"iat": time.Now().Unix() - 5, "exp": time.Now().Unix() + 600,
		"kubernetes.io": map[string]any{"namespace": "shop", "serviceaccount": map[string]any{"name": "walferry", "uid": "1"}},
	}))}
}

// certLogin has Vault trust an authority of its own PKI.
func certLogin(t *testing.T, v *vaulttest.Server) vault.Auth {
	t.Helper()
	ca := v.PKI("client")
	made := v.Write("pki/issue/client", vaulttest.Map{"common_name": "walferry", "ttl": "10m"})
	v.Write("sys/auth/cert", vaulttest.Map{"type": "cert"})
	v.Write("auth/cert/certs/walferry", vaulttest.Map{"certificate": ca, "token_policies": "test"})
	return vault.Auth{Method: vault.MethodCert, CertFile: v.File("cert.pem", fmt.Sprint(made["certificate"])), KeyFile: v.File("key.pem", fmt.Sprint(made["private_key"]))}
}

func keyPair(t *testing.T) (key *ecdsa.PrivateKey, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// signed makes a JWT by ES256.
func signed(t *testing.T, key *ecdsa.PrivateKey, claims map[string]any) string {
	t.Helper()
	body, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(body)
	r, s, err := ecdsa.Sign(rand.Reader, key, sha256Of(text))
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// TestRedirects: a standby's answer is followed to hosts of the list alone, and the token goes nowhere
// else.
func TestRedirects(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	v.KV()
	v.PutKV("kafka", vaulttest.Map{"user": "walferry", "pass": canary})
	cfg := configOf(v, nil, "kv/data/kafka read")
	standby := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, v.Addr()+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(standby.Close)
	cfg.Address, cfg.StartTimeout = standby.URL, time.Millisecond
	f := start(t, cfg, entryOf("kv/data/kafka", userAndPassword, nil))
	if f.Code != fault.VaultUnavailable || !strings.Contains(f.Hint, "vault.redirects") || !strings.Contains(f.Error(), v.HostPort()) {
		t.Errorf("got %v", f)
	}
	cfg.Redirects, cfg.StartTimeout = []string{v.HostPort()}, 10*time.Second
	e := entryOf("kv/data/kafka", userAndPassword, nil)
	running(t, cfg, e)
	if got := current(t, e, vault.FieldPassword); got != canary {
		t.Error("it is not what was stored")
	}
}

// TestNamespace is sent with each request.
func TestNamespace(t *testing.T) {
	t.Parallel()
	var seen []string
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("X-Vault-Namespace"))
		_, _ = w.Write([]byte(`{"data": {"ttl": 0, "user": "a", "pass": "b"}}`))
	}))
	t.Cleanup(fake.Close)
	e := entryOf("kv/x", userAndPassword, nil)
	cfg := vault.Config{
		Address: fake.URL, Namespace: "team/a", StartTimeout: time.Millisecond, PollInterval: time.Minute,
		Auth: vault.Auth{Method: vault.MethodToken, Token: vault.NewSecret(canary)},
	}
	running(t, cfg, e)
	for _, ns := range seen {
		if ns != "team/a" {
			t.Errorf("namespace %q", ns)
		}
	}
	if len(seen) < 2 {
		t.Errorf("%d requests", len(seen))
	}
}

// TestTokenFileIsFollowed lets an agent write another token, and revoke the one before.
func TestTokenFileIsFollowed(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	v.KV()
	v.PutKV("kafka", vaulttest.Map{"user": "walferry", "pass": canary})
	cfg := configOf(v, nil, "kv/data/kafka read")
	token := func() string {
		return v.Write("auth/token/create", vaulttest.Map{"policies": []string{"test"}, "period": "1h"})["client_token"].(string)
	}
	first := token()
	cfg.Auth = vault.Auth{Method: vault.MethodTokenFile, TokenFile: v.File("token", first)}
	e := entryOf("kv/data/kafka", userAndPassword, nil)
	running(t, cfg, e)
	// As Kubernetes does it: another file is renamed into its place.
	fresh := filepath.Join(t.TempDir(), "fresh")
	if err := os.WriteFile(fresh, []byte(token()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(fresh, cfg.Auth.TokenFile); err != nil {
		t.Fatal(err)
	}
	v.Write("auth/token/revoke", vaulttest.Map{"token": first})
	v.PutKV("kafka", vaulttest.Map{"user": "walferry", "pass": canary + "-2"})
	eventually(t, "the secret is read with the new token", func() bool { return current(t, e, vault.FieldPassword) == canary+"-2" })
}
