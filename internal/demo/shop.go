package demo

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

//go:embed shop.sql
var tables string

// schema is where the shop's tables are.
const schema = "shop"

const (
	// clerks write at the same time, so that transactions interleave.
	clerks = 3
	// pause is how long a clerk rests between two transactions, on average: all of them together
	// write about as much as a person can still follow on a screen.
	pause = 250 * time.Millisecond
)

// Shop writes rows like a small shop does, and notes in a ledger what it committed.
type Shop struct {
	url    string
	ledger *Ledger
}

// NewShop returns a shop in a database; it does not connect yet.
func NewShop(url string, l *Ledger) *Shop { return &Shop{url: url, ledger: l} }

// Create makes the tables.
func (s *Shop) Create(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return fmt.Errorf("connect to the shop: %w", err)
	}
	_, err = conn.Exec(ctx, tables)
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return fmt.Errorf("create the shop's tables: %w", err)
	}
	return nil
}

// AwaitSlot blocks until the slot can carry changes: what is committed from then on must arrive.
func (s *Shop) AwaitSlot(ctx context.Context, slot string) error {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return fmt.Errorf("connect to the shop: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has only read
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		var ready bool
		err := conn.QueryRow(ctx, `SELECT count(*) = 1 FROM pg_replication_slots
			WHERE slot_name = $1 AND active AND confirmed_flush_lsn IS NOT NULL`, slot).Scan(&ready)
		if err != nil {
			return fmt.Errorf("look for the slot: %w", err)
		}
		if ready {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Run lets the clerks work until ctx ends, and returns when the last of them has finished its
// transaction: then the ledger is whole.
func (s *Shop) Run(ctx context.Context) error {
	group, work := errgroup.WithContext(ctx)
	for range clerks {
		group.Go(func() error { return s.clerk(work) })
	}
	return group.Wait()
}

func (s *Shop) clerk(ctx context.Context) error {
	// A transaction that has begun is finished: had its COMMIT been cut off, nobody could say
	// whether it counts.
	whole := context.WithoutCancel(ctx)
	conn, err := pgx.Connect(whole, s.url)
	if err != nil {
		return fmt.Errorf("connect to the shop: %w", err)
	}
	defer func() { _ = conn.Close(whole) }() // every transaction has its own error
	c := &clerk{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause/2 + rand.N(pause)): //nolint:gosec // a shop's customers, no secret
		}
		if err := s.serve(whole, conn, c); err != nil {
			return err
		}
	}
}

// serve runs one transaction of the clerk, one in twelve of which ends with a rollback.
func (s *Shop) serve(ctx context.Context, conn *pgx.Conn, c *clerk) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	before := *c
	c.tx, c.changes = tx, nil
	if err := c.work(ctx); err != nil {
		return errors.Join(err, tx.Rollback(ctx))
	}
	if rand.N(12) == 0 { //nolint:gosec // a shop's customers, no secret
		*c = before
		s.ledger.undone()
		if err := tx.Rollback(ctx); err != nil {
			return fmt.Errorf("roll a transaction back: %w", err)
		}
		return nil
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit a transaction: %w", err)
	}
	s.ledger.committed(c.changes)
	return nil
}
