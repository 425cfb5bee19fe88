package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walferry/walferry/event"
)

// recvlogicalPath finds pg_recvlogical, the newest one, "" where there is none. What Debian puts
// into the PATH is a script that looks for it.
func recvlogicalPath() string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pg_recvlogical")
	if len(found) > 0 {
		slices.Sort(found)
		return found[len(found)-1]
	}
	path, _ := exec.LookPath("pg_recvlogical")
	return path
}

// recvlogical is Postgres's own client, writing to /dev/null.
func (r *rig) recvlogical(path string) func(context.Context, string, *filled) (result, error) {
	return func(ctx context.Context, slot string, f *filled) (result, error) {
		return r.clock(ctx, path, "-d", r.pg.DSN("postgres"), "--slot", slot, "--start", "--no-loop", "--endpos", f.end,
			"-f", os.DevNull, "-F", "0", "-o", "proto_version=1", "-o", "publication_names=bench", "-o", "messages=true")
	}
}

// reader is this program's own reader, which throws everything away. One that rests lets bytes
// gather between its reads, as walferry does.
func (r *rig) reader(rests bool) func(context.Context, string, *filled) (result, error) {
	return func(ctx context.Context, slot string, f *filled) (result, error) {
		self, err := os.Executable()
		if err != nil {
			return result{}, err
		}
		return r.clock(ctx, self, "read", "-from", r.pg.DSN("postgres"), "-slot", slot, "-end", f.end, fmt.Sprintf("-rest=%t", rests))
	}
}

// clock runs a reader to its end. Starting takes it some hundredths of a second, which count.
func (r *rig) clock(ctx context.Context, path string, args ...string) (result, error) {
	began := time.Now()
	c, err := startChild(ctx, filepath.Join(r.dir, "reader.log"), path, args...)
	if err != nil {
		return result{}, err
	}
	res, err := c.wait()
	res.took = time.Since(began)
	return res, err
}

// readCommand is `bench read`: it reads a slot up to an LSN.
func readCommand(ctx context.Context, args []string, _ io.Writer) error {
	flags := flag.NewFlagSet("bench read", flag.ContinueOnError)
	from := flags.String("from", "", "URL of the database")
	slot := flags.String("slot", "", "the slot")
	endText := flags.String("end", "", "LSN to read to")
	rests := flags.Bool("rest", false, "rest after each short read")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	end, err := event.ParseLSN(*endText)
	if err != nil {
		return err
	}
	cfg, err := pgconn.ParseConfig(*from)
	if err != nil {
		return err
	}
	cfg.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	start := fmt.Sprintf("START_REPLICATION SLOT %s LOGICAL 0/0 (proto_version '1', publication_names 'bench', messages 'true')", *slot)
	conn.Frontend().Send(&pgproto3.Query{String: start})
	if err := conn.Frontend().Flush(); err != nil {
		return err
	}
	return discard(conn.Conn(), end, *rests)
}

const (
	readBytes = 256 << 10
	restTime  = 5 * time.Millisecond
	longRead  = 16 << 10 // after it more is likely to wait already
)

// discard reads protocol messages until one of them comes from behind end.
func discard(conn io.Reader, end event.LSN, rests bool) error {
	buf := make([]byte, 0, readBytes)
	for {
		n, err := conn.Read(buf[len(buf):cap(buf)])
		if err != nil {
			return err
		}
		buf = buf[:len(buf)+n]
		at := 0
		for len(buf)-at >= 5 {
			size := 1 + int(binary.BigEndian.Uint32(buf[at+1:]))
			if size > readBytes {
				return errors.New("a message is larger than the buffer")
			}
			if size > len(buf)-at {
				break
			}
			switch msg := buf[at : at+size]; {
			case msg[0] == 'E':
				return fmt.Errorf("the server says %q", msg[5:])
			case msg[0] == 'd' && size > 14 && event.LSN(binary.BigEndian.Uint64(msg[6:])) > end:
				return nil
			}
			at += size
		}
		buf = buf[:copy(buf, buf[at:])]
		if rests && n < longRead {
			time.Sleep(restTime)
		}
	}
}
