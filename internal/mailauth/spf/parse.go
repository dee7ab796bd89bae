package spf

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

// SyntaxError is one mistake in a record. It is of the class ErrPermanent.
type SyntaxError struct {
	Pos   int    // where in the text it is, in octets from 0
	Found string // the term, or what stands there
	Fault string // what is wrong with it
	Write string // what to write instead; "" where that cannot be guessed
}

func (e *SyntaxError) Error() string {
	s := fmt.Sprintf("position %d: %q: %s", e.Pos+1, e.Found, e.Fault)
	if e.Write != "" {
		s += "; write " + e.Write
	}
	return s
}

// Is makes the error one of the class ErrPermanent.
func (e *SyntaxError) Is(target error) bool { return target == ErrPermanent }

// IsRecord reports whether a text is an SPF record, well formed or not: "v=spf1" alone or
// with a space after it, in any case (RFC 7208 §4.5).
func IsRecord(text string) bool {
	const version = "v=spf1"
	return len(text) >= len(version) && strings.EqualFold(text[:len(version)], version) &&
		(len(text) == len(version) || text[len(version)] == ' ')
}

// Parse reads a record (RFC 7208 §12). Every term must be right, also those that an
// evaluation would not reach (§4.6). The error wraps ErrNotSPF where the text is another
// kind of record, else it is a *SyntaxError about the first mistake; with an error, the
// Record is zero.
func Parse(text string) (Record, error) {
	if !IsRecord(text) {
		return Record{}, fmt.Errorf("%w: it does not begin with \"v=spf1\" and a space", ErrNotSPF)
	}
	r, faults := parse(text, 1)
	if len(faults) > 0 {
		return Record{}, faults[0]
	}
	return r, nil
}

// parse reads the terms of what IsRecord, and gives its mistakes; behind the last of most
// mistakes nothing is read.
func parse(text string, most int) (Record, []*SyntaxError) {
	if len(text) > maxText {
		return Record{}, []*SyntaxError{{Pos: maxText, Fault: fmt.Sprintf("the record is longer than %d octets", maxText)}}
	}
	r := Record{Terms: make([]Term, 0, strings.Count(text, " "))}
	var faults []*SyntaxError
	for pos := len("v=spf1"); pos < len(text) && len(faults) < most; {
		if text[pos] == ' ' {
			pos++
			continue
		}
		word := text[pos:]
		if end := strings.IndexByte(word, ' '); end >= 0 {
			word = word[:end]
		}
		t, fault := parseTerm(word)
		t.Pos = pos
		if fault == nil && (t.is(nameRedirect) || t.is(nameExp)) && r.modifier(t.Name) >= 0 {
			fault = &SyntaxError{Fault: t.Name + "= may stand once only (RFC 7208 §6)"}
		}
		if fault != nil {
			fault.Pos, fault.Found = pos+fault.Pos, clip(word)
			if fault.Write = guess(word); fault.Write == "" && unfinished(word) {
				fault.Write = meantBy(word + nextWord(text[pos+len(word):]))
			}
			faults = append(faults, fault)
		} else {
			r.Terms = append(r.Terms, t)
		}
		pos += len(word)
	}
	return r, faults
}

// nextWord gives the first word of what follows one.
func nextWord(rest string) string {
	rest = strings.TrimLeft(rest, " ")
	if end := strings.IndexByte(rest, ' '); end >= 0 {
		rest = rest[:end]
	}
	return rest
}

// parseTerm reads one directive or modifier. The error's Pos is within the word.
func parseTerm(word string) (Term, *SyntaxError) {
	for i := range len(word) {
		if c := word[i]; c <= ' ' || c >= 0x7f {
			return Term{}, &SyntaxError{Pos: i, Fault: "there is " + character(word[i:])}
		}
	}
	t := Term{Qualifier: Pass}
	rest, signed := word, true
	switch word[0] {
	case '+':
	case '-':
		t.Qualifier = Fail
	case '~':
		t.Qualifier = SoftFail
	case '?':
		t.Qualifier = Neutral
	default:
		signed = false
	}
	if signed {
		rest = word[1:]
	}
	name := cutTermName(rest)
	if name == "" {
		return Term{}, &SyntaxError{Fault: "a term begins with a letter, after its sign"}
	}
	rest = rest[len(name):]
	t.Name = strings.ToLower(name)
	if strings.HasPrefix(rest, "=") {
		if signed {
			return Term{}, &SyntaxError{Fault: "a modifier, with its =, takes no sign"}
		}
		return parseModifier(name, rest[1:])
	}
	fault := t.parseArgument(rest)
	if fault != "" {
		return Term{}, &SyntaxError{Fault: fault}
	}
	return t, nil
}

// cutTermName: name = ALPHA *( ALPHA / DIGIT / "-" / "_" / "." )
func cutTermName(s string) string {
	for i := range len(s) {
		c := s[i]
		if !isAlpha(c) && (i == 0 || !isDigit(c) && strings.IndexByte("-_.", c) < 0) {
			return s[:i]
		}
	}
	return s
}

func parseModifier(name, value string) (Term, *SyntaxError) {
	t := Term{Name: name, Modifier: true, Domain: Macro(value)}
	if lower := strings.ToLower(name); lower == nameRedirect || lower == nameExp {
		t.Name = lower
		if fault := checkDomain(value); fault != "" {
			return Term{}, &SyntaxError{Fault: fault}
		}
		return t, nil
	}
	if at, fault := checkMacros(value, explainLetters, false); fault != "" {
		return Term{}, &SyntaxError{Pos: len(name) + 1 + at, Fault: fault}
	}
	return t, nil
}

