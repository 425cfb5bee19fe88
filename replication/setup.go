package replication

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

const (
	// oldestVersion is the oldest server_version_num that is tested.
	oldestVersion = 140000
	// lockPoll is how often the lock of another instance's set-up is tried.
	lockPoll = 500 * time.Millisecond
	// blockersEvery is how often it is said whom the creation of a slot waits for.
	blockersEvery = 10 * time.Second
)

// Setup is a server that was found fit for a start, and the lock that keeps other instances of the
// pipeline from starting at the same time. It implements pipeline.Setup.
type Setup struct {
	cfg    Config
	log    *slog.Logger
	conn   *pgx.Conn // holds the lock
	start  string    // of the server that conn reached; every other connection goes there
	server event.Server
	// tables are by name; captured are the same as members of the publication.
	tables      []*event.Table
	captured    []member
	identities  []identity // of captured and their leaf partitions
	publication *publication
	login       login // what conn was made with
	// blockersEvery is the constant, shorter in tests.
	blockersEvery time.Duration
}

// prepare takes the set-up lock, which may mean waiting for another instance, checks the server, the
// role, the tables and the publication, and makes the publication where it may and must.
func prepare(ctx context.Context, cfg Config, cat *catalog, log *slog.Logger) (*Setup, error) {
	conn, used, err := cfg.connectSQLAs(ctx, nil)
	if err != nil {
		return nil, err
	}
	s := &Setup{cfg: cfg, log: log, conn: conn, login: used, blockersEvery: blockersEvery}
	if err := s.run(ctx, cat); err != nil {
		_ = s.Close() // the cause is err
		return nil, err
	}
	return s, nil
}

func (s *Setup) run(ctx context.Context, cat *catalog) error {
	var err error
	if s.start, err = s.cfg.whichServer(ctx, s.conn); err != nil {
		return err
	}
	cat.follow(s.start)
	version, err := sqlVersion(ctx, s.conn)
	if err != nil {
		return err
	}
	if err := s.checkSettings(ctx, version); err != nil {
		return err
	}
	if err := s.lock(ctx); err != nil {
		return err
	}
	if s.server, err = s.cfg.identify(ctx, startedAt(s.start)); err != nil {
		return err
	}
	s.sayFailover()
	if err := s.publish(ctx); err != nil {
		return err
	}
	s.tables, err = describe(ctx, s.conn, cat, s.captured, s.identities)
	return err
}

// Server returns the server with the slot's state; Slot is nil where the slot does not exist.
func (s *Setup) Server() event.Server { return s.server }

// Look asks the server again: Server returns what it says then.
func (s *Setup) Look(ctx context.Context) error {
	srv, err := s.cfg.identify(ctx, startedAt(s.start))
	if err == nil {
		s.server = srv
	}
	return err
}

// Tables returns the captured tables as the catalog has them now, by name.
func (s *Setup) Tables() []*event.Table { return s.tables }

// Close gives the lock back and hangs up. It may be called twice.
func (s *Setup) Close() error {
	if s.conn.IsClosed() {
		return nil
	}
	// Hanging up alone frees the lock only once the server has noticed it.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err := s.conn.Exec(ctx, "SELECT pg_advisory_unlock_all()")
	return explain("close the set-up connection", errors.Join(err, hangUp(s.conn)))
}

// sqlVersion returns server_version_num.
func sqlVersion(ctx context.Context, conn *pgx.Conn) (int, error) {
	const op = "read the server's version"
	var text string
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')").Scan(&text); err != nil {
		return 0, explain(op, err)
	}
	version, err := strconv.Atoi(text)
	if err != nil {
		return 0, fault.New(fault.Internal, op, err, "")
	}
	return version, nil
}

// checkSettings refuses a server that cannot do it. It also keeps the server from ending the
// connection that holds the lock for being idle.
func (s *Setup) checkSettings(ctx context.Context, version int) error {
	const op = "check the server"
	if version < oldestVersion {
		return fault.New(fault.PostgresSettings, op, fmt.Errorf("the server is Postgres %d.%d", version/10000, version%10000), "walferry needs Postgres 14 or later.")
	}
	var level string
	err := s.conn.QueryRow(ctx, "SELECT current_setting('wal_level') FROM set_config('idle_session_timeout', '0', false)").Scan(&level)
	if err != nil {
		return explain(op, err)
	}
	if level != "logical" {
		return fault.New(fault.PostgresSettings, op, fmt.Errorf("wal_level is %s", level), walLevelHint)
	}
	return nil
}

// lock takes the advisory lock of the slot's name. It is tried again and again, not waited for at
// the server: there a wait would outlive a client that gave up.
func (s *Setup) lock(ctx context.Context) error {
	const op = "wait for the set-up lock"
	for said := false; ; said = true {
		locked, err := s.cfg.tryLock(ctx, s.conn)
		if locked || err != nil {
			return err
		}
		if !said {
			s.log.Info("waiting: another instance of this pipeline is starting", "slot", s.cfg.Slot.Name)
		}
		select {
		case <-time.After(lockPoll):
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", op, ctx.Err())
		}
	}
}

