package replication

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// breakWhenUnacknowledged has the kernel break a connection whose peer acknowledges nothing for a while. Probes
// alone do not notice it while sent bytes wait to be acknowledged.
func breakWhenUnacknowledged(network, _ string, raw syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	var set error
	err := raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacknowledged.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return set
}