// parseArgument reads what follows a mechanism's name.
func (t *Term) parseArgument(rest string) (fault string) {
	if rest != "" && rest[0] != ':' && rest[0] != '/' {
		return fmt.Sprintf("%q follows the name of a mechanism, where a colon, a slash or a space belongs", rest[:1])
	}
	value, colon := strings.CutPrefix(rest, ":")
	switch t.Name {
	case nameAll:
		if rest != "" {
			return "all takes nothing after it"
		}
		return ""
	case nameIP4, nameIP6:
		if !colon || value == "" {
			return t.Name + " needs a colon and an address"
		}
		return t.parseNetwork(value)
	case nameA, nameMX:
		value, fault = t.cutLengths(value)
		if fault != "" {
			return fault
		}
	case nameInclude, nameExists:
		if !colon {
			return t.Name + " needs a colon and a domain"
		}
	case namePTR:
	default:
		return fmt.Sprintf("there is no mechanism %q", t.Name)
	}
	if !colon {
		if value != "" {
			return fmt.Sprintf("%q is no prefix length", value)
		}
		return ""
	}
	t.Domain = Macro(value)
	return checkDomain(value)
}

// parseNetwork reads the argument of ip4 and ip6 (RFC 7208 §5.6).
func (t *Term) parseNetwork(value string) (fault string) {
	text, length, sliced := strings.Cut(value, "/")
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return fmt.Sprintf("%q is no IP address", clip(text))
	}
	if a.Is4() != (t.Name == nameIP4) {
		return fmt.Sprintf("%s is an address of the other family", a)
	}
	bits := a.BitLen()
	if sliced {
		if bits, fault = parseLength(length, a.BitLen()); fault != "" {
			return fault
		}
	}
	t.Prefix = netip.PrefixFrom(a, bits)
	return ""
}

// cutLengths takes the dual-cidr-length off the end: a slash may also be part of a domain,
// whose last label has a letter.
func (t *Term) cutLengths(value string) (rest, fault string) {
	rest, six, ok := cutLength(value, "//")
	if ok {
		bits, fault := parseLength(six, 128)
		if fault != "" {
			return "", fault
		}
		t.HostBits6 = 128 - bits
	}
	rest, four, ok := cutLength(rest, "/")
	if ok {
		bits, fault := parseLength(four, 32)
		if fault != "" {
			return "", fault
		}
		t.HostBits4 = 32 - bits
	}
	return rest, ""
}

// cutLength cuts slashes and the digits behind them off the end.
func cutLength(s, slashes string) (rest, digits string, ok bool) {
	rest = strings.TrimRight(s, "0123456789")
	if digits = s[len(rest):]; digits == "" || !strings.HasSuffix(rest, slashes) {
		return s, "", false
	}
	return strings.TrimSuffix(rest, slashes), digits, true
}

func parseLength(digits string, most int) (bits int, fault string) {
	n, err := strconv.ParseUint(digits, 10, 8)
	if err != nil || int(n) > most || len(digits) > 1 && digits[0] == '0' {
		return 0, fmt.Sprintf("%q is no prefix length from 0 to %d", clip(digits), most)
	}
	return int(n), ""
}

// checkDomain checks a domain-spec: it ends in a macro or in a top label that is not all
// digits, after a dot (RFC 7208 §7.1).
func checkDomain(s string) (fault string) {
	if s == "" {
		return "the domain is empty"
	}
	if _, fault := checkMacros(s, targetLetters, false); fault != "" {
		return fault
	}
	if endsInMacro(s) {
		return ""
	}
	s = strings.TrimSuffix(s, ".")
	dot := strings.LastIndexByte(s, '.')
	if dot < 0 {
		return fmt.Sprintf("%q is no domain with a dot in it", clip(s))
	}
	if top := s[dot+1:]; !isTopLabel(top) {
		return fmt.Sprintf("a domain cannot end in %q", clip(top))
	}
	return ""
}

// isTopLabel: toplabel of RFC 7208 §7.1.
func isTopLabel(s string) bool {
	letter := false
	for i := range len(s) {
		switch c := s[i]; {
		case isAlpha(c):
			letter = true
		case c == '-' && i > 0 && i < len(s)-1:
			letter = true // a hyphen makes it no number, too
		case !isDigit(c):
			return false
		}
	}
	return letter
}

// character names the character at the start of s, which is not allowed there, as a person
// who pasted it would have to look for it.
func character(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	switch {
	case r == '\t':
		return "a tab, where only spaces separate"
	case r == '\r' || r == '\n':
		return "a line break, where only spaces separate"
	case r == utf8.RuneError && size <= 1:
		return fmt.Sprintf("the octet 0x%02x, which is not ASCII", s[0])
	case strings.ContainsRune("“”„‟«»‘’‚", r):
		return fmt.Sprintf("a typographic quotation mark (%U)", r)
	case strings.ContainsRune("‐‑‒–—−", r):
		return fmt.Sprintf("a dash (%U), not the ASCII -", r)
	case r == '\u00a0' || r == '\u202f':
		return fmt.Sprintf("a no-break space (%U)", r)
	case r >= '\u200b' && r <= '\u200f' || r == '\ufeff' || r == '\u2060':
		return fmt.Sprintf("an invisible character (%U)", r)
	case r == ' ':
		return "a space"
	case r < ' ' || r == 0x7f:
		return fmt.Sprintf("a control character (%U)", r)
	}
	return fmt.Sprintf("the character %q, which is not ASCII", r)
}

// clip keeps what a stranger wrote short enough for a message.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
