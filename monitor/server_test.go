package monitor_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/monitor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is one server on a free port, and a client of its own that leaves no connection behind.
type running struct {
	t      *testing.T
	base   string
	client *http.Client
	stop   func()
}

func start(t *testing.T, reg *prometheus.Registry, status func() monitor.Status) *running {
	t.Helper()
	srv := monitor.New(monitor.Config{Listen: "127.0.0.1:0", Explicit: true}, reg, status, slog.New(slog.DiscardHandler))
	if err := srv.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	tr := &http.Transport{}
	r := &running{t: t, base: "http://" + srv.Addr().String(), client: &http.Client{Transport: tr, Timeout: 20 * time.Second}}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		tr.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

// reply is what came back; the body has been read.
type reply struct {
	code   int
	header http.Header
	body   string
}

func (r *running) do(method, path string, body io.Reader) reply {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.base+path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(text)}
}

func streaming() monitor.Status {
	return monitor.Status{
		Pipeline:       "shop",
		State:          monitor.Streaming,
		Since:          time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC),
		Received:       0x16_B374D848,
		Handed:         0x16_B374D840,
		Durable:        0x16_B374D800,
		Confirmed:      0x16_B374D700,
		PendingRecords: 7,
	}
}

// everything is a status with all that it may show.
func everything() monitor.Status {
	st := streaming()
	safe := int64(4096)
	since := st.Since
	st.LastError, st.LastErrorAt = fault.KafkaUnavailable, since.Add(time.Second)
	st.WALEnd, st.WALSeen, st.ClockOffset = 0x16_B374D900, since, -.25
	st.Lag = []monitor.StageLag{{Stage: monitor.StageReceived}, {Stage: monitor.StageConfirmed, Lag: monitor.Lag{Bytes: 512, Seconds: 2.5}}}
	st.Slot = &monitor.Slot{
		Name: "walferry_shop", Active: true, PID: 4711, Restart: 0x16_B3740000, Confirmed: 0x16_B374D700, Retained: 55552, Held: 55040,
		Safe: &safe, WALStatus: "extended", Invalidation: "wal_removed", InactiveSince: since,
		SpilledTransactions: 1, SpillCount: 2, SpilledBytes: 3,
	}
	st.Oldest = &monitor.Transaction{PID: 815, Application: "psql", Began: since, Seconds: 90}
	st.Checks = []monitor.CheckResult{
		{Name: "stream", State: monitor.OK, Since: since, Timeout: 1},
		{Name: "kafka", State: monitor.Failing, Since: since, Code: fault.KafkaAuth, LastError: fault.KafkaAuth, LastErrorAt: since, Took: .5, Timeout: 5},
		{Name: "open_transaction", State: monitor.Warning, Since: since, Detail: "process 815", Timeout: 1},
	}
	return st
}