// tryLock takes the set-up lock for the connection, and returns whether it was free.
func (c Config) tryLock(ctx context.Context, conn *pgx.Conn) (bool, error) {
	sum := sha256.Sum256([]byte("walferry slot " + c.Slot.Name))
	key := int64(binary.BigEndian.Uint64(sum[:8])) //nolint:gosec // any 64 bits will do
	var locked bool
	err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", key).Scan(&locked)
	return locked, explain("take the set-up lock", err)
}

// identify learns over the replication protocol what only that tells, and thereby whether the role
// may use it.
func (c Config) identify(ctx context.Context, want suits) (event.Server, error) {
	conn, err := c.connect(ctx, true, want)
	if err != nil {
		return event.Server{}, err
	}
	defer func() { _ = hangUp(conn) }() // nothing is at stake: it only read
	return c.serverState(ctx, conn)
}

// publish finds the tables and sees to it that the publication holds them.
func (s *Setup) publish(ctx context.Context) error {
	all, err := listTables(ctx, s.conn)
	if err != nil {
		return err
	}
	tables, empty, err := s.cfg.expand(all)
	if err != nil {
		return err
	}
	if err := s.cfg.checkLists(s.server.Version); err != nil {
		return err
	}
	for _, pattern := range empty {
		s.log.Warn("no table fits this entry of the configuration", "tables", pattern)
	}
	p, err := readPublication(ctx, s.conn, s.cfg.Publication.Name, s.server.Version)
	if err != nil {
		return err
	}
	made := p == nil
	if made {
		if p, err = s.create(ctx, tables); err != nil {
			return err
		}
	}
	captured, left, err := p.check(s.cfg, tables)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		s.log.Warn("tables fit a pattern but are not in the publication: their changes are not sent",
			"tables", names(left), "publication", p.name, "sql", p.alter("ADD TABLE "+s.cfg.clauses(left)))
	}
	differ, err := p.checkWanted(s.cfg, captured)
	if err != nil {
		return err
	}
	for _, m := range differ {
		s.log.Warn("the row filter of the publication is written differently from the configured one: walferry plan tells whether it means the same",
			"table", m.String(), "published", m.filter, "configured", s.cfg.entry(m.dbTable).Where)
	}
	s.publication, s.captured = p, captured
	if s.identities, err = identities(ctx, s.conn, plain(captured)); err != nil {
		return err
	}
	return s.checkCaptured(made)
}

// create makes the publication, unless that would break an application.
func (s *Setup) create(ctx context.Context, tables []dbTable) (*publication, error) {
	sql := s.cfg.createSQL(tables)
	if !s.cfg.Publication.Create {
		return nil, s.cfg.publicationMissing(sql)
	}
	if s.login.leased {
		return nil, fault.New(fault.PublicationMissing, "create the publication",
			errors.New("walferry logs in with a dynamic role of Vault, which must not own anything: Vault could not drop it any more"),
			"Create the publication yourself, as a role that stays:\n"+sql)
	}
	ids, err := identities(ctx, s.conn, tables)
	if err != nil {
		return nil, err
	}
	if bad := flaws(ids, s.server.Version, func(uint32, string) bool { return false }); len(bad) > 0 {
		return nil, identityFault(bad)
	}
	if err := s.cfg.createPublication(ctx, s.conn, tables, s.server.Version); err != nil {
		return nil, err
	}
	p, err := readPublication(ctx, s.conn, s.cfg.Publication.Name, s.server.Version)
	if err == nil && p == nil {
		err = s.cfg.publicationMissing(sql) // dropped within this moment
	}
	if err == nil {
		s.log.Info("created the publication", "publication", p.name, "tables", len(p.members))
	}
	return p, err
}

// checkCaptured looks at the tables as the publication has them. What a publication of somebody
// else's does to the application has happened already, so that it is only said; what would leave
// changes without a key is refused.
func (s *Setup) checkCaptured(made bool) error {
	ids := s.identities
	if names := unlogged(ids); len(names) > 0 {
		s.log.Warn("foreign and unlogged partitions are not in the WAL: their changes are not sent", "tables", names)
	}
	if err := s.publication.checkColumns(s.captured, ids); err != nil {
		return err
	}
	if err := s.cfg.checkKeys(s.captured, ids); err != nil {
		return err
	}
	if made {
		return nil
	}
	for _, f := range flaws(ids, s.server.Version, s.publication.sends) {
		s.log.Warn("updates and deletes of this table fail or have no key while it is published",
			"table", f.table.String(), "cause", f.reason, "sql", f.sql)
	}
	return nil
}

// Fingerprint returns a hash of what decides which messages the stream holds: the command that
// starts it, and the publication. Tables that a publication of all tables gains do not change it.
func (s *Setup) Fingerprint() string { return s.cfg.fingerprint(s.publication) }

func (c Config) fingerprint(p *publication) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%t %t %t %t %t %t %s\n", c.startCommand(), p.allTables, p.insert, p.update, p.deletes, p.truncate, p.viaRoot, p.generated)
	if !p.allTables {
		for _, m := range p.members {
			columns := []string(nil)
			if m.list {
				columns = m.columns
			}
			fmt.Fprintf(&b, "%s %q %q\n", m, columns, m.filter)
		}
	}
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:16])
}
