package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	wire "github.com/miekg/dns"
	"golang.org/x/net/idna"
)

// Limits of a name on the wire: RFC 1035 §2.3.4.
const (
	maxNameOctets  = 255
	maxLabelOctets = 63
)

// Name is a domain name in canonical form: lower case (RFC 4343), A-labels (RFC 5890), no
// trailing dot, escapes reduced to one spelling. Names are comparable and can be map keys.
// The zero Name is no name at all; Root is the root.
type Name struct{ text string }

// Root is the name of the DNS root.
var Root = Name{"."}

// ErrName is the class of every error of ParseName.
var ErrName = errors.New("not a domain name")

// ParseName reads a name as people and mail write it: upper or lower case, U-labels or
// A-labels, with or without the trailing dot, with the escapes of master files (\. and
// \DDD, RFC 1035 §5.1). The error wraps ErrName.
func ParseName(s string) (Name, error) {
	if s == "." {
		return Root, nil
	}
	if s == "" {
		return Name{}, fmt.Errorf("%w: it is empty", ErrName)
	}
	ascii, err := toALabels(s)
	if err != nil {
		return Name{}, fmt.Errorf("%w: %q: %v", ErrName, s, err)
	}
	buf := make([]byte, maxNameOctets+1)
	n, err := wire.PackDomainName(wire.Fqdn(ascii), buf, 0, nil, false)
	if err != nil || n > maxNameOctets {
		return Name{}, fmt.Errorf("%w: %q: %s", ErrName, s, nameFault(ascii))
	}
	text, _, err := wire.UnpackDomainName(buf[:n], 0)
	if err != nil {
		return Name{}, fmt.Errorf("%w: %q: %v", ErrName, s, err)
	}
	return fromPresentation(text), nil
}

// toALabels turns the labels that are not ASCII into A-labels, each by itself: labels such
// as _dmarc, which the rules for host names refuse, may stand beside them. The dots of
// other scripts part labels too (RFC 3490 §3.1).
func toALabels(s string) (string, error) {
	if isASCII(s) {
		return s, nil
	}
	if !utf8.ValidString(s) {
		return "", errors.New("it is neither ASCII nor UTF-8")
	}
	s = strings.NewReplacer("\u3002", ".", "\uff0e", ".", "\uff61", ".").Replace(s)
	labels := strings.Split(s, ".")
	for i, label := range labels {
		if isASCII(label) {
			continue
		}
		a, err := idna.Lookup.ToASCII(label)
		if err != nil {
			return "", err
		}
		labels[i] = a
	}
	return strings.Join(labels, "."), nil
}

// MustName is ParseName for names that are written in the code; it panics on an error.
func MustName(s string) Name {
	n, err := ParseName(s)
	if err != nil {
		panic(err)
	}
	return n
}

// NameOf gives the canonical Name of an owner or target in a record that was parsed from
// the wire or from a master file, and so is known to be well formed.
func NameOf(presentation string) Name {
	if plain(presentation) {
		return fromPresentation(presentation)
	}
	n, err := ParseName(presentation)
	if err != nil {
		return Name{}
	}
	return n
}

// fromPresentation takes a text whose escapes are canonical already.
func fromPresentation(s string) Name {
	if s == "." {
		return Root
	}
	return Name{strings.ToLower(strings.TrimSuffix(s, "."))}
}

// plain reports whether s has only characters that have no other spelling. The wire
// library writes the ones listed here with a backslash.
func plain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c <= ' ', c >= 0x7f:
			return false
		case c == '\\', c == '\'', c == '@', c == ';', c == '(', c == ')', c == '"':
			return false
		}
	}
	return s != ""
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func nameFault(s string) string {
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" {
			return "it has an empty label"
		}
		if len(label) > maxLabelOctets {
			return fmt.Sprintf("a label is longer than %d octets (RFC 1035 §2.3.4)", maxLabelOctets)
		}
	}
	if len(s) > maxNameOctets-2 {
		return fmt.Sprintf("it is longer than %d octets (RFC 1035 §2.3.4)", maxNameOctets)
	}
	return "a label is malformed"
}

// String gives the name without its trailing dot; the root is ".".
func (n Name) String() string { return n.text }

// FQDN gives the name with its trailing dot, as master files and the wire library want it.
func (n Name) FQDN() string {
	if n == Root {
		return "."
	}
	return n.text + "."
}

