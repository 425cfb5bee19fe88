// Package docs holds the papers that the binary carries: one page for each error code.
package docs

import (
	"embed"
	"fmt"
)

//go:embed errors/*.md
var pages embed.FS

// ErrorPage returns the page of an error code, docs/errors/CODE.md, as Markdown.
func ErrorPage(code string) ([]byte, error) {
	page, err := pages.ReadFile("errors/" + code + ".md")
	if err != nil {
		return nil, fmt.Errorf("read the page of %s: %w", code, err)
	}
	return page, nil
}