func TestStatusIsTheContractedJSON(t *testing.T) {
	st := everything()
	got := start(t, prometheus.NewRegistry(), func() monitor.Status { return st }).do(http.MethodGet, "/status", nil)
	body := got.body
	if got := got.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
	want, err := os.ReadFile("testdata/status.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), body); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	var back monitor.Status
	if err := json.Unmarshal([]byte(body), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(st, back); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestReadyFollowsTheState(t *testing.T) {
	for state, want := range map[monitor.State]int{
		monitor.Starting:     http.StatusServiceUnavailable,
		monitor.Standby:      http.StatusOK,
		monitor.Streaming:    http.StatusOK,
		monitor.Reconnecting: http.StatusServiceUnavailable,
		monitor.Stopping:     http.StatusServiceUnavailable,
	} {
		t.Run(string(state), func(t *testing.T) {
			r := start(t, prometheus.NewRegistry(), func() monitor.Status { return monitor.Status{State: state} })
			if got := r.do(http.MethodGet, "/readyz", nil); got.code != want || got.body != string(state)+"\n" {
				t.Errorf("readyz: %d %q, want %d %q", got.code, got.body, want, state)
			}
			if got := r.do(http.MethodGet, "/livez", nil); got.code != http.StatusOK {
				t.Errorf("livez: %d", got.code)
			}
		})
	}
}

// The first line is the state; each thing that is not well has one of its own.
func TestReadyNamesTheCause(t *testing.T) {
	st := everything()
	r := start(t, prometheus.NewRegistry(), func() monitor.Status { return st })
	want := "streaming\nfailing kafka: kafka_auth\nwarning open_transaction: process 815\n"
	if got := r.do(http.MethodGet, "/readyz", nil); got.code != http.StatusServiceUnavailable || got.body != want {
		t.Errorf("a check fails: %d %q", got.code, got.body)
	}
	mended := everything()
	mended.Checks[1].State, mended.Checks[1].Code = monitor.OK, ""
	r = start(t, prometheus.NewRegistry(), func() monitor.Status { return mended })
	want = "streaming\nwarning open_transaction: process 815\n"
	if got := r.do(http.MethodGet, "/readyz", nil); got.code != http.StatusOK || got.body != want {
		t.Errorf("a warning is left: %d %q", got.code, got.body)
	}
}

func TestMetricsShowEverything(t *testing.T) {
	body := start(t, prometheus.NewRegistry(), everything).do(http.MethodGet, "/metrics", nil).body
	for _, line := range []string{
		`walferry_lag_seconds{pipeline="shop",stage="received"} 0`,
		`walferry_lag_seconds{pipeline="shop",stage="confirmed"} 2.5`,
		`walferry_lag_bytes{pipeline="shop",stage="confirmed"} 512`,
		`walferry_clock_offset_seconds{pipeline="shop"} -0.25`,
		`walferry_slot_retained_bytes{pipeline="shop"} 55552`,
		`walferry_slot_wal_status{pipeline="shop",status="extended"} 1`,
		`walferry_slot_invalidated{pipeline="shop",reason="wal_removed"} 1`,
		`walferry_slot_spilled_bytes_total{pipeline="shop"} 3`,
		`walferry_oldest_transaction_seconds{pipeline="shop"} 90`,
		`walferry_ready{pipeline="shop"} 0`,
		`walferry_check_failing{check="kafka",code="kafka_auth",pipeline="shop"} 1`,
		`walferry_check_state{check="stream",pipeline="shop",state="ok"} 1`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("metrics lack %q", line)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
}

func TestMetricsShowRegistryAndStatus(t *testing.T) {
	reg := monitor.NewRegistry()
	rows := prometheus.NewCounter(prometheus.CounterOpts{Name: "walferry_test_rows_total", Help: "Rows."})
	reg.MustRegister(rows)
	rows.Add(3)
	body := start(t, reg, streaming).do(http.MethodGet, "/metrics", nil).body
	for _, line := range []string{
		`walferry_test_rows_total 3`,
		`walferry_pipeline_state{pipeline="shop",state="streaming"} 1`,
		`walferry_pipeline_state{pipeline="shop",state="standby"} 0`,
		`walferry_pipeline_state_since_timestamp_seconds{pipeline="shop"} 1.7776296e+09`,
		`walferry_received_lsn_bytes{pipeline="shop"} 9.750005972e+10`,
		`walferry_durable_lsn_bytes{pipeline="shop"} 9.7500059648e+10`,
		`walferry_confirmed_lsn_bytes{pipeline="shop"} 9.7500059392e+10`,
		`walferry_pending_records{pipeline="shop"} 7`,
		`# TYPE go_goroutines gauge`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("metrics lack %q", line)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
}

// Two pipelines in one process must not notice each other.
func TestTwoServersMayShowOneRegistry(t *testing.T) {
	reg := prometheus.NewRegistry()
	a := start(t, reg, func() monitor.Status { return monitor.Status{Pipeline: "a"} })
	b := start(t, reg, func() monitor.Status { return monitor.Status{Pipeline: "b"} })
	for name, r := range map[string]*running{"a": a, "b": b} {
		got := r.do(http.MethodGet, "/metrics", nil)
		if got.code != http.StatusOK || !strings.Contains(got.body, `walferry_pending_records{pipeline="`+name+`"} 0`) {
			t.Errorf("%s: %d\n%s", name, got.code, got.body)
		}
	}
}

func TestNothingButReading(t *testing.T) {
	r := start(t, prometheus.NewRegistry(), streaming)
	for _, path := range []string{"/metrics", "/livez", "/readyz", "/status"} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, "BREW"} {
			if got := r.do(method, path, strings.NewReader("x")); got.code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, path, got.code)
			}
		}
		if got := r.do(http.MethodHead, path, nil); got.code != http.StatusOK || got.body != "" {
			t.Errorf("HEAD %s: %d, %d bytes", path, got.code, len(got.body))
		}
	}
	if got := r.do(http.MethodGet, "/debug/pprof/", nil); got.code != http.StatusNotFound {
		t.Errorf("pprof is served: %d", got.code)
	}
}

func TestFault58_SlowHeaderIsCutOff(t *testing.T) {
	t.Parallel()
	r := start(t, prometheus.NewRegistry(), streaming)
	conn := dial(t, r)
	if _, err := io.WriteString(conn, "GET /status HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := conn.SetReadDeadline(began.Add(15 * time.Second)); err != nil {
		t.Fatal(err)
	}
	// The header never ends; the server must hang up by itself, whether or not with a word.
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Fatalf("the connection is still open after %v: %v", time.Since(began), err)
	}
	if took := time.Since(began); took > 12*time.Second {
		t.Errorf("cut off only after %v", took)
	}
}

