package e2e

import (
	"context"
	"encoding/json"
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

	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/internal/pgtest"
)

// seenStatus is what /status says, as far as tests need it.
type seenStatus struct {
	State  string
	Lag    []stageLag
	Slot   *struct{ Active bool }
	Oldest *struct {
		PID         int
		Application string `json:"application_name"`
		Seconds     float64
	} `json:"oldest_transaction"`
	Checks []struct{ Name, State, Code, Detail string }
}

type stageLag struct {
	Stage   string
	Bytes   uint64
	Seconds float64
}

// lagging returns the stages that are behind, and whether all are known.
func (s seenStatus) lagging() (behind []stageLag, known bool) {
	for _, l := range s.Lag {
		if l.Bytes != 0 || l.Seconds != 0 {
			behind = append(behind, l)
		}
	}
	return behind, len(s.Lag) == 5
}

// get asks walferry's HTTP server, and returns false where it does not answer.
func (r *rig) get(ctx context.Context, path string) (int, string, bool) {
	r.t.Helper()
	out := r.walferry.Output()
	at := strings.LastIndex(out, " listen=") // of the newest start
	if at < 0 {
		return 0, "", false
	}
	address := strings.Fields(out[at+len(" listen="):])[0]
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return 0, "", false
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err == nil
}

// status returns what /status says now.
func (r *rig) status(ctx context.Context) (s seenStatus, ok bool) {
	r.t.Helper()
	_, body, ok := r.get(ctx, "/status")
	return s, ok && json.Unmarshal([]byte(body), &s) == nil
}

// patient tells that tests which must wait for a timeout may do so.
func patient() bool { return os.Getenv("WALFERRY_LONG") != "" }

// The lag of every stage is zero within two seconds after the last row, and stays so while nothing but
// other tables is written to. With the brokers away it grows, whatever else goes on.
func TestLagTellsTheTruth(t *testing.T) {
	if !patient() {
		lagTellsTheTruth(t, 0, deliveries()[0])
		return
	}
	for _, major := range []int{14, 18} {
		for _, delivery := range []string{atLeastOnce, exactlyOnce} {
			t.Run(strconv.Itoa(major)+" "+delivery, func(t *testing.T) { lagTellsTheTruth(t, major, delivery) })
		}
	}
}

// shownRig returns a running pipeline of one table, marks, that shows its status. A table others is not in it.
func shownRig(t *testing.T, pg *pgtest.Server, broker *kafkatest.Broker, delivery string) *rig {
	t.Helper()
	db := pg.Database()
	r, _ := shownRigAs(t, db, db.DSN(), broker, delivery)
	r.started()
	return r
}

// shownRigAs is shownRig for a role, and returns the configuration's file.
func shownRigAs(t *testing.T, db *pgtest.DB, url string, broker *kafkatest.Broker, delivery string) (*rig, string) {
	t.Helper()
	r := &rig{t: t, db: db, broker: broker, name: fmt.Sprintf("shown_%08x", rand.Uint32())}
	r.db.Exec("CREATE TABLE marks (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY); CREATE TABLE others (note text)")
	file := filepath.Join(t.TempDir(), "walferry.yaml")
	text := fmt.Sprintf("name: %s\npostgres: {url: %q, tables: [public.marks]}\nkafka: {brokers: [%q], topics: {partitions: 1}}\n"+
		"delivery: %s\nhttp: {listen: \"127.0.0.1:0\"}\n", r.name, url, broker.Addr(), delivery)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.run("run", "--config", file)
	return r, file
}

func lagTellsTheTruth(t *testing.T, major int, delivery string) {
	broker := kafkatest.Shared(t)
	if patient() {
		broker = harmed(t)
	}
	r := shownRig(t, pgtest.SharedMajor(t, major), broker, delivery)
	zeroWithin := func(what string) {
		t.Helper()
		began := time.Now()
		var last []stageLag
		r.eventually("no lag after "+what, func(ctx context.Context) bool {
			s, ok := r.status(ctx)
			behind, known := s.lagging()
			last = behind
			return ok && known && len(behind) == 0
		})
		if took := time.Since(began); took > 2*time.Second && patient() { // a machine that others use may take longer
			t.Errorf("%v until there was no lag after %s; last behind were %v", took, what, last)
		}
	}
	r.eventually("the lag is known", func(ctx context.Context) bool { s, _ := r.status(ctx); _, known := s.lagging(); return known })
	for range 3 {
		r.db.Exec("INSERT INTO marks SELECT FROM generate_series(1, 1000)")
		zeroWithin("rows")
	}
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
		r.db.Exec("INSERT INTO others SELECT repeat('x', 1000) FROM generate_series(1, 100)")
		zeroWithin("rows of another table")
	}
	if !patient() {
		return
	}
	broker.Stop()
	r.db.Exec("INSERT INTO marks DEFAULT VALUES")
	stuck := time.Now()
	r.eventually("the lag grows", func(ctx context.Context) bool {
		s, ok := r.status(ctx)
		if since := time.Since(stuck); since > 30*time.Second {
			t.Fatalf("%v after the brokers have gone, and a row has come, the lag is %+v", since, s.Lag)
		}
		grown := 0
		for _, l := range s.Lag {
			since := time.Since(stuck).Seconds()
			if (l.Stage == "acknowledged" || l.Stage == "confirmed") && l.Bytes > 0 && l.Seconds >= 5 && l.Seconds > since-2 && l.Seconds < since+2 {
				grown++
			}
		}
		return ok && grown == 2
	})
	broker.Restart()
	r.eventually("the lag is gone", func(ctx context.Context) bool {
		s, _ := r.status(ctx)
		behind, known := s.lagging()
		return known && len(behind) == 0
	})
}

