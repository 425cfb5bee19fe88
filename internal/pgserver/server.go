package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walferry/walferry/internal/childproc"
)

// The superuser of every server. The password guards nothing: the server listens on loopback and
// lives as long as a test or a demo.
const (
	User     = "postgres"
	Password = "postgres"
)

// Options say which server to start. The zero value is a good one.
type Options struct {
	// Major is the version, DefaultMajor if zero.
	Major int
	// Settings go to postgresql.conf, over those of Start. Values are quoted for the file.
	Settings map[string]string
}

// Server is one Postgres with its data folder. Its methods are not safe for concurrent use, except
// those that only return what it was started with.
type Server struct {
	major  int
	bin    string
	folder *childproc.Folder
	dir    string // the folder's path
	port   int
	user   *childproc.User
	proc   *childproc.Process
}

// Mode is a way to shut down.
type Mode syscall.Signal

// The shutdown modes of pg_ctl.
const (
	Smart     = Mode(syscall.SIGTERM) // wait until every client has left
	Fast      = Mode(syscall.SIGINT)  // disconnect the clients, let walsenders send the rest
	Immediate = Mode(syscall.SIGQUIT) // as in a crash: recovery at the next start
)

// startAttempts bounds how often a new server tries another port after losing one to a race.
const startAttempts = 5

// Start makes a data folder and starts a server on it, with wal_level logical and room for 20
// slots. It blocks until the server takes connections or ctx ends. The caller must Close it.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Major == 0 {
		o.Major = DefaultMajor
	}
	bin, err := binaries(o.Major)
	if err != nil {
		return nil, err
	}
	account, err := unprivileged()
	if err != nil {
		return nil, err
	}
	s := &Server{major: o.Major, bin: filepath.Join(bin, "bin"), user: account}
	if s.folder, err = childproc.NewFolder("walferry-pg-"); err != nil {
		return nil, err
	}
	s.dir = s.folder.Path
	if err := s.create(ctx, o.Settings); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) create(ctx context.Context, settings map[string]string) error {
	if err := s.own(s.dir); err != nil {
		return err
	}
	if err := s.initdb(ctx); err != nil {
		return err
	}
	all := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"unix_socket_directories": "", // a socket's path may be too long in a temporary folder
		"wal_level":               "logical",
		"max_wal_senders":         "20",
		"max_replication_slots":   "20",
	}
	maps.Copy(all, settings)
	return s.listen(ctx, all)
}

// listen starts the server for the first time, on a free port.
func (s *Server) listen(ctx context.Context, settings map[string]string) error {
	if err := s.configure(settings); err != nil {
		return err
	}
	var err error
	for range startAttempts {
		if s.port, err = childproc.FreePort(); err != nil {
			return err
		}
		err = s.Start(ctx)
		if err == nil || !strings.Contains(err.Error(), "could not bind") {
			break
		}
	}
	return err
}

// unprivileged returns the account to run Postgres as: nil, our own, unless we are root.
func unprivileged() (*childproc.User, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.Atoi(u.Uid)
		gid, errGID := strconv.Atoi(u.Gid)
		if err := errors.Join(errUID, errGID); err != nil {
			return nil, fmt.Errorf("read the ids of user %s: %w", name, err)
		}
		return &childproc.User{UID: uid, GID: gid}, nil
	}
	return nil, errors.New("postgres refuses to run as root, and there is neither a user postgres nor a user nobody to run it as")
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) initdb(ctx context.Context) error {
	passwords := filepath.Join(s.dir, "superuser")
	if err := os.WriteFile(passwords, []byte(Password+"\n"), 0o644); err != nil { //nolint:gosec // another user reads it; no secret
		return fmt.Errorf("write the superuser's password: %w", err)
	}
	// Without -N initdb would sync 40 MB to disk, for a cluster that nobody keeps.
	cmd := exec.Command(filepath.Join(s.bin, "initdb"), "-N", "-D", s.data(), "-U", User, "-A", "scram-sha-256", //nolint:gosec // our own binary
		"--pwfile="+passwords, "-E", "UTF8", "--locale=C")
	cmd.Dir = s.dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := childproc.Start(cmd, s.user, syscall.SIGKILL)
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		return p.End(ctx, syscall.SIGKILL)
	}
	if p.Err() != nil {
		return fmt.Errorf("run initdb: %w: %s", p.Err(), out.String())
	}
	return nil
}

