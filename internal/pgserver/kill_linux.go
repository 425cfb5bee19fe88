package pgserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Kill kills the postmaster and all its processes with SIGKILL, as the out-of-memory killer or a
// power cut would, and blocks until they are gone, so that Start can follow at once.
func (s *Server) Kill() error {
	if !s.Running() {
		return nil
	}
	// A stopped postmaster forks no more, so the list of its children is whole.
	if err := s.proc.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	children, err := childrenOf(s.PID())
	if err != nil {
		return errors.Join(err, s.proc.Signal(syscall.SIGCONT))
	}
	for _, pid := range append(children, s.PID()) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill postgres process %d: %w", pid, err)
		}
	}
	<-s.proc.Done()
	// The orphans are not ours to wait for; SIGKILL cannot be ignored, so this ends.
	for _, pid := range children {
		for {
			if state, _, err := stat(pid); err != nil || state == "Z" || state == "X" {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

func childrenOf(parent int) ([]int, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, fmt.Errorf("list the processes: %w", err)
	}
	var children []int
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if _, ppid, err := stat(pid); err == nil && ppid == parent {
			children = append(children, pid)
		}
	}
	return children, nil
}

// stat reads a process's state and parent. The process name in front of them is in parentheses and
// may hold anything.
func stat(pid int) (state string, ppid int, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0, err
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 2 {
		return "", 0, fmt.Errorf("read the state of process %d: short line", pid)
	}
	ppid, err = strconv.Atoi(f[1])
	return f[0], ppid, err
}
