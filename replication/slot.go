package replication

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// slotName is what Postgres takes for the name of a slot. Nothing else is put into a replication
// command, which has no parameters.
var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// serverState asks a replication connection what it is connected to: the state of the slot, the
// cluster and its timelines, and the end of its WAL. The slot comes first: when nobody holds it, End
// is at or after everything that was ever read from it, and so after any checkpoint of that.
func (c Config) serverState(ctx context.Context, conn *pgconn.PgConn) (event.Server, error) {
	if !slotName.MatchString(c.Slot.Name) {
		return event.Server{}, fault.New(fault.ConfigInvalid, "read the slot's name", fmt.Errorf("slot name %q: want 1 to 63 of a-z, 0-9 and _", c.Slot.Name), "")
	}
	ctx, cancel := c.inTime(ctx)
	defer cancel()
	version, err := serverVersion(ctx, conn)
	if err != nil {
		return event.Server{}, err
	}
	slot, err := c.slotState(ctx, conn, version)
	if err != nil {
		return event.Server{}, err
	}
	sys, err := pglogrepl.IdentifySystem(ctx, conn)
	if err != nil {
		return event.Server{}, explain("identify the server", err)
	}
	srv := event.Server{
		Origin:   event.Origin{SystemID: sys.SystemID, Database: sys.DBName, Slot: c.Slot.Name},
		Version:  version,
		Timeline: uint32(sys.Timeline), //nolint:gosec // a timeline is unsigned at the server
		End:      event.LSN(sys.XLogPos),
		Slot:     slot,
	}
	if srv.Timeline > 1 {
		h, err := pglogrepl.TimelineHistory(ctx, conn, sys.Timeline)
		if err != nil {
			return event.Server{}, explain("read the history of timelines", err)
		}
		if srv.Switches, err = parseHistory(h.Content); err != nil {
			return event.Server{}, fault.New(fault.Internal, "read the history of timelines", err, "")
		}
	}
	return srv, nil
}

// parseHistory reads a timeline history file: a timeline, the LSN it ended at and a reason per line,
// oldest first.
func parseHistory(content []byte) ([]event.Switch, error) {
	var switches []event.Switch
	for line := range strings.Lines(string(content)) {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) < 2 {
			return nil, fmt.Errorf("parse timeline history: %q: want a timeline and an LSN", strings.TrimSpace(line))
		}
		timeline, err := strconv.ParseUint(f[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("parse timeline history: timeline %q: %w", f[0], err)
		}
		at, err := event.ParseLSN(f[1])
		if err != nil {
			return nil, fmt.Errorf("parse timeline history: %w", err)
		}
		switches = append(switches, event.Switch{Timeline: uint32(timeline), At: at})
	}
	return switches, nil
}

// serverVersion returns server_version_num.
func serverVersion(ctx context.Context, conn *pgconn.PgConn) (int, error) {
	const op = "read the server's version"
	rows, err := simpleQuery(ctx, conn, op, "SELECT pg_catalog.current_setting('server_version_num')")
	if err != nil {
		return 0, err
	}
	if len(rows) != 1 {
		return 0, fault.New(fault.Internal, op, errors.New("no answer"), "")
	}
	version, err := strconv.Atoi(string(rows[0][0]))
	if err != nil {
		return 0, fault.New(fault.Internal, op, err, "")
	}
	return version, nil
}

// invalidationSQL is why a row of pg_replication_slots is invalid, by what a version has of that.
func invalidationSQL(version int) string {
	switch {
	case version >= failoverVersion:
		return "invalidation_reason"
	case version >= 160000:
		// 16 says conflicting whatever the reason; a slot that has lost its WAL has no restart_lsn left.
		return "CASE WHEN NOT conflicting THEN NULL WHEN restart_lsn IS NULL THEN 'wal_removed' ELSE 'conflict' END"
	default:
		return "NULL"
	}
}

// slotState reads the slot's row of pg_replication_slots, nil where there is none.
func (c Config) slotState(ctx context.Context, conn *pgconn.PgConn, version int) (*event.Slot, error) {
	const op = "read the state of the slot"
	failover := "false"
	if version >= failoverVersion {
		failover = "failover"
	}
	rows, err := simpleQuery(ctx, conn, op, `
SELECT plugin, database, two_phase, temporary, active, active_pid, wal_status, `+invalidationSQL(version)+`, restart_lsn, confirmed_flush_lsn, `+failover+`
FROM pg_catalog.pg_replication_slots WHERE slot_name = '`+c.Slot.Name+`'`)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	r := rows[0]
	s := &event.Slot{
		Plugin: string(r[0]), Database: string(r[1]),
		TwoPhase: string(r[2]) == "t", Temporary: string(r[3]) == "t", Active: string(r[4]) == "t",
		WALStatus: string(r[6]), Invalidation: string(r[7]), Failover: string(r[10]) == "t",
	}
	var errPID, errRestart, errConfirmed error
	if r[5] != nil {
		s.PID, errPID = strconv.Atoi(string(r[5]))
	}
	s.Restart, errRestart = lsnOrZero(r[8])
	s.Confirmed, errConfirmed = lsnOrZero(r[9])
	if err := errors.Join(errPID, errRestart, errConfirmed); err != nil {
		return nil, fault.New(fault.Internal, op, err, "")
	}
	return s, nil
}

// lsnOrZero parses a pg_lsn, or nil for NULL.
func lsnOrZero(b []byte) (event.LSN, error) {
	if b == nil {
		return 0, nil
	}
	return event.ParseLSN(string(b))
}

// simpleQuery runs one statement by the simple protocol, the only one of a replication connection,
// and returns its rows as text.
func simpleQuery(ctx context.Context, conn *pgconn.PgConn, op, sql string) ([][][]byte, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, explain(op, err)
	}
	if len(results) != 1 {
		return nil, fault.New(fault.Internal, op, fmt.Errorf("%d results for one statement", len(results)), "")
	}
	return results[0].Rows, nil
}
