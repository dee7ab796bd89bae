package audit

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"mxward/internal/dns"
	"mxward/internal/mailauth/dmarc"
)

// The limits of what one check says, whatever stands in the zone; ours.
const (
	maxVerdicts = 50
	maxDetail   = 1000 // octets
	manyFaults  = 12   // about what a domain of many has
)

// Check is one row of the table.
type Check struct {
	ID       string
	Title    string // what is wrong where it fails
	Severity Severity
	Refs     []string
	// judge gives a verdict for each target; none is a pass.
	judge func(f *Facts) []verdict
}

// Wanted is a set of ids, and of the areas that they are in.
type Wanted map[string]bool

// Want gives the ids and areas of checks.
func Want(checks []Check) Wanted {
	w := Wanted{}
	for _, c := range checks {
		w[c.ID], w[c.Area()] = true, true
	}
	return w
}

// Area gives the part of the id before the dot.
func (c Check) Area() string {
	area, _, _ := strings.Cut(c.ID, ".")
	return area
}

// verdict is what a row says, before the table's part is added.
type verdict struct {
	status     Status
	target     string   // "" is the domain
	severity   Severity // "" is the row's
	confidence Confidence
	blame      Blame // of a fail; "" is the zone's data
	detail     string
	fix        Fix
	asked      []dns.Question // the evidence
	aside      bool           // of an unknown: it leaves nothing open about the domain
}

func fail(detail string, asked ...dns.Question) verdict {
	return verdict{status: Fail, detail: detail, asked: asked}
}

func na(detail string) []verdict { return []verdict{{status: NotApplicable, detail: detail}} }

// unknown: the facts of a row could not be had.
func unknown(f *Facts, err error, theirs Blame, asked ...dns.Question) verdict {
	if errors.Is(err, errNotAsked) {
		return verdict{status: Skipped, detail: err.Error(), asked: asked}
	}
	return verdict{status: Unknown, blame: f.blame(err, theirs), detail: clip(err.Error()), asked: asked}
}

func (v verdict) at(target string) verdict { v.target = target; return v }

func (v verdict) by(b Blame) verdict { v.blame = b; return v }

func (v verdict) as(s Severity) verdict { v.severity = s; return v }

func (v verdict) sure(c Confidence) verdict { v.confidence = c; return v }

func (v verdict) mend(text string, records ...Change) verdict {
	v.fix = Fix{Text: text, Records: records}
	return v
}

// Judge puts the facts to the checks. It asks nobody and depends on nothing else. The
// findings are in the order of id and target; each check has at least one.
func Judge(f *Facts, checks []Check) []Finding {
	all := make([]Finding, 0, len(checks)+len(checks)/4)
	f.judge(checks, func(c Check, verdicts []verdict) {
		all = append(all, f.findings(c, verdicts)...)
	})
	return all
}

// Faults is Judge for who wants only what fails or is unknown, and the number of all: of many
// domains that is a third of the work.
func Faults(f *Facts, checks []Check) (faults []Finding, counts map[Status]int) {
	counts = map[Status]int{Pass: 0, Fail: 0, Unknown: 0, Skipped: 0, NotApplicable: 0}
	f.judge(checks, func(c Check, verdicts []verdict) {
		for _, v := range verdicts {
			counts[v.status]++
		}
		first := len(faults)
		for _, v := range verdicts {
			if v.status == Fail || v.status == Unknown {
				if faults == nil {
					faults = make([]Finding, 0, manyFaults)
				}
				faults = append(faults, f.finding(c, v))
			}
		}
		byTarget(faults[first:])
	})
	return faults, counts
}

// judge gives the verdicts of each check, at least one, in the order of the ids.
func (f *Facts) judge(checks []Check, take func(Check, []verdict)) {
	byID := func(a, b Check) int { return strings.Compare(a.ID, b.ID) }
	if !slices.IsSortedFunc(checks, byID) {
		checks = slices.SortedStableFunc(slices.Values(checks), byID)
	}
	own := *f
	f, own.surveys = &own, map[string]survey{}
	st := f.standing()
	if st.absent { // whoever asks for other checks alone shall not read that nothing was found
		checks = withAbsence(checks)
	}
	pass := []verdict{{status: Pass}} // for all: nobody changes it
	for _, c := range checks {
		verdicts := f.put(c, st)
		if len(verdicts) == 0 {
			verdicts = pass
		}
		take(c, worst(c, verdicts))
	}
}

