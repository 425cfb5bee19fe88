// Package kafkatest gives tests a broker and throws it away afterwards: a real Apache Kafka
// (internal/kafkaserver), or kfake within the process.
//
// A real broker takes some seconds to start, so a package whose tests do not restart theirs shares
// one:
//
//	func TestMain(m *testing.M) { os.Exit(kafkatest.Main(m.Run)) }
//
//	func TestSomething(t *testing.T) {
//		broker := kafkatest.Shared(t)
//		topic := broker.Topic("orders", 3)
//	}
//
// Where the machine has no Java, tests of the real broker skip and say so; with
// WALFERRY_REQUIRE_KAFKA=1 they fail. kfake is for faults: what it proves of delivery counts only
// once a real broker has shown it too.
package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/walferry/walferry/internal/kafkaserver"
)

// startTimeout holds for the slowest start: fetching the jars on a busy machine. stopTimeout is
// ample for a broker with a few topics.
const (
	startTimeout = 3 * time.Minute
	stopTimeout  = 30 * time.Second
)

// Broker is a real broker that belongs to one test, or the view that one test has of a shared one.
type Broker struct {
	*kafkaserver.Server
	tb testing.TB
}

// Start starts a broker for this test alone and removes it with the test.
func Start(tb testing.TB, o kafkaserver.Options) *Broker {
	tb.Helper()
	s := start(tb, o)
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("end of the log of kafka:\n%s", s.LogTail())
		}
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return &Broker{Server: s, tb: tb}
}

func start(tb testing.TB, o kafkaserver.Options) *kafkaserver.Server {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	s, err := kafkaserver.Start(ctx, o)
	switch {
	case err == nil:
		return s
	case errors.Is(err, kafkaserver.ErrMissing) && os.Getenv("WALFERRY_REQUIRE_KAFKA") != "1":
		tb.Skipf("needs a real Kafka broker: %v (WALFERRY_REQUIRE_KAFKA=1 makes this a failure)", err)
	default:
		tb.Fatal(err)
	}
	return nil
}

// shared is the broker of this test binary that Shared started. It is the one piece of package
// state: a test binary is one process, and Main is its end.
var shared struct {
	sync.Mutex
	mained bool
	server *kafkaserver.Server
}

// Shared returns a broker that all tests of the binary use together; the package's TestMain must
// call Main. Tests keep out of each other's way by topics of their own, and neither stop the
// broker nor change its settings.
func Shared(tb testing.TB) *Broker {
	tb.Helper()
	shared.Lock()
	defer shared.Unlock()
	if !shared.mained {
		tb.Fatal("kafkatest.Shared without kafkatest.Main: add func TestMain(m *testing.M) { os.Exit(kafkatest.Main(m.Run)) }")
	}
	if shared.server == nil {
		shared.server = start(tb, kafkaserver.Options{})
	}
	return &Broker{Server: shared.server, tb: tb}
}

// Main runs a package's tests (run is m.Run), stops what Shared started and returns the exit code.
func Main(run func() int) int {
	shared.Lock()
	shared.mained = true
	shared.Unlock()
	code := run()
	shared.Lock()
	defer shared.Unlock()
	if shared.server != nil {
		if err := shared.server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// Stop shuts the broker down in order.
func (b *Broker) Stop() {
	b.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	b.must(b.Server.Stop(ctx))
}

// Kill kills the broker with SIGKILL.
func (b *Broker) Kill() { b.tb.Helper(); b.must(b.Server.Kill()) }

// Restart starts the broker again, on the same ports and data, after stopping it if it runs.
func (b *Broker) Restart() {
	b.tb.Helper()
	b.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	b.must(b.Server.Start(ctx))
}

// Pause freezes the broker; Continue wakes it.
func (b *Broker) Pause() { b.tb.Helper(); b.must(b.Server.Pause()) }

// Continue ends a Pause.
func (b *Broker) Continue() { b.tb.Helper(); b.must(b.Server.Continue()) }

// Client returns a client of the plaintext listener, which is closed with the test.
func (b *Broker) Client(opts ...kgo.Opt) *kgo.Client {
	b.tb.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.Addr())}, opts...)...)
	b.must(err)
	b.tb.Cleanup(client.Close)
	return client
}

// Admin returns an admin client of the plaintext listener, as the super user.
func (b *Broker) Admin() *kadm.Client { b.tb.Helper(); return kadm.NewClient(b.Client()) }

// Topic makes a topic whose name begins with prefix and that no other test has.
func (b *Broker) Topic(prefix string, partitions int32) string {
	b.tb.Helper()
	name := fmt.Sprintf("%s-%08x", prefix, rand.Uint32()) //nolint:gosec // no secret
	_, err := b.Admin().CreateTopic(b.tb.Context(), partitions, 1, nil, name)
	b.must(err)
	return name
}

// AddUser adds a SCRAM-SHA-512 user for the SASL_SSL listener.
func (b *Broker) AddUser(name, password string) {
	b.tb.Helper()
	done, err := b.Admin().AlterUserSCRAMs(b.tb.Context(), nil, []kadm.UpsertSCRAM{{
		User: name, Mechanism: kadm.ScramSha512, Iterations: 4096, Password: password,
	}})
	b.must(err)
	b.must(done.Error())
}

// Login is what a client of the SASL_SSL listener shows as Username.
func Login() sasl.Mechanism {
	return scram.Auth{User: kafkaserver.Username, Pass: kafkaserver.Password}.AsSha512Mechanism()
}

func (b *Broker) must(err error) {
	b.tb.Helper()
	if err != nil {
		b.tb.Fatal(err)
	}
}

// StartFake starts a kfake cluster of one broker within the process and closes it with the test.
func StartFake(tb testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	tb.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

// Allow makes access rules and returns once the broker goes by them: it answers before.
func (b *Broker) Allow(rules ...*kadm.ACLBuilder) {
	b.tb.Helper()
	for _, r := range rules {
		if _, err := b.Admin().CreateACLs(b.tb.Context(), r); err != nil {
			b.tb.Fatal(err)
		}
		b.awaitRules(r, func(found int) bool { return found > 0 })
	}
}

// Forbid takes access rules back and returns once the broker goes by that.
func (b *Broker) Forbid(rule *kadm.ACLBuilder) {
	b.tb.Helper()
	if _, err := b.Admin().DeleteACLs(b.tb.Context(), rule); err != nil {
		b.tb.Fatal(err)
	}
	b.awaitRules(rule, func(found int) bool { return found == 0 })
}

// awaitRules waits until what the broker knows of each part of a rule is as it should be.
func (b *Broker) awaitRules(rule *kadm.ACLBuilder, right func(found int) bool) {
	b.tb.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		parts, err := b.Admin().DescribeACLs(b.tb.Context(), rule)
		if err != nil {
			b.tb.Fatal(err)
		}
		if !slices.ContainsFunc(parts, func(p kadm.DescribeACLsResult) bool { return p.Err != nil || !right(len(p.Described)) }) {
			return
		}
		if time.Now().After(deadline) {
			b.tb.Fatalf("the broker does not go by its access rules: %+v", parts)
		}
	}
}
