package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/walferry/walferry/vault"
)

// schemaFile is the schema for those who have no walferry at hand.
const schemaFile = "../docs/schema/configuration.schema.json"

// TestSchemaFile holds the file to what walferry prints; -update writes it anew.
func TestSchemaFile(t *testing.T) {
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(schemaFile, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(schemaFile)
	if err != nil || !bytes.Equal(got, text) {
		t.Errorf("%s is not what config schema prints (%v): go test ./config -update", schemaFile, err)
	}
}

// TestSchemaJudgesAsLoadDoes: samples fit the schema, and what is misspelled or of another type does not.
func TestSchemaJudgesAsLoadDoes(t *testing.T) {
	s, err := jsonschema.NewCompiler().Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	samples, err := filepath.Glob("../testdata/config/*.yaml")
	if err != nil || len(samples) < 4 {
		t.Fatal(samples, err)
	}
	// What is wrong in these no schema tells: variables, what excludes each other, YAML itself.
	beyond := []string{"bad-variables.yaml", "bad-delivery.yaml", "bad-default-delivery.yaml", "bad-sasl.yaml", "bad-yaml.yaml", "bad-documents.yaml"}
	for _, sample := range samples {
		name := filepath.Base(sample)
		if slices.Contains(beyond, name) {
			continue
		}
		text, err := os.ReadFile(sample)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(t, s, string(text)); (err != nil) != strings.HasPrefix(name, "bad-") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for text, fits := range map[string]bool{
		"{}":                                    true,
		"postgres:":                             true,
		"delivery: ${D:-at_least_once}":         true,
		"delivery: at_most_once":                false,
		"nam: shop":                             false,
		"name: Shop":                            false,
		"start_timeout: 60":                     false,
		"start_timeout: 1m30s":                  true,
		"kafka: {brokers: 'a:1,b:2'}":           true,
		"kafka: {topics: {partitions: many}}":   false,
		"kafka: {topics: {partitions: '${N}'}}": true,
		"kafka: {topics: {config: {a: 1}}}":     true,
		"events: {headers: [op, pos]}":          false,
		"postgres: {tables: [a.b, {table: c.d, key: [e]}]}": true,
		"postgres: {tables: [{key: [e]}]}":                  false,
	} {
		if err := validate(t, s, text); (err == nil) != fits {
			t.Errorf("%s: %v, want it to fit: %t", text, err, fits)
		}
	}
}

func validate(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		return err // a key given twice
	}
	asJSON, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if v, err = jsonschema.UnmarshalJSON(bytes.NewReader(asJSON)); err != nil {
		t.Fatal(err)
	}
	return s.Validate(v)
}

// TestDocumentedShapes holds the column "type, default" of docs/configuration.md to the settings, and the
// closed sets to what the page names.
func TestDocumentedShapes(t *testing.T) {
	// Defaults that follow something else.
	follows := map[string]string{
		"vault.auth.mount": "the method", "vault.redirects": "`never`", "kafka.tls.enabled": "",
		"postgres.slot.name": "`walferry_<name>`", "postgres.publication.name": "`walferry_<name>`",
		"vault.address": "`VAULT_ADDR`", "vault.namespace": "`VAULT_NAMESPACE`", "vault.auth.token": "`VAULT_TOKEN`",
		"vault.ca_file": "`VAULT_CACERT` or the system's roots", "kafka.tls.ca_file": "the system's roots",
		"vault.server_name": "the host of the address", "kafka.tls.server_name": "the broker's host",
		"postgres.vault.fields":     "`username: username, password: password`",
		"postgres.tls.vault.fields": "`certificate: certificate, private_key: private_key`",
	}
	kinds := map[reflect.Type][]string{
		reflect.TypeFor[string](): {"text", "file"}, reflect.TypeFor[bool](): {"truth"}, reflect.TypeFor[int](): {"number"},
		reflect.TypeFor[time.Duration](): {"duration"}, reflect.TypeFor[[]string](): {"list"}, reflect.TypeFor[tableList](): {"list"},
		reflect.TypeFor[map[string]string](): {"map"},
	}
	backticks := regexp.MustCompile("`([^`]+)`")
	defaults := map[string]reflect.Value{}
	leaves("", reflect.ValueOf(defaultSettings()), defaults)
	rows := descriptions()
	if len(rows) != len(defaults) {
		t.Errorf("%d rows, %d keys", len(rows), len(defaults))
	}
	for _, row := range rows {
		v, known := defaults[row.key]
		if !known {
			continue // TestDocumentedKeys tells
		}
		shape, initial, _ := strings.Cut(row.shape, ", ")
		set := closedSet(row.key)
		var named []string
		for _, m := range backticks.FindAllStringSubmatch(shape, -1) {
			named = append(named, m[1])
		}
		if named != nil && !slices.Equal(named, set) {
			t.Errorf("%s: the page has %q, the code %q", row.key, named, set)
		}
		if named == nil && !slices.Contains(kinds[v.Type()], shape) {
			t.Errorf("%s: the page says %q, the code has %s", row.key, shape, v.Type())
		}
		for _, value := range set {
			if !strings.Contains(row.shape+row.meaning, "`"+value+"`") {
				t.Errorf("%s: the page lacks %q", row.key, value)
			}
		}
		want, ok := follows[row.key]
		if !ok {
			want = shownDefault(v)
		}
		if initial != want && (want != "" || initial != "none" && initial != "required") {
			t.Errorf("%s: the page has the default %q, the code %q", row.key, initial, want)
		}
		if row.meaning == "" && !slices.Contains([]string{"kafka.sasl.username", "log.level", "log.format"}, row.key) {
			t.Errorf("%s is not described", row.key)
		}
	}
}

// shownDefault prints a default as the page has it, "" for nothing.
func shownDefault(v reflect.Value) string {
	switch held := v.Interface().(type) {
	case bool:
		return map[bool]string{true: "`true`", false: "`false`"}[held]
	case time.Duration:
		if held == time.Minute {
			return "`60s`"
		}
		return "`" + durationText(held) + "`"
	case tableList, []string, map[string]string:
		return ""
	}
	if text := strings.TrimSpace(reflectText(v)); text != "" {
		return "`" + text + "`"
	}
	return ""
}

func reflectText(v reflect.Value) string {
	b, err := yaml.Marshal(v.Interface())
	if err != nil || v.IsZero() {
		return ""
	}
	return strings.Trim(strings.TrimSpace(string(b)), `'"`)
}

func leaves(key string, v reflect.Value, into map[string]reflect.Value) {
	for i := range v.NumField() {
		f, full := v.Field(i), join(key, v.Type().Field(i).Tag.Get("yaml"))
		if f.Kind() == reflect.Struct && f.Type() != reflect.TypeFor[tableList]() {
			leaves(full, f, into)
			continue
		}
		into[full] = f
	}
}

// TestEffective prints the samples and reads that again: it is the same configuration, without a secret.
func TestEffective(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"full.yaml":    {"KAFKA_PASSWORD": canary},
		"vault.yaml":   nil,
		"minimal.yaml": nil,
	} {
		t.Run(name, func(t *testing.T) {
			inFolderOf(t, name)
			printed, err := Effective(name, Flags{}, environment(env))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(printed, canary) {
				t.Errorf("a secret is shown:\n%s", printed)
			}
			want, err := Load(name, Flags{}, environment(env))
			if err != nil {
				t.Fatal(err)
			}
			got, err := Load(write(t, "again.yaml", printed, 0o600), Flags{}, environment(nil))
			if err != nil {
				t.Fatalf("%v\n%s", err, printed)
			}
			want.Kafka.SASL.Password, got.Kafka.SASL.Password = vault.Credential{}, vault.Credential{}
			want.HTTP.Explicit = true // every key is said there
			want.Postgres.Vault, want.Postgres.TLSVault, want.Kafka.SASL.Vault, want.Kafka.TLS.Vault, want.Secrets = nil, nil, nil, nil, nil
			got.Postgres.Vault, got.Postgres.TLSVault, got.Kafka.SASL.Vault, got.Kafka.TLS.Vault, got.Secrets = nil, nil, nil, nil, nil
			if diff := compare(want, got); diff != "" {
				t.Errorf("%s\n%s", diff, printed)
			}
		})
	}
}

