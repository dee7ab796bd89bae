package mtasts

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxward/internal/dns"
)

// Severity is how bad a finding is.
type Severity string

// The severities, the worst first.
const (
	SeverityError   Severity = "error"   // senders cannot use it, or keep mail back
	SeverityWarning Severity = "warning" // it does not do what it should
	SeverityNotice  Severity = "notice"  // worth knowing
	SeverityInfo    Severity = "info"
)

// Finding is one thing to know about a record or a policy. IDs are stable.
type Finding struct {
	ID       string
	Severity Severity
	Domain   string // whose; "" where a text alone was looked at
	Pos      int    // where in the text, in octets from 0
	Found    string // what stands there; may be ""
	Text     string // what is wrong, for people
	Fix      string // what to write instead, or to do; may be ""
}

// String gives a finding in one line.
func (f Finding) String() string {
	s := fmt.Sprintf("%s: %s: ", f.Severity, f.ID)
	if f.Domain != "" {
		s += f.Domain + ": "
	}
	if f.Found != "" {
		s += fmt.Sprintf("position %d, %q: ", f.Pos+1, f.Found)
	}
	s += f.Text
	if f.Fix != "" {
		s += "; " + f.Fix
	}
	return s
}

// Ages of a policy that somebody should explain.
const (
	shortAge  = 24 * time.Hour     // ours: a sender that mails each day forgets it
	commonAge = 7 * 24 * time.Hour // RFC 8461 §3.2 expects weeks or greater
)

// finding tells an error of this package. One that nobody can tell now is a warning.
func finding(err error) Finding {
	var e *Error
	if !errors.As(err, &e) {
		return Finding{ID: "mtasts.https-error", Severity: SeverityWarning, Text: err.Error()}
	}
	f := Finding{ID: e.ID, Severity: SeverityError, Pos: e.Pos, Found: e.Found, Text: e.Fault, Fix: e.Fix}
	if e.Err != nil {
		f.Text += ": " + e.Err.Error()
	}
	if e.Class == ErrTemporary {
		f.Severity = SeverityWarning
	}
	return f
}

// LintTexts looks at all TXT records at _mta-sts of a domain.
func LintTexts(texts []string) []Finding {
	_, err := Choose(texts)
	if err == nil {
		return nil
	}
	if !errors.Is(err, ErrNone) {
		return []Finding{finding(err)}
	}
	for _, text := range texts {
		if looksLike(text) {
			return []Finding{{ID: "mtasts.txt-syntax", Severity: SeverityError, Found: clip(text),
				Text: `a record begins with "v=STSv1;", with nothing before it and no other quotation marks; this is none, so the domain has no policy`, Fix: recordForm}}
		}
	}
	return []Finding{{ID: "mtasts.txt-missing", Severity: SeverityInfo, Text: "there is no MTA-STS record"}}
}

// looksLike reports whether a text was meant to be a record.
func looksLike(text string) bool {
	bare := strings.Map(func(c rune) rune {
		if notAlnum(c) {
			return -1
		}
		return c
	}, strings.ToLower(text[:min(len(text), 64)]))
	return strings.HasPrefix(bare, "vsts") || strings.HasPrefix(bare, "stsv1") || strings.HasPrefix(bare, "vmtasts")
}

// LintPolicy looks at the text of a policy and at the type that it was served as; contentType
// is "" where that is not known.
func LintPolicy(body, contentType string) []Finding {
	var all []Finding
	if contentType != "" && !plainText(contentType) {
		all = append(all, Finding{ID: "mtasts.content-type", Severity: SeverityWarning, Found: clip(contentType), Text: "a policy is text/plain (RFC 8461 §3.2)", Fix: "serve it as text/plain"})
	}
	policy, err := ParsePolicy(body)
	if err != nil {
		return append(all, finding(err))
	}
	fields, _ := readFields(body)
	seen := map[string]bool{}
	for _, f := range fields {
		if seen[f.key] && f.key != "mx" {
			all = append(all, Finding{ID: "mtasts.policy-syntax", Severity: SeverityWarning, Pos: f.pos, Found: clip(f.key), Text: "this stands twice, and only the first counts (RFC 8461 §3.2)", Fix: "leave one"})
		}
		if f.key != "mx" && fieldForms[f.key] == "" {
			all = append(all, Finding{ID: "mtasts.policy-syntax", Severity: SeverityNotice, Pos: f.pos, Found: clip(f.key), Text: "senders do not know this field and pass it over"})
		}
		seen[f.key] = true
	}
	return append(all, lintValues(policy)...)
}

func lintValues(p Policy) []Finding {
	var all []Finding
	add := func(id string, s Severity, text, fix string) {
		all = append(all, Finding{ID: id, Severity: s, Text: text, Fix: fix})
	}
	switch p.Mode {
	case None:
		add("mtasts.mode-none", SeverityInfo, "the policy is taken back: senders do nothing by it", "")
	case Testing:
		add("mtasts.mode-testing", SeverityNotice, "senders report trouble and deliver all the same", "when the reports of TLS-RPT are clean, write \"mode: enforce\"")
	}
	switch {
	case p.Mode == None:
	case p.MaxAge < shortAge:
		add("mtasts.max-age-low", SeverityWarning, fmt.Sprintf("max_age is %d s, less than a day: senders forget the policy before their next mail", p.MaxAge/time.Second), `write "max_age: 604800" or more`)
	case p.MaxAge < commonAge:
		add("mtasts.max-age-low", SeverityNotice, fmt.Sprintf("max_age is %d s, less than a week", p.MaxAge/time.Second), `weeks are usual: "max_age: 2419200"`)
	}
	return all
}

// LintCoverage compares a policy with the domain's MX hosts.
func LintCoverage(p Policy, hosts []dns.Name) []Finding {
	if p.Mode == None {
		return nil
	}
	severity, what := SeverityError, "keep its mail back"
	if p.Mode == Testing {
		severity, what = SeverityWarning, "will keep its mail back once the mode is enforce"
	}
	var all []Finding
	for _, h := range hosts {
		if !p.Matches(h) {
			all = append(all, Finding{ID: "mtasts.mx-not-covered", Severity: severity, Found: h.String(),
				Text: "no mx of the policy covers this MX host: senders " + what, Fix: fmt.Sprintf("add \"mx: %s\" and change the record's id", h)})
		}
	}
	for _, m := range p.MX {
		if !slices.ContainsFunc(hosts, m.Matches) {
			all = append(all, Finding{ID: "mtasts.pattern-unused", Severity: SeverityNotice, Found: m.String(), Text: "no MX host is covered by this"})
		}
	}
	return all
}
