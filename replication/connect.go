package replication

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/walferry/walferry/fault"
)

const (
	// connectTimeout bounds one attempt at one host where the URL says nothing else.
	connectTimeout = 10 * time.Second
	// statementTimeout bounds each statement of an SQL connection: all of them are short, and the
	// stream waits for some.
	statementTimeout = "30s"
	// unacknowledged is how long a peer may leave sent bytes unacknowledged before the kernel gives the
	// connection up; with keepalive probes it notices a half-open connection within a minute.
	unacknowledged = 30 * time.Second
	// maxSQLMessage and maxStreamMessage bound what the server can make us allocate for a message.
	// Postgres builds none of more than 1 GiB.
	maxSQLMessage    = 64 << 20
	maxStreamMessage = 1 << 30
)

// pinned are the session options that decide how values are printed, and which names: the role's
// own settings would otherwise change what is published. An empty-handed search_path has regclass
// and its kin print schema and name, without quotes where they need none.
var pinned = map[string]string{
	"client_encoding":             "UTF8",
	"DateStyle":                   "ISO",
	"IntervalStyle":               "iso_8601",
	"TimeZone":                    "UTC",
	"bytea_output":                "hex",
	"extra_float_digits":          "3",
	"lc_monetary":                 "C",
	"search_path":                 "pg_catalog",
	"quote_all_identifiers":       "off",
	"standard_conforming_strings": "on",
}

// unlimited are the session options of a replication connection that keep the limits of a role or a
// database, which are made for applications, from ending what may take long.
var unlimited = map[string]string{
	"statement_timeout": "0", // creating a slot takes as long as the longest transaction
	"lock_timeout":      "0", // and that is a wait for a lock
	"tcp_user_timeout":  "0", // bytes wait for as long as Kafka is away; the walsender's own timeout tells who is gone
}

// limitsSQL sets what a stream needs and not every server knows, or not every one should be told. A
// transaction is timed while it is sent (from 17 on). And a server that works on a large transaction of
// which nothing is for us asks for a sign of life at half of wal_sender_timeout, and else says nothing:
// see silence. Without that limit the slot of an instance whose machine is gone would stay held.
const limitsSQL = `
SELECT pg_catalog.set_config(name, CASE name WHEN 'wal_sender_timeout' THEN '60s' ELSE '0' END, false)
FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout' OR name = 'wal_sender_timeout' AND setting::int NOT BETWEEN 1 AND 60000`

// noticed are the session options that have the server notice a client whose machine is gone, as this
// side notices the server. By its system's own settings it would keep the lock of a set-up for hours.
var noticed = map[string]string{
	"tcp_keepalives_idle":     "15",
	"tcp_keepalives_interval": "10",
	"tcp_keepalives_count":    "3",
	"tcp_user_timeout":        "30s",
}

// parse builds the connection's settings from the URL, the PG* environment, service file and
// passfile, as libpq would, with the pinned session options; see logIn for the rest. The hosts of a URL
// that names several are tried in turn, until one suits.
func (c Config) parse(replication bool, want suits) (*pgx.ConnConfig, error) {
	const op = "read the Postgres URL"
	cfg, err := pgx.ParseConfig(c.URL)
	if err != nil {
		return nil, fault.New(fault.ConfigInvalid, op, errors.New(parseMessage(err)), "")
	}
	if !c.sslmodeGiven() {
		verifyFull(&cfg.Config)
	}
	for name := range cfg.RuntimeParams {
		if ours(name) {
			delete(cfg.RuntimeParams, name)
		}
	}
	maps.Copy(cfg.RuntimeParams, pinned)
	maps.Copy(cfg.RuntimeParams, noticed)
	cfg.RuntimeParams["application_name"] = "walferry-" + c.Pipeline
	cfg.MaxProtocolMessageBodyLen = maxSQLMessage
	cfg.RuntimeParams["statement_timeout"] = statementTimeout
	if replication {
		cfg.MaxProtocolMessageBodyLen = maxStreamMessage
		cfg.RuntimeParams["replication"] = "database"
		maps.Copy(cfg.RuntimeParams, unlimited)
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	cfg.DialFunc = c.Dial
	if cfg.DialFunc == nil {
		cfg.DialFunc = dialTCP(cfg.ConnectTimeout)
	}
	cfg.ValidateConnect = choose(want, cfg.ValidateConnect)
	return cfg, nil
}

// dialTCP returns how to connect: with limits that notice a peer that is gone.
func dialTCP(timeout time.Duration) pgconn.DialFunc {
	dialer := &net.Dialer{
		Timeout:         timeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 10 * time.Second, Count: 3},
		Control:         breakWhenUnacknowledged,
	}
	return dialer.DialContext
}

// connect opens a connection, for the replication protocol (which also takes simple queries) or
// for SQL, to a server that suits. Its errors are *fault.Error, but for the one of a context that was
// cancelled.
func (c Config) connect(ctx context.Context, replication bool, want suits) (*pgconn.PgConn, error) {
	conn, _, err := c.connectAs(ctx, replication, want)
	return conn, err
}

// connectAs is connect, and says what the connection was made with.
func (c Config) connectAs(ctx context.Context, replication bool, want suits) (*pgconn.PgConn, login, error) {
	cfg, err := c.parse(replication, want)
	if err != nil {
		return nil, login{}, err
	}
	return c.dial(ctx, cfg)
}

