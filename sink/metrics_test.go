package sink_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walferry/walferry/internal/kafkaserver"
)

var kafkaOptions = kafkaserver.Options{}

// gather sums each metric over its labels; of a histogram it takes the count.
func gather(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sums := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			sums[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sums
}
