package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/internal/pgserver"
	"github.com/walferry/walferry/internal/pgtest"
)

// report is the JSON of walferry doctor, by its documented names.
type report struct {
	Errors, Warnings int
	SQL              string
	Findings         []struct {
		ID, Severity, Subject, Found string
		Fixes                        []struct{ Kind, Do, Then, Note string }
	}
}

func doctor(t *testing.T, args ...string) (report, int) {
	t.Helper()
	var out, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), binary(t), append([]string{"doctor", "--json"}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v\n%s%s", err, &out, &stderr)
	}
	return r, cmd.ProcessState.ExitCode()
}

// statements are those of a script, as psql finds them: a semicolon ends one, but for a DO block.
func statements(script string) []string {
	var all []string
	var b strings.Builder
	inside := false
	for line := range strings.Lines(script) {
		if strings.HasPrefix(line, "--") {
			continue
		}
		b.WriteString(line)
		inside = inside != (strings.Count(line, "$do$")%2 == 1)
		if strings.HasSuffix(strings.TrimSpace(line), ";") && !inside {
			all = append(all, b.String())
			b.Reset()
		}
	}
	return all
}

// TestDoctorLeadsToARunningPipeline begins with a Postgres where nothing is set up, does what doctor says
// and nothing else, and ends with a pipeline that delivers, under a role that has nothing but the stream.
func TestDoctorLeadsToARunningPipeline(t *testing.T) {
	long(t)
	t.Parallel()
	pg := pgtest.Start(t, pgserver.Options{Settings: map[string]string{"wal_level": "replica"}})
	r := bareRig(t, pg, kafkatest.Shared(t))
	r.delivery = deliveries()[0]
	r.db.Exec("CREATE TABLE public.visits (visitor int, day date)") // without a key
	common := []string{"--name", r.name, "--from", r.db.DSNFor("cdc", "right"), "--to", r.broker.Addr(), "--tables", "public.*,sales.*", "--delivery", r.delivery}

	for pass := 1; ; pass++ {
		rep, code := doctor(t, common...)
		if code == 0 && rep.Errors == 0 {
			t.Logf("doctor is content at look %d", pass)
			break
		}
		if code != 3 || rep.Errors == 0 || rep.SQL == "" || pass > 3 {
			t.Fatalf("look %d: exit code %d, %+v", pass, code, rep)
		}
		t.Logf("look %d: %d errors, runs\n%s", pass, rep.Errors, rep.SQL)
		follow(t, r, rep)
	}
	r.run(append([]string{"run"}, common...)...)
	r.started()
	r.load()
	r.pass(time.Second)
	r.db.Exec("INSERT INTO visits VALUES (1, '2026-01-01'); UPDATE visits SET visitor = 2; DELETE FROM visits")
	r.verify(false)

	if more := pgtest.Value[int](r.db, `
		SELECT count(*) FROM pg_roles r WHERE rolname = 'cdc' AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls
			OR EXISTS (SELECT FROM pg_class c WHERE c.relowner = r.oid)
			OR EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid)
			OR has_table_privilege(r.oid, 'visits', 'SELECT') OR has_database_privilege(r.oid, current_database(), 'CREATE'))`); more != 0 {
		t.Error("the role has more than it needs")
	}
}

// follow does what a report says: its block of SQL, the password that a new role needs, and the restart.
func follow(t *testing.T, r *rig, rep report) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), r.db.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	for _, sql := range statements(rep.SQL) {
		if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	if strings.Contains(rep.SQL, `\password "cdc"`) {
		r.db.Exec("ALTER ROLE cdc PASSWORD 'right'")
	}
	for _, f := range rep.Findings {
		if f.Severity == "error" && len(f.Fixes) > 0 && f.Fixes[0].Then == "restart" {
			r.db.Server.Restart(pgserver.Fast)
			return
		}
	}
}

// TestDoctorWhereEverythingIsBroken: neither server hides the other's findings, nothing hangs, and no secret
// is printed.
func TestDoctorWhereEverythingIsBroken(t *testing.T) {
	t.Parallel()
	const secret = "canary-wrong-password"
	pg := pgtest.Shared(t)
	began := time.Now()
	rep, code := doctor(t, "--name", "broken", "--from", pg.DSNFor("postgres", secret, "postgres"), "--to", "127.0.0.1:1", "--tables", "public.x")
	if took := time.Since(began); took > time.Minute {
		t.Errorf("took %s", took)
	}
	found := map[string]string{}
	for _, f := range rep.Findings {
		found[f.ID] = f.Severity
		if strings.Contains(f.Found, secret) {
			t.Error("the password was printed")
		}
	}
	if code != 3 || found["postgres_connection"] != "error" || found["kafka_connection"] != "error" || found["wal_level"] != "unknown" || found["kafka_topics"] != "unknown" {
		t.Errorf("exit code %d, %v", code, found)
	}
}

// TestApplyUnderLoad drops the publication of a running pipeline and makes it again, from whole schemas to named
// tables, without a change being missed or told twice.
func TestApplyUnderLoad(t *testing.T) {
	long(t)
	t.Parallel()
	pg := pgtest.Shared(t)
	if pg.Major() < 15 {
		t.Skip("publications of schemas come with Postgres 15")
	}
	r := bareRig(t, pg, kafkatest.Shared(t))
	r.delivery = deliveries()[0]
	const tables = `public.accounts,public.audits,public.journal,sales."Order Lines"`
	r.db.Exec("CREATE TABLE other (id int PRIMARY KEY); CREATE PUBLICATION walferry_" + r.name + " FOR TABLES IN SCHEMA public, sales WITH (publish_via_partition_root = true)")
	r.run("run", "--name", r.name, "--from", r.db.DSN(), "--to", r.broker.Addr(), "--tables", tables, "--delivery", r.delivery)
	r.started()
	r.load()
	r.pass(time.Second / 2)
	apply := func(want int, more ...string) string {
		args := append([]string{"apply", "--name", r.name, "--from", r.db.DSN(), "--to", r.broker.Addr(), "--tables", tables}, more...)
		cmd := exec.CommandContext(t.Context(), binary(t), args...)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != want {
			t.Fatalf("%v: %v, want exit code %d\n%s", more, err, want, out)
		}
		return string(out)
	}
	if out := apply(0); !strings.Contains(out, "schemas public, sales →") || !strings.Contains(out, "Nothing was changed") {
		t.Errorf("without --yes:\n%s", out)
	}
	out := apply(0, "--yes", "--narrow")
	t.Log(out)
	r.pass(time.Second / 2)
	if out := apply(0, "--yes"); !strings.Contains(out, "agrees with the configuration") {
		t.Errorf("a second time:\n%s", out)
	}
	r.verify(false)
}
