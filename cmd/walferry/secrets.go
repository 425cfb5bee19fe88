package main

import (
	"context"
	"errors"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"github.com/walferry/walferry/config"
	"github.com/walferry/walferry/vault"
)

// withSecrets reads what the configuration has in Vault, and keeps it fresh for as long as work runs:
// also while it stops, which takes new connections. Where nothing is in Vault, it is work alone.
func withSecrets(ctx context.Context, cfg config.Config, log *slog.Logger, m *vault.Metrics, work func(context.Context) error) error {
	if len(cfg.Secrets) == 0 {
		return work(ctx)
	}
	client := vault.New(cfg.Vault, cfg.Secrets, log, m)
	if err := client.Start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop before there was anything to do
		}
		return err
	}
	working, endWork := context.WithCancel(context.WithoutCancel(ctx))
	defer endWork()
	var group errgroup.Group
	group.Go(func() error { return client.Run(working) })
	err := work(ctx)
	endWork()
	return errors.Join(err, group.Wait())
}
