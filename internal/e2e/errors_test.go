package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/internal/pgtest"
)

// Each of these leads a pipeline to an error that no test of a single room brings about on real servers.
// provoked_test.go at the root of the tree says which test provokes which code.

// rewrite replaces a text in the pipeline's file, which must be there.
func (o *operated) rewrite(from, to string) {
	o.t.Helper()
	text, err := os.ReadFile(o.file)
	if err != nil {
		o.t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(from)) {
		o.t.Fatalf("%s lacks %s", o.file, from)
	}
	if err := os.WriteFile(o.file, bytes.ReplaceAll(text, []byte(from), []byte(to)), 0o600); err != nil {
		o.t.Fatal(err)
	}
}

// ends waits until walferry has ended, and wants the exit code, the error code, and where to read more.
func (o *operated) ends(exit int, code string) {
	o.t.Helper()
	o.eventually("walferry ends", func(context.Context) bool {
		select {
		case <-o.walferry.Done():
			return true
		default:
			return false
		}
	})
	out := o.walferry.Output()
	if got := o.walferry.ExitCode(); got != exit {
		o.t.Errorf("exit code %d, want %d", got, exit)
	}
	for _, says := range []string{"[" + code + "]", "More: walferry explain " + code} {
		if !strings.Contains(out, says) {
			o.t.Errorf("walferry does not say %q:\n%s", says, out)
		}
	}
}

// TestErrorValueInvalid stores bytes that are no UTF-8 in a database that says it is UTF-8, as an old restore
// or a faulty extension leaves them behind: the server sends them as they are.
func TestErrorValueInvalid(t *testing.T) {
	long(t)
	t.Parallel()
	o := newOperated(t, exactlyOnce, "kafka")
	encoding := func(name string) {
		o.db.Exec("UPDATE pg_database SET encoding = pg_char_to_encoding($1) WHERE datname = current_database()", name)
	}
	encoding("SQL_ASCII")
	o.db.Exec(`INSERT INTO marks (note) VALUES (convert_from('\xe963616e617279', 'SQL_ASCII'))`)
	encoding("UTF8")
	o.ends(4, "value_invalid")
	if out := o.walferry.Output(); strings.Contains(out, "canary") || !strings.Contains(out, `column "note", table public.marks`) {
		t.Errorf("the error must name the column and not the value:\n%s", out)
	}
}

// TestErrorInternal has the database answer with an error of its owner's making, which nobody can know.
func TestErrorInternal(t *testing.T) {
	long(t)
	t.Parallel()
	o := newOperated(t, exactlyOnce, "kafka")
	o.terminate(0)
	o.done("drop")
	o.db.Exec(`CREATE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not here' USING ERRCODE = 'ZX001'; END $$;
		CREATE EVENT TRIGGER forbid ON ddl_command_start WHEN TAG IN ('CREATE PUBLICATION') EXECUTE FUNCTION forbid()`)
	o.start()
	o.ends(70, "internal")
}

// TestErrorKafkaUnsupported finds brokers that are too old, and something that is no broker.
func TestErrorKafkaUnsupported(t *testing.T) {
	long(t)
	t.Parallel()
	o := newOperated(t, exactlyOnce, "kafka")
	o.terminate(0)
	old := kafkatest.StartFake(t, kfake.MaxVersions(kversion.V0_10_0())).ListenAddrs()[0]
	o.rewrite(o.broker.Addr(), old)
	o.start()
	o.ends(3, "kafka_unsupported")

	mail, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mail.Close() })
	go func() { // ends with the listener
		for {
			conn, err := mail.Accept()
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			_, _ = conn.Write([]byte("220 mail.example ESMTP\r\n"))
		}
	}()
	o.rewrite(old, mail.Addr().String())
	o.refused("run", "kafka_unsupported")
}

// TestErrorCheckpointOrigin gives a pipeline another slot under the checkpoint of the first, and another
// database that has a slot of the same name.
func TestErrorCheckpointOrigin(t *testing.T) {
	long(t)
	t.Parallel()
	o := newOperated(t, atLeastOnce, "kafka")
	o.terminate(0)
	o.rewrite("tables: [public.marks]", "tables: [public.marks], slot: {name: "+o.name+"}")
	o.start()
	o.ends(3, "checkpoint_origin")

	other := pgtest.Shared(t).Database()
	other.Exec("CREATE TABLE marks (id bigint PRIMARY KEY, note text)")
	o.rewrite(", slot: {name: "+o.name+"}", "")
	o.rewrite(fmt.Sprintf("%q", o.db.DSN()), fmt.Sprintf("%q", other.DSN()))
	o.refused("run", "checkpoint_origin")
}

// TestErrorCheckpointOptions kills walferry within a transaction that is split, and publishes something
// else before the next start: the places within the transaction would be others.
func TestErrorCheckpointOptions(t *testing.T) {
	long(t)
	t.Parallel()
	o := newOperated(t, exactlyOnce, "kafka")
	o.terminate(0)
	o.rewrite("http:", "transactions: {max_rows: 50}\nhttp:")
	o.started()
	o.db.Exec("INSERT INTO marks (note) SELECT 'many' FROM generate_series(1, 30000)")
	o.eventually("a part of the transaction is visible", func(context.Context) bool { return o.showsAny().Checkpoint.Split > 0 })
	o.kill()
	o.db.Exec("CREATE TABLE more (id int PRIMARY KEY); ALTER PUBLICATION " + o.slot() + " ADD TABLE more")
	o.start()
	o.ends(3, "checkpoint_options")
}
