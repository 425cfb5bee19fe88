package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/walferry/walferry/fault"
)

// place is where a key was given: a line of the file or a flag, and the text as it was written,
// before variables were put in: messages show that, since a variable may hold a secret that was
// put at the wrong key. (Table names are the exception, whose errors must quote their parts.)
type place struct {
	file string
	line int
	flag string
	text string
}

func (p place) String() string {
	switch {
	case p.flag != "":
		return p.flag
	case p.line > 0:
		return fmt.Sprintf("%s:%d", p.file, p.line)
	default:
		return p.file
	}
}

// problem is one thing that is wrong.
type problem struct {
	at   place
	key  string
	text string
	code fault.Code
	hint string
}

// problems is everything that is wrong, as one error.
type problems []problem

// Error lists the problems, one a line.
func (ps problems) Error() string {
	lines := make([]string, 0, len(ps))
	for _, p := range ps {
		var b strings.Builder
		if at := p.at.String(); at != "" {
			b.WriteString(at + ": ")
		}
		if p.key != "" {
			b.WriteString(p.key + ": ")
		}
		b.WriteString(p.text)
		lines = append(lines, b.String())
	}
	if len(lines) == 1 {
		return lines[0]
	}
	return fmt.Sprintf("%d problems:\n  %s", len(lines), strings.Join(lines, "\n  "))
}

// fault returns all problems as one error in the order of the file, nil where there are none. It
// has the problems' code where they agree on one.
func (ps problems) fault() error {
	if len(ps) == 0 {
		return nil
	}
	slices.SortStableFunc(ps, func(a, b problem) int { return cmp.Compare(a.at.line, b.at.line) })
	code := ps[0].code
	var hints []string
	for _, p := range ps {
		if p.code != code {
			code = fault.ConfigInvalid
		}
		if p.hint != "" && !slices.Contains(hints, p.hint) {
			hints = append(hints, p.hint)
		}
	}
	return fault.New(code, "read configuration", ps, strings.Join(hints, "\n"))
}
