package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walferry/walferry/internal/cdctest"
	"github.com/walferry/walferry/internal/childproc"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/internal/pgtest"
	"github.com/walferry/walferry/internal/vaulttest"
)

// vaultConfig has every secret in Vault. What stands in braces is replaced.
const vaultConfig = `
name: {name}
vault:
  address: {vault}
  ca_file: "{vault ca}"
  start_timeout: 10s
  poll_interval: 1s
  auth: {method: approle, role_id: {role id}, secret_id_file: "{secret id}"}
postgres:
  url: "{url}"
  tables: [public.*, sales.*]
  publication: {manage: never}
  vault: {postgres vault}
kafka:
  brokers: ["{broker}"]
  tls: {enabled: true, ca_file: "{ca}", server_name: localhost{kafka tls}}
  sasl: {mechanism: scram-sha-512, vault: {path: kv/data/kafka, fields: {username: user, password: pass}}}
delivery: {delivery}
http: {listen: "127.0.0.1:{port}"}
start_timeout: 5s
`

// vaulted is a rig whose secrets are in a Vault of its own. The Postgres role and the SCRAM user are its
// own, too.
type vaulted struct {
	*rig
	vault   *vaulttest.Server
	role    string // of Postgres
	user    string // of Kafka
	passes  int    // passwords that user had
	port    int    // of walferry's HTTP
	replace []string
}

// newVaulted makes the servers ready: publication, SCRAM user, Vault with key-value and database engine.
func newVaulted(t *testing.T, pg *pgtest.Server, broker *kafkatest.Broker, delivery string) *vaulted {
	t.Helper()
	return newVaultedAt(t, pg, broker, delivery, vaulttest.Start(t))
}

// newVaultedAt is newVaulted with a Vault that the test has configured already.
func newVaultedAt(t *testing.T, pg *pgtest.Server, broker *kafkatest.Broker, delivery string, server *vaulttest.Server) *vaulted {
	t.Helper()
	v := &vaulted{rig: bareRig(t, pg, broker), vault: server}
	v.delivery = delivery
	var err error
	if v.port, err = childproc.FreePort(); err != nil {
		t.Fatal(err)
	}
	v.role = fmt.Sprintf("vaulted_%08x", rand.Uint32())
	v.user = v.role
	v.db.Exec(fmt.Sprintf(`
		DO $$ BEGIN EXECUTE (SELECT 'CREATE PUBLICATION walferry_%s FOR TABLE ' || string_agg(format('%%I.%%I', schemaname, tablename), ', ')
			FROM pg_tables WHERE schemaname IN ('public', 'sales')); END $$`, v.name))
	pg.Exec("postgres", fmt.Sprintf("CREATE ROLE %s LOGIN REPLICATION PASSWORD '%s'", v.role, passwordOfPG))
	t.Cleanup(func() { pg.Exec("postgres", "DROP ROLE "+v.role) })
	v.vault.KV()
	v.rotateKafka()
	v.vault.PutKV("postgres", vaulttest.Map{"username": v.role, "password": passwordOfPG})
	v.replace = []string{"{postgres vault}", "{path: kv/data/postgres}"}
	return v
}

// kafkaPassword is the one of now.
func (v *vaulted) kafkaPassword() string { return fmt.Sprintf("canary-scram-%s-%d", v.user, v.passes) }

// rotateKafka gives the SCRAM user a new password: first the brokers know it, then Vault.
func (v *vaulted) rotateKafka() {
	v.t.Helper()
	v.passes++
	v.broker.AddUser(v.user, v.kafkaPassword())
	v.vault.PutKV("kafka", vaulttest.Map{"user": v.user, "pass": v.kafkaPassword()})
}

// configured writes the configuration and says how walferry is to be started. The policy allows what the
// configuration names, and no more.
func (v *vaulted) configured(policy ...string) {
	v.t.Helper()
	v.vault.Policy("walferry", append(policy, "kv/data/kafka read", "kv/data/postgres read")...)
	role := v.vault.AppRole("walferry", "walferry", nil)
	v.write(role)
}

