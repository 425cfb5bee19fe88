package pipeline

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what a pipeline does. A nil *Metrics counts nothing.
type Metrics struct {
	repeats    prometheus.Counter
	reconnects prometheus.Counter
	missing    prometheus.Gauge
	saves      prometheus.Counter
}

// NewMetrics registers the pipeline's metrics; see docs/metrics.md.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		repeats: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "walferry_repeats_skipped_total",
			Help: "Changes that Postgres sent again after a connection was made, and that were not published again.",
		}),
		reconnects: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "walferry_reconnects_total",
			Help: "Connections to the slot that were lost.",
		}),
		missing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "walferry_unpublished_tables",
			Help: "Configured tables that the publication does not hold: their changes are not read.",
		}),
		saves: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "walferry_checkpoint_saves_total",
			Help: "Checkpoints that were stored.",
		}),
	}
	reg.MustRegister(m.repeats, m.reconnects, m.missing, m.saves)
	return m
}

func (m *Metrics) repeated() {
	if m != nil {
		m.repeats.Inc()
	}
}

func (m *Metrics) reconnect() {
	if m != nil {
		m.reconnects.Inc()
	}
}

func (m *Metrics) saved() {
	if m != nil {
		m.saves.Inc()
	}
}

func (m *Metrics) unpublished(tables int) {
	if m != nil {
		m.missing.Set(float64(tables))
	}
}
