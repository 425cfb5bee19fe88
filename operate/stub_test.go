package operate

import (
	"context"

	"github.com/walferry/walferry/checkpoint"
)

// stubStore answers Acquire; nothing else is asked of it.
type stubStore struct {
	Store
	record *checkpoint.Record
	err    error
}

func (s *stubStore) Acquire(context.Context) (*checkpoint.Record, error) { return s.record, s.err }
