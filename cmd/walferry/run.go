package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/walferry/walferry/checkpoint"
	"github.com/walferry/walferry/config"
	"github.com/walferry/walferry/monitor"
	"github.com/walferry/walferry/operate"
	"github.com/walferry/walferry/pipeline"
	"github.com/walferry/walferry/replication"
	"github.com/walferry/walferry/sink"
	"github.com/walferry/walferry/vault"
)

func newRunCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run a pipeline until SIGINT or SIGTERM",
		Long: "Runs a pipeline in the foreground. The first start creates publication, topics and slot;\n" +
			"each later one goes on where the last stopped or was killed.",
		Example: "  walferry run --from postgres://cdc@db:5432/shop --to broker1:9092,broker2:9092 --tables 'public.orders,inventory.*'\n" +
			"  walferry run --config walferry.yaml\n" +
			"  PGPASSWORD=… walferry run --config walferry.yaml --name shop_blue",
		Args: noArguments,
	}
	flags := config.AddFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(flags.Config.Text, *flags, os.LookupEnv)
		if err != nil {
			return err
		}
		return runPipeline(cmd.Context(), cfg, newLogger(cfg.Log, cmd.ErrOrStderr()))
	}
	return cmd
}

// newLogger returns the log of the configured level and format.
func newLogger(cfg config.Log, w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: cfg.Level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// runPipeline builds the rooms from the configuration, joins them and runs them until ctx ends.
// It returns nil after a clean stop.
func runPipeline(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	run := newRunID()
	log = log.With("pipeline", cfg.Name, "run", run)
	registry := monitor.NewRegistry()
	metrics := prometheus.WrapRegistererWith(prometheus.Labels{"pipeline": cfg.Name}, registry)
	target, err := sink.New(cfg.Sink, cfg.Kafka, cfg.Events, log, sink.NewMetrics(metrics))
	if err != nil {
		return err
	}
	from := replication.New(cfg.Postgres, log, replication.NewMetrics(metrics))
	p := newPipeline(pipeline.Config{
		Name: cfg.Name, Run: run,
		CreateSlot: cfg.Postgres.Slot.Create, AdoptSlot: cfg.Postgres.Slot.Adopt,
		StartTimeout: cfg.StartTimeout, Transactions: cfg.Transactions,
	}, cfg, source{from}, target, log, pipeline.NewMetrics(metrics))
	secrets := vault.NewMetrics(metrics)
	if cfg.HTTP.Listen == "" {
		return withSecrets(ctx, cfg, log, secrets, p.Run)
	}
	watch := newWatched(cfg, p, from)
	server := monitor.New(monitor.Config{Listen: cfg.HTTP.Listen, Explicit: cfg.HTTP.Explicit},
		registry, watch.status, log)
	if err := server.Listen(ctx); err != nil {
		return err
	}
	return runBoth(ctx, func(ctx context.Context) error {
		return withSecrets(ctx, cfg, log, secrets, func(ctx context.Context) error { return watch.during(ctx, p.Run) })
	}, server)
}

// newRunID returns what tells this process apart in logs and checkpoints.
func newRunID() string {
	id := make([]byte, 4)
	_, _ = rand.Read(id) // never fails
	return hex.EncodeToString(id)
}

// runBoth runs the pipeline's work, and the HTTP server for as long: an operator who watches a slow stop
// still gets an answer.
func runBoth(ctx context.Context, work func(context.Context) error, server *monitor.Server) error {
	serving, endServing := context.WithCancel(context.WithoutCancel(ctx))
	defer endServing()
	var group errgroup.Group
	group.Go(func() error { return server.Run(serving) })
	err := work(ctx)
	endServing()
	return errors.Join(err, group.Wait())
}

// source makes a replication.Source a pipeline.Source: the rooms do not know each other's types.
type source struct{ *replication.Source }

// Prepare implements pipeline.Source.
func (s source) Prepare(ctx context.Context) (pipeline.Setup, error) {
	setup, err := s.Source.Prepare(ctx)
	if err != nil {
		return nil, err
	}
	return setup, nil
}

// newPipeline joins source, sink and the store of the configured delivery. Exactly once, the sink
// commits the store's records together with its own.
func newPipeline(pc pipeline.Config, cfg config.Config, from pipeline.Source, to *sink.Kafka, log *slog.Logger, m *pipeline.Metrics) *pipeline.Pipeline {
	if cfg.Delivery == config.ExactlyOnce {
		transactional := to.Transactions()
		return pipeline.NewExactlyOnce(pc, from, transactional, checkpoint.NewKafkaStore(cfg.Name, cfg.Kafka, transactional, log), log, m)
	}
	return pipeline.New(pc, from, to, newStore(cfg, log), log, m)
}

// store is what both kinds of checkpoint store can do.
type store interface {
	pipeline.Store
	operate.Store
}

// newStore returns the configured store as one that saves by itself.
func newStore(cfg config.Config, log *slog.Logger) store {
	if cfg.Checkpoint.Store == config.StoreFile {
		return checkpoint.NewFileStore(cfg.Name, cfg.Checkpoint.Path)
	}
	return checkpoint.NewKafkaStore(cfg.Name, cfg.Kafka, nil, log)
}
