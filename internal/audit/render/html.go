package render

import (
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"mxward/internal/audit"
	"mxward/internal/mailauth/spf"
)

// The limits of the page, ours: whatever strangers publish, a browser can show it.
const (
	maxShown     = 400  // characters of one text
	maxFix       = 8192 // octets of a record to paste, which is shown whole or not at all
	maxFindings  = 500  // of one domain, the worst first
	maxReasons   = 100  // of one domain
	maxExchanges = 10   // of one finding
	maxRecords   = 10   // of one exchange
	maxLines     = 60   // of one session
	maxTerms     = 300  // of one domain's SPF tree
	maxSPFHosts  = 12   // addresses and hosts of one term
)

//go:embed report.html.tmpl
var pageText string

// HTML writes one page for all reports. It needs nothing from outside and no script.
func HTML(w io.Writer, reports []Report, a Audit) error {
	line := func(s string) string { return clip(s, maxShown) }
	page, err := template.New("report").Funcs(template.FuncMap{"line": line}).Parse(pageText)
	if err != nil {
		return fmt.Errorf("read the page's template: %w", err)
	}
	p := htmlPage{Version: a.Version, Several: len(reports) > 1}
	for i, r := range reports {
		p.Domains = append(p.Domains, newDomain(r, fmt.Sprintf("d%d", i+1)))
	}
	p.Title = fmt.Sprintf("Mail DNS of %d domains", len(reports))
	if len(reports) == 1 {
		p.Title = "Mail DNS of " + p.Domains[0].Name
	}
	return page.Execute(w, p)
}

type htmlPage struct {
	Title, Version string
	Several        bool
	Domains        []htmlDomain
}

// htmlDomain is the section of one domain.
type htmlDomain struct {
	Anchor, Name, When string
	Counts             []htmlCount // of each severity, also where it is 0
	Failed             int
	Unknown, Fine      int
	Verdict            string
	Groups             []htmlGroup
	Left               int // findings that are not shown
	Reasons            []htmlReason
	LeftOpen           int // reasons that are not shown
	Passed, Others     []string
	Ignored            []htmlIgnored
	Gone               []Gone
	Ladder             Ladder
	Drawing            drawing
	SPF                *htmlSPF
	Clocks             []Clock
}

type htmlCount struct {
	Severity audit.Severity
	N        int
}

type htmlGroup struct {
	Severity audit.Severity
	Findings []htmlFinding
}

type htmlFinding struct {
	ID, Target, Title, Detail, Blame string
	Turn                             string
	By, Seen                         string
	FixText                          string
	Fixes                            []audit.Change
	Exchanges                        []htmlExchange
	Left                             int
}

// seen says how sure a finding is.
func seen(c audit.Confidence) string {
	switch c {
	case audit.Confirmed:
		return "seen in two ways"
	case audit.Single:
		return "seen in one way"
	case audit.Flapping:
		return "answers disagree"
	}
	return ""
}

// htmlReason is why some checks are unknown, with the evidence of the first.
type htmlReason struct {
	Detail, Blame string
	IDs           []string
	Exchanges     []htmlExchange
	Left          int
}

// htmlIgnored is what a baseline has not count.
type htmlIgnored struct{ ID, Target, Title, Why string }

type htmlExchange struct {
	Again, Said, When string
	Records           []string
	Left              int
}

func newDomain(r Report, anchor string) htmlDomain {
	d := htmlDomain{
		Anchor: anchor, Name: clip(r.Domain.Unicode(), maxShown), When: r.When.UTC().Format("2006-01-02 15:04:05 UTC"),
		Failed: r.count(audit.Fail), Unknown: r.count(audit.Unknown), Fine: r.count(audit.Pass),
		Ladder: r.Ladder, Drawing: draw(r.Ladder, r.When), SPF: newHTMLSPF(r.SPF), Clocks: r.Clocks,
	}
	shown := 0
	for _, s := range audit.Severities() {
		fails := r.fails(s)
		d.Counts = append(d.Counts, htmlCount{s, len(fails)})
		group := htmlGroup{Severity: s}
		for _, f := range fails {
			if shown == maxFindings {
				d.Left++
				continue
			}
			shown++
			group.Findings = append(group.Findings, newHTMLFinding(r, f))
		}
		if len(group.Findings) > 0 {
			d.Groups = append(d.Groups, group)
		}
	}
	d.Verdict = verdict(r)
	for _, why := range r.unknown() {
		if len(d.Reasons) == maxReasons {
			d.LeftOpen++
			continue
		}
		d.Reasons = append(d.Reasons, newHTMLReason(why))
	}
	for _, f := range r.ignored() {
		d.Ignored = append(d.Ignored, htmlIgnored{f.ID, clip(f.Target, maxShown), f.Title, clip(f.Ignored, maxShown)})
	}
	d.Gone = newGone(r.Moves)
	for _, f := range r.Findings {
		switch f.Status {
		case audit.Pass:
			d.Passed = append(d.Passed, f.ID)
		case audit.Skipped, audit.NotApplicable:
			d.Others = append(d.Others, f.ID+": "+clip(f.Detail, maxShown))
		}
	}
	return d
}

// verdict is the whole in one sentence. What is wrong on our own side says nothing of the domain.
func verdict(r Report) string {
	ours := false
	for _, s := range audit.Severities() {
		for _, f := range r.fails(s) {
			if !f.Blame.Ours() {
				return sentence(s)
			}
			ours = true
		}
	}
	switch {
	case ours:
		return "The resolver or the network here fails: this says little about the domain."
	case r.count(audit.Unknown) > 0:
		return "Nothing was found; not all could be determined."
	}
	return "Nothing was found."
}

