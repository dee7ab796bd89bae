package render

import (
	"slices"
	"time"

	"mxward/internal/audit"
	"mxward/internal/dns"
)

// Clock is a moment at which something ends, if nobody does anything.
type Clock struct {
	Kind   string // "rrsig", "certificate" of an MX host, "policy-certificate" of an MTA-STS host, "registration"
	Target string // the record, or the host and address, or the domain
	Ends   time.Time
	Begins time.Time // zero where that is not known
}

// newClocks takes from the facts what ends.
func newClocks(f *audit.Facts, l Ladder) []Clock {
	return slices.Concat(signatureClocks(f), l.clocks(), policyClocks(f), registrationClocks(f))
}

func signatureClocks(f *audit.Facts) []Clock {
	var clocks []Clock
	if f.Zone.Signed.Err != nil {
		return nil
	}
	for _, s := range dns.Signatures(f.Zone.Signed.Said.Answer) {
		clocks = append(clocks, Clock{"rrsig", s.Name.String() + " " + s.Covers.String(), s.Ends, s.Begins})
	}
	return clocks
}

// policyClocks: a certificate is only known where the policy came.
func policyClocks(f *audit.Facts) []Clock {
	if f.MTASTS == nil || len(f.MTASTS.Fetched.TLS.PeerCertificates) == 0 {
		return nil
	}
	leaf := f.MTASTS.Fetched.TLS.PeerCertificates[0]
	return []Clock{{"policy-certificate", "mta-sts." + f.Domain.String(), leaf.NotAfter, leaf.NotBefore}}
}

func registrationClocks(f *audit.Facts) []Clock {
	if f.Registration == nil || f.Registration.Err != nil {
		return nil
	}
	return []Clock{{Kind: "registration", Target: f.Registration.Domain.String(), Ends: f.Registration.Ends}}
}
