package e2e

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/internal/cdctest"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/internal/pgserver"
	"github.com/walferry/walferry/internal/pgtest"
)

// TestFault03_StopAndGoOn stops walferry in order under load, twice: nothing is lost and nothing repeated.
func TestFault03_StopAndGoOn(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d string) {
		r := newRig(t, pgtest.Shared(t), kafkatest.Shared(t), d)
		r.started()
		r.load()
		for range 2 {
			r.pass(1500 * time.Millisecond)
			r.terminate(0)
			r.started()
		}
		r.pass(time.Second)
		r.verify(false)
	})
}

// TestFault02_KilledWhileStarting kills the first starts at random moments, between any two steps of
// making publication, topics, checkpoint and slot; a later start goes on from there.
func TestFault02_KilledWhileStarting(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d string) {
		r := newRig(t, pgtest.Shared(t), kafkatest.Shared(t), d)
		for range kills(t) {
			r.start()
			r.pass(r.between(0, 700*time.Millisecond))
			r.kill()
		}
		r.started()
		r.under(time.Second)
		r.verify(true)
	})
}

// TestFault01_Kill9 kills walferry at random moments under load.
func TestFault01_Kill9(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, d string) {
		r := newRig(t, pgtest.Shared(t), kafkatest.Shared(t), d)
		r.started()
		r.load()
		for range kills(t) {
			r.pass(r.between(100*time.Millisecond, 1600*time.Millisecond))
			r.kill()
			r.start()
		}
		r.verify(true)
	})
}

func kills(t *testing.T) int {
	t.Helper()
	env := os.Getenv("WALFERRY_KILLS")
	if env == "" {
		return 5
	}
	n, err := strconv.Atoi(env)
	if err != nil {
		t.Fatalf("WALFERRY_KILLS: %v", err)
	}
	return n
}

// TestFault06_WalsenderTerminated takes the connection away under load: the process knows what it has
// written, so it repeats nothing.
func TestFault06_WalsenderTerminated(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d string) {
		r := newRig(t, pgtest.Shared(t), kafkatest.Shared(t), d)
		r.started()
		r.load()
		for range 4 {
			r.pass(400 * time.Millisecond)
			r.streaming()
			if n, err := cdctest.TerminateWalsenders(t.Context(), r.db.DSN(), r.slot()); err != nil || n != 1 {
				t.Fatalf("%d walsenders terminated, %v", n, err)
			}
		}
		r.verify(false)
	})
}

// TestFault07_PostgresCrash takes Postgres away in each way under load. After a crash the slot is at an
// older position and the server sends again what was acknowledged; the process drops it.
func TestFault07_PostgresCrash(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d string) {
		pg := pgtest.Start(t, pgserver.Options{})
		r := newRig(t, pg, kafkatest.Shared(t), d)
		r.started()
		r.load()
		r.pass(time.Second)
		pg.Restart(pgserver.Immediate)
		r.pass(2 * time.Second)
		if err := pg.Kill(); err != nil {
			t.Fatal(err)
		}
		pg.Restart(pgserver.Immediate)
		r.pass(2 * time.Second)
		pg.Restart(pgserver.Fast)
		r.pass(time.Second)
		r.verify(false)
	})
}

// TestFault38_BrokerRestart stops and kills the broker under load. The producer is idempotent: what it
// sends again is written once.
func TestFault38_BrokerRestart(t *testing.T) {
	each(t, func(t *testing.T, d string) {
		broker := harmed(t)
		r := newRig(t, pgtest.Shared(t), broker, d)
		r.started()
		r.load()
		r.pass(time.Second)
		broker.Restart()
		r.pass(time.Second)
		broker.Kill()
		broker.Restart()
		r.pass(time.Second)
		broker.Pause()
		r.pass(2 * time.Second)
		broker.Continue()
		r.verify(false)
	})
}

// TestFault08_PostgresStopsFastWhileKafkaIsAway: a client that holds acknowledgements back must not hold
// up a fast shutdown of the server.
func TestFault08_PostgresStopsFastWhileKafkaIsAway(t *testing.T) {
	each(t, func(t *testing.T, d string) {
		pg := pgtest.Start(t, pgserver.Options{})
		broker := harmed(t)
		r := newRig(t, pg, broker, d)
		r.started()
		r.under(500 * time.Millisecond)
		broker.Pause()
		r.under(time.Second)
		began := time.Now()
		if err := pg.Stop(t.Context(), pgserver.Fast); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("a fast shutdown took %s", took)
		}
		pg.Restart(pgserver.Fast)
		broker.Continue()
		r.verify(false)
	})
}

// TestTerminatedWhileKafkaIsAway: what could not be delivered is said, by the exit code too, and
// delivered by the next run.
func TestTerminatedWhileKafkaIsAway(t *testing.T) {
	each(t, func(t *testing.T, d string) {
		broker := harmed(t)
		r := newRig(t, pgtest.Shared(t), broker, d)
		r.started()
		r.under(500 * time.Millisecond)
		broker.Pause()
		r.under(500 * time.Millisecond)
		r.terminate(4)
		if out := r.walferry.Output(); !strings.Contains(out, "sent again") || !strings.Contains(out, "[undelivered]") {
			t.Errorf("no word of what will be sent again")
		}
		broker.Continue()
		r.started()
		r.verify(true)
	})
}
