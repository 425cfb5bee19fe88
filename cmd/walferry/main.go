// Command walferry streams the changes of a Postgres database to Kafka topics; see the README.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/walferry/walferry/fault"
)

// gcPercent has the collector run twice as often as it would by itself: what a drain keeps on its way
// is most of the memory, and it stays well under 100 MB like this. GOGC overrides it.
const gcPercent = 50

func main() {
	if _, set := os.LookupEnv("GOGC"); !set {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := interruptible(os.Stderr)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// exitHurried is the exit code of a process that was told a second time to end: 128 + SIGINT.
const exitHurried = 130

// interruptible returns a context that the first SIGINT or SIGTERM ends. The second one ends the
// process where it stands: nothing is lost by that, what was not confirmed comes again.
func interruptible(stderr io.Writer) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // ends with the process
		<-signals
		cancel()
		<-signals
		_, _ = fmt.Fprintln(stderr, "walferry: told twice to stop: leaving at once")
		os.Exit(exitHurried)
	}()
	return ctx, cancel
}

// run is the program: arguments in, words out, an exit code. See docs/configuration.md.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if errors.Is(err, errFindings) {
		return fault.KindPerson.ExitCode() // what is wrong was printed
	}
	explain(stderr, err)
	return fault.ExitCode(err)
}

// newRoot returns the command line with all commands.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "walferry",
		Short: "Streams Postgres changes to Kafka, typed and acknowledged in order",
		Long: "walferry reads a Postgres database's logical replication and writes each committed change\n" +
			"to Kafka. What it confirms to Postgres is on record at the brokers, always in this order.",
		SilenceUsage:  true, // usage helps with a wrong flag alone; see usageError
		SilenceErrors: true,
		Args:          knownCommand,
		// The letters a mistyped command may be off by.
		SuggestionsMinimumDistance: 2,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(usageError)
	root.AddCommand(newRunCommand(), newDoctorCommand(), newPlanCommand(), newApplyCommand(), newDemoCommand(), newTailCommand(),
		newCheckpointCommand(), newSlotCommand(), newDropCommand(), newStatusCommand(), newConfigCommand(), newExplainCommand(), newVersionCommand())
	return root
}

// usageError marks a wrong flag or argument as a matter of the command line.
func usageError(cmd *cobra.Command, err error) error {
	return fault.New(fault.ConfigInvalid, "read the command line", err, "See "+cmd.CommandPath()+" --help.")
}

// explain prints what went wrong, where, and what to do about it.
func explain(w io.Writer, err error) {
	f := fault.Of(err)
	if f == nil {
		_, _ = fmt.Fprintf(w, "walferry: %v\n", err)
		return
	}
	_, _ = fmt.Fprintf(w, "walferry: %v\n", err)
	if f.Hint != "" {
		_, _ = fmt.Fprintf(w, "\n%s\n", f.Hint)
	}
	_, _ = fmt.Fprintf(w, "\nMore: walferry explain %s\n", f.Code)
}

// noArguments refuses arguments in words, and as a matter of the command line. It does not repeat
// them: one may be a URL with a password.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError(cmd, errors.New(cmd.Name()+" takes flags alone, and there is an argument without one"))
	}
	return nil
}

// knownCommand is for arguments that are no command.
func knownCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := "the first argument is not a command"
	if near := root.SuggestionsFor(args[0]); len(near) > 0 {
		text += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usageError(root, errors.New(text))
}
