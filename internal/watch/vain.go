package watch

import (
	"time"

	"mxward/internal/audit"
	"mxward/internal/dns"
)

// vain finds the entries of a baseline that have nothing to ignore: when all domains were looked at
// once, and each entry once.
type vain struct {
	latest map[dns.Name][]audit.Finding // of checks that the baseline names, as far as that needs
	told   map[[2]string]bool           // ids and targets
}

// take notes what a look has found, and gives the entries that are to be told.
func (v *vain) take(known audit.Baseline, domains []dns.Name, domain dns.Name, findings []audit.Finding, now time.Time) (out []audit.Ignore) {
	if len(known.Entries) == 0 {
		return nil
	}
	if v.latest == nil {
		v.latest, v.told = map[dns.Name][]audit.Finding{}, map[[2]string]bool{}
	}
	named := map[string]bool{}
	for _, e := range known.Entries {
		named[e.ID] = true
	}
	v.latest[domain] = nil
	for _, f := range findings {
		if named[f.ID] {
			v.latest[domain] = append(v.latest[domain], audit.Finding{ID: f.ID, Target: f.Target, Status: f.Status})
		}
	}
	var all []audit.Finding
	for _, d := range domains {
		found, looked := v.latest[d]
		if !looked {
			return nil
		}
		all = append(all, found...)
	}
	for _, e := range known.Unmatched(all, domains, now) {
		if key := [2]string{e.ID, e.Target}; !v.told[key] {
			v.told[key] = true
			out = append(out, e)
		}
	}
	return out
}
