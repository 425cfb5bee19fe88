package vault

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// tokenName is the token's name among the credentials.
const tokenName = "vault_token"

// Metrics tells how the credentials are. A nil Metrics counts nothing.
type Metrics struct {
	expiry    *prometheus.Desc
	client    atomic.Pointer[Client]
	rotations *prometheus.CounterVec
	failures  *prometheus.CounterVec
}

// NewMetrics registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		expiry: prometheus.NewDesc("walferry_credential_expiry_seconds",
			"Seconds until a credential of Vault ends, below zero once it has; absent where it does not end.", []string{"credential"}, nil),
		rotations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "walferry_credential_rotations_total", Help: "Versions of a credential that Vault gave, the first included.",
		}, []string{"credential"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "walferry_credential_failures_total", Help: "Tries to read or renew a credential that failed.",
		}, []string{"credential"}),
	}
	reg.MustRegister(m, m.rotations, m.failures)
	return m
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) { ch <- m.expiry }

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	c := m.client.Load()
	if c == nil {
		return
	}
	gauge := func(name string, end time.Time) {
		ch <- prometheus.MustNewConstMetric(m.expiry, prometheus.GaugeValue, time.Until(end).Seconds(), name)
	}
	if end := c.shown.Load().expires; !end.IsZero() {
		gauge(tokenName, end)
	}
	for _, e := range c.entries {
		if end, ends := e.expiry(); ends {
			gauge(e.Name(), end)
		}
	}
}

// watch has the countdown show a client's credentials.
func (m *Metrics) watch(c *Client) {
	if m != nil {
		m.client.Store(c)
	}
}

func (m *Metrics) rotation(name string) {
	if m != nil {
		m.rotations.WithLabelValues(name).Inc()
	}
}

func (m *Metrics) failure(name string) {
	if m != nil {
		m.failures.WithLabelValues(name).Inc()
	}
}
