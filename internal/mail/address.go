package mail

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"mxward/internal/dns"
)

// Limits of RFC 5321 §4.5.3.1.
const (
	maxLocalPart = 64  // RFC 5321 §4.5.3.1.1, octets
	maxPath      = 256 // RFC 5321 §4.5.3.1.3, octets, with the angle brackets
)

// ErrAddress is the class of every error of ParseAddress.
var ErrAddress = errors.New("not a mail address")

// Address is a mailbox (RFC 5321 §4.1.2): a local part at a domain, or at an address
// literal. It is comparable; the local part keeps its case and has no quotes or
// backslashes, which String puts back where they are needed. The zero Address is none.
type Address struct {
	Local   string
	Domain  dns.Name   // zero where Literal is set, and for the bare "postmaster"
	Literal netip.Addr // user@[192.0.2.1]
}

// IsZero reports whether a is no address.
func (a Address) IsZero() bool { return a == Address{} }

// IsASCII reports whether the address needs no SMTPUTF8.
func (a Address) IsASCII() bool {
	for i := range len(a.Local) {
		if a.Local[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// IsPostmaster reports whether a is the postmaster, in any case (RFC 5321 §4.5.1).
func (a Address) IsPostmaster() bool { return strings.EqualFold(a.Local, "postmaster") }

// Host gives the part after the @ in presentation form, brackets included.
func (a Address) Host() string {
	switch {
	case a.Literal.Is4():
		return "[" + a.Literal.String() + "]"
	case a.Literal.IsValid():
		return "[IPv6:" + a.Literal.String() + "]"
	}
	return a.Domain.String()
}

// String gives the address as it stands between angle brackets.
func (a Address) String() string {
	if a.IsZero() {
		return ""
	}
	local := a.Local
	if !isDotString(local) {
		local = quote(local)
	}
	if host := a.Host(); host != "" {
		return local + "@" + host
	}
	return local
}

// MarshalText gives String, for JSON.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what ParseAddress reads, "" for none and the bare "postmaster".
func (a *Address) UnmarshalText(text []byte) error {
	s := string(text)
	switch {
	case s == "":
		*a = Address{}
		return nil
	case strings.EqualFold(s, "postmaster"):
		*a = Address{Local: s}
		return nil
	}
	parsed, err := ParseAddress(s)
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}

// ParseAddress reads a mailbox without angle brackets. The local part is a dot-string or a
// quoted string, with UTF-8 as RFC 6531 §3.3 allows; source routes and comments are not
// read. The error wraps ErrAddress.
func ParseAddress(s string) (Address, error) {
	if len(s) > maxPath-2 {
		return Address{}, fmt.Errorf("%w: longer than %d octets (RFC 5321 §4.5.3.1.3)", ErrAddress, maxPath-2)
	}
	local, rest, err := cutLocal(s)
	if err != nil {
		return Address{}, fmt.Errorf("%w: %q: %s", ErrAddress, s, err)
	}
	if len(local) > maxLocalPart {
		return Address{}, fmt.Errorf("%w: %q: the local part is longer than %d octets (RFC 5321 §4.5.3.1.1)", ErrAddress, s, maxLocalPart)
	}
	host, ok := strings.CutPrefix(rest, "@")
	if !ok || host == "" {
		return Address{}, fmt.Errorf("%w: %q: there is no domain after the local part", ErrAddress, s)
	}
	a := Address{Local: local}
	if host[0] == '[' {
		a.Literal, err = parseLiteral(host)
	} else {
		a.Domain, err = parseDomain(host)
	}
	if err != nil {
		return Address{}, fmt.Errorf("%w: %q: %w", ErrAddress, s, err)
	}
	return a, nil
}

// cutLocal reads the local part, unquoted, and gives what follows it.
func cutLocal(s string) (local, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		return cutQuoted(s)
	}
	at := strings.IndexByte(s, '@')
	if at < 0 {
		return "", "", errors.New("there is no @")
	}
	if !isDotString(s[:at]) {
		return "", "", errors.New("the local part is malformed")
	}
	return s[:at], s[at:], nil
}

// cutQuoted reads a Quoted-string (RFC 5321 §4.1.2).
func cutQuoted(s string) (local, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			if !utf8.ValidString(b.String()) {
				return "", "", errors.New("the local part is not UTF-8")
			}
			return b.String(), s[i+1:], nil
		case c == '\\':
			i++
			if i == len(s) || s[i] < ' ' || s[i] > '~' {
				return "", "", errors.New("a backslash quotes nothing printable")
			}
			b.WriteByte(s[i])
		case c < ' ' || c == 0x7f:
			return "", "", errors.New("the local part has a control character")
		default:
			b.WriteByte(c)
		}
	}
	return "", "", errors.New("the quoted local part does not end")
}

func quote(local string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(local) {
		if c := local[i]; c == '"' || c == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(local[i])
	}
	b.WriteByte('"')
	return b.String()
}

// isDotString: Dot-string of RFC 5321 §4.1.2, with the UTF-8 of RFC 6531 §3.3.
func isDotString(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" {
			return false
		}
		for i := range len(atom) {
			if !isAtext(atom[i]) {
				return false
			}
		}
	}
	return true
}

func isAtext(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c >= utf8.RuneSelf:
		return true
	}
	return strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

// parseDomain wants a host name's letters, digits and hyphens (RFC 5321 §4.1.2), and
// tolerates the underscores that real domains have.
func parseDomain(s string) (dns.Name, error) {
	if strings.IndexByte(s, '\\') >= 0 {
		// Master files may spell "a" as "\097"; a mail domain that did could hide behind it.
		return dns.Name{}, errors.New("the domain has a backslash")
	}
	n, err := dns.ParseName(s)
	if err != nil {
		return dns.Name{}, err
	}
	if n == dns.Root || strings.HasSuffix(s, ".") {
		return dns.Name{}, errors.New("the domain ends in a dot")
	}
	// What was written is named as it was; what is made of other scripts is looked at again.
	for _, text := range []string{s, n.String()} {
		for i := range len(text) {
			if c := text[i]; c < utf8.RuneSelf && !isDomainOctet(c) {
				return dns.Name{}, fmt.Errorf("the domain has the character %q", c)
			}
		}
	}
	return n, nil
}

func isDomainOctet(c byte) bool {
	return c == '.' || c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// parseLiteral: address-literal of RFC 5321 §4.1.3, IPv4 and IPv6 only.
func parseLiteral(s string) (netip.Addr, error) {
	inner, ok := strings.CutSuffix(strings.TrimPrefix(s, "["), "]")
	if !ok {
		return netip.Addr{}, errors.New("the address literal has no ]")
	}
	six := len(inner) > 5 && strings.EqualFold(inner[:5], "IPv6:")
	if six {
		inner = inner[5:]
	}
	a, err := netip.ParseAddr(inner)
	if err != nil || a.Is4() == six || a.Zone() != "" {
		return netip.Addr{}, errors.New("the address literal is neither an IPv4 address nor IPv6: and an IPv6 address")
	}
	return a, nil
}
