// Package docs holds the papers that the binary carries: a page for each error code, and the page of the
// configuration, which is where the descriptions of its keys are written.
package docs

import (
	"embed"
	"fmt"
)

//go:embed errors/*.md
var pages embed.FS

//go:embed configuration.md
var configuration string

// ErrorPage returns the page of an error code, docs/errors/CODE.md, as Markdown.
func ErrorPage(code string) ([]byte, error) {
	page, err := pages.ReadFile("errors/" + code + ".md")
	if err != nil {
		return nil, fmt.Errorf("read the page of %s: %w", code, err)
	}
	return page, nil
}

// Configuration returns docs/configuration.md.
func Configuration() string { return configuration }