func (v *vaulted) write(role vaulttest.AppRole) {
	v.t.Helper()
	file := filepath.Join(v.t.TempDir(), "walferry.yaml")
	right := []string{
		"{name}", v.name, "{vault}", v.vault.Addr(), "{vault ca}", v.vault.CAFile(), "{role id}", role.RoleID, "{secret id}", role.SecretIDFile,
		"{url}", "postgres://" + v.db.Server.Addr() + "/" + v.db.Name, "{broker}", v.broker.SASLAddr(), "{ca}", v.broker.CAFile(),
		"{delivery}", v.delivery, "{port}", strconv.Itoa(v.port), "{kafka tls}", "",
	}
	// The first pair that matches wins.
	text := strings.NewReplacer(append(v.replace, right...)...).Replace(vaultConfig)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		v.t.Fatal(err)
	}
	v.run("run", "--config", file)
}

// quiet wants no secret in what walferry printed.
func (v *vaulted) quiet() {
	v.t.Helper()
	out := v.walferry.Output()
	for _, secret := range []string{passwordOfPG, "canary-scram", v.vault.RootToken(), "hvs."} {
		if strings.Contains(out, secret) {
			v.t.Errorf("the output holds %s", secret)
		}
	}
}

// TestFault45_PasswordRotated runs a pipeline whose secrets are in Vault, rotates the brokers' password
// under it with its connections cut off each time, and the one of Postgres with the walsender terminated.
func TestFault45_PasswordRotated(t *testing.T) {
	long(t)
	t.Parallel()
	each(t, func(t *testing.T, d string) {
		pg := pgtest.Shared(t)
		v := newVaulted(t, pg, kafkatest.Shared(t), d)
		v.configured()
		v.started()
		v.load()
		for n := range 3 {
			v.pass(time.Second)
			v.rotateKafka()
			password := fmt.Sprintf("%s-%d", passwordOfPG, n)
			pg.Exec("postgres", fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'", v.role, password))
			if _, err := cdctest.TerminateWalsenders(t.Context(), v.db.DSN(), v.slot()); err != nil {
				t.Fatal(err)
			}
			v.said(v.walferry, "trying again: stream")
			v.vault.PutKV("postgres", vaulttest.Map{"username": v.role, "password": password})
			v.streaming()
		}
		v.verify(false)
		v.quiet()
	})
}

// TestCanariesOfVault looks for what came from Vault, and for what opens Vault, in everything that walferry
// shows: while it runs and rotates, and in the dump of all goroutines that SIGQUIT makes of it.
func TestCanariesOfVault(t *testing.T) {
	long(t)
	t.Parallel()
	v := newVaulted(t, pgtest.Shared(t), kafkatest.Shared(t), atLeastOnce)
	v.vault.Policy("walferry", "kv/data/kafka read", "kv/data/postgres read")
	role := v.vault.AppRole("walferry", "walferry", nil)
	id, err := os.ReadFile(role.SecretIDFile)
	if err != nil {
		t.Fatal(err)
	}
	v.replace = append(v.replace, "delivery: {delivery}", "delivery: at_least_once\nlog: {level: debug}")
	v.write(role)
	v.started()
	v.rotateKafka()
	v.eventually("the new password was read", func(context.Context) bool {
		return v.metric("walferry_credential_rotations_total", "kafka_sasl") > 1
	})
	secrets := []string{passwordOfPG, "canary-scram", v.vault.RootToken(), "hvs.", strings.TrimSpace(string(id))}
	for _, path := range []string{"metrics", "status", "readyz"} {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/%s", v.port, path))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || len(body) == 0 {
			t.Fatalf("/%s: %v", path, err)
		}
		clean(t, "/"+path, string(body), secrets)
	}
	if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", v.walferry.PID())); err == nil { // there is none but on Linux
		clean(t, "the command line", string(line), secrets)
	}
	if err := syscall.Kill(v.walferry.PID(), syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	select {
	case <-v.walferry.Done():
	case <-time.After(patience):
		t.Fatal("still running")
	}
	if !strings.Contains(v.walferry.Output(), "goroutine ") {
		t.Error("there is no dump")
	}
	clean(t, "the output", v.walferry.Output(), secrets)
}

// clean fails where one of the secrets sits, in any spelling.
func clean(t *testing.T, where, text string, secrets []string) {
	t.Helper()
	for _, secret := range secrets {
		for _, spelling := range spellings(secret) {
			if strings.Contains(text, spelling) {
				t.Errorf("%s holds %s, as %s", where, secret, spelling)
			}
		}
	}
}
