package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// CreateSlot creates the slot. It blocks until every transaction that runs at this moment has ended,
// and says whom it waits for. A slot that exists is fine if it is one that this call would have made.
// When ctx ends, the server is told to give up.
func (s *Setup) CreateSlot(ctx context.Context) error {
	const op = "create the slot"
	cfg, err := s.cfg.parse(true, startedAt(s.start))
	if err != nil {
		return err
	}
	cfg.BuildContextWatcherHandler = cancelAtServer
	conn, _, err := s.cfg.dial(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = hangUp(conn) }() // the slot is on disk once the command has answered
	err = s.awaitSlot(ctx, conn)
	if ctx.Err() != nil && err != nil {
		return fmt.Errorf("%s: %w", op, ctx.Err())
	}
	if pg := serverError(err); pg != nil && pg.Code == "42710" {
		state, err := s.cfg.serverState(ctx, conn)
		if err != nil {
			return err
		}
		return checkOwn(state)
	}
	return err
}

// createSlotCommand returns CREATE_REPLICATION_SLOT in the server's own dialect. From 17 on the slot is one
// that standbys may synchronize; where none does, that changes nothing.
func (c Config) createSlotCommand(version int) string {
	options := "NOEXPORT_SNAPSHOT"
	if version >= failoverVersion {
		options = "(SNAPSHOT 'nothing', FAILOVER)"
	}
	return `CREATE_REPLICATION_SLOT "` + c.Slot.Name + `" LOGICAL pgoutput ` + options
}

// failoverVersion is the first server_version_num whose slots can follow a failover.
const failoverVersion = 170000

// sayFailover tells of a slot that would stay behind in a failover and need not. Only an operator can
// say whether it should, so nothing is changed.
func (s *Setup) sayFailover() {
	if slot := s.server.Slot; slot == nil || slot.Failover || s.server.Version < failoverVersion {
		return
	}
	s.log.Info("the slot was made without failover: it stays behind when a standby is promoted; with walferry stopped, a replication connection can change that",
		"slot", s.cfg.Slot.Name, "command", `ALTER_REPLICATION_SLOT "`+s.cfg.Slot.Name+`" (FAILOVER true)`)
}

// awaitSlot sends the command and waits for its end, however long that takes, but not without the lock of the
// set-up: a connection that does not answer any more has lost it.
func (s *Setup) awaitSlot(ctx context.Context, conn *pgconn.PgConn) error {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	var lost error
	done := make(chan error, 1)
	go func() { // ends with the command, which ctx ends
		_, err := simpleQuery(ctx, conn, "create the slot", s.cfg.createSlotCommand(s.server.Version))
		done <- err
	}()
	tick := time.NewTicker(s.blockersEvery)
	defer tick.Stop()
	for started := time.Now(); ; {
		select {
		case <-tick.C:
			s.sayBlockers(ctx, conn.PID(), time.Since(started))
			if s.conn.IsClosed() && ctx.Err() == nil {
				lost = fault.New(fault.PostgresUnavailable, "create the slot", errors.New("the connection that holds the lock of the set-up is lost"), "")
				leave()
			}
		case err := <-done:
			if err != nil && lost != nil {
				return lost
			}
			return err
		}
	}
}

// checkOwn tells whether an existing slot could be one that CreateSlot made.
func checkOwn(srv event.Server) error {
	const op = "create the slot"
	name := srv.Origin.Slot
	switch slot := srv.Slot; {
	case slot == nil:
		return fault.New(fault.PostgresUnavailable, op, fmt.Errorf("slot %s came and went", name), "")
	case slot.Plugin != "pgoutput":
		return fault.New(fault.SlotPlugin, op, fmt.Errorf("slot %s exists, with the plugin %q", name, slot.Plugin), "Choose another slot name.")
	case slot.Database != srv.Origin.Database:
		return fault.New(fault.SlotDatabase, op, fmt.Errorf("slot %s exists, for database %q", name, slot.Database), "Choose another slot name: slots of all databases share one space of names.")
	case slot.TwoPhase:
		return fault.New(fault.SlotTwoPhase, op, fmt.Errorf("slot %s exists, with two_phase", name), "Choose another slot name.")
	case slot.Temporary || slot.Confirmed.IsZero():
		return fault.New(fault.PostgresUnavailable, op, fmt.Errorf("slot %s is being made by process %d", name, slot.PID), "")
	default:
		return nil
	}
}

// A prepared transaction blocks without a process; it shows as process 0.
const blockersQuery = `
SELECT b.pid, coalesce(a.application_name, ''), coalesce(a.usename::text, ''), coalesce(a.state, ''),
    coalesce(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, x.prepared)), 0)::float8, coalesce(x.gid, '')
FROM unnest(pg_blocking_pids($1)) b (pid)
LEFT JOIN pg_stat_activity a ON a.pid = b.pid
LEFT JOIN LATERAL (SELECT gid, prepared FROM pg_prepared_xacts ORDER BY prepared LIMIT 1) x ON b.pid = 0
ORDER BY 5 DESC LIMIT 1`

// sayBlockers logs the oldest transaction that a walsender waits for. What it runs is not asked:
// queries hold values.
func (s *Setup) sayBlockers(ctx context.Context, walsender uint32, waited time.Duration) {
	var (
		pid                    int32
		app, user, state, name string
		age                    float64
	)
	err := s.conn.QueryRow(ctx, blockersQuery, walsender).Scan(&pid, &app, &user, &state, &age, &name)
	line := s.log.With("slot", s.cfg.Slot.Name, "waited", waited.Round(time.Second).String())
	const msg = "creating the slot: waiting for running transactions to end"
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		line.Info(msg)
	case err != nil:
		line.Info(msg, "oldest", "not known: "+explain("ask for it", err).Error())
	default:
		line.Info(msg, "pid", pid, "application_name", app, "user", user, "state", state, "prepared", name,
			"age", time.Duration(age*float64(time.Second)).Round(time.Second).String())
	}
}
