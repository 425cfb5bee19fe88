package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/internal/pgtest"
)

// build is a binary under test, built when the first test asks for it.
type build struct {
	sync.Once
	dir, path string
	err       error
}

// built are the binaries: as it is released, and with fail points.
var built, armed build

func TestMain(m *testing.M) {
	code := pgtest.Main(func() int { return kafkatest.Main(m.Run) })
	for _, dir := range []string{built.dir, armed.dir} {
		if err := os.RemoveAll(dir); err != nil && dir != "" {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// binary returns the path of a walferry built from this tree.
func binary(t *testing.T) string {
	t.Helper()
	return built.get(t)
}

// get builds walferry with the given arguments of go build, once.
func (b *build) get(t *testing.T, args ...string) string {
	t.Helper()
	b.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "walferry-e2e-"); b.err != nil {
			return
		}
		if b.err = lookAtSources(); b.err != nil {
			return
		}
		b.path = filepath.Join(b.dir, "walferry")
		args = append([]string{"build", "-o", b.path}, args...)
		if os.Getenv("WALFERRY_RACE") == "1" {
			args = append(args, "-race")
		}
		cmd := exec.Command("go", append(args, "github.com/walferry/walferry/cmd/walferry")...)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if b.err != nil {
		t.Fatalf("build walferry: %v", b.err)
	}
	return b.path
}

// lookAtSources looks at every file that the binary is built from. The tests do not import them, so that
// go test would answer from its cache although they have changed.
func lookAtSources() error {
	return filepath.WalkDir(filepath.Join("..", ".."), func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" {
			return err
		}
		_, err = os.Stat(path)
		return err
	})
}
