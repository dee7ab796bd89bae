package dmarc

import (
	"errors"
	"testing"
)

// What cannot be read has an author only where no reader can be shown another: else a
// stranger would pass for somebody else.
func TestAuthorsHidden(t *testing.T) {
	for _, tt := range []struct{ why, from string }{
		{"the address in brackets stands in a string", `a@example.com "<x@example.net>"`},
		{"it stands in a comment of a broken list", `a@example.com, (<x@example.net>)`},
		{"a broken address between the two", `a@example.com, @ <x@example.net>`},
		{"a semicolon in place of the comma", `a@example.com; <x@example.net>`},
	} {
		if names, err := Authors([]string{tt.from}); !errors.Is(err, ErrAuthor) {
			t.Errorf("%s: %q: got %v, %v", tt.why, tt.from, names, err)
		}
	}
}
