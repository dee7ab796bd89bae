// Package mtasts is SMTP MTA Strict Transport Security (RFC 8461): the record that says
// that a domain has a policy, the policy, how it is fetched and kept by a sender, and how
// our own is served.
//
// Not here: the reports of RFC 8460; the check of an MX host's certificate, which is that
// of crypto/x509; revocation, which RFC 8461 §3.3 leaves open.
package mtasts

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"mxward/internal/dns"
)

// Limits of a record and of a policy.
const (
	maxID     = 32                     // RFC 8461 §3.1, in characters
	maxPolicy = 64 << 10               // RFC 8461 §3.3, in octets
	maxMaxAge = 31557600 * time.Second // RFC 8461 §3.2: about a year
	maxRecord = 4096                   // ours: octets of a TXT record that is read
)

// The classes of every error of this package.
var (
	// ErrNone: the domain has no MTA-STS.
	ErrNone = errors.New("no MTA-STS")
	// ErrPermanent: there is something, and it cannot be used until somebody mends it.
	ErrPermanent = errors.New("unusable MTA-STS")
	// ErrTemporary: nobody can tell now.
	ErrTemporary = errors.New("MTA-STS could not be looked up")
)

// Error says what is wrong. ID is that of the finding: "mtasts.redirect".
type Error struct {
	Class error // ErrNone, ErrPermanent or ErrTemporary
	ID    string
	Pos   int    // where in the text, in octets from 0
	Found string // what stands there, or came; may be ""
	Fault string // for people
	Fix   string // what to do; may be ""
	Err   error  // the cause, if another error was
}

func (e *Error) Error() string {
	s := e.Class.Error() + ": " + e.Fault
	if e.Found != "" {
		s += ": " + strconv.Quote(e.Found)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Fix != "" {
		s += "; " + e.Fix
	}
	return s
}

// Is tells the class; of the cause, Unwrap knows.
func (e *Error) Is(target error) bool { return target == e.Class }

// Unwrap gives the class and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Class}
	}
	return []error{e.Class, e.Err}
}

// Record is the TXT record at _mta-sts of a domain (RFC 8461 §3.1). Fields that are not
// known are left out.
type Record struct {
	ID string // 1 to 32 letters and digits; another one means another policy
}

// String gives the record's text.
func (r Record) String() string { return "v=STSv1; id=" + r.ID + ";" }

// IsRecord reports whether a TXT record counts: others are discarded (RFC 8461 §3.1).
func IsRecord(text string) bool {
	rest, ok := strings.CutPrefix(text, "v=STSv1")
	return ok && strings.HasPrefix(strings.TrimLeft(rest, " \t"), ";")
}

// Parse reads the text of one TXT record. The error is an *Error: ErrNone for a text that is
// no such record.
func Parse(text string) (Record, error) {
	if !IsRecord(text) {
		return Record{}, &Error{Class: ErrNone, ID: "mtasts.txt-syntax", Found: clip(text), Fault: `the record does not begin with "v=STSv1;"`}
	}
	if len(text) > maxRecord {
		return Record{}, &Error{Class: ErrPermanent, ID: "mtasts.txt-syntax", Fault: fmt.Sprintf("the record is longer than %d octets", maxRecord)}
	}
	var r Record
	pos := strings.IndexByte(text, ';') + 1
	for part := range strings.SplitSeq(text[pos:], ";") {
		at := pos
		pos += len(part) + 1
		part = strings.Trim(part, " \t")
		if part == "" && pos > len(text) {
			break // after the last delimiter
		}
		key, value, ok := strings.Cut(part, "=")
		key, value = strings.TrimRight(key, " \t"), strings.TrimLeft(value, " \t")
		if !ok || !isKey(key) || !isValue(value) {
			return Record{}, &Error{Class: ErrPermanent, ID: "mtasts.txt-syntax", Pos: at, Found: clip(part), Fault: "this is no field: a name, = and a value without spaces", Fix: recordForm}
		}
		if key != "id" || r.ID != "" {
			continue // RFC 8461 §3.1: unknown fields are ignored; the first of two counts
		}
		if len(value) > maxID || strings.ContainsFunc(value, notAlnum) {
			return Record{}, &Error{Class: ErrPermanent, ID: "mtasts.id-invalid", Pos: at, Found: clip(value), Fault: "an id is 1 to 32 letters and digits (RFC 8461 §3.1)", Fix: recordForm}
		}
		r.ID = value
	}
	if r.ID == "" {
		return Record{}, &Error{Class: ErrPermanent, ID: "mtasts.id-invalid", Fault: "the record has no id (RFC 8461 §3.1)", Fix: recordForm}
	}
	return r, nil
}

