package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mxward/internal/audit"
	"mxward/internal/dns"
)

// weighing are the flags by which findings are weighed and compared.
func (f *checkFlags) weighing(flags *pflag.FlagSet) {
	flags.StringVar(&f.profile, "profile", f.profile, "what the domain is for, by `name`: mail, receive, send, parked, bulk or strict")
	flags.StringVar(&f.message, "message", "", "look at the DKIM keys and the alignment of the message in this `file`, - for stdin")
	flags.StringVar(&f.plan, "plan", "", "compare with the site plan in this `file`")
	flags.StringVar(&f.baseline, "baseline", "", "what is known and shall not count, a TOML `file`")
	flags.StringVar(&f.since, "since", "", "show what has changed since the run with --json whose output is in this `file`")
	flags.BoolVar(&f.failNew, "fail-on-new", false, "with --since: exit status 1 only for what is new or worse")
	flags.BoolVar(&f.failUnknown, "fail-on-unknown", false, "exit status 1 and not 3 where not all could be determined")
}

// judging is what findings are weighed by and compared with.
type judging struct {
	known audit.Baseline
	looks map[dns.Name]audit.Look
	moves []audit.Move // of all domains so far
}

// read reads the files that the flags name, before anything is asked, and gives the domains: those
// of the arguments, else those of the plan or the message.
func (f *checkFlags) read(cmd *cobra.Command, a *audit.Auditor, domains []dns.Name) ([]dns.Name, error) {
	if f.failNew && f.since == "" {
		return nil, usage(errors.New("--fail-on-new: what is new is only known with --since FILE"))
	}
	own, err := f.readMessage(a, cmd.InOrStdin())
	if err != nil {
		return nil, usage(err)
	}
	planned, err := f.readPlan(a, domains)
	if err != nil {
		return nil, err
	}
	switch {
	case len(domains) > 0:
	case len(own) > 0:
		domains = own
	default:
		domains = planned
	}
	if len(domains) == 0 {
		from := "--plan FILE"
		if cmd.Flags().Lookup("message") != nil { // watch has none
			from += " or --message FILE"
		}
		return nil, usage(fmt.Errorf("expected a domain, or %s that names some", from))
	}
	if err := f.readBaseline(cmd.ErrOrStderr()); err != nil {
		return nil, err
	}
	return domains, f.readSince(cmd.ErrOrStderr(), domains)
}

// weigh marks the findings of a domain by the baseline, and by what was there before.
func (f *checkFlags) weigh(domain dns.Name, findings []audit.Finding) []audit.Move {
	f.ignore(findings)
	return f.compare(domain, findings)
}
