package oracle

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/internal/pgtest"
	"github.com/walferry/walferry/replication"
	"github.com/walferry/walferry/sink/encode"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m.Run)) }

//go:embed oracle.sql
var oracleSQL string

// patience bounds the wait for what was committed.
const patience = 2 * time.Minute

// onMajors runs a test on the version that the environment names, else on the newest one, and with
// WALFERRY_FULL on the oldest one beside it. CI runs each.
func onMajors(t *testing.T, run func(t *testing.T, server *pgtest.Server)) {
	t.Helper()
	if os.Getenv("WALFERRY_PG") != "" || os.Getenv("WALFERRY_FULL") == "" {
		run(t, pgtest.Shared(t))
		return
	}
	for _, major := range []int{14, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			run(t, pgtest.SharedMajor(t, major))
		})
	}
}

// rig is an application's session and, once follow was called, a stream of what it does.
type rig struct {
	t      *testing.T
	db     *pgtest.DB
	conn   *pgx.Conn
	source *replication.Source
	ended  chan error

	encoder encode.Encoder
	options encode.Options
	plans   map[*event.Table]*encode.Plan
	want    wants
	// generated is the kind of generated columns that are published, none where it is empty.
	generated string
}

// session is how the oracle prints. The application's names are found by a path of its own.
const session = `SET client_encoding = 'UTF8'; SET datestyle = 'ISO'; SET intervalstyle = 'iso_8601'; SET timezone = 'UTC';
	SET bytea_output = 'hex'; SET extra_float_digits = 3; SET lc_monetary = 'C'; SET quote_all_identifiers = off; SET search_path = public;`

// newRig opens a session in a database and installs the oracle there.
func newRig(t *testing.T, db *pgtest.DB) *rig {
	t.Helper()
	r := &rig{t: t, db: db, conn: db.Conn(), options: encode.DefaultOptions(), plans: map[*event.Table]*encode.Plan{}}
	r.exec(session + oracleSQL)
	return r
}

// exec runs statements as the application; a failure ends the test.
func (r *rig) exec(sql string) {
	r.t.Helper()
	if err := r.try(sql); err != nil {
		r.t.Fatalf("%v: %.2000s", err, sql)
	}
}

func (r *rig) try(sql string) error {
	_, err := r.conn.PgConn().Exec(context.Background(), sql).ReadAll()
	return err
}

// text asks for one value.
func (r *rig) text(sql string) string {
	r.t.Helper()
	results, err := r.conn.PgConn().Exec(context.Background(), sql).ReadAll()
	if err != nil {
		r.t.Fatalf("%v: %.2000s", err, sql)
	}
	return string(results[len(results)-1].Rows[0][0])
}

// follow makes publication and slot and begins to stream every table, from now on.
func (r *rig) follow() {
	r.t.Helper()
	r.followAs(replication.Config{AllTables: true, Publication: replication.PublicationConfig{Name: "walferry_oracle", Create: true}})
}

