package tlsa

import (
	"fmt"
	"slices"
)

// Severity is how bad a finding is.
type Severity string

// The severities, the worst first.
const (
	SeverityError   Severity = "error"   // mail is kept back, or nobody can use it
	SeverityWarning Severity = "warning" // it does not do what it should
	SeverityNotice  Severity = "notice"  // worth knowing
	SeverityInfo    Severity = "info"
)

// Finding is one thing to know about TLSA records. IDs are stable.
type Finding struct {
	ID       string
	Severity Severity
	Domain   string // the host; "" where records alone were looked at
	Pos      int    // always 0: a record has no text
	Found    string // the record; may be ""
	Text     string // what is wrong, for people
	Fix      string // what to publish instead, or to do; may be ""
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

const recommended = "publish 3 1 1 and the SHA-256 of the public key (RFC 7672 §3.1.1)"

// Lint looks at the TLSA records of one host.
func Lint(records []Record) []Finding {
	var all []Finding
	for _, r := range records {
		f := Finding{Found: short(r), Fix: recommended}
		err := r.Usable()
		switch {
		case err != nil && r.Usage < DANETA:
			f.ID, f.Severity, f.Text = "dane.usage-pkix", SeverityError, err.Error()
		case err != nil && r.Usage <= DANEEE && r.Selector <= SPKI && (r.Matching == SHA256 || r.Matching == SHA512):
			f.ID, f.Severity, f.Text = "dane.digest-length", SeverityError, err.Error()
		case err != nil:
			f.ID, f.Severity, f.Text = "dane.unusable", SeverityError, err.Error()
		case r.Matching == Full:
			f.ID, f.Severity, f.Text = "dane.matching-full", SeverityNotice, "the record holds the whole certificate or key, which makes a large answer"
		case !slices.Contains(usable(records), r):
			f.ID, f.Severity, f.Text, f.Fix = "dane.digest-passed-over", SeverityNotice, "senders that know a stronger digest of the same kind pass this one over (RFC 7671 §9)", ""
		default:
			continue
		}
		all = append(all, f)
	}
	if len(records) > 0 && len(usable(records)) == 0 {
		all = append(all, Finding{ID: "dane.unusable", Severity: SeverityError, Text: "no record can be used: senders want TLS and authenticate nobody (RFC 7672 §2.2)", Fix: recommended})
	}
	return all
}

// LintResult looks at what was found for a host.
func LintResult(r Result) []Finding {
	var all []Finding
	switch {
	case r.State == Trouble:
		all = []Finding{{ID: "dane.denial-broken", Severity: SeverityError, Text: "nobody can tell whether there are TLSA records: senders with DANE keep mail for this host back: " + r.Err.Error(),
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
