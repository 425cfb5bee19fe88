package cachedir_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/walferry/walferry/internal/cachedir"
)

func TestFolderIsFilledOnce(t *testing.T) {
	t.Setenv("WALFERRY_CACHE", filepath.Join(t.TempDir(), "not there yet"))
	fill := func(dir string) error { return os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600) }
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			dir, err := cachedir.Folder("thing", fill)
			if err != nil {
				t.Error(err)
				return
			}
			if b, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(b) != "x" {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
	wg.Wait()
	var again atomic.Bool
	if _, err := cachedir.Folder("thing", func(string) error { again.Store(true); return nil }); err != nil {
		t.Fatal(err)
	}
	if again.Load() {
		t.Fatal("filled again")
	}
}

func TestAFailureLeavesNothing(t *testing.T) {
	t.Setenv("WALFERRY_CACHE", t.TempDir())
	broken := errors.New("broken")
	_, err := cachedir.Folder("thing", func(dir string) error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "half"), nil, 0o600), broken)
	})
	if !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	left, err := os.ReadDir(os.Getenv("WALFERRY_CACHE"))
	if err != nil || len(left) != 0 {
		t.Fatalf("left behind: %v, %v", left, err)
	}
}
