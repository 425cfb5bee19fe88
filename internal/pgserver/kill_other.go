//go:build !linux

package pgserver

import "errors"

// Kill works on Linux alone: elsewhere there is no sure way to find the postmaster's processes.
// Stop(ctx, Immediate) is a crash everywhere.
func (s *Server) Kill() error { return errors.New("killing postgres is supported on linux alone") }
