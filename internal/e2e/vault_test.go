package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/internal/cdctest"
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
  tls: {enabled: true, ca_file: "{ca}", server_name: localhost}
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
	role    string // of Postgres, whose password Vault may change
	user    string // of Kafka
	passes  int    // passwords that user had
	replace []string
}

// newVaulted makes the servers ready: publication, SCRAM user, Vault with key-value and database engine.
func newVaulted(t *testing.T, pg *pgtest.Server, broker *kafkatest.Broker, delivery string) *vaulted {
	t.Helper()
	v := &vaulted{rig: bareRig(t, pg, broker), vault: vaulttest.Start(t)}
	v.delivery = delivery
	v.role = fmt.Sprintf("vaulted_%08x", rand.Uint32())
	v.user = v.role
	v.db.Exec(fmt.Sprintf(`
		CREATE PUBLICATION walferry_%s FOR ALL TABLES`, v.name))
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
		"{delivery}", v.delivery, "127.0.0.1:{port}", "127.0.0.1:0",
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
