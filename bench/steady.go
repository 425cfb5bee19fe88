package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// warmUp is how long a steady load runs before its latencies count.
const warmUp = 3 * time.Second

// writers is how many connections write an even load: each waits for the disk at every commit.
const writers = 16

// steady measures how long a change is on its way while they come at an even rate, far below what
// could be drained.
func (r *rig) steady(ctx context.Context, out io.Writer, rates []int, lasts time.Duration) error {
	fmt.Fprintf(out, "\nAn even load of transactions of one row for %s, from commit to a read_committed consumer:\n\n", lasts)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\twanted/s\treached/s\tp50 ms\tp95 ms\tp99 ms\tp99.9 ms\tCPU s per million rows\tpeak RSS MB\t\n")
	for _, rate := range rates {
		for _, delivery := range []string{exactlyOnce, atLeastOnce} {
			res, err := r.steadyRun(ctx, rate, delivery, lasts)
			if err != nil {
				return fmt.Errorf("%d per second, %s: %w", rate, delivery, err)
			}
			fmt.Fprintf(w, "walferry, %s\t%d\t%.0f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.0f\t\n", delivery, rate, res.rate,
				res.at(0.5), res.at(0.95), res.at(0.99), res.at(0.999), res.cpu.Seconds()/float64(res.rows)*1e6, float64(res.peakRSS)/(1<<20))
		}
	}
	return w.Flush()
}

// steadyResult is one measurement under an even load.
type steadyResult struct {
	result
	rows      int
	rate      float64         // committed rows per second, as reached
	latencies []time.Duration // sorted
}

// at returns a quantile of the latencies in milliseconds.
func (s *steadyResult) at(q float64) float64 {
	return s.latencies[min(len(s.latencies)-1, int(q*float64(len(s.latencies))))].Seconds() * 1000
}

// steadyRun starts walferry on a new slot, writes, and reads what arrives. Every row must arrive once.
func (r *rig) steadyRun(ctx context.Context, rate int, delivery string, lasts time.Duration) (*steadyResult, error) {
	slot := fmt.Sprintf("steady_%d_%s", rate, delivery)
	if err := r.prepare(ctx, []string{slot}); err != nil {
		return nil, err
	}
	config, err := r.writeConfig(slot, delivery)
	if err != nil {
		return nil, err
	}
	c, err := startChild(ctx, filepath.Join(r.dir, "walferry.log"), r.binary, "run", "--config", config)
	if err != nil {
		return nil, err
	}
	res := &steadyResult{rows: int(lasts.Seconds() * float64(rate))}
	err = r.steadyLoad(ctx, c, slot, rate, res)
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	cost, waitErr := c.wait()
	if err := errors.Join(err, waitErr); err != nil {
		return nil, err
	}
	res.result = cost
	return res, r.dropSlots(ctx, []string{slot})
}

// steadyLoad writes and reads at once, from the moment when walferry streams.
func (r *rig) steadyLoad(ctx context.Context, c *child, slot string, rate int, res *steadyResult) error {
	if err := r.streams(ctx, c, slot); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.consume(ctx, slot+".public.orders", rate, res) })
	group.Go(func() error {
		all, ctx := errgroup.WithContext(ctx)
		began := time.Now()
		for i := range writers {
			first, last := res.rows*i/writers+1, res.rows*(i+1)/writers
			all.Go(func() error { return r.steadyWriter(ctx, first, last, float64(rate)/writers) })
		}
		err := all.Wait()
		res.rate = float64(res.rows) / time.Since(began).Seconds()
		return err
	})
	return group.Wait()
}

func (r *rig) steadyWriter(ctx context.Context, first, last int, perSecond float64) error {
	conn, err := pgx.Connect(ctx, r.pg.DSN("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, "CALL write_evenly($1, $2, $3)", pgx.QueryExecModeSimpleProtocol, first, last, perSecond)
	return err
}

// streams waits until a walsender serves the slot.
func (r *rig) streams(ctx context.Context, c *child, slot string) error {
	conn, err := pgx.Connect(ctx, r.pg.DSN("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for active := false; !active; {
		select {
		case <-c.ended:
			return errors.New("walferry ended before the load began")
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollEvery):
		}
		if err := conn.QueryRow(ctx, "SELECT active FROM pg_replication_slots WHERE slot_name = $1", slot).Scan(&active); err != nil {
			return err
		}
	}
	return nil
}

// consume reads the topic until each row was there once, and notes how old the rows were that came
// after the warm-up.
func (r *rig) consume(ctx context.Context, topic string, rate int, res *steadyResult) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(r.kafka.Addr()), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer client.Close()
	seen := make([]bool, res.rows+1)
	for n := 0; n < res.rows; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		now := time.Now()
		for record := range fetches.RecordsAll() {
			n++
			id, err := rowID(record.Key, res.rows)
			if err != nil {
				return err
			}
			if seen[id] {
				return fmt.Errorf("row %d is there twice", id)
			}
			seen[id] = true
			committed, err := commitTime(record.Value)
			if err != nil {
				return err
			}
			if within := (id - 1) % (res.rows / writers); within > int(warmUp.Seconds())*rate/writers {
				res.latencies = append(res.latencies, now.Sub(committed))
			}
		}
	}
	slices.Sort(res.latencies)
	if len(res.latencies) == 0 {
		return errors.New("the load ended with the warm-up")
	}
	return nil
}

// rowID takes the id out of a record's key.
func rowID(key []byte, rows int) (int, error) {
	id, err := strconv.Atoi(string(bytes.TrimSuffix(bytes.TrimPrefix(key, []byte(`{"id":`)), []byte("}"))))
	if err != nil || id < 1 || id > rows {
		return 0, fmt.Errorf("a record with the key %q", key)
	}
	return id, nil
}

// commitTime takes the time of the commit out of an event, without the cost of parsing all of it.
func commitTime(event []byte) (time.Time, error) {
	_, rest, _ := bytes.Cut(event, []byte(`"ts":"`))
	text, _, _ := bytes.Cut(rest, []byte(`"`))
	return time.Parse(time.RFC3339Nano, string(text))
}

// writeConfig writes walferry's configuration and returns its path.
func (r *rig) writeConfig(slot, delivery string) (string, error) {
	path := filepath.Join(r.dir, "walferry.yaml")
	return path, os.WriteFile(path, fmt.Appendf(nil, walferryConfig, slot, r.pg.DSN("postgres"), r.kafka.Addr(), delivery), 0o600)
}
