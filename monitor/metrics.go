package monitor

import (
	"time"

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

// statusCollector turns a Status into metrics at each scrape, so that /metrics and /status cannot
// tell different stories. Names and labels are a contract: docs/metrics.md.
type statusCollector struct {
	status func() Status
	descs  map[string]*prometheus.Desc // by name without walferry_
}

// series are the names, their help and their labels beside pipeline.
var series = []struct {
	name, help string
	labels     []string
}{
	{"pipeline_state", "1 for the state the pipeline is in, 0 for the others.", []string{"state"}},
	{"pipeline_state_since_timestamp_seconds", "When the present state began, as Unix time.", nil},
	{"ready", "1 while /readyz says so.", nil},
	{"received_lsn_bytes", "Highest position the server has named, in bytes of WAL.", nil},
	{"handed_over_lsn_bytes", "Position up to which everything was handed to the Kafka client.", nil},
	{"durable_lsn_bytes", "Position up to which the brokers have acknowledged everything.", nil},
	{"confirmed_lsn_bytes", "Position that the checkpoint has and the slot may be told.", nil},
	{"wal_end_lsn_bytes", "End of the server's WAL as it was seen last.", nil},
	{"wal_seen_timestamp_seconds", "When the end of the server's WAL was seen last, as Unix time.", nil},
	{"pending_records", "Records handed to the Kafka client and not yet acknowledged.", nil},
	{"lag_seconds", "Age of the oldest WAL that a stage has not passed.", []string{"stage"}},
	{"lag_bytes", "Bytes of WAL that a stage has not passed.", []string{"stage"}},
	{"clock_offset_seconds", "How far the server's clock is ahead of this machine's.", nil},
	{"slot_active", "1 while a connection holds the slot.", nil},
	{"slot_inactive_since_timestamp_seconds", "Since when nobody holds the slot, as Unix time.", nil},
	{"slot_retained_bytes", "WAL that the server keeps for the slot.", nil},
	{"slot_held_bytes", "The part of it before what the slot has confirmed: kept for transactions that are open.", nil},
	{"slot_safe_wal_bytes", "WAL that can be written before the slot may be invalidated; absent without a limit.", nil},
	{"slot_wal_status", "1 for what the server says of the slot's WAL.", []string{"status"}},
	{"slot_invalidated", "1 with the server's reason where the slot is invalid.", []string{"reason"}},
	{"slot_spilled_transactions_total", "Transactions that decoding wrote to the server's disk.", nil},
	{"slot_spills_total", "Times that decoding wrote changes to the server's disk.", nil},
	{"slot_spilled_bytes_total", "Bytes of changes that decoding wrote to the server's disk.", nil},
	{"oldest_transaction_seconds", "Age of the oldest open transaction of the server that writes, 0 for none.", nil},
	{"check_state", "1 for the state a check is in, 0 for the others.", []string{"check", "state"}},
	{"check_failing", "1 for each check that fails, with the error's code.", []string{"check", "code"}},
	{"check_seconds", "How long the newest run of a check took.", []string{"check"}},
}

func newStatusCollector(status func() Status) *statusCollector {
	c := &statusCollector{status: status, descs: make(map[string]*prometheus.Desc)}
	for _, s := range series {
		c.descs[s.name] = prometheus.NewDesc("walferry_"+s.name, s.help, append([]string{"pipeline"}, s.labels...), nil)
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *statusCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// scrape is one collection.
type scrape struct {
	*statusCollector
	ch       chan<- prometheus.Metric
	pipeline string
}

func (s scrape) gauge(name string, value float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(s.descs[name], prometheus.GaugeValue, value, append([]string{s.pipeline}, labels...)...)
}

func (s scrape) counter(name string, value int64) {
	s.ch <- prometheus.MustNewConstMetric(s.descs[name], prometheus.CounterValue, float64(value), s.pipeline)
}

// time shows a time that is known.
func (s scrape) time(name string, t time.Time) {
	if !t.IsZero() {
		s.gauge(name, float64(t.UnixMilli())/1000)
	}
}

// Collect implements prometheus.Collector. A float64 holds an LSN exactly up to 8 PiB of WAL.
func (c *statusCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.status()
	s := scrape{c, ch, st.Pipeline}
	for _, state := range states {
		s.gauge("pipeline_state", one(state == st.State), string(state))
	}
	s.time("pipeline_state_since_timestamp_seconds", st.Since)
	s.gauge("ready", one(st.Ready()))
	s.gauge("received_lsn_bytes", float64(st.Received))
	s.gauge("handed_over_lsn_bytes", float64(st.Handed))
	s.gauge("durable_lsn_bytes", float64(st.Durable))
	s.gauge("confirmed_lsn_bytes", float64(st.Confirmed))
	s.gauge("pending_records", float64(st.PendingRecords))
	for _, l := range st.Lag {
		s.gauge("lag_seconds", l.Seconds, string(l.Stage))
		s.gauge("lag_bytes", float64(l.Bytes), string(l.Stage))
	}
	for _, r := range st.Checks {
		s.check(r)
	}
	if st.WALSeen.IsZero() {
		return // nothing is known of the server
	}
	s.gauge("wal_end_lsn_bytes", float64(st.WALEnd))
	s.time("wal_seen_timestamp_seconds", st.WALSeen)
	s.gauge("clock_offset_seconds", st.ClockOffset)
	age := 0.0
	if st.Oldest != nil {
		age = st.Oldest.Seconds
	}
	s.gauge("oldest_transaction_seconds", age)
	if st.Slot != nil {
		s.slot(st.Slot)
	}
}

func (s scrape) slot(slot *Slot) {
	s.gauge("slot_active", one(slot.Active))
	s.time("slot_inactive_since_timestamp_seconds", slot.InactiveSince)
	s.gauge("slot_retained_bytes", float64(slot.Retained))
	s.gauge("slot_held_bytes", float64(slot.Held))
	if slot.Safe != nil {
		s.gauge("slot_safe_wal_bytes", float64(*slot.Safe))
	}
	if slot.WALStatus != "" {
		s.gauge("slot_wal_status", 1, slot.WALStatus)
	}
	if slot.Invalidation != "" {
		s.gauge("slot_invalidated", 1, slot.Invalidation)
	}
	s.counter("slot_spilled_transactions_total", slot.SpilledTransactions)
	s.counter("slot_spills_total", slot.SpillCount)
	s.counter("slot_spilled_bytes_total", slot.SpilledBytes)
}

func (s scrape) check(r CheckResult) {
	for _, state := range checkStates {
		s.gauge("check_state", one(state == r.State), r.Name, string(state))
	}
	if r.State == Failing {
		s.gauge("check_failing", 1, r.Name, string(r.Code))
	}
	s.gauge("check_seconds", r.Took, r.Name)
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
