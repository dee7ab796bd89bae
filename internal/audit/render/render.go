// Package render writes what was found out about domains: as text for people, as a document of
// JSON (docs/schema/mxward.check-1.json), as one file of HTML, as SARIF 2.1.0 (OASIS) and as the
// XML that JUnit's readers take, and in the text format of Prometheus. It asks nobody and judges
// nothing. What strangers wrote goes through clean.go first, and is bounded.
//
// Not implemented: places in files (SARIF's regions; a domain stands for its zone), more than one
// failure in a test case of JUnit.
package render

import (
	"net/netip"
	"slices"
	"time"

	"mxward/internal/audit"
	"mxward/internal/dns"
	"mxward/internal/mailauth/spf"
)

// Report is what was found out about one domain, as far as it is shown.
type Report struct {
	Domain   dns.Name
	When     time.Time
	Findings []audit.Finding
	Addrs    []netip.Addr // where findings may be
	Ladder   Ladder
	SPF      *spf.Tree // nil where it was not looked at
	Clocks   []Clock
	Profile  string
	Since    bool         // it was compared with an earlier run
	Moves    []audit.Move // what became of the problems since
}

// NewReport takes from the facts what is shown beside the findings.
func NewReport(f *audit.Facts, findings []audit.Finding) Report {
	ladder := newLadder(f)
	return Report{Domain: f.Domain, When: f.When, Findings: findings, Addrs: f.Addrs(), Ladder: ladder, SPF: f.SPF, Clocks: newClocks(f, ladder)}
}

// Audit is how the reports came about.
type Audit struct {
	Checks  []audit.Check  // the rows that were put
	FailOn  audit.Severity // what is milder is no failure
	Version string         // of mxward
}

// fails gives the findings that failed with a severity, in their order.
func (r Report) fails(s audit.Severity) []audit.Finding {
	var all []audit.Finding
	for _, f := range r.Findings {
		if f.Status == audit.Fail && f.Severity == s && f.Ignored == "" {
			all = append(all, f)
		}
	}
	return all
}

// count says how many findings have a status.
func (r Report) count(s audit.Status) int {
	n := 0
	for _, f := range r.Findings {
		if f.Status == s && f.Ignored == "" {
			n++
		}
	}
	return n
}

// ignored gives the findings that a baseline has not count.
func (r Report) ignored() []audit.Finding {
	return slices.DeleteFunc(slices.Clone(r.Findings), func(f audit.Finding) bool { return f.Ignored == "" })
}

// reason is why something could not be determined, and what.
type reason struct {
	Blame    audit.Blame
	Detail   string
	Findings []audit.Finding
}

// unknown puts together what could not be determined for the same reason. Where it lies with
// us, one reason is enough.
func (r Report) unknown() []reason {
	var reasons []reason
	for _, f := range r.Findings {
		if f.Status != audit.Unknown || f.Ignored != "" {
			continue
		}
		i := slices.IndexFunc(reasons, func(r reason) bool {
			return r.Blame == f.Blame && (r.Detail == f.Detail || f.Blame.Ours())
		})
		if i < 0 {
			i = len(reasons)
			reasons = append(reasons, reason{Blame: f.Blame, Detail: f.Detail})
		}
		reasons[i].Findings = append(reasons[i].Findings, f)
	}
	return reasons
}

// addrText gives an address, or "" for none.
func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// maxMessage is in characters; ours.
const maxMessage = 1200

// message is a finding in one paragraph, with a line for each record to change.
func message(r Report, f audit.Finding) string {
	text := f.Title
	if f.Target != r.Domain.String() {
		text = f.Target + ": " + text
	}
	if f.Detail != "" && f.Detail != f.Title {
		text += ": " + f.Detail
	}
	text = clip(text, maxMessage)
	if f.Fix.Text != "" {
		text += ". To mend it: " + clip(f.Fix.Text, maxShown)
	}
	for _, c := range f.Fix.Records {
		text += "\n" + c.Do + ": " + clip(c.Record, maxMessage)
	}
	return text
}
