package config

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/replication"
)

// maxIdentifier is NAMEDATALEN-1: Postgres cuts longer names off, so that they would never match.
const maxIdentifier = 63

// parseTable reads one table name or pattern by SQL's rules of quoting: schema and name, each
// folded to lower case unless in double quotes. A * in a name without quotes makes it a pattern.
func parseTable(text string) (replication.TableSpec, error) {
	parts, err := splitQuoted(strings.TrimSpace(text), '.')
	if err != nil {
		return replication.TableSpec{}, err
	}
	if len(parts) == 1 {
		name, err := identifier(parts[0], true)
		if err != nil {
			return replication.TableSpec{}, err
		}
		if parts[0] == "*" {
			return replication.TableSpec{}, errors.New("lacks a schema: write public.* for the tables of a schema, or tables: all for every table")
		}
		return replication.TableSpec{}, fmt.Errorf("lacks a schema: write public.%s if that is where it is", quoteUnlessPattern(parts[0], name))
	}
	if len(parts) > 2 {
		return replication.TableSpec{}, fmt.Errorf("has %d parts: want schema.table; a dot inside a name must be in double quotes", len(parts))
	}
	schema, err := identifier(parts[0], false)
	if err != nil {
		return replication.TableSpec{}, fmt.Errorf("schema: %w", err)
	}
	name, err := identifier(parts[1], true)
	if err != nil {
		return replication.TableSpec{}, err
	}
	pattern := !strings.HasPrefix(parts[1], `"`) && strings.Contains(name, "*")
	return replication.TableSpec{Schema: schema, Name: name, Pattern: pattern}, nil
}

// quoteUnlessPattern writes a name as the user would have to.
func quoteUnlessPattern(written, name string) string {
	if strings.HasPrefix(written, `"`) || !strings.Contains(name, "*") {
		return event.QuoteName(name)
	}
	return name
}

// identifier reads one name. A pattern may hold * where it has no quotes.
func identifier(text string, pattern bool) (string, error) {
	var name string
	if strings.HasPrefix(text, `"`) {
		inner, ok := strings.CutSuffix(text[1:], `"`)
		if !ok || strings.Contains(strings.ReplaceAll(inner, `""`, ""), `"`) {
			return "", fmt.Errorf(`%s: a double quote ends before the name does; inside of quotes it is written ""`, text)
		}
		name = strings.ReplaceAll(inner, `""`, `"`)
	} else if err := checkBare(text, pattern); err != nil {
		return "", err
	} else {
		name = fold(text)
	}
	switch {
	case name == "":
		return "", errors.New("a name is empty")
	case len(name) > maxIdentifier:
		return "", fmt.Errorf("%s is %d bytes long; Postgres has names of at most %d", text, len(name), maxIdentifier)
	case !utf8.ValidString(name) || strings.ContainsRune(name, 0):
		return "", errors.New("a name is not valid text")
	}
	return name, nil
}

// checkBare refuses what SQL would not take without quotes.
func checkBare(text string, pattern bool) error {
	for i, r := range text {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= utf8.RuneSelf
		later := i > 0 && (r >= '0' && r <= '9' || r == '$')
		if letter || later || pattern && (r == '*' || r >= '0' && r <= '9' && strings.HasPrefix(text, "*")) {
			continue
		}
		if r == '*' {
			return fmt.Errorf("%s: a * may stand in the table's name only", text)
		}
		return fmt.Errorf(`%s must be in double quotes: %s (in YAML, put single quotes around the whole)`,
			text, `"`+strings.ReplaceAll(text, `"`, `""`)+`"`)
	}
	return nil
}

// fold makes ASCII letters lower case and leaves the others, as Postgres does in UTF-8.
func fold(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// splitQuoted cuts text at every sep that is not inside of double quotes, and trims the pieces.
func splitQuoted(text string, sep byte) ([]string, error) {
	var parts []string
	start, quoted := 0, false
	for i := range len(text) {
		switch {
		case text[i] == '"':
			quoted = !quoted
		case text[i] == sep && !quoted:
			parts = append(parts, strings.TrimSpace(text[start:i]))
			start = i + 1
		}
	}
	if quoted {
		return nil, errors.New("a double quote is not closed")
	}
	return append(parts, strings.TrimSpace(text[start:])), nil
}
