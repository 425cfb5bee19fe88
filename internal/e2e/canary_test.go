package e2e

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/internal/cdctest"
	"github.com/walferry/walferry/internal/childproc"
	"github.com/walferry/walferry/internal/kafkaserver"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/internal/pgtest"
)

// What must not be seen. Passwords belong nowhere, keys and values into the topics of data alone.
const (
	keyCanary     = "canary-key-2c4e"
	valueCanary   = "canary-value-9b1d"
	passwordOfPG  = "canary-postgres-61f0" // of a role that lives as long as the test
	wrongPassword = "canary-wrong-d83a"    // opens nothing
)

var (
	secretCanaries = []string{passwordOfPG, wrongPassword, kafkaserver.Password}
	rowCanaries    = []string{keyCanary, valueCanary}
)

// canaryConfig says as much as it can: over SASL_SSL, with the most talkative log.
const canaryConfig = `
name: {name}
postgres:
  url: {url}
  tables: [public.*]
kafka:
  brokers: ["{broker}"]
  tls: {enabled: true, ca_file: "{ca}", server_name: localhost}
  sasl: {mechanism: scram-sha-512, username: walferry, password_file: "{kafka password}"}
events: {headers: [op, schema, table]}
start_timeout: 5s
http: {listen: "127.0.0.1:{port}"}
log: {level: debug, format: {log}}
`

// aviary is a rig whose database, role and configuration hold canaries.
type aviary struct {
	*rig
	role string
	port int
}

// newAviary makes a database with a table of canaries, owned by a role whose password is one.
func newAviary(t *testing.T, broker *kafkatest.Broker, encoding string) *aviary {
	t.Helper()
	pg := pgtest.Shared(t)
	id := rand.Uint32()
	a := &aviary{rig: &rig{t: t, broker: broker, name: fmt.Sprintf("canary_%08x", id)}, role: fmt.Sprintf("canary_%08x", id)}
	t.Cleanup(func() { pg.Exec("postgres", "DROP ROLE "+a.role) })
	pg.Exec("postgres", "CREATE ROLE "+a.role+" LOGIN REPLICATION PASSWORD '"+passwordOfPG+"'")
	a.db = pg.DatabaseIn(encoding)
	a.db.Exec(fmt.Sprintf(`
		GRANT CREATE ON DATABASE %s TO %s;
		CREATE TABLE public.birds (id text PRIMARY KEY, note text, doc jsonb, data bytea, tags text[]);
		ALTER TABLE public.birds OWNER TO %[2]s`, a.db.Name, a.role))
	var err error
	if a.port, err = childproc.FreePort(); err != nil {
		t.Fatal(err)
	}
	return a
}

// configure writes the configuration, with the given replacements over the right ones, and says how
// walferry is to be started.
func (a *aviary) configure(over ...string) {
	a.t.Helper()
	dir := a.t.TempDir()
	right := []string{
		"{name}", a.name, "{url}", "postgres://" + a.role + "@" + a.db.Server.Addr() + "/" + a.db.Name,
		"{broker}", a.broker.SASLAddr(), "{ca}", a.broker.CAFile(), "{kafka password}", a.secret(kafkaserver.Password),
		"{port}", strconv.Itoa(a.port), "{log}", "text",
	}
	file := filepath.Join(dir, "walferry.yaml")
	// The first pair that matches wins.
	text := strings.NewReplacer(append(over, right...)...).Replace(canaryConfig)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
	a.run("run", "--config", file)
}

