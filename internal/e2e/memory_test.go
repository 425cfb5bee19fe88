package e2e

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// memory follows the resident memory of processes that come and go, and fits a line through that of the
// one that lived longest: a leak is a slope.
type memory struct {
	pid         int
	began       time.Time
	now, oldest life
	peak        float64 // of all, MiB
}

// life is the memory of one process, in MiB at its age in minutes.
type life struct{ age, used []float64 }

// warm is the part of a life that does not count: until then buffers and pools grow to their size.
const warm = 0.5

// look notes how much a process uses now.
func (m *memory) look(pid int) {
	used, err := resident(pid)
	if err != nil {
		return // it has ended
	}
	if pid != m.pid {
		m.pid, m.began, m.now = pid, time.Now(), life{}
	}
	m.peak = max(m.peak, used)
	if age := time.Since(m.began).Minutes(); age >= warm {
		m.now.age = append(m.now.age, age)
		m.now.used = append(m.now.used, used)
	}
	if m.now.minutes() > m.oldest.minutes() {
		m.oldest = m.now
	}
}

func (l life) minutes() float64 {
	if len(l.age) == 0 {
		return 0
	}
	return l.age[len(l.age)-1]
}

// slope is that of the line with the least squares, in MiB a minute.
func (l life) slope() float64 {
	n := float64(len(l.age))
	var x, y, xx, xy float64
	for i := range l.age {
		x += l.age[i]
		y += l.used[i]
		xx += l.age[i] * l.age[i]
		xy += l.age[i] * l.used[i]
	}
	return (n*xy - x*y) / (n*xx - x*x)
}

func (m *memory) String() string {
	if m.oldest.minutes() < 2*warm {
		return fmt.Sprintf("peak %.0f MiB; no process lived long enough for a slope", m.peak)
	}
	return fmt.Sprintf("peak %.0f MiB; %+.2f MiB a minute over the %.1f minutes of the longest life", m.peak, m.oldest.slope(), m.oldest.minutes())
}

// resident is the resident memory of a process in MiB.
func resident(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 64)
			return kb / 1024, err
		}
	}
	return 0, os.ErrProcessDone // a zombie of the kernel's kind
}

func TestSlope(t *testing.T) {
	l := life{age: []float64{1, 2, 3, 4}, used: []float64{12, 13, 17, 18}}
	if got := l.slope(); math.Abs(got-2.2) > 1e-9 {
		t.Errorf("slope %v, want 2.2", got)
	}
}
