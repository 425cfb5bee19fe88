package sink_test

import (
	"strings"
	"testing"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/internal/kafkatest"
)

// BenchmarkWrite writes rows of seven columns, records of about 470 bytes, until the brokers have
// acknowledged them all. With kfake the broker's work is in the figures too.
func BenchmarkWrite(b *testing.B) {
	for name, seeds := range map[string]func() []string{
		"kfake": func() []string { return kafkatest.StartFake(b).ListenAddrs() },
		"kafka": func() []string { return []string{kafkatest.Shared(b).Addr()} },
	} {
		for _, compression := range []string{"none", "lz4"} {
			b.Run(name+"/"+compression, func(b *testing.B) {
				table := orders("orders")
				cfg := config(b)
				cfg.Compression = compression
				for _, column := range []string{"customer", "status", "amount", "at", "doc"} {
					table.Columns = append(table.Columns, event.Column{Name: column, Type: text, Mod: -1})
				}
				k := open(b, cfg, seeds(), table)
				s, a := newStream(), new(ack)
				note := strings.Repeat("lorem ipsum ", 2)
				change := s.insert(table, 0, note)
				for range len(table.Columns) - 2 {
					change.New = append(change.New, event.Value{State: event.Text, Bytes: []byte(note)})
				}
				id := []byte("0000000")
				change.New[0].Bytes = id
				b.ReportAllocs()
				for b.Loop() {
					change.Pos = s.pos()
					for i := len(id) - 1; i >= 0; i-- { // the next id, in place
						if id[i]++; id[i] <= '9' {
							break
						}
						id[i] = '0'
					}
					write(b, k, a, change)
				}
				drain(b, k)
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
				if a.acked.Load() != int64(b.N) {
					b.Errorf("%d of %d acknowledged", a.acked.Load(), b.N)
				}
			})
		}
	}
}
