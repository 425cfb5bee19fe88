package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/walferry/walferry/config"
	"github.com/walferry/walferry/docs"
	"github.com/walferry/walferry/fault"
)

func newExplainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain [CODE]",
		Short: "Print the page of an error code: what it means, what was lost, what to do",
		Long: "Prints the page of an error code, such as the slot_lost of \"[slot_lost]\" at the end of an error: what you\n" +
			"see, what it means, what was lost, and what to do. Without a code it lists all of them.",
		Example:           "  walferry explain slot_lost\n  walferry explain",
		Args:              atMostOneCode,
		ValidArgsFunction: cobra.FixedCompletions(codeNames(), cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return listCodes(cmd.OutOrStdout())
			}
			// As it stands in an error it has brackets.
			return printPage(cmd, strings.Trim(args[0], "[]"))
		},
	}
}

func atMostOneCode(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usageError(cmd, errors.New("explain takes one code"))
	}
	return nil
}

func codeNames() []string {
	var names []string
	for _, code := range fault.Codes() {
		names = append(names, string(code))
	}
	return names
}

// listCodes prints every code with its exit code and meaning.
func listCodes(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "CODE\tEXIT\tMEANING")
	for _, code := range fault.Codes() {
		fmt.Fprintf(table, "%s\t%d\t%s\n", code, code.Kind().ExitCode(), code.Title())
	}
	return table.Flush()
}

// printPage prints the page of a code. What was given instead of one is not repeated: it may be anything.
func printPage(cmd *cobra.Command, code string) error {
	if fault.Code(code).Title() == "" {
		text := "there is no such error code"
		if near := config.Nearest(code, codeNames()); near != "" {
			text += "; did you mean " + near + "?"
		}
		return usageError(cmd, errors.New(text))
	}
	page, err := docs.ErrorPage(code)
	if err != nil {
		return err
	}
	_, err = cmd.OutOrStdout().Write(page)
	return err
}