func TestFault58_HugeHeaderIsRefused(t *testing.T) {
	t.Parallel()
	r := start(t, prometheus.NewRegistry(), streaming)
	conn := dial(t, r)
	if _, err := io.WriteString(conn, "GET /status HTTP/1.1\r\nHost: x\r\nX-Big: "); err != nil {
		t.Fatal(err)
	}
	go func() { // ends when the server closes the connection, or the test does
		_, _ = conn.Write(bytes.Repeat([]byte("a"), 1<<20))
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// A body that nobody reads must not make the server read it to its end.
func TestFault58_EndlessBodyEndsTheConnection(t *testing.T) {
	t.Parallel()
	r := start(t, prometheus.NewRegistry(), streaming)
	conn := dial(t, r)
	if _, err := io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1099511627776\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 64<<10)
	sent := 0
	for {
		n, err := conn.Write(block)
		sent += n
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("still reading after %d bytes", sent)
			}
			return
		}
		if sent > 1<<30 {
			t.Fatalf("took %d bytes of a body", sent)
		}
	}
}

// A thousand clients that ask for everything and read nothing hold a bounded number of connections for a
// bounded time; behind them the server answers as before, and nothing is left of them.
func TestFault58_ManyClientsThatReadNothing(t *testing.T) {
	t.Parallel()
	r := start(t, monitor.NewRegistry(), everything)
	before := runtime.NumGoroutine()
	var conns []net.Conn
	for range 1000 {
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(r.base, "http://"), 5*time.Second)
		if err != nil {
			break // the backlog is full, which is a bound as well
		}
		defer conn.Close()
		conns = append(conns, conn)
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(conn, strings.Repeat("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 100))
	}
	if len(conns) < 100 {
		t.Fatalf("only %d clients got through to the listener", len(conns))
	}
	if n := runtime.NumGoroutine() - before; n > 400 {
		t.Errorf("%d goroutines serve %d clients", n, len(conns))
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
	if got := r.do(http.MethodGet, "/readyz", nil); got.code != http.StatusServiceUnavailable {
		t.Errorf("readyz: %d", got.code)
	}
}

func TestAConfiguredAddressThatIsTakenIsAnError(t *testing.T) {
	taken := occupy(t)
	srv := monitor.New(monitor.Config{Listen: taken, Explicit: true}, prometheus.NewRegistry(), streaming, slog.New(slog.DiscardHandler))
	err := srv.Listen(t.Context())
	if !fault.Is(err, fault.HTTPListen) || fault.ExitCode(err) != 3 {
		t.Fatalf("got %v, exit code %d", err, fault.ExitCode(err))
	}
	if !strings.Contains(err.Error(), taken) {
		t.Errorf("%q does not name the address", err)
	}
}

func TestTheDefaultAddressTakenIsAWarning(t *testing.T) {
	var log bytes.Buffer
	srv := monitor.New(monitor.Config{Listen: occupy(t)}, prometheus.NewRegistry(), streaming, slog.New(slog.NewTextHandler(&log, nil)))
	if err := srv.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := log.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "going on without") {
		t.Errorf("log: %s", got)
	}
	if srv.Addr() != nil {
		t.Errorf("address %v", srv.Addr())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := srv.Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestRunEndsWhileAClientHoldsItsConnection(t *testing.T) {
	t.Parallel()
	r := start(t, prometheus.NewRegistry(), streaming)
	conn := dial(t, r)
	if _, err := io.WriteString(conn, "GET /status HTTP/1.1\r\n"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r.stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("Run took %v to end", took)
	}
}

// occupy listens on a free port until the test ends and returns its address.
func occupy(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func dial(t *testing.T, r *running) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
