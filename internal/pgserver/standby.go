package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walferry/walferry/internal/childproc"
)

// Standby makes a hot standby of the running server and starts it. It keeps its WAL by the physical slot
// of that name, which is made, and streams from it; settings go to its postgresql.conf, over those of the
// server. It blocks until the standby takes connections. The caller must Close it.
func (s *Server) Standby(ctx context.Context, slot string, settings map[string]string) (*Server, error) {
	folder, err := childproc.NewFolder("walferry-pg-")
	if err != nil {
		return nil, err
	}
	b := &Server{major: s.major, bin: s.bin, user: s.user, folder: folder, dir: folder.Path}
	if err := s.found(ctx, b, slot, settings); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// found fills the standby's folder and starts it.
func (s *Server) found(ctx context.Context, b *Server, slot string, settings map[string]string) error {
	if err := b.own(b.dir); err != nil {
		return err
	}
	if err := s.backup(ctx, b, slot); err != nil {
		return err
	}
	// hot_standby_feedback and the database in the connection are what a synchronized slot needs.
	u, err := url.Parse(s.DSN("postgres"))
	if err != nil {
		return fmt.Errorf("read our own address: %w", err)
	}
	q := u.Query()
	q.Set("application_name", slot)
	u.RawQuery = q.Encode()
	all := map[string]string{"primary_conninfo": u.String(), "primary_slot_name": slot, "hot_standby_feedback": "on", "wal_receiver_status_interval": "1s"}
	for k, v := range settings {
		all[k] = v
	}
	if err := b.write("standby.signal", ""); err != nil {
		return err
	}
	return b.listen(ctx, all)
}

// backup copies the data of the running server, as pg_basebackup does, which the binaries lack.
func (s *Server) backup(ctx context.Context, b *Server, slot string) error {
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return fmt.Errorf("connect for a backup: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	begin, end := "SELECT pg_backup_start('standby', true)", "SELECT labelfile FROM pg_backup_stop(false)"
	if s.major < 15 {
		begin, end = "SELECT pg_start_backup('standby', true, false)", "SELECT labelfile FROM pg_stop_backup(false, false)"
	}
	for _, sql := range []string{"SELECT pg_create_physical_replication_slot('" + slot + "', true)", begin} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("begin a backup: %w", err)
		}
	}
	if err := b.copyData(s.data()); err != nil {
		return err
	}
	var label string
	if err := conn.QueryRow(ctx, end).Scan(&label); err != nil {
		return fmt.Errorf("end a backup: %w", err)
	}
	return b.write("backup_label", label)
}

// left are the parts of a data folder that a backup has empty, as pg_basebackup leaves them. The WAL
// comes from the primary.
var left = []string{"pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"}

// copyData copies the data folder of a server that runs. What vanishes meanwhile is in the WAL.
func (s *Server) copyData(from string) error {
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(from, path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil || relErr != nil:
			return errors.Join(err, relErr)
		}
		to := filepath.Join(s.data(), rel)
		top, _, deeper := strings.Cut(rel, string(filepath.Separator))
		empty := deeper && slices.Contains(left, top)
		if d.IsDir() {
			if empty && top != "pg_wal" { // the folders in pg_wal are the server's own, those of slots are not
				return fs.SkipDir
			}
			if err := os.Mkdir(to, 0o700); err != nil {
				return err
			}
			return s.own(to)
		}
		if empty || rel == "postmaster.pid" || rel == "postmaster.opts" {
			return nil
		}
		return s.copyFile(path, to)
	})
	if err != nil {
		return fmt.Errorf("copy the data folder: %w", err)
	}
	return nil
}

func (s *Server) copyFile(from, to string) error {
	in, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close(), s.own(to))
}

// write makes a file of the data folder.
func (s *Server) write(name, text string) error {
	path := filepath.Join(s.data(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return s.own(path)
}

// own hands a file to the user that runs postgres.
func (s *Server) own(path string) error {
	if s.user == nil {
		return nil
	}
	if err := os.Chown(path, s.user.UID, s.user.GID); err != nil {
		return fmt.Errorf("hand it to the user that runs postgres: %w", err)
	}
	return nil
}

// Promote makes a standby a primary and blocks until it is one.
func (s *Server) Promote(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return fmt.Errorf("connect to the standby: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var promoted bool
	if err := conn.QueryRow(ctx, "SELECT pg_promote(true, 60)").Scan(&promoted); err != nil {
		return fmt.Errorf("promote the standby: %w", err)
	}
	if !promoted {
		return errors.New("promote the standby: it did not happen within a minute")
	}
	return nil
}
