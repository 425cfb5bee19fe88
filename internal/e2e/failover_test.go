package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/internal/cdctest"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/internal/pgserver"
	"github.com/walferry/walferry/internal/pgtest"
)

// standbySlot is the physical slot of the standby.
const standbySlot = "standby"

// pair is a pipeline that is told of a primary and of its standby, in this order.
type pair struct {
	*rig
	primary, standby *pgtest.Server
}

// guard is how a pair is set up against a failover.
type guard int

const (
	unguarded guard = iota
	synced          // the standby synchronizes the slot (17 and later)
	heldBack        // and the primary holds back what the standby does not have yet
)

// newPair starts a primary and a standby. attrs goes to the end of the URL that walferry is given.
func newPair(t *testing.T, delivery string, g guard, attrs string) *pair {
	t.Helper()
	p := &pair{primary: pgtest.Start(t, pgserver.Options{})}
	p.rig = bareRig(t, p.primary, kafkatest.Shared(t))
	p.delivery = delivery
	p.addStandby(g)
	if g == heldBack {
		p.primary.Exec("postgres", "ALTER SYSTEM SET synchronized_standby_slots = '"+standbySlot+"'")
		p.primary.Exec("postgres", "SELECT pg_reload_conf()")
	}
	both := p.primary.Addr() + "," + p.standby.Addr()
	p.from = strings.Replace(p.db.DSN(), p.primary.Addr(), both, 1) + attrs
	p.loadOn = strings.Replace(p.db.DSN(), p.primary.Addr(), both, 1) + "&target_session_attrs=primary"
	p.walferry = p.instance()
	return p
}

func (p *pair) addStandby(g guard) {
	p.t.Helper()
	settings := map[string]string{}
	if g != unguarded {
		settings["sync_replication_slots"] = "on"
	}
	p.standby = p.primary.Standby(standbySlot, settings)
}

// needsSync skips a test where the servers cannot synchronize slots.
func needsSync(t *testing.T) {
	t.Helper()
	if major := pgtest.Shared(t).Major(); major < 17 {
		t.Skipf("Postgres %d does not synchronize slots", major)
	}
}

// wholeMatrix skips a test that is not run every day; see make failover.
func wholeMatrix(t *testing.T) {
	t.Helper()
	if os.Getenv("WALFERRY_FAILOVER") == "" {
		t.Skip("WALFERRY_FAILOVER is not set")
	}
}

// ready waits until the standby could take over with the slot. Reading its settings wakes the worker
// that synchronizes slots, which otherwise sleeps up to half a minute; and a slot under load becomes a lasting
// one when it has moved past a list of the running transactions, which is logged every 15 s.
func (p *pair) ready() {
	p.t.Helper()
	p.eventually("the slot is synchronized", func(context.Context) bool {
		ask[string](p.primary, "SELECT pg_log_standby_snapshot()::text")
		return ask[bool](p.standby, "SELECT pg_reload_conf() AND EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '"+p.slot()+
			"' AND synced AND NOT temporary AND invalidation_reason IS NULL)")
	})
}

// is waits until a condition holds on a server.
func (p *pair) is(s *pgtest.Server, what, condition string) {
	p.t.Helper()
	p.eventually(what, func(context.Context) bool { return ask[bool](s, condition) })
}

// ask returns the one value of a query in the database that every server has.
func ask[T any](s *pgtest.Server, sql string) T {
	return pgtest.Value[T](&pgtest.DB{Server: s, Name: "postgres"}, sql)
}

// lag has the standby stop following, and returns how far it got.
func (p *pair) lag() string {
	p.t.Helper()
	p.standby.Exec("postgres", "ALTER SYSTEM SET primary_conninfo = ''")
	p.standby.Exec("postgres", "SELECT pg_reload_conf()")
	p.is(p.standby, "the standby follows no more", "SELECT count(*) = 0 FROM pg_stat_wal_receiver")
	return ask[string](p.standby, "SELECT pg_last_wal_receive_lsn()::text")
}

