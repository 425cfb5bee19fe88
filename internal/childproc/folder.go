//go:build unix

package childproc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Folder is a temporary folder for a server's data. Where its process dies before it removes the
// folder, the next NewFolder with the same prefix does, so killed tests do not fill the disk.
type Folder struct {
	Path string
	lock *os.File
}

// ownerFile is locked for as long as the process that made the folder lives: the kernel gives the
// lock back when a process dies, in whatever way.
const ownerFile = "owner"

// NewFolder makes a folder in the system's temporary folder and removes those that dead processes
// left there. The caller must Remove it.
func NewFolder(prefix string) (*Folder, error) {
	if err := sweep(prefix); err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp("", prefix)
	if err != nil {
		return nil, fmt.Errorf("make a temporary folder: %w", err)
	}
	// The file gets its name when it is locked already; a folder without it is left alone.
	unnamed := filepath.Join(path, ownerFile+".new")
	lock, err := os.OpenFile(unnamed, os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err == nil {
		err = os.Rename(unnamed, filepath.Join(path, ownerFile))
	}
	f := &Folder{Path: path, lock: lock}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mark a temporary folder as ours: %w", err), f.Remove())
	}
	return f, nil
}

// Remove removes the folder and everything in it. It may be called twice.
func (f *Folder) Remove() error {
	err := os.RemoveAll(f.Path)
	if f.lock != nil {
		err = errors.Join(err, f.lock.Close())
		f.lock = nil
	}
	return err
}

// sweep removes the folders of dead processes. Those of other users are not ours to look into.
func sweep(prefix string) error {
	owners, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*", ownerFile))
	if err != nil {
		return fmt.Errorf("look for abandoned folders: %w", err)
	}
	for _, owner := range owners {
		lock, err := os.OpenFile(owner, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			err = os.RemoveAll(filepath.Dir(owner))
		} else {
			err = nil // its process lives
		}
		if err := errors.Join(err, lock.Close()); err != nil {
			return fmt.Errorf("remove an abandoned folder: %w", err)
		}
	}
	return nil
}
