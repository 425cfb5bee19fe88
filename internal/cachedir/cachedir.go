// Package cachedir keeps what had to be downloaded once, for all processes of the machine.
package cachedir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Path returns the folder for downloads, made if absent: WALFERRY_CACHE where it is set, for root a
// folder that other users can reach (root's home is closed to them), else the user's cache.
func Path() (string, error) {
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
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // servers run as another user
		return "", fmt.Errorf("make the cache folder (or set WALFERRY_CACHE): %w", err)
	}
	return dir, nil
}

// Folder returns the cache's folder of that name. Where there is none yet, fill makes it: it is
// called with the path of an empty folder and puts there what is to be kept. A folder that exists
// is whole: each process fills one of its own and renames it into place, and all but the first
// throw theirs away. Other users can read it.
func Folder(name string, fill func(empty string) error) (string, error) {
	cache, err := Path()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	work, err := os.MkdirTemp(cache, "filling-")
	if err != nil {
		return "", fmt.Errorf("make a folder in the cache: %w", err)
	}
	if err = fill(work); err == nil {
		err = os.Chmod(work, 0o755) //nolint:gosec // servers run as another user
	}
	if err == nil {
		err = os.Rename(work, dir)
	}
	if err == nil {
		return dir, nil
	}
	err = errors.Join(err, os.RemoveAll(work))
	if _, statErr := os.Stat(dir); statErr == nil {
		return dir, nil // another process was faster
	}
	return "", fmt.Errorf("fill the cache with %s: %w", name, err)
}
