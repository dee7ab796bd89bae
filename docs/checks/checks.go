// Package checks holds the page of each check: what it means, how it is found out, and how to
// mend it. The pages are the source; a test of internal/audit holds them against its table.
package checks

import (
	"embed"
	"strings"
)

//go:embed *.md
var pages embed.FS

// Page gives the page of an id in Markdown; false where there is none.
func Page(id string) (string, bool) {
	text, err := pages.ReadFile(id + ".md")
	return string(text), err == nil
}

// IDs gives the ids that have a page, in the order of the alphabet.
func IDs() []string {
	files, _ := pages.ReadDir(".") // of what is built in
	ids := make([]string, len(files))
	for i, f := range files {
		ids[i] = strings.TrimSuffix(f.Name(), ".md")
	}
	return ids
}
