package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/failpoint"
)

const (
	// lockWait is how long Acquire waits for a predecessor that is on its way out: it leaves the
	// slot before it leaves its checkpoint.
	lockWait = 10 * time.Second
	lockRest = 100 * time.Millisecond
)

// errLocked is what lockFile returns while another process holds the lock.
var errLocked = errors.New("another process holds it")

// FileStore keeps the checkpoint in a local file, which each save replaces as a whole. One process
// at a time holds the lock beside it: it is not shut out by another one, the other one is refused.
//
// The methods may be called from any goroutine; one at a time is served.
type FileStore struct {
	pipeline, path string
	lockWait       time.Duration

	// mu guards lock, which is nil until Acquire.
	mu   sync.Mutex
	lock *os.File
}

// NewFileStore returns the store of a pipeline in the file at path. The file and path with ".lock"
// and ".tmp" behind it are made when they are needed; the directory must exist.
func NewFileStore(pipeline, path string) *FileStore {
	return &FileStore{pipeline: pipeline, path: path, lockWait: lockWait}
}

// Load reads the record; nil where there is no file.
func (s *FileStore) Load(context.Context) (*Record, error) {
	data, err := os.ReadFile(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, s.explain("read the checkpoint file", err)
	}
	return decode(s.pipeline, "file "+s.path, data)
}

// Peek is Load, which changes nothing.
func (s *FileStore) Peek(ctx context.Context) (*Record, error) { return s.Load(ctx) }

// Acquire takes the lock, which it holds until Close, also after an error of the record, and reads it. Where another process
// holds the lock for longer than it takes to stop, that is an error.
func (s *FileStore) Acquire(ctx context.Context) (*Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		lock, err := s.waitLock(ctx)
		if err != nil {
			return nil, err
		}
		s.lock = lock
	}
	return s.Load(ctx)
}

func (s *FileStore) waitLock(ctx context.Context) (*os.File, error) {
	const op = "lock the checkpoint file"
	for deadline := time.Now().Add(s.lockWait); ; {
		lock, err := lockFile(s.path + ".lock")
		switch {
		case err == nil:
			return lock, nil
		case !errors.Is(err, errLocked):
			return nil, s.explain(op, err)
		case time.Now().After(deadline):
			return nil, fault.New(fault.CheckpointFile, op, fmt.Errorf("%s.lock: %w", s.path, err),
				"Another walferry uses this file: stop it, or set another checkpoint.path.")
		}
		if err := rest(ctx, lockRest); err != nil {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
	}
}

// Save replaces the file and returns when the new one is on disk. A crash at any moment leaves the
// old file or the new one.
func (s *FileStore) Save(ctx context.Context, r Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	const op = "save the checkpoint"
	if s.lock == nil {
		return fault.New(fault.Internal, op, errors.New("not acquired"), "")
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	data, err := encode(s.pipeline, r)
	if err != nil {
		return err
	}
	if err := replaceFile(s.path, append(data, '\n')); err != nil {
		return s.explain(op, err)
	}
	return nil
}

// Forget deletes the file; one that is gone is fine. It needs Acquire.
func (s *FileStore) Forget(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	const op = "delete the checkpoint file"
	if s.lock == nil {
		return fault.New(fault.Internal, op, errors.New("not acquired"), "")
	}
	err := os.Remove(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDir(filepath.Dir(s.path))
	}
	if err != nil {
		return s.explain(op, err)
	}
	return nil
}

// Close gives the lock back.
func (s *FileStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return nil
	}
	err := s.lock.Close() // the lock goes with it; the file stays, because removing it would race
	s.lock = nil
	if err != nil {
		return s.explain("unlock the checkpoint file", err)
	}
	return nil
}

func (s *FileStore) explain(op string, err error) error { // err names the path
	return fault.New(fault.CheckpointFile, op, err,
		"checkpoint.path must be a file that this process may replace, in a directory that exists, on a disk with space.")
}

// replaceFile writes a file beside the old one and renames it over: first the content must be on
// disk, then the name, else a crash could leave an empty file under the name.
func replaceFile(path string, data []byte) error {
	temp := path + ".tmp"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	failpoint.Here(failpoint.FileWritten)
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	failpoint.Here(failpoint.FileRenamed)
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
