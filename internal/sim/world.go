package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/walferry/walferry/fault"
)

// Instance is what one process of the pipeline is given.
type Instance struct {
	ExactlyOnce bool
	// MaxRows and MaxOpen are transactions.max_rows and transactions.max_open.
	MaxRows int64
	MaxOpen time.Duration
	// Prefix is of the logical messages that are to be published.
	Prefix string
	// PostgresURL, Brokers and Tables are the settings that say where from, where to and what.
	PostgresURL, Brokers, Tables string
	// DialPostgres and DialKafka are the only way out of the process.
	DialPostgres, DialKafka func(ctx context.Context, network, address string) (net.Conn, error)
	// Log takes what the instance logs.
	Log interface {
		Write(line []byte) (int, error)
	}
}

// Start runs one instance until ctx ends or it cannot go on.
type Start func(ctx context.Context, i Instance) error

// Delivery says what the instances of a run are told to promise.
type Delivery int

// The deliveries of a run. In a Mixed one each process is told another.
const (
	ExactlyOnce Delivery = iota
	AtLeastOnce
	Mixed
)

func (d Delivery) String() string {
	return [...]string{"exactly_once", "at_least_once", "mixed"}[d]
}

// world is one run.
type world struct {
	seed     uint64
	delivery Delivery
	start    Start
	trace    *trace
	net      *network
	postgres *postgres
	kafka    *kfake.Cluster
	rng      *rand.Rand // the director's
	maxRows  int64
	maxOpen  time.Duration
	horizon  time.Duration

	seats  []*seat
	faults int
	// schedule is what the director is going to do.
	schedule []string
	actions  sync.WaitGroup // that go on by themselves

	mu       sync.Mutex // guards what follows
	crashes  int        // what may make at_least_once repeat
	failures []string
	started  int
}

// seat is where an instance runs, and another one after it has ended: what a supervisor does.
type seat struct {
	w    *world
	name string

	mu       sync.Mutex // guards what follows
	empty    bool       // nobody is to sit here
	occupant *process
	rng      *rand.Rand
	wg       sync.WaitGroup
}

// process is one instance while it runs.
type process struct {
	name            string
	postgres, kafka *link
	cancel          context.CancelFunc
	done            chan struct{}
	killed          bool
}

// Run lives through one seed, and judges what it left. It must be called in a bubble of testing/synctest.
func Run(ctx context.Context, seed uint64, d Delivery, start Start) Verdict {
	t := newTrace()
	w := &world{seed: seed, delivery: d, start: start, trace: t, net: newNetwork(seed, t), postgres: newPostgres(seed, t), rng: rng(seed, "director")}
	w.maxRows = []int64{20, 100, 1_000_000}[w.rng.IntN(3)]
	w.maxOpen = []time.Duration{2 * time.Second, 20 * time.Second}[w.rng.IntN(2)]
	w.horizon = time.Duration(15+w.rng.IntN(45)) * time.Second
	t.log("seed %d, %s, Postgres %d, max_rows %d, max_open %s", seed, d, w.postgres.version, w.maxRows, w.maxOpen)
	v := Verdict{Seed: seed, Delivery: d}
	if err := w.live(ctx, &v); err != nil {
		w.failed("the simulation itself: %v", err)
	}
	time.Sleep(time.Minute) // for what ends by itself, such as connections that are hung up in order
	v.Failures = append(w.failures, w.postgres.faults...)
	v.Trace, v.Hash, v.Schedule = t.String(), t.hash(), w.schedule
	v.Faults, v.Instances, v.Took = w.faults, w.started, time.Since(t.began)
	return v
}

func (w *world) live(ctx context.Context, v *Verdict) error {
	var err error
	if w.kafka, err = startKafka(w.net, 1+w.rng.IntN(3)); err != nil {
		return fmt.Errorf("start the brokers: %w", err)
	}
	defer w.kafka.Close()
	l, err := w.net.listen(postgresAddress)
	if err != nil {
		return err
	}
	w.postgres.listener = l
	defer w.postgres.close()
	go w.postgres.serve(l) // ends with the listener

	w.seats = []*seat{{w: w, name: "a", rng: rng(w.seed, "seat a")}, {w: w, name: "b", rng: rng(w.seed, "seat b"), empty: true}}
	w.seats[0].fill(0)
	var load sync.WaitGroup
	load.Go(w.load)
	w.direct()
	load.Wait()
	w.heal()
	w.actions.Wait()
	w.trace.log("all is well from here on")
	defer func() {
		for _, s := range w.seats {
			s.wg.Wait()
		}
	}()
	return w.judge(ctx, v)
}

