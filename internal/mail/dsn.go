package mail

import (
	"errors"
	"fmt"
	"strings"
)

// Limits of RFC 3461.
const (
	maxEnvelopeID = 100 // RFC 3461 §4.4, characters
	maxOriginal   = 500 // RFC 3461 §4.2, characters
)

// ErrDSN is the class of the errors about the parameters of RFC 3461.
var ErrDSN = errors.New("malformed DSN parameter")

// String gives the value of NOTIFY, "" for the zero Notify.
func (n Notify) String() string {
	if n.Never {
		return "NEVER"
	}
	parts := make([]string, 0, 3)
	for _, p := range []struct {
		word string
		on   bool
	}{{"SUCCESS", n.Success}, {"FAILURE", n.Failure}, {"DELAY", n.Delay}} {
		if p.on {
			parts = append(parts, p.word)
		}
	}
	return strings.Join(parts, ",")
}

// ParseNotify reads the value of NOTIFY: NEVER alone, or a list of the others
// (RFC 3461 §4.1).
func ParseNotify(s string) (Notify, error) {
	var n Notify
	for word := range strings.SplitSeq(s, ",") {
		switch strings.ToUpper(word) {
		case "NEVER":
			n.Never = true
		case "SUCCESS":
			n.Success = true
		case "FAILURE":
			n.Failure = true
		case "DELAY":
			n.Delay = true
		default:
			return Notify{}, fmt.Errorf("%w: NOTIFY: expected NEVER, SUCCESS, FAILURE or DELAY, got %q", ErrDSN, word)
		}
	}
	if n.Never && (n.Success || n.Failure || n.Delay) {
		return Notify{}, fmt.Errorf("%w: NOTIFY: NEVER must stand alone, got %q", ErrDSN, s)
	}
	return n, nil
}

// ParseReturn reads the value of RET (RFC 3461 §4.3).
func ParseReturn(s string) (Return, error) {
	switch r := Return(strings.ToUpper(s)); r {
	case ReturnFull, ReturnHeaders:
		return r, nil
	}
	return "", fmt.Errorf("%w: RET: expected FULL or HDRS, got %q", ErrDSN, s)
}

// CheckEnvelopeID tells whether s may be the value of ENVID: xtext of at most 100
// characters (RFC 3461 §4.4).
func CheckEnvelopeID(s string) error {
	if len(s) > maxEnvelopeID {
		return fmt.Errorf("%w: ENVID: longer than %d characters", ErrDSN, maxEnvelopeID)
	}
	if _, err := DecodeXtext(s); err != nil || s == "" {
		return fmt.Errorf("%w: ENVID: expected xtext, got %q", ErrDSN, s)
	}
	return nil
}

// CheckOriginal tells whether s may be the value of ORCPT: an address type, a semicolon and
// xtext (RFC 3461 §4.2). For the type utf-8 the address may hold UTF-8 and its \x{HEX}
// escapes (RFC 6533 §3).
func CheckOriginal(s string) error {
	if len(s) > maxOriginal {
		return fmt.Errorf("%w: ORCPT: longer than %d characters", ErrDSN, maxOriginal)
	}
	kind, text, ok := strings.Cut(s, ";")
	if !ok || kind == "" || text == "" || !isAtom(kind) {
		return fmt.Errorf("%w: ORCPT: expected type;address, got %q", ErrDSN, s)
	}
	if strings.EqualFold(kind, "utf-8") {
		if !isUTF8Xtext(text) {
			return fmt.Errorf("%w: ORCPT: expected an encoded address after utf-8;, got %q", ErrDSN, text)
		}
		return nil
	}
	if _, err := DecodeXtext(text); err != nil {
		return fmt.Errorf("%w: ORCPT: %w", ErrDSN, err)
	}
	return nil
}

func isAtom(s string) bool { return !strings.Contains(s, ".") && isDotString(s) && isPrintable(s) }

// isPrintable: printable ASCII without the space.
func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// isUTF8Xtext checks the characters, not the escapes: who decodes an ORCPT does that.
func isUTF8Xtext(s string) bool {
	for _, r := range s {
		if r <= ' ' || r == 0x7f || r == '=' || r == '\uFFFD' {
			return false
		}
	}
	return true
}

// EncodeXtext writes s in xtext: what is not printable, "+" and "=" become "+HH"
// (RFC 3461 §4).
func EncodeXtext(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < '!' || c > '~' || c == '+' || c == '=' {
			b.WriteByte('+')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&0xf])
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// DecodeXtext reads xtext (RFC 3461 §4). Hexadecimal digits are upper case.
func DecodeXtext(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+':
			if i+2 >= len(s) {
				return "", fmt.Errorf("%w: %q: a + without two digits", ErrDSN, s)
			}
			high, low := hexDigit(s[i+1]), hexDigit(s[i+2])
			if high < 0 || low < 0 {
				return "", fmt.Errorf("%w: %q: a + without two digits", ErrDSN, s)
			}
			b.WriteByte(byte(high<<4 | low))
			i += 2
		case c < '!' || c > '~' || c == '=':
			return "", fmt.Errorf("%w: %q: the character %q is not xtext", ErrDSN, s, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
