package pgoutput

import (
	"encoding/binary"
	"time"

	"github.com/walferry/walferry/event"
)

// Status is a standby status update: what the client tells the server of its progress.
type Status struct {
	// Write is up to where the stream was received. The server waits for it at a fast shutdown.
	Write event.LSN
	// Flush confirms: the server sends nothing again that committed before it. It does not check the
	// value. 0 leaves the confirmed position as it is and lets a fast shutdown go by Write; any
	// other value that is behind what was sent holds the shutdown up for ever.
	Flush event.LSN
	// Apply is shown in pg_stat_replication and means nothing more.
	Apply event.LSN
	// Time is the client's clock, shown by the server as reply_time.
	Time time.Time
	// ReplyRequested asks for a keepalive at once.
	ReplyRequested bool
}

// StatusSize is the length of an encoded Status.
const StatusSize = 1 + 8 + 8 + 8 + 8 + 1

// AppendStatus appends the content of the CopyData for s to dst and returns the longer slice. Zeros
// stay zeros: nothing is filled in from another field.
func AppendStatus(dst []byte, s Status) []byte {
	dst = append(dst, 'r')
	for _, lsn := range [...]event.LSN{s.Write, s.Flush, s.Apply} {
		dst = binary.BigEndian.AppendUint64(dst, uint64(lsn))
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(s.Time.UnixMicro()-epoch)) //nolint:gosec // the wire has a signed number
	if s.ReplyRequested {
		return append(dst, 1)
	}
	return append(dst, 0)
}
