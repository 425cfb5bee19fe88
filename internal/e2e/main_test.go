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

// built is the binary under test, built when the first test asks for it.
var built struct {
	sync.Once
	dir, path string
	err       error
}

func TestMain(m *testing.M) {
	code := pgtest.Main(func() int { return kafkatest.Main(m.Run) })
	if err := os.RemoveAll(built.dir); err != nil && built.dir != "" {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// binary returns the path of a walferry built from this tree.
func binary(t *testing.T) string {
	t.Helper()
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "walferry-e2e-"); built.err != nil {
			return
		}
		if built.err = lookAtSources(); built.err != nil {
			return
		}
		built.path = filepath.Join(built.dir, "walferry")
		args := []string{"build", "-o", built.path}
		if os.Getenv("WALFERRY_RACE") == "1" {
			args = append(args, "-race")
		}
		cmd := exec.Command("go", append(args, "github.com/walferry/walferry/cmd/walferry")...)
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if built.err != nil {
		t.Fatalf("build walferry: %v", built.err)
	}
	return built.path
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
