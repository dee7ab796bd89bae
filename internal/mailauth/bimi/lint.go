package bimi

import (
	"fmt"
	"net/url"
	"strings"

	"mxward/internal/mailauth/lint"
)

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
func Lint(texts []string, policies ...DMARC) []lint.Finding {
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
				return []lint.Finding{{ID: "bimi.syntax", Severity: lint.Warning, Found: fmt.Sprintf("%.80s", text), Text: "this is no BIMI record: one begins with v=BIMI1, with nothing before it", Fix: `write "v=BIMI1; l=https://example.com/logo.svg;"`}}
			}
		}
		return []lint.Finding{{ID: "bimi.missing", Severity: lint.Info, Text: "there is no BIMI record"}}
	case len(records) > 1:
		return []lint.Finding{{ID: "bimi.multiple", Severity: lint.Warning, Text: fmt.Sprintf("there are %d BIMI records, and receivers then use none", len(records)), Fix: "leave one"}}
	}
	r, err := Parse(records[0])
	if err != nil {
		return []lint.Finding{{ID: "bimi.syntax", Severity: lint.Warning, Text: strings.TrimPrefix(err.Error(), ErrPermanent.Error()+": ")}}
	}
	if r.Declined() {
		return []lint.Finding{{ID: "bimi.declined", Severity: lint.Info, Text: "the domain says that it wants no image"}}
	}
	return append(lintRecord(r), lintPolicies(policies)...)
}

func lintRecord(r Record) []lint.Finding {
	var all []lint.Finding
	if u, err := url.Parse(r.Location); err == nil && r.Location != "" && !strings.HasSuffix(strings.ToLower(u.Path), ".svg") && !strings.HasSuffix(strings.ToLower(u.Path), ".svgz") {
		all = append(all, lint.Finding{ID: "bimi.svg-location", Severity: lint.Warning, Found: r.Location, Text: "the image is an SVG, and its URL ends in .svg or .svgz"})
	}
	if r.Authority == "" {
		all = append(all, lint.Finding{ID: "bimi.cert-missing", Severity: lint.Notice, Text: "there is no certificate (a=), and most receivers show no image without one"})
	}
	return all
}

func lintPolicies(policies []DMARC) []lint.Finding {
	for _, p := range policies {
		if !p.Enforced() {
			return []lint.Finding{{ID: "bimi.dmarc-not-enforced", Severity: lint.Warning, Text: "the DMARC policy is not enforced, and receivers then show no image",
				Fix: "publish p=quarantine or p=reject, for subdomains too, and without t=y or pct"}}
		}
	}
	return nil
}
