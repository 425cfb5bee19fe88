package pgoutput

import (
	"testing"
)

func BenchmarkDecodeInsert(b *testing.B) {
	data := []byte("I\x00\x00\x40\x01N\x00\x07")
	for _, v := range []string{"1234567", "paid", "2026-05-01 10:00:00.123456+00", "19.90", "customer-4711@example.com", "f", "a longer note of some sixty bytes, as orders have them, more or less"} {
		data = append(data, 't', 0, 0, 0, byte(len(v)))
		data = append(data, v...)
	}
	var d Decoder
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Decode(data); err != nil {
			b.Fatal(err)
		}
	}
}
