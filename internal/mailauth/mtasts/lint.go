package mtasts

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mailauth/lint"
)

// Ages of a policy that somebody should explain.
const (
	shortAge  = 24 * time.Hour     // ours: a sender that mails each day forgets it
	commonAge = 7 * 24 * time.Hour // RFC 8461 §3.2 expects weeks or greater
)

// finding tells an error of this package. One that nobody can tell now is a warning.
func finding(err error) lint.Finding {
	var e *Error
	if !errors.As(err, &e) {
		return lint.Finding{ID: "mtasts.https-error", Severity: lint.Warning, Text: err.Error()}
	}
	f := lint.Finding{ID: e.ID, Severity: lint.Error, Pos: e.Pos, Found: e.Found, Text: e.Fault, Fix: e.Fix}
	if e.Err != nil {
		f.Text += ": " + e.Err.Error()
	}
	if e.Class == ErrTemporary {
		f.Severity = lint.Warning
	}
	return f
}

// LintTexts looks at all TXT records at _mta-sts of a domain.
func LintTexts(texts []string) []lint.Finding {
	_, err := Choose(texts)
	if err == nil {
		return nil
	}
	if !errors.Is(err, ErrNone) {
		return []lint.Finding{finding(err)}
	}
	for _, text := range texts {
		if looksLike(text) {
			return []lint.Finding{{ID: "mtasts.txt-syntax", Severity: lint.Error, Found: clip(text),
				Text: `a record begins with "v=STSv1;", with nothing before it and no other quotation marks; this is none, so the domain has no policy`, Fix: recordForm}}
		}
	}
	return []lint.Finding{{ID: "mtasts.txt-missing", Severity: lint.Info, Text: "there is no MTA-STS record"}}
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
func LintPolicy(body, contentType string) []lint.Finding {
	var all []lint.Finding
	if contentType != "" && !plainText(contentType) {
		all = append(all, lint.Finding{ID: "mtasts.content-type", Severity: lint.Warning, Found: clip(contentType), Text: "a policy is text/plain (RFC 8461 §3.2)", Fix: "serve it as text/plain"})
	}
	policy, err := ParsePolicy(body)
	if err != nil {
		return append(all, finding(err))
	}
	fields, _ := readFields(body)
	seen := map[string]bool{}
	for _, f := range fields {
		if seen[f.key] && f.key != "mx" {
			all = append(all, lint.Finding{ID: "mtasts.policy-syntax", Severity: lint.Warning, Pos: f.pos, Found: clip(f.key), Text: "this stands twice, and only the first counts (RFC 8461 §3.2)", Fix: "leave one"})
		}
		if f.key != "mx" && fieldForms[f.key] == "" {
			all = append(all, lint.Finding{ID: "mtasts.policy-syntax", Severity: lint.Notice, Pos: f.pos, Found: clip(f.key), Text: "senders do not know this field and pass it over"})
		}
		seen[f.key] = true
	}
	return append(all, lintValues(policy)...)
}

func lintValues(p Policy) []lint.Finding {
	var all []lint.Finding
	add := func(id string, s lint.Severity, text, fix string) {
		all = append(all, lint.Finding{ID: id, Severity: s, Text: text, Fix: fix})
	}
	switch p.Mode {
	case None:
		add("mtasts.mode-none", lint.Info, "the policy is taken back: senders do nothing by it", "")
	case Testing:
		add("mtasts.mode-testing", lint.Notice, "senders report trouble and deliver all the same", "when the reports of TLS-RPT are clean, write \"mode: enforce\"")
	}
	switch {
	case p.Mode == None:
	case p.MaxAge < shortAge:
		add("mtasts.max-age-low", lint.Warning, fmt.Sprintf("max_age is %d s, less than a day: senders forget the policy before their next mail", p.MaxAge/time.Second), `write "max_age: 604800" or more`)
	case p.MaxAge < commonAge:
		add("mtasts.max-age-low", lint.Notice, fmt.Sprintf("max_age is %d s, less than a week", p.MaxAge/time.Second), `weeks are usual: "max_age: 2419200"`)
	}
	return all
}

// LintCoverage compares a policy with the domain's MX hosts.
func LintCoverage(p Policy, hosts []dns.Name) []lint.Finding {
	if p.Mode == None {
		return nil
	}
	severity, what := lint.Error, "keep its mail back"
	if p.Mode == Testing {
		severity, what = lint.Warning, "will keep its mail back once the mode is enforce"
	}
	var all []lint.Finding
	for _, h := range hosts {
		if !p.Matches(h) {
			all = append(all, lint.Finding{ID: "mtasts.mx-not-covered", Severity: severity, Found: h.String(),
				Text: "no mx of the policy covers this MX host: senders " + what, Fix: fmt.Sprintf("add \"mx: %s\" and change the record's id", h)})
		}
	}
	for _, m := range p.MX {
		if !slices.ContainsFunc(hosts, m.Matches) {
			all = append(all, lint.Finding{ID: "mtasts.pattern-unused", Severity: lint.Notice, Found: m.String(), Text: "no MX host is covered by this"})
		}
	}
	return all
}
