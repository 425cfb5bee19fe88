package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// schema makes a table of seven columns with rows of some 190 bytes, and what fills it: as fast as it
// can, or at an even rate. The publication goes before every slot.
const schema = `
CREATE TABLE orders (id int8 PRIMARY KEY, status text, at timestamptz, amount numeric(10,2), email text, gift bool, note text);
CREATE PUBLICATION bench FOR TABLE orders;
CREATE PROCEDURE fill(first int, last int, per_commit int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN first..last BY per_commit LOOP
		INSERT INTO orders SELECT n, 'paid', clock_timestamp(), n % 100000 / 100.0, 'customer-' || n || '@example.com', n % 2 = 0,
			'a longer note of some sixty bytes, as orders have them, more or less'
		FROM generate_series(i, least(i + per_commit - 1, last)) n;
		COMMIT;
	END LOOP;
END $$;
CREATE PROCEDURE write_evenly(first int, last int, per_second float8) LANGUAGE plpgsql AS $$
DECLARE
	began timestamptz := clock_timestamp();
	ahead float8;
BEGIN
	FOR i IN first..last LOOP
		ahead := (i - first) / per_second - extract(epoch FROM clock_timestamp() - began);
		IF ahead > 0 THEN
			PERFORM pg_sleep(ahead);
		END IF;
		INSERT INTO orders VALUES (i, 'paid', clock_timestamp(), i % 100000 / 100.0, 'customer-' || i || '@example.com', i % 2 = 0,
			'a longer note of some sixty bytes, as orders have them, more or less');
		COMMIT;
	END LOOP;
END $$`

// fillers is how many connections fill the table.
const fillers = 4

// filled is a load that waits in slots.
type filled struct {
	load
	// end is behind the last row; a message follows it, so that a reader is told that it is there.
	end string
}

// prepare makes the table empty, and then the slots.
func (r *rig) prepare(ctx context.Context, slots []string) error {
	conn, err := pgx.Connect(ctx, r.pg.DSN("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	var made bool
	if err := conn.QueryRow(ctx, "SELECT to_regclass('orders') IS NOT NULL").Scan(&made); err != nil {
		return err
	}
	if !made {
		if _, err := conn.Exec(ctx, schema); err != nil {
			return err
		}
	}
	if _, err := conn.Exec(ctx, "TRUNCATE orders"); err != nil {
		return err
	}
	for _, s := range slots {
		if _, err := conn.Exec(ctx, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", s); err != nil {
			return fmt.Errorf("create slot: %w", err)
		}
	}
	return nil
}

// fill makes the slots and then what they hold. Each slot holds all of it.
func (r *rig) fill(ctx context.Context, l load, slots []string) (*filled, error) {
	if err := r.prepare(ctx, slots); err != nil {
		return nil, err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for i := range fillers {
		first, last := l.rows*i/fillers+1, l.rows*(i+1)/fillers
		group.Go(func() error { return r.fillRange(groupCtx, first, last, l.perCommit) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, r.pg.DSN("postgres"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	f := &filled{load: l}
	if err := conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&f.end); err != nil {
		return nil, err
	}
	// A checkpoint in the middle of a measurement would count against whoever it meets.
	for _, sql := range []string{"SELECT pg_logical_emit_message(true, 'bench', 'end')", "CHECKPOINT"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (r *rig) fillRange(ctx context.Context, first, last, perCommit int) error {
	conn, err := pgx.Connect(ctx, r.pg.DSN("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "SET synchronous_commit = off"); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "CALL fill($1, $2, $3)", pgx.QueryExecModeSimpleProtocol, first, last, perCommit)
	return err
}

// dropSlots lets go of what the slots kept.
func (r *rig) dropSlots(ctx context.Context, slots []string) error {
	conn, err := pgx.Connect(ctx, r.pg.DSN("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, s := range slots {
		if _, err := conn.Exec(ctx, "SELECT pg_drop_replication_slot($1)", s); err != nil {
			return fmt.Errorf("drop slot: %w", err)
		}
	}
	return nil
}
