package replication

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/faultproxy"
	"github.com/walferry/walferry/internal/pgtest"
)

// forgetful returns a database with a table, a configuration that reaches it through a proxy and has a few
// seconds' patience, and the proxy, which can forget its connections: nothing comes back on them, nor an error.
func forgetful(t *testing.T) (*pgtest.DB, Config, *faultproxy.Proxy) {
	t.Helper()
	t.Parallel()
	db := pgtest.Shared(t).Database()
	db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
	between, err := faultproxy.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = between.Close() })
	between.To(db.Server.Addr())
	c := configOf(db, "public.t")
	c.URL = strings.Replace(db.DSN(), db.Server.Addr(), between.Addr(), 1)
	c.answerIn = 3 * time.Second
	return db, c, between
}

// noAnswer checks that what result brings is worth another attempt, and comes soon.
func noAnswer(t *testing.T, result <-chan error) {
	t.Helper()
	select {
	case err := <-result:
		if !fault.Is(err, fault.PostgresUnavailable) {
			t.Errorf("ended with %v, want postgres_unavailable", err)
		}
		t.Log(err)
	case <-time.After(30 * time.Second):
		t.Fatal("it waits for an answer that does not come")
	}
}

func TestFault47_ForgottenSetup(t *testing.T) {
	db, c, between := forgetful(t)
	other := prepared(t, configOf(db, "public.t"))
	log, result := newLogBuffer(), make(chan error, 1)
	cat := newCatalog(c)
	t.Cleanup(cat.close)
	go func() { // ends with the statement that is not answered
		_, err := prepare(t.Context(), c, cat, log.logger())
		result <- err
	}()
	log.await(t, "another instance of this pipeline is starting")
	between.Forget()
	noAnswer(t, result)
	if err := other.Close(); err != nil {
		t.Error(err)
	}
}

func TestFault47_ForgottenReplicationConnection(t *testing.T) {
	_, c, between := forgetful(t)
	conn, err := c.connect(t.Context(), true, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hangUp(conn) })
	between.Forget()
	result := make(chan error, 1)
	go func() { // ends with the statement that is not answered
		_, err := c.serverState(t.Context(), conn)
		result <- err
	}()
	noAnswer(t, result)
}

// TestFault47_ForgottenWhileCreatingTheSlot: to make a slot may take for ever, and is worth nothing without the
// lock of the set-up.
func TestFault47_ForgottenWhileCreatingTheSlot(t *testing.T) {
	db, c, between := forgetful(t)
	log, result := newLogBuffer(), make(chan error, 1)
	s, err := tryPrepare(t, c, log)
	if err != nil {
		t.Fatal(err)
	}
	s.blockersEvery = 50 * time.Millisecond
	open := db.Conn()
	if _, err := open.Exec(t.Context(), "SET application_name = 'the slow one'; BEGIN; INSERT INTO public.t VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	go func() { result <- s.CreateSlot(t.Context()) }() // ends with the lock of the set-up
	log.await(t, "the slow one")
	between.Forget()
	noAnswer(t, result)
	if _, err := open.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
}

// TestStatementsAreBounded: also the ones of plan, doctor and the commands, which use the same connections.
func TestStatementsAreBounded(t *testing.T) {
	_, c, between := forgetful(t)
	conn, err := c.connectSQL(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hangUp(conn) })
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	between.Forget()
	result := make(chan error, 1)
	go func() { // ends with the statement that is not answered
		_, err := tx.Exec(t.Context(), "CREATE TABLE u (id int)")
		result <- explain("change the database", err)
	}()
	noAnswer(t, result)
	if err := tx.Rollback(context.Background()); err == nil {
		t.Error("a connection that does not answer was used again")
	}
}
