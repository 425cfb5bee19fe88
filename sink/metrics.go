package sink

import (
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// maxTopicLabels bounds the label topic: a database may have any number of tables.
const maxTopicLabels = 1000

// Metrics are the sink's figures. Names and labels are a contract: docs/metrics.md.
type Metrics struct {
	records     *prometheus.CounterVec
	failures    *prometheus.CounterVec
	deadLetters *prometheus.CounterVec
	requests    prometheus.Histogram
	connects    *prometheus.CounterVec
	inflight    atomic.Int64

	mu    sync.Mutex // guards named
	named map[string]bool
}

// NewMetrics makes the metrics and registers them, unless reg is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "walferry_" + name, Help: help}, []string{label})
	}
	m := &Metrics{
		records:     counter("records_produced_total", "Records that the brokers have acknowledged.", "topic"),
		failures:    counter("records_failed_total", "Failures to deliver a record, by error code. The first one stops the pipeline.", "reason"),
		deadLetters: counter("dead_letters_total", "Records sent to the dead-letter topic, by the topic they belonged to.", "topic"),
		connects:    counter("kafka_connects_total", "Connections to brokers, by result: ok or failed.", "result"),
		requests: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "walferry_produce_request_seconds",
			Help:    "From writing a produce request to reading the brokers' answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}),
		named: make(map[string]bool),
	}
	if reg != nil {
		inflight := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "walferry_inflight_bytes", Help: "Bytes handed to the Kafka client and not yet acknowledged.",
		}, func() float64 { return float64(m.inflight.Load()) })
		reg.MustRegister(m.records, m.failures, m.deadLetters, m.connects, m.requests, inflight)
	}
	return m
}

// produced returns a topic's counter of acknowledged records.
func (m *Metrics) produced(topic string) prometheus.Counter {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.named[topic] && len(m.named) >= maxTopicLabels {
		topic = "_other"
	} else {
		m.named[topic] = true
	}
	return m.records.WithLabelValues(topic)
}