// dial opens a connection with what parse returned and the login of now.
func (c Config) dial(ctx context.Context, cfg *pgx.ConnConfig) (*pgconn.PgConn, login, error) {
	used, err := c.logIn(ctx, cfg)
	if err != nil {
		return nil, used, err
	}
	conn, err := pgconn.ConnectConfig(ctx, &cfg.Config)
	if err != nil {
		return nil, used, c.refused(used, explainConnect(ctx, err))
	}
	c.took()
	return conn, used, nil
}

// connectSQL opens a connection for SQL. When the context of a statement ends, or no answer comes in time, the
// server is told to cancel it, so that nothing goes on there unseen.
func (c Config) connectSQL(ctx context.Context, want suits) (*pgx.Conn, error) {
	conn, _, err := c.connectSQLAs(ctx, want)
	return conn, err
}

// connectSQLAs is connectSQL, and says what the connection was made with.
func (c Config) connectSQLAs(ctx context.Context, want suits) (*pgx.Conn, login, error) {
	cfg, err := c.parse(false, want)
	if err != nil {
		return nil, login{}, err
	}
	used, err := c.logIn(ctx, cfg)
	if err != nil {
		return nil, used, err
	}
	cfg.BuildContextWatcherHandler = cancelAtServer
	cfg.Tracer = patience{c}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, used, c.refused(used, explainConnect(ctx, err))
	}
	c.took()
	return conn, used, nil
}

// cancelAtServer has a cancelled context cancel the statement at the server; the connection is
// given up if that does not end it soon.
func cancelAtServer(conn *pgconn.PgConn) ctxwatch.Handler {
	return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: 3 * time.Second}
}

// hangUp closes a connection that may be broken, in bounded time.
func hangUp(conn interface{ Close(context.Context) error }) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return conn.Close(ctx)
}

// ours tells whether a session option of the URL or the environment is one that walferry sets.
// Names of options are not case-sensitive to Postgres.
func ours(name string) bool {
	for _, options := range []map[string]string{pinned, noticed, unlimited} {
		for p := range options {
			if strings.EqualFold(p, name) {
				return true
			}
		}
	}
	return strings.EqualFold(name, "replication")
}

// sslmodePreferred finds the one sslmode that cannot be told from none in a parsed configuration.
var sslmodePreferred = regexp.MustCompile(`(^|[?&\s])sslmode\s*=\s*'?prefer\b`)

// sslmodeGiven tells whether somebody asked for sslmode=prefer. Every other mode shows in the parsed
// configuration.
func (c Config) sslmodeGiven() bool {
	return os.Getenv("PGSSLMODE") == "prefer" || sslmodePreferred.MatchString(c.URL)
}

// verifyFull turns the default of libpq, which is sslmode=prefer (TLS with anybody, else none), into
// verify-full, unless every host is on this machine or another mode was asked for: prefer alone
// yields a host twice, first with TLS that checks nothing and then without TLS.
func verifyFull(cfg *pgconn.Config) {
	hosts := append([]*pgconn.FallbackConfig{{Host: cfg.Host, Port: cfg.Port, TLSConfig: cfg.TLSConfig}}, cfg.Fallbacks...)
	local := true
	for _, h := range hosts {
		local = local && isLocal(h.Host)
	}
	if local {
		return
	}
	var verified []*pgconn.FallbackConfig
	for i := 0; i < len(hosts); i++ {
		h := hosts[i]
		if isSocket(h.Host) {
			verified = append(verified, h)
			continue
		}
		if !preferred(hosts[i:]) {
			return
		}
		verified = append(verified, &pgconn.FallbackConfig{Host: h.Host, Port: h.Port, TLSConfig: verifying(h.TLSConfig, h.Host)})
		i++ // the attempt without TLS
	}
	cfg.TLSConfig, cfg.Fallbacks = verified[0].TLSConfig, verified[1:]
}

// preferred tells whether the attempts begin with the two of sslmode=prefer.
func preferred(attempts []*pgconn.FallbackConfig) bool {
	return len(attempts) >= 2 && attempts[0].Host == attempts[1].Host && attempts[0].Port == attempts[1].Port &&
		attempts[0].TLSConfig != nil && attempts[0].TLSConfig.InsecureSkipVerify && attempts[0].TLSConfig.VerifyPeerCertificate == nil &&
		attempts[1].TLSConfig == nil
}

// verifying returns the settings of sslmode=verify-full: chain and host name are checked.
func verifying(insecure *tls.Config, host string) *tls.Config {
	t := insecure.Clone()
	t.InsecureSkipVerify = false
	t.ServerName = host
	t.MinVersion = tls.VersionTLS12
	return t
}

func isSocket(host string) bool { return filepath.IsAbs(host) || strings.HasPrefix(host, "/") }

func isLocal(host string) bool {
	ip := net.ParseIP(host)
	return isSocket(host) || host == "localhost" || ip != nil && ip.IsLoopback()
}

// parseMessage is what pgx says of a URL it cannot read, without the URL: where a URL is malformed
// nobody can tell which part of it is the password.
func parseMessage(err error) string {
	var parse *pgconn.ParseConfigError
	msg := err.Error()
	if errors.As(err, &parse) {
		if at := strings.LastIndex(msg, "`: "); at >= 0 {
			msg = msg[at+3:]
		}
	}
	return fmt.Sprintf("it cannot be parsed: %s", quoted.ReplaceAllLiteralString(msg, `"…"`))
}

// quoted finds what an error message quotes of its input.
var quoted = regexp.MustCompile(`"[^"]*"`)
