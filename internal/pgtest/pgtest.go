// Package pgtest gives tests a real Postgres and throws it away afterwards: internal/pgserver with
// the errors taken care of.
//
// The version is 18 unless the test asks for one or the environment says WALFERRY_PG=14 to 18. A
// package whose tests need no server to themselves shares one:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m.Run)) }
//
//	func TestSomething(t *testing.T) {
//		db := pgtest.Shared(t).Database()
//		db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
//	}
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/walferry/walferry/internal/pgserver"
)

// startTimeout holds for the slowest start: downloading the binaries on a busy machine.
const startTimeout = 3 * time.Minute

// Server is a Postgres that belongs to one test, or the view that one test has of a shared one.
type Server struct {
	*pgserver.Server
	tb testing.TB
}

// Start starts a server for this test alone and stops it with the test. Without a major version in
// o it is the environment's or the default. Syncing to disk is off unless o turns it on: what a
// test crashes is Postgres, not the kernel.
func Start(tb testing.TB, o pgserver.Options) *Server {
	tb.Helper()
	s, err := start(o)
	if err != nil {
		tb.Fatal(err)
	}
	return owned(tb, s)
}

// Standby makes a standby of the server for this test, with the physical slot of that name; see
// pgserver.Server.Standby.
func (s *Server) Standby(slot string, settings map[string]string) *Server {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(s.tb.Context(), startTimeout)
	defer cancel()
	standby, err := s.Server.Standby(ctx, slot, settings)
	if err != nil {
		s.tb.Fatal(err)
	}
	return owned(s.tb, standby)
}

// owned has the test stop the server at its end.
func owned(tb testing.TB, s *pgserver.Server) *Server {
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("end of the log of postgres %d:\n%s", s.Major(), s.LogTail())
		}
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return &Server{Server: s, tb: tb}
}

func start(o pgserver.Options) (*pgserver.Server, error) {
	if o.Major == 0 {
		if env := os.Getenv("WALFERRY_PG"); env != "" {
			major, err := strconv.Atoi(env)
			if err != nil {
				return nil, fmt.Errorf("WALFERRY_PG=%q: want a major version, 14 to 18", env)
			}
			o.Major = major
		}
	}
	settings := map[string]string{"fsync": "off"}
	for k, v := range o.Settings {
		settings[k] = v
	}
	o.Settings = settings
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return pgserver.Start(ctx, o)
}

// shared holds the servers of this test binary that Shared started, by major version. It is the
// one piece of package state: a test binary is one process, and Main is its end.
var shared struct {
	sync.Mutex
	servers map[int]*pgserver.Server
}

// Shared returns a server that all tests of the binary use together; the package's TestMain must
// call Main. Tests keep out of each other's way by a Database each, and neither stop the server
// nor change its settings.
func Shared(tb testing.TB) *Server { return SharedMajor(tb, 0) }

// SharedMajor is Shared for one major version; 0 is the environment's or the default.
func SharedMajor(tb testing.TB, major int) *Server {
	tb.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.servers == nil {
		tb.Fatal("pgtest.Shared without pgtest.Main: add func TestMain(m *testing.M) { os.Exit(pgtest.Main(m.Run)) }")
	}
	s := shared.servers[major]
	if s == nil {
		var err error
		if s, err = start(pgserver.Options{Major: major, Settings: map[string]string{"max_replication_slots": "100", "max_wal_senders": "100"}}); err != nil {
			tb.Fatal(err)
		}
		shared.servers[major] = s
	}
	return &Server{Server: s, tb: tb}
}

// Main runs a package's tests (run is m.Run), stops what Shared started and returns the exit code.
func Main(run func() int) int {
	shared.Lock()
	shared.servers = make(map[int]*pgserver.Server)
	shared.Unlock()
	code := run()
	shared.Lock()
	defer shared.Unlock()
	var errs error
	for _, s := range shared.servers {
		errs = errors.Join(errs, s.Close())
	}
	if errs != nil {
		fmt.Fprintln(os.Stderr, errs)
		return 1
	}
	return code
}

// Restart stops the server in the given mode and starts it again.
func (s *Server) Restart(m pgserver.Mode) {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := s.Stop(ctx, m); err != nil {
		s.tb.Fatal(err)
	}
	if err := s.Server.Start(ctx); err != nil {
		s.tb.Fatal(err)
	}
}

// Exec runs SQL in a database; see DB.Exec.
func (s *Server) Exec(database, sql string, args ...any) {
	s.tb.Helper()
	exec(s.tb, s.DSN(database), sql, args)
}

// CreateDatabase makes a database that lives as long as the server.
func (s *Server) CreateDatabase(name string) *DB {
	s.tb.Helper()
	s.Exec("postgres", "CREATE DATABASE "+quote(name))
	return &DB{Server: s, Name: name}
}