// Each thing that breaks is named by /readyz and /status within 15 s, and no longer 15 s after it was mended.
func TestStatusNamesTheCause(t *testing.T) {
	if !patient() {
		t.Skip("it waits for a minute; WALFERRY_LONG=1 runs it")
	}
	for _, major := range []int{14, 18} {
		t.Run(strconv.Itoa(major), func(t *testing.T) { statusNamesTheCause(t, pgtest.SharedMajor(t, major)) })
	}
}

func statusNamesTheCause(t *testing.T, pg *pgtest.Server) {
	broker := harmed(t)
	db := pg.Database()
	role := "of_" + db.Name
	db.Exec("CREATE ROLE " + role + " LOGIN SUPERUSER PASSWORD 'right'")
	t.Cleanup(func() { db.Exec("REASSIGN OWNED BY " + role + " TO CURRENT_USER; DROP ROLE " + role) })
	r, file := shownRigAs(t, db, strings.Replace(db.DSNFor(role, "right"), ":right@", "@", 1), broker, exactlyOnce)
	r.walferry.SetEnv("PGPASSWORD=right")
	r.started()
	r.readyz(t, "it is ready", func(code int, body string) bool { return code == http.StatusOK && body == "streaming\n" })

	r.breaks(t, "failing postgres: postgres_auth", func() { db.Exec("ALTER ROLE " + role + " PASSWORD 'another'") }, func() { db.Exec("ALTER ROLE " + role + " PASSWORD 'right'") })
	r.breaks(t, "failing publication: publication_missing",
		func() { db.Exec("DROP PUBLICATION walferry_" + r.name) }, func() { db.Exec("CREATE PUBLICATION walferry_" + r.name + " FOR TABLE marks") })
	r.breaks(t, "failing tables: publication_lacks_table: not read: public.marks",
		func() { db.Exec("ALTER PUBLICATION walferry_" + r.name + " SET TABLE others") }, func() { db.Exec("ALTER PUBLICATION walferry_" + r.name + " SET TABLE marks") })
	r.breaks(t, "failing kafka: kafka_unavailable", broker.Stop, broker.Restart)
	r.namesAnOpenTransaction(t)

	for dropped := false; !dropped; { // the pipeline may have it again before it is dropped
		db.Exec("SELECT pg_terminate_backend(active_pid, 1000) FROM pg_replication_slots WHERE active AND slot_name = $1", r.slot())
		dropped = pgtest.Value[int](db, "SELECT count(pg_drop_replication_slot(slot_name))::int FROM pg_replication_slots WHERE NOT active AND slot_name = $1", r.slot()) == 1
	}
	<-r.walferry.Done()
	if code := r.walferry.ExitCode(); code != 3 {
		t.Errorf("without its slot it ended with exit code %d", code)
	}
	o := &operated{rig: r, file: file}
	t.Setenv("PGPASSWORD", "right")
	if code, out, errs := o.command("status"); code != 3 || !strings.Contains(out, "does not exist") || !strings.Contains(out, "slot_missing") {
		t.Errorf("of a pipeline that is down, status says with exit code %d:\n%s%s", code, out, errs)
	}
}

// breaks breaks something, and mends it.
func (r *rig) breaks(t *testing.T, names string, harm, mend func()) {
	t.Helper()
	harm()
	r.readyz(t, names, func(code int, body string) bool {
		return code == http.StatusServiceUnavailable && strings.Contains(body, names)
	})
	mend()
	r.readyz(t, "no longer "+names, func(code int, body string) bool {
		return code == http.StatusOK && !strings.Contains(body, "failing")
	})
}

// readyz waits for an answer of /readyz that suits, for 15 s.
func (r *rig) readyz(t *testing.T, what string, suits func(code int, body string) bool) {
	t.Helper()
	began := time.Now()
	var last string
	r.eventually(what, func(ctx context.Context) bool {
		code, body, ok := r.get(ctx, "/readyz")
		last = body
		if time.Since(began) > 30*time.Second {
			t.Fatalf("waited in vain: %s; the answer is %d %q", what, code, last)
		}
		return ok && suits(code, body)
	})
	took := time.Since(began)
	t.Logf("%s: after %v", what, took.Round(100*time.Millisecond))
	if took > 15*time.Second {
		t.Errorf("%s: after %v", what, took)
	}
}

// namesAnOpenTransaction opens one: it is in /status at once, and in /readyz after a minute.
func (r *rig) namesAnOpenTransaction(t *testing.T) {
	t.Helper()
	holder := r.db.Conn()
	if _, err := holder.Exec(t.Context(), "SET application_name = 'nightly'; BEGIN; INSERT INTO others VALUES ('x')"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	pid := int(holder.PgConn().PID())
	r.eventually("the transaction is named", func(ctx context.Context) bool {
		s, _ := r.status(ctx)
		return s.Oldest != nil && s.Oldest.PID == pid && s.Oldest.Application == "nightly"
	})
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("the transaction was named after %v", took)
	}
	warning := fmt.Sprintf("warning open_transaction: process %d (nightly)", pid)
	r.eventually("a warning of it", func(ctx context.Context) bool {
		code, body, _ := r.get(ctx, "/readyz")
		return code == http.StatusOK && strings.Contains(body, warning)
	})
	if _, err := holder.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	r.readyz(t, "the transaction has ended", func(_ int, body string) bool { return body == "streaming\n" })
}
