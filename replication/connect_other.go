//go:build !linux

package replication

import "syscall"

// breakWhenUnacknowledged does nothing where the kernel has no such limit; keepalive probes remain.
func breakWhenUnacknowledged(string, string, syscall.RawConn) error { return nil }