// withAbsence adds the check that says that the domain does not exist.
func withAbsence(checks []Check) []Check {
	const id = "deleg.nxdomain"
	at, there := slices.BinarySearchFunc(checks, id, func(c Check, id string) int { return strings.Compare(c.ID, id) })
	row := slices.IndexFunc(delegationChecks(), func(c Check) bool { return c.ID == id })
	if there || row < 0 {
		return checks
	}
	return slices.Insert(slices.Clone(checks), at, delegationChecks()[row])
}

// findings makes those of one check, by target.
func (f *Facts) findings(c Check, verdicts []verdict) []Finding {
	var all []Finding
	for _, v := range verdicts {
		all = append(all, f.finding(c, v))
	}
	byTarget(all)
	return all
}

func byTarget(all []Finding) {
	slices.SortStableFunc(all, func(a, b Finding) int { return strings.Compare(a.Target, b.Target) })
}

// worst leaves out what is too many; what fails comes first.
func worst(c Check, verdicts []verdict) []verdict {
	more := len(verdicts) - maxVerdicts
	if more <= 0 {
		return verdicts
	}
	slices.SortStableFunc(verdicts, func(a, b verdict) int {
		rank := func(v verdict) int {
			if v.status != Fail {
				return len(Severities())
			}
			return cmp.Or(v.severity, c.Severity).rank()
		}
		return rank(a) - rank(b)
	})
	verdicts = verdicts[:maxVerdicts]
	verdicts[maxVerdicts-1].detail += fmt.Sprintf("; and %d more like it are left out", more)
	return verdicts
}

// standing is what holds for whole areas of checks.
type standing struct {
	absent, suffix, hidden bool
	special                bool // any of them
}

func (f *Facts) standing() standing {
	st := standing{absent: f.absent(), suffix: f.suffix(), hidden: f.denied() || f.hides(f.Domain)}
	st.special = st.absent || st.suffix || st.hidden
	return st
}

// put asks a row, unless the domain does not exist: then nothing about it can be right or
// wrong. A resolver that denies a domain whose servers know it has no say about it.
func (f *Facts) put(c Check, st standing) []verdict {
	if !st.special && c.Severity != outside {
		return c.judge(f)
	}
	ours := slices.Contains([]string{"resolver", "net", "deleg", "soa"}, c.Area())
	switch {
	case c.Severity == outside:
		return na(outsideProfile)
	case st.absent && !ours:
		return na("the domain does not exist")
	case st.suffix && (mailArea(c.Area()) || c.Area() == "dmarc" && errors.Is(f.DMARC.Err, dmarc.ErrNotDMARC)):
		return na(f.Domain.String() + " is a public suffix without mail: others register their domains below it, and its own mail is not looked at")
	case st.hidden && !ours:
		return []verdict{f.deniedUnknown(f.q(dns.TypeMX))}
	}
	return c.judge(f)
}

// denied: the resolver denies what all of the zone's servers know. Where one of them denies it
// too, the resolver has it from there.
func (f *Facts) denied() bool {
	says := func(rcode dns.Rcode) bool {
		return slices.ContainsFunc(f.Zone.Servers, func(s Server) bool {
			return s.MX.serves() && s.MX.Said.Rcode == rcode || f.Zone.Name == f.Domain && s.SOA.serves() && s.SOA.Said.Rcode == rcode
		})
	}
	delegated := f.Zone.Referral.Zone == f.Domain // then it exists, whether its servers answer or not
	return f.MX.Err == nil && !f.MX.Exists && len(f.MX.Aliases) == 0 && (says(dns.NoError) || delegated && !f.Zone.Absent) && !says(dns.NXDomain)
}

// mailArea: checks whose matter is mail, and certificates for it. A public suffix may have a DMARC
// policy, which holds for the domains below it (RFC 9989 §4.10).
func mailArea(area string) bool {
	return !slices.Contains([]string{"resolver", "net", "deleg", "soa", "dnssec", "dmarc"}, area)
}

// PublicSuffix reports whether others register their domains below this one, as below co.uk.
func PublicSuffix(domain dns.Name) bool {
	suffix, managed := publicsuffix.PublicSuffix(domain.String())
	return managed && strings.EqualFold(suffix, domain.String())
}

// suffix: the domain is a public suffix, and nothing says that it takes mail.
func (f *Facts) suffix() bool {
	return PublicSuffix(f.Domain) && f.MX.Err == nil && len(f.MX.Records) == 0 && len(f.Own.addrs()) == 0
}

