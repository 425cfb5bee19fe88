package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// child is a process that is being measured.
type child struct {
	cmd   *exec.Cmd
	peak  atomic.Int64 // bytes of resident memory, at most
	ended chan struct{}
	err   error // of Wait; valid once ended is closed
}

// startChild starts a process whose words go to the named file. When ctx ends it is told to end, too.
func startChild(ctx context.Context, logFile, path string, args ...string) (*child, error) {
	log, err := os.Create(logFile)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()                                                    // the child has its own
	c := &child{cmd: exec.CommandContext(ctx, path, args...), ended: make(chan struct{})} //nolint:gosec // the contenders are listed in contenders
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.Cancel = func() error { return c.cmd.Process.Signal(syscall.SIGTERM) }
	c.cmd.WaitDelay = 10 * time.Second
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the child
		defer close(c.ended)
		if c.err = c.cmd.Wait(); c.err != nil {
			said, _ := os.ReadFile(logFile)
			c.err = fmt.Errorf("%w\n%s", c.err, said)
		}
	}()
	go c.watch() // ends with the child
	return c, nil
}

// watch notes the peak of the resident memory. The kernel's own account at the end of a process
// begins with the memory of whoever started it.
func (c *child) watch() {
	for {
		if kb := peakKB(c.cmd.Process.Pid); kb > 0 {
			c.peak.Store(kb << 10)
		}
		select {
		case <-c.ended:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// peakKB is VmHWM, 0 where the system does not tell it.
func peakKB(pid int) int64 {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	for in := bufio.NewScanner(f); in.Scan(); {
		if rest, ok := strings.CutPrefix(in.Text(), "VmHWM:"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb
		}
	}
	return 0
}

// wait waits for the child to end and returns what it cost.
func (c *child) wait() (result, error) {
	<-c.ended
	if c.err != nil {
		return result{}, c.err
	}
	s := c.cmd.ProcessState
	return result{cpu: s.UserTime() + s.SystemTime(), peakRSS: c.peak.Load()}, nil
}
