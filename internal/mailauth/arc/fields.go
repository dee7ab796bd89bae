package arc

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mailauth/dkim"
)

// space is folding white space.
const space = " \t\r\n"

// AuthResults is the value of an ARC-Authentication-Results field (RFC 8617 §4.1.1).
type AuthResults struct {
	Instance int
	Text     string // as in Authentication-Results, "example.com; spf=pass …", unfolded
}

// ParseAuthResults reads a value, folded or not: i= stands first. What follows it is not
// taken apart. The error wraps ErrSyntax.
func ParseAuthResults(value string) (AuthResults, error) {
	if len(value) > maxResults {
		return AuthResults{}, fmt.Errorf("%w: it has more than %d octets", ErrSyntax, maxResults)
	}
	first, text, ok := strings.Cut(value, ";")
	name, number, is := strings.Cut(first, "=")
	if !ok || !is || strings.Trim(name, space) != "i" {
		return AuthResults{}, fmt.Errorf("%w: expected i=NUMBER; at its front, got %q", ErrSyntax, excerpt(value))
	}
	i, err := parseInstance(strings.Trim(number, space))
	if err != nil {
		return AuthResults{}, err
	}
	text = strings.Trim(strings.NewReplacer("\r", "", "\n", "").Replace(text), space)
	if text == "" {
		return AuthResults{}, fmt.Errorf("%w: there is nothing after i=", ErrSyntax)
	}
	return AuthResults{i, text}, nil
}

// String gives the value on one line. ParseAuthResults reads it back.
func (a AuthResults) String() string { return fmt.Sprintf("i=%d; %s", a.Instance, a.Text) }

// MessageSignature is the value of an ARC-Message-Signature field (RFC 8617 §4.1.2): a DKIM
// signature whose i= is the instance.
type MessageSignature struct {
	Instance     int
	Algorithm    string                // a=
	Header, Body dkim.Canonicalization // c=; both empty where there is none
	Domain       dns.Name              // d=
	Selector     string                // s=
	Fields       []string              // h=, the names as they stand; none is allowed
	BodyHash     []byte                // bh=
	Signed       time.Time
	Expires      time.Time
	Value        []byte // b=
}

// ParseMessageSignature reads a value, folded or not. The error wraps ErrSyntax.
func ParseMessageSignature(value string) (MessageSignature, error) {
	tags, err := parseTags(value, "a", "b", "bh", "d", "i", "s")
	if err != nil {
		return MessageSignature{}, err
	}
	if _, ok := tags.Get("h"); !ok {
		return MessageSignature{}, fmt.Errorf("%w: it lacks h=", ErrSyntax)
	}
	if _, ok := tags.Get("l"); ok {
		return MessageSignature{}, fmt.Errorf("%w: it covers a part of the body only (l=), to which anybody can add", ErrSyntax)
	}
	m := MessageSignature{Algorithm: tags.Compact("a"), Selector: tags.Compact("s")}
	if m.Instance, err = parseInstance(tags.Compact("i")); err != nil {
		return MessageSignature{}, err
	}
	if m.Domain, err = parseSigner(tags); err != nil {
		return MessageSignature{}, err
	}
	if c, ok := tags.Get("c"); ok {
		if c == "" {
			return MessageSignature{}, fmt.Errorf("%w: c= is empty", ErrSyntax)
		}
		if m.Header, m.Body, err = dkim.ParseCanonicalization(tags.Compact("c")); err != nil {
			return MessageSignature{}, fmt.Errorf("%w: %w", ErrSyntax, err)
		}
	}
	if m.Fields, err = parseNames(tags); err != nil {
		return MessageSignature{}, err
	}
	if m.BodyHash, err = parseBase64(tags, "bh"); err != nil {
		return MessageSignature{}, err
	}
	if m.Value, err = parseBase64(tags, "b"); err != nil {
		return MessageSignature{}, err
	}
	if m.Signed, err = parseTime(tags, "t"); err != nil {
		return MessageSignature{}, err
	}
	if m.Expires, err = parseTime(tags, "x"); err != nil {
		return MessageSignature{}, err
	}
	return m, nil
}

// parseNames reads h=. ARC-Seal must not be signed; that the other two fields of a set must
// not be either is for signers to heed (RFC 8617 §4.1.2), and many did not.
func parseNames(tags dkim.Tags) ([]string, error) {
	names := tags.List("h")
	if len(names) > maxNames {
		return nil, fmt.Errorf("%w: h= has more than %d names", ErrSyntax, maxNames)
	}
	for _, name := range names {
		if strings.EqualFold(name, SealField) {
			return nil, fmt.Errorf("%w: h= has ARC-Seal (RFC 8617 §4.1.2)", ErrSyntax)
		}
	}
	return names, nil
}

// String gives the value on one line, its tags by the alphabet. ParseMessageSignature reads
// it back.
func (m MessageSignature) String() string { return strings.Join(m.tags(), " ") }

// tags gives the tags, each with its semicolon but the last.
func (m MessageSignature) tags() []string {
	tags := []string{"a=" + m.Algorithm, "b=" + base64.StdEncoding.EncodeToString(m.Value), "bh=" + base64.StdEncoding.EncodeToString(m.BodyHash)}
	if m.Header != "" {
		tags = append(tags, "c="+string(m.Header)+"/"+string(m.Body))
	}
	tags = append(tags, "d="+m.Domain.String(), "h="+strings.Join(m.Fields, ":"), "i="+strconv.Itoa(m.Instance), "s="+m.Selector)
	return listed(appendTime(appendTime(tags, "t", m.Signed), "x", m.Expires))
}

