package kafkaserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walferry/walferry/internal/childproc"
)

// The SCRAM user of every broker. The password guards a broker on loopback for the time of a test;
// it is long and peculiar so that a test can look for it where it must not appear.
const (
	Username = "walferry"
	Password = "canary-kafka-5d0a71c3" //nolint:gosec // see above
)

// Options say which broker to start. The zero value is a good one.
type Options struct {
	// Settings are lines of server.properties, over those of the package.
	Settings map[string]string
	// ACLs turns the authorizer on: Username may then do only what is granted. Clients of the
	// plaintext listener stay super users and do the granting.
	ACLs bool
	// Proxy is the address of a proxy, "" for none: the broker then has one more plaintext listener,
	// ProxiedAddr, and names the proxy's address to its clients. The proxy passes on to ProxiedAddr.
	Proxy string
}

// Server is one broker with its data. Its methods are not safe for concurrent use, except those
// that only return what it was started with.
type Server struct {
	folder                           *childproc.Folder
	dir                              string // the folder's path
	java, jars                       string
	plain, sasl, controller, proxied int
	proc                             *childproc.Process
}

// Start makes a data folder and starts a broker on it. It blocks until the broker answers clients
// or ctx ends. The caller must Close it.
func Start(ctx context.Context, o Options) (*Server, error) {
	s := &Server{}
	var err error
	if s.java, err = java(); err != nil {
		return nil, err
	}
	if s.jars, err = jars(); err != nil {
		return nil, err
	}
	if s.folder, err = childproc.NewFolder("walferry-kafka-"); err != nil {
		return nil, err
	}
	s.dir = s.folder.Path
	if err = s.write(o); err == nil {
		err = s.format(ctx)
	}
	if err == nil {
		err = s.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// format makes the data folder, with the SCRAM user in it.
func (s *Server) format(ctx context.Context) error {
	cmd := s.command("kafka.tools.StorageTool", "format", "--standalone", "-t", clusterID(), "-c", s.path("server.properties"),
		"--add-scram", "SCRAM-SHA-512=[name="+Username+",password="+Password+"]")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := childproc.Start(cmd, nil, syscall.SIGKILL)
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		return p.End(ctx, syscall.SIGKILL)
	}
	if p.Err() != nil {
		return fmt.Errorf("format kafka's data folder: %w: %s", p.Err(), out.String())
	}
	return nil
}

// command runs a class of Kafka's. The serial collector, a small heap and the quick compiler are
// enough for one broker and leave the machine to what is tested: the quick compiler halves the
// processor time of a start.
func (s *Server) command(args ...string) *exec.Cmd {
	jvm := []string{"-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError",
		"-Dlog4j2.configurationFile=" + s.path("log4j2.properties"), "-cp", filepath.Join(s.jars, "*")}
	cmd := exec.Command(s.java, append(jvm, args...)...) //nolint:gosec // our own arguments
	cmd.Dir = s.dir
	return cmd
}

// Start starts a broker that was stopped or killed again, on the same ports and data. It blocks
// until the broker answers clients.
func (s *Server) Start(ctx context.Context) error {
	log, err := os.OpenFile(s.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open kafka's log: %w", err)
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor
	cmd := s.command("kafka.Kafka", s.path("server.properties"))
	cmd.Stdout, cmd.Stderr = log, log
	if s.proc, err = childproc.Start(cmd, nil, syscall.SIGKILL); err != nil {
		return err
	}
	if err := s.ready(ctx); err != nil {
		return errors.Join(err, s.Kill())
	}
	return nil
}

// ready polls until the broker names itself in the metadata, which is when it serves clients.
func (s *Server) ready(ctx context.Context) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Addr()))
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	defer client.Close()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		try, cancel := context.WithTimeout(ctx, time.Second)
		brokers, err := kadm.NewClient(client).ListBrokers(try)
		cancel()
		if err == nil && len(brokers) == 1 {
			return nil
		}
		select {
		case <-poll.C:
		case <-s.proc.Done():
			return fmt.Errorf("kafka ended while starting (%w):\n%s", s.proc.Err(), s.LogTail())
		case <-ctx.Done():
			return fmt.Errorf("wait for kafka to start: %w:\n%s", context.Cause(ctx), s.LogTail())
		}
	}
}

// Stop shuts the broker down and blocks until it has ended; a broker that is down stays so. When
// ctx ends first, the broker is killed and the error says so.
func (s *Server) Stop(ctx context.Context) error {
	if !s.Running() {
		return nil
	}
	if err := s.Continue(); err != nil { // a paused process hears no SIGTERM
		return err
	}
	return s.proc.End(ctx, syscall.SIGTERM)
}

// Kill kills the broker with SIGKILL and blocks until it is gone.
func (s *Server) Kill() error {
	if !s.Running() {
		return nil
	}
	if err := s.proc.SignalGroup(syscall.SIGKILL); err != nil {
		return err
	}
	<-s.proc.Done()
	return nil
}

// Pause freezes the broker: connections stay open and nothing is answered.
func (s *Server) Pause() error { return s.proc.SignalGroup(syscall.SIGSTOP) }

// Continue ends a Pause.
func (s *Server) Continue() error { return s.proc.SignalGroup(syscall.SIGCONT) }

// Running tells whether the broker's process is there, be it paused.
func (s *Server) Running() bool {
	if s.proc == nil {
		return false
	}
	select {
	case <-s.proc.Done():
		return false
	default:
		return true
	}
}

// Close kills the broker and removes all it had. It may be called twice.
func (s *Server) Close() error { return errors.Join(s.Kill(), s.folder.Remove()) }

// Addr is the plaintext listener.
func (s *Server) Addr() string { return addr(s.plain) }

// SASLAddr is the SASL_SSL listener. Its certificate names localhost and 127.0.0.1.
func (s *Server) SASLAddr() string { return addr(s.sasl) }

// ProxiedAddr is the listener whose clients are told the address of Options.Proxy.
func (s *Server) ProxiedAddr() string { return addr(s.proxied) }

// CAFile is the PEM file of the authority that signed the broker's certificate.
func (s *Server) CAFile() string { return s.path("ca.pem") }

// PID is the process id of the broker.
func (s *Server) PID() int { return s.proc.PID() }

// LogFile is where the broker writes warnings and errors.
func (s *Server) LogFile() string { return s.path("log") }

// LogTail is the end of the log, for an error or a failed test.
func (s *Server) LogTail() string {
	b, err := os.ReadFile(s.LogFile())
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-8192):])
}
