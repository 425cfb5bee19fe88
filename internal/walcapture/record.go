package walcapture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/replication/pgoutput"
)

// endPrefix is the prefix of the logical message that ends a recording; it is not recorded.
const endPrefix = "walcapture.end"

// Record runs a case's scripts in an empty database, dsn, and returns what a logical walsender of
// that server says about the changes, from the first frame to the keepalive behind the last. The
// database and its publication stay behind; the slot does not.
func Record(ctx context.Context, dsn, caseDir string) (frames [][]byte, err error) {
	s := &sessions{dsn: dsn, open: map[string]*pgconn.PgConn{}}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()

	if err := s.run(ctx, filepath.Join(caseDir, "schema.sql")); err != nil {
		return nil, err
	}
	stream, err := connect(ctx, dsn, map[string]string{"replication": "database"})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stream.Close(context.WithoutCancel(ctx))) }()
	if _, err := stream.Exec(ctx, "CREATE_REPLICATION_SLOT capture TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT").ReadAll(); err != nil {
		return nil, fmt.Errorf("create slot: %w", err)
	}
	if err := s.run(ctx, filepath.Join(caseDir, "changes.sql")); err != nil {
		return nil, err
	}
	if err := s.exec(ctx, statement{sql: "SELECT pg_logical_emit_message(true, '" + endPrefix + "', '')"}); err != nil {
		return nil, err
	}
	if err := startReplication(ctx, stream, filepath.Join(caseDir, "options")); err != nil {
		return nil, err
	}
	return receive(ctx, stream)
}

// startReplication starts the stream with the options walferry uses, and those of the case.
func startReplication(ctx context.Context, stream *pgconn.PgConn, optionsFile string) error {
	options := "proto_version '1', publication_names 'capture', messages 'true'"
	more, err := os.ReadFile(optionsFile)
	if err == nil {
		options += ", " + strings.TrimSpace(string(more))
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read options: %w", err)
	}
	stream.Frontend().Send(&pgproto3.Query{String: "START_REPLICATION SLOT capture LOGICAL 0/0 (" + options + ")"})
	if err := stream.Frontend().Flush(); err != nil {
		return fmt.Errorf("start replication: %w", err)
	}
	for {
		msg, err := stream.ReceiveMessage(ctx)
		if err != nil {
			return fmt.Errorf("start replication: %w", err)
		}
		switch msg := msg.(type) {
		case *pgproto3.CopyBothResponse:
			return nil
		case *pgproto3.ErrorResponse:
			return fmt.Errorf("start replication: %w", pgconn.ErrorResponseToPgError(msg))
		}
	}
}

// receive reads frames up to the end message, asks for a keepalive, and reads up to that.
func receive(ctx context.Context, stream *pgconn.PgConn) ([][]byte, error) {
	var (
		d      pgoutput.Decoder
		frames [][]byte
		begin  int // index of the frame with the latest Begin
		ended  bool
	)
	for {
		data, err := receiveFrame(ctx, stream)
		if err != nil {
			return nil, err
		}
		frame, err := d.DecodeFrame(data)
		if err != nil {
			return nil, err
		}
		switch frame := frame.(type) {
		case *pgoutput.Keepalive:
			frames = append(frames, data)
			if ended {
				return frames, nil
			}
		case *pgoutput.XLogData:
			if ended { // the Commit of the end message
				if err := askForKeepalive(ctx, stream, frame.WALEnd); err != nil {
					return nil, err
				}
				continue
			}
			m, err := d.Decode(frame.Payload)
			if err != nil {
				return nil, err
			}
			if _, ok := m.(*pgoutput.Begin); ok {
				begin = len(frames)
			}
			frames = append(frames, data)
			if m, ok := m.(*pgoutput.LogicalMessage); ok && string(m.Prefix) == endPrefix {
				ended = true
				frames = frames[:begin]
			}
		}
	}
}

func receiveFrame(ctx context.Context, stream *pgconn.PgConn) ([]byte, error) {
	msg, err := stream.ReceiveMessage(ctx)
	if err != nil {
		return nil, fmt.Errorf("receive frame: %w", err)
	}
	switch msg := msg.(type) {
	case *pgproto3.CopyData:
		return bytes.Clone(msg.Data), nil
	case *pgproto3.ErrorResponse:
		return nil, fmt.Errorf("receive frame: %w", pgconn.ErrorResponseToPgError(msg))
	case *pgproto3.NoticeResponse: // 18 says so that the publication is missing, and sends nothing
		return nil, fmt.Errorf("receive frame: %w", pgconn.ErrorResponseToPgError((*pgproto3.ErrorResponse)(msg)))
	default:
		return nil, fmt.Errorf("receive frame: unexpected %T", msg)
	}
}

func askForKeepalive(ctx context.Context, stream *pgconn.PgConn, received event.LSN) error {
	status := pgoutput.AppendStatus(nil, pgoutput.Status{Write: received, Time: time.Now(), ReplyRequested: true})
	stream.Frontend().Send(&pgproto3.CopyData{Data: status})
	if err := stream.Frontend().Flush(); err != nil {
		return fmt.Errorf("ask for a keepalive: %w", err)
	}
	return ctx.Err()
}

// sessions are the connections that run a script, by the name they have in it.
type sessions struct {
	dsn  string
	open map[string]*pgconn.PgConn
}

func (s *sessions) run(ctx context.Context, path string) error {
	all, err := statements(path)
	if err != nil {
		return err
	}
	for _, st := range all {
		if err := s.exec(ctx, st); err != nil {
			return fmt.Errorf("run %s: %w", path, err)
		}
	}
	return nil
}

func (s *sessions) exec(ctx context.Context, st statement) error {
	conn := s.open[st.session]
	if conn == nil {
		var err error
		if conn, err = connect(ctx, s.dsn, nil); err != nil {
			return err
		}
		s.open[st.session] = conn
	}
	if _, err := conn.Exec(ctx, st.sql).ReadAll(); err != nil {
		return fmt.Errorf("execute %q: %w", st.sql, err)
	}
	return nil
}

func (s *sessions) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var errs []error
	for _, conn := range s.open {
		errs = append(errs, conn.Close(ctx))
	}
	return errors.Join(errs...)
}

// connect opens a connection with the session settings that walferry pins: they decide how values
// look. More are put on top.
func connect(ctx context.Context, dsn string, more map[string]string) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	for _, params := range []map[string]string{{
		"client_encoding": "UTF8", "DateStyle": "ISO", "IntervalStyle": "iso_8601", "TimeZone": "UTC",
		"bytea_output": "hex", "extra_float_digits": "3", "lc_monetary": "C",
	}, more} {
		for name, value := range params {
			config.RuntimeParams[name] = value
		}
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}
