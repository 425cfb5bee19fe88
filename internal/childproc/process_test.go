//go:build linux

package childproc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestChildDiesWithParent runs this test binary as a parent that starts a child in a folder and is
// then killed with SIGKILL: the child must follow, and the folder with the next one that is made.
func TestChildDiesWithParent(t *testing.T) {
	if os.Getenv("CHILDPROC_PARENT") == "1" {
		folder, err := NewFolder("childproc-test-")
		if err != nil {
			t.Fatal(err)
		}
		p, err := Start(exec.Command("sleep", "60"), nil, syscall.SIGKILL)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Println(p.PID(), folder.Path); err != nil {
			t.Fatal(err)
		}
		<-p.Done()
		return
	}
	parent := exec.Command(os.Args[0], "-test.run=^TestChildDiesWithParent$")
	parent.Env = append(os.Environ(), "CHILDPROC_PARENT=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var abandoned string
	if _, err := fmt.Fscan(out, &pid, &abandoned); err != nil {
		t.Fatal(err)
	}
	ours, err := NewFolder("childproc-test-")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(abandoned); err != nil {
		t.Fatalf("the folder of a live process was removed: %v", err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	deadline := time.Now().Add(10 * time.Second)
	for alive(pid) {
		if time.Now().After(deadline) {
			t.Fatalf("child %d outlived its parent", pid)
		}
		time.Sleep(time.Millisecond)
	}
	next, err := NewFolder("childproc-test-")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(abandoned); !os.IsNotExist(err) {
		t.Errorf("the folder of a dead process is still there: %v", err)
	}
	if _, err := os.Stat(ours.Path); err != nil {
		t.Errorf("our own folder was removed: %v", err)
	}
	if err := errors.Join(ours.Remove(), ours.Remove(), next.Remove()); err != nil {
		t.Error(err)
	}
}

// alive tells whether pid runs; a zombie nobody has reaped yet does not.
func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestEndKillsTheDeaf(t *testing.T) {
	p, err := Start(exec.Command("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"), nil, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := p.End(ctx, syscall.SIGCONT); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("End said %v, want the deadline", err)
	}
	if p.Err() == nil {
		t.Fatal("a killed child reported success")
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("signal after the end: %v", err)
	}
}

func TestStartReportsAMissingProgram(t *testing.T) {
	if _, err := Start(exec.Command("/nonexistent/program"), nil, syscall.SIGKILL); err == nil {
		t.Fatal("no error")
	}
}

func TestFreePortHandsOutEachOnce(t *testing.T) {
	seen := map[int]bool{}
	for range 3 * portBlock { // more than one block
		port, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if port < portLow || port >= portHigh || seen[port] {
			t.Fatalf("port %d, handed out before: %v", port, seen[port])
		}
		seen[port] = true
	}
}
