package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/walferry/walferry/config"
	"github.com/walferry/walferry/fault"
)

func newConfigCommand() *cobra.Command {
	return group("config", "Write, check and describe configuration files",
		newConfigInitCommand(), newConfigCheckCommand(), newConfigSchemaCommand())
}

func newConfigSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "Print a JSON Schema of the configuration file",
		Long:    "Prints a JSON Schema of the file, by which editors complete and check it. It is made from the program's own\nsettings, so it is that of this version.",
		Example: "  walferry config schema > walferry.schema.json",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			schema, err := config.Schema()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(schema)
			return err
		},
	}
}

func newConfigCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and print what holds, without its secrets",
		Long: "Reads file, flags and variables as a start does, says everything that is wrong with exit code 2, or prints what\n" +
			"holds: each key with the place where it was said, defaults filled in, and *** for secrets. Asks no server:\n" +
			"walferry doctor does.",
		Example: "  walferry config check --config walferry.yaml",
		Args:    noArguments,
	}
	flags := config.AddFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		text, err := config.Effective(flags.Config.Text, *flags, os.LookupEnv)
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(cmd.OutOrStdout(), text)
		return err
	}
	return cmd
}

func newConfigInitCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a commented configuration file from what the database and the brokers have",
		Long: "Looks at the tables, their replica identities and partitions, and at the brokers, changes nothing there, and\n" +
			"writes a commented file. A table that cannot be captured as it is stands there as a comment, with the SQL that\n" +
			"helps. A file that exists is not touched.",
		Example: "  walferry config init --from postgres://cdc@db:5432/shop --to broker1:9092,broker2:9092\n" +
			"  walferry config init --name stock --from postgres://cdc@db:5432/shop --tables 'inventory.*' --to broker1:9092 --out stock.yaml",
		Args: noArguments,
	}
	flags := config.AddFlags(cmd.Flags())
	cmd.Flags().StringVar(&out, "out", "walferry.yaml", "write `FILE`, which must not exist")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if flags.Config.Given {
			return usageError(cmd, errors.New("init reads no file; say by --out which one to write"))
		}
		if _, err := os.Lstat(out); err == nil {
			return fault.New(fault.ConfigInvalid, "write "+out, errors.New("it exists"), "Choose another file by --out.")
		}
		if !flags.Tables.Given {
			flags.Tables = config.Flag{Text: "all", Given: true}
		}
		text, err := draft(cmd.Context(), *flags)
		if err != nil {
			return err
		}
		if err := writeNew(out, text); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "Wrote %s. Next: walferry config check --config %[1]s, then walferry doctor --config %[1]s.\n", out)
		return err
	}
	return cmd
}
