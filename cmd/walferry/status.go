package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/walferry/walferry/config"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/monitor"
)

const (
	// statusWithin bounds the question to an instance; it answers from memory.
	statusWithin = 5 * time.Second
	// maxStatus bounds what is read of an answer.
	maxStatus = 1 << 20
	// statusEvery is the pace of --watch.
	statusEvery = 2 * time.Second
)

// statusFlags are the flags of status beside those of every command.
type statusFlags struct {
	config    *config.Flags
	addresses []string
	watch     bool
	json      bool
}

func newStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how a pipeline does, also one that is down",
		Long: "Asks a running walferry for its status over HTTP: state, lag of each stage, slot, and every check. Where none\n" +
			"answers, and a configuration is given, it looks at Postgres and at the checkpoint instead. It changes nothing.\n" +
			"Exit code 0: ready. 3: not ready, or down.",
		Example: "  walferry status\n" +
			"  walferry status --config walferry.yaml --watch\n" +
			"  walferry status --address 10.0.0.1:9630 --address 10.0.0.2:9630",
		Args: noArguments,
	}
	f := &statusFlags{config: config.AddFlags(cmd.Flags())}
	cmd.Flags().StringArrayVar(&f.addresses, "address", nil, "`HOST:PORT` of a running walferry, may be repeated (default: http.listen of the configuration, or "+monitor.DefaultListen+")")
	cmd.Flags().BoolVar(&f.watch, "watch", false, "show it again every 2 s, until interrupted")
	cmd.Flags().BoolVar(&f.json, "json", false, "print one JSON object for each pipeline, for programs")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return f.run(cmd) }
	return cmd
}

// run shows it once, or until ctx ends.
func (f *statusFlags) run(cmd *cobra.Command) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	addresses, err := f.where()
	if err != nil {
		return err
	}
	for {
		var text strings.Builder
		ready, err := f.show(cmd, addresses, &text)
		switch {
		case err != nil && !f.watch:
			return errors.Join(err, write(out, text.String()))
		case err != nil:
			fmt.Fprintf(&text, "%v\n", err)
		}
		shown := text.String()
		if f.watch && terminalWidth(out) > 0 {
			shown = "\x1b[H\x1b[2J" + shown // at the top of an empty screen
		}
		if err := write(out, shown); err != nil {
			return err
		}
		if !f.watch {
			if !ready {
				return errFindings
			}
			return nil
		}
		select {
		case <-time.After(statusEvery):
		case <-ctx.Done():
			return nil
		}
	}
}

func write(w io.Writer, text string) error {
	_, err := io.WriteString(w, text)
	return err
}

// configured tells whether the command line says which pipeline is meant.
func (f *statusFlags) configured() bool { return f.config.Config.Given || f.config.From.Given }

// where returns the addresses to ask.
func (f *statusFlags) where() ([]string, error) {
	if len(f.addresses) > 0 || !f.configured() {
		if len(f.addresses) == 0 {
			return []string{monitor.DefaultListen}, nil
		}
		return f.addresses, nil
	}
	cfg, err := config.Load(f.config.Config.Text, *f.config, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	if cfg.HTTP.Listen == "" {
		return nil, nil
	}
	host, port, err := net.SplitHostPort(cfg.HTTP.Listen)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return []string{net.JoinHostPort("127.0.0.1", port)}, nil
	}
	return []string{cfg.HTTP.Listen}, nil
}

// show writes the status of each address, and what is known without where none answers. It returns whether
// all are ready. The error is that nothing could be shown.
func (f *statusFlags) show(cmd *cobra.Command, addresses []string, out io.Writer) (ready bool, err error) {
	ready = true
	answered := 0
	var failures []error
	for _, address := range addresses {
		st, err := askStatus(cmd.Context(), address)
		if err != nil {
			ready = false
			failures = append(failures, err)
			continue
		}
		answered++
		ready = ready && st.Ready()
		if err := f.print(out, st); err != nil {
			return false, err
		}
	}
	if answered > 0 || !f.configured() {
		return ready && answered > 0, errors.Join(failures...)
	}
	if !f.json {
		for _, err := range failures {
			fmt.Fprintf(out, "%v\n\n", err)
		}
	}
	return false, f.showDown(cmd, out)
}

