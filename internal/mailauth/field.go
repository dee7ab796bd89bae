package mailauth

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// FieldName is the name of the field that this package reads, removes and writes.
const FieldName = "Authentication-Results"

// Limits of Parse. A real field has some ten results with some five properties each.
const (
	maxInfos      = 100
	maxProperties = 100
	maxVersion    = 9 // digits
)

// ErrField is the class of the errors of Parse.
var ErrField = errors.New("malformed Authentication-Results")

// Field is the value of an Authentication-Results field (RFC 8601 §2.2), without its
// comments. One without results says "none".
type Field struct {
	ID      string // the authserv-id: whose word this is
	Version int    // of the format; 0 where it is left out, which is 1
	Infos   []Info
}

// Info is one result (RFC 8601 §2.2, resinfo).
type Info struct {
	Method     string // in lower case, as Result and the names of a Property
	Version    int    // of the method; 0 where it is left out
	Result     string
	Reason     string // why, for people; may be ""
	Properties []Property
}

// Property is what a result is about: "smtp.mailfrom=a@example.com".
type Property struct{ Type, Name, Value string }

// Parse reads a value, folded or not (RFC 8601 §2.2). Property values that should have
// been quoted, such as an IPv6 address, are read all the same. The error wraps ErrField.
func Parse(value string) (Field, error) {
	p := &parser{text: value}
	f, err := p.field()
	if err != nil {
		return Field{}, fmt.Errorf("%w: %w at octet %d", ErrField, err, p.at)
	}
	return f, nil
}

// parser reads a value from the left.
type parser struct {
	text string
	at   int
}

func (p *parser) field() (Field, error) {
	var f Field
	var err error
	if f.ID, err = p.id(); err != nil {
		return f, err
	}
	if f.Version, err = p.version(); err != nil {
		return f, err
	}
	for !p.ended() {
		if err := p.expect(';'); err != nil {
			return f, err
		}
		if len(f.Infos) == maxInfos {
			return f, fmt.Errorf("more than %d results", maxInfos)
		}
		info, err := p.info()
		if err != nil {
			return f, err
		}
		if info.Method == "none" && info.Result == "" {
			if len(f.Infos) > 0 || !p.ended() {
				return f, errors.New(`"none" stands beside other results`)
			}
			return f, nil
		}
		f.Infos = append(f.Infos, info)
	}
	if len(f.Infos) == 0 {
		return f, errors.New("there is no result")
	}
	return f, nil
}

// id reads the authserv-id, which is all that tells a forged field.
func (p *parser) id() (string, error) {
	if err := p.skip(); err != nil {
		return "", err
	}
	id, err := p.value(isToken)
	if err != nil {
		return "", fmt.Errorf("the authserv-id: %w", err)
	}
	return id, p.skip()
}

// info reads one result, or the word none, which has no Result.
func (p *parser) info() (Info, error) {
	var i Info
	var err error
	if i.Method, err = p.keyword(); err != nil {
		return i, err
	}
	if i.Method == "none" && (p.ended() || p.next() == ';') {
		return i, nil
	}
	if p.next() == '/' {
		p.at++
		if err := p.skip(); err != nil {
			return i, err
		}
		if i.Version, err = p.version(); err != nil {
			return i, err
		}
	}
	if err = p.expect('='); err != nil {
		return i, err
	}
	if i.Result, err = p.keyword(); err != nil {
		return i, err
	}
	for !p.ended() && p.next() != ';' {
		if err := p.property(&i); err != nil {
			return i, err
		}
	}
	return i, nil
}

// property reads a propspec, or the reasonspec, which has no dot.
func (p *parser) property(i *Info) error {
	first, err := p.keyword()
	if err != nil {
		return err
	}
	if first == "reason" && p.next() == '=' {
		p.at++
		if err := p.skip(); err != nil {
			return err
		}
		if i.Reason, err = p.value(isToken); err != nil {
			return err
		}
		return p.skip()
	}
	if len(i.Properties) == maxProperties {
		return fmt.Errorf("more than %d properties", maxProperties)
	}
	property := Property{Type: first}
	if err = p.expect('.'); err != nil {
		return err
	}
	if property.Name, err = p.keyword(); err != nil {
		return err
	}
	if err = p.expect('='); err != nil {
		return err
	}
	if property.Value, err = p.propertyValue(); err != nil {
		return err
	}
	i.Properties = append(i.Properties, property)
	return p.skip()
}

// propertyValue reads a pvalue: a value, or an address whose local part may be quoted.
func (p *parser) propertyValue() (string, error) {
	if p.next() != '"' {
		return p.value(isLoose)
	}
	quoted, err := p.quoted()
	if err != nil || p.next() != '@' {
		return quoted, err
	}
	domain, err := p.value(isLoose)
	return quote(quoted) + domain, err
}

// value reads a value (RFC 2045 §5.1): a token, of the octets that allowed tells, or a
// quoted string.
func (p *parser) value(allowed func(byte) bool) (string, error) {
	if p.next() == '"' {
		return p.quoted()
	}
	from := p.at
	for p.at < len(p.text) && allowed(p.text[p.at]) {
		p.at++
	}
	v := p.text[from:p.at]
	if v == "" || !utf8.ValidString(v) {
		return "", errors.New("expected a value")
	}
	return v, nil
}

