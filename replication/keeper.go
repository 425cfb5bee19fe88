package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// keeperAnswerIn is how long a server gets for what an operator has it do: reading the WAL up to where a slot is
// to stand takes its time.
const keeperAnswerIn = time.Hour

// View is what a pipeline has at its server.
type View struct {
	// Server is the server with the slot's state; Slot is nil where the slot does not exist.
	Server event.Server
	// Standby tells that the server is in recovery: it serves no pipeline before it is promoted.
	Standby bool
	// Published tells whether the publication exists; Fingerprint is then what Setup.Fingerprint would
	// return. Owned tells whether the role may drop it, and Owner who owns it.
	Published   bool
	Fingerprint string
	Owned       bool
	Owner       string
}

// Keeper looks at a pipeline's slot and publication from outside, and changes them for an operator. It
// is for one goroutine.
type Keeper struct {
	cfg   Config
	lock  *pgx.Conn // holds the set-up lock, nil without it
	start string    // of the server that lock reached; with the lock, Look asks no other
}

// NewKeeper makes a Keeper; it does no I/O.
func NewKeeper(cfg Config) *Keeper { return &Keeper{cfg: cfg} }

// Look reads, and changes nothing. It may be called while the pipeline runs. With the lock it looks at the
// server that the lock is on, and nowhere else.
func (k *Keeper) Look(ctx context.Context) (View, error) {
	var only suits
	if k.lock != nil {
		only = startedAt(k.start)
	}
	conn, err := k.cfg.connectSQL(ctx, only)
	if errors.Is(err, errStandby) {
		conn, err = k.cfg.connectSQL(ctx, isThere)
	}
	if err != nil {
		return View{}, err
	}
	defer func() { _ = hangUp(conn) }() // nothing is at stake: it only read
	start, err := k.cfg.whichServer(ctx, conn)
	if err != nil {
		return View{}, err
	}
	srv, err := k.cfg.identify(ctx, startedAt(start))
	if err != nil {
		return View{}, err
	}
	v := View{Server: srv}
	if err := conn.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&v.Standby); err != nil {
		return View{}, explain("look at the server", err)
	}
	p, err := readPublication(ctx, conn, k.cfg.Publication.Name, srv.Version)
	if err != nil || p == nil {
		return v, err
	}
	v.Published, v.Fingerprint = true, k.cfg.fingerprint(p)
	const owner = "SELECT pg_get_userbyid(pubowner)::text, pg_has_role(pubowner, 'USAGE') FROM pg_publication WHERE oid = $1"
	err = conn.QueryRow(ctx, owner, p.oid).Scan(&v.Owner, &v.Owned)
	return v, explain("read the publication's owner", err)
}

// Lock keeps every instance of the pipeline from starting until Close. It does not wait: while one is
// just starting, the error is fault.SlotBusy. An instance that has started already is not kept from
// anything.
func (k *Keeper) Lock(ctx context.Context) error {
	cfg := k.cfg
	cfg.answerIn = keeperAnswerIn
	conn, err := cfg.connectSQL(ctx, nil)
	if err != nil {
		return err
	}
	ctx, cancel := k.cfg.inTime(ctx)
	defer cancel()
	start, err := serverStart(ctx, conn.PgConn())
	if err == nil {
		_, err = conn.Exec(ctx, "SELECT set_config('statement_timeout', '0', false), set_config('idle_session_timeout', '0', false)")
	}
	var free bool
	if err == nil {
		free, err = k.cfg.tryLock(ctx, conn)
	}
	if err == nil && !free {
		err = fault.New(fault.SlotBusy, "take the set-up lock", errors.New("an instance of this pipeline is just starting, or another command is at work"), "Stop every instance first, standbys too.")
	}
	if err != nil {
		_ = hangUp(conn) // the cause is err
		return explain("take the set-up lock", err)
	}
	k.lock, k.start = conn, start
	return nil
}

// Advance has the slot confirm lsn; the server then sends nothing that commits before. The checkpoint
// must cover lsn already. It needs the lock.
func (k *Keeper) Advance(ctx context.Context, lsn event.LSN) error {
	return k.exec(ctx, "advance the slot", "SELECT pg_replication_slot_advance($1, $2::text::pg_lsn)", k.cfg.Slot.Name, lsn.String())
}

// DropSlot drops the slot; one that is gone is fine. It needs the lock.
func (k *Keeper) DropSlot(ctx context.Context) error {
	err := k.exec(ctx, "drop the slot", "SELECT pg_drop_replication_slot($1)", k.cfg.Slot.Name)
	if fault.Is(err, fault.SlotMissing) {
		return nil
	}
	return err
}

// DropPublication drops the publication; one that is gone is fine. It needs the lock.
func (k *Keeper) DropPublication(ctx context.Context) error {
	return k.exec(ctx, "drop the publication", k.DropPublicationSQL())
}

// DropPublicationSQL is the statement of DropPublication, for whoever owns the publication.
func (k *Keeper) DropPublicationSQL() string {
	return fmt.Sprintf("DROP PUBLICATION IF EXISTS %s;", pgx.Identifier{k.cfg.Publication.Name}.Sanitize())
}

func (k *Keeper) exec(ctx context.Context, op, sql string, args ...any) error {
	if k.lock == nil {
		return fault.New(fault.Internal, op, errors.New("not locked"), "")
	}
	_, err := k.lock.Exec(ctx, sql, args...)
	return explain(op, err)
}

// Close gives the lock back, where it was taken. It may be called twice.
func (k *Keeper) Close() error {
	if k.lock == nil {
		return nil
	}
	s := Setup{conn: k.lock}
	k.lock = nil
	return s.Close()
}
