package pipeline

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what a pipeline does. A nil *Metrics counts nothing.
type Metrics struct {
	repeats    prometheus.Counter
	reconnects prometheus.Counter
	missing    prometheus.Gauge
	saves      prometheus.Counter
	latency    prometheus.Histogram
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
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "walferry_commit_to_ack_seconds",
			Help:    "From the commit of a transaction at the server to the brokers' acknowledgement of its last record, corrected by the clocks' offset.",
			Buckets: latencyBuckets(),
			// The native form has buckets of a tenth; the reset keeps a bad hour from making it coarse for good.
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  160,
			NativeHistogramMinResetDuration: time.Hour,
		}),
	}
	reg.MustRegister(m.repeats, m.reconnects, m.missing, m.saves, m.latency)
	return m
}

// latencyBuckets reach from a millisecond, which a broker on the same machine takes, to ten minutes of an
// outage.
func latencyBuckets() []float64 {
	return []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}
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