// Unicode gives the name with U-labels, for people. A label that is no A-label, whatever
// its prefix says, stays as it is.
func (n Name) Unicode() string {
	if !strings.Contains(n.text, "xn--") {
		return n.text
	}
	labels := n.Labels()
	for i, label := range labels {
		if !strings.HasPrefix(label, "xn--") {
			continue
		}
		u, err := idna.Display.ToUnicode(label)
		if err != nil {
			continue
		}
		if again, err := toALabels(u); err == nil && again == label {
			labels[i] = u
		}
	}
	return strings.Join(labels, ".")
}

// IsZero reports whether n is no name at all.
func (n Name) IsZero() bool { return n.text == "" }

// Labels gives the labels from left to right; the root has none.
func (n Name) Labels() []string {
	if n == Root || n.IsZero() {
		return nil
	}
	return wire.SplitDomainName(n.text)
}

// Parent drops the left-most label; the parent of a top-level name is Root, and Root has
// no parent.
func (n Name) Parent() (Name, bool) {
	if n == Root || n.IsZero() {
		return Name{}, false
	}
	next, end := wire.NextLabel(n.text, 0)
	if end {
		return Root, true
	}
	return Name{n.text[next:]}, true
}

// In reports whether n is the zone's apex or lies below it, label by label.
// The zero Name is in no zone, and nothing is in it.
func (n Name) In(zone Name) bool {
	if n.IsZero() || zone.IsZero() {
		return false
	}
	if zone == Root {
		return true
	}
	above := len(n.text) - len(zone.text) - 1
	if above <= 0 {
		return n == zone
	}
	return n.text[above] == '.' && n.text[above+1:] == zone.text && !escaped(n.text, above)
}

// escaped reports whether the character at i belongs to an escape, and so parts no labels.
func escaped(text string, i int) bool {
	slashes := 0
	for i--; i >= 0 && text[i] == '\\'; i-- {
		slashes++
	}
	return slashes%2 == 1
}

// CountLabels gives the number of labels; the root has none.
func (n Name) CountLabels() int {
	if n == Root || n.IsZero() {
		return 0
	}
	return wire.CountLabel(n.text)
}

// Child puts a label in front of n.
func (n Name) Child(label string) (Name, error) {
	if n == Root {
		return ParseName(label + ".")
	}
	return ParseName(label + "." + n.text)
}

// Addr gives the address that the name spells, as a wrongly written MX host does
// ("192.0.2.1."). Such a name is no host name (RFC 1123 §2.1).
func (n Name) Addr() (netip.Addr, bool) {
	a, err := netip.ParseAddr(n.text)
	return a, err == nil
}

// MarshalText gives String, for JSON.
func (n Name) MarshalText() ([]byte, error) { return []byte(n.text), nil }

// UnmarshalText reads what ParseName reads.
func (n *Name) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*n = Name{}
		return nil
	}
	parsed, err := ParseName(string(text))
	if err != nil {
		return err
	}
	*n = parsed
	return nil
}

// ReverseName gives the name at which an address's PTR records are: RFC 1035 §3.5 for
// IPv4, RFC 3596 §2.5 for IPv6. IPv4-mapped addresses are taken as IPv4.
func ReverseName(a netip.Addr) Name {
	a = a.Unmap()
	raw := a.AsSlice()
	var b strings.Builder
	for i := len(raw) - 1; i >= 0; i-- {
		if a.Is4() {
			b.WriteString(strconv.Itoa(int(raw[i])))
			b.WriteByte('.')
			continue
		}
		const hex = "0123456789abcdef"
		b.WriteByte(hex[raw[i]&0xf])
		b.WriteByte('.')
		b.WriteByte(hex[raw[i]>>4])
		b.WriteByte('.')
	}
	if a.Is4() {
		return Name{b.String() + "in-addr.arpa"}
	}
	return Name{b.String() + "ip6.arpa"}
}

func parseType(s string) (Type, bool) {
	s = strings.ToUpper(s)
	if t, ok := wire.StringToType[s]; ok {
		return Type(t), true
	}
	digits, ok := strings.CutPrefix(s, "TYPE") // RFC 3597 §5
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	return Type(n), err == nil
}

func rcodeString(r Rcode) string {
	if s, ok := wire.RcodeToString[int(r)]; ok {
		return s
	}
	return "RCODE" + strconv.Itoa(int(r))
}
