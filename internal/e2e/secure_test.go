package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/internal/cdctest"
	"github.com/walferry/walferry/internal/kafkaserver"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/internal/pgtest"
	"github.com/walferry/walferry/internal/testca"
)

// config is a file for SASL_SSL. The names in braces are replaced.
const config = `
name: {name}
postgres:
  url: {dsn}
  tables: [public.*, sales.*]
kafka:
  brokers: ["{broker}"]
  tls: {enabled: true, ca_file: "{ca}", server_name: "{host}"}
  sasl: {mechanism: scram-sha-512, username: walferry, password_file: "{password}"}
delivery: {delivery}
start_timeout: 5s
`

// configure writes a configuration file with the given replacements over the right ones.
func configure(r *rig, over ...string) string {
	r.t.Helper()
	dir := r.t.TempDir()
	password := filepath.Join(dir, "password")
	ours := []string{
		"{name}", r.name, "{dsn}", r.db.DSN(), "{broker}", r.broker.SASLAddr(), "{ca}", r.broker.CAFile(),
		"{host}", "localhost", "{password}", password, "{delivery}", r.delivery,
	}
	// The first pair that matches wins.
	text := strings.NewReplacer(append(over, ours...)...).Replace(config)
	file := filepath.Join(dir, "walferry.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(password, []byte(kafkaserver.Password+"\n"), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return file
}

// TestSecure runs a pipeline from a configuration file over SASL_SSL, with a kill in it.
func TestSecure(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d string) {
		r := bareRig(t, pgtest.Shared(t), kafkatest.Shared(t))
		r.delivery = d
		r.run("run", "--config", configure(r))
		r.started()
		r.load()
		r.pass(time.Second)
		r.kill()
		r.started()
		r.pass(time.Second)
		r.verify(true)
		if strings.Contains(r.walferry.Output(), kafkaserver.Password) {
			t.Error("the password was printed")
		}
	})
}

// TestRefused: each way to be turned away says which it is, ends with exit code 3, and shows no
// secret.
func TestRefused(t *testing.T) {
	t.Parallel()
	broker := kafkatest.Shared(t)
	dir := t.TempDir()
	const wrong = "canary-wrong-password"
	password := filepath.Join(dir, "wrong")
	if err := os.WriteFile(password, []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := testca.New("another authority")
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, other.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	db := pgtest.Shared(t).Database()
	if err := cdctest.Setup(t.Context(), db.DSN()); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		over []string
		code string
	}{
		{"kafka password", []string{"{password}", password}, "kafka_auth"},
		{"authority", []string{"{ca}", ca}, "kafka_tls"},
		{"host name", []string{"{host}", "elsewhere"}, "kafka_tls"},
		{"plaintext port", []string{"{broker}", broker.Addr()}, "kafka_tls"},
		{"nobody there", []string{"{broker}", "127.0.0.1:1"}, "kafka_unavailable"},
		{"postgres password", []string{"{dsn}", db.DSNFor("postgres", wrong)}, "postgres_auth"},
		{"postgres database", []string{"{dsn}", db.Server.DSN("elsewhere")}, "postgres_"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &rig{t: t, db: db, broker: broker, name: "refused", delivery: atLeastOnce}
			r.run("run", "--config", configure(r, tc.over...))
			r.start()
			began := time.Now()
			select {
			case <-r.walferry.Done():
			case <-time.After(patience):
				t.Fatal("still running")
			}
			out := r.walferry.Output()
			t.Logf("after %s:\n%s", time.Since(began).Round(time.Millisecond), out)
			if code := r.walferry.ExitCode(); code != 3 {
				t.Errorf("exit code %d, want 3", code)
			}
			if !strings.Contains(out, tc.code) {
				t.Errorf("the error code %s is not named", tc.code)
			}
			for _, secret := range []string{wrong, kafkaserver.Password} {
				if strings.Contains(out, secret) {
					t.Error("a password was printed")
				}
			}
		})
	}
}
