package dmarc

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"mxward/internal/dns"
	"mxward/internal/mail"
)

// Policy is what a domain's owner wants done with messages that fail (RFC 9989 §4.7).
type Policy string

// The policies.
const (
	None       Policy = "none"
	Quarantine Policy = "quarantine"
	Reject     Policy = "reject"
)

// strength orders policies.
func (p Policy) strength() int { return slices.Index([]Policy{None, Quarantine, Reject}, p) }

// tested is the policy one level lower, which t=y asks for (RFC 9989 §4.7).
func (p Policy) tested() Policy {
	if p == Reject {
		return Quarantine
	}
	return None
}

// PSD says whether a domain is one below which others register theirs (RFC 9989 §4.7).
type PSD string

// The values of psd=.
const (
	PSDUnknown PSD = ""  // u, or no tag: the tree walk finds out
	PSDYes     PSD = "y" // a public suffix domain
	PSDNo      PSD = "n" // the organizational domain of all that is below it
)

// FailureOption is one of the values of fo= (RFC 9989 §4.7).
type FailureOption string

// When the owner wants a failure report.
const (
	FailureAll  FailureOption = "0" // nothing gave an aligned pass
	FailureAny  FailureOption = "1" // something gave no aligned pass
	FailureDKIM FailureOption = "d" // a signature failed
	FailureSPF  FailureOption = "s" // SPF failed
)

// Record is a DMARC policy record (RFC 9989 §4.7).
type Record struct {
	P  Policy // never "" in what Parse gives
	SP Policy // for subdomains; "" where P holds for them
	NP Policy // for subdomains that do not exist; "" where SP holds, or else P

	PSD        PSD
	Testing    bool            // t=y: the policy is applied one level lower
	StrictDKIM bool            // adkim=s
	StrictSPF  bool            // aspf=s
	FO         []FailureOption // nil is FailureAll alone; nothing without RUF
	RUA, RUF   []URI           // where aggregate and failure reports go; those that can be read
}

// String gives the record as it goes into the DNS, on one line. Parse reads it back.
func (r Record) String() string {
	b := []byte("v=DMARC1")
	add := func(name, value string) {
		if value != "" {
			b = append(b, "; "+name+"="+value...)
		}
	}
	add("p", string(r.P))
	add("sp", string(r.SP))
	add("np", string(r.NP))
	add("psd", string(r.PSD))
	add("t", map[bool]string{true: "y"}[r.Testing])
	add("adkim", map[bool]string{true: "s"}[r.StrictDKIM])
	add("aspf", map[bool]string{true: "s"}[r.StrictSPF])
	add("fo", join(r.FO, ":"))
	add("rua", join(r.RUA, ","))
	add("ruf", join(r.RUF, ","))
	return string(b)
}

func join[T ~string](values []T, by string) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = string(v)
	}
	return strings.Join(words, by)
}

// URI is one destination of reports, with its scheme in lower case and without the size
// ("!10m") that RFC 7489 knew and RFC 9989 §4.8 has receivers ignore.
type URI string

const mailto = "mailto:"

// Mailbox gives the address of a mailto URI.
func (u URI) Mailbox() (mail.Address, bool) {
	text, ok := strings.CutPrefix(string(u), mailto)
	if !ok {
		return mail.Address{}, false
	}
	text, _, _ = strings.Cut(text, "?")
	text, err := url.PathUnescape(text)
	if err != nil {
		return mail.Address{}, false
	}
	a, err := mail.ParseAddress(text)
	return a, err == nil && !a.Domain.IsZero()
}

// Host gives the destination host (RFC 9990 §4): the domain of the mailbox, or the host of
// another URI.
func (u URI) Host() (dns.Name, bool) {
	if strings.HasPrefix(string(u), mailto) {
		a, ok := u.Mailbox()
		return a.Domain, ok
	}
	parsed, err := url.Parse(string(u))
	if err != nil {
		return dns.Name{}, false
	}
	name, err := dns.ParseName(parsed.Hostname())
	return name, err == nil && name != dns.Root
}