const recordForm = `write it like "v=STSv1; id=20260131T120000;"`

// Choose gives the one record among the TXT records at _mta-sts: of none or several, there
// is no policy (RFC 8461 §3.1).
func Choose(texts []string) (Record, error) {
	texts = slices.DeleteFunc(slices.Clone(texts), func(t string) bool { return !IsRecord(t) })
	switch len(texts) {
	case 0:
		return Record{}, &Error{Class: ErrNone, ID: "mtasts.txt-missing", Fault: "there is no TXT record at _mta-sts"}
	case 1:
		return Parse(texts[0])
	}
	return Record{}, &Error{Class: ErrPermanent, ID: "mtasts.txt-multiple", Fault: fmt.Sprintf("there are %d records at _mta-sts, and senders then use none (RFC 8461 §3.1)", len(texts)), Fix: "leave one"}
}

func notAlnum(c rune) bool {
	return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
}

// isKey is the name of a field in a record and in a policy (RFC 8461 §3.1, §3.2).
func isKey(s string) bool {
	return s != "" && len(s) <= 32 && !notAlnum(rune(s[0])) && !strings.ContainsFunc(s, func(c rune) bool { return notAlnum(c) && c != '_' && c != '-' && c != '.' })
}

func isValue(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || c == '=' || c == ';' })
}

// Mode is what senders do with a host that the policy does not cover, or whose certificate
// is not valid.
type Mode string

// The modes (RFC 8461 §5).
const (
	Enforce Mode = "enforce" // no mail goes there
	Testing Mode = "testing" // mail goes there, and a report to the domain
	None    Mode = "none"    // nothing: the policy is taken back
)

// Pattern is an mx of a policy: a host, or with Wildcard every name that has exactly one
// label more than Name.
type Pattern struct {
	Name     dns.Name
	Wildcard bool
}

// String gives mx1.example.com or *.example.com.
func (p Pattern) String() string {
	if p.Wildcard {
		return "*." + p.Name.String()
	}
	return p.Name.String()
}

// Matches reports whether the pattern covers an MX host (RFC 8461 §4.1).
func (p Pattern) Matches(host dns.Name) bool {
	if !p.Wildcard {
		return host == p.Name
	}
	parent, ok := host.Parent()
	return ok && parent == p.Name
}

// ParsePattern reads an mx of a policy.
func ParsePattern(s string) (Pattern, error) {
	bare, wildcard := strings.CutPrefix(s, "*.")
	name, err := dns.ParseName(bare)
	if err != nil {
		return Pattern{}, err
	}
	if _, is := name.Addr(); is || name == dns.Root || strings.ContainsFunc(name.String(), func(c rune) bool { return notAlnum(c) && c != '-' && c != '.' }) {
		return Pattern{}, fmt.Errorf("%w: %q: no host can have it", dns.ErrName, s)
	}
	return Pattern{name, wildcard}, nil
}

// Policy is what stands at https://mta-sts.DOMAIN/.well-known/mta-sts.txt (RFC 8461 §3.2).
// Fields that are not known are left out.
type Policy struct {
	Mode   Mode
	MX     []Pattern     // in the policy's order; at least one unless Mode is None
	MaxAge time.Duration // whole seconds, 0 to 31557600
}

// Matches reports whether the policy covers an MX host.
func (p Policy) Matches(host dns.Name) bool {
	return slices.ContainsFunc(p.MX, func(m Pattern) bool { return m.Matches(host) })
}

// String gives the policy as it is served, with the line ends that RFC 8461 §3.2 wants.
func (p Policy) String() string {
	var b strings.Builder
	b.WriteString("version: STSv1\r\nmode: " + string(p.Mode) + "\r\n")
	for _, m := range p.MX {
		b.WriteString("mx: " + m.String() + "\r\n")
	}
	fmt.Fprintf(&b, "max_age: %d\r\n", p.MaxAge/time.Second)
	return b.String()
}