func sentence(worst audit.Severity) string {
	switch worst {
	case audit.Critical:
		return "Mail does not flow, or anybody can take it."
	case audit.Error:
		return "Something is wrong."
	case audit.Warning:
		return "Nothing is broken; something does harm somewhere."
	}
	return "Nothing is wrong; something is worth knowing."
}

func newHTMLFinding(r Report, f audit.Finding) htmlFinding {
	h := htmlFinding{
		ID: f.ID, Title: f.Title, Blame: string(f.Blame), Turn: string(f.Turn), By: strings.Join(f.Refs, ", "), Seen: seen(f.Confidence),
		FixText: clip(f.Fix.Text, maxShown),
	}
	if f.Target != r.Domain.String() {
		h.Target = clip(f.Target, maxShown)
	}
	if f.Detail != f.Title {
		h.Detail = clip(f.Detail, maxShown)
	}
	for _, c := range f.Fix.Records {
		if len(c.Record) > maxFix {
			c = audit.Change{Do: c.Do, Record: fmt.Sprintf("; a record of %d octets is not shown here: --json has it", len(c.Record))}
		}
		h.Fixes = append(h.Fixes, audit.Change{Do: Clean(c.Do), Record: Clean(c.Record)})
	}
	h.Exchanges, h.Left = newHTMLExchanges(f.Evidence)
	return h
}

func newHTMLReason(why reason) htmlReason {
	h := htmlReason{Detail: clip(why.Detail, maxShown), Blame: string(why.Blame)}
	for _, f := range why.Findings {
		h.IDs = append(h.IDs, f.ID)
	}
	h.IDs = slices.Compact(h.IDs)
	h.Exchanges, h.Left = newHTMLExchanges(why.Findings[0].Evidence)
	return h
}

// newHTMLExchanges gives the first ones, and how many more there are.
func newHTMLExchanges(evidence []audit.Exchange) (shown []htmlExchange, left int) {
	most := min(maxExchanges, len(evidence))
	for _, x := range evidence[:most] {
		shown = append(shown, newHTMLExchange(x))
	}
	return shown, len(evidence) - most
}

func newHTMLExchange(x audit.Exchange) htmlExchange {
	h := htmlExchange{
		Again: Clean(x.Again), Said: clip(said(x), maxShown) + " in " + milliseconds(x.RTT) + " ms",
		When: x.When.UTC().Format(time.RFC3339),
	}
	most := maxRecords
	if session(x) {
		most = maxLines
	}
	h.Left = max(0, len(x.Records)-most)
	for _, record := range x.Records[:min(most, len(x.Records))] {
		h.Records = append(h.Records, clip(record, maxShown))
	}
	return h
}

// htmlSPF is the tree with its cost.
type htmlSPF struct {
	Root            htmlTree
	Lookups, Voids  int
	Most, MostVoids int
	Over            bool
	Left            int // terms that are not shown
}

type htmlTree struct {
	Domain, Record, Trouble string
	Terms                   []htmlTerm
}

type htmlTerm struct {
	Text, Finds, Note, Trouble string
	Lookups                    int // it and all below
	Over                       bool
	Tree                       *htmlTree
}

func newHTMLSPF(t *spf.Tree) *htmlSPF {
	if t == nil || t.Record == "" && errors.Is(t.Err, spf.ErrNotSPF) {
		return nil
	}
	h := &htmlSPF{Lookups: t.Lookups, Voids: t.Voids, Most: spf.MaxLookups, MostVoids: spf.MaxVoids}
	h.Over = h.Lookups > h.Most || h.Voids > h.MostVoids
	left := maxTerms
	h.Root = newHTMLTree(t, &left)
	h.Left = max(0, -left)
	return h
}

// newHTMLTree takes as many terms as are left.
func newHTMLTree(t *spf.Tree, left *int) htmlTree {
	h := htmlTree{Domain: clip(t.Domain, maxShown), Record: clip(t.Record, maxShown), Trouble: errText(t.Err)}
	for _, b := range t.Branches {
		*left--
		if *left < 0 {
			continue
		}
		term := htmlTerm{Text: clip(b.Term.String(), maxShown), Finds: finds(b), Note: clip(b.Note, maxShown), Trouble: errText(b.Err), Lookups: b.Lookups, Over: b.Over()}
		if b.Tree != nil {
			below := newHTMLTree(b.Tree, left)
			term.Tree = &below
			if term.Trouble == below.Trouble {
				term.Trouble = ""
			}
		}
		h.Terms = append(h.Terms, term)
	}
	return h
}

// finds gives the hosts and addresses that a term names.
func finds(b spf.Branch) string {
	var all []string
	if b.Voids > 0 && b.Tree == nil {
		return "finds nothing"
	}
	for _, h := range b.Hosts {
		all = append(all, h.String())
	}
	for _, a := range b.Addrs {
		all = append(all, a.String())
	}
	if more := len(all) - maxSPFHosts; more > 0 {
		all = append(all[:maxSPFHosts], fmt.Sprintf("and %d more", more))
	}
	return clip(strings.Join(all, ", "), maxShown)
}

// Bar is how far the look-ups go, of 200.
func (h htmlSPF) Bar() int { return min(200, h.Lookups*200/h.Most) }
