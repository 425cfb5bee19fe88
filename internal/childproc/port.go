package childproc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// The range lies below the ephemeral ports of Linux, macOS and Windows: while a server is down
// between a crash and a restart, no outgoing connection of the machine can be given its port.
const (
	portLow  = 16384
	portHigh = 32768
)

// FreePort returns a port of 127.0.0.1 on which nobody listens. Another process may take it before
// the caller does; whoever must be sure tries again with another one.
func FreePort() (int, error) {
	var errs error
	for range 50 {
		port := portLow + rand.IntN(portHigh-portLow) //nolint:gosec // no secret
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		return port, l.Close()
	}
	return 0, fmt.Errorf("find a free port: %w", errs)
}
