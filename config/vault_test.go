package config

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/vault"
)

// inFolderOf copies a sample into a folder that has the files it names.
func inFolderOf(t *testing.T, sample string) {
	t.Helper()
	noPostgresEnvironment(t)
	text, err := os.ReadFile("../testdata/config/" + sample)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	for name, content := range map[string]string{"secret": canary, "ca.pem": canary, "c.pem": canary, sample: string(text)} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLoadVault(t *testing.T) {
	inFolderOf(t, "vault.yaml")
	got, err := Load("vault.yaml", Flags{}, environment(nil))
	if err != nil {
		t.Fatal(err)
	}
	want := vault.Config{
		Address: "https://vault:8200", Namespace: "team", CAFile: "ca.pem", ServerName: "vault.internal",
		Redirects: []string{"vault1", "vault2:8200"}, StartTimeout: 30 * time.Second, PollInterval: 5 * time.Second,
		Auth: vault.Auth{Method: vault.MethodAppRole, Mount: "machines", RoleID: "walferry", SecretIDFile: "secret", SecretIDWrapped: true},
	}
	if diff := cmp.Diff(want, got.Vault, cmpopts.EquateComparable(vault.Secret{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	names := make([]string, 0, len(got.Secrets))
	for _, e := range got.Secrets {
		names = append(names, e.Name())
	}
	if diff := cmp.Diff([]string{"postgres", "postgres_tls", "kafka_tls", "kafka_sasl"}, names); diff != "" {
		t.Errorf("the secrets (-want +got)\n%s", diff)
	}
	k, p := got.Kafka, got.Postgres
	if p.Vault != got.Secrets[0] || p.TLSVault != got.Secrets[1] || k.TLS.Vault != got.Secrets[2] || k.SASL.Vault != got.Secrets[3] {
		t.Error("the rooms hold other entries than the list")
	}
	if !k.TLS.Enabled || !k.TLS.Vault.Has(vault.FieldCA) || k.TLS.Vault.Has(vault.FieldCertificate) || k.SASL.Vault.Has(vault.FieldUsername) {
		t.Error("the fields are not those of the file")
	}
}

// TestLoadVaultEnvironment takes address and token from Vault's own variables.
func TestLoadVaultEnvironment(t *testing.T) {
	inFolderOf(t, "vault.yaml")
	text := "vault: {auth: {method: token}}\npostgres: {url: 'postgres://db/shop', tables: all, vault: {path: kv/data/pg}}\nkafka: {brokers: b:9092}\n"
	if err := os.WriteFile("c.yaml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"VAULT_ADDR": "https://elsewhere:8200", "VAULT_TOKEN": canary}
	got, err := Load("c.yaml", Flags{}, environment(env))
	if err != nil {
		t.Fatal(err)
	}
	if got.Vault.Address != env["VAULT_ADDR"] || got.Vault.Auth.Token.Reveal() != canary {
		t.Error("they are not used")
	}
}

func TestVaultProblems(t *testing.T) {
	inFolderOf(t, "vault.yaml")
	const rest = "postgres: {url: 'postgres://db/shop', tables: all, vault: {path: database/creds/cdc}}\nkafka: {brokers: b:9092}\n"
	approle := "auth: {method: approle, role_id: r, secret_id_file: secret}"
	for name, tc := range map[string]struct{ text, want string }{
		"no address":          {"vault: {" + approle + "}\n" + rest, "vault.address: is missing"},
		"http":                {"vault: {address: 'http://vault:8200', " + approle + "}\n" + rest, "vault.address: want https"},
		"a path in it":        {"vault: {address: 'https://vault:8200/v1/kv', " + approle + "}\n" + rest, "vault.address: not an address"},
		"no method":           {"vault: {address: 'https://vault:8200'}\n" + rest, "vault.auth.method: is missing"},
		"unknown method":      {"vault: {address: 'https://vault:8200', auth: {method: approl}}\n" + rest, `did you mean "approle"?`},
		"lacks role_id":       {"vault: {address: 'https://vault:8200', auth: {method: approle, secret_id_file: secret}}\n" + rest, "vault.auth.role_id: is missing"},
		"another's key":       {"vault: {address: 'https://vault:8200', auth: {method: approle, role_id: r, secret_id_file: secret, jwt_file: secret}}\n" + rest, "vault.auth.jwt_file: is not used"},
		"file does not exist": {"vault: {address: 'https://vault:8200', auth: {method: approle, role_id: r, secret_id_file: missing}}\n" + rest, "missing does not exist"},
		"no secret":           {"vault: {address: 'https://vault:8200', " + approle + "}\npostgres: {url: 'postgres://db/shop', tables: all}\nkafka: {brokers: b:9092}\n", "vault: no secret is read from it"},
		"redirects":           {"vault: {address: 'https://vault:8200', redirects: ['https://x/'], " + approle + "}\n" + rest, "vault.redirects[0]: want host"},
		"path with v1":        {"vault: {address: 'https://vault:8200', " + approle + "}\n" + strings.Replace(rest, "database/", "v1/database/", 1), "postgres.vault.path: want the path alone"},
		"unknown field":       {"vault: {address: 'https://vault:8200', " + approle + "}\n" + strings.Replace(rest, "cdc}", "cdc, fields: {passwort: x}}", 1), "postgres.vault.fields.passwort: is not a field"},
		"two passwords":       {"vault: {address: 'https://vault:8200', " + approle + "}\n" + strings.Replace(rest, "tables: all", "tables: all, password_file: secret", 1), "Vault gives it too"},
		"certificate alone":   {"vault: {address: 'https://vault:8200', " + approle + "}\n" + strings.Replace(rest, "b:9092", "b:9092, tls: {vault: {path: kv/data/x, fields: {certificate: c}}}", 1), "certificate and private_key go together"},
		"no path":             {"vault: {address: 'https://vault:8200', " + approle + "}\n" + strings.Replace(rest, "path: database/creds/cdc", "params: {a: b}", 1), "postgres.vault.path: is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile("c.yaml", []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Load("c.yaml", Flags{}, environment(nil))
			if !fault.Is(err, fault.ConfigInvalid) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v\nwant %s", err, tc.want)
			}
		})
	}
}