// close ends the server.
func (p *postgres) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	all := p.sessions
	p.state = stopped
	p.mu.Unlock()
	for _, s := range all {
		s.end()
	}
}

// load writes transactions until the horizon: mostly small ones, sometimes many in a row, and one now and
// then that is larger than a transaction of Kafka may be.
func (w *world) load() {
	r := rng(w.seed, "load")
	for began := time.Now(); time.Since(began) < w.horizon; {
		burst := 1
		if r.IntN(12) == 0 {
			burst = 1 + r.IntN(20)
		}
		var sizes []int
		for range burst {
			n := 1 + r.IntN(3)
			switch r.IntN(40) {
			case 0:
				n = 60 + r.IntN(200)
			case 1, 2, 3:
				n = 5 + r.IntN(30)
			case 4:
				n = 0
			}
			sizes = append(sizes, n)
		}
		w.postgres.wal.append(sizes...)
		time.Sleep(time.Duration(20+r.IntN(800)) * time.Millisecond)
	}
}

// fill starts an instance after a while, and another one whenever it has ended, until the seat is vacated.
func (s *seat) fill(after time.Duration) {
	s.mu.Lock()
	s.empty = false
	s.mu.Unlock()
	s.wg.Go(func() {
		time.Sleep(after)
		for s.sit() {
			s.mu.Lock()
			pause := time.Duration(s.rng.IntN(3000)) * time.Millisecond
			s.mu.Unlock()
			time.Sleep(pause)
		}
	})
}

// sit runs one instance to its end, and returns whether another one is to follow.
func (s *seat) sit() bool {
	w := s.w
	w.mu.Lock()
	w.started++
	n := w.started
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	name := fmt.Sprintf("%s%d", s.name, n)
	p := &process{name: name, postgres: w.net.link(name + "-postgres"), kafka: w.net.link(name + "-kafka"), cancel: cancel, done: make(chan struct{})}
	s.mu.Lock()
	if s.empty {
		s.mu.Unlock()
		return false
	}
	s.occupant = p
	exactly := w.delivery == ExactlyOnce || w.delivery == Mixed && s.rng.IntN(2) == 0
	s.mu.Unlock()
	w.trace.log("%s: starts, exactly once: %t", name, exactly)
	exited := make(chan error, 1)
	go func() { // ends by itself after cancel, whatever its network does
		exited <- w.start(ctx, Instance{
			ExactlyOnce: exactly, MaxRows: w.maxRows, MaxOpen: w.maxOpen, Prefix: prefix,
			PostgresURL: "postgres://cdc@" + postgresAddress + "/" + database + "?sslmode=disable", Brokers: brokerAddress(0) + "," + brokerAddress(1), Tables: "public.*",
			DialPostgres: p.postgres.dial, DialKafka: p.kafka.dial, Log: named{w.trace, name},
		})
	}()
	var err error
	select {
	case err = <-exited:
	case <-p.done: // killed: what is left of it reaches nobody
		s.wg.Go(func() {
			err := <-exited
			w.trace.log("%s: has given up: %v", name, err)
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.occupant = nil
	w.ended(p, err)
	return !s.empty
}

// ended looks at how an instance ended.
func (w *world) ended(p *process, err error) {
	w.trace.log("%s: ended, killed: %t, error: %v", p.name, p.killed, err)
	if p.killed || err == nil {
		return
	}
	w.crashed()
	switch fault.CodeOf(err) {
	case fault.Fenced, fault.KafkaUnavailable, fault.PostgresUnavailable, fault.Undelivered, fault.SlotBusy:
	default:
		w.failed("%s ended with %v", p.name, err)
	}
}

func (w *world) failed(format string, args ...any) {
	w.trace.log("WRONG: "+format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, fmt.Sprintf(format, args...))
}

func (w *world) crashed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.crashes++
}

// named puts a process's name in front of its lines.
type named struct {
	t    *trace
	name string
}

// Write notes a line.
func (n named) Write(line []byte) (int, error) {
	n.t.log("%s: %s", n.name, string(line[:max(0, len(line)-1)]))
	return len(line), nil
}
