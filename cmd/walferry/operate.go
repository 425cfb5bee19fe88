package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/walferry/walferry/checkpoint"
	"github.com/walferry/walferry/config"
	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/operate"
	"github.com/walferry/walferry/replication"
)

// group returns a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: short + "; see docs/commands.md.",
		Args: knownCommand, SuggestionsMinimumDistance: 2,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for i, c := range commands {
		if i > 0 {
			cmd.Example += "\n"
		}
		cmd.Example += c.Example
	}
	cmd.AddCommand(commands...)
	return cmd
}

func newCheckpointCommand() *cobra.Command {
	return group("checkpoint", "Look at a pipeline's checkpoint, and set it",
		newShowCommand(), newSetCommand(), newAcceptGapCommand(), newForgetCommand())
}

func newSlotCommand() *cobra.Command {
	return group("slot", "Have a pipeline go on from its slot", newAdoptCommand())
}

func newSetCommand() *cobra.Command {
	var (
		now bool
		lsn string
	)
	cmd := &cobra.Command{
		Use:   "set --now | --lsn X/Y",
		Short: "Begin with the present, or with an LSN",
		Long: "Sets where the next start begins: with the present, which gives up what was not sent, or with the\n" +
			"transactions that commit at or after an LSN. It says first what will not be sent and what comes\n" +
			"again, and changes nothing without --yes.",
		Example: "  walferry checkpoint set --now --config walferry.yaml\n" +
			"  walferry checkpoint set --lsn 16/B374D848 --config walferry.yaml --yes",
	}
	cmd.Flags().BoolVar(&now, "now", false, "begin with the present")
	cmd.Flags().StringVar(&lsn, "lsn", "", "begin with what commits at or after `X/Y`")
	return changing(cmd, func(p *operate.Pipeline) (operate.Planner, error) {
		if now == cmd.Flags().Changed("lsn") {
			return nil, usageError(cmd, errors.New("say either --now or --lsn X/Y"))
		}
		if now {
			return p.SetNow, nil
		}
		to, err := event.ParseLSN(lsn)
		if err == nil && to.IsZero() {
			err = errors.New("--lsn: 0/0 is no position")
		}
		if err != nil {
			return nil, usageError(cmd, err)
		}
		return p.SetLSN(to), nil
	})
}

func newAcceptGapCommand() *cobra.Command {
	return changing(&cobra.Command{
		Use:   "accept-gap",
		Short: "Go on behind changes that the slot does not give any more",
		Long: "After [checkpoint_gap]: names the changes that are missing, and sets the checkpoint to what the slot\n" +
			"has confirmed. It changes nothing without --yes.",
		Example: "  walferry checkpoint accept-gap --config walferry.yaml",
	}, func(p *operate.Pipeline) (operate.Planner, error) { return p.AcceptGap, nil })
}

func newForgetCommand() *cobra.Command {
	return changing(&cobra.Command{
		Use:   "forget",
		Short: "Remove the checkpoint",
		Long: "Removes the checkpoint. A start then refuses a slot that is there until it is adopted, and makes one\n" +
			"where there is none. It changes nothing without --yes.",
		Example: "  walferry checkpoint forget --config walferry.yaml",
	}, func(p *operate.Pipeline) (operate.Planner, error) { return p.Forget, nil })
}

func newAdoptCommand() *cobra.Command {
	return changing(&cobra.Command{
		Use:   "adopt",
		Short: "Go on from what the slot has confirmed",
		Long: "Saves a checkpoint at what the slot has confirmed, where there is none, or none that can be read or\n" +
			"believed. It changes nothing without --yes.",
		Example: "  walferry slot adopt --config walferry.yaml",
	}, func(p *operate.Pipeline) (operate.Planner, error) { return p.Adopt, nil })
}

func newDropCommand() *cobra.Command {
	return changing(&cobra.Command{
		Use:   "drop",
		Short: "Drop slot and publication of a pipeline that is not needed any more",
		Long: "Drops the slot, so that the server keeps no WAL for it, and the publication. Topics, their records and\n" +
			"the checkpoint stay. It changes nothing without --yes.",
		Example: "  walferry drop --config walferry.yaml\n  walferry drop --config walferry.yaml --yes",
	}, func(p *operate.Pipeline) (operate.Planner, error) { return p.Drop, nil })
}

// changing completes a command that changes something: the flags, and a run that shows what choose plans,
// and does it with --yes.
func changing(cmd *cobra.Command, choose func(*operate.Pipeline) (operate.Planner, error)) *cobra.Command {
	cmd.Args = noArguments
	flags := config.AddFlags(cmd.Flags())
	yes := cmd.Flags().Bool("yes", false, "do it; without this flag nothing is changed")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		p, cfg, err := operated(cmd, flags)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.Store.Close()) }()
		plan, err := choose(p)
		if err != nil {
			return err
		}
		return withSecrets(cmd.Context(), cfg, newLogger(cfg.Log, cmd.ErrOrStderr()), nil, func(ctx context.Context) error {
			return p.Do(ctx, plan, *yes, func(line string) { fmt.Fprintln(cmd.OutOrStdout(), line) })
		})
	}
	return cmd
}

// operated returns the pipeline of a command line, not connected yet.
func operated(cmd *cobra.Command, flags *config.Flags) (*operate.Pipeline, config.Config, error) {
	cfg, err := config.Load(flags.Config.Text, *flags, os.LookupEnv)
	if err != nil {
		return nil, cfg, err
	}
	place := "topic " + checkpoint.Topic(cfg.Name)
	if cfg.Checkpoint.Store == config.StoreFile {
		place = "file " + cfg.Checkpoint.Path
	}
	return &operate.Pipeline{
		Keeper: replication.NewKeeper(cfg.Postgres),
		Store:  newStore(cfg, newLogger(cfg.Log, cmd.ErrOrStderr())),
		Judge: checkpoint.JudgeOptions{
			AdoptSlot: cfg.Postgres.Slot.Adopt, CreateSlot: cfg.Postgres.Slot.Create, ExactlyOnce: cfg.Delivery == config.ExactlyOnce,
		},
		Run: newRunID(), Place: place, Publication: cfg.Postgres.Publication.Name,
	}, cfg, nil
}
