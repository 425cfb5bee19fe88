package replication

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what the source reads and drops. A nil *Metrics counts nothing.
type Metrics struct {
	droppedTable  prometheus.Counter
	droppedPrefix prometheus.Counter
	stalled       prometheus.Gauge
}

// dropReason says why a change of the stream is not published.
type dropReason uint8

const (
	reasonTable  dropReason = iota // the publication holds more tables than are configured
	reasonPrefix                   // a logical message whose prefix is not listed
)

// NewMetrics registers the source's metrics; see docs/metrics.md.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "walferry_source_dropped_total",
		Help: "Changes that arrived and are not asked for, by reason: table (not configured), prefix (of a logical message, not listed).",
	}, []string{"reason"})
	m := &Metrics{
		droppedTable:  dropped.WithLabelValues("table"),
		droppedPrefix: dropped.WithLabelValues("prefix"),
		stalled: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "walferry_source_stalled",
			Help: "1 while nothing is read from Postgres because the brokers do not take more.",
		}),
	}
	reg.MustRegister(dropped, m.stalled)
	return m
}

func (m *Metrics) dropped(r dropReason) {
	switch {
	case m == nil:
	case r == reasonTable:
		m.droppedTable.Inc()
	default:
		m.droppedPrefix.Inc()
	}
}

func (m *Metrics) stall(on bool) {
	switch {
	case m == nil:
	case on:
		m.stalled.Set(1)
	default:
		m.stalled.Set(0)
	}
}
