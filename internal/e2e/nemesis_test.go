package e2e

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walferry/walferry/internal/cdctest"
	"github.com/walferry/walferry/internal/pgserver"
)

// nemesis does harm to one part of the system, and leaves it in order. All parts are struck while the
// load goes on, and nobody waits for walferry to have come to rest before the next strike.
type nemesis struct {
	name string
	// ends tells that walferry's process ends by it.
	ends bool
	do   func(*soak)
}

// nemeses are all there are. FAULTS that need a configuration of their own have their own tests.
func nemeses() []nemesis {
	all := []nemesis{
		{"kill -9", true, func(s *soak) { s.kill(); s.start() }},
		{"stop and start", true, (*soak).stopAndStart},
		{"frozen and replaced", true, (*soak).replace},
		{"frozen", false, (*soak).freeze},
		{"walsender terminated", false, (*soak).terminateWalsender},
		{"Postgres immediate shutdown", false, func(s *soak) { s.net.pg.Restart(pgserver.Immediate) }},
		{"Postgres kill -9", false, (*soak).killPostgres},
		{"Postgres fast restart", false, func(s *soak) { s.net.pg.Restart(pgserver.Fast) }},
		{"broker kill -9", false, func(s *soak) { s.broker.Kill(); s.broker.Restart() }},
		{"broker restart", false, func(s *soak) { s.broker.Restart() }},
		{"broker frozen", false, (*soak).freezeBroker},
		{"commit answer lost", false, (*soak).loseCommit},
		{"DDL", false, (*soak).ddl},
		{"half-open: Kafka", false, func(s *soak) { s.net.toKafka.Forget(); s.forgot = time.Now() }},
		{"half-open: Postgres", false, func(s *soak) { s.net.toPostgres.Forget() }},
	}
	for _, harm := range harms {
		for _, side := range []string{"Kafka", "Postgres"} {
			all = append(all, nemesis{harm.name + ": " + side, false, func(s *soak) {
				// A start to which a listener says nothing but goodbye takes its settings for wrong.
				s.walsenderNow()
				harm.do(s.rig, s.net.proxy(side))
			}})
		}
	}
	return all
}

// replace freezes walferry for longer than the server waits for it, with a second instance that takes
// over, and wakes it up behind its successor.
func (s *soak) replace() {
	was, zombie := s.walsenderNow(), s.walferry
	s.must(zombie.Pause())
	s.walferry = s.instance()
	s.start()
	s.handedOver(was)
	s.pause(s.between(0, time.Second))
	s.must(zombie.Continue())
	s.settle(zombie)
}

// settle waits until one of the two ends, and has the other one be walferry from now on. The zombie ends
// as a rule: at once, or when it has waited for the slot and seen that another instance writes. One that
// was frozen between taking the slot and claiming the checkpoint claims when it wakes up, and shuts its
// successor out: as safe, because it reads the checkpoint after that.
func (s *soak) settle(zombie *cdctest.Process) {
	loser, winner := zombie, s.walferry
	s.eventually("the zombie or its successor ends", func(context.Context) bool {
		select {
		case <-zombie.Done():
			return true
		case <-s.walferry.Done():
			loser, winner = s.walferry, zombie
			return true
		default:
			return false
		}
	})
	if code := loser.ExitCode(); code != 5 {
		s.t.Fatalf("one of two instances ended with exit code %d, want 5", code)
	}
	if winner == zombie {
		s.t.Log("         the zombie goes on, and its successor does not")
	}
	s.walferry = winner
}

// freeze stops walferry for a while, now and then for longer than the server waits for it.
func (s *soak) freeze() {
	s.must(s.walferry.Pause())
	s.pass(s.between(time.Second, 8*time.Second))
	s.must(s.walferry.Continue())
}

func (s *soak) terminateWalsender() {
	s.eventually("a walsender is terminated", func(ctx context.Context) bool {
		n, err := cdctest.TerminateWalsenders(ctx, s.db.DSN(), s.slot())
		return err == nil && n == 1
	})
}

func (s *soak) killPostgres() {
	s.must(s.net.pg.Kill())
	s.net.pg.Restart(pgserver.Immediate)
}

func (s *soak) freezeBroker() {
	s.broker.Pause()
	s.pass(s.between(500*time.Millisecond, 4*time.Second))
	s.broker.Continue()
}

// unheard is how long the Kafka client may wait for an answer over a connection that is half-open, before it makes another.
const unheard = 25 * time.Second

// stopAndStart stops walferry in good order. Only where its brokers may not hear it may it leave something to the next start.
func (s *soak) stopAndStart() {
	codes := []int{0}
	if time.Since(s.forgot) < unheard {
		codes = append(codes, 4)
	}
	s.terminate(codes...)
	s.start()
}

func (s *soak) loseCommit() {
	lost := s.net.toKafka.LostCommits()
	s.net.toKafka.LoseCommits(1)
	s.eventually("the answer to a commit is lost", func(context.Context) bool { return s.net.toKafka.LostCommits() > lost })
}

// changes of the tables of the load, which goes on with its columns.
var ddl = []string{
	`ALTER TABLE public.accounts ADD COLUMN IF NOT EXISTS extra text DEFAULT 'given'`,
	`ALTER TABLE public.accounts DROP COLUMN IF EXISTS extra`,
	`ALTER TABLE public.audits ADD COLUMN IF NOT EXISTS extra int DEFAULT 7; UPDATE public.audits SET v = v + 1, extra = 8`,
	`ALTER TABLE public.audits DROP COLUMN IF EXISTS extra`,
	`UPDATE sales."Order Lines" SET v = v + 1; ALTER TABLE sales."Order Lines" ADD COLUMN IF NOT EXISTS "Extra Note" text; UPDATE sales."Order Lines" SET "Extra Note" = 'new'`,
	`ALTER TABLE sales."Order Lines" DROP COLUMN IF EXISTS "Extra Note"`,
	`ALTER TABLE public.journal RENAME COLUMN note TO remark; ALTER TABLE public.journal RENAME COLUMN remark TO note`,
	`ALTER TABLE public.journal ALTER COLUMN id TYPE bigint`,
	`ALTER TABLE public.journal ALTER COLUMN id TYPE int`,
}

// ddl changes a table in a transaction with rows, until it gets the lock.
func (s *soak) ddl() {
	sql := "SET LOCAL lock_timeout = '1s'; " + ddl[s.rng.IntN(len(ddl))]
	s.eventually("a table is changed: "+sql, func(ctx context.Context) bool {
		conn, err := pgx.Connect(ctx, s.db.DSN())
		if err != nil {
			return false
		}
		defer func() { _ = conn.Close(ctx) }()
		_, err = conn.Exec(ctx, sql)
		return err == nil
	})
}

// walsenderNow waits until somebody reads the slot and returns who.
func (s *soak) walsenderNow() (pid int) {
	s.eventually("walferry streams", func(ctx context.Context) bool {
		s.alive()
		var err error
		pid, err = cdctest.Walsender(ctx, s.db.DSN(), s.slot())
		return err == nil && pid != 0
	})
	return pid
}

func (s *soak) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(fmt.Errorf("harm: %w", err))
	}
}
