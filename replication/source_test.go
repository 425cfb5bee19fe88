package replication

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/pgserver"
	"github.com/walferry/walferry/internal/pgtest"
)

func TestStartReplicationIsRefusedInWords(t *testing.T) {
	db := pgtest.Shared(t).Database()
	cfg := Config{Pipeline: "refused", URL: db.DSN()}
	for name, c := range map[string]struct {
		command string
		code    fault.Code
	}{
		"no such slot":   {`START_REPLICATION SLOT "nobody" LOGICAL 0/0 (proto_version '1', publication_names '"p"')`, fault.SlotMissing},
		"not a command":  {`START_REPLICATION`, fault.PostgresSettings},
		"not replicated": {`SELECT 1`, fault.StreamInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := cfg.connect(t.Context(), true, nil)
			if err != nil {
				t.Fatal(err)
			}
			raw, _, err := startReplication(t.Context(), conn, c.command)
			if raw != nil || !fault.Is(err, c.code) {
				t.Fatalf("%v, %v, want %s", raw, err, c.code)
			}
		})
	}
}

func TestFault10_GoesOn(t *testing.T) {
	origin := event.Origin{SystemID: "7", Database: "shop", Slot: "walferry_shop"}
	history := []event.Switch{{Timeline: 1, At: 0x1000}, {Timeline: 2, At: 0x3000}}
	was := event.Server{Origin: origin, Timeline: 2, End: 0x2000, Switches: history[:1]}
	for name, c := range map[string]struct {
		now  event.Server
		read event.LSN
		ok   bool
	}{
		"the same server":               {event.Server{Origin: origin, Timeline: 2, End: 0x2100, Switches: history[:1]}, 0x2100, true},
		"an older copy":                 {event.Server{Origin: origin, Timeline: 2, End: 0x2000, Switches: history[:1]}, 0x2100, false},
		"a promotion that lost none":    {event.Server{Origin: origin, Timeline: 3, End: 0x4000, Switches: history}, 0x3000, true},
		"a promotion that lost some":    {event.Server{Origin: origin, Timeline: 3, End: 0x4000, Switches: history}, 0x3001, false},
		"a former primary":              {event.Server{Origin: origin, Timeline: 1, End: 0x4000}, 0x100, false},
		"another branch":                {event.Server{Origin: origin, Timeline: 4, End: 0x4000, Switches: history[:1]}, 0x100, false},
		"another cluster":               {event.Server{Origin: event.Origin{SystemID: "8"}, Timeline: 2, End: 0x4000}, 0x100, false},
		"another, and nothing was read": {event.Server{Origin: event.Origin{SystemID: "8"}, Timeline: 2, End: 0x4000}, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(Config{}, slog.New(slog.DiscardHandler), nil)
			s.server = was
			s.received.Store(uint64(c.read))
			err := s.goesOn(c.now)
			s.received.Store(0) // as on a connection that has named nothing yet
			if again := s.goesOn(c.now); (again == nil) != (err == nil) {
				t.Errorf("the second time: %v, the first: %v", again, err)
			}
			if c.ok && err != nil || !c.ok && !fault.Is(err, fault.StreamDiverged) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestFault10_ALaggingServerTakesOver: the server is replaced by an older copy of itself, a standby
// that is then promoted, while what was read is in no checkpoint yet.
func TestFault10_ALaggingServerTakesOver(t *testing.T) {
	server := pgtest.Start(t, pgserver.Options{Settings: map[string]string{"restore_command": "false"}})
	db := server.Database()
	db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
	c := configOf(db, "public.t")
	setup := prepared(t, c)
	if err := errors.Join(setup.CreateSlot(t.Context()), setup.Close()); err != nil {
		t.Fatal(err)
	}
	data, copied := pgtest.Value[string](db, "SHOW data_directory"), ""
	replace := func(do func()) {
		t.Helper()
		if err := server.Stop(t.Context(), pgserver.Fast); err != nil {
			t.Fatal(err)
		}
		do()
		if err := server.Server.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	replace(func() {
		copied = data + ".copy"
		if out, err := exec.CommandContext(t.Context(), "cp", "-a", data, copied).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	})

	s := New(c, slog.New(slog.DiscardHandler), nil)
	defer s.Close()
	if _, err := s.Start(t.Context(), func() {}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(t.Context()) }() // ends with the server
	db.Exec("INSERT INTO t SELECT generate_series(1, 100)")
	for committed := false; !committed; {
		ev, err := s.Next(t.Context(), func() {})
		if err != nil {
			t.Fatal(err)
		}
		_, committed = ev.(*event.Commit)
	}
	replace(func() {
		if err := errors.Join(os.RemoveAll(data), os.Rename(copied, data)); err != nil {
			t.Fatal(err)
		}
		installFile(t, data, "standby.signal", nil)
	})
	if err := <-ended; !fault.Retryable(err) {
		t.Errorf("the stream of the lost server ended with %v", err)
	}
	if _, err := s.Start(t.Context(), func() {}); !fault.Retryable(err) {
		t.Errorf("before the promotion: got %v", err)
	}
	missing := New(c, slog.New(slog.DiscardHandler), nil)
	missing.cfg.Slot.Name += "_x"
	defer missing.Close()
	if _, err := missing.Start(t.Context(), func() {}); !fault.Retryable(err) {
		t.Errorf("without the slot, before the promotion: got %v", err)
	}
	if !pgtest.Value[bool](db, "SELECT pg_promote()") {
		t.Fatal("the standby was not promoted")
	}
	if _, err := s.Start(t.Context(), func() {}); !fault.Is(err, fault.StreamDiverged) {
		t.Errorf("got %v, want %s", err, fault.StreamDiverged)
	}
}

// TestLimitsOfTheDatabase: time limits that are meant for the application hold for no replication
// connection, neither while a slot waits for a transaction nor while the brokers are slow.
func TestLimitsOfTheDatabase(t *testing.T) {
	db := pgtest.Shared(t).Database()
	db.Exec("CREATE TABLE t (id int PRIMARY KEY, note text)")
	limits := []string{"statement_timeout", "lock_timeout", "idle_session_timeout"}
	if pgtest.Shared(t).Major() >= 17 {
		limits = append(limits, "transaction_timeout")
	}
	for _, name := range limits {
		db.Exec("ALTER DATABASE " + db.Name + " SET " + name + " = '300ms'")
	}
	c := configOf(db, "public.t")
	setup := prepared(t, c)
	const unlimitedTx = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0; INSERT INTO t VALUES (0)"
	open := db.Conn()
	for _, sql := range []string{"SELECT set_config(name, '0', false) FROM pg_settings WHERE name ~ '_timeout$' AND context = 'user'", unlimitedTx} {
		if _, err := open.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	made := make(chan error, 1)
	go func() { made <- setup.CreateSlot(t.Context()) }() // ends with the transaction
	select {
	case err := <-made:
		t.Fatalf("the slot did not wait: %v", err)
	case <-time.After(600 * time.Millisecond): // twice the limit
	}
	if _, err := open.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-made, setup.Close()); err != nil {
		t.Fatal(err)
	}

	// More than the buffers between here and there hold, so that the server waits in mid-transaction.
	if _, err := open.Exec(t.Context(), "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 30000) i"); err != nil {
		t.Fatal(err)
	}
	s := New(c, slog.New(slog.DiscardHandler), nil)
	defer s.Close()
	if _, err := s.Start(t.Context(), func() {}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	streaming, lost := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx); lost() }() // ends with cancel
	for rows := 0; rows < 30000; {
		ev, err := s.Next(streaming, func() {})
		if err != nil {
			t.Fatalf("after %d rows the stream ended: %v", rows, <-ended)
		}
		if _, row := ev.(*event.Change); !row {
			continue
		}
		if rows++; rows == 100 {
			time.Sleep(backPressure())
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// backPressure is how long nothing is taken: three times the limits of the database, or with WALFERRY_LONG
// longer than a kernel lets bytes wait.
func backPressure() time.Duration {
	if os.Getenv("WALFERRY_LONG") == "" {
		return 900 * time.Millisecond
	}
	return unacknowledged * 3 / 2
}

// TestLimitsSQL: a long wal_sender_timeout, or none, is shortened, a short one left alone.
func TestLimitsSQL(t *testing.T) {
	db := pgtest.Shared(t).Database()
	for setting, want := range map[string]string{"5min": "1min", "20s": "20s", "0": "1min"} {
		db.Exec("ALTER DATABASE " + db.Name + " SET wal_sender_timeout = '" + setting + "'")
		conn, err := configOf(db).connect(t.Context(), true, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := simpleQuery(t.Context(), conn, "test", limitsSQL); err != nil {
			t.Fatal(err)
		}
		rows, err := simpleQuery(t.Context(), conn, "test", "SHOW wal_sender_timeout")
		if err != nil {
			t.Fatal(err)
		}
		if got := string(rows[0][0]); got != want {
			t.Errorf("%s became %s, want %s", setting, got, want)
		}
		if err := hangUp(conn); err != nil {
			t.Error(err)
		}
	}
}
