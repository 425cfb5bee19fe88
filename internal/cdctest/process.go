package cdctest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/walferry/walferry/internal/childproc"
)

// Process is a program that is started, killed and started again; its output goes to one file.
type Process struct {
	path string
	args []string
	log  string
	env  []string
	proc *childproc.Process
}

// NewProcess returns a program that does not run yet. It writes to the file log.
func NewProcess(log, path string, args ...string) *Process {
	return &Process{path: path, args: args, log: log}
}

// SetEnv says which variables (as NAME=value) the next starts have beside those of this process.
func (p *Process) SetEnv(env ...string) { p.env = env }

// Start starts the program.
func (p *Process) Start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer func() { _ = log.Close() }()     // the child has its own descriptor
	cmd := exec.Command(p.path, p.args...) //nolint:gosec // the program under test
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), p.env...)
	p.proc, err = childproc.Start(cmd, nil, syscall.SIGKILL)
	return err
}

// Kill kills the program with SIGKILL.
func (p *Process) Kill() error {
	if err := p.proc.SignalGroup(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.proc.Done()
	return nil
}

// Terminate sends SIGTERM and returns the exit code. When ctx ends first, the program is killed and
// the error says so.
func (p *Process) Terminate(ctx context.Context) (code int, err error) {
	if err := p.proc.End(ctx, syscall.SIGTERM); err != nil {
		return -1, err
	}
	return p.ExitCode(), nil
}

// Dump ends the program with SIGQUIT, at which it prints the stacks of its goroutines.
func (p *Process) Dump(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return p.proc.End(ctx, syscall.SIGQUIT)
}

// Pause stops the program by SIGSTOP, as a frozen container is; Continue wakes it up.
func (p *Process) Pause() error { return p.proc.SignalGroup(syscall.SIGSTOP) }

// Continue lets a paused program go on.
func (p *Process) Continue() error { return p.proc.SignalGroup(syscall.SIGCONT) }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.proc.Done() }

// PID returns the process id of the newest start.
func (p *Process) PID() int { return p.proc.PID() }

// ExitCode is how the program ended, -1 for a signal. It must not be called before Done is closed.
func (p *Process) ExitCode() int {
	var exit *exec.ExitError
	switch err := p.proc.Err(); {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	default:
		return -1
	}
}

// Output is all that the program wrote, over all its starts.
func (p *Process) Output() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
