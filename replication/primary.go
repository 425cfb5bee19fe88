package replication

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walferry/walferry/fault"
)

// suits says whether the server at the other end of a new connection will do; nil stands for isPrimary.
// Where the URL names several hosts, one that does not gives way to the next.
type suits func(ctx context.Context, conn *pgconn.PgConn) error

// settled is a refusal that no other host can change: a new primary that lacks what was read. Without it
// a former primary that does not answer any more would be waited for in vain.
type settled struct{ error }

func (e settled) Unwrap() error { return e.error }

const choosing = "choose a server"

// errStandby is why isPrimary refuses.
var errStandby = errors.New("this server is a standby")

// isPrimary refuses standbys: a slot of a standby is another stream, and one that is synchronized to
// it cannot be read there. A standby may be promoted any moment, so that it is worth another attempt.
func isPrimary(ctx context.Context, conn *pgconn.PgConn) error {
	rows, err := simpleQuery(ctx, conn, choosing, "SELECT pg_catalog.pg_is_in_recovery()")
	if err != nil {
		return err
	}
	if len(rows) == 1 && string(rows[0][0]) == "t" {
		return fault.New(fault.PostgresUnavailable, choosing, errStandby, standbyHint)
	}
	return nil
}

// isThere accepts every server.
func isThere(context.Context, *pgconn.PgConn) error { return nil }

// choose puts our condition before that of the URL's target_session_attrs (nil where it has none), which
// may mean "rather not" where ours means "no".
func choose(want suits, given pgconn.ValidateConnectFunc) pgconn.ValidateConnectFunc {
	if want == nil {
		want = isPrimary
	}
	return func(ctx context.Context, conn *pgconn.PgConn) error {
		if err := want(ctx, conn); err != nil || given == nil {
			return err
		}
		return given(ctx, conn)
	}
}

// whichServer is serverStart over an SQL connection that is made.
func (c Config) whichServer(ctx context.Context, conn *pgx.Conn) (string, error) {
	ctx, cancel := c.inTime(ctx)
	defer cancel()
	return serverStart(ctx, conn.PgConn())
}

// serverStart returns when the server at the other end was started, as it prints it: what tells one
// server of a host list from another, also where both call themselves primary.
func serverStart(ctx context.Context, conn *pgconn.PgConn) (string, error) {
	rows, err := simpleQuery(ctx, conn, choosing, "SELECT pg_catalog.pg_postmaster_start_time()")
	if err != nil {
		return "", err
	}
	if len(rows) != 1 {
		return "", fault.New(fault.Internal, choosing, errors.New("no answer"), "")
	}
	return string(rows[0][0]), nil
}

// startedAt accepts the one server that was started at that time. A former primary that is back must
// not answer for the catalog of the new one.
func startedAt(start string) suits {
	return func(ctx context.Context, conn *pgconn.PgConn) error {
		is, err := serverStart(ctx, conn)
		if err == nil && is != start {
			err = fault.New(fault.PostgresUnavailable, choosing,
				fmt.Errorf("this server was started at %s, the one that another connection reads from at %s", is, start), "")
		}
		return err
	}
}
