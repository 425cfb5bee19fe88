package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/monitor"
)

// shownAt serves a status until the test ends, and returns its address.
func shownAt(t *testing.T, st monitor.Status) string {
	t.Helper()
	srv := monitor.New(monitor.Config{Listen: "127.0.0.1:0", Explicit: true}, prometheus.NewRegistry(),
		func() monitor.Status { return st }, slog.New(slog.DiscardHandler))
	if err := srv.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return srv.Addr().String()
}

func shownStatus() monitor.Status {
	since := time.Now().Add(-time.Hour)
	return monitor.Status{
		Pipeline: "shop", State: monitor.Streaming, Since: since,
		Lag:    []monitor.StageLag{{Stage: monitor.StageAcknowledged, Lag: monitor.Lag{Bytes: 512, Seconds: 2.5}}},
		Slot:   &monitor.Slot{Name: "walferry_shop", Retained: 4096, WALStatus: "reserved", Active: true, PID: 4711},
		Oldest: &monitor.Transaction{PID: 815, Application: "nightly\x1b[31m", Seconds: 90},
		Checks: []monitor.CheckResult{{Name: "stream", State: monitor.OK, Since: since}, {Name: "kafka", State: monitor.OK, Since: since}},
	}
}

func TestStatusShowsARunningPipeline(t *testing.T) {
	code, out, errs := walferry(t, "status", "--address", shownAt(t, shownStatus()))
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	for _, words := range []string{
		"shop, streaming for 1h0m0s, ready", "acknowledged 2.5s, 512 bytes", "keeps 4096 bytes of WAL", "held by process 4711",
		"process 815 (nightly\\u001b[31m), for 1m30s", "stream, kafka",
	} {
		if !strings.Contains(out, words) {
			t.Errorf("it does not say %q:\n%s", words, out)
		}
	}
}

func TestStatusOfManyNamesWhatFails(t *testing.T) {
	broken := shownStatus()
	broken.Pipeline = "stock"
	broken.Checks[1].State, broken.Checks[1].Code = monitor.Failing, fault.KafkaAuth
	code, out, _ := walferry(t, "status", "--address", shownAt(t, shownStatus()), "--address", shownAt(t, broken))
	if code != 3 || !strings.Contains(out, "shop, streaming") || !strings.Contains(out, "stock, streaming for 1h0m0s, NOT READY") ||
		!strings.Contains(out, "kafka: kafka_auth for 1h0m0s; see walferry explain kafka_auth") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	code, out, _ = walferry(t, "status", "--json", "--address", shownAt(t, broken))
	var back monitor.Status
	if err := json.Unmarshal([]byte(out), &back); err != nil || code != 3 || back.Pipeline != "stock" || back.Checks[1].Code != fault.KafkaAuth {
		t.Errorf("exit code %d, %v\n%s", code, err, out)
	}
}

// Whoever accepts and says nothing, or is not walferry, does not hold the command.
func TestStatusWithoutAnAnswer(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	began := time.Now()
	code, _, errs := walferry(t, "status", "--address", silent.Addr().String())
	if code != 3 || !strings.Contains(errs, "no status from "+silent.Addr().String()) {
		t.Errorf("exit code %d\n%s", code, errs)
	}
	if took := time.Since(began); took > 4*statusWithin {
		t.Errorf("it took %v", took)
	}
}

func TestStatusIsWatchedUntilInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &interrupter{after: 2, interrupt: cancel}
	if code := run(ctx, []string{"status", "--watch", "--address", shownAt(t, shownStatus())}, out, out); code != 0 {
		t.Errorf("exit code %d\n%s", code, out.text.String())
	}
	if n := strings.Count(out.text.String(), "shop, streaming"); n != 2 {
		t.Errorf("shown %d times:\n%s", n, out.text.String())
	}
}

// interrupter is a terminal whose user has seen enough after some writes.
type interrupter struct {
	after     int
	interrupt func()
	text      strings.Builder
}

func (w *interrupter) Write(p []byte) (int, error) {
	if w.after--; w.after == 0 {
		w.interrupt()
	}
	return w.text.Write(p)
}
