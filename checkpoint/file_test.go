package checkpoint

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

func newFileStore(t *testing.T, path string) *FileStore {
	t.Helper()
	s := NewFileStore("shop", path)
	t.Cleanup(func() { noError(t, s.Close()) })
	return s
}

func TestFileStoreKeepsTheNewest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint.json")
	ctx := t.Context()
	s := newFileStore(t, path)
	r, err := s.Load(ctx)
	wantEnd(t, r, err, 0)
	r, err = s.Acquire(ctx)
	wantEnd(t, r, err, 0)
	for end := event.LSN(1); end <= 10; end++ {
		noError(t, s.Save(ctx, recordAt(end)))
	}
	r, err = s.Acquire(ctx) // again, by the same
	wantEnd(t, r, err, 10)
	r, err = NewFileStore("shop", path).Load(ctx)
	wantEnd(t, r, err, 10)
	noError(t, s.Close())

	next := newFileStore(t, path)
	r, err = next.Acquire(ctx)
	wantEnd(t, r, err, 10)
	info, err := os.Stat(path)
	noError(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v", info.Mode())
	}
}

func TestFileStoreTakesOneWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint.json")
	first, second := newFileStore(t, path), newFileStore(t, path)
	_, err := first.Acquire(t.Context())
	noError(t, err)
	noError(t, first.Save(t.Context(), recordAt(10)))

	ctx, cancel := context.WithTimeout(t.Context(), 3*lockRest)
	defer cancel()
	if _, err = second.Acquire(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("while the first holds the lock: error %v", err)
	}
	if err = second.Save(t.Context(), recordAt(20)); !fault.Is(err, fault.Internal) {
		t.Fatalf("a save without the lock: error %v", err)
	}
	// A successor that waits gets the lock as soon as the first one leaves.
	released := time.AfterFunc(2*lockRest, func() { _ = first.Close() })
	defer released.Stop()
	r, err := second.Acquire(t.Context())
	wantEnd(t, r, err, 10)
}

func TestFileStoreRefusesAHeldLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint.json")
	first, second := newFileStore(t, path), newFileStore(t, path)
	_, err := first.Acquire(t.Context())
	noError(t, err)
	second.lockWait = 2 * lockRest
	_, err = second.Acquire(t.Context())
	wantCode(t, err, fault.CheckpointFile)
	if !strings.Contains(err.Error(), path) || fault.Of(err).Hint == "" {
		t.Errorf("error %v, want the path and a hint", err)
	}
}

func TestFileStoreErrorsNameThePath(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	missing := filepath.Join(dir, "no", "such", "checkpoint.json")
	_, err := newFileStore(t, missing).Acquire(ctx)
	wantFileError(t, err, missing)
	_, err = newFileStore(t, dir).Load(ctx)
	wantFileError(t, err, dir)

	// What cannot be replaced: the name is taken by a directory that is not empty.
	path := filepath.Join(dir, "checkpoint.json")
	s := newFileStore(t, path)
	_, err = s.Acquire(ctx)
	noError(t, err)
	noError(t, os.MkdirAll(filepath.Join(path, "sub"), 0o700))
	wantFileError(t, s.Save(ctx, recordAt(10)), path)
}

func wantFileError(t *testing.T, err error, path string) {
	t.Helper()
	wantCode(t, err, fault.CheckpointFile)
	if !strings.Contains(err.Error(), path) || fault.Of(err).Hint == "" {
		t.Errorf("error %v, want the path %s and a hint", err, path)
	}
}

func TestFileStoreRefusesContent(t *testing.T) {
	for name, c := range map[string]struct {
		data string
		code fault.Code
	}{
		"empty":            {"", fault.CheckpointInvalid},
		"another pipeline": {strings.Replace(sampleJSON, `"pipeline":"shop"`, `"pipeline":"crm"`, 1), fault.CheckpointInvalid},
		"newer":            {`{"v":2}`, fault.CheckpointNewer},
	} {
		path := filepath.Join(t.TempDir(), "checkpoint.json")
		noError(t, os.WriteFile(path, []byte(c.data), 0o600))
		_, err := newFileStore(t, path).Acquire(t.Context())
		if !fault.Is(err, c.code) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v, want code %s and the path", name, err, c.code)
		}
	}
}

// TestFileStoreCrashLeavesOldOrNew: a save that was cut off left a temporary file, of which the
// next instance takes no notice.
func TestFileStoreCrashLeavesOldOrNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint.json")
	s := newFileStore(t, path)
	_, err := s.Acquire(t.Context())
	noError(t, err)
	noError(t, s.Save(t.Context(), recordAt(10)))
	noError(t, os.WriteFile(path+".tmp", []byte(`{"pipeline":"sh`), 0o600))
	noError(t, s.Close())

	next := newFileStore(t, path)
	r, err := next.Acquire(t.Context())
	wantEnd(t, r, err, 10)
	noError(t, next.Save(t.Context(), recordAt(20)))
	r, err = next.Load(t.Context())
	wantEnd(t, r, err, 20)
}