// quoted reads a quoted string (RFC 5322 §3.2.4), unquoted and unfolded.
func (p *parser) quoted() (string, error) {
	var b strings.Builder
	for p.at++; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; {
		case c == '"':
			p.at++
			if !utf8.ValidString(b.String()) {
				return "", errors.New("a quoted string is not UTF-8")
			}
			return b.String(), nil
		case c == '\\' && p.at+1 < len(p.text) && isVisible(p.text[p.at+1]):
			p.at++
			b.WriteByte(p.text[p.at])
		case c == '\r' || c == '\n': // of folding
		case c == '\t':
			b.WriteByte(' ')
		case c == '\\' || !isVisible(c):
			return "", errors.New("a quoted string has a control character")
		default:
			b.WriteByte(c)
		}
	}
	return "", errors.New("a quoted string does not end")
}

// keyword reads a word of letters, digits and hyphens, in lower case, and what white space
// and comments stand around it.
func (p *parser) keyword() (string, error) {
	if err := p.skip(); err != nil {
		return "", err
	}
	from := p.at
	for p.at < len(p.text) && isKeyword(p.text[p.at]) {
		p.at++
	}
	if p.at == from {
		return "", errors.New("expected a word")
	}
	return strings.ToLower(p.text[from:p.at]), p.skip()
}

// version reads a number, or 0 where there is none.
func (p *parser) version() (int, error) {
	from := p.at
	for p.at < len(p.text) && '0' <= p.text[p.at] && p.text[p.at] <= '9' {
		p.at++
	}
	if p.at == from {
		return 0, nil
	}
	if p.at-from > maxVersion {
		return 0, errors.New("an endless version")
	}
	n, err := strconv.Atoi(p.text[from:p.at])
	if err != nil {
		return 0, err
	}
	return n, p.skip()
}

// expect reads one character and what white space and comments follow it.
func (p *parser) expect(c byte) error {
	if p.next() != c {
		return fmt.Errorf("expected %q", c)
	}
	p.at++
	return p.skip()
}

func (p *parser) ended() bool { return p.at >= len(p.text) }

// next gives the next octet, 0 at the end.
func (p *parser) next() byte {
	if p.ended() {
		return 0
	}
	return p.text[p.at]
}

// skip passes white space, folds and comments (RFC 5322 §3.2.2), which nest as deep as
// they like: only their depth is kept.
func (p *parser) skip() error {
	depth := 0
	for ; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case c == '\\' && depth > 0:
			p.at++
		case strings.IndexByte(" \t\r\n", c) < 0 && depth == 0:
			return nil
		}
	}
	if depth > 0 {
		return errors.New("a comment does not end")
	}
	p.at = len(p.text)
	return nil
}

// isToken: RFC 2045 §5.1, with the UTF-8 of RFC 6532.
func isToken(c byte) bool {
	return isVisible(c) && c != ' ' && strings.IndexByte(`()<>@,;:\"/[]?=`, c) < 0
}

// isLoose is what people write without the quotation marks that it would need.
func isLoose(c byte) bool { return isVisible(c) && c != ' ' && strings.IndexByte(`();"\`, c) < 0 }

func isVisible(c byte) bool { return c >= ' ' && c != 0x7f }

func isKeyword(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-'
}

// String gives the value on one line. Parse reads it back.
func (f Field) String() string { return strings.Join(f.words(), " ") }

// words gives the value in the pieces between which it may be folded.
func (f Field) words() []string {
	words := []string{writeValue(f.ID)}
	if f.Version != 0 {
		words = append(words, strconv.Itoa(f.Version))
	}
	if len(f.Infos) == 0 {
		words[len(words)-1] += ";"
		return append(words, "none")
	}
	for _, i := range f.Infos {
		words[len(words)-1] += ";"
		words = append(words, i.method())
		if i.Reason != "" {
			words = append(words, "reason="+quote(i.Reason))
		}
		for _, p := range i.Properties {
			words = append(words, p.Type+"."+p.Name+"="+writeValue(p.Value))
		}
	}
	return words
}

func (i Info) method() string {
	if i.Version != 0 {
		return i.Method + "/" + strconv.Itoa(i.Version) + "=" + i.Result
	}
	return i.Method + "=" + i.Result
}

// writeValue quotes what is neither a token nor a plain address.
func writeValue(s string) string {
	local, domain, _ := strings.Cut(s, "@")
	for _, part := range []string{local, domain} {
		for i := range len(part) {
			if !isToken(part[i]) || part[i] >= utf8.RuneSelf {
				return quote(s)
			}
		}
	}
	if s == "" || s != local && domain == "" {
		return quote(s)
	}
	return s
}

// quote writes a quoted string. No control character gets into it, whatever s is.
func quote(s string) string {
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r < ' ' || 0x7f <= r && r < 0xa0 || r == utf8.RuneError:
			b.WriteByte('?')
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
