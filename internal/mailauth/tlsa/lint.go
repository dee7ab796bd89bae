package tlsa

import (
	"slices"

	"mxward/internal/dns"
	"mxward/internal/mailauth/lint"
)

const recommended = "publish 3 1 1 and the SHA-256 of the public key (RFC 7672 §3.1.1)"

// Lint looks at the TLSA records of one host.
func Lint(records []Record) []lint.Finding {
	var all []lint.Finding
	for _, r := range records {
		f := lint.Finding{Found: short(r), Fix: recommended}
		err := r.Usable()
		switch {
		case err != nil && r.Usage < DANETA:
			f.ID, f.Severity, f.Text = "dane.usage-pkix", lint.Error, err.Error()
		case err != nil && r.Usage <= DANEEE && r.Selector <= SPKI && (r.Matching == SHA256 || r.Matching == SHA512):
			f.ID, f.Severity, f.Text = "dane.digest-length", lint.Error, err.Error()
		case err != nil:
			f.ID, f.Severity, f.Text = "dane.unusable", lint.Error, err.Error()
		case r.Matching == Full:
			f.ID, f.Severity, f.Text = "dane.matching-full", lint.Notice, "the record holds the whole certificate or key, which makes a large answer"
		case !slices.Contains(usable(records), r):
			f.ID, f.Severity, f.Text, f.Fix = "dane.digest-passed-over", lint.Notice, "senders that know a stronger digest of the same kind pass this one over (RFC 7671 §9)", ""
		default:
			continue
		}
		all = append(all, f)
	}
	if len(records) > 0 && len(usable(records)) == 0 {
		all = append(all, lint.Finding{ID: "dane.unusable", Severity: lint.Error, Text: "no record can be used: senders want TLS and authenticate nobody (RFC 7672 §2.2)", Fix: recommended})
	}
	return all
}

// LintResult looks at what was found for a host.
func LintResult(r Result) []lint.Finding {
	var all []lint.Finding
	switch {
	case r.State == Trouble && dns.TroubleOf(r.Err).Ours():
		all = []lint.Finding{{ID: "dane.temperror", Severity: lint.Warning, Text: "this host could not ask: " + r.Err.Error()}}
	case r.State == Trouble:
		all = []lint.Finding{{ID: "dane.denial-broken", Severity: lint.Error, Text: "nobody can tell whether there are TLSA records: senders with DANE keep mail for this host back: " + r.Err.Error(),
			Fix: "mend the name servers' answers for _25._tcp." + r.Host.String()}}
	case r.State == Secure:
		all = Lint(r.Records)
	}
	for i := range all {
		all[i].Domain = r.Host.String()
	}
	return all
}

// short gives the record with the begin of its data.
func short(r Record) string {
	const most = 40
	if s := r.String(); len(s) > most {
		return s[:most] + "…"
	}
	return r.String()
}
