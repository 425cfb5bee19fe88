package pgserver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	embedded "github.com/fergusstrange/embedded-postgres"

	"github.com/walferry/walferry/internal/cachedir"
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
// where the cache has none yet.
func binaries(major int) (string, error) {
	version, ok := release(major)
	if !ok {
		return "", fmt.Errorf("postgres %d is not one of 14 to 18", major)
	}
	return cachedir.Folder(folder(version), func(dir string) error { return fetch(version, dir) })
}

func folder(v embedded.PostgresVersion) string {
	return fmt.Sprintf("postgres-%s-%s-%s", v, runtime.GOOS, runtime.GOARCH)
}

// Cached tells whether a version can be started without a download.
func Cached(major int) bool {
	cache, err := cachedir.Path()
	if err != nil {
		return false
	}
	version, ok := release(major)
	_, err = os.Stat(filepath.Join(cache, folder(version)))
	return ok && err == nil
}

// fetch has the library download, check and unpack the binaries into dir. The library cannot do
// that alone, it goes on to start a server; a locale that no system has stops it at initdb, which
// comes after. So what counts is whether the binaries are there.
func fetch(version embedded.PostgresVersion, dir string) error {
	port, err := childproc.FreePort()
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "walferry-fetch-")
	if err != nil {
		return fmt.Errorf("make a folder for the archive: %w", err)
	}
	err = embedded.NewDatabase(embedded.DefaultConfig().
		Version(version).
		Port(uint32(port)). //nolint:gosec // a port
		CachePath(filepath.Join(work, "archive")).
		BinariesPath(dir).
		RuntimePath(filepath.Join(work, "run")).
		Locale("of no system").
		Logger(io.Discard)).Start()
	if _, statErr := os.Stat(filepath.Join(dir, "bin", "postgres")); statErr == nil {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(work))
}

// Majors returns the versions that can be started, oldest first.
func Majors() []int { return []int{14, 15, 16, 17, 18} }
