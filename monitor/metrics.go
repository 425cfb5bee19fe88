package monitor

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// NewRegistry returns a registry that holds the metrics of the Go runtime and of the process. The
// rooms add theirs.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return reg
}

// statusCollector turns a Status into gauges at each scrape, so that /metrics and /status cannot
// tell different stories. Names and labels are a contract: docs/metrics.md.
type statusCollector struct {
	status                              func() Status
	state, received, durable, confirmed *prometheus.Desc
	pending, since                      *prometheus.Desc
}

func newStatusCollector(status func() Status) *statusCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("walferry_"+name, help, append([]string{"pipeline"}, labels...), nil)
	}
	return &statusCollector{
		status:    status,
		state:     desc("pipeline_state", "1 for the state the pipeline is in, 0 for the others.", "state"),
		since:     desc("pipeline_state_since_timestamp_seconds", "When the present state began, as Unix time."),
		received:  desc("received_lsn_bytes", "Highest position the server has named, in bytes of WAL."),
		durable:   desc("durable_lsn_bytes", "Position up to which the brokers have acknowledged everything."),
		confirmed: desc("confirmed_lsn_bytes", "Position that the checkpoint has and the slot may be told."),
		pending:   desc("pending_records", "Records handed to the Kafka client and not yet acknowledged."),
	}
}

// Describe implements prometheus.Collector.
func (c *statusCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.state, c.since, c.received, c.durable, c.confirmed, c.pending} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. A float64 holds an LSN exactly up to 8 PiB of WAL.
func (c *statusCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.status()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append([]string{st.Pipeline}, labels...)...)
	}
	for _, s := range states {
		value := 0.0
		if s == st.State {
			value = 1
		}
		gauge(c.state, value, string(s))
	}
	if !st.Since.IsZero() {
		gauge(c.since, float64(st.Since.UnixMilli())/1000)
	}
	gauge(c.received, float64(st.Received))
	gauge(c.durable, float64(st.Durable))
	gauge(c.confirmed, float64(st.Confirmed))
	gauge(c.pending, float64(st.PendingRecords))
}
