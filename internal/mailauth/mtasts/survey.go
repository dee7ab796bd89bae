package mtasts

import (
	"context"
	"errors"

	"mxward/internal/dns"
	"mxward/internal/mailauth/lint"
)

// Survey is what a sender finds of a domain's MTA-STS, step by step.
type Survey struct {
	Domain    dns.Name
	Record    Record
	RecordErr error // an *Error; nil where Record holds
	Fetched   Fetched
	PolicyErr error // an *Error; nil where the policy holds
	Hosts     []Host
	HostsErr  error // the DNS could not be asked for MX records
	Findings  []lint.Finding
}

// Host is an MX host of the domain.
type Host struct {
	Name    dns.Name
	Covered bool // by the policy
}

// Look asks for the record, the policy and the MX hosts of a domain. The policy is asked
// for even without a record, so that one that is forgotten is seen.
func Look(ctx context.Context, f *Fetcher, domain dns.Name) *Survey {
	s := &Survey{Domain: domain}
	texts, err := f.texts(ctx, domain)
	if err == nil {
		s.Record, err = Choose(texts)
	}
	s.RecordErr = err
	s.Fetched, s.PolicyErr = f.Fetch(ctx, domain)
	s.HostsErr = s.findHosts(ctx, f.Resolver)
	s.Findings = s.lint(texts)
	for i := range s.Findings {
		s.Findings[i].Domain = domain.String()
	}
	return s
}

func (s *Survey) findHosts(ctx context.Context, r dns.Resolver) error {
	set, err := dns.LookupMX(ctx, r, s.Domain)
	if err != nil {
		return err
	}
	if len(set.Records) == 0 {
		// RFC 5321 §5.1: the domain itself is its MX host then.
		set.Records = []dns.MX{{Host: s.Domain}}
	}
	for _, mx := range set.Records {
		if mx.Host != dns.Root { // RFC 7505: no mail
			s.Hosts = append(s.Hosts, Host{mx.Host, s.PolicyErr == nil && s.Fetched.Policy.Matches(mx.Host)})
		}
	}
	return nil
}

func (s *Survey) lint(texts []string) []lint.Finding {
	none := errors.Is(s.RecordErr, ErrNone)
	var all []lint.Finding
	switch {
	case errors.Is(s.RecordErr, ErrTemporary):
		all = append(all, finding(s.RecordErr))
	case none && s.PolicyErr == nil:
		all = append(all, LintTexts(texts)...)
		all = append(all, lint.Finding{ID: "mtasts.policy-without-txt", Severity: lint.Error, Text: "there is a policy and no record at _mta-sts, so no sender looks for it", Fix: recordForm})
	default:
		all = append(all, LintTexts(texts)...)
	}
	switch {
	case s.PolicyErr == nil || s.Fetched.Body != "":
		all = append(all, LintPolicy(s.Fetched.Body, s.Fetched.ContentType)...)
	case !none:
		all = append(all, finding(s.PolicyErr))
	}
	if s.PolicyErr == nil && s.HostsErr == nil {
		hosts := make([]dns.Name, len(s.Hosts))
		for i, h := range s.Hosts {
			hosts[i] = h.Name
		}
		all = append(all, LintCoverage(s.Fetched.Policy, hosts)...)
	}
	return all
}

// Undetermined gives the trouble for which something could not be looked at, or nil.
func (s *Survey) Undetermined() error {
	for _, err := range []error{s.RecordErr, s.PolicyErr, s.HostsErr} {
		if err != nil && !errors.Is(err, ErrNone) && !errors.Is(err, ErrPermanent) && (!errors.Is(s.RecordErr, ErrNone) || err != s.PolicyErr) {
			return err
		}
	}
	return nil
}