// parseURI reads one URI of a list. sized says that it had a size behind it.
func parseURI(text string) (u URI, sized, ok bool) {
	text, size, sized := strings.Cut(text, "!")
	if sized && !isSize(size) {
		return "", false, false
	}
	scheme, rest, found := strings.Cut(text, ":")
	if !found || rest == "" || !isScheme(scheme) || strings.ContainsAny(text, " \t\"<>\\^`{|}") {
		return "", sized, false
	}
	u = URI(strings.ToLower(scheme) + ":" + rest)
	if _, err := url.Parse(string(u)); err != nil {
		return "", sized, false
	}
	if _, ok := u.Mailbox(); !ok && strings.HasPrefix(string(u), mailto) {
		return "", sized, false
	}
	return u, sized, true
}

// isSize: obs-dmarc-report-size of RFC 9989 §4.8.
func isSize(s string) bool {
	digits := strings.TrimRight(strings.ToLower(s), "kmgt")
	return digits != "" && len(s)-len(digits) <= 1 && strings.Trim(digits, "0123456789") == ""
}

// isScheme: RFC 3986 §3.1.
func isScheme(s string) bool {
	for i, c := range s {
		if !isAlpha(c) && (i == 0 || !strings.ContainsRune("0123456789+-.", c)) {
			return false
		}
	}
	return s != ""
}

func isAlpha(c rune) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// IsRecord reports whether a text is a DMARC record at all, and not one of the others that
// may stand beside it: v=DMARC1 comes first, exactly so but for white space around the
// equals sign and the case of the v (RFC 9989 §4.8).
func IsRecord(text string) bool {
	version, _, _ := strings.Cut(text, ";")
	name, value, ok := strings.Cut(version, "=")
	return ok && len(text) <= maxText && strings.EqualFold(strings.TrimRight(name, wsp), "v") && strings.Trim(value, wsp) == "DMARC1"
}

const wsp = " \t"

// Parse reads a record. Mistakes in it count as RFC 9989 §4.8 says: what cannot be read has
// its default value, and unknown tags are nothing; Lint tells of them. Without a p that can
// be used, or with an sp or np that cannot, the policy is none for all, provided that
// somebody gets reports (RFC 9989 §4.10.1).
//
// The error wraps ErrNotDMARC for a text that is no DMARC record, and ErrPermanent for one
// that no receiver can use.
func Parse(text string) (Record, error) {
	r, _, err := read(text)
	if err != nil {
		return Record{}, err
	}
	return r, nil
}

// tag is one part of a record between semicolons.
type tag struct {
	text  string // the whole of it, without the white space around it
	pos   int    // where it stands in the record, in octets
	name  string // in lower case; "" where there is no equals sign
	value string

	fault string // why it does not count; "" where it does
	twice bool   // another one with its name stands before it
}

// split cuts a record into its tags; empty ones are left out.
func split(text string) []tag {
	var tags []tag
	pos := 0
	for part := range strings.SplitSeq(text, ";") {
		t := tag{text: strings.Trim(part, wsp)}
		t.pos = pos + strings.Index(part, t.text)
		if name, value, ok := strings.Cut(t.text, "="); ok {
			t.name, t.value = strings.ToLower(strings.TrimRight(name, wsp)), strings.TrimLeft(value, wsp)
		}
		if t.text != "" {
			tags = append(tags, t)
		}
		pos += len(part) + 1
	}
	return tags
}

// read is Parse that gives also the tags with their faults, and what could be read of a
// record that nobody can use.
func read(text string) (Record, []tag, error) {
	if !IsRecord(text) {
		return Record{}, nil, ErrNotDMARC
	}
	var r Record
	tags := split(text)
	seen := map[string]bool{"v": true}
	for i := range tags[1:] {
		t := &tags[1+i]
		switch {
		case t.name == "" || strings.ContainsFunc(t.name, func(c rune) bool { return !isAlpha(c) }):
			t.fault = "this is no tag: a name, an equals sign and a value"
		case seen[t.name]:
			t.twice, t.fault = true, "this tag stands here a second time: the first one counts"
		default:
			t.fault = r.set(t.name, t.value)
		}
		seen[t.name] = true
	}
	return r, tags, r.settle(tags)
}

