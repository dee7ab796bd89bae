package dmarc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mailauth/lint"
)

const (
	maxDestinations = 20               // ours: URIs of one record that a survey looks at
	maxSurveyTime   = 60 * time.Second // ours
)

// Report is what there is to know of the DMARC of a domain.
type Report struct {
	Discovery
	// Destinations are those of the record that applies, rua first, each once.
	Destinations []Authorisation
	Findings     []lint.Finding
}

// Survey finds the policy of a domain and all that belongs to it, and says what is wrong.
// Beside what Discover and Authorised ask, it looks at three names where records stand by
// mistake, and whether the destinations take mail.
func Survey(ctx context.Context, r dns.Resolver, domain dns.Name) Report {
	return survey(ctx, r, domain, func(*Report) bool { return true })
}

// SurveyOfMany is Survey where questions count: it looks for records that stand somewhere by
// mistake only where none stands in the right place.
func SurveyOfMany(ctx context.Context, r dns.Resolver, domain dns.Name) Report {
	return survey(ctx, r, domain, func(r *Report) bool { return r.Domain != r.Start })
}

func survey(ctx context.Context, r dns.Resolver, domain dns.Name, elsewhere func(*Report) bool) Report {
	ctx, cancel := context.WithTimeout(ctx, maxSurveyTime)
	defer cancel()
	w := newWalker(ctx, r)
	report := Report{Discovery: w.discoverAll(domain)}
	report.lintRecords()
	if report.Err == nil {
		report.lintWalk()
		report.destinations(w)
	}
	if elsewhere(&report) {
		report.misplaced(w)
	}
	return report
}

// Undetermined gives the trouble that has kept something from being known, or nil.
func (r Report) Undetermined() error {
	if isTemporary(r.Err) {
		return r.Err
	}
	for _, d := range r.Destinations {
		if d.Err != nil {
			return d.Err
		}
	}
	return nil
}

func (r *Report) add(id string, s lint.Severity, domain dns.Name, text, fix string) {
	r.Findings = append(r.Findings, lint.Finding{ID: "dmarc." + id, Severity: s, Domain: domain.String(), Text: text, Fix: fix})
}

// lintRecords looks at the texts that the walk met: those at the domain itself, the record
// that applies, and several at one name.
func (r *Report) lintRecords() {
	if isTemporary(r.Err) {
		r.add("temperror", lint.Warning, r.Start, "whether there is a record could not be determined", "")
	}
	for _, s := range r.Steps {
		own := s.Domain == r.Start && (len(s.Records) > 0 || anyMeant(s.Others))
		if !own && s.Domain != r.Domain && len(s.Records) < 2 {
			continue
		}
		for _, f := range LintTexts(append(s.Records[:len(s.Records):len(s.Records)], s.Others...)) {
			f.Domain = s.Domain.String()
			r.Findings = append(r.Findings, f)
		}
	}
	if len(r.Findings) == 0 && errors.Is(r.Err, ErrNotDMARC) {
		r.Findings = LintTexts(nil)
		r.Findings[0].Domain = r.Start.String()
	}
}

func anyMeant(texts []string) bool {
	for _, text := range texts {
		if meant(text) {
			return true
		}
	}
	return false
}

// lintWalk looks at where the record stands.
func (r *Report) lintWalk() {
	switch {
	case r.Domain == r.Start && r.Org != r.Start && r.Record.SP != "":
		r.add("syntax", lint.Notice, r.Domain, fmt.Sprintf("sp says nothing here, below the organizational domain %s (RFC 9989 §4.7)", r.Org), "drop it")
	case r.Record.PSD == PSDYes && ListOrg(r.Domain) == r.Domain && !isSuffix(r.Domain) && len(r.Domain.Labels()) > 1:
		r.add("psd-misuse", lint.Error, r.Domain, "psd=y is for domains below which others register theirs: each name below this one stands for itself", "drop it")
	case isSuffix(r.Org) && r.Org != r.Start:
		r.add("psd-misuse", lint.Warning, r.Org, "a public suffix has a record without psd=y: all domains below it count as one organization", "write psd=n into the record of each organization")
	}
	if r.Org == r.Old {
		return
	}
	severity, fix := lint.Warning, "write psd=n into the record of "+r.Old.String()
	switch {
	case r.hasPSD(): // somebody wants it so
		severity, fix = lint.Notice, ""
	case r.Org.In(r.Old):
		fix = "publish a record at " + r.Old.String()
	}
	r.add("walk-differs-psl", severity, r.Start, fmt.Sprintf("the organizational domain is %s; receivers that go by the public-suffix list (RFC 7489) take %s", r.Org, r.Old), fix)
}

// destinations looks at where reports go.
func (r *Report) destinations(w *walker) {
	seen := map[URI]bool{}
	for i, u := range append(r.Record.RUA[:len(r.Record.RUA):len(r.Record.RUA)], r.Record.RUF...) {
		if seen[u] || len(r.Destinations) == maxDestinations {
			continue
		}
		seen[u] = true
		a := w.authorised(r.Domain, u)
		r.Destinations = append(r.Destinations, a)
		tag := "rua"
		if i >= len(r.Record.RUA) {
			tag = "ruf"
		}
		switch {
		case a.Err != nil:
			r.add("temperror", lint.Warning, r.Domain, fmt.Sprintf("whether %s takes reports could not be determined", a.Host), "")
			continue
		case !a.Allowed && !a.Host.IsZero():
			r.add(tag+"-unauthorized", lint.Error, r.Domain, fmt.Sprintf("%s: %s", u, a.Why), fmt.Sprintf(`let them publish "v=DMARC1" at %s`, a.Asked))
		}
		if _, ok := u.Mailbox(); ok {
			r.takesMail(w, a.Host)
		}
	}
}

// takesMail adds a finding where a host certainly takes no mail (RFC 5321 §5.1, RFC 7505).
func (r *Report) takesMail(w *walker, host dns.Name) {
	mx, err := dns.LookupMX(w.ctx, w.resolver, host)
	null := err == nil && len(mx.Records) == 1 && mx.Records[0].Host == dns.Root
	if err != nil || len(mx.Records) > 0 && !null {
		return
	}
	if !null && mx.Exists {
		if addrs, err := dns.LookupAddrs(w.ctx, w.resolver, host); err != nil || len(addrs.Records) > 0 {
			return
		}
	}
	r.add("rua-no-mail", lint.Error, r.Domain, fmt.Sprintf("%s takes no mail, and so no reports", host), "name an address that does")
}

// misplaced looks at names where records stand by mistake: the domain itself, dmarc without
// its underscore, and the domain twice, as it comes about where a form adds it once more.
func (r *Report) misplaced(w *walker) {
	right, err := r.Start.Child("_dmarc")
	if err != nil {
		return
	}
	for _, text := range []string{r.Start.String(), "dmarc." + r.Start.String(), "_dmarc." + r.Start.String() + "." + r.Start.String()} {
		name, err := dns.ParseName(text)
		if err != nil {
			continue
		}
		set, err := dns.LookupTXT(w.ctx, w.resolver, name)
		if err != nil {
			continue // a hint the less
		}
		for _, text := range set.Records {
			if IsRecord(text) || meant(text) {
				r.Findings = append(r.Findings, lintPlace(name, right, text))
			}
		}
	}
}
