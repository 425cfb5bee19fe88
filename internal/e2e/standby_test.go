package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/internal/cdctest"
	"github.com/walferry/walferry/internal/childproc"
)

// watchable is one more process of the pipeline, with an HTTP endpoint of its own.
func (o *operated) watchable() (p *cdctest.Process, address string) {
	o.t.Helper()
	port, err := childproc.FreePort()
	if err != nil {
		o.t.Fatal(err)
	}
	address = fmt.Sprintf("127.0.0.1:%d", port)
	text, err := os.ReadFile(o.file)
	if err != nil {
		o.t.Fatal(err)
	}
	file := fmt.Sprintf("%s.%d", o.file, port)
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), "listen: off", "listen: "+address, 1)), 0o600); err != nil {
		o.t.Fatal(err)
	}
	return o.process("run", "--config", file), address
}

// reports waits until an instance says by status and metric that it is in a state.
func (o *operated) reports(address, state string) {
	o.t.Helper()
	for path, words := range map[string]string{
		"/status":  fmt.Sprintf(`"state":"%s"`, state),
		"/metrics": fmt.Sprintf(`walferry_pipeline_state{pipeline="%s",state="%s"} 1`, o.name, state),
	} {
		o.eventually(address+path+" says "+state, func(ctx context.Context) bool {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
			if err != nil {
				o.t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return false // it does not listen yet
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			return err == nil && strings.Contains(strings.ReplaceAll(string(body), `": "`, `":"`), words)
		})
	}
}

// TestIdleZombieEnds freezes an instance that has nothing to save, so that the brokers need not tell it
// anything, has another take over and write, and wakes it: it ends with exit code 5, and disturbs nobody.
// Both say all the time by status, metric and log which of them is active.
func TestIdleZombieEnds(t *testing.T) {
	long(t)
	each(t, func(t *testing.T, delivery string) {
		t.Parallel()
		o := newOperated(t, delivery, "kafka")
		o.terminate(0)
		zombie, active := o.watchable()
		o.startProcess(zombie)
		o.reports(active, "streaming")
		successor, waits := o.watchable()
		o.startProcess(successor)
		o.reports(waits, "standby")
		o.said(successor, waiting)

		if err := zombie.Pause(); err != nil {
			t.Fatal(err)
		}
		if n, err := cdctest.TerminateWalsenders(t.Context(), o.db.DSN(), o.slot()); err != nil || n != 1 {
			t.Fatalf("%d walsenders terminated, %v", n, err)
		}
		o.reports(waits, "streaming")
		was := o.showsAny().Checkpoint.Instance
		o.mark("by the successor")
		o.sees("by the successor")
		o.eventually("the successor saves a checkpoint", func(context.Context) bool { return o.showsAny().Checkpoint.Instance != was })
		if err := zombie.Continue(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-zombie.Done():
		case <-time.After(patience):
			t.Fatal("the zombie goes on")
		}
		if code := zombie.ExitCode(); code != 5 || !strings.Contains(zombie.Output(), "[fenced]") {
			t.Errorf("the zombie ended with exit code %d:\n%s", code, zombie.Output())
		}
		o.mark("still there")
		o.sees("still there")
		o.reports(waits, "streaming")
		o.walferry = successor
		o.terminate(0)
	})
}
