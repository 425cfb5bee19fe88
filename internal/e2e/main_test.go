package e2e

import (
	"fmt"
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
