package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"github.com/walferry/walferry/fault"
)

// DefaultListen is where the server listens when nothing is configured.
const DefaultListen = "127.0.0.1:9630"

// Bounds on what clients can take. A scrape of a few hundred series takes milliseconds; the rest is
// room for slow networks. maxConnections keeps file descriptors free for Postgres and Kafka.
const (
	headerTimeout   = 5 * time.Second
	readTimeout     = 10 * time.Second
	writeTimeout    = 30 * time.Second
	idleTimeout     = 2 * time.Minute // longer than the usual scrape interval, so that a scraper keeps its connection
	maxHeaderBytes  = 16 << 10
	maxConnections  = 64
	maxScrapes      = 4
	shutdownTimeout = 2 * time.Second
)

// Config says where to listen.
type Config struct {
	// Listen is host:port; a port of 0 takes any free one.
	Listen string
	// Explicit tells that the operator chose Listen: then an address that cannot be used is an
	// error. Else it is a warning, and the pipeline runs without the server.
	Explicit bool
}

// Server serves metrics, health and status of one pipeline. Call Listen, then Run, once each.
type Server struct {
	cfg      Config
	status   func() Status
	log      *slog.Logger
	http     *http.Server
	listener net.Listener // nil before Listen, and after it where the server goes without
}

// New returns a server that shows reg and what status returns. Status is called for each request,
// from any goroutine; it must not block. New does no I/O.
func New(cfg Config, reg *prometheus.Registry, status func() Status, log *slog.Logger) *Server {
	s := &Server{cfg: cfg, status: status, log: log}
	// The status gauges have a registry of their own, so that two servers may show one registry.
	own := prometheus.NewRegistry()
	own.MustRegister(newStatusCollector(status))
	metrics := promhttp.HandlerFor(prometheus.Gatherers{reg, own}, promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
	})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /livez", s.live)
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("GET /status", s.showStatus)
	s.http = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s
}

// Listen takes the address, so that an operator hears of a taken one before the pipeline has done
// anything. Where a default address cannot be had it warns and returns nil; a configured one is an
// error with code fault.HTTPListen.
func (s *Server) Listen(ctx context.Context) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.cfg.Listen)
	switch {
	case err == nil:
		s.listener = l
		s.log.Info("metrics, health and status over HTTP", "listen", l.Addr().String())
		return nil
	case s.cfg.Explicit:
		return fault.New(fault.HTTPListen, "listen for HTTP", err,
			"Set http.listen to an address of this machine with a free port, or remove the key to do without when the default is taken.")
	default:
		s.log.Warn("HTTP address not available, going on without metrics, health and status",
			"listen", s.cfg.Listen, "error", err)
		return nil
	}
}

// Addr returns the address the server listens on, nil when it does not.
func (s *Server) Addr() net.Addr {
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Run serves what Listen took until ctx ends, lets requests under way finish for a short while, and
// returns nil. A server without an address just waits for the end of ctx.
func (s *Server) Run(ctx context.Context) error {
	if s.listener == nil {
		<-ctx.Done()
		return nil
	}
	// The goroutine ends with Serve, which Shutdown or Close below bring to its end.
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(netutil.LimitListener(s.listener, maxConnections)) }()
	select {
	case err := <-served:
		return fault.New(fault.Internal, "serve HTTP", err, "")
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := s.http.Shutdown(end); err != nil {
		_ = s.http.Close() // clients that will not let go are cut off: nothing of theirs is lost
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fault.New(fault.Internal, "serve HTTP", err, "")
	}
	return nil
}

// live answers as long as the process can: a watchdog that restarts a pipeline which is only
// waiting for its broker would make matters worse.
func (s *Server) live(w http.ResponseWriter, _ *http.Request) {
	plain(w, http.StatusOK, "alive\n")
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	st := s.status()
	code := http.StatusServiceUnavailable
	if st.Ready() {
		code = http.StatusOK
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s\n", st.State)
	for _, c := range st.Checks {
		if c.State == Failing || c.State == Warning {
			fmt.Fprintf(&text, "%s %s\n", c.State, c.Words())
		}
	}
	plain(w, code, text.String())
}

func (s *Server) showStatus(w http.ResponseWriter, _ *http.Request) {
	body, err := json.MarshalIndent(s.status(), "", "  ")
	if err != nil {
		http.Error(w, fmt.Sprintf("encode status: %v", err), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(body, '\n')) // a client that went away is no concern of ours
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text)
}
