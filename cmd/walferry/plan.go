package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/walferry/walferry/config"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/replication"
	"github.com/walferry/walferry/vault"
)

// planOptions are the flags of plan and apply beside those of every command.
type planOptions struct {
	as, out           string
	json, yes, narrow bool
}

func newPlanCommand() *cobra.Command {
	var o planOptions
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show how the database differs from the configuration, as a diff and as SQL",
		Long: "Compares role, replica identities and publication with the configuration, and shows for each difference\n" +
			"the SQL, its locks, its effect on applications that run, and which rows are missed. Changes nothing.",
		Example: "  walferry plan --config walferry.yaml\n" +
			"  PGPASSWORD=… walferry plan --config walferry.yaml --as dba --out plan.sql",
		Args: noArguments,
	}
	flags := config.AddFlags(cmd.Flags())
	asFlag(cmd, &o)
	cmd.Flags().StringVar(&o.out, "out", "", "write the SQL to `FILE`, which must not exist")
	cmd.Flags().BoolVar(&o.json, "json", false, "print one JSON object, for programs")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		plan, err := planned(cmd, flags, o, replication.Planner.Plan)
		if err != nil {
			return err
		}
		if err := writePlan(cmd.OutOrStdout(), plan, o); err != nil {
			return err
		}
		if len(plan.Problems) > 0 {
			return errFindings
		}
		return nil
	}
	return cmd
}

func newApplyCommand() *cobra.Command {
	var o planOptions
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Make the database agree with the configuration, in one transaction",
		Long: "Does what walferry plan shows, in one transaction that waits five seconds at most for a lock, and rolls\n" +
			"back what would break an application. Without --yes it changes nothing and shows the plan.",
		Example: "  PGPASSWORD=… walferry apply --config walferry.yaml --as dba --yes",
		Args:    noArguments,
	}
	flags := config.AddFlags(cmd.Flags())
	asFlag(cmd, &o)
	cmd.Flags().BoolVar(&o.yes, "yes", false, "do it")
	cmd.Flags().BoolVar(&o.narrow, "narrow", false, "also take tables, columns or rows out of the stream")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		run := replication.Planner.Plan
		if o.yes {
			run = func(p replication.Planner, ctx context.Context) (replication.Plan, error) {
				return p.Apply(ctx, o.narrow)
			}
		}
		plan, err := planned(cmd, flags, o, run)
		if errShow := writePlan(cmd.OutOrStdout(), plan, o); err == nil {
			err = errShow
		}
		switch {
		case err != nil:
			return err
		case len(plan.Problems) > 0:
			return errFindings
		case len(plan.Changes) == 0:
			return nil
		}
		last := "Nothing was changed. Add --yes to do it."
		if o.yes {
			last = "Done."
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), last)
		return err
	}
	return cmd
}

func asFlag(cmd *cobra.Command, o *planOptions) {
	cmd.Flags().StringVar(&o.as, "as", "", "log in as `ROLE`, with the password of PGPASSWORD or a passfile")
}

// planned reads configuration and secrets, and runs Plan or Apply.
func planned(cmd *cobra.Command, flags *config.Flags, o planOptions, run func(replication.Planner, context.Context) (replication.Plan, error)) (plan replication.Plan, err error) {
	cfg, err := config.Load(flags.Config.Text, *flags, os.LookupEnv)
	if err != nil {
		return plan, err
	}
	planner, err := newPlanner(cfg, o)
	if err != nil {
		return plan, err
	}
	log := newLogger(config.Log{Level: slog.LevelWarn}, cmd.ErrOrStderr())
	err = withSecrets(cmd.Context(), cfg, log, nil, func(ctx context.Context) error {
		plan, err = run(planner, ctx)
		return err
	})
	return plan, err
}

// newPlanner plans for the role of the URL, logged in as that or another one.
func newPlanner(cfg config.Config, o planOptions) (replication.Planner, error) {
	pg := cfg.Postgres
	parsed, err := pgconn.ParseConfig(pg.URL)
	if err != nil {
		return replication.Planner{}, fault.New(fault.ConfigInvalid, "read the Postgres URL", errors.New("it cannot be parsed"), "")
	}
	if o.as != "" {
		pg.URL, pg.Password = loginAs(pg.URL, o.as), vault.Credential{}
		pg.Vault = nil
	}
	return replication.Planner{Config: pg, Role: parsed.User}, nil
}

// loginAs puts another role into a URL or into keywords; the last one counts.
func loginAs(target, role string) string {
	if !strings.Contains(target, "://") {
		quoted := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(role)
		return strings.TrimSpace(target + " user='" + quoted + "'")
	}
	joint := "?"
	if strings.Contains(target, "?") {
		joint = "&"
	}
	return target + joint + "user=" + url.QueryEscape(role)
}

// planJSON is what plan --json prints.
type planJSON struct {
	replication.Plan
	SQL string `json:"sql"`
}

func writePlan(w io.Writer, plan replication.Plan, o planOptions) error {
	if o.out != "" {
		if err := writeNew(o.out, plan.SQL()); err != nil {
			return err
		}
	}
	if o.json {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(planJSON{Plan: plan, SQL: plan.SQL()})
	}
	_, err := io.WriteString(w, planText(plan))
	return err
}

// planText shows a plan to a person.
func planText(plan replication.Plan) string {
	var b strings.Builder
	for _, c := range plan.Changes {
		fmt.Fprintf(&b, "%s\n    %s\n    locks:  %s\n    effect: %s\n    rows:   %s\n\n", c.Change, strings.ReplaceAll(c.SQL, "\n", "\n    "), c.Locks, c.Effect, c.Rows)
	}
	for _, n := range plan.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	for _, p := range plan.Problems {
		fmt.Fprintf(&b, "in the way: %s\n", p)
	}
	if plan.Narrows() {
		b.WriteString("Something leaves the stream: apply needs --narrow for that.\n")
	}
	if len(plan.Changes)+len(plan.Problems) == 0 && plan.Database != "" {
		fmt.Fprintf(&b, "Database %s agrees with the configuration.\n", plan.Database)
	}
	return b.String()
}

// writeNew writes a file that must not exist.
func writeNew(path, text string) error {
	const op = "write the file"
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // for others to read, without a secret
	if err != nil {
		return fault.New(fault.ConfigInvalid, op, err, "Choose another file for --out.")
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}
