package pgoutput

import "slices"

// Truncate empties one or more tables at once.
type Truncate struct {
	// Relations are the tables' ids in the order of the stream; the slice is used again.
	Relations       []uint32
	Cascade         bool
	RestartIdentity bool
}

// The option bits of a truncate.
const (
	truncateCascade         byte = 1
	truncateRestartIdentity byte = 2
)

func (d *Decoder) decodeTruncate(r *reader) *Truncate {
	announced := int64(r.uint32())
	options := r.flags(truncateCascade | truncateRestartIdentity)
	if announced > int64(r.rest()/4) {
		r.fail("%d relations in %d bytes", announced, r.rest())
		announced = 0
	}
	n := int(announced)
	d.relations = slices.Grow(d.relations[:0], n)[:n]
	for i := range d.relations {
		d.relations[i] = r.uint32()
	}
	d.truncate = Truncate{
		Relations:       d.relations,
		Cascade:         options&truncateCascade != 0,
		RestartIdentity: options&truncateRestartIdentity != 0,
	}
	return &d.truncate
}
