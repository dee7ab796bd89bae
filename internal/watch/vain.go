package watch

import (
	"net/netip"
	"time"

	"mxward/internal/audit"
	"mxward/internal/audit/render"
	"mxward/internal/dns"
)

// vain finds the entries of a baseline that have nothing to ignore: when all domains were looked at
// once, and each entry once.
type vain struct {
	latest map[dns.Name]looked
	told   map[[2]string]bool // ids and targets
}

// looked is what a look has found of checks that the baseline names, as far as that needs.
type looked struct {
	findings []audit.Finding
	addrs    []netip.Addr
}

// take notes what a look has found, and gives the entries that are to be told.
func (v *vain) take(known audit.Baseline, domains []dns.Name, report render.Report, now time.Time) (out []audit.Ignore) {
	if len(known.Entries) == 0 {
		return nil
	}
	if v.latest == nil {
		v.latest, v.told = map[dns.Name]looked{}, map[[2]string]bool{}
	}
	named := map[string]bool{}
	for _, e := range known.Entries {
		named[e.ID] = true
	}
	latest := looked{addrs: report.Addrs}
	for _, f := range report.Findings {
		if named[f.ID] {
			latest.findings = append(latest.findings, audit.Finding{ID: f.ID, Target: f.Target, Status: f.Status})
		}
	}
	v.latest[report.Domain] = latest
	var all []audit.Finding
	addrs := map[netip.Addr]bool{}
	for _, d := range domains {
		found, ok := v.latest[d]
		if !ok {
			return nil
		}
		all = append(all, found.findings...)
		for _, addr := range found.addrs {
			addrs[addr] = true
		}
	}
	for _, e := range known.Unmatched(all, domains, addrs, now) {
		if key := [2]string{e.ID, e.Target}; !v.told[key] {
			v.told[key] = true
			out = append(out, e)
		}
	}
	return out
}
