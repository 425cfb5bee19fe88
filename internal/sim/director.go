package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// deed is one thing that the director can do. It returns at once; what lasts goes on by itself.
type deed struct {
	weight int
	name   string
	do     func(w *world)
}

var deeds = []deed{
	{6, "kill", (*world).kill},
	{2, "stop", (*world).stop},
	{2, "second instance", (*world).second},
	{3, "zombie", (*world).zombie},
	{2, "zombie within a commit", (*world).committing},
	{3, "postgres is not heard", func(w *world) { w.silence(false, true) }},
	{3, "kafka is not heard", func(w *world) { w.silence(true, false) }},
	{3, "cut the connections to postgres", func(w *world) { w.each(func(p *process) { p.postgres.cut() }) }},
	{3, "cut the connections to kafka", func(w *world) { w.each(func(p *process) { p.kafka.cut() }) }},
	{4, "unreliable network", (*world).unreliable},
	{3, "terminate the walsender", func(w *world) { w.postgres.terminate() }},
	{3, "postgres crash", (*world).crashPostgres},
	{2, "postgres restart", (*world).restartPostgres},
	{2, "postgres checkpoint", func(w *world) { w.postgres.persist() }},
	{2, "slow postgres", (*world).slow},
	{3, "leaders move", (*world).moveLeaders},
	{2, "coordinators move", func(w *world) { w.kafka.RehashCoordinators() }},
	{3, "broker away", (*world).brokerAway},
	{8, "lost answer", (*world).loseAnswer},
	{6, "refusal", (*world).refuse},
}

// direct does its deeds until the horizon. All that follows is drawn before the first.
func (w *world) direct() {
	total := 0
	for _, d := range deeds {
		total += d.weight
	}
	type step struct {
		at   time.Duration
		deed deed
	}
	var script []step
	alone := w.rng.IntN(3) == 0 // one fault, again and again; else many, mixed
	for range 1 + w.rng.IntN(9) {
		i, n := 0, w.rng.IntN(total)
		for ; n >= deeds[i].weight; i++ {
			n -= deeds[i].weight
		}
		d := deeds[i]
		if alone && len(script) > 0 {
			d = script[0].deed
		}
		script = append(script, step{time.Duration(w.rng.Int64N(int64(w.horizon))), d})
	}
	slices.SortFunc(script, func(a, b step) int { return int(a.at - b.at) })
	for _, s := range script {
		w.schedule = append(w.schedule, fmt.Sprintf("%s: %s", s.at, s.deed.name))
	}
	began := time.Now()
	for _, s := range script {
		time.Sleep(s.at - time.Since(began))
		w.faults++
		w.trace.log("director: %s", s.deed.name)
		s.deed.do(w)
	}
}

// later does something after a while; the run waits for it.
func (w *world) later(after time.Duration, f func()) {
	w.actions.Go(func() {
		time.Sleep(after)
		f()
	})
}

// upTo draws a time, short ones more often.
func (w *world) upTo(d time.Duration) time.Duration {
	f := w.rng.Float64()
	return time.Duration(f * f * float64(d))
}

// each does something to every process that runs.
func (w *world) each(f func(*process)) {
	for _, s := range w.seats {
		if p := s.sitting(); p != nil {
			f(p)
		}
	}
}

func (s *seat) sitting() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.occupant
}

// some returns a process that runs, nil where there is none.
func (w *world) some() *process {
	first := w.rng.IntN(len(w.seats))
	for i := range w.seats {
		if p := w.seats[(first+i)%len(w.seats)].sitting(); p != nil {
			return p
		}
	}
	return nil
}

// moments are requests to Kafka at which something may happen to who sends them, or to another.
var moments = []kmsg.Key{kmsg.EndTxn, kmsg.EndTxn, kmsg.EndTxn, kmsg.Produce, kmsg.InitProducerID, kmsg.Fetch}

// at does something to a process now, or when it sends a certain request.
func (w *world) at(p *process, do func()) {
	key, after := moments[w.rng.IntN(len(moments))], w.rng.IntN(2) == 0
	if w.rng.IntN(3) == 0 {
		do()
		return
	}
	w.net.set(&trap{key: int16(key), by: p.kafka, after: after, do: do})
}

// kill takes a process's network away for good, and all it was going to do.
func (w *world) kill() {
	p := w.some()
	if p == nil {
		return
	}
	w.crashed()
	w.at(p, func() { w.end(p) })
}

func (w *world) end(p *process) {
	w.trace.log("%s: killed", p.name)
	for _, s := range w.seats {
		s.mu.Lock()
		if s.occupant == p && !p.killed {
			p.killed = true
			p.postgres.kill()
			p.kafka.kill()
			p.cancel()
			close(p.done)
		}
		s.mu.Unlock()
	}
}

// stop asks a process to stop, as SIGTERM does.
func (w *world) stop() {
	if p := w.some(); p != nil {
		p.cancel()
	}
}