// deniedServer: the address of a server in the zone is the resolver's word, and it denies the zone.
func (f *Facts) deniedServer(ns NameServer) bool {
	return f.denied() && ns.Name.In(f.Domain) && f.live() == 0 && len(ns.Addrs.Records) == 0
}

func (f *Facts) deniedUnknown(asked ...dns.Question) verdict {
	return verdict{status: Unknown, blame: LocalResolver, detail: "the resolver hides the domain, or denies it while its servers or its parent know it", asked: asked}
}

// q is a question about the domain itself.
func (f *Facts) q(t dns.Type) dns.Question { return dns.Question{Name: f.Domain, Type: t} }

// absent: both the resolver and the servers above say so, or the one that could be asked.
func (f *Facts) absent() bool {
	return f.MX.Err == nil && !f.MX.Exists && len(f.MX.Aliases) == 0 && !f.hides(f.Domain) && (f.Zone.Absent || f.Zone.Name.IsZero() || f.ownDenial())
}

// ownDenial: the way to a name inside a zone ended early, and our own resolver, which asks the same
// servers, has it from them that there is no such name.
func (f *Facts) ownDenial() bool {
	known := slices.ContainsFunc(f.Zone.Servers, func(s Server) bool { return s.MX.serves() && s.MX.Said.Rcode == dns.NoError })
	return !f.Server.IsValid() && f.MX.Err == nil && !f.MX.Exists && len(f.MX.Aliases) == 0 && f.Domain != f.Zone.Name && !known
}

func (f *Facts) finding(c Check, v verdict) Finding {
	out := Finding{
		ID: c.ID, Target: cmp.Or(v.target, f.Domain.String()), Status: v.status, Confidence: cmp.Or(v.confidence, Single),
		Title: c.Title, Detail: clipTo(v.detail, maxDetail), Refs: c.Refs, Fix: v.fix, Evidence: f.evidence(v.asked), aside: v.aside,
	}
	switch v.status {
	case Fail:
		out.Severity, out.Blame = cmp.Or(v.severity, c.Severity), cmp.Or(v.blame, ZoneData)
	case Unknown:
		out.Blame = cmp.Or(v.blame, Nobody)
	}
	if v.confidence == "" && v.status == Fail && f.twice(v.asked) {
		out.Confidence = Confirmed
	}
	if out.Refs == nil {
		out.Refs = []string{}
	}
	if out.Fix.Records == nil {
		out.Fix.Records = []Change{}
	}
	return out
}

// evidence gives what was asked of these questions, of anybody.
func (f *Facts) evidence(asked []dns.Question) []Exchange {
	out := []Exchange{}
	if f.Brief {
		return out
	}
	for _, x := range f.Log {
		if slices.ContainsFunc(asked, func(q dns.Question) bool { return bare(q) == bare(x.question) }) {
			out = append(out, x.written())
		}
	}
	return out
}

// twice reports whether two of those who were asked gave an answer that is theirs to give: the
// resolver and a server of the zone, or two servers.
func (f *Facts) twice(asked []dns.Question) bool {
	first, found := "", false
	for _, x := range f.Log {
		if x.Error != "" || !x.AA && x.Transport != "" || !slices.ContainsFunc(asked, func(q dns.Question) bool { return bare(q) == bare(x.question) }) {
			continue
		}
		if found && x.Server != first {
			return true
		}
		first, found = x.Server, true
	}
	return false
}

// clip bounds what strangers wrote.
func clip(s string) string { return clipTo(s, 400) }

func clipTo(s string, most int) string {
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}

// Inconclusive reports whether checks that would count as at least this bad are unknown, or our
// own side is as bad.
func Inconclusive(findings []Finding, checks []Check, least Severity) bool {
	bad := map[string]bool{}
	for _, c := range checks {
		bad[c.ID] = c.Severity.AtLeast(least)
	}
	return slices.ContainsFunc(findings, func(f Finding) bool {
		return f.Ignored == "" && (f.Status == Unknown && bad[f.ID] && !f.aside || f.Status == Fail && f.Blame.Ours() && f.Severity.AtLeast(least))
	})
}

// Failed reports whether something at least this bad was found of the domain. What is wrong on
// our own side is never held against it.
func Failed(findings []Finding, least Severity) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool {
		return f.Status == Fail && f.Severity.AtLeast(least) && !f.Blame.Ours() && f.Ignored == ""
	})
}
