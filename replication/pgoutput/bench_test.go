package pgoutput_test

import (
	"testing"

	"github.com/walferry/walferry/replication/pgoutput"
)

// BenchmarkDecode decodes the frames of a transaction with one row, as the stream loop does: an
// insert of seven columns and some 190 bytes, and an update under full identity.
func BenchmarkDecode(b *testing.B) {
	row := []string{
		"1234567", "paid", "2026-05-01 10:00:00.123456+00", "19.90", "customer-4711@example.com", "f",
		"a longer note of some sixty bytes, as orders have them, more or less",
	}
	tuple := []byte{0, byte(len(row))}
	for _, v := range row {
		tuple = append(append(tuple, 't', 0, 0, 0, byte(len(v))), v...)
	}
	header := "w" + "\x00\x00\x00\x00\x01\xa2\xb3\xc8" + "\x00\x00\x00\x00\x01\xa2\xb3\xc8" + "\x00\x02\xf3\xbd\x69\xa3\xaa\x40"
	begin := header + "B" + "\x00\x00\x00\x00\x01\xa2\xb3\xc8" + "\x00\x02\xf3\xbd\x69\xa3\xaa\x40" + "\x00\x00\x02\xef"
	commit := header + "C\x00" + "\x00\x00\x00\x00\x01\xa2\xb3\xc8" + "\x00\x00\x00\x00\x01\xa2\xb3\xf8" + "\x00\x02\xf3\xbd\x69\xa3\xaa\x40"
	insert := header + "I\x00\x00\x40\x01N" + string(tuple)
	update := header + "U\x00\x00\x40\x01O" + string(tuple) + "N" + string(tuple)

	for _, bb := range []struct {
		name   string
		frames []string
	}{
		{"insert", []string{insert}},
		{"update-full", []string{update}},
		{"transaction", []string{begin, insert, commit}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			frames := make([][]byte, len(bb.frames))
			size := 0
			for i, f := range bb.frames {
				frames[i] = []byte(f)
				size += len(f)
			}
			var d pgoutput.Decoder
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				for _, f := range frames {
					frame, err := d.DecodeFrame(f)
					if err != nil {
						b.Fatal(err)
					}
					x, ok := frame.(*pgoutput.XLogData)
					if !ok {
						b.Fatalf("decoded a %T", frame)
					}
					if _, err := d.Decode(x.Payload); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
