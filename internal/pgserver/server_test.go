package pgserver_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walferry/walferry/internal/pgserver"
)

func start(t *testing.T, o pgserver.Options) *pgserver.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s, err := pgserver.Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func value(t *testing.T, s *pgserver.Server, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	results, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	last := results[len(results)-1]
	if len(last.Rows) == 0 {
		return ""
	}
	return string(last.Rows[0][0])
}

// TestEveryMajor starts the versions whose binaries are in the cache, and the default one in any
// case: downloading and unpacking five takes a minute, and the matrix of CI does that anyway.
func TestEveryMajor(t *testing.T) {
	for _, major := range pgserver.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			if major != pgserver.DefaultMajor && !pgserver.Cached(major) {
				t.Skip("not in the cache")
			}
			s := start(t, pgserver.Options{Major: major})
			if got := value(t, s, "SELECT current_setting('server_version_num')::int / 10000 || ' ' || current_setting('wal_level')"); got != fmt.Sprintf("%d logical", major) {
				t.Fatalf("got %q", got)
			}
		})
	}
}

func TestUnknownMajor(t *testing.T) {
	if _, err := pgserver.Start(t.Context(), pgserver.Options{Major: 9}); err == nil {
		t.Fatal("started")
	}
}

func TestSettings(t *testing.T) {
	s := start(t, pgserver.Options{Settings: map[string]string{"wal_level": "replica", "max_logical_replication_workers": "1", "cluster_name": "it's"}})
	if got := value(t, s, "SELECT current_setting('wal_level') || ' ' || current_setting('cluster_name')"); got != "replica it's" {
		t.Fatalf("got %q", got)
	}
}

func TestBadSettingIsReported(t *testing.T) {
	_, err := pgserver.Start(t.Context(), pgserver.Options{Settings: map[string]string{"wal_level": "nonsense"}})
	if err == nil {
		t.Fatal("started")
	}
	t.Log(err)
}

// TestEveryEndLeavesUsableData stops or kills a server in each way and starts it again: same port,
// committed rows there, nothing listening in between.
func TestEveryEndLeavesUsableData(t *testing.T) {
	ends := map[string]func(*pgserver.Server) error{
		"smart":     func(s *pgserver.Server) error { return s.Stop(t.Context(), pgserver.Smart) },
		"fast":      func(s *pgserver.Server) error { return s.Stop(t.Context(), pgserver.Fast) },
		"immediate": func(s *pgserver.Server) error { return s.Stop(t.Context(), pgserver.Immediate) },
	}
	if runtime.GOOS == "linux" {
		ends["kill"] = (*pgserver.Server).Kill
	}
	s := start(t, pgserver.Options{})
	value(t, s, "CREATE TABLE ends (name text)")
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			value(t, s, "INSERT INTO ends VALUES ('"+name+"') RETURNING name")
			port := s.Port()
			if err := end(s); err != nil {
				t.Fatal(err)
			}
			if s.Running() {
				t.Fatal("still running")
			}
			if c, err := net.Dial("tcp", s.Addr()); err == nil {
				_ = c.Close()
				t.Fatal("still listening")
			}
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if s.Port() != port {
				t.Fatalf("port %d became %d", port, s.Port())
			}
			if got := value(t, s, "SELECT count(*)::text FROM ends WHERE name = '"+name+"'"); got != "1" {
				t.Fatalf("%s rows after %s", got, name)
			}
		})
	}
}

// TestStopThatTakesTooLong holds a smart shutdown up with an open session.
func TestStopThatTakesTooLong(t *testing.T) {
	s := start(t, pgserver.Options{})
	conn, err := pgx.Connect(t.Context(), s.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.Stop(ctx, pgserver.Smart); err == nil {
		t.Fatal("a smart shutdown did not wait for its client")
	}
	if s.Running() {
		t.Fatal("still running")
	}
}

func TestCloseRemovesEverything(t *testing.T) {
	s := start(t, pgserver.Options{})
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Dir(s.LogFile())); !os.IsNotExist(err) {
		t.Fatalf("the folder is still there: %v", err)
	}
}

// TestStandby follows a primary that works, and takes over from it. A backup is begun and ended in other
// words before 15.
func TestStandby(t *testing.T) {
	for _, major := range []int{14, pgserver.DefaultMajor} {
		if major != pgserver.DefaultMajor && !pgserver.Cached(major) {
			continue
		}
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			primary := start(t, pgserver.Options{Major: major, Settings: map[string]string{"fsync": "off"}})
			value(t, primary, "CREATE TABLE t AS SELECT 1 AS id")
			value(t, primary, "SELECT pg_create_logical_replication_slot('kept', 'pgoutput')::text")
			standby, err := primary.Standby(t.Context(), "standby", nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := standby.Close(); err != nil {
					t.Error(err)
				}
			})
			value(t, primary, "INSERT INTO t VALUES (2)")
			for value(t, standby, "SELECT count(*)::text FROM t") != "2" {
				if t.Context().Err() != nil {
					t.Fatal("the standby does not follow")
				}
			}
			if err := primary.Stop(t.Context(), pgserver.Immediate); err != nil {
				t.Fatal(err)
			}
			if err := standby.Promote(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := value(t, standby, "INSERT INTO t VALUES (3) RETURNING id::text"); got != "3" {
				t.Fatalf("got %s", got)
			}
		})
	}
}
