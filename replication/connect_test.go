package replication

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/pgserver"
	"github.com/walferry/walferry/internal/pgtest"
	"github.com/walferry/walferry/internal/testca"
	"github.com/walferry/walferry/vault"
)

// modeOf says in the words of libpq how the first host would be connected to.
func modeOf(t *tls.Config) string {
	switch {
	case t == nil:
		return "plain"
	case !t.InsecureSkipVerify:
		return "verified as " + t.ServerName
	case t.VerifyPeerCertificate != nil:
		return "authority"
	default:
		return "any"
	}
}

func TestTLSByDefault(t *testing.T) {
	dir := t.TempDir()
	services := filepath.Join(dir, "services")
	if err := os.WriteFile(services, []byte("[plain]\nhost=db\nsslmode=disable\n[silent]\nhost=db\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, url, env string
		want           string // per attempt
	}{
		{"a host", "postgres://db/shop", "", "verified as db"},
		{"an address", "postgres://10.0.0.1/shop", "", "verified as 10.0.0.1"},
		{"keywords", "host=db dbname=shop", "", "verified as db"},
		{"loopback name", "postgres://localhost/shop", "", "any, plain"},
		{"loopback address", "postgres://127.8.0.1/shop", "", "any, plain"},
		{"loopback of IPv6", "postgres://[::1]/shop", "", "any, plain"},
		{"socket", "host=/run/postgresql dbname=shop", "", "plain"},
		{"two hosts", "postgres://a:5432,b:5433/shop", "", "verified as a, verified as b"},
		{"the same host twice", "postgres://a,a/shop", "", "verified as a, verified as a"},
		{"one of two on loopback", "postgres://localhost,b/shop", "", "verified as localhost, verified as b"},
		{"all on loopback", "postgres://localhost,127.0.0.1/shop", "", "any, plain, any, plain"},
		{"URL says disable", "postgres://db/shop?sslmode=disable", "", "plain"},
		{"URL says prefer", "postgres://db/shop?sslmode=prefer", "", "any, plain"},
		{"URL says require", "postgres://db/shop?x=1&sslmode=require", "", "any"},
		{"URL says allow", "postgres://db/shop?sslmode=allow", "", "plain, any"},
		{"keywords say prefer", "host=db sslmode = prefer", "", "any, plain"},
		{"environment says prefer", "postgres://db/shop", "prefer", "any, plain"},
		{"environment says disable", "postgres://db/shop", "disable", "plain"},
		{"a password that talks of it", "postgres://u:sslmode=prefer@db/shop", "", "verified as db"},
		{"service says disable", "service=plain servicefile=" + services, "", "plain"},
		{"service says nothing", "service=silent servicefile=" + services, "", "verified as db"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("PGSSLMODE", test.env)
			t.Setenv("HOME", dir) // no ~/.postgresql/root.crt
			cfg, err := Config{URL: test.url}.parse(false, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := modeOf(cfg.TLSConfig)
			for _, f := range cfg.Fallbacks {
				got += ", " + modeOf(f.TLSConfig)
			}
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestURLWithoutItsSecrets(t *testing.T) {
	const canary = "s3cr3t-canary"
	for _, url := range []string{
		"postgres://u:" + canary + "@h:5432:x/db",
		"postgres://u:" + canary + "/x@h/db",
		"postgres://u:" + canary + "%zz@h/db",
		"postgres://u:" + canary + "@[::1/db",
		"postgres://h:" + canary + "@x/db",
		"postgres://a@u:" + canary + "@h/db",
		"user=u password='" + canary,
		"user=u password=" + canary + " sslmode=wrong",
		"postgres://u@h/db?sslrootcert=/nowhere&sslpassword=" + canary,
		"postgres://u@h/db?pass%77ord=" + canary + "&sslmode=wrong",
		canary,
	} {
		cfg, err := Config{URL: url}.parse(false, nil)
		if err == nil {
			if cfg.Password != canary {
				t.Errorf("%s: the password was taken for something else", url)
			}
			continue
		}
		if !fault.Is(err, fault.ConfigInvalid) {
			t.Errorf("%s: %v, want config_invalid", url, err)
		}
		if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, fault.Of(err).LogValue()), canary) {
			t.Errorf("the error tells the password: %v", err)
		}
	}
}

// TestWrongPasswordWhereTLSIsTriedFirst: a server on loopback without TLS is tried with it and then
// without; the refusal of the login is what counts.
func TestWrongPasswordWhereTLSIsTriedFirst(t *testing.T) {
	db := pgtest.Shared(t).Database()
	c := configOf(db)
	for mode, want := range map[string]fault.Code{"": fault.PostgresAuth, "?sslmode=prefer": fault.PostgresAuth, "?sslmode=require": fault.PostgresTLS} {
		c.URL = "postgres://postgres:wrong@" + db.Server.Addr() + "/" + db.Name + mode
		if _, err := c.connect(t.Context(), false, nil); !fault.Is(err, want) {
			t.Errorf("%q: %v, want %s", mode, err, want)
		}
	}
}

func TestPasswordIsReadAtEachConnect(t *testing.T) {
	db := pgtest.Shared(t).Database()
	db.Exec("CREATE ROLE rotated_" + db.Name + " LOGIN PASSWORD 'one'")
	t.Cleanup(func() { db.Exec("DROP ROLE rotated_" + db.Name) })
	file := filepath.Join(t.TempDir(), "password")
	c := configOf(db)
	c.URL = db.DSNFor("rotated_"+db.Name, "")
	c.Password = vault.Credential{File: file}

	connect := func() error {
		conn, err := c.connect(t.Context(), false, nil)
		if err == nil {
			err = hangUp(conn)
		}
		return err
	}
	if err := connect(); !fault.Is(err, fault.PostgresAuth) {
		t.Errorf("without the file: %v, want postgres_auth", err)
	}
	write := func(password string) {
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	if err := connect(); err != nil {
		t.Error(err)
	}
	db.Exec("ALTER ROLE rotated_" + db.Name + " PASSWORD 'two'")
	err := connect()
	if !fault.Is(err, fault.PostgresAuth) || fault.Retryable(err) {
		t.Errorf("with the old password: %v, want postgres_auth", err)
	}
	if strings.Contains(fmt.Sprintf("%v %+v", err, err), "'one'") || hintOf(err) == "" {
		t.Errorf("got %v, hint %q", err, hintOf(err))
	}
	write("two")
	if err := connect(); err != nil {
		t.Error(err)
	}
}

func TestPinnedSession(t *testing.T) {
	db := pgtest.Shared(t).Database()
	name := "hostile_" + db.Name
	url := role(t, db, name, "REPLICATION")
	for option, value := range map[string]string{
		"datestyle": "German", "intervalstyle": "sql_standard", "timezone": "Asia/Kolkata", "bytea_output": "escape",
		"extra_float_digits": "-15", "client_encoding": "LATIN1", "search_path": "public, pg_catalog", "statement_timeout": "1",
		"quote_all_identifiers": "on",
	} {
		db.Exec(fmt.Sprintf("ALTER ROLE %s SET %s = '%s'", name, option, strings.ReplaceAll(value, ", ", "', '")))
	}
	t.Setenv("PGTZ", "America/Lima")
	t.Setenv("PGOPTIONS", "-c intervalstyle=postgres_verbose")
	c := configOf(db)
	c.URL = url + "&tcp_user_timeout=1&datestyle=SQL&DateStyle=German&replication=false&application_name=other"
	const query = `SELECT date '2020-01-02', interval '1 mon 2 days 03:00', timestamptz '2020-01-02 03:04:05.678+00', '\x00ff'::bytea,
		0.1::float8 + 0.2, current_setting('client_encoding'), 'pg_type'::regclass, current_setting('application_name'), 1234.5::float8::numeric::money,
		current_setting('tcp_keepalives_idle'), current_setting('tcp_user_timeout')`
	const same = `2020-01-02|P1M2DT3H|2020-01-02 03:04:05.678+00|\x00ff|0.30000000000000004|UTF8|pg_type|walferry-shop|$1,234.50|15|`
	for replication, want := range map[bool]string{true: same + "0", false: same + "30000"} {
		conn, err := c.connect(t.Context(), replication, nil)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := simpleQuery(t.Context(), conn, "test", query)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, v := range rows[0] {
			got = append(got, string(v))
		}
		if s := strings.Join(got, "|"); s != want {
			t.Errorf("replication %t:\ngot  %s\nwant %s", replication, s, want)
		}
		if err := hangUp(conn); err != nil {
			t.Error(err)
		}
	}
}

func TestConnectErrors(t *testing.T) {
	db := pgtest.Shared(t).Database()
	plain := role(t, db, "plain_"+db.Name, "")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := closed.Addr().String()
	_ = closed.Close()
	live := db.Server.Addr()
	for _, test := range []struct {
		name, url string
		code      fault.Code
		hint      string
	}{
		{"wrong password", db.DSNFor("postgres", "wrong"), fault.PostgresAuth, "PGPASSWORD"},
		{"no such role", db.DSNFor("nobody_at_all", "x"), fault.PostgresAuth, ""},
		{"no such database", db.Server.DSN("no_such"), fault.PostgresAuth, "name of the database"},
		{"no REPLICATION", plain, fault.PostgresPrivilege, `ALTER ROLE "plain_` + db.Name + `" REPLICATION;`},
		{"nobody listens", "postgres://u@" + dead + "/x", fault.PostgresUnavailable, ""},
		{"no such host", "postgres://u@host.invalid/x?sslmode=disable", fault.PostgresUnavailable, ""},
		{"one host dead, one without TLS", "postgres://u@" + dead + "," + live + "/x?sslmode=require", fault.PostgresUnavailable, ""},
		{"no TLS at the server", "postgres://u@" + live + "/x?sslmode=require", fault.PostgresTLS, "sslmode=disable"},
		{"authentication required that is not offered", db.DSN() + "&require_auth=md5", fault.PostgresAuth, "require_auth"},
		{"standby wanted", db.DSN() + "&target_session_attrs=standby", fault.PostgresUnavailable, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := configOf(db)
			c.URL = test.url
			_, err := c.connect(t.Context(), true, nil)
			if !fault.Is(err, test.code) {
				t.Fatalf("got %v, want %s", err, test.code)
			}
			if !strings.Contains(hintOf(err), test.hint) {
				t.Errorf("hint %q, want %q in it", hintOf(err), test.hint)
			}
			if strings.ContainsAny(err.Error(), "\n\t") {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := configOf(db).connect(ctx, true, nil)
		if fault.Of(err) != nil || ctx.Err() == nil || !strings.Contains(err.Error(), "canceled") {
			t.Errorf("got %v, want the context's error alone", err)
		}
	})
	t.Run("second host lives", func(t *testing.T) {
		c := configOf(db)
		c.URL = strings.Replace(db.DSN(), "@"+live, "@"+dead+","+live, 1)
		conn, err := c.connect(t.Context(), true, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := hangUp(conn); err != nil {
			t.Error(err)
		}
	})
}

// TestFault47_SilentServer: a server that takes the connection and says nothing must not hang a start.
func TestFault47_SilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	began := time.Now()
	_, err = Config{URL: "postgres://u@" + l.Addr().String() + "/x?sslmode=disable&connect_timeout=1"}.connect(t.Context(), true, nil)
	if !fault.Is(err, fault.PostgresUnavailable) {
		t.Errorf("got %v, want postgres_unavailable", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("gave up after %s, want 1 s", took)
	}
}

// TestFault46_TLS is about certificates that cannot be trusted, and about the one that can.
func TestFault46_TLS(t *testing.T) {
	s := pgtest.Start(t, pgserver.Options{})
	db := s.Database()
	ca, err := testca.New("ours")
	if err != nil {
		t.Fatal(err)
	}
	other, err := testca.New("theirs")
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.Issue("db", "localhost")
	if err != nil {
		t.Fatal(err)
	}
	installTLS(t, db, cert, key)
	dir := t.TempDir()
	write := func(name string, pem []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ours, theirs := write("ours", ca.PEM()), write("theirs", other.PEM())
	for _, test := range []struct {
		name, host, query string
		hint              string // "" for a connection
	}{
		{"trusted", "localhost", "sslmode=verify-full&sslrootcert=" + ours, ""},
		{"wrong authority", "localhost", "sslmode=verify-full&sslrootcert=" + theirs, "authority"},
		{"unknown authority", "localhost", "sslmode=verify-full", "authority"},
		{"wrong authority, host not checked", "localhost", "sslmode=verify-ca&sslrootcert=" + theirs, "authority"},
		{"wrong host", "127.0.0.1", "sslmode=verify-full&sslrootcert=" + ours, "another host name"},
		{"host not checked", "127.0.0.1", "sslmode=verify-ca&sslrootcert=" + ours, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("HOME", dir)
			c := configOf(db)
			c.URL = fmt.Sprintf("postgres://postgres:postgres@%s:%d/%s?%s", test.host, s.Port(), db.Name, test.query)
			conn, err := c.connect(t.Context(), true, nil)
			if test.hint == "" {
				if err != nil {
					t.Fatal(err)
				}
				if err := hangUp(conn); err != nil {
					t.Error(err)
				}
				return
			}
			if !fault.Is(err, fault.PostgresTLS) || !strings.Contains(hintOf(err), test.hint) {
				t.Errorf("got %v, hint %q; want postgres_tls with %q", err, hintOf(err), test.hint)
			}
		})
	}
}

// installTLS gives a running server a certificate.
func installTLS(t *testing.T, db *pgtest.DB, cert, key []byte) {
	t.Helper()
	data := pgtest.Value[string](db, "SHOW data_directory")
	installFile(t, data, "server.crt", cert)
	installFile(t, data, "server.key", key)
	conn := db.Conn()
	for _, sql := range []string{"ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	// The postmaster reads the file in its own time.
	for pgtest.Value[string](db, "SHOW ssl") != "on" {
		if t.Context().Err() != nil {
			t.Fatal("ssl is not on")
		}
	}
}

// installFile writes a file into the server's data folder, for the user it runs as.
func installFile(t *testing.T, data, name string, content []byte) {
	t.Helper()
	info, err := os.Stat(data)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(data, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("the system has no owners of files")
	}
	if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
}
