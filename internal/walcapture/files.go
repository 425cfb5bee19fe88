package walcapture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Majors are the versions of which captures are kept: the oldest and the newest that walferry reads.
func Majors() []int { return []int{14, 18} }

// Capture is what one version of Postgres sent for one case.
type Capture struct {
	// Case is the name of the case's folder.
	Case string
	// Major is the version of Postgres.
	Major int
	// Dir is the folder that holds frames.bin and the goldens.
	Dir string
}

// String returns case/pgNN, for the name of a subtest.
func (c Capture) String() string { return c.Case + "/pg" + strconv.Itoa(c.Major) }

// CaseDir is the folder that holds the case's SQL.
func (c Capture) CaseDir() string { return filepath.Dir(c.Dir) }

// List returns the captures under root (testdata/wal), sorted by case and version, whether their
// frames were recorded yet or not. No case at all is an error, so that a test cannot pass by
// looking in the wrong place.
func List(root string) ([]Capture, error) {
	scripts, err := filepath.Glob(filepath.Join(root, "*", "changes.sql"))
	if err != nil {
		return nil, fmt.Errorf("list captures: %w", err)
	}
	if len(scripts) == 0 {
		return nil, fmt.Errorf("list captures: no */changes.sql in %s", root)
	}
	var all []Capture
	for _, s := range scripts {
		dir := filepath.Dir(s)
		for _, major := range Majors() {
			all = append(all, Capture{Case: filepath.Base(dir), Major: major, Dir: filepath.Join(dir, "pg"+strconv.Itoa(major))})
		}
	}
	return all, nil
}

// Frames reads frames.bin: the contents of the CopyData messages in the order they came.
func (c Capture) Frames() ([][]byte, error) {
	data, err := os.ReadFile(filepath.Join(c.Dir, "frames.bin"))
	if err != nil {
		return nil, fmt.Errorf("read capture: %w", err)
	}
	var frames [][]byte
	for len(data) > 0 {
		if len(data) < 4 {
			return nil, fmt.Errorf("read capture %s: a cut length", c)
		}
		n := int(binary.BigEndian.Uint32(data))
		if data = data[4:]; n > len(data) {
			return nil, fmt.Errorf("read capture %s: a frame of %d bytes in %d", c, n, len(data))
		}
		frames = append(frames, data[:n:n])
		data = data[n:]
	}
	if len(frames) == 0 {
		return nil, fmt.Errorf("read capture %s: no frames", c)
	}
	return frames, nil
}

// WriteFrames replaces frames.bin.
func (c Capture) WriteFrames(frames [][]byte) error {
	var data []byte
	for _, f := range frames {
		data = binary.BigEndian.AppendUint32(data, uint32(len(f))) //nolint:gosec // a frame fits a CopyData, below 2 GB
		data = append(data, f...)
	}
	if err := errors.Join(os.MkdirAll(c.Dir, 0o755), os.WriteFile(filepath.Join(c.Dir, "frames.bin"), data, 0o644)); err != nil { //nolint:gosec // test data is for all to read
		return fmt.Errorf("write capture: %w", err)
	}
	return nil
}

// statements reads a script. A statement ends at a semicolon at the end of a line; the line
// "-- session NAME" has the following ones run in another session. Other comment lines are left out.
func statements(path string) ([]statement, error) {
	script, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read script: %w", err)
	}
	var all []statement
	var session, sql string
	for line := range strings.Lines(string(script)) {
		if name, ok := strings.CutPrefix(line, "-- session "); ok {
			session = strings.TrimSpace(name)
			continue
		}
		if strings.HasPrefix(line, "--") {
			continue
		}
		sql += line
		if strings.HasSuffix(strings.TrimSpace(line), ";") {
			all = append(all, statement{session: session, sql: strings.TrimSpace(sql)})
			sql = ""
		}
	}
	if strings.TrimSpace(sql) != "" {
		return nil, fmt.Errorf("read script %s: the last statement has no end", path)
	}
	return all, nil
}

// statement is one statement of a script.
type statement struct{ session, sql string }
