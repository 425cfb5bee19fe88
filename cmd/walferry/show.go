package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/walferry/walferry/checkpoint"
	"github.com/walferry/walferry/config"
	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/operate"
)

func newShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show where the pipeline stands, and what a start would do",
		Long: "Shows the checkpoint, the slot beside it, and what a start would make of them. It changes nothing and\n" +
			"may be used while the pipeline runs. The exit code is 0 where a start would go on, 3 where it would refuse.",
		Example: "  walferry checkpoint show --config walferry.yaml\n" +
			"  walferry checkpoint show --config walferry.yaml --json | jq .start.verdict",
		Args: noArguments,
	}
	flags := config.AddFlags(cmd.Flags())
	asJSON := cmd.Flags().Bool("json", false, "print one JSON object, for programs")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		p, cfg, err := operated(cmd, flags)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.Store.Close()) }()
		return withSecrets(cmd.Context(), cfg, newLogger(config.Log{Level: slog.LevelWarn}, cmd.ErrOrStderr()), nil, func(ctx context.Context) error {
			s := p.Look(ctx)
			v := p.Verdict(s)
			view := newReport(cfg, p, s, v)
			if *asJSON {
				return errors.Join(v.Err, json.NewEncoder(cmd.OutOrStdout()).Encode(view))
			}
			return errors.Join(v.Err, view.print(cmd.OutOrStdout(), time.Now()))
		})
	}
	return cmd
}

// report is what show prints; its JSON is a contract, see docs/commands.md.
type report struct {
	Pipeline        string             `json:"pipeline"`
	Delivery        string             `json:"delivery"`
	Store           string             `json:"store"`
	Checkpoint      *reportRecord      `json:"checkpoint,omitempty"`
	CheckpointError *reportError       `json:"checkpoint_error,omitempty"`
	Server          *reportServer      `json:"server,omitempty"`
	Slot            *reportSlot        `json:"slot,omitempty"`
	Publication     *reportPublication `json:"publication,omitempty"`
	ServerError     *reportError       `json:"server_error,omitempty"`
	Behind          *uint64            `json:"behind_bytes,omitempty"`
	Start           reportStart        `json:"start"`
}

type reportRecord struct {
	checkpoint.Record
	Age float64 `json:"age_seconds"`
}

type reportServer struct {
	Version  int       `json:"version"`
	SystemID string    `json:"system_id"`
	Database string    `json:"database"`
	Timeline uint32    `json:"timeline"`
	End      event.LSN `json:"wal_end"`
	Standby  bool      `json:"standby"`
}

type reportSlot struct {
	Name         string    `json:"name"`
	Plugin       string    `json:"plugin"`
	Active       bool      `json:"active"`
	PID          int       `json:"active_pid,omitempty"`
	Restart      event.LSN `json:"restart_lsn"`
	Confirmed    event.LSN `json:"confirmed_flush_lsn"`
	WALStatus    string    `json:"wal_status,omitempty"`
	Invalidation string    `json:"invalidation_reason,omitempty"`
	Failover     bool      `json:"failover"`
}

type reportPublication struct {
	Name   string `json:"name"`
	Exists bool   `json:"exists"`
}

type reportError struct {
	Code    fault.Code `json:"code"`
	Message string     `json:"message"`
}

type reportStart struct {
	Verdict operate.Start  `json:"verdict"`
	From    event.LSN      `json:"from,omitzero"`
	Partial event.Position `json:"partial,omitzero"`
	Code    fault.Code     `json:"code,omitempty"`
	Message string         `json:"message,omitempty"`
	Hint    string         `json:"hint,omitempty"`
}

func newReportError(err error) *reportError {
	if err == nil {
		return nil
	}
	return &reportError{Code: fault.CodeOf(err), Message: err.Error()}
}

