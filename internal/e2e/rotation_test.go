package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/internal/cdctest"
	"github.com/walferry/walferry/internal/kafkaserver"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/internal/pgserver"
	"github.com/walferry/walferry/internal/pgtest"
	"github.com/walferry/walferry/internal/vaulttest"
)

// createRole is how Vault makes a user of a dynamic role.
const createRole = `CREATE ROLE "{{name}}" LOGIN REPLICATION PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'`

// dynamic has the rig log in to Postgres by a dynamic role that lives so long. more goes over the role.
func (v *vaulted) dynamic(seconds int, more vaulttest.Map) {
	v.t.Helper()
	v.vault.Database(fmt.Sprintf("postgresql://{{username}}:{{password}}@%s/%s?sslmode=disable", v.db.Server.Addr(), v.db.Name), pgserver.User, pgserver.Password)
	v.vault.DynamicRole("cdc", seconds, createRole, more)
	v.replace = append(v.replace[:0:0], "{postgres vault}", "{path: database/creds/cdc}")
}

// TestFault49_DynamicRoleDropped runs on a role of five seconds, whose revocation ends its connections; in
// between all leases are revoked by force.
func TestFault49_DynamicRoleDropped(t *testing.T) {
	long(t)
	t.Parallel()
	each(t, func(t *testing.T, d string) {
		v := newVaulted(t, pgtest.Shared(t), kafkatest.Shared(t), d)
		v.dynamic(5, vaulttest.Map{"revocation_statements": []string{
			`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{{name}}'`, `DROP ROLE IF EXISTS "{{name}}"`,
		}})
		v.configured("database/creds/cdc read")
		v.started()
		v.load()
		v.said(v.walferry, "code=credential_rotated") // it goes on over another connection before the lease ends
		v.eventually("it streams over that one", func(context.Context) bool { return strings.Count(v.walferry.Output(), "msg=streaming") > 1 })
		v.vault.Write("sys/leases/revoke-prefix/database/creds/cdc", nil)
		v.said(v.walferry, "trying again: stream")
		v.streaming()
		v.pass(6 * time.Second)
		v.verify(false)
		v.quiet()
	})
}

// durationOf is a variable's duration; 0 where it is not set.
func durationOf(t *testing.T, name string) time.Duration {
	t.Helper()
	env := os.Getenv(name)
	if env == "" {
		return 0
	}
	d, err := time.ParseDuration(env)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return d
}

// newRotated is a running pipeline with every credential in Vault: a SASL password, a client certificate
// that lives so many seconds, and a dynamic role that does. The broker has each connection log in again
// after five seconds (KIP-368).
func newRotated(t *testing.T, certificate, role int) *vaulted {
	t.Helper()
	server := vaulttest.Start(t)
	ca := filepath.Join(t.TempDir(), "pki.pem")
	if err := os.WriteFile(ca, []byte(server.PKI("kafka")), 0o600); err != nil {
		t.Fatal(err)
	}
	broker := kafkatest.Start(t, kafkaserver.Options{Settings: map[string]string{
		"listener.name.sasl_ssl.ssl.client.auth":         "required",
		"listener.name.sasl_ssl.ssl.truststore.location": ca,
		"connections.max.reauth.ms":                      "5000",
	}})
	v := newVaultedAt(t, pgtest.Shared(t), broker, exactlyOnce, server)
	v.dynamic(role, nil)
	v.replace = append(v.replace, "{kafka tls}", fmt.Sprintf(", vault: {path: pki/issue/kafka, params: {common_name: walferry, ttl: %ds}}", certificate))
	v.configured("database/creds/cdc read", "pki/issue/kafka update")
	v.started()
	v.load()
	return v
}

// TestRotation rotates everything under load: the SASL password twenty times, a client certificate and a
// dynamic role that live a minute (in less than a minute: five times, and some seconds). WALFERRY_ROTATION
// says how long; `make rotation` sets it.
func TestRotation(t *testing.T) {
	t.Parallel()
	length := durationOf(t, "WALFERRY_ROTATION")
	if length == 0 {
		t.Skip("takes as long as WALFERRY_ROTATION says: make rotation")
	}
	life, rotations := 60, 20
	if length < time.Minute {
		life, rotations = 9, 5
	}
	v := newRotated(t, life, life)
	for range rotations {
		v.pass(length / time.Duration(rotations))
		v.rotateKafka()
	}
	v.eventually("certificate and role were renewed", func(context.Context) bool {
		return v.metric("walferry_credential_rotations_total", "kafka_tls") > 1 && v.metric("walferry_credential_rotations_total", "postgres") > 1
	})
	t.Logf("%v rotations of kafka_sasl, %v of kafka_tls, %v of postgres", v.metric("walferry_credential_rotations_total", "kafka_sasl"),
		v.metric("walferry_credential_rotations_total", "kafka_tls"), v.metric("walferry_credential_rotations_total", "postgres"))
	v.verify(false)
	v.quiet()
	t.Logf("%d times over another connection", strings.Count(v.walferry.Output(), "going on over another connection"))
}

// TestFault48_VaultAwayUnderLoad stops Vault for a while, and seals it for a while. No connection is lost
// by that, though the role's lease ends meanwhile; the certificate outlasts it, because a broker that has
// connections log in again gets new ones. WALFERRY_VAULT_AWAY says how long; `make rotation` sets it.
func TestFault48_VaultAwayUnderLoad(t *testing.T) {
	t.Parallel()
	away := durationOf(t, "WALFERRY_VAULT_AWAY")
	if away == 0 {
		t.Skip("takes as long as WALFERRY_VAULT_AWAY says: make rotation")
	}
	v := newRotated(t, 3600, int(min(away, time.Minute)/time.Second)+5)
	reconnects := v.metric("walferry_reconnects_total", "")
	for name, phase := range map[string]struct{ begin, end func() }{
		"stopped": {v.vault.Stop, v.vault.Restart}, "sealed": {v.vault.Seal, v.vault.Unseal},
	} {
		phase.begin()
		before := v.metric("walferry_credential_expiry_seconds", "postgres")
		v.pass(away)
		after := v.metric("walferry_credential_expiry_seconds", "postgres")
		t.Logf("Vault %s for %s: the countdown of postgres went from %.1f to %.1f s", name, away, before, after)
		if after >= before {
			t.Errorf("Vault %s: the countdown did not go down: %f, then %f", name, before, after)
		}
		phase.end()
		v.eventually("Vault is spoken to again", func(context.Context) bool {
			return v.metric("walferry_credential_expiry_seconds", "postgres") > after+1
		})
	}
	if now := v.metric("walferry_reconnects_total", ""); now != reconnects {
		t.Errorf("%v connections were lost while Vault was away:\n%s", now-reconnects, v.walferry.Output())
	}
	v.rotateKafka()
	if _, err := cdctest.TerminateWalsenders(t.Context(), v.db.DSN(), v.slot()); err != nil {
		t.Fatal(err)
	}
	v.verify(false)
	v.quiet()
}

// metric returns a value of /metrics, with the label's value where one is named; -1 where it is not there.
func (v *vaulted) metric(name, label string) float64 {
	v.t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", v.port))
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		line := lines.Text()
		if !strings.HasPrefix(line, name+"{") || label != "" && !strings.Contains(line, `"`+label+`"`) {
			continue
		}
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			v.t.Fatal(err)
		}
		return value
	}
	return -1
}