// second fills the other seat.
func (w *world) second() {
	s := w.seats[1]
	s.mu.Lock()
	empty := s.empty
	s.mu.Unlock()
	if empty {
		w.crashed()
		s.fill(0)
	}
}

// zombie cuts a process off for longer than every timeout, has another one take over, and lets it come
// back with all that was on its way.
func (w *world) zombie() {
	p := w.some()
	if p == nil {
		return
	}
	w.second()
	w.crashed()
	d := 30*time.Second + w.upTo(150*time.Second)
	by, after, wakes := moments[w.rng.IntN(len(moments))], w.rng.IntN(2) == 0, w.rng.IntN(2) == 0
	w.at(p, func() {
		w.hold(p, d, true, true)
		if wakes { // just when another one takes over
			w.net.set(&trap{key: int16(by), by: p.kafka, other: true, after: after, do: p.kafka.release})
		}
	})
}

// committing cuts a process off just when it has asked for a commit, and lets that request through just
// when another one claims.
func (w *world) committing() {
	p := w.some()
	if p == nil {
		return
	}
	w.second()
	w.crashed()
	d := keepaliveAfter + 15*time.Second + w.upTo(60*time.Second)
	w.net.set(&trap{key: int16(kmsg.EndTxn), by: p.kafka, after: true, do: func() {
		w.hold(p, d, true, true)
		w.net.set(&trap{key: int16(kmsg.InitProducerID), by: p.kafka, other: true, do: p.kafka.release})
	}})
}

// silence lets nothing through between a process and its servers for a while.
func (w *world) silence(kafka, postgres bool) {
	if p := w.some(); p != nil {
		w.crashed() // somebody else may take over meanwhile
		w.hold(p, w.upTo(90*time.Second), kafka, postgres)
	}
}

// keepalive is after how long Postgres gives up a client that is not heard: see noticed in package
// replication.
const keepaliveAfter = 45 * time.Second

func (w *world) hold(p *process, d time.Duration, kafka, postgres bool) {
	w.trace.log("%s: not heard for %s (kafka %t, postgres %t)", p.name, d, kafka, postgres)
	if kafka {
		p.kafka.hold()
		w.later(d, p.kafka.release)
	}
	if postgres {
		p.postgres.hold()
		if d > keepaliveAfter {
			w.later(keepaliveAfter, p.postgres.abandon)
		}
		w.later(d, p.postgres.release)
	}
}

func (w *world) unreliable() {
	w.net.unreliable(w.rng.Float64())
	w.each(func(p *process) { p.postgres.cut(); p.kafka.cut() })
	w.later(w.upTo(20*time.Second), func() { w.net.unreliable(0) })
}

func (w *world) crashPostgres() {
	away := w.upTo(10 * time.Second)
	w.later(0, func() { w.postgres.crash(away) })
}

func (w *world) restartPostgres() {
	away := w.upTo(5 * time.Second)
	w.later(0, func() { w.postgres.restart(away) })
}

func (w *world) slow() {
	w.postgres.lag(w.upTo(2 * time.Second))
	w.later(w.upTo(20*time.Second), func() { w.postgres.lag(0) })
}

func (w *world) moveLeaders() {
	for _, t := range append([]string{checkpointTopic(), messageTopic()}, tableTopics()...) {
		for p := range int32(3) {
			if w.rng.IntN(2) == 0 {
				_ = w.kafka.MoveTopicPartition(t, p, w.rng.Int32N(brokers)) // where it exists
			}
		}
	}
}

func (w *world) brokerAway() {
	addr := brokerAddress(w.rng.IntN(brokers))
	w.trace.log("broker %s is away", addr)
	w.net.absent(addr, true)
	w.later(w.upTo(30*time.Second), func() { w.net.absent(addr, false) })
}

// loseAnswer has the answer to a request be lost, for some requests in a row.
func (w *world) loseAnswer() {
	keys := []kmsg.Key{kmsg.EndTxn, kmsg.EndTxn, kmsg.EndTxn, kmsg.Produce, kmsg.Produce, kmsg.InitProducerID, kmsg.Metadata}
	key := keys[w.rng.IntN(len(keys))]
	for range 1 + w.rng.IntN(3) {
		w.net.lose(loss{int16(key), w.rng.IntN(3) > 0})
	}
}

// refuse has the brokers give an error for some requests.
func (w *world) refuse() {
	r := refusals[w.rng.IntN(len(refusals))]
	f := kfake.Fault{Keys: []kmsg.Key{r.keys[w.rng.IntN(len(r.keys))]}, Err: r.errs[w.rng.IntN(len(r.errs))], Count: 1 + w.rng.IntN(6)}
	w.trace.log("brokers answer %d times %s with %s", f.Count, f.Keys[0].Name(), f.Err.Message)
	h := w.kafka.Fault(f)
	w.later(w.upTo(30*time.Second), h.Remove)
}

// heal ends all faults, and sees to it that somebody runs.
func (w *world) heal() {
	w.net.heal()
	w.postgres.lag(0)
}
