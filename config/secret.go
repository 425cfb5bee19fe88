package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/walferry/walferry/vault"
)

// credential makes a Credential of a pair of keys, x and x_file, of which at most one is given. The
// file is checked now, and read again when it is used.
func (d *decoder) credential(key, text, file string) vault.Credential {
	fileKey := key + "_file"
	if text != "" && file != "" {
		d.reject(fileKey, "%s is given too; leave one of them out", key)
		return vault.Credential{}
	}
	if d.given(key) && text == "" {
		if !d.rejected(key) {
			d.reject(key, "is empty")
		}
		return vault.Credential{}
	}
	if file == "" {
		return vault.Credential{Text: vault.NewSecret(text)}
	}
	c := vault.Credential{File: file}
	if err := checkSecretFile(file); err != nil {
		d.reject(fileKey, "%v", err)
	} else if _, err := c.Read(); err != nil {
		d.reject(fileKey, "%v", err)
	}
	return c
}

// checkSecretFile refuses a file that more people may read than its owner, as ssh and libpq do.
// Where an orchestrator mounts secrets it decides itself who may read them, and the files there
// are often open to all: those places are exempt.
func checkSecretFile(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return readableReason(name, err)
	}
	if info.IsDir() {
		return fmt.Errorf("%s is a directory", name)
	}
	open := info.Mode().Perm() & 0o077
	if open == 0 || mountedSecret(name) {
		return nil
	}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok && sys.Uid == 0 && open&^0o040 == 0 {
		return nil
	}
	return fmt.Errorf("%s has mode %04o: others than its owner may use it; run chmod 600 on it", name, info.Mode().Perm())
}

// mountedSecret tells whether a file lies where Docker, Podman and systemd mount secrets, or in a
// Kubernetes volume, whose files are links through a link named ..data.
func mountedSecret(name string) bool {
	abs, err := filepath.Abs(name)
	if err != nil {
		return false
	}
	for _, dir := range []string{"/run/secrets/", "/var/run/secrets/"} {
		if strings.HasPrefix(abs, dir) {
			return true
		}
	}
	target, err := os.Readlink(abs)
	return err == nil && strings.HasPrefix(target, "..data"+string(filepath.Separator))
}

// checkFile refuses a file that cannot be read.
func checkFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return readableReason(name, err)
	}
	return f.Close()
}

// readableReason words the common errors of opening a file without the system call's name.
func readableReason(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist", name)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s may not be read by this user", name)
	default:
		return fmt.Errorf("read %s: %w", name, err)
	}
}