func newReport(cfg config.Config, p *operate.Pipeline, s operate.State, v operate.Verdict) report {
	out := report{
		Pipeline: cfg.Name, Delivery: string(cfg.Delivery), Store: p.Place,
		CheckpointError: newReportError(s.RecordErr), ServerError: newReportError(s.ViewErr),
		Start: reportStart{Verdict: v.Start, From: v.Decision.End, Partial: v.Decision.Partial},
	}
	if v.Err != nil {
		out.Start.Code, out.Start.Message = fault.CodeOf(v.Err), v.Err.Error()
		if f := fault.Of(v.Err); f != nil {
			out.Start.Hint = f.Hint
		}
	}
	if s.Record != nil {
		out.Checkpoint = &reportRecord{Record: *s.Record, Age: time.Since(s.Record.Time).Seconds()}
	}
	if s.ViewErr != nil {
		return out
	}
	srv := s.View.Server
	out.Server = &reportServer{srv.Version, srv.Origin.SystemID, srv.Origin.Database, srv.Timeline, srv.End, s.View.Standby}
	out.Publication = &reportPublication{p.Publication, s.View.Published}
	if slot := srv.Slot; slot != nil {
		out.Slot = &reportSlot{srv.Origin.Slot, slot.Plugin, slot.Active, slot.PID, slot.Restart, slot.Confirmed, slot.WALStatus, slot.Invalidation, slot.Failover}
	}
	if s.Record != nil && !s.Record.Intent && s.Record.End <= srv.End {
		behind := uint64(srv.End - s.Record.End)
		out.Behind = &behind
	}
	return out
}

// print writes it for a person.
func (s report) print(w io.Writer, now time.Time) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(tw, name+"\t"+format+"\n", args...) }
	line("pipeline", "%s, %s, checkpoint in %s", s.Pipeline, s.Delivery, s.Store)
	s.printRecord(line, now)
	if e := s.ServerError; e != nil {
		line("server", "%s", e.Message)
	}
	if srv := s.Server; srv != nil {
		text := fmt.Sprintf("Postgres %d.%d, cluster %s, timeline %d; WAL ends at %v", srv.Version/10000, srv.Version%10000, srv.SystemID, srv.Timeline, srv.End)
		if s.Behind != nil {
			text += fmt.Sprintf(" (%d bytes after the checkpoint)", *s.Behind)
		}
		if srv.Standby {
			text += "; it is a standby"
		}
		line("server", "%s", text)
		s.printSlot(line)
		if s.Publication.Exists {
			line("publication", "%s", s.Publication.Name)
		} else {
			line("publication", "%s does not exist", s.Publication.Name)
		}
	}
	line("start", "%s", s.Start.words())
	return tw.Flush()
}

func (s report) printRecord(line func(string, string, ...any), now time.Time) {
	if e := s.CheckpointError; e != nil {
		line("checkpoint", "%s", e.Message)
		return
	}
	rec := s.Checkpoint
	if rec == nil {
		line("checkpoint", "none")
		return
	}
	at := rec.End.String()
	if rec.Intent {
		at = "an intent: the slot was about to be made"
	}
	line("checkpoint", "%s, written %s ago by instance %s", at, now.Sub(rec.Time).Round(time.Second), rec.Instance)
	if !rec.Partial.IsZero() {
		line("", "and of the transaction that commits at %v the changes up to %d, in parts: %d", rec.Partial.Commit, rec.Partial.Seq, rec.Split)
	}
	line("", "of cluster %s, database %s, slot %s, timeline %d", rec.SystemID, rec.Database, rec.Slot, rec.Timeline)
}

func (s report) printSlot(line func(string, string, ...any)) {
	slot := s.Slot
	if slot == nil {
		line("slot", "does not exist")
		return
	}
	text := fmt.Sprintf("%s: confirmed %v, restart %v", slot.Name, slot.Confirmed, slot.Restart)
	if !slot.Restart.IsZero() && slot.Restart <= s.Server.End {
		text += fmt.Sprintf(" (keeps %d bytes of WAL)", uint64(s.Server.End-slot.Restart))
	}
	text += fmt.Sprintf(", wal_status %s, failover %t", slot.WALStatus, slot.Failover)
	if slot.Invalidation != "" {
		text += ", invalidated: " + slot.Invalidation
	}
	if slot.Active {
		text += fmt.Sprintf(", held by process %d", slot.PID)
	}
	line("slot", "%s", text)
}

// words says what a start would do.
func (s reportStart) words() string {
	from := s.From.String()
	if !s.Partial.IsZero() {
		from += fmt.Sprintf(", in the transaction that commits at %v behind its change %d", s.Partial.Commit, s.Partial.Seq)
	}
	switch s.Verdict {
	case operate.GoesOn:
		return "goes on from " + from
	case operate.AdoptsSlot:
		return "adopts the slot, and goes on from " + from
	case operate.CreatesSlot:
		return "makes the slot, and begins with the present"
	case operate.Waits:
		return "waits for the slot as a standby, then goes on from " + from
	case operate.Refuses:
	}
	return "refuses: " + s.Message
}
