package broker_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/internal/kafkaserver"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/internal/testca"
	"github.com/walferry/walferry/vault"
)

func TestMain(m *testing.M) { os.Exit(kafkatest.Main(m.Run)) }

const (
	wrongPassword = "canary-wrong-password"
	quick         = 10 * time.Second // within which a wrong setting must be reported
)

// probe makes a client of c and probes.
func probe(t *testing.T, c broker.Config) error {
	t.Helper()
	opts, err := broker.Options(c)
	if err != nil {
		return err
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return broker.Probe(ctx, cl, c)
}

// target is a broker with a SASL_SSL listener, and perhaps a plaintext one.
type target struct {
	good  broker.Config
	plain string
}

func realTarget(t *testing.T) target {
	b := kafkatest.Shared(t)
	return target{plain: b.Addr(), good: broker.Config{
		Seeds: []string{b.SASLAddr()}, ClientID: "walferry-test",
		TLS: broker.TLSConfig{Enabled: true, CAFile: b.CAFile()},
		SASL: broker.SASLConfig{
			Mechanism: "scram-sha-512", Username: kafkaserver.Username,
			Password: vault.Credential{Text: vault.NewSecret(kafkaserver.Password)},
		},
	}}
}

func fakeTarget(t *testing.T) target {
	ca := authority(t)
	cert, key, err := ca.Issue("kfake", "localhost", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	c := kafkatest.StartFake(t, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "u", "canary-fake-password"),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}))
	return target{good: broker.Config{
		Seeds: c.ListenAddrs(), ClientID: "walferry-test",
		TLS: broker.TLSConfig{Enabled: true, CAFile: caFile(t, ca)},
		SASL: broker.SASLConfig{
			Mechanism: "scram-sha-256", Username: "u",
			Password: vault.Credential{Text: vault.NewSecret("canary-fake-password")},
		},
	}}
}

