package e2e

import (
	"context"
	"net/url"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/walferry/walferry/internal/faultproxy"
	"github.com/walferry/walferry/internal/kafkaserver"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/internal/pgserver"
	"github.com/walferry/walferry/internal/pgtest"
)

// network is a Postgres and a broker of a test's own, with a proxy in front of each. The load and
// whoever judges go to the servers directly.
type network struct {
	pg                  *pgtest.Server
	broker              *kafkatest.Broker
	toPostgres, toKafka *faultproxy.Proxy
}

// senderTimeout is the server's patience with a walsender that does not answer: until then a slot stays
// taken whose holder is gone without a word.
const senderTimeout = "5s"

func newNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{toPostgres: proxy(t), toKafka: proxy(t)}
	n.broker = kafkatest.Start(t, kafkaserver.Options{Proxy: n.toKafka.Addr(), Settings: map[string]string{"log.segment.bytes": "67108864"}})
	n.pg = pgtest.Start(t, pgserver.Options{Settings: map[string]string{"wal_sender_timeout": senderTimeout}})
	n.toKafka.To(n.broker.ProxiedAddr())
	n.toPostgres.To(n.pg.Addr())
	return n
}

func proxy(t *testing.T) *faultproxy.Proxy {
	t.Helper()
	p, err := faultproxy.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// rig returns a pipeline whose servers are behind the proxies.
func (n *network) rig(t *testing.T, delivery string) *rig {
	t.Helper()
	r := bareRig(t, n.pg, n.broker)
	r.delivery = delivery
	from, err := url.Parse(r.db.DSN())
	if err != nil {
		t.Fatal(err)
	}
	from.Host = n.toPostgres.Addr()
	r.from, r.to = from.String(), n.toKafka.Addr()
	r.walferry = r.instance()
	return r
}

// sides are the two sides of walferry, in an order that the seed decides.
func (r *rig) sides() []string {
	sides := []string{"Postgres", "Kafka"}
	if r.rng.IntN(2) == 0 {
		slices.Reverse(sides)
	}
	return sides
}

func (n *network) proxy(side string) *faultproxy.Proxy {
	if side == "Kafka" {
		return n.toKafka
	}
	return n.toPostgres
}

// long skips a test that needs servers of its own, or in which a timeout must run out, or that is not
// worth its seconds each time.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("WALFERRY_LONG") != "1" {
		t.Skip("set WALFERRY_LONG=1 to run it")
	}
}

// TestFault47_Network does each harm to each side of walferry, one after the other, under load. None
// is a reason to end, and the process knows what it has written, so nothing is repeated.
func TestFault47_Network(t *testing.T) {
	long(t)
	t.Parallel()
	n := newNetwork(t)
	each(t, func(t *testing.T, d string) {
		r := n.rig(t, d)
		r.started()
		r.load()
		for _, name := range r.sides() {
			for _, harm := range harms {
				began := time.Now()
				harm.do(r, n.proxy(name))
				r.caughtUp()
				t.Logf("%s of %s: through after %s", harm.name, name, time.Since(began).Round(time.Millisecond))
			}
		}
		r.verify(false)
	})
}

// harm is something that a network does.
type harm struct {
	name string
	do   func(*rig, *faultproxy.Proxy)
}

// harms are what is done to a connection, and undone where it does not pass by itself.
var harms = []harm{
	{"latency", func(r *rig, p *faultproxy.Proxy) { p.Delay(100 * time.Millisecond); r.pass(2 * time.Second); p.Pass() }},
	{"a slow line", func(r *rig, p *faultproxy.Proxy) { p.Throttle(32 << 10); r.pass(2 * time.Second); p.Pass() }},
	{"a frozen line", func(r *rig, p *faultproxy.Proxy) { p.Freeze(); r.pass(2 * time.Second); p.Pass() }},
	{"a cut", func(r *rig, p *faultproxy.Proxy) { p.Cut(); r.pass(time.Second); p.Pass() }},
	{"resets", func(r *rig, p *faultproxy.Proxy) { p.Reset(); r.pass(300 * time.Millisecond); p.Reset() }},
}

// TestFault47_HalfOpen leaves walferry alone with connections that are dead without a word: it notices
// within 60 s, on either side.
func TestFault47_HalfOpen(t *testing.T) {
	long(t)
	t.Parallel()
	n := newNetwork(t)
	each(t, func(t *testing.T, d string) {
		r := n.rig(t, d)
		r.started()
		r.load()
		for _, name := range r.sides() {
			r.pass(500 * time.Millisecond)
			began := time.Now()
			n.proxy(name).Forget()
			r.caughtUp()
			took := time.Since(began)
			t.Logf("%s: through after %s", name, took.Round(time.Millisecond))
			if took > 75*time.Second {
				t.Errorf("%s: it took %s to notice and to come back", name, took)
			}
		}
		r.verify(false)
	})
}

// TestFault42_CommitAnswerLost has the brokers commit and the answer get lost: what happened is read from
// the checkpoint. Under at_least_once it is the checkpoint's own transaction.
func TestFault42_CommitAnswerLost(t *testing.T) {
	long(t)
	t.Parallel()
	n := newNetwork(t)
	each(t, func(t *testing.T, d string) {
		r := n.rig(t, d)
		r.started()
		r.load()
		for lost := range 8 {
			n.toKafka.LoseCommits(1)
			r.eventually("an answer gets lost", func(context.Context) bool { return n.toKafka.LostCommits() > lost })
			r.pass(r.between(0, 500*time.Millisecond))
		}
		r.verify(false)
	})
}
