package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/internal/pgserver"
	"github.com/walferry/walferry/internal/pgtest"
)

// TestConfigInit writes a file from a real database and brokers, of names that are hard to write down. What it
// wrote is a configuration, of which the server says what init said.
func TestConfigInit(t *testing.T) {
	db := pgtest.Start(t, pgserver.Options{}).Database()
	db.Exec(`
		CREATE TABLE orders (id int PRIMARY KEY);
		CREATE TABLE "Odd $x ""name""
		of two lines" (id int PRIMARY KEY);
		CREATE TABLE log (line text);
		CREATE UNLOGGED TABLE scratch (id int PRIMARY KEY);
		CREATE TABLE visits (day date, n int, PRIMARY KEY (day, n)) PARTITION BY RANGE (day);
		CREATE TABLE visits_old PARTITION OF visits FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
		CREATE TABLE visits_new PARTITION OF visits FOR VALUES FROM ('2026-01-01') TO (MAXVALUE);
		CREATE VIEW seen AS SELECT * FROM visits;
		CREATE PUBLICATION walferry_shop FOR TABLE orders`)
	kafka := kafkatest.StartFake(t, kfake.SeedTopics(4, "shop.public.orders", "other.public.orders"))
	file := filepath.Join(t.TempDir(), "walferry.yaml")
	args := []string{"config", "init", "--name", "shop", "--from", db.DSN(), "--to", kafka.ListenAddrs()[0], "--out", file}
	code, stdout, stderr := walferry(t, args...)
	if code != 0 || !strings.Contains(stdout, "Wrote "+file) {
		t.Fatalf("exit code %d, %s%s", code, stdout, stderr)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, says := range []string{
		"name: shop\n", "    - public.orders\n", `    - "public.\"Odd $$x \"\"name\"\"\n`, "    - public.visits # 2 partitions\n",
		"    # - public.log\n    #   it has no primary key\n    #   ALTER TABLE \"public\".\"log\" REPLICA IDENTITY FULL;",
		"    # - public.scratch\n    #   is unlogged", "wal_level logical\n", "walferry_shop is there already.", "The slot walferry_shop does not exist",
		"# There is shop.public.orders with 4 partitions", "delivery: exactly_once", "# Brokers in the cluster: 1.",
	} {
		if !strings.Contains(string(text), says) {
			t.Errorf("the file lacks %q", says)
		}
	}
	for _, never := range []string{"visits_old", "seen", "other.", ":" + pgserver.Password + "@"} {
		if strings.Contains(string(text), never) {
			t.Errorf("the file has %q", never)
		}
	}
	if t.Failed() {
		t.Logf("%s", text)
	}

	t.Setenv("PGPASSWORD", pgserver.Password)
	if code, stdout, stderr = walferry(t, "config", "check", "--config", file); code != 0 || !strings.Contains(stdout, "slot:\n    name: walferry_shop # default") {
		t.Errorf("check: exit code %d, %s%s", code, stdout, stderr)
	}
	code, stdout, _ = walferry(t, "doctor", "--config", file, "--json")
	if code != 3 || strings.Contains(stdout, "public.log") || !strings.Contains(stdout, "publication_lacks_table") {
		t.Errorf("doctor: exit code %d, %s", code, stdout)
	}

	if code, _, stderr = walferry(t, args...); code != 2 || !strings.Contains(stderr, "it exists") {
		t.Errorf("again: exit code %d, %s", code, stderr)
	}
	if again, err := os.ReadFile(file); err != nil || string(again) != string(text) {
		t.Errorf("the file was touched: %v", err)
	}
}

// TestConfigInitWithoutBrokers writes the rest, and says what stood in the way; without a database there is nothing
// to write.
func TestConfigInitWithoutBrokers(t *testing.T) {
	db := pgtest.Start(t, pgserver.Options{}).Database()
	db.Exec("CREATE TABLE a (x int); CREATE TABLE b (x int)")
	file := filepath.Join(t.TempDir(), "c.yaml")
	code, _, stderr := walferry(t, "config", "init", "--from", db.DSN(), "--to", "127.0.0.1:1", "--tables", "public.*", "--out", file)
	text, err := os.ReadFile(file)
	if code != 0 || err != nil || !strings.Contains(string(text), "The brokers could not be asked") || !strings.Contains(string(text), "[kafka_unavailable]") {
		t.Errorf("exit code %d, %v, %s%s", code, err, stderr, text)
	}
	t.Setenv("PGPASSWORD", pgserver.Password)
	if code, _, stderr := walferry(t, "config", "check", "--config", file); code != 2 || !strings.Contains(stderr, "postgres.tables: is missing") {
		t.Errorf("none of the tables can be captured: exit code %d, %s", code, stderr)
	}
	none := filepath.Join(t.TempDir(), "none.yaml")
	code, _, stderr = walferry(t, "config", "init", "--from", "postgres://cdc@127.0.0.1:1/x", "--to", "127.0.0.1:1", "--out", none)
	if _, err := os.Stat(none); code != 3 || err == nil || !strings.Contains(stderr, "[postgres_unavailable]") {
		t.Errorf("no database: exit code %d, %v, %s", code, err, stderr)
	}
	if code, _, stderr := walferry(t, "config", "init", "--config", file); code != 2 || !strings.Contains(stderr, "--out") {
		t.Errorf("--config: exit code %d, %s", code, stderr)
	}
}

// TestConfigCheckAndSchema need no server.
func TestConfigCheckAndSchema(t *testing.T) {
	if code, _, stderr := walferry(t, "config", "check", "--from", "postgres://localhost/x", "--to", "localhost:1", "--tables", "orders"); code != 2 || !strings.Contains(stderr, "[config_invalid]") {
		t.Errorf("a wrong table: exit code %d, %s", code, stderr)
	}
	code, stdout, stderr := walferry(t, "config", "check", "--from", "postgres://cdc:geheim@localhost/x", "--to", "localhost:1", "--tables", "all", "--name", "shop")
	if code != 0 || !strings.Contains(stdout, "name: shop # --name") || strings.Contains(stdout, "geheim") || !strings.Contains(stdout, "password: '***' # --from") {
		t.Errorf("exit code %d, %s%s", code, stdout, stderr)
	}
	code, stdout, stderr = walferry(t, "config", "schema")
	var schema struct{ Properties map[string]any }
	if err := json.Unmarshal([]byte(stdout), &schema); code != 0 || err != nil || schema.Properties["postgres"] == nil {
		t.Errorf("exit code %d, %v, %s%s", code, err, stdout, stderr)
	}
}
