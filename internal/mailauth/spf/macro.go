package spf

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"mxward/internal/dns"
)

// Macro is a macro-string that was checked by Parse (RFC 7208 §7.1), as it was written:
// "%{ir}.%{v}._spf.%{d2}". Most have no macro at all and are a domain name.
type Macro string

// Plain reports whether the text stands for itself.
func (m Macro) Plain() bool { return strings.IndexByte(string(m), '%') < 0 }

// The letters and delimiters of a macro-expand (RFC 7208 §7.1). The last three of
// explainLetters are allowed in explanations only (§7.2).
const (
	targetLetters  = "slodipvh"
	explainLetters = targetLetters + "crt"
	delimiters     = ".-+,/_="
)

// expand is one macro-expand in braces.
type expand struct {
	letter  byte // lower case
	escape  bool // it was written in upper case: URL escapes
	digits  int  // how many parts to keep, from the right; 0 for all
	reverse bool
	split   string // delimiters; "" for a dot
}

// cutExpand reads the macro-expand at the start of s, which begins with "%", and gives its
// length. What is not in braces, "%%", "%_" or "%-", has no letter.
func cutExpand(s, letters string) (e expand, length int, fault string) {
	if len(s) < 2 {
		return e, 0, "a % at the end"
	}
	switch s[1] {
	case '%', '_', '-':
		return e, 2, ""
	case '{':
	default:
		return e, 0, fmt.Sprintf("%% is followed by %q", s[1:2])
	}
	end := strings.IndexByte(s, '}')
	if end < 3 {
		return e, 0, "a macro has no letter or no }"
	}
	e.letter = s[2] | 0x20
	e.escape = s[2] != e.letter
	if strings.IndexByte(letters, e.letter) < 0 {
		if strings.IndexByte(explainLetters, e.letter) >= 0 {
			return e, 0, fmt.Sprintf("the macro letter %q is allowed in explanations only", s[2:3])
		}
		return e, 0, fmt.Sprintf("there is no macro letter %q", s[2:3])
	}
	rest := s[3:end]
	digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
	if digits > 0 {
		n, err := strconv.Atoi(rest[:digits])
		if err != nil {
			n = maxExpansion // more parts than there can be
		}
		if n == 0 {
			return e, 0, "a macro keeps 0 parts"
		}
		e.digits = n
	}
	rest = rest[digits:]
	if rest != "" && rest[0]|0x20 == 'r' {
		e.reverse, rest = true, rest[1:]
	}
	if strings.Trim(rest, delimiters) != "" {
		return e, 0, fmt.Sprintf("a macro has %q where only the delimiters %s may stand", rest, delimiters)
	}
	e.split = rest
	return e, end + 1, ""
}

// checkMacros gives the first fault of a macro-string and where it is. Spaces are allowed
// in explanations only, and there explainLetters are.
func checkMacros(s, letters string, spaces bool) (at int, fault string) {
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '%':
			_, n, fault := cutExpand(s[i:], letters)
			if fault != "" {
				return i, fault
			}
			i += n
		case c > ' ' && c < 0x7f, c == ' ' && spaces:
			i++
		default:
			return i, "there is " + character(s[i:])
		}
	}
	return 0, ""
}

// endsInMacro reports whether the last thing in a checked macro-string is a macro-expand.
func endsInMacro(s string) bool {
	ends := false
	for i := 0; i < len(s); {
		if s[i] != '%' {
			ends = false
			i++
			continue
		}
		_, n, _ := cutExpand(s[i:], explainLetters)
		i, ends = i+max(n, 1), true
	}
	return ends
}

// expandMacro puts in what each letter stands for. The text was checked; what value gives
// is cut where the whole would become longer than maxExpansion.
func expandMacro(s string, value func(letter byte) string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s) && b.Len() < maxExpansion; {
		if s[i] != '%' {
			b.WriteByte(s[i])
			i++
			continue
		}
		e, n, _ := cutExpand(s[i:], explainLetters)
		switch {
		case e.letter != 0:
			b.WriteString(e.apply(value(e.letter)))
		case s[i+1] == '%':
			b.WriteByte('%')
		case s[i+1] == '_':
			b.WriteByte(' ')
		case s[i+1] == '-':
			b.WriteString("%20")
		}
		i += n
	}
	return b.String()[:min(b.Len(), maxExpansion)]
}

// apply transforms a value: split, reversed, the right-most parts, joined by dots
// (RFC 7208 §7.3).
func (e expand) apply(value string) string {
	if e.digits > 0 || e.reverse || e.split != "" {
		split := e.split
		if split == "" {
			split = "."
		}
		parts := splitAny(value, split)
		if e.reverse {
			slices.Reverse(parts)
		}
		if e.digits > 0 && e.digits < len(parts) {
			parts = parts[len(parts)-e.digits:]
		}
		value = strings.Join(parts, ".")
	}
	if e.escape {
		value = urlEscape(value)
	}
	return value
}

// splitAny splits at each octet that is one of the delimiters; empty parts stay.
func splitAny(s, delimiters string) []string {
	var parts []string
	for {
		i := strings.IndexAny(s, delimiters)
		if i < 0 {
			return append(parts, s)
		}
		parts, s = append(parts, s[:i]), s[i+1:]
	}
}

// urlEscape escapes all but the unreserved characters of RFC 3986 §2.3.
func urlEscape(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; isAlnum(c) || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&0xf]})
		}
	}
	return b.String()
}

// fit drops labels on the left of an expanded domain-spec until it is no longer than a name
// may be (RFC 7208 §7.3).
func fit(expanded string) string {
	for len(expanded) > maxTarget {
		_, after, found := strings.Cut(expanded, ".")
		if !found {
			break
		}
		expanded = after
	}
	return expanded
}

// targetName makes a name of an expanded domain-spec; false for what is none.
func targetName(expanded string) (dns.Name, bool) {
	text := strings.TrimSuffix(expanded, ".")
	if text == "" || !isASCII(text) {
		return dns.Name{}, false
	}
	if strings.IndexByte(text, '\\') >= 0 {
		text = strings.ReplaceAll(text, `\`, `\\`) // an octet here, an escape there
	}
	name, err := dns.ParseName(text)
	return name, err == nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func isAlpha(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isAlnum(c byte) bool { return isAlpha(c) || isDigit(c) }