// settle does what RFC 9989 §4.10.1 wants where p is missing, or p, sp or np are wrong.
func (r *Record) settle(tags []tag) error {
	why := ""
	if r.P == "" {
		why = "it has no p"
	}
	for _, t := range tags {
		if isPolicyTag(t.name) && t.fault != "" && !t.twice {
			why = fmt.Sprintf("%s=%s is no policy", t.name, clip(t.value))
			break
		}
	}
	if why == "" {
		return nil
	}
	r.P, r.SP, r.NP = None, "", ""
	if len(r.RUA) == 0 {
		return fmt.Errorf("%w: %s, and no rua that can be used, so that receivers ignore it (RFC 9989 §4.10.1)", ErrPermanent, why)
	}
	return nil
}

func isPolicyTag(name string) bool { return name == "p" || name == "sp" || name == "np" }

// set takes one tag, and says why if it cannot.
func (r *Record) set(name, value string) (fault string) {
	if strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c > '~' }) {
		return "the value has a character that is no printable ASCII"
	}
	lower := strings.ToLower(value) // RFC 5234 §2.3: but for DMARC1, case does not matter
	switch name {
	case "p":
		return setPolicy(&r.P, lower)
	case "sp":
		return setPolicy(&r.SP, lower)
	case "np":
		return setPolicy(&r.NP, lower)
	case "psd":
		return setWord(&r.PSD, lower, map[string]PSD{"y": PSDYes, "n": PSDNo, "u": PSDUnknown}, "y, n or u")
	case "t":
		return setWord(&r.Testing, lower, map[string]bool{"y": true, "n": false}, "y or n")
	case "adkim":
		return setWord(&r.StrictDKIM, lower, map[string]bool{"s": true, "r": false}, "r or s")
	case "aspf":
		return setWord(&r.StrictSPF, lower, map[string]bool{"s": true, "r": false}, "r or s")
	case "fo":
		return r.setFO(lower)
	case "rua":
		return setURIs(&r.RUA, value)
	case "ruf":
		return setURIs(&r.RUF, value)
	}
	return ""
}

func setPolicy(to *Policy, value string) string {
	if Policy(value).strength() < 0 {
		return "the policies are none, quarantine and reject"
	}
	*to = Policy(value)
	return ""
}

func setWord[T any](to *T, value string, words map[string]T, allowed string) string {
	v, ok := words[value]
	if !ok {
		return "the value is " + allowed
	}
	*to = v
	return ""
}

// setFO reads dmarc-fo of RFC 9989 §4.8: 0 or 1, d and s, each once.
func (r *Record) setFO(value string) string {
	var options []FailureOption
	for word := range strings.SplitSeq(value, ":") {
		o := FailureOption(strings.Trim(word, wsp))
		switch {
		case !slices.Contains([]FailureOption{FailureAll, FailureAny, FailureDKIM, FailureSPF}, o):
			return "the value is a list of 0, 1, d and s with colons between"
		case slices.Contains(options, o):
			return "each of 0, 1, d and s stands there once"
		}
		options = append(options, o)
	}
	if slices.Contains(options, FailureAll) && slices.Contains(options, FailureAny) {
		return "0 and 1 exclude each other"
	}
	r.FO = options
	return ""
}

// setURIs takes those of a list that can be read, and complains of the first other one.
func setURIs(to *[]URI, value string) (fault string) {
	for text := range strings.SplitSeq(value, ",") {
		if len(*to) == maxURIs {
			return fmt.Sprintf("there are more than %d destinations, and only these are looked at", maxURIs)
		}
		text = strings.Trim(text, wsp)
		u, _, ok := parseURI(text)
		switch {
		case ok:
			*to = append(*to, u)
		case fault == "":
			fault = fmt.Sprintf("%q is no URI such as mailto:dmarc@example.com", clip(text))
		}
	}
	return fault
}

// clip keeps quotations short.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
