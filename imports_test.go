// Package walferry_test holds what is true of the tree as a whole: which package may import which,
// and that papers and code name the same things.
package walferry_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/walferry/walferry"

// arrows says for each package which of ours it may import. Rooms do not know each other: they
// speak event and fault, and only pipeline (through interfaces of its own), operate (which looks at
// checkpoint and slot from outside), config (for their Config types) and cmd see several. A new package belongs here first.
var arrows = map[string][]string{
	"event":                {},
	"vault":                {"fault"},
	"fault":                {"event"},
	"docs":                 {},
	"monitor":              {"event", "fault"},
	"checkpoint":           {"event", "fault", "internal/broker", "internal/failpoint", "internal/lock"},
	"replication/pgoutput": {"event", "fault"},
	"replication":          {"event", "fault", "vault", "replication/pgoutput", "internal/doctor", "internal/failpoint", "internal/lock"},
	"sink/encode":          {"event", "fault"},
	"sink":                 {"event", "fault", "vault", "sink/encode", "internal/broker", "internal/failpoint"},
	"pipeline":             {"event", "fault", "checkpoint", "internal/failpoint", "internal/lock"},
	"operate":              {"event", "fault", "checkpoint", "replication"},
	"config": {
		"docs", "event", "fault", "vault", "checkpoint", "monitor", "replication", "sink", "sink/encode", "internal/broker", "pipeline",
	},
	"internal/broker":    {"event", "fault", "vault", "internal/doctor", "internal/failpoint"},
	"internal/doctor":    {"fault"},
	"internal/failpoint": {},
	"internal/lock":      {},
	"internal/sim":       {"event", "fault", "internal/cdctest"},
	// Servers on this machine, for the demo and for tests.
	"internal/cachedir":    {},
	"internal/childproc":   {},
	"internal/testca":      {},
	"internal/faultproxy":  {"internal/childproc"},
	"internal/pgserver":    {"internal/cachedir", "internal/childproc"},
	"internal/demo":        {"internal/pgserver"},
	"internal/kafkaserver": {"internal/cachedir", "internal/childproc", "internal/testca"},
	"internal/pgtest":      {"internal/pgserver"},
	"internal/kafkatest":   {"internal/kafkaserver", "internal/testca"},
	"internal/vaulttest":   {"internal/cachedir", "internal/childproc", "internal/testca"},
	"internal/walcapture":  {"event", "replication/pgoutput"},
	"internal/e2e":         {},
	"internal/oracle":      {},
	"internal/model":       {},
	"internal/cdctest":     {"event", "internal/childproc", "internal/kafkaserver", "internal/pgserver"},
}

// testArrows are imports that only tests have: the goldens follow a row from its frame to its record, the
// oracle's from the server.
var testArrows = map[string][]string{
	"replication":     {"sink/encode"},
	"internal/oracle": {"event", "fault", "replication", "sink/encode"},
}

// rigs are for tests; no product code imports them.
var rigs = []string{"internal/pgtest", "internal/kafkatest", "internal/vaulttest", "internal/cdctest", "internal/walcapture", "internal/faultproxy", "internal/sim"}

// pure packages do no I/O and use the standard library alone: they decide correctness, so nothing
// outside of them may decide for them, and fuzzing them needs nothing.
var pure = []string{"event", "fault", "replication/pgoutput", "sink/encode"}

// effects are standard packages that a pure package has no business with.
var effects = []string{"net", "net/http", "os/exec", "syscall", "database/sql"}

func TestImportsFollowTheDesign(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range goFiles(t) {
		pkg := filepath.ToSlash(filepath.Dir(f))
		test := strings.HasSuffix(f, "_test.go")
		if !test {
			seen[pkg] = true
		}
		for _, path := range imports(t, f) {
			if word := judge(pkg, path, test); word != "" {
				t.Errorf("%s imports %s: %s", f, path, word)
			}
		}
	}
	for pkg := range arrows {
		if !seen[pkg] {
			t.Errorf("the table has package %s, the tree does not", pkg)
		}
	}
}

// judge returns what is wrong with an import, "" for nothing.
func judge(pkg, path string, test bool) string {
	ours, isOurs := strings.CutPrefix(path, module+"/")
	if !isOurs {
		switch {
		case test || !slices.Contains(pure, pkg):
			return ""
		case strings.Contains(strings.SplitN(path, "/", 2)[0], "."):
			return "this package uses the standard library alone"
		case slices.Contains(effects, path):
			return "this package does no I/O"
		}
		return ""
	}
	isRig := slices.Contains(rigs, ours)
	switch {
	case ours == pkg: // an external test package
		return ""
	case test && (strings.HasPrefix(ours, "internal/") || ours == "vault"): // a test needs servers, and their passwords
		return ""
	case test && slices.Contains(testArrows[pkg], ours):
		return ""
	case pkg == "." || strings.HasPrefix(pkg, "cmd/") || strings.HasPrefix(pkg, "bench"):
		if isRig && !test {
			return "product code does not import test rigs"
		}
		return ""
	}
	allowed, known := arrows[pkg]
	switch {
	case !known:
		return "package " + pkg + " is not in the table of imports_test.go"
	case !slices.Contains(allowed, ours):
		return "not an arrow of the design, see DESIGN.md, Folders"
	}
	return ""
}

func TestJudgeKnowsRightFromWrong(t *testing.T) {
	for _, c := range []struct {
		pkg, path string
		test, ok  bool
	}{
		{"sink", module + "/event", false, true},
		{"sink", module + "/replication", false, false},
		{"replication", module + "/sink/encode", true, true},
		{"replication", module + "/sink/encode", false, false},
		{"replication", module + "/sink", false, false},
		{"pipeline", module + "/sink", false, false},
		{"pipeline", module + "/internal/pgtest", true, true},
		{"pipeline", module + "/internal/pgtest", false, false},
		{"cmd/walferry", module + "/pipeline", false, true},
		{"cmd/walferry", module + "/internal/kafkatest", false, false},
		{"event", "time", false, true},
		{"event", module + "/fault", false, false},
		{"replication/pgoutput", "github.com/jackc/pglogrepl", false, false},
		{"replication/pgoutput", "net", false, false},
		{"replication/pgoutput", "encoding/binary", false, true},
		{"somewhere", module + "/event", false, false},
	} {
		if got := judge(c.pkg, c.path, c.test); (got == "") != c.ok {
			t.Errorf("%s imports %s (test %t): %q", c.pkg, c.path, c.test, got)
		}
	}
}

// goFiles returns every Go file of this module, relative to its root.
func goFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path != "." && (strings.ContainsAny(d.Name()[:1], "._") || d.Name() == "testdata" || isModule(path)) {
				return fs.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(path, ".go") {
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("found only %d Go files", len(files))
	}
	return files
}

func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

func imports(t *testing.T, file string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, spec := range f.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		paths = append(paths, path)
	}
	return paths
}
