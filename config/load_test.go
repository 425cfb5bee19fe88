package config

import (
	"errors"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/pipeline"
	"github.com/walferry/walferry/replication"
	"github.com/walferry/walferry/sink"
	"github.com/walferry/walferry/sink/encode"
	"github.com/walferry/walferry/vault"
)

var update = flag.Bool("update", false, "rewrite the golden error texts")

const canary = "kanarienvogel"

// environment is the environment of a test: a map of variables.
func environment(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}
}

// noPostgresEnvironment takes the variables away that the Postgres client itself reads.
func noPostgresEnvironment(t *testing.T) {
	t.Helper()
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "PG") {
			t.Setenv(name, "")
		}
	}
}

// write makes a file in a temporary folder and returns its name.
func write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// parseFlags makes Flags of a command line.
func parseFlags(t *testing.T, args ...string) Flags {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f := AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return *f
}

func TestLoadEveryKey(t *testing.T) {
	noPostgresEnvironment(t)
	sample, err := os.ReadFile("../testdata/config/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	for _, name := range []string{"secret", "ca.pem", "c.pem"} {
		if err := os.WriteFile(name, []byte(canary+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile("full.yaml", sample, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Load("full.yaml", Flags{}, environment(map[string]string{"KAFKA_PASSWORD": canary}))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Name: "shop",
		Postgres: replication.Config{
			Pipeline: "shop",
			URL:      "postgres://cdc@db1:5432,db2:5433/shop?sslmode=verify-full",
			Password: vault.Credential{File: "secret"},
			Tables: []replication.TableSpec{
				{Schema: "public", Name: "orders"},
				{Schema: "public", Name: `Order "Lines"`},
				{Schema: "inventory", Name: "*", Pattern: true},
				{Schema: "public", Name: "visits", Key: []string{"visitor", "Day"}},
				{Schema: "public", Name: "customers", Columns: []string{"id", "Status"}, Where: `"Status" <> 'draft'`},
			},
			Slot:            replication.SlotConfig{Name: "shop_slot", Adopt: true},
			Publication:     replication.PublicationConfig{Name: "shop_pub"},
			MessagePrefixes: []string{"outbox", "audit"},
		},
		Kafka: broker.Config{
			Seeds:    []string{"broker1:9092", "[::1]:9093"},
			ClientID: "walferry-shop",
			TLS: broker.TLSConfig{
				Enabled: true, CAFile: "ca.pem", CertFile: "c.pem", KeyFile: "secret", ServerName: "broker", InsecureSkipVerify: true,
			},
			SASL: broker.SASLConfig{Mechanism: "scram-sha-512", Username: "walferry", Password: vault.Credential{Text: vault.NewSecret(canary)}, AllowPlaintext: true},
		},
		Sink: sink.Config{
			Pipeline: "shop",
			Topics: sink.TopicConfig{
				Name: "cdc.{schema}.{table}", Partitions: 12, ReplicationFactor: 3,
				Config: map[string]string{"retention.ms": "604800000", "cleanup.policy": "compact"},
			},
			Compression: "zstd", DeadLetterTopic: "shop.dead",
			Keys:     map[string][]string{"public.visits": {"visitor", "Day"}},
			Messages: true,
		},
		Delivery: AtLeastOnce, Format: "json",
		Transactions: pipeline.Transactions{Interval: 50 * time.Millisecond, MaxRows: 1000, MaxBytes: 1 << 20, MaxOpen: 10 * time.Second},
		Events:       encode.Options{NumericAsNumber: true, Int8AsString: true, Headers: []string{"op", "table"}},
		Checkpoint:   Checkpoint{Store: StoreFile, Path: "shop.checkpoint"},
		StartTimeout: 2 * time.Minute,
		HTTP:         HTTP{Listen: ":9631", Explicit: true},
		Log:          Log{Level: slog.LevelDebug, Format: "json"},
	}
	if diff := compare(want, got); diff != "" {
		t.Error(diff)
	}
}

// compare shows where two configurations differ, secrets included.
func compare(want, got any) string {
	return cmp.Diff(want, got, cmp.Comparer(func(a, b vault.Secret) bool { return a.Reveal() == b.Reveal() }), cmpopts.IgnoreUnexported(replication.Config{}))
}

func TestLoadDefaults(t *testing.T) {
	noPostgresEnvironment(t)
	want := Config{
		Name: "walferry",
		Postgres: replication.Config{
			Pipeline: "walferry", URL: "postgres://cdc@localhost/shop", AllTables: true,
			Slot:        replication.SlotConfig{Name: "walferry_walferry", Create: true},
			Publication: replication.PublicationConfig{Name: "walferry_walferry", Create: true},
		},
		Kafka: broker.Config{Seeds: []string{"localhost:9092"}, ClientID: "walferry-walferry"},
		Sink: sink.Config{
			Pipeline: "walferry", Compression: "lz4", Keys: map[string][]string{},
			Topics: sink.TopicConfig{Name: "{name}.{schema}.{table}", Create: true, Partitions: 6, ReplicationFactor: -1},
		},
		Delivery: ExactlyOnce, Transactions: pipeline.DefaultTransactions(), Format: "json", Events: encode.DefaultOptions(),
		Checkpoint: Checkpoint{Store: StoreKafka}, StartTimeout: time.Minute,
		HTTP: HTTP{Listen: "127.0.0.1:9630"}, Log: Log{Level: slog.LevelInfo, Format: "text"},
	}
	got, err := Load("../testdata/config/minimal.yaml", Flags{}, environment(nil))
	if err != nil {
		t.Fatal(err)
	}
	if diff := compare(want, got); diff != "" {
		t.Errorf("file: %s", diff)
	}
	flags := parseFlags(t, "--from", "postgres://cdc@localhost/shop", "--to=localhost:9092", "--tables", "all")
	if got, err = Load("", flags, environment(nil)); err != nil {
		t.Fatal(err)
	}
	if diff := compare(want, got); diff != "" {
		t.Errorf("flags: %s", diff)
	}
}

func TestFlagsGoBeforeTheFile(t *testing.T) {
	noPostgresEnvironment(t)
	flags := parseFlags(t, "--name", "other", "--from", "postgres://x@127.0.0.1:5433/y", "--to", "[::1]:1, 127.0.0.2:2",
		"--tables", `public.a,"X".b*,`, "--delivery", "at_least_once", "--format", "json")
	got, err := Load("../testdata/config/minimal.yaml", flags, environment(nil))
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "other" || got.Postgres.URL != "postgres://x@127.0.0.1:5433/y" || got.Postgres.AllTables {
		t.Errorf("the file's values are still there: %+v", got)
	}
	if want := []string{"[::1]:1", "127.0.0.2:2"}; !slices.Equal(got.Kafka.Seeds, want) {
		t.Errorf("brokers %q, want %q", got.Kafka.Seeds, want)
	}
	want := []replication.TableSpec{{Schema: "public", Name: "a"}, {Schema: "X", Name: "b*", Pattern: true}}
	if diff := compare(want, got.Postgres.Tables); diff != "" {
		t.Error(diff)
	}
	if got.Kafka.TLS.Enabled {
		t.Error("TLS is on, though every broker is on loopback")
	}
}

func TestLoadWithVariables(t *testing.T) {
	noPostgresEnvironment(t)
	vars := map[string]string{
		"DATABASE_URL": "postgres://cdc:" + canary + "%40@db/shop", "TABLES": `public.a, public."b,c"`,
		"BROKERS": "b1:1,b2:2", "KAFKA_PASSWORD": canary, "NAME": "", "PARTITIONS": "5",
	}
	got, err := Load("../testdata/config/environment.yaml", Flags{}, environment(vars))
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "shop" || got.Postgres.URL != "postgres://cdc@db/shop" || got.Postgres.Password.Text.Reveal() != canary+"@" {
		t.Errorf("name %q, url %q, or the password, is wrong", got.Name, got.Postgres.URL)
	}
	want := []replication.TableSpec{{Schema: "public", Name: "a"}, {Schema: "public", Name: "b,c"}}
	if diff := compare(want, got.Postgres.Tables); diff != "" {
		t.Error(diff)
	}
	if !slices.Equal(got.Kafka.Seeds, []string{"b1:1", "b2:2"}) || !got.Kafka.TLS.Enabled || got.Sink.Topics.Partitions != 5 {
		t.Errorf("brokers, TLS or partitions are wrong: %+v, %+v", got.Kafka, got.Sink)
	}
	if got.Kafka.SASL.Username != "a$b$c" || got.Kafka.SASL.Password.Text.Reveal() != canary {
		t.Errorf("login %q, or its password, is wrong", got.Kafka.SASL.Username)
	}
}

// TestFault54_Problems compares the whole text of each broken sample with its golden file. The canary in
// the environment must not come up, whichever key it was put at.
func TestFault54_Problems(t *testing.T) {
	noPostgresEnvironment(t)
	t.Chdir("../testdata/config")
	names, err := filepath.Glob("bad-*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatal("no samples", err)
	}
	codes := map[string]fault.Code{
		"bad-sasl.yaml": fault.SASLWithoutTLS, "bad-delivery.yaml": fault.DeliveryUnsupported, "bad-default-delivery.yaml": fault.DeliveryUnsupported,
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			_, err := Load(name, Flags{}, environment(map[string]string{"KAFKA_PASSWORD": canary}))
			want := codes[name]
			if want == "" {
				want = fault.ConfigInvalid
			}
			if fault.CodeOf(err) != want || fault.ExitCode(err) != 2 {
				t.Fatalf("got %v, want code %s", err, want)
			}
			if strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the text shows a secret: %v", err)
			}
			golden := strings.TrimSuffix(name, ".yaml") + ".golden"
			text := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			b, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(b), text); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestProblemsOfFlags(t *testing.T) {
	noPostgresEnvironment(t)
	_, err := Load("", parseFlags(t, "--name", "", "--to", "b", "--tables", "orders"), environment(nil))
	for _, want := range []string{
		"--name: name: the flag is empty",
		`--to: kafka.brokers[0]: "b" is not host:port`,
		"--tables: postgres.tables[0]: orders: lacks a schema: write public.orders",
		"postgres.url: is missing",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the text lacks %q: %v", want, err)
		}
	}
	if _, err := Load("", parseFlags(t, "--config", ""), environment(nil)); !fault.Is(err, fault.ConfigInvalid) {
		t.Errorf("an empty --config: got %v", err)
	}
	if _, err := Load("no-such.yaml", Flags{}, environment(nil)); err == nil || !strings.Contains(err.Error(), "no-such.yaml does not exist") {
		t.Errorf("a missing file: got %v", err)
	}
}

func TestPasswordInURL(t *testing.T) {
	noPostgresEnvironment(t)
	tests := []struct {
		name, url string
		code      fault.Code // of --from; empty means accepted
		bare, pw  string
	}{
		{"remote", "postgres://cdc:" + canary + "@db/shop", fault.PasswordInArguments, "", ""},
		{"remote, parameter", "postgres://cdc@db/shop?sslmode=disable&pass%77ord=" + canary, fault.PasswordInArguments, "", ""},
		{"remote, keywords", "host=db password='" + canary + "'", fault.PasswordInArguments, "", ""},
		{"one of two remote", "postgres://cdc:" + canary + "@localhost,db/shop", fault.PasswordInArguments, "", ""},
		{"unparsable", "postgres://cdc:" + canary + "@db:x/shop", fault.PasswordInArguments, "", ""},
		{"slash in the password", "postgres://cdc:a/" + canary + "@db/shop", fault.ConfigInvalid, "", ""},
		{"at in the password", "postgres://cdc:a@" + canary + "@db/shop", fault.ConfigInvalid, "", ""},
		{"bad escape", "postgres://cdc:%zz" + canary + "@db/shop", fault.ConfigInvalid, "", ""},
		{"other scheme", "mysql://cdc:" + canary + "@db/shop", fault.ConfigInvalid, "", ""},
		{"open quote", "host=db password='" + canary, fault.ConfigInvalid, "", ""},
		{"key password", "postgres://db/shop?sslpassword=" + canary, fault.ConfigInvalid, "", ""},
		{"loopback", "postgres://cdc:" + canary + "@127.0.0.1:5432/shop", "", "postgres://cdc@127.0.0.1:5432/shop", canary},
		{"loopback, six", "postgresql://cdc:p%2F@[::1]/shop?sslmode=disable", "", "postgresql://cdc@[::1]/shop?sslmode=disable", "p/"},
		{"loopback, keywords", `host=localhost password='it\'s' user=cdc`, "", "host=localhost user=cdc", "it's"},
		{"socket", "host=/run/postgresql password=" + canary, "", "host=/run/postgresql", canary},
		{"loopback, parameter", "postgres://localhost?password=" + canary, "", "postgres://localhost", canary},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			flags := parseFlags(t, "--from", tc.url, "--to", "localhost:9092", "--tables", "all")
			got, err := Load("", flags, environment(nil))
			if tc.code != "" {
				if !fault.Is(err, tc.code) {
					t.Fatalf("got %v, want code %s", err, tc.code)
				}
				if text := err.Error() + fault.Of(err).Hint; strings.Contains(text, canary) {
					t.Errorf("the password is shown: %s", text)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Postgres.URL != tc.bare || got.Postgres.Password.Text.Reveal() != tc.pw {
				t.Errorf("URL %q and password %q, want %q and %q", got.Postgres.URL, got.Postgres.Password.Text.Reveal(), tc.bare, tc.pw)
			}
		})
	}
}

func TestSecretFiles(t *testing.T) {
	noPostgresEnvironment(t)
	load := func(t *testing.T, secret string) (Config, error) {
		t.Helper()
		file := write(t, "walferry.yaml", "postgres: {url: 'postgres://cdc@localhost/shop', tables: all, password_file: '"+secret+"'}\nkafka: {brokers: 'localhost:1'}\n", 0o600)
		return Load(file, Flags{}, environment(nil))
	}
	got, err := load(t, write(t, "ok", canary+"\r\n", 0o400))
	if err != nil {
		t.Fatal(err)
	}
	if s, err := got.Postgres.Password.Read(); err != nil || s.Reveal() != canary {
		t.Errorf("the secret is %q, %v", s.Reveal(), err)
	}
	// The link of a Kubernetes volume: pg -> ..data/pg, where ..data is a link too.
	volume := t.TempDir()
	for _, err := range []error{
		os.Mkdir(filepath.Join(volume, "..2026"), 0o755),
		os.WriteFile(filepath.Join(volume, "..2026", "pg"), []byte(canary), 0o644),
		os.Symlink("..2026", filepath.Join(volume, "..data")),
		os.Symlink("..data/pg", filepath.Join(volume, "pg")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := load(t, filepath.Join(volume, "pg")); err != nil {
		t.Errorf("a Kubernetes volume: %v", err)
	}
	for name, tc := range map[string]struct {
		path, want string
	}{
		"missing":   {filepath.Join(t.TempDir(), "none"), "none does not exist"},
		"empty":     {write(t, "empty", "\n", 0o600), "is empty"},
		"world":     {write(t, "world", canary, 0o604), "has mode 0604: others than its owner may use it; run chmod 600 on it"},
		"directory": {t.TempDir(), "is a directory"},
	} {
		if _, err := load(t, tc.path); err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: got %v, want %q in it", name, err, tc.want)
		}
	}
}

func TestTLSFollowsTheBrokers(t *testing.T) {
	noPostgresEnvironment(t)
	for text, want := range map[string]bool{
		"brokers: 'localhost:1,127.9.9.9:2,[::1]:3'":                          false,
		"brokers: 'localhost:1,b:2'":                                          true,
		"{brokers: 'b:2', tls: {enabled: false}}":                             false,
		"{brokers: 'localhost:1', tls: {enabled: true}}":                      true,
		"{brokers: 'localhost:1', tls: {server_name: b}}":                     true,
		"{brokers: 'localhost:1', tls: {enabled: false, server_name: b}}":     false,
		"{brokers: 'localhost:1', tls: {}}":                                   false,
		"{brokers: '127.0.0.1.example.org:1'}":                                true,
		"{brokers: 'localhost:1', tls: {insecure_skip_verify: true}, sasl: }": true,
	} {
		if !strings.HasPrefix(text, "{") {
			text = "{" + text + "}"
		}
		file := write(t, "walferry.yaml", "kafka: "+text, 0o600)
		got, err := LoadKafka(file, Flags{}, environment(nil))
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if got.Kafka.TLS.Enabled != want {
			t.Errorf("%s: TLS is %v, want %v", text, got.Kafka.TLS.Enabled, want)
		}
	}
}

// TestLoadKafka reads a whole file on a machine that has none of the secrets of Postgres.
func TestLoadKafka(t *testing.T) {
	noPostgresEnvironment(t)
	file := write(t, "walferry.yaml", "name: shop\npostgres: {password_file: /no/such/file}\nkafka: {brokers: 'localhost:1'}\n", 0o600)
	got, err := LoadKafka(file, Flags{}, environment(nil))
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "shop" || got.Kafka.ClientID != "walferry-shop" || got.Sink.Topics.Name != "{name}.{schema}.{table}" {
		t.Errorf("got %+v", got)
	}
	flags := parseFlags(t, "--from", "postgres://cdc:"+canary+"@db/shop", "--to", "localhost:1")
	if _, err := LoadKafka("", flags, environment(nil)); !fault.Is(err, fault.PasswordInArguments) || strings.Contains(err.Error(), canary) {
		t.Errorf("with a password in the arguments: %v", err)
	}
	if _, err := LoadKafka("", Flags{}, environment(nil)); err == nil || !strings.Contains(err.Error(), "kafka.brokers: is missing") {
		t.Errorf("without brokers: %v", err)
	}
}

func TestPostgresByEnvironment(t *testing.T) {
	noPostgresEnvironment(t)
	flags := parseFlags(t, "--to", "localhost:1", "--tables", "all")
	if _, err := Load("", flags, environment(map[string]string{"PGHOST": "db"})); err != nil {
		t.Error(err)
	}
}

func TestProblemsWrapNothingUnseen(t *testing.T) {
	_, err := Load("", Flags{}, environment(nil))
	var all problems
	if !errors.As(err, &all) || len(all) != 3 {
		t.Fatalf("want the three keys that are required, got %v", err)
	}
}

// TestDocumentedKeys holds docs/configuration.md and the settings to each other.
func TestDocumentedKeys(t *testing.T) {
	text, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Keys\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllStringSubmatch(section, -1) {
		documented = append(documented, m[1])
	}
	if diff := cmp.Diff(Keys(), documented); diff != "" {
		t.Errorf("keys of the code (-) and of the page (+) differ:\n%s", diff)
	}
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddFlags(fs)
	fs.VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(string(text), "| `--"+f.Name+" ") {
			t.Errorf("the page lacks --%s", f.Name)
		}
	})
}

// TestSamplesHaveEveryKey keeps full.yaml and vault.yaml whole, since they are what TestLoadEveryKey and
// TestLoadVault compare.
func TestSamplesHaveEveryKey(t *testing.T) {
	d := &decoder{env: environment(map[string]string{"KAFKA_PASSWORD": canary}), places: map[string]place{}}
	for _, name := range []string{"full.yaml", "vault.yaml"} {
		text, err := os.ReadFile("../testdata/config/" + name)
		if err != nil {
			t.Fatal(err)
		}
		s := defaultSettings()
		d.file = name
		d.decodeFile(text, &s)
	}
	elsewhere := []string{
		"postgres.password", "kafka.sasl.password_file", "vault.auth.role", "vault.auth.token", "vault.auth.token_file",
		"vault.auth.jwt_file", "vault.auth.cert_file", "vault.auth.key_file",
	}
	for _, key := range Keys() {
		if !slices.Contains(elsewhere, key) && !d.given(key) {
			t.Errorf("the samples lack %s", key)
		}
	}
}

func FuzzLoad(f *testing.F) {
	names, err := filepath.Glob("../testdata/config/*.yaml")
	if err != nil || len(names) == 0 {
		f.Fatal("no samples", err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("a: &a [*a]\npostgres: {tables: *a}\nkafka: &k {tls: *k}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := defaultSettings()
		d := &decoder{file: "f", env: environment(map[string]string{"A": "b"}), places: map[string]place{}}
		d.decodeFile(text, &s)
		if d.problems.fault() == nil && reflect.DeepEqual(s, settings{}) {
			t.Error("defaults are gone without a problem")
		}
		d.name(s.Name)
		d.tableSpecs(s.Postgres.Tables)
		d.topics(s.Kafka.Topics)
		d.brokers(s.Kafka.Brokers)
		if _, pw, err := splitPassword(s.Postgres.URL); err != nil && pw != "" {
			t.Error("an error came with a password")
		}
		if err := d.problems.fault(); err != nil && fault.CodeOf(err).Kind() != fault.KindConfig {
			t.Errorf("a fault of another kind: %v", err)
		}
	})
}
