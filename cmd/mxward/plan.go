package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"mxward/internal/mailauth/mtasts"
	"mxward/internal/mailauth/spf"
	"mxward/internal/site"
)

func newPlan() *cobra.Command {
	plan := &cobra.Command{
		Use:   "plan",
		Short: "the site plan: a sample, its mistakes, and the records that it wants",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	plan.AddCommand(&cobra.Command{
		Use:     "sample",
		Short:   "print a plan with every key explained",
		Example: "  mxward plan sample > mxward.toml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), site.Sample())
			return err
		},
	}, &cobra.Command{
		Use:   "check FILE",
		Short: "read a plan and say what is wrong with it, all at once",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := loadPlan(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: the plan is fine: %s, %s\n",
				args[0], count(len(p.Hosts), "host"), count(len(p.Domains), "domain"))
			return err
		},
	}, newPlanRecords())
	return plan
}

func newPlanRecords() *cobra.Command {
	return &cobra.Command{
		Use:   "records FILE",
		Short: "print the DNS records that go with a plan's MTA-STS policies and ACME accounts",
		Long: `Records prints the TXT record of each domain with an MTA-STS policy, as in a zone file, and
the policy as a comment. Its id changes with the policy: publish the record again then,
after mxward serves the new policy. mta-sts.DOMAIN needs an address record too, of wherever
[mta-sts] listens.

Where the plan has an [[acme-account]], the CAA record of each domain follows that lets this
account alone have certificates of its authority, and no other authority issue any; it holds for the
names below the domain too.
And where it has copies of an include, [[domain.spf-flattened]], a comment with the mechanisms that
the domain's SPF record has in its place.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := loadPlan(args[0])
			if err != nil {
				return err
			}
			for _, d := range p.Domains {
				if err := printPolicyRecord(cmd.OutOrStdout(), d); err != nil {
					return err
				}
				if err := printSources(cmd.OutOrStdout(), p, d); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// printSources prints what follows from accounts and from copies.
func printSources(w io.Writer, p *site.Plan, d site.Domain) error {
	for _, a := range p.Accounts {
		if _, err := fmt.Fprintf(w, "%s 3600 IN CAA 0 issue %q\n", d.Name.FQDN(), a.Property()); err != nil {
			return err
		}
	}
	for _, c := range d.Flattened {
		if _, err := fmt.Fprintf(w, "; %s in its SPF record, for include:%s: %s\n", d.Name, c.Include, spf.Mechanisms(c.Networks)); err != nil {
			return err
		}
	}
	return nil
}

func printPolicyRecord(w io.Writer, d site.Domain) error {
	policy, ok := d.Policy()
	if !ok {
		return nil
	}
	name, err := mtasts.RecordName(d.Name)
	if err != nil {
		return problem(fmt.Errorf("plan records: %s is too long to have MTA-STS: %w", d.Name, err))
	}
	for line := range strings.SplitSeq(strings.TrimSpace(policy.String()), "\r\n") {
		fmt.Fprintf(w, "; %s\n", line)
	}
	_, err = fmt.Fprintf(w, "%s. 3600 IN TXT %q\n", name, mtasts.Record{ID: policy.ID()}.String())
	return err
}
