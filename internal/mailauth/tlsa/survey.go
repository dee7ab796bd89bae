package tlsa

import (
	"context"
	"errors"
	"fmt"

	"mxward/internal/dns"
	"mxward/internal/mailauth/lint"
)

// maxHosts bounds the MX hosts of one domain that are looked at; ours.
const maxHosts = 50

// Survey is what a sender finds of the DANE of a domain.
type Survey struct {
	Domain   dns.Name
	MXSecure bool     // the MX records are validated, or it is that there are none
	HostsErr error    // the DNS could not be asked for them
	Hosts    []Result // best preference first; the domain itself where it has no MX records; none for a null MX
	Findings []lint.Finding
}

// Look asks for the MX hosts of a domain and the TLSA records of each, at the port; 0 is 25.
// A host that is no domain of mail is its own MX host (RFC 5321 §5.1). r must validate, or
// nothing is ever Secure.
func Look(ctx context.Context, r dns.Resolver, domain dns.Name, port uint16) *Survey {
	s := &Survey{Domain: domain}
	set, err := dns.LookupMX(ctx, r, domain)
	if err != nil {
		s.HostsErr = fmt.Errorf("look for the MX hosts of %s: %w", domain, err)
		return s
	}
	s.MXSecure = set.Authentic
	if len(set.Records) == 0 {
		set.Records = []dns.MX{{Host: domain}}
	}
	for _, mx := range set.Records[:min(maxHosts, len(set.Records))] {
		if mx.Host != dns.Root { // RFC 7505: no mail
			s.Hosts = append(s.Hosts, Lookup(ctx, r, mx.Host, port))
		}
	}
	s.lint()
	if left := len(set.Records) - maxHosts; left > 0 {
		s.add("dane.hosts-left-out", lint.Notice, fmt.Sprintf("%d more MX hosts are not looked at", left), "")
	}
	return s
}

func (s *Survey) add(id string, severity lint.Severity, text, fix string) {
	s.Findings = append(s.Findings, lint.Finding{ID: id, Severity: severity, Domain: s.Domain.String(), Text: text, Fix: fix})
}

func (s *Survey) lint() {
	secure, without := 0, 0
	for _, h := range s.Hosts {
		s.Findings = append(s.Findings, LintResult(h)...)
		switch h.State {
		case Secure:
			secure++
		case Denied, Insecure:
			without++
		}
	}
	if secure > 0 && without > 0 {
		s.add("dane.missing-partial", lint.Notice, fmt.Sprintf("%d of %d MX hosts have no DANE, and who can cut off the others leads mail there", without, len(s.Hosts)), "publish TLSA records for each MX host")
	}
	if secure > 0 && !s.MXSecure {
		s.add("dane.insecure-zone", lint.Warning, "the MX records are not signed, so that who forges them leads mail past the TLSA records (RFC 7672 §2.2.1)", "sign the zone of the domain too")
	}
}

// Undetermined gives the trouble for which something could not be looked at, or nil.
func (s *Survey) Undetermined() error {
	all := []error{s.HostsErr}
	for _, h := range s.Hosts {
		all = append(all, h.Err)
	}
	return errors.Join(all...)
}

// Usable reports whether a sender authenticates at least one host.
func (s *Survey) Usable() bool {
	for _, h := range s.Hosts {
		if h.Duty() == Authenticate {
			return true
		}
	}
	return false
}
