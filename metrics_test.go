package walferry_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walferry/walferry/monitor"
	"github.com/walferry/walferry/pipeline"
	"github.com/walferry/walferry/replication"
	"github.com/walferry/walferry/sink"
	"github.com/walferry/walferry/vault"
)

// docs/metrics.md lists what the rooms register and what the monitor adds, and nothing else.
func TestMetricsAreThoseOfThePaper(t *testing.T) {
	reg := prometheus.NewRegistry()
	sink.NewMetrics(reg)
	replication.NewMetrics(reg)
	pipeline.NewMetrics(reg)
	vault.NewMetrics(reg)

	inCode := map[string]bool{}
	described := make(chan *prometheus.Desc, 1000)
	reg.Describe(described)
	close(described)
	for d := range described {
		inCode[regexp.MustCompile(`fqName: "([^"]+)"`).FindStringSubmatch(d.String())[1]] = true
	}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(scrape(t), -1) {
		inCode[m[1]] = true
	}
	inPaper := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(walferry_[a-z_]+)` \\|").FindAllStringSubmatch(read(t, "docs/metrics.md"), -1) {
		inPaper[m[1]] = true
	}
	for name := range inCode {
		if !inPaper[name] {
			t.Errorf("docs/metrics.md lacks %s", name)
		}
	}
	for name := range inPaper {
		if !inCode[name] {
			t.Errorf("docs/metrics.md has %s, the code does not", name)
		}
	}
	if len(inCode) < 10 {
		t.Errorf("found only %d metrics", len(inCode))
	}
}

// full is a status that shows every series.
func full() monitor.Status {
	now, safe := time.Unix(1, 0), int64(1)
	return monitor.Status{
		Since: now, WALSeen: now,
		Lag:    []monitor.StageLag{{Stage: monitor.StageReceived}},
		Slot:   &monitor.Slot{Safe: &safe, WALStatus: "lost", Invalidation: "wal_removed", InactiveSince: now},
		Checks: []monitor.CheckResult{{Name: "slot", State: monitor.Failing, Code: "slot_lost"}},
	}
}

// scrape returns what a monitor serves of its own.
func scrape(t *testing.T) string {
	t.Helper()
	srv := monitor.New(monitor.Config{Listen: "127.0.0.1:0", Explicit: true}, prometheus.NewRegistry(),
		full, slog.New(slog.DiscardHandler))
	if err := srv.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	resp, err := http.Get("http://" + srv.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(body), "walferry_pipeline_state") {
		t.Fatalf("no status gauges in %s", body)
	}
	return string(body)
}