// followAs is follow with what is captured.
func (r *rig) followAs(cfg replication.Config) {
	r.t.Helper()
	cfg.Pipeline, cfg.URL, cfg.MessagePrefixes = "oracle", r.db.DSN(), []string{marker}
	cfg.Slot = replication.SlotConfig{Name: "oracle_" + r.db.Name, Create: true}
	r.source = replication.New(cfg, slog.New(slog.DiscardHandler), nil)
	setup, err := r.source.Prepare(r.t.Context())
	if err == nil {
		err = errors.Join(setup.CreateSlot(r.t.Context()), setup.Close())
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.start()
}

// start connects; the test's end stops the stream.
func (r *rig) start() {
	r.t.Helper()
	if _, err := r.source.Start(r.t.Context(), func() {}); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.ended = make(chan error, 1)
	go func() { r.ended <- r.source.Run(ctx) }() // ends with ctx
	r.t.Cleanup(func() {
		cancel()
		select {
		case err := <-r.ended:
			if err != nil && !r.t.Failed() {
				r.t.Errorf("the stream ended with %v", err)
			}
		case <-time.After(patience):
			r.t.Error("the stream does not end")
		}
		r.source.Close()
	})
}

// marker is the prefix of the logical message that ends a reading.
const marker = "oracle"

// read returns the records of all that was committed since the last reading.
func (r *rig) read() []record {
	r.t.Helper()
	all, err := r.tryRead()
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// tryRead is read where a value may be one that cannot be written: the records before it, and the error.
func (r *rig) tryRead() ([]record, error) {
	r.t.Helper()
	r.exec("SELECT pg_logical_emit_message(true, '" + marker + "', '')")
	ctx, cancel := context.WithTimeoutCause(r.t.Context(), patience, errors.New("what was committed does not arrive"))
	defer cancel()
	go func() { // ends with the reading
		select {
		case err := <-r.ended:
			r.ended <- err
			cancel()
		case <-ctx.Done():
		}
	}()
	var all []record
	for {
		ev, err := r.source.Next(ctx, func() {})
		if err != nil {
			select {
			case ended := <-r.ended:
				r.ended <- nil
				return all, ended
			default:
			}
			return all, errors.Join(err, context.Cause(ctx))
		}
		switch ev := ev.(type) {
		case *event.Change:
			if all, err = r.encode(all, ev); err != nil {
				return all, err
			}
		case *event.Truncate:
			plan, err := r.plan(ev.Table)
			if err != nil {
				return all, err
			}
			form := plan.Truncate(0)
			all = append(all, newRecord(r.t, r.encoder.AppendTruncateKey(nil, plan), r.encoder.AppendTruncateValue(nil, ev, form), form))
		case *event.Message:
			return all, nil
		case *event.Begin, *event.Commit, *event.Progress:
		}
	}
}

// encode makes a change's records as the sink does.
func (r *rig) encode(all []record, ch *event.Change) ([]record, error) {
	plan, err := r.plan(ch.Table)
	if err != nil {
		return all, err
	}
	for _, form := range plan.Records(ch) {
		key, err := r.encoder.AppendKey(nil, plan, ch, form)
		if err != nil {
			return all, err
		}
		value, err := r.encoder.AppendValue(nil, plan, ch, form)
		if err != nil {
			return all, err
		}
		all = append(all, newRecord(r.t, key, value, form))
	}
	return all, nil
}

func (r *rig) plan(t *event.Table) (*encode.Plan, error) {
	if r.plans[t] == nil {
		plan, err := encode.NewPlan(t, nil, r.options)
		if err != nil {
			return nil, err
		}
		r.plans[t] = plan
	}
	return r.plans[t], nil
}

// query returns what asks the oracle for the rows of a table as it is now.
func (r *rig) query(table string) string {
	r.t.Helper()
	return r.text("SELECT oracle.rows(" + quote(table) + "::regclass, '{" + r.generated + "}')")
}

// rows asks the oracle for the rows of a table, by uid, as they are within the transaction at hand.
func (r *rig) rows(table string) map[string]row {
	r.t.Helper()
	return r.after("SELECT", r.query(table))
}

// after runs statements and then what query returned. regclass and its kin are to print the schema, as
// in the stream.
func (r *rig) after(statements, query string) map[string]row {
	r.t.Helper()
	all, _ := r.afterReturning(statements, query)
	return all
}

// afterReturning is after with the first column of what the first statement returns.
func (r *rig) afterReturning(statements, query string) (all map[string]row, returned []string) {
	r.t.Helper()
	results, err := r.conn.PgConn().Exec(context.Background(), statements+"; SET search_path = pg_catalog; "+query+"; SET search_path = public").ReadAll()
	if err != nil {
		r.t.Fatalf("%v: %.2000s", err, statements)
	}
	for _, fields := range results[0].Rows {
		if len(fields) > 0 {
			returned = append(returned, string(fields[0]))
		}
	}
	all = map[string]row{}
	for _, fields := range results[len(results)-2].Rows {
		all[string(fields[0])] = newRow(r.t, fields[1], fields[2])
	}
	return all, returned
}