// promote has the standby take over, and returns where the primary's timeline ended.
func (p *pair) promote() (switchPoint string) {
	p.t.Helper()
	if err := p.standby.Promote(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	p.db = &pgtest.DB{Server: p.standby, Name: p.db.Name}
	history := ask[string](p.standby, "SELECT pg_read_file('pg_wal/00000002.history')")
	fields := strings.Fields(history)
	if len(fields) < 2 {
		p.t.Fatalf("history %q", history)
	}
	return fields[1]
}

// crash takes the primary away as a power cut would.
func (p *pair) crash() {
	p.t.Helper()
	if err := p.primary.Kill(); err != nil {
		p.t.Fatal(err)
	}
}

// shutDown takes the primary away in order: the standby gets everything there was.
func (p *pair) shutDown() {
	p.t.Helper()
	if err := p.primary.Stop(p.t.Context(), pgserver.Fast); err != nil {
		p.t.Fatal(err)
	}
}

// refused waits until walferry has ended with exit code 3, and wants the words in its output behind from.
func (p *pair) refused(from int, words ...string) {
	p.t.Helper()
	p.eventually("walferry stops", func(context.Context) bool {
		select {
		case <-p.walferry.Done():
			return true
		default:
			return false
		}
	})
	said := p.walferry.Output()[from:]
	if code := p.walferry.ExitCode(); code != 3 {
		p.t.Errorf("exit code %d, want 3", code)
	}
	for _, w := range words {
		if !strings.Contains(said, w) {
			p.t.Errorf("walferry did not say %q", w)
		}
	}
	lines := strings.Split(strings.TrimSpace(said), "\n")
	p.t.Logf("walferry said: %s", strings.Join(lines[max(0, len(lines)-3):], "\n"))
}

// refusedAgain starts walferry once more and wants the same of it.
func (p *pair) refusedAgain(words ...string) {
	p.t.Helper()
	from := len(p.walferry.Output())
	p.start()
	p.refused(from, words...)
}

// TestFault09_FailoverToASyncedSlot kills the primary under load and promotes a standby that has the slot:
// nothing of what the new primary kept is lost or repeated, and nothing is published that it did not keep.
func TestFault09_FailoverToASyncedSlot(t *testing.T) {
	needsSync(t)
	t.Parallel()
	p := newPair(t, exactlyOnce, heldBack, "&target_session_attrs=primary")
	p.started()
	p.load()
	p.ready()
	p.pass(time.Second)
	p.crash()
	at := p.promote()
	p.streaming()
	p.pass(time.Second)
	p.verify(false)
	t.Logf("the timeline ended at %s", at)
}

// TestFault10_FailoverToALaggingStandby promotes a standby that lacks what was published: the running
// process stops, and so does a new one; both name the switch point. Where the slot came along, it can be told
// to go on from there.
func TestFault10_FailoverToALaggingStandby(t *testing.T) {
	wholeMatrix(t)
	t.Parallel()
	g := unguarded
	if pgtest.Shared(t).Major() >= 17 {
		g = synced
	}
	p := newPair(t, exactlyOnce, g, "&target_session_attrs=read-write")
	p.started()
	p.load()
	if g == synced {
		p.ready()
	}
	p.confirmedPast(p.lag())
	p.crash()
	at := p.promote()
	p.refused(0, "stream_diverged", "ends at "+at)
	p.refusedAgain("checkpoint_timeline", "timeline 1 ended at "+at)
	p.stopLoad()
	if g != synced {
		return
	}
	set := p.process("checkpoint", "set", "--lsn", at, "--yes", "--name", p.name, "--from", p.from, "--to", p.to, "--tables", cdctest.Tables, "--delivery", p.delivery)
	p.startProcess(set)
	<-set.Done()
	if code := set.ExitCode(); code != 0 {
		t.Fatalf("exit code %d: %s", code, set.Output())
	}
	p.started()
}

// confirmedPast waits until more is published than the standby has.
func (p *pair) confirmedPast(lsn string) {
	p.t.Helper()
	p.is(p.primary, "more is confirmed than the standby has",
		"SELECT confirmed_flush_lsn > '"+lsn+"' FROM pg_replication_slots WHERE slot_name = '"+p.slot()+"'")
}

// TestFault10_FailoverWhileStopped is the same for a walferry that was stopped meanwhile.
func TestFault10_FailoverWhileStopped(t *testing.T) {
	wholeMatrix(t)
	t.Parallel()
	p := newPair(t, atLeastOnce, unguarded, "")
	p.started()
	p.load()
	p.confirmedPast(p.lag())
	p.stopLoad()
	p.terminate(0)
	p.crash()
	at := p.promote()
	p.refusedAgain("checkpoint_timeline", "timeline 1 ended at "+at)
}

// TestFault11_FailoverWithoutTheSlot promotes a standby that has everything but the slot.
func TestFault11_FailoverWithoutTheSlot(t *testing.T) {
	wholeMatrix(t)
	t.Parallel()
	p := newPair(t, exactlyOnce, unguarded, "&target_session_attrs=primary")
	p.started()
	p.under(time.Second)
	p.shutDown()
	at := p.promote()
	p.refused(0, "slot_missing", "promoted", at)
	p.refusedAgain("slot_missing", "promoted", at)
	if n := ask[int](p.standby, "SELECT count(*) FROM pg_replication_slots WHERE slot_type = 'logical'"); n != 0 {
		t.Errorf("%d slots were made on the new primary", n)
	}
}

// TestFault11_FailoverBeforeTheSlotIsSynced promotes a standby on which the slot is still a temporary one:
// the promotion drops it.
func TestFault11_FailoverBeforeTheSlotIsSynced(t *testing.T) {
	wholeMatrix(t)
	needsSync(t)
	t.Parallel()
	p := newPair(t, exactlyOnce, unguarded, "")
	p.started()
	p.under(500 * time.Millisecond)
	if err := p.walferry.Pause(); err != nil { // so that the slot does not move any more
		t.Fatal(err)
	}
	p.under(500 * time.Millisecond)
	p.standby.Exec("postgres", "ALTER SYSTEM SET sync_replication_slots = on")
	p.standby.Exec("postgres", "SELECT pg_reload_conf()")
	p.is(p.standby, "the slot is a temporary one", "SELECT count(*) = 1 FROM pg_replication_slots WHERE synced AND temporary")
	if err := p.primary.Stop(t.Context(), pgserver.Immediate); err != nil {
		t.Fatal(err)
	}
	p.promote()
	if err := p.walferry.Continue(); err != nil {
		t.Fatal(err)
	}
	p.refused(0, "[slot_missing]")
	p.refusedAgain("[slot_missing]", "promoted")
}

// TestFailoverHeldBack lets the standby fall behind where synchronized_standby_slots guards it: walferry
// gets nothing that the standby does not have, and goes on after the promotion.
func TestFailoverHeldBack(t *testing.T) {
	wholeMatrix(t)
	needsSync(t)
	t.Parallel()
	p := newPair(t, exactlyOnce, heldBack, "&target_session_attrs=read-write")
	p.started()
	p.load()
	p.ready()
	p.pass(500 * time.Millisecond)
	has := p.lag()
	p.db.Exec("INSERT INTO public.journal VALUES (1, 0, 'lost')")
	p.pass(time.Second)
	if beyond := ask[bool](p.primary, "SELECT confirmed_flush_lsn > '"+has+"' FROM pg_replication_slots WHERE slot_name = '"+p.slot()+"'"); beyond {
		t.Errorf("more was confirmed than the standby has, which is %s", has)
	}
	p.crash()
	p.promote()
	p.streaming()
	if n := pgtest.Value[int](p.db, "SELECT count(*) FROM public.journal WHERE note = 'lost'"); n != 0 {
		t.Fatal("the standby has what was to be lost")
	}
	p.pass(time.Second)
	p.verify(false)
}

// TestFailoverFormerPrimaryComesBack: the former primary is started again, as a primary, and stands first
// in the URL. A running walferry passes it over, also while the new primary is away; one that starts
// refuses it.
func TestFailoverFormerPrimaryComesBack(t *testing.T) {
	wholeMatrix(t)
	needsSync(t)
	t.Parallel()
	p := newPair(t, exactlyOnce, heldBack, "")
	former := p.db
	p.started()
	p.load()
	p.ready()
	p.pass(500 * time.Millisecond)
	p.stopLoad()
	p.shutDown()
	p.promote()
	p.loadOn = p.db.DSN()
	p.streaming()
	if err := p.primary.Server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	former.Exec("INSERT INTO public.journal VALUES (1, 0, 'of the former primary')")
	p.load()
	for range 2 {
		p.pass(500 * time.Millisecond)
		if n, err := cdctest.TerminateWalsenders(t.Context(), p.db.DSN(), p.slot()); err != nil || n != 1 {
			t.Fatalf("%d walsenders terminated, %v", n, err)
		}
		p.streaming()
	}
	// Without load: a fast shutdown of Postgres waits for ever for a walsender that has read a part of a record
	// whose rest was not flushed.
	p.stopLoad()
	if err := p.standby.Stop(t.Context(), pgserver.Fast); err != nil {
		t.Fatal(err)
	}
	p.pass(time.Second) // the former primary alone answers
	if err := p.standby.Server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.streaming()
	p.under(500 * time.Millisecond)
	p.verify(false)
	p.refusedAgain("checkpoint_timeline", "former primary")
	if pid, err := cdctest.Walsender(t.Context(), former.DSN(), p.slot()); err != nil || pid != 0 {
		t.Errorf("walsender %d of the former primary was used, %v", pid, err)
	}
}

// TestStandbyIsNotRead: a standby alone is waited for, not read: it may be promoted any moment.
func TestStandbyIsNotRead(t *testing.T) {
	wholeMatrix(t)
	t.Parallel()
	p := newPair(t, exactlyOnce, unguarded, "")
	p.from = (&pgtest.DB{Server: p.standby, Name: p.db.Name}).DSN()
	p.walferry = p.instance()
	p.start()
	p.said(p.walferry, "this server is a standby")
	p.shutDown()
	p.promote()
	p.streaming()
	p.loadOn = p.db.DSN()
	p.under(500 * time.Millisecond)
	p.verify(false)
	if n := ask[string](p.standby, fmt.Sprintf("SELECT string_agg(slot_name, ' ') FROM pg_replication_slots WHERE slot_name = '%s'", p.slot())); n != p.slot() {
		t.Errorf("slots %q", n)
	}
}
