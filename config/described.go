package config

import (
	"regexp"
	"strings"

	"github.com/walferry/walferry/docs"
)

// described is a row of the table of keys in docs/configuration.md, which is the one place where they are
// described. Keys, types and defaults are those of the settings; a test holds the page to them.
type described struct {
	key string
	// shape is the column "type, default", as it is written.
	shape string
	// meaning is plain text: links are their words.
	meaning string
}

var (
	keyRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.*?) \\|(.*)\\|$")
	link   = regexp.MustCompile(`\[([^\]]+)\]\([^)]+\)`)
)

// descriptions returns the rows in the order of the page.
func descriptions() []described {
	_, section, _ := strings.Cut(docs.Configuration(), "\n## Keys\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var rows []described
	for _, m := range keyRow.FindAllStringSubmatch(section, -1) {
		rows = append(rows, described{key: m[1], shape: m[2], meaning: strings.TrimSpace(link.ReplaceAllString(m[3], "$1"))})
	}
	return rows
}

// Description says in plain text what a key is for, as docs/configuration.md does; "" for no key of ours.
func Description(key string) string {
	for _, row := range descriptions() {
		if row.key == key {
			return row.meaning
		}
	}
	return ""
}