func authority(t *testing.T) *testca.CA {
	t.Helper()
	ca, err := testca.New("test")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func caFile(t *testing.T, ca *testca.CA) string { return file(t, string(ca.PEM())) }

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestWrongSettings connects with one setting wrong at a time. Each must be named within seconds,
// by its own code, and without the password.
func TestWrongSettings(t *testing.T) {
	type testCase struct {
		name  string
		wrong func(*broker.Config, target)
		code  fault.Code // "" means that the connection works
		hint  string
	}
	both := []testCase{
		{"all right", func(*broker.Config, target) {}, "", ""},
		{"password", func(c *broker.Config, _ target) {
			c.SASL.Password = vault.Credential{Text: vault.NewSecret(wrongPassword)}
		}, fault.KafkaAuth, "the password"},
		{"password file missing", func(c *broker.Config, _ target) {
			c.SASL.Password = vault.Credential{File: "/does/not/exist"}
		}, fault.KafkaAuth, "kafka.sasl.password_file"},
		{"mechanism", func(c *broker.Config, _ target) { c.SASL.Mechanism = "plain" }, fault.KafkaAuth, "kafka.sasl.mechanism"},
		{"unknown CA", func(c *broker.Config, _ target) { c.TLS.CAFile = caFile(t, authority(t)) }, fault.KafkaTLS, "kafka.tls.ca_file ("},
		{"system's CAs", func(c *broker.Config, _ target) { c.TLS.CAFile = "" }, fault.KafkaTLS, "set kafka.tls.ca_file"},
		{"CA file is no PEM", func(c *broker.Config, _ target) { c.TLS.CAFile = file(t, "no") }, fault.KafkaTLS, "kafka.tls.ca_file"},
		{"host name", func(c *broker.Config, _ target) { c.TLS.ServerName = "elsewhere.example" }, fault.KafkaTLS, `"elsewhere.example"`},
		{"client certificate", func(c *broker.Config, _ target) { c.TLS.CertFile = "/does/not/exist" }, fault.KafkaTLS, "kafka.tls.cert_file"},
		{"no TLS to a TLS port", func(c *broker.Config, _ target) {
			c.TLS.Enabled, c.SASL.AllowPlaintext = false, true
		}, fault.KafkaTLS, "kafka.tls.enabled: true"},
		{"no TLS and no login", func(c *broker.Config, _ target) {
			c.TLS.Enabled, c.SASL = false, broker.SASLConfig{}
		}, fault.KafkaTLS, "kafka.tls.enabled: true"},
		{"no login", func(c *broker.Config, _ target) { c.SASL = broker.SASLConfig{} }, fault.KafkaAuth, "kafka.sasl"},
		{"SASL without TLS", func(c *broker.Config, _ target) { c.TLS.Enabled = false }, fault.SASLWithoutTLS, "allow_plaintext"},
		{"nobody listens", func(c *broker.Config, _ target) { c.Seeds = []string{closedPort(t)} }, fault.KafkaUnavailable, "kafka.brokers"},
	}
	onlyReal := []testCase{
		{"TLS to a plaintext port", func(c *broker.Config, to target) {
			c.Seeds, c.SASL = []string{to.plain}, broker.SASLConfig{}
		}, fault.KafkaTLS, "kafka.tls.enabled"},
		{"plaintext", func(c *broker.Config, to target) {
			*c = broker.Config{Seeds: []string{to.plain}}
		}, "", ""},
		{"login to a port without", func(c *broker.Config, to target) {
			c.Seeds, c.TLS, c.SASL.AllowPlaintext = []string{to.plain}, broker.TLSConfig{}, true
		}, fault.KafkaAuth, "kafka.sasl.mechanism"},
	}
	run := func(t *testing.T, to target, cases []testCase) {
		for _, tc := range cases {
			t.Run(tc.name, func(t *testing.T) {
				c := to.good
				tc.wrong(&c, to)
				start := time.Now()
				err := probe(t, c)
				if took := time.Since(start); took > quick {
					t.Errorf("took %s", took)
				}
				if tc.code == "" {
					if err != nil {
						t.Fatal(err)
					}
					return
				}
				f := fault.Of(err)
				if f == nil || f.Code != tc.code || !strings.Contains(f.Hint, tc.hint) {
					t.Fatalf("got %v\nhint %q\nwant code %s and a hint with %q", err, hintOf(err), tc.code, tc.hint)
				}
				for _, secret := range []string{wrongPassword, to.good.SASL.Password.Text.Reveal()} {
					if strings.Contains(f.Error()+f.Hint+f.LogValue().String(), secret) {
						t.Error("the password is in the error")
					}
				}
				t.Logf("%v\n%s", f, f.Hint)
			})
		}
	}
	t.Run("kfake", func(t *testing.T) { run(t, fakeTarget(t), both) })
	t.Run("kafka", func(t *testing.T) { run(t, realTarget(t), append(both, onlyReal...)) })
}

func hintOf(err error) string {
	if f := fault.Of(err); f != nil {
		return f.Hint
	}
	return ""
}

// closedPort returns an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestListenerIsSilent connects with TLS to something that accepts and says nothing: a plaintext
// broker that waits for the rest of what it takes for a request does so.
func TestListenerIsSilent(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = probe(t, broker.Config{Seeds: []string{l.Addr().String()}, TLS: broker.TLSConfig{Enabled: true}})
	if !fault.Is(err, fault.KafkaTLS) || !strings.Contains(hintOf(err), "does not speak TLS") {
		t.Fatalf("got %v", err)
	}
}

// TestHangUpInMidRun connects to something that accepts and hangs up, or says nothing, as a load balancer
// does whose broker is down. With settings that never worked it is taken for a wrong one; with such that
// have, it is worth another try.
func TestHangUpInMidRun(t *testing.T) {
	t.Parallel()
	for name, serve := range map[string]func(net.Conn){
		"hangs up":     func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)); c.Close() }, // unread bytes would make it a reset
		"says nothing": func(net.Conn) {},
	} {
		for _, secure := range []bool{false, true} {
			if name == "says nothing" && !secure {
				continue // without TLS there is no greeting of its own; the request's own time is up some day
			}
			t.Run(fmt.Sprintf("%s, tls %t", name, secure), func(t *testing.T) {
				t.Parallel()
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				go func() { // ends with the listener
					for {
						c, err := l.Accept()
						if err != nil {
							return
						}
						defer c.Close()
						serve(c)
					}
				}()
				c := broker.Config{Seeds: []string{l.Addr().String()}, TLS: broker.TLSConfig{Enabled: secure}}
				if err := probe(t, c); !fault.Is(err, fault.KafkaTLS) {
					t.Errorf("at first: %v", err)
				}
				opts, err := broker.Options(c)
				if err != nil {
					t.Fatal(err)
				}
				cl, err := kgo.NewClient(append(opts, kgo.RetryTimeout(time.Second), kgo.RequestRetries(1))...)
				if err != nil {
					t.Fatal(err)
				}
				defer cl.Close()
				if err := broker.ProbeAgain(t.Context(), cl, c); !fault.Is(err, fault.KafkaUnavailable) {
					t.Errorf("in mid-run: %v", err)
				}
			})
		}
	}
}

// TestPasswordFileIsReadAtEachLogin rotates the password of a running client.
func TestPasswordFileIsReadAtEachLogin(t *testing.T) {
	to := fakeTarget(t)
	c := to.good
	c.SASL.Password = vault.Credential{File: file(t, wrongPassword)}
	if err := probe(t, c); !fault.Is(err, fault.KafkaAuth) {
		t.Fatalf("got %v", err)
	}
	opts, err := broker.Options(c)
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := os.WriteFile(c.SASL.Password.File, []byte(to.good.SASL.Password.Text.Reveal()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := broker.Probe(t.Context(), cl, c); err != nil {
		t.Fatal(err)
	}
}

// TestOneSeedOfTwo prefers the seed that works, and of two failures the one a person must see to.
func TestOneSeedOfTwo(t *testing.T) {
	to := fakeTarget(t)
	c := to.good
	c.Seeds = append([]string{closedPort(t)}, c.Seeds...)
	if err := probe(t, c); err != nil {
		t.Error(err)
	}
	c.SASL.Password = vault.Credential{Text: vault.NewSecret(wrongPassword)}
	for range 2 {
		if err := probe(t, c); !fault.Is(err, fault.KafkaAuth) {
			t.Errorf("seeds %v: %v", c.Seeds, err)
		}
		c.Seeds[0], c.Seeds[1] = c.Seeds[1], c.Seeds[0]
	}
}

func TestContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(closedPort(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	err = broker.Probe(ctx, cl, broker.Config{})
	if !errors.Is(err, context.Canceled) || fault.Of(err) != nil {
		t.Fatalf("got %v", err)
	}
}
