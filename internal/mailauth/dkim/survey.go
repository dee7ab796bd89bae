package dkim

import (
	"context"
	"errors"
	"fmt"

	"mxward/internal/dns"
	"mxward/internal/mailauth/lint"
)

// Survey is what the DNS has for one selector, for those who look after the domain.
type Survey struct {
	Name    dns.Name // SELECTOR._domainkey.DOMAIN
	Records []string // the TXT records there, as they stand
	Aliases []dns.Name
	Report
	Err error // wraps ErrTemporary where the DNS could not be asked
}

// Look asks for a key and judges it. Where there is none it looks where keys land by
// mistake. The error is KeyName's.
func Look(ctx context.Context, r dns.Resolver, selector string, domain dns.Name) (Survey, error) {
	name, err := KeyName(selector, domain)
	if err != nil {
		return Survey{}, err
	}
	s := Survey{Name: name}
	set, err := dns.LookupTXT(ctx, r, name)
	if err != nil {
		s.Err = fmt.Errorf("%w: %w", ErrTemporary, err)
		return s, nil
	}
	s.Records, s.Aliases, s.Report = set.Records, set.Aliases, LintSet(set.Records)
	if len(set.Records) == 0 {
		s.findMisplaced(ctx, r, selector, domain)
	}
	for i := range s.Findings {
		s.Findings[i].Domain = name.String()
	}
	return s, nil
}

// findMisplaced looks at the names that come of a dot left out in a zone file, a domain
// written twice in a web form, and a misread standard. Trouble there says nothing.
func (s *Survey) findMisplaced(ctx context.Context, r dns.Resolver, selector string, domain dns.Name) {
	for _, wrong := range []string{
		s.Name.String() + "." + domain.String(),
		selector + ".domainkey." + domain.String(),
		selector + "._domainkeys." + domain.String(),
		selector + "." + domain.String(),
		"_domainkey." + domain.String(),
	} {
		name, err := dns.ParseName(wrong)
		if err != nil {
			continue
		}
		set, err := dns.LookupTXT(ctx, r, name)
		if err != nil {
			continue
		}
		for _, text := range set.Records {
			if _, err := ParseKey(text); !errors.Is(err, ErrNotKey) && looksLikeKey(text) {
				s.Findings = append(s.Findings, lint.Finding{
					ID: "dkim.misplaced", Severity: lint.Error, Found: excerpt(text),
					Text: "a key stands at " + name.String() + ", where nobody looks for it",
					Fix:  "publish it at " + s.Name.String(),
				})
				break
			}
		}
	}
}
