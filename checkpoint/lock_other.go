//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package checkpoint

import (
	"errors"
	"fmt"
	"os"
)

// lockFile refuses: without a lock two processes could write one checkpoint.
func lockFile(path string) (*os.File, error) {
	return nil, fmt.Errorf("lock %s: %w on this operating system: use checkpoint.store: kafka", path, errors.ErrUnsupported)
}
