package sink

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
)

// hooks listens to the client: it measures produce requests, and logs a broker that cannot be
// reached once when that begins and once when it is over. The client itself tries for ever.
type hooks struct {
	broker  broker.Config
	log     *slog.Logger
	metrics *Metrics

	mu     sync.Mutex      // guards broken
	broken map[string]bool // by address: a seed and the broker behind it are one
}

var (
	_ kgo.HookBrokerConnect = (*hooks)(nil)
	_ kgo.HookBrokerE2E     = (*hooks)(nil)
)

func newHooks(b broker.Config, log *slog.Logger, m *Metrics) *hooks {
	return &hooks{broker: b, log: log, metrics: m, broken: make(map[string]bool)}
}

// OnBrokerConnect is called by the client after each attempt to connect and to log in.
func (h *hooks) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) {
		return
	}
	result := "ok"
	if err != nil {
		result = "failed"
	}
	h.metrics.connects.WithLabelValues(result).Inc()

	addr := net.JoinHostPort(meta.Host, strconv.Itoa(int(meta.Port)))
	h.mu.Lock()
	was := h.broken[addr]
	h.broken[addr] = err != nil
	h.mu.Unlock()
	switch {
	case err != nil && !was:
		explained := fault.Of(broker.Explain("connect to a Kafka broker", err, h.broker))
		h.log.Warn("a Kafka broker cannot be used, trying again", "broker", addr, "error", explained)
	case err == nil && was:
		h.log.Info("the Kafka broker can be used again", "broker", addr)
	}
}

// OnBrokerE2E is called by the client after each request.
func (h *hooks) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if key == int16(kmsg.Produce) && e2e.Err() == nil {
		h.metrics.requests.Observe(e2e.DurationE2E().Seconds())
	}
}
