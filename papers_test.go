package walferry_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/walferry/walferry/fault"
)

// Every code has a page with the same four parts and the exit code that the code really ends in, the
// index lists it, and there is no page without a code.
func TestEveryErrorCodeHasAPage(t *testing.T) {
	index := read(t, "docs/errors/README.md")
	pages := map[string]bool{}
	for _, code := range fault.Codes() {
		file := string(code) + ".md"
		pages[file] = true
		t.Run(string(code), func(t *testing.T) {
			page := read(t, "docs/errors/"+file)
			title := code.Title()
			for _, part := range []string{
				"# `" + string(code) + "`\n\n" + strings.ToUpper(title[:1]) + title[1:] + ".\n",
				fmt.Sprintf("\nExit code %d", fault.ExitCode(fault.New(code, "", nil, ""))),
				"\n## What you see\n",
				"[" + string(code) + "]",
				"\n## What it means\n",
				"\n## What was lost\n",
				"\n## What to do\n",
			} {
				if !strings.Contains(page, part) {
					t.Errorf("the page lacks %q", part)
				}
			}
			if row := "| [`" + string(code) + "`](" + file + ") | " + title + " |"; !strings.Contains(index, row) {
				t.Errorf("docs/errors/README.md lacks the row %s", row)
			}
		})
	}
	files, err := filepath.Glob("docs/errors/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if name := filepath.Base(f); name != "README.md" && !pages[name] {
			t.Errorf("%s is the page of no code", f)
		}
	}
}

var (
	fence    = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	mdLink   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	noAnchor = regexp.MustCompile(`[^\p{L}\p{N}\- _]`)
)

// A link within the papers leads to a file that is there, and to a heading that it has.
func TestLinksInPapersLead(t *testing.T) {
	links := 0
	for _, file := range papers(t) {
		for _, m := range mdLink.FindAllStringSubmatch(fence.ReplaceAllString(read(t, file), ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			path, anchor, _ := strings.Cut(m[1], "#")
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: link %s: %v", file, m[1], err)
				continue
			}
			if anchor != "" && !anchors(read(t, target))[anchor] {
				t.Errorf("%s: link %s: there is no such heading", file, m[1])
			}
		}
	}
	if links < 20 {
		t.Errorf("found only %d links", links)
	}
}

// anchors returns the ids that headings get where Markdown is shown.
func anchors(text string) map[string]bool {
	ids := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		ids[strings.ReplaceAll(noAnchor.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
	}
	return ids
}

// DESIGN.md follows one row by file:function; each place it names is in the code.
func TestDesignNamesPlacesThatExist(t *testing.T) {
	place := regexp.MustCompile("`([a-z0-9_/]+\\.go):([A-Za-z0-9_.]+)`")
	found := place.FindAllStringSubmatch(read(t, "DESIGN.md"), -1)
	if len(found) < 15 {
		t.Errorf("DESIGN.md names only %d places", len(found))
	}
	for _, m := range found {
		code, err := os.ReadFile(m[1])
		if err != nil {
			t.Errorf("%s: %v", m[0], err)
			continue
		}
		declared := `(?m)^(func|type|var|const) ` + m[2] + `\b`
		if recv, method, ok := strings.Cut(m[2], "."); ok {
			declared = `(?m)^func \((\w+ )?\*?` + recv + `\) ` + method + `\(`
		}
		if !regexp.MustCompile(declared).Match(code) {
			t.Errorf("%s is not declared there", m[0])
		}
	}
}

// TestFaultsHaveTheirTests: each test that docs/faults.md names is in the tree.
func TestFaultsHaveTheirTests(t *testing.T) {
	var code strings.Builder
	for _, f := range goFiles(t) {
		if strings.HasSuffix(f, "_test.go") {
			code.WriteString(read(t, f))
		}
	}
	named := regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(read(t, "docs/faults.md"), -1)
	if len(named) < 20 {
		t.Fatalf("only %d tests are named", len(named))
	}
	for _, name := range named {
		if !strings.Contains(code.String(), "func "+name+"(") {
			t.Errorf("there is no %s", name)
		}
	}
}

// faultRows is how many faults docs/faults.md counts.
const faultRows = 58

// TestEveryFaultHasATestOrAReason: each number of docs/faults.md stands in the table, beside a test that carries a
// number of its own or of its kin, or in the list of what is not run.
func TestEveryFaultHasATestOrAReason(t *testing.T) {
	text := read(t, "docs/faults.md")
	table, reasons, found := strings.Cut(text, "What is not run, and why:")
	if !found {
		t.Fatal("there is no list of what is not run")
	}
	for n := 1; n <= faultRows; n++ {
		row := regexp.MustCompile(fmt.Sprintf(`(?m)^\| %d \|.*$`, n)).FindString(table)
		reason := strings.Contains(reasons, fmt.Sprintf("- **%d, ", n))
		switch {
		case row == "" && !reason:
			t.Errorf("fault %d has neither a test nor a reason", n)
		case row != "" && reason:
			t.Errorf("fault %d has a row and a reason for having none", n)
		case row != "" && !strings.Contains(row, "`TestFault"):
			t.Errorf("fault %d names no test that can be found by its number: %s", n, row)
		}
	}
	if rows := len(regexp.MustCompile(`(?m)^\| \d+ \|`).FindAllString(table, -1)); rows > faultRows {
		t.Errorf("%d rows", rows)
	}
}

// papers returns every Markdown file of the tree.
func papers(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case strings.HasSuffix(path, ".md"):
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// docs/doctor.md lists the findings of the code, and nothing else.
func TestDoctorPage(t *testing.T) {
	inCode := map[string]bool{}
	literal := regexp.MustCompile(`(?m)(?:const (?:id|name)(?:, op)? = |ID: |\.ok\(|FromFault\(|Skipped\(|^\t\t\{|\{\{|\}, \{)"([a-z]+(?:_[a-z]+)*)"`)
	for _, pattern := range []string{"replication/diagnose*.go", "internal/broker/diagnose.go", "cmd/walferry/doctor.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			for _, m := range literal.FindAllStringSubmatch(read(t, f), -1) {
				inCode[m[1]] = true
			}
		}
	}
	_, page, _ := strings.Cut(read(t, "docs/doctor.md"), "## Findings: Postgres")
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(page, -1) {
		documented[m[1]] = true
		if !inCode[m[1]] {
			t.Errorf("docs/doctor.md has %s, the code does not", m[1])
		}
	}
	for id := range inCode {
		if !documented[id] {
			t.Errorf("docs/doctor.md lacks %s", id)
		}
	}
}
