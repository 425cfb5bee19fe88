package config

import (
	"fmt"
	"regexp"
	"strings"
)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand puts environment variables in the place of ${NAME} and ${NAME:-default}, where the
// default serves for an unset and for an empty variable as it does in a shell. $$ is one dollar
// sign; any other $ stands for itself.
func expand(text string, env func(string) (string, bool)) (string, error) {
	var b strings.Builder
	for {
		at := strings.IndexByte(text, '$')
		if at < 0 || at == len(text)-1 {
			b.WriteString(text)
			return b.String(), nil
		}
		b.WriteString(text[:at])
		next := text[at+1]
		text = text[at+2:]
		if next == '$' {
			b.WriteByte('$')
			continue
		}
		if next != '{' {
			b.WriteByte('$')
			b.WriteByte(next)
			continue
		}
		inner, rest, closed := strings.Cut(text, "}")
		if !closed {
			return "", fmt.Errorf("${ has no closing }; write $${ for the characters themselves")
		}
		value, err := variable(inner, env)
		if err != nil {
			return "", err
		}
		b.WriteString(value)
		text = rest
	}
}

// variable resolves what stands between the braces.
func variable(inner string, env func(string) (string, bool)) (string, error) {
	name, fallback, hasFallback := strings.Cut(inner, ":-")
	if !variableName.MatchString(name) {
		return "", fmt.Errorf("${%s} does not name an environment variable: want ${NAME} or ${NAME:-default}", inner)
	}
	value, set := env(name)
	if hasFallback && value == "" {
		return fallback, nil
	}
	if !set {
		return "", fmt.Errorf("the environment variable %s is not set; ${%s:-default} gives it a default", name, name)
	}
	return value, nil
}