// ID gives an id for the record: that of another policy is another one.
func (p Policy) ID() string {
	sum := sha256.Sum256([]byte(p.String()))
	return hex.EncodeToString(sum[:maxID/2])
}

// field is one line of a policy.
type field struct {
	pos        int
	key, value string
}

// ParsePolicy reads a policy. Lines end with CRLF or LF (erratum 6253), and empty ones are
// left out. The error is an *Error of the class ErrPermanent.
func ParsePolicy(body string) (Policy, error) {
	if len(body) > maxPolicy {
		return Policy{}, &Error{Class: ErrPermanent, ID: "mtasts.too-large", Fault: tooLarge}
	}
	fields, err := readFields(body)
	if err != nil {
		return Policy{}, err
	}
	var p Policy
	seen := map[string]bool{}
	for _, f := range fields {
		// RFC 8461 §3.2: of fields other than mx, the first counts.
		if f.key != "mx" && seen[f.key] {
			continue
		}
		seen[f.key] = true
		if err := p.set(f); err != nil {
			return Policy{}, err
		}
	}
	for _, key := range []string{"version", "mode", "max_age", "mx"} {
		if !seen[key] && (key != "mx" || p.Mode != None) {
			return Policy{}, policyFault(0, "", "the policy has no "+key+" (RFC 8461 §3.2)", "add a line "+fieldForms[key])
		}
	}
	return p, nil
}

var tooLarge = fmt.Sprintf("the policy is larger than %d octets", maxPolicy)

var fieldForms = map[string]string{
	"version": `"version: STSv1"`, "mode": `"mode: enforce", "mode: testing" or "mode: none"`,
	"max_age": `"max_age: 604800", in seconds`, "mx": `"mx: mx1.example.com" for each MX host`,
}

func policyFault(pos int, found, fault, fix string) *Error {
	return &Error{Class: ErrPermanent, ID: "mtasts.policy-syntax", Pos: pos, Found: clip(found), Fault: fault, Fix: fix}
}

func readFields(body string) ([]field, error) {
	var fields []field
	pos := 0
	for line := range strings.SplitSeq(body, "\n") {
		at := pos
		pos += len(line) + 1
		line = strings.TrimRight(strings.TrimSuffix(line, "\r"), " \t")
		if line == "" {
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		key, value = strings.TrimRight(key, " \t"), strings.TrimLeft(value, " \t")
		if !ok || !isKey(key) || value == "" || !utf8.ValidString(value) || strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			return nil, policyFault(at, line, "this line is no field: a name, a colon and a value", "write it like "+fieldForms["mode"])
		}
		fields = append(fields, field{at, key, value})
	}
	return fields, nil
}

func (p *Policy) set(f field) error {
	switch f.key {
	case "version":
		if f.value != "STSv1" {
			return policyFault(f.pos, f.value, "this version is not known", "write "+fieldForms["version"])
		}
	case "mode":
		p.Mode = Mode(f.value)
		if !slices.Contains([]Mode{Enforce, Testing, None}, p.Mode) {
			return policyFault(f.pos, f.value, "there is no such mode", "write "+fieldForms["mode"])
		}
	case "max_age":
		n, err := strconv.ParseUint(f.value, 10, 64)
		if err != nil || len(f.value) > 10 {
			return policyFault(f.pos, f.value, "max_age is a number of seconds", "write it like "+fieldForms["max_age"])
		}
		if n > uint64(maxMaxAge/time.Second) {
			return &Error{Class: ErrPermanent, ID: "mtasts.max-age-range", Pos: f.pos, Found: f.value, Fault: "max_age is at most 31557600, a year (RFC 8461 §3.2)"}
		}
		p.MaxAge = time.Duration(n) * time.Second
	case "mx":
		m, err := ParsePattern(f.value)
		if err != nil {
			return policyFault(f.pos, f.value, "this is neither a host's name nor one after *.", "write it like "+fieldForms["mx"])
		}
		p.MX = append(p.MX, m)
	}
	return nil
}

// maxClip bounds what a message repeats, in octets.
const maxClip = 80

func clip(s string) string {
	if len(s) > maxClip {
		return s[:maxClip] + "…"
	}
	return s
}
