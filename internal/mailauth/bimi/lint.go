package bimi

import (
	"fmt"
	"net/url"
	"strings"
)

// Severity is how bad a finding is.
type Severity string

// The severities, the worst first.
const (
	SeverityWarning Severity = "warning" // no image is shown
	SeverityNotice  Severity = "notice"  // worth knowing
	SeverityInfo    Severity = "info"
)

// Finding is one thing to know about a record. IDs are stable.
type Finding struct {
	ID       string
	Severity Severity
	Domain   string // whose record; "" where a text alone was looked at
	Pos      int    // always 0
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
		s += fmt.Sprintf("%q: ", f.Found)
	}
	s += f.Text
	if f.Fix != "" {
		s += "; " + f.Fix
	}
	return s
}

// DMARC is what BIMI asks of the policies of the author's domain and of the organizational
// domain: each must be enforced. An empty policy is one that is not there.
type DMARC struct {
	Policy, Subdomains string // p= and sp=: "none", "quarantine", "reject"
	Percent            int    // the old pct=; 100 where it is not written
	Testing            bool   // t=y
}

// Enforced reports whether receivers may show an image.
func (d DMARC) Enforced() bool {
	strong := d.Policy == "reject" || d.Policy == "quarantine" && d.Percent == 100
	return strong && d.Subdomains != "none" && !d.Testing
}

// Lint looks at all TXT records at SELECTOR._bimi of a domain, and at the DMARC policies that
// count for it. It asks no DNS.
func Lint(texts []string, policies ...DMARC) []Finding {
	var records []string
	for _, text := range texts {
		if IsRecord(text) {
			records = append(records, text)
		}
	}
	switch {
	case len(records) == 0:
		for _, text := range texts {
			if strings.Contains(strings.ToLower(text), "bimi1") {
				return []Finding{{ID: "bimi.syntax", Severity: SeverityWarning, Found: fmt.Sprintf("%.80s", text), Text: "this is no BIMI record: one begins with v=BIMI1, with nothing before it", Fix: `write "v=BIMI1; l=https://example.com/logo.svg;"`}}
			}
		}
		return []Finding{{ID: "bimi.missing", Severity: SeverityInfo, Text: "there is no BIMI record"}}
	case len(records) > 1:
		return []Finding{{ID: "bimi.multiple", Severity: SeverityWarning, Text: fmt.Sprintf("there are %d BIMI records, and receivers then use none", len(records)), Fix: "leave one"}}
	}
	r, err := Parse(records[0])
	if err != nil {
		return []Finding{{ID: "bimi.syntax", Severity: SeverityWarning, Text: strings.TrimPrefix(err.Error(), ErrPermanent.Error()+": ")}}
	}
	if r.Declined() {
		return []Finding{{ID: "bimi.declined", Severity: SeverityInfo, Text: "the domain says that it wants no image"}}
	}
	return append(lintRecord(r), lintPolicies(policies)...)
}

func lintRecord(r Record) []Finding {
	var all []Finding
	if u, err := url.Parse(r.Location); err == nil && r.Location != "" && !strings.HasSuffix(strings.ToLower(u.Path), ".svg") && !strings.HasSuffix(strings.ToLower(u.Path), ".svgz") {
		all = append(all, Finding{ID: "bimi.svg-location", Severity: SeverityWarning, Found: r.Location, Text: "the image is an SVG, and its URL ends in .svg or .svgz"})
	}
	if r.Authority == "" {
		all = append(all, Finding{ID: "bimi.cert-missing", Severity: SeverityNotice, Text: "there is no certificate (a=), and most receivers show no image without one"})
	}
	return all
}

func lintPolicies(policies []DMARC) []Finding {
	for _, p := range policies {
		if !p.Enforced() {
			return []Finding{{ID: "bimi.dmarc-not-enforced", Severity: SeverityWarning, Text: "the DMARC policy is not enforced, and receivers then show no image",
				Fix: "publish p=quarantine or p=reject, for subdomains too, and without t=y or pct"}}
		}
	}
	return nil
}
