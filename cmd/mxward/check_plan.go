package main

import (
	"fmt"
	"os"
	"time"

	"mxward/internal/audit"
	"mxward/internal/dns"
	"mxward/internal/mailauth/dkim"
)

// readPlan reads the plan that --plan names, and the public half of its key, and gives the
// plan's domains.
func (f *checkFlags) readPlan(a *audit.Auditor, wanted []dns.Name) ([]dns.Name, error) {
	if f.plan == "" {
		return nil, nil
	}
	plan, err := loadPlan(f.plan)
	if err != nil {
		return nil, err
	}
	a.Plan = plan
	if file := plan.Reports.DKIMKey; file != "" {
		key, err := readPublic(file)
		if err != nil {
			return nil, usage(fmt.Errorf("--plan: reports.dkim-key: %w", err))
		}
		a.PlanKey = &audit.OwnKey{Key: key, Written: written(file)}
	}
	for _, domain := range wanted {
		if _, ok := plan.Domain(domain); !ok {
			return nil, usage(fmt.Errorf("--plan %s: it has no [[domain]] %s", f.plan, domain))
		}
	}
	var domains []dns.Name
	for _, d := range plan.Domains {
		domains = append(domains, d.Name)
	}
	return domains, nil
}

// written gives when a file was changed last; the zero time where nobody says.
func written(file string) time.Time {
	about, err := os.Stat(file)
	if err != nil {
		return time.Time{}
	}
	return about.ModTime()
}

// readPublic gives the key record that goes with a private key.
func readPublic(file string) (dkim.Key, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return dkim.Key{}, err
	}
	private, err := dkim.ParsePrivate(text)
	if err != nil {
		return dkim.Key{}, fmt.Errorf("%s: %w", file, err)
	}
	return dkim.KeyOf(private)
}