// configure appends to postgresql.conf, so that ALTER SYSTEM still has the last word.
func (s *Server) configure(settings map[string]string) error {
	var conf strings.Builder
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&conf, "%s = '%s'\n", k, strings.ReplaceAll(settings[k], "'", "''"))
	}
	f, err := os.OpenFile(filepath.Join(s.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("open postgresql.conf: %w", err)
	}
	_, err = f.WriteString(conf.String())
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write postgresql.conf: %w", err)
	}
	return nil
}

// Start starts a server that was stopped or killed again, on the same port and data. It blocks
// until the server takes connections, which after a crash is when recovery is done.
func (s *Server) Start(ctx context.Context) error {
	log, err := os.OpenFile(s.LogFile(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the server's log: %w", err)
	}
	defer func() { _ = log.Close() }()                                                                // the child has its own descriptor
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), "-D", s.data(), "-p", strconv.Itoa(s.port)) //nolint:gosec // our own binary
	cmd.Dir = s.dir
	cmd.Stdout, cmd.Stderr = log, log
	// An immediate shutdown takes all of the server's processes with it; a killed postmaster
	// would leave the rest to find out by themselves.
	if s.proc, err = childproc.Start(cmd, s.user, syscall.SIGQUIT); err != nil {
		return err
	}
	if err := s.ready(ctx); err != nil {
		return errors.Join(err, s.Stop(ctx, Immediate))
	}
	return nil
}

// ready polls until a connection succeeds, as pg_ctl and every driver do: a server that starts has
// no other way to say so to somebody who does not read its files.
func (s *Server) ready(ctx context.Context) error {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		if conn, err := pgx.Connect(ctx, s.DSN("postgres")); err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-poll.C:
		case <-s.proc.Done():
			return fmt.Errorf("postgres ended while starting (%w):\n%s", s.proc.Err(), s.LogTail())
		case <-ctx.Done():
			return fmt.Errorf("wait for postgres to start: %w:\n%s", context.Cause(ctx), s.LogTail())
		}
	}
}

// Stop shuts the server down and blocks until it has ended; a server that is down stays so. When
// ctx ends first, the server is shut down at once and the error says so.
func (s *Server) Stop(ctx context.Context, m Mode) error {
	if !s.Running() {
		return nil
	}
	if err := s.proc.Signal(syscall.Signal(m)); err != nil {
		return err
	}
	select {
	case <-s.proc.Done():
		return nil
	case <-ctx.Done():
	}
	// SIGQUIT reaches the backends through the postmaster, which then waits for them.
	hurry, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := s.proc.End(hurry, syscall.SIGQUIT); err != nil {
		return err
	}
	if m == Immediate {
		return nil
	}
	return fmt.Errorf("postgres did not stop in time and was shut down at once: %w", context.Cause(ctx))
}

// Running tells whether the server's process runs.
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

// Close stops the server as a crash would, which is the quickest, and removes all it had. It may
// be called twice.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return errors.Join(s.Stop(ctx, Immediate), s.folder.Remove())
}

// DSN is the URL of a database for the superuser.
func (s *Server) DSN(database string) string { return s.DSNFor(User, Password, database) }

// DSNFor is the URL of a database for any role; an empty password is left out.
func (s *Server) DSNFor(role, password, database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(role), Host: s.Addr(), Path: "/" + database, RawQuery: "sslmode=disable"}
	if password != "" {
		u.User = url.UserPassword(role, password)
	}
	return u.String()
}

// Addr is host:port.
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// Port is the port on 127.0.0.1, the same for the server's whole life.
func (s *Server) Port() int { return s.port }

// Major is the major version.
func (s *Server) Major() int { return s.major }

// PID is the postmaster's process id.
func (s *Server) PID() int { return s.proc.PID() }

// LogFile is where the server writes its log; each start begins it anew.
func (s *Server) LogFile() string { return filepath.Join(s.dir, "log") }

// LogTail is the end of the log, for an error or a failed test.
func (s *Server) LogTail() string {
	b, err := os.ReadFile(s.LogFile())
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4096):])
}