// Seal is the value of an ARC-Seal field (RFC 8617 §4.1.3).
type Seal struct {
	Instance  int
	Algorithm string   // a=
	Chain     Status   // cv=, what the sealer thought of the chain before: None, Pass or Fail
	Domain    dns.Name // d=
	Selector  string   // s=
	Signed    time.Time
	Value     []byte // b=
}

// ParseSeal reads a value, folded or not. The error wraps ErrSyntax.
func ParseSeal(value string) (Seal, error) {
	tags, err := parseTags(value, "a", "b", "cv", "d", "i", "s")
	if err != nil {
		return Seal{}, err
	}
	for _, name := range []string{"h", "bh"} {
		// What a seal covers is not its own to say (RFC 8617 §4.1.3).
		if _, ok := tags.Get(name); ok {
			return Seal{}, fmt.Errorf("%w: a seal has no %s=", ErrSyntax, name)
		}
	}
	s := Seal{Algorithm: tags.Compact("a"), Selector: tags.Compact("s"), Chain: Status(tags.Compact("cv"))}
	if s.Instance, err = parseInstance(tags.Compact("i")); err != nil {
		return Seal{}, err
	}
	if !slices.Contains([]Status{None, Pass, Fail}, s.Chain) {
		return Seal{}, fmt.Errorf("%w: expected cv=none, pass or fail, got %q", ErrSyntax, excerpt(string(s.Chain)))
	}
	if s.Domain, err = parseSigner(tags); err != nil {
		return Seal{}, err
	}
	if s.Value, err = parseBase64(tags, "b"); err != nil {
		return Seal{}, err
	}
	if s.Signed, err = parseTime(tags, "t"); err != nil {
		return Seal{}, err
	}
	return s, nil
}

// String gives the value on one line, its tags by the alphabet. ParseSeal reads it back.
func (s Seal) String() string { return strings.Join(s.tags(), " ") }

func (s Seal) tags() []string {
	return listed(appendTime([]string{
		"a=" + s.Algorithm, "b=" + base64.StdEncoding.EncodeToString(s.Value), "cv=" + string(s.Chain),
		"d=" + s.Domain.String(), "i=" + strconv.Itoa(s.Instance), "s=" + s.Selector,
	}, "t", s.Signed))
}

// listed puts a semicolon after each tag but the last.
func listed(tags []string) []string {
	for i := range tags[:len(tags)-1] {
		tags[i] += ";"
	}
	return tags
}

func appendTime(tags []string, name string, t time.Time) []string {
	if t.IsZero() {
		return tags
	}
	return append(tags, name+"="+strconv.FormatInt(t.Unix(), 10))
}

// parseTags reads a tag list and holds it to what has to be there. A semicolon more than
// one between two tags is a fault (RFC 6376 §3.2), which dkim.ParseTags lets pass.
func parseTags(value string, needed ...string) (dkim.Tags, error) {
	if len(value) > maxField {
		return nil, fmt.Errorf("%w: it has more than %d octets", ErrSyntax, maxField)
	}
	tags, err := dkim.ParseTags(value)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	if parts := strings.Count(strings.TrimRight(value, space), ";") + 1; parts > len(tags)+1 ||
		parts > len(tags) && !strings.HasSuffix(strings.TrimRight(value, space), ";") {
		return nil, fmt.Errorf("%w: expected name=value, got a second semicolon", ErrSyntax)
	}
	for _, name := range needed {
		if tags.Compact(name) == "" {
			return nil, fmt.Errorf("%w: it lacks %s=", ErrSyntax, name)
		}
	}
	return tags, nil
}

// parseInstance reads i=, 1 to 50 (RFC 8617 §4.2.1).
func parseInstance(s string) (int, error) {
	i, err := strconv.ParseUint(s, 10, 16)
	if err != nil || i < 1 || i > MaxInstance || s[0] == '0' {
		return 0, fmt.Errorf("%w: expected i=1 to %d, got %q", ErrSyntax, MaxInstance, excerpt(s))
	}
	return int(i), nil
}

// parseSigner reads d=, and sees to it that s= makes a name with it.
func parseSigner(tags dkim.Tags) (dns.Name, error) {
	domain, err := dns.ParseName(tags.Compact("d"))
	if err != nil || domain.IsZero() || domain == dns.Root {
		return dns.Name{}, fmt.Errorf("%w: d=%s is no domain", ErrSyntax, excerpt(tags.Compact("d")))
	}
	if _, err := dkim.KeyName(tags.Compact("s"), domain); err != nil {
		return dns.Name{}, fmt.Errorf("%w: s=%s makes no name of a key", ErrSyntax, excerpt(tags.Compact("s")))
	}
	return domain, nil
}

func parseBase64(tags dkim.Tags, name string) ([]byte, error) {
	value, err := base64.StdEncoding.DecodeString(tags.Compact(name))
	if err != nil {
		return nil, fmt.Errorf("%w: %s= is not base64: %w", ErrSyntax, name, err)
	}
	return value, nil
}

// parseTime reads seconds since 1970; the zero time where there are none.
func parseTime(tags dkim.Tags, name string) (time.Time, error) {
	value, ok := tags.Get(name)
	if !ok {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %s=%s is no time", ErrSyntax, name, excerpt(value))
	}
	return time.Unix(int64(min(seconds, 1<<40)), 0), nil // 1<<40 is far from now (RFC 6376 §3.5)
}
