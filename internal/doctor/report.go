package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Report joins the findings of all rooms.
type Report struct {
	Pipeline string    `json:"pipeline"`
	Platform string    `json:"platform"`
	Errors   int       `json:"errors"`
	Warnings int       `json:"warnings"`
	Findings []Finding `json:"findings"`
	// SQL is the block for errors and what is advised; empty where there is nothing to run.
	SQL string `json:"sql,omitempty"`
}

// NewReport counts and sorts findings, the worst first, and writes the block of SQL for a database.
func NewReport(pipeline, platform, database string, findings []Finding) Report {
	r := Report{Pipeline: pipeline, Platform: platform, Findings: slices.Clone(findings)}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return a.Severity.rank() - b.Severity.rank() })
	for _, f := range r.Findings {
		switch f.Severity {
		case Error:
			r.Errors++
		case Warning:
			r.Warnings++
		case OK, Unknown:
		}
	}
	r.SQL = Block(database, r.Findings)
	return r
}

func (s Severity) rank() int { return slices.Index([]Severity{Error, Warning, Unknown, OK}, s) }

// WriteJSON prints the report as one JSON object.
func (r Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	return nil
}

// WriteText prints the report for a person.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, f := range r.Findings {
		name := f.ID
		if f.Subject != "" {
			name += " " + f.Subject
		}
		fmt.Fprintf(&b, "%-8s %s: %s\n", f.Severity, name, indent(f.Found))
		if f.Severity != Error && f.Severity != Warning {
			continue
		}
		if f.Why != "" {
			fmt.Fprintf(&b, "         why: %s\n", indent(f.Why))
		}
		for i, fix := range f.Fixes {
			word := "fix:"
			if i > 0 {
				word = "or: "
			}
			fmt.Fprintf(&b, "         %s %s\n", word, indent(fix.Do))
			if note := fix.remark(); note != "" {
				fmt.Fprintf(&b, "              (%s)\n", indent(note))
			}
		}
	}
	fmt.Fprintf(&b, "\n%s, %s (%s)\n", count(r.Errors, "error"), count(r.Warnings, "warning"), r.Platform)
	if r.SQL != "" {
		fmt.Fprintf(&b, "\n%s", r.SQL)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	return nil
}

// remark is what has to be known beside the fix itself.
func (f Fix) remark() string {
	parts := []string{}
	if f.Note != "" {
		parts = append(parts, f.Note)
	}
	if f.Then != "" {
		parts = append(parts, f.Then+" Postgres afterwards")
	}
	return strings.Join(parts, "; ")
}

func indent(text string) string { return strings.ReplaceAll(text, "\n", "\n              ") }

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Block writes the SQL of all findings as one script, with what undoes it; empty where there is none. Of
// several fixes of a finding the first is taken if it is SQL.
func Block(database string, findings []Finding) string {
	var needed, settings, advised []Fix
	seen := map[string]bool{}
	for _, f := range findings {
		if len(f.Fixes) == 0 || seen[f.Fixes[0].Do] {
			continue
		}
		fix := f.Fixes[0]
		isSQL := fix.Kind == SQL || fix.Kind == Setting && strings.HasSuffix(fix.Do, ";")
		switch {
		case !isSQL:
			continue
		case f.Severity == Warning:
			advised = append(advised, fix)
		case f.Severity == Error && fix.Kind == Setting:
			settings = append(settings, fix)
		case f.Severity == Error:
			needed = append(needed, fix)
		default:
			continue
		}
		seen[fix.Do] = true
	}
	if len(needed)+len(settings)+len(advised) == 0 {
		return ""
	}
	slices.SortStableFunc(needed, func(a, b Fix) int { return a.Step - b.Step })
	var b strings.Builder
	fmt.Fprintf(&b, "-- In database %s, as a superuser or as the owner of the tables. Undo: see the end.\n", comment(database))
	writeTransaction(&b, needed)
	for _, f := range settings {
		writeFix(&b, f, "")
	}
	for i, f := range advised {
		if i == 0 {
			b.WriteString("\n-- Advised, not needed:\n")
		}
		writeFix(&b, f, "-- ")
	}
	writeUndo(&b, append(needed, settings...))
	return b.String()
}

// writeTransaction writes what succeeds or fails as a whole, and does not queue in front of others.
func writeTransaction(b *strings.Builder, fixes []Fix) {
	if len(fixes) == 0 {
		return
	}
	b.WriteString("BEGIN;\nSET LOCAL lock_timeout = '5s';\n")
	for _, f := range fixes {
		writeFix(b, f, "")
	}
	b.WriteString("COMMIT;\n")
}

func writeFix(b *strings.Builder, f Fix, prefix string) {
	if note := f.remark(); note != "" {
		b.WriteString("-- " + comment(note) + "\n")
	}
	b.WriteString(prefix + strings.ReplaceAll(f.Do, "\n", "\n"+prefix) + "\n")
}

// writeUndo writes the way back as comments, last things first.
func writeUndo(b *strings.Builder, fixes []Fix) {
	first := true
	for _, f := range slices.Backward(fixes) {
		if f.Undo == "" {
			continue
		}
		if first {
			b.WriteString("\n-- Undo:\n")
			first = false
		}
		b.WriteString("-- " + comment(f.Undo) + "\n")
	}
}

// comment keeps every line of a text within a comment.
func comment(text string) string { return strings.ReplaceAll(text, "\n", "\n-- ") }
