package pgserver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	embedded "github.com/fergusstrange/embedded-postgres"

	"github.com/walferry/walferry/internal/childproc"
)

// DefaultMajor is the version that is started when none is asked for.
const DefaultMajor = 18

// release returns the release that stands for a major version.
func release(major int) (embedded.PostgresVersion, bool) {
	switch major {
	case 14:
		return "14.18.0", true
	case 15:
		return "15.13.0", true
	case 16:
		return "16.9.0", true
	case 17:
		return "17.5.0", true
	case 18:
		return "18.4.0", true
	default:
		return "", false
	}
}

// binaries returns the folder that holds bin/, lib/ and share/ of a major version, and fetches it
// where the cache has none yet. Processes that fetch at the same time do not disturb each other:
// each fills a folder of its own and renames it into place, and all but the first throw theirs
// away.
func binaries(major int) (string, error) {
	version, ok := release(major)
	if !ok {
		return "", fmt.Errorf("postgres %d is not one of 14 to 18", major)
	}
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, fmt.Sprintf("postgres-%s-%s-%s", version, runtime.GOOS, runtime.GOARCH))
	if _, err := os.Stat(filepath.Join(dir, "bin", "postgres")); err == nil {
		return dir, nil
	}
	work, err := os.MkdirTemp(cache, "fetch-")
	if err != nil {
		return "", fmt.Errorf("make a folder to unpack postgres in: %w", err)
	}
	err = fetch(version, work)
	if err == nil {
		err = os.Rename(filepath.Join(work, "pg"), dir)
		if errors.Is(err, os.ErrExist) {
			err = nil // another process was faster
		}
	}
	if err := errors.Join(err, os.RemoveAll(work)); err != nil {
		return "", fmt.Errorf("fetch postgres %s: %w", version, err)
	}
	return dir, nil
}

// fetch has the library download, check and unpack the binaries into work/pg. The library cannot
// do that alone, it goes on to start a server; a locale that no system has stops it at initdb,
// which comes after. So what counts is whether the binaries are there.
func fetch(version embedded.PostgresVersion, work string) error {
	port, err := childproc.FreePort()
	if err != nil {
		return err
	}
	pg := filepath.Join(work, "pg")
	err = embedded.NewDatabase(embedded.DefaultConfig().
		Version(version).
		Port(uint32(port)). //nolint:gosec // a port
		CachePath(filepath.Join(work, "archive")).
		BinariesPath(pg).
		RuntimePath(filepath.Join(work, "run")).
		Locale("of no system").
		Logger(io.Discard)).Start()
	if _, statErr := os.Stat(filepath.Join(pg, "bin", "postgres")); statErr == nil {
		return os.Chmod(pg, 0o755) //nolint:gosec // another user runs the binaries
	}
	return err
}

// CacheDir returns the folder for downloads, made if absent: WALFERRY_CACHE where it is set, for
// root a folder that other users can reach (root's home is closed to them), else the user's cache.
func CacheDir() (string, error) {
	dir := os.Getenv("WALFERRY_CACHE")
	if dir == "" && os.Geteuid() == 0 {
		dir = "/var/cache/walferry"
	}
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a cache folder (or set WALFERRY_CACHE): %w", err)
		}
		dir = filepath.Join(user, "walferry")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // another user runs the binaries
		return "", fmt.Errorf("make the cache folder (or set WALFERRY_CACHE): %w", err)
	}
	return dir, nil
}

// Majors returns the versions that can be started, oldest first.
func Majors() []int { return slices.Clone([]int{14, 15, 16, 17, 18}) }
