package cdctest

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// A nemesis does harm to one part of the system. Those that are one call are made where they are
// needed: Process.Kill, pgserver's Stop(Immediate) and Kill, kafkaserver's Kill and Pause.

// TerminateWalsenders ends every walsender that reads the slot and returns how many there were.
func TerminateWalsenders(ctx context.Context, dsn, slot string) (int, error) {
	var n int
	err := once(ctx, dsn, &n, `
		SELECT count(*) FILTER (WHERE pg_terminate_backend(active_pid))
		FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL`, slot)
	return n, err
}

// Walsender returns the process id of the walsender that streams from the slot, 0 where there is none:
// from the first one on the load's changes are in the slot. That a process holds the slot is not
// enough, because so does the one that is just creating it.
func Walsender(ctx context.Context, dsn, slot string) (int, error) {
	var pid int
	err := once(ctx, dsn, &pid, `
		SELECT coalesce(max(active_pid), 0) FROM pg_replication_slots s JOIN pg_stat_replication r ON r.pid = s.active_pid
		WHERE slot_name = $1 AND state IN ('catchup', 'streaming')`, slot)
	return pid, err
}

// WALEnd returns the end of the server's WAL, for CaughtUp.
func WALEnd(ctx context.Context, dsn string) (string, error) {
	var lsn string
	err := once(ctx, dsn, &lsn, "SELECT pg_current_wal_lsn()::text")
	return lsn, err
}

// CaughtUp tells whether everything that was committed before lsn is confirmed.
func CaughtUp(ctx context.Context, dsn, slot, lsn string) (bool, error) {
	var up bool
	err := once(ctx, dsn, &up, "SELECT confirmed_flush_lsn >= $2::pg_lsn FROM pg_replication_slots WHERE slot_name = $1", slot, lsn)
	return up, err
}

func once(ctx context.Context, dsn string, into any, sql string, args ...any) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := conn.QueryRow(ctx, sql, args...).Scan(into); err != nil {
		return fmt.Errorf("ask the server: %w", err)
	}
	return nil
}