// TestEffectiveSaysFromWhere: file, flag, variable or default, and *** for what is secret.
func TestEffectiveSaysFromWhere(t *testing.T) {
	noPostgresEnvironment(t)
	text := "postgres:\n  url: host=127.0.0.1 user=cdc password=" + canary + "-${TAIL:-x" + canary + "} dbname=shop\n  tables: all\n" +
		"kafka: {brokers: '${B}', sasl: {mechanism: plain, username: $$u, password: " + canary + ", allow_plaintext: true}}\n"
	file := write(t, "c.yaml", text, 0o600)
	printed, err := Effective(file, parseFlags(t, "--name", "shop"), environment(map[string]string{"B": "127.0.0.1:9092"}))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"name: shop # --name", "url: host=127.0.0.1 user=cdc dbname=shop # line 2, ${TAIL}", `password: '***' # line 2, ${TAIL}`,
		"name: walferry_shop # default", "# line 4, ${B}\n    - 127.0.0.1:9092", "username: $$u # line 4", `password: '***' # line 4`, "start_timeout: 1m # default",
	} {
		if !strings.Contains(printed, line) {
			t.Errorf("lacks %q", line)
		}
	}
	if strings.Contains(printed, canary) || t.Failed() {
		t.Error(printed)
	}
	if _, err := Effective(write(t, "bad.yaml", "nam: x\n", 0o600), Flags{}, environment(nil)); err == nil {
		t.Error("what is wrong is printed")
	}
}

// TestDescription finds what a key is for.
func TestDescription(t *testing.T) {
	if got := Description("postgres.tables"); got != "what is captured, or `all`" {
		t.Errorf("got %q", got)
	}
	known := map[string]bool{}
	for _, key := range Keys() {
		known[key] = true
	}
	for key := range maps.Keys(patterns) {
		if !known[key] {
			t.Errorf("a pattern for %s, which is no key", key)
		}
	}
	if Description("nothing") != "" {
		t.Error("something is said of nothing")
	}
}
