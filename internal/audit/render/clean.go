package render

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean makes one line of what strangers wrote, that steers no terminal, no reader of XML and no
// direction of text.
func Clean(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case unicode.IsControl(c), c == '\u2028', c == '\u2029':
			return ' '
		case unicode.Is(unicode.Cf, c), c == utf8.RuneError: // what cannot be seen, and octets that are no UTF-8
			return utf8.RuneError
		}
		return c
	}, s)
}

// clip is Clean, and says how much is left out.
func clip(s string, most int) string {
	n := 0
	for i := range s {
		if n++; n > most {
			return fmt.Sprintf("%s… (%d more)", Clean(s[:i]), utf8.RuneCountInString(s[i:]))
		}
	}
	return Clean(s)
}

// middle leaves out the middle of a long name: both ends of names tell them apart.
func middle(s string, most int) string {
	runes := []rune(Clean(s))
	if len(runes) <= most {
		return string(runes)
	}
	head := (most - 1) / 2
	tail := most - 1 - head
	return string(runes[:head]) + "…" + string(runes[len(runes)-tail:])
}