// secret writes a password file and returns its name.
func (a *aviary) secret(password string) string {
	a.t.Helper()
	file := filepath.Join(a.t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return file
}

// write makes changes of each kind, with canaries in keys and values of several types.
func (a *aviary) write() {
	a.t.Helper()
	a.db.Exec(fmt.Sprintf(`
		INSERT INTO public.birds VALUES ('%[1]s', '%[2]s', '{"k": "%[2]s"}', convert_to('%[2]s', 'SQL_ASCII'), ARRAY['%[2]s']);
		UPDATE public.birds SET note = '%[2]s, again';
		UPDATE public.birds SET id = '%[1]s-2';
		DELETE FROM public.birds;
		TRUNCATE public.birds`, keyCanary, valueCanary))
}

// arrives waits until the topic of data holds so many records with a key of ours.
func (a *aviary) arrives(want int) {
	a.t.Helper()
	a.eventually("the records arrive", func(ctx context.Context) bool {
		n := 0
		for _, rec := range a.records(ctx, a.name+".public.birds") {
			if strings.Contains(string(rec.Key), keyCanary) {
				n++
			}
		}
		return n >= want
	})
}

// records returns what a topic holds now.
func (a *aviary) records(ctx context.Context, topic string) []cdctest.Record {
	a.t.Helper()
	reader, err := cdctest.NewReader([]string{a.broker.Addr()}, []string{topic})
	if err != nil {
		a.t.Fatal(err)
	}
	defer reader.Close()
	end, err := reader.End(ctx)
	if err != nil {
		a.t.Fatal(err)
	}
	var all []cdctest.Record
	if err := reader.Read(ctx, func(rec cdctest.Record) { all = append(all, rec) }, end); err != nil {
		a.t.Fatal(err)
	}
	return all
}

// lookAtProcess searches what a running walferry shows: command line and HTTP.
func (a *aviary) lookAtProcess() {
	a.t.Helper()
	if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", a.walferry.PID())); err == nil { // there is none but on Linux
		a.clean("the command line", string(line), secretCanaries, rowCanaries)
	}
	client := &http.Client{Timeout: 10 * time.Second}
	for path, says := range map[string]string{"metrics": "walferry_", "status": a.name, "readyz": "", "livez": ""} {
		req, err := http.NewRequestWithContext(a.t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/%s", a.port, path), nil)
		if err != nil {
			a.t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			a.t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || len(body) == 0 || !strings.Contains(string(body), says) {
			a.t.Errorf("/%s: %v, %s", path, err, body)
		}
		a.clean("/"+path, fmt.Sprint(resp.Header, string(body)), secretCanaries, rowCanaries)
	}
}

// lookAtOutput searches what walferry printed, which must say something.
func (a *aviary) lookAtOutput(says string) {
	a.t.Helper()
	out := a.walferry.Output()
	if !strings.Contains(out, says) {
		a.t.Errorf("the output lacks %q", says)
	}
	a.clean("the output", out, secretCanaries, rowCanaries)
}

// lookAtTopics searches all topics of the pipeline: the checkpoint for everything, the others for
// passwords.
func (a *aviary) lookAtTopics() {
	a.t.Helper()
	checkpoint := "_walferry." + a.name + ".checkpoint"
	found, err := a.broker.Admin().ListTopics(a.t.Context())
	if err != nil {
		a.t.Fatal(err)
	}
	seen := 0
	for _, topic := range found.Names() {
		if !strings.HasPrefix(topic, a.name+".") && topic != checkpoint {
			continue
		}
		for _, rec := range a.records(a.t.Context(), topic) {
			text := fmt.Sprintf("%s %s %s", rec.Key, rec.Value, rec.Pos)
			a.clean("topic "+topic, text, secretCanaries)
			if topic == checkpoint {
				seen++
				a.clean("the checkpoint", text, rowCanaries)
			}
		}
	}
	if seen == 0 {
		a.t.Error("the checkpoint was not found")
	}
}

// clean fails where one of the canaries sits, in any spelling.
func (a *aviary) clean(where, text string, canaries ...[]string) {
	a.t.Helper()
	for _, list := range canaries {
		for _, canary := range list {
			for _, spelling := range spellings(canary) {
				if strings.Contains(text, spelling) {
					a.t.Errorf("%s holds %s, as %s", where, canary, spelling)
				}
			}
		}
	}
}

// spellings are the ways in which bytes may get into a text: as they are, in hexadecimal as Go, SQL and
// Postgres' messages have it, as a list of numbers, and in base64.
func spellings(canary string) []string {
	spaced := make([]string, len(canary))
	for i := range canary {
		spaced[i] = fmt.Sprintf("0x%02x", canary[i])
	}
	// The server quotes no more than a few bytes, and base64 is only the same where it is cut alike.
	return []string{
		canary, hex.EncodeToString([]byte(canary)), strings.Join(spaced[:3], " "), strings.Trim(fmt.Sprintf("%d", []byte(canary)), "[]"),
		base64.StdEncoding.EncodeToString([]byte(canary[:len(canary)/3*3])),
	}
}

// TestCanaries plants canaries in passwords, keys and values, and searches everything that walferry
// shows for them, when all is well and in each way to fail that has a row or a password at hand.
func TestCanaries(t *testing.T) {
	t.Run("delivered over a broken connection", func(t *testing.T) {
		a := newAviary(t, kafkatest.Shared(t), "UTF8")
		a.configure("tables:", "password_file: "+a.secret(passwordOfPG)+"\n  tables:", "{log}", "json")
		a.started()
		a.write()
		const each = 7 // insert, update, key change as three, delete as two
		a.arrives(each)
		a.lookAtProcess()
		if n, err := cdctest.TerminateWalsenders(t.Context(), a.db.DSN(), a.slot()); err != nil || n != 1 {
			t.Fatalf("%d walsenders terminated, %v", n, err)
		}
		a.write()
		a.arrives(2 * each)
		a.lookAtProcess()
		a.terminate(0)
		a.lookAtOutput(`"level":"WARN"`)
		a.lookAtTopics()
	})

	t.Run("a record that is too large", func(t *testing.T) {
		t.Setenv("PGPASSWORD", passwordOfPG)
		a := newAviary(t, kafkatest.Shared(t), "UTF8")
		a.configure()
		a.started()
		a.write()
		a.arrives(1)
		a.lookAtProcess()
		// Nothing to compress: the limit is one of bytes before it.
		a.db.Exec("INSERT INTO public.birds VALUES ($1, repeat($2, 200000))", keyCanary, valueCanary)
		a.ended(4)
		a.lookAtOutput("record_too_large")
		a.lookAtTopics()
	})

	t.Run("bytes that are no text", func(t *testing.T) {
		t.Setenv("PGPASSWORD", passwordOfPG)
		a := newAviary(t, kafkatest.Shared(t), "SQL_ASCII")
		a.configure()
		a.started()
		a.write()
		a.arrives(1)
		a.db.Exec("INSERT INTO public.birds VALUES ($1, convert_from('\\xf1'::bytea || convert_to($2, 'SQL_ASCII'), 'SQL_ASCII'))", keyCanary, valueCanary)
		a.ended(3)
		a.lookAtOutput("stream_poisoned")
		a.lookAtTopics()
	})

	t.Run("wrong Postgres password", func(t *testing.T) {
		a := newAviary(t, kafkatest.Shared(t), "UTF8")
		a.configure("tables:", "password_file: "+a.secret(wrongPassword)+"\n  tables:")
		a.start()
		a.ended(3)
		a.lookAtOutput("postgres_auth")
	})

	t.Run("wrong Kafka password", func(t *testing.T) {
		t.Setenv("PGPASSWORD", passwordOfPG)
		a := newAviary(t, kafkatest.Shared(t), "UTF8")
		a.configure("{kafka password}", a.secret(wrongPassword))
		a.start()
		a.ended(3)
		a.lookAtOutput("kafka_auth")
	})

	t.Run("passwords of a rotation", func(t *testing.T) {
		a := newAviary(t, kafkatest.Shared(t), "UTF8")
		file := a.secret(passwordOfPG)
		a.configure("tables:", "password_file: "+file+"\n  tables:")
		a.started()
		if err := os.WriteFile(file, []byte(wrongPassword), 0o600); err != nil {
			t.Fatal(err)
		}
		if n, err := cdctest.TerminateWalsenders(t.Context(), a.db.DSN(), a.slot()); err != nil || n != 1 {
			t.Fatalf("%d walsenders terminated, %v", n, err)
		}
		a.ended(3)
		a.lookAtOutput("postgres_auth")
	})

	t.Run("a password in the configuration's URL", func(t *testing.T) {
		a := newAviary(t, kafkatest.Shared(t), "UTF8")
		a.configure("{url}", a.db.Server.DSNFor(a.role, passwordOfPG, a.db.Name), "log:", "logs:")
		a.start()
		a.ended(2)
		a.lookAtOutput("config_invalid")
		a.configure("{url}", a.db.Server.DSNFor(a.role, passwordOfPG, a.db.Name))
		a.started()
		a.lookAtProcess()
		a.terminate(0)
		a.lookAtOutput("level=INFO")
	})

	t.Run("a password in the arguments", func(t *testing.T) {
		a := newAviary(t, kafkatest.Shared(t), "UTF8")
		a.run("run", "--from", "postgres://cdc:"+passwordOfPG+"@db.example/shop", "--to", a.broker.Addr(), "--tables", "public.birds")
		a.start()
		a.ended(2)
		a.lookAtOutput("password_in_arguments")
	})
}
