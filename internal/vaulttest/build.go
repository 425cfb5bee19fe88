package vaulttest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/walferry/walferry/internal/cachedir"
)

// errMissing is a server that was not built yet, where nobody asked for that.
var errMissing = errors.New("the Vault server for tests is not built; make vault does it once, in some minutes")

// required is the variable that has the server built, and a missing one be a failure.
const required = "WALFERRY_REQUIRE_VAULT"

// binary returns the path of internal/vaultserver's program. It is built once for the machine and for
// this version of its sources, which takes some minutes.
func binary() (string, error) {
	_, here, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("find the sources of the Vault server")
	}
	source := filepath.Join(filepath.Dir(here), "..", "vaultserver")
	name, err := cacheName(source)
	if err != nil {
		return "", err
	}
	dir, err := cachedir.Folder(name, func(empty string) error {
		if os.Getenv(required) != "1" {
			return errMissing
		}
		// The tag leaves out the plugins of other clouds and databases.
		cmd := exec.Command("go", "build", "-tags", "minimal", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(empty, "vaultserver"), ".") //nolint:gosec // our own arguments
		cmd.Dir = source
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build the Vault server: %w: %s", err, out)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "vaultserver"), nil
}

// cacheName names the build after what it is built from.
func cacheName(source string) (string, error) {
	sum := sha256.New()
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		b, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", fmt.Errorf("read the sources of the Vault server: %w", err)
		}
		_, _ = fmt.Fprintf(sum, "%s %d\n%s", name, len(b), b) // a hash takes everything
	}
	return fmt.Sprintf("vault-%x-%s-%s", sum.Sum(nil)[:6], runtime.GOOS, runtime.GOARCH), nil
}
