package scan

import (
	"context"

	"mxward/internal/audit"
	"mxward/internal/dns"
	"mxward/internal/mailauth/dmarc"
)

// Check looks at domains with an auditor. Unless full, only what fails or is unknown comes, without
// its evidence.
func Check(a *audit.Auditor, checks []audit.Check, full bool) func(context.Context, dns.Name) Report {
	return func(ctx context.Context, domain dns.Name) Report {
		facts := a.Gather(ctx, domain)
		if facts.Unfinished {
			return Report{Open: true}
		}
		r := Report{Provider: provider(facts), Questions: facts.Packets, Away: facts.Away()}
		if full {
			r.Findings = audit.Judge(facts, checks)
			r.Counts, r.Open = count(r.Findings), audit.AskAgain(r.Findings) || !r.Away && facts.CutOff()
			return r
		}
		facts.Brief = true
		r.Findings, r.Counts = audit.Faults(facts, checks)
		r.Open = audit.AskAgain(r.Findings) || !r.Away && facts.CutOff()
		return r
	}
}

// What stands in the place of a provider.
const (
	noMX      = "(no MX)"
	nullMX    = "(takes no mail)"
	unknownMX = "(unknown)"
	itself    = "(the domain itself)"
)

// provider gives the organisational domain of the best MX host.
func provider(f *audit.Facts) string {
	switch {
	case f.MX.Err != nil:
		return unknownMX
	case len(f.MX.Records) == 0:
		return noMX
	}
	best := f.MX.Records[0]
	for _, mx := range f.MX.Records {
		if mx.Preference < best.Preference {
			best = mx
		}
	}
	if best.Host == dns.Root {
		return nullMX
	}
	host := dmarc.ListOrg(best.Host)
	if host == dmarc.ListOrg(f.Domain) {
		return itself
	}
	return host.String()
}
