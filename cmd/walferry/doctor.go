package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"

	"github.com/spf13/cobra"

	"github.com/walferry/walferry/checkpoint"
	"github.com/walferry/walferry/config"
	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/internal/doctor"
	"github.com/walferry/walferry/replication"
)

// errFindings ends a command whose output says what is wrong.
var errFindings = errors.New("there are errors")

func newDoctorCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is missing before a pipeline can run, and the SQL that mends it",
		Long: "Looks at Postgres and at the brokers as a start would, changes nothing, and says of everything that\n" +
			"is wrong why it matters and what mends it. It ends with one block of SQL to read, run and undo.\n" +
			"Exit code 0: nothing, or warnings. 3: errors.",
		Example: "  walferry doctor --config walferry.yaml\n" +
			"  walferry doctor --from postgres://cdc@db:5432/shop --to broker1:9092 --tables 'public.orders,inventory.*'\n" +
			"  walferry doctor --config walferry.yaml --json | jq -r .sql",
		Args: noArguments,
	}
	flags := config.AddFlags(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object, for programs")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(flags.Config.Text, *flags, os.LookupEnv)
		if err != nil {
			return err
		}
		report := diagnoseWithSecrets(cmd.Context(), cfg, newLogger(config.Log{Level: slog.LevelWarn}, cmd.ErrOrStderr()))
		write := report.WriteText
		if asJSON {
			write = report.WriteJSON
		}
		if err := write(cmd.OutOrStdout()); err != nil {
			return err
		}
		if report.Errors > 0 {
			return errFindings
		}
		return nil
	}
	return cmd
}

// diagnoseWithSecrets reads the secrets first. Where Vault does not give them that is a finding, and the
// rest is looked at as far as it can be without.
func diagnoseWithSecrets(ctx context.Context, cfg config.Config, log *slog.Logger) doctor.Report {
	const id = "vault"
	var report doctor.Report
	secrets := doctor.Finding{ID: id, Severity: doctor.OK, Found: "every secret can be read"}
	if len(cfg.Secrets) == 0 {
		secrets.Found = "no secret is in Vault"
	}
	err := withSecrets(ctx, cfg, log, nil, func(ctx context.Context) error {
		report = diagnose(ctx, cfg, secrets)
		return nil
	})
	if err != nil {
		report = diagnose(ctx, cfg, doctor.FromFault(id, err))
	}
	return report
}

// diagnose asks Postgres and the brokers at the same time. The brokers are reached first and asked for
// topics once Postgres has told the tables; where it cannot, for those that the configuration names.
func diagnose(ctx context.Context, cfg config.Config, secrets doctor.Finding) doctor.Report {
	var (
		postgres replication.Diagnosis
		kafka    []doctor.Finding
		names    []doctor.Finding
		asked    = make(chan struct{})
		both     sync.WaitGroup
	)
	both.Go(func() {
		defer close(asked)
		postgres = replication.Diagnose(ctx, cfg.Postgres)
	})
	both.Go(func() {
		kafka = broker.Diagnose(ctx, cfg.Kafka, func() broker.Plan {
			<-asked
			p, err := planOf(cfg, postgres.Tables)
			if err != nil {
				names = append(names, doctor.FromFault("kafka_topics", err))
			}
			return p
		})
	})
	both.Wait()
	findings := append(append(postgres.Findings, kafka...), secrets)
	return doctor.NewReport(cfg.Name, postgres.Platform, postgres.Database, append(findings, names...))
}

// planOf is what the pipeline needs of the brokers. The error is of the topics' names; the rest of the
// plan stands.
func planOf(cfg config.Config, tables []*event.Table) (broker.Plan, error) {
	if tables == nil {
		for _, t := range cfg.Postgres.Tables {
			if !t.Pattern {
				tables = append(tables, &event.Table{Schema: t.Schema, Name: t.Name})
			}
		}
	}
	needs, err := cfg.Sink.Needs(tables)
	p := broker.Plan{Needs: needs}
	if cfg.Checkpoint.Store == config.StoreKafka {
		p.Needs = append(p.Needs, checkpoint.Need(cfg.Name))
		p.TransactionalID = checkpoint.TransactionalID(cfg.Name)
	}
	return p, err
}