// askStatus asks a running walferry.
func askStatus(ctx context.Context, address string) (monitor.Status, error) {
	const op = "ask a running walferry"
	var st monitor.Status
	ctx, cancel := context.WithTimeout(ctx, statusWithin)
	defer cancel()
	failed := func(err error) error {
		return fault.New(fault.HTTPListen, op, fmt.Errorf("no status from %s: %w", address, err), "It may be down, or listen elsewhere: --address HOST:PORT, http.listen. With --config FILE what is known without it is shown.")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/status", http.NoBody)
	if err != nil {
		return st, failed(err)
	}
	transport := &http.Transport{DisableKeepAlives: true} // no proxy: it is asked directly or not at all
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return st, failed(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxStatus))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("it answers %s", resp.Status)
	}
	if err == nil {
		err = json.Unmarshal(body, &st)
	}
	if err == nil && st.State == "" {
		err = errors.New("it is not walferry that answers")
	}
	if err != nil {
		return st, failed(err)
	}
	return st, nil
}

// showDown shows a pipeline that is down, by Postgres and its checkpoint, as checkpoint show does.
func (f *statusFlags) showDown(cmd *cobra.Command, out io.Writer) (err error) {
	p, cfg, err := operated(cmd, f.config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Store.Close()) }()
	return withSecrets(cmd.Context(), cfg, newLogger(config.Log{Level: slog.LevelWarn}, cmd.ErrOrStderr()), nil, func(ctx context.Context) error {
		s := p.Look(ctx)
		view := newReport(cfg, p, s, p.Verdict(s))
		if f.json {
			return json.NewEncoder(out).Encode(view)
		}
		return view.print(out, time.Now())
	})
}

// print writes the status of a running pipeline.
func (f *statusFlags) print(out io.Writer, st monitor.Status) error {
	if f.json {
		return json.NewEncoder(out).Encode(st)
	}
	return printStatus(out, st, time.Now())
}

// printStatus writes it for a person.
func printStatus(out io.Writer, st monitor.Status, now time.Time) error {
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(tw, "%s\t%s\n", name, clean(fmt.Sprintf(format, args...)))
	}
	ready := "ready"
	if !st.Ready() {
		ready = "NOT READY"
	}
	line("pipeline", "%s, %s for %s, %s", st.Pipeline, st.State, now.Sub(st.Since).Round(time.Second), ready)
	name := "lag"
	for _, l := range st.Lag {
		line(name, "%-12s %s, %d bytes", l.Stage, seconds(l.Seconds), l.Bytes)
		name = ""
	}
	if len(st.Lag) == 0 {
		line(name, "not known")
	}
	line("pending", "%d records", st.PendingRecords)
	if s := st.Slot; s != nil {
		text := fmt.Sprintf("%s: keeps %d bytes of WAL (%d for open transactions), wal_status %s", s.Name, s.Retained, s.Held, s.WALStatus)
		if s.Safe != nil {
			text += fmt.Sprintf(", lost after %d more", max(0, *s.Safe))
		}
		if s.Invalidation != "" {
			text += ", invalidated: " + s.Invalidation
		}
		if s.Active {
			text += fmt.Sprintf(", held by process %d", s.PID)
		}
		line("slot", "%s", text)
	}
	if t := st.Oldest; t != nil {
		line("open", "the oldest transaction that writes: %s, for %s", t.Who(), seconds(t.Seconds))
	}
	var well []string
	for _, c := range st.Checks {
		if c.State == monitor.OK {
			well = append(well, c.Name)
			continue
		}
		text := fmt.Sprintf("%s for %s", c.Words(), now.Sub(c.Since).Round(time.Second))
		if c.State == monitor.Unknown {
			text = c.Name
		}
		if c.Code != "" {
			text += "; see walferry explain " + string(c.Code)
		}
		line(string(c.State), "%s", text)
	}
	line("ok", "%s", strings.Join(well, ", "))
	if st.LastError != "" {
		line("last error", "%s, %s ago", st.LastError, now.Sub(st.LastErrorAt).Round(time.Second))
	}
	return tw.Flush()
}

// seconds prints a time with a precision that suits a person.
func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
