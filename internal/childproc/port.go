package childproc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// The range lies below the ephemeral ports of Linux, macOS and Windows: while a server is down
// between a crash and a restart, no outgoing connection of the machine can be given its port.
// It is handed out in blocks: a process owns one by listening on its first port until it ends.
const (
	portLow   = 16384
	portHigh  = 32768
	portBlock = 64
)

// ports are those left of the block that this process owns.
var ports struct {
	mu         sync.Mutex // guards all
	next, end  int
	guardsHeld []net.Listener // never closed: what keeps others out of the blocks
}

// FreePort returns a port of 127.0.0.1 on which nobody listens. No call hands it out again, here or
// in another process that asks FreePort while this one lives. It is safe for concurrent use.
func FreePort() (int, error) {
	ports.mu.Lock()
	defer ports.mu.Unlock()
	var errs error
	for range 2 * portBlock {
		if ports.next == ports.end {
			if err := ownBlock(); err != nil {
				return 0, errors.Join(err, errs)
			}
		}
		port := ports.next
		ports.next++
		l, err := listen(port)
		if err != nil { // a server of a process that has ended, or a stranger
			errs = errors.Join(errs, err)
			continue
		}
		return port, l.Close()
	}
	return 0, fmt.Errorf("find a free port: %w", errs)
}

// ownBlock takes a block that no process owns. Callers hold ports.mu.
func ownBlock() error {
	var errs error
	for range 50 {
		first := portLow + portBlock*rand.IntN((portHigh-portLow)/portBlock) //nolint:gosec // no secret
		guard, err := listen(first)
		if err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		ports.guardsHeld = append(ports.guardsHeld, guard)
		ports.next, ports.end = first+1, first+portBlock
		return nil
	}
	return fmt.Errorf("find a block of free ports: %w", errs)
}

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}
