package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"mxward/internal/dns"
	"mxward/internal/mailauth/mtasts"
)

const mtastsSchema = "mxward.mtasts/1"

func newMTASTS() *cobra.Command {
	var f resolverFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "mta-sts DOMAIN",
		Short: "a domain's MTA-STS policy, and whether it covers the MX hosts",
		Long: `Mta-sts looks at a domain's MTA-STS (RFC 8461) as a sender does: the record at _mta-sts, the
policy at https://mta-sts.DOMAIN/.well-known/mta-sts.txt, and each MX host.

Exit status: 0 senders can use the policy; 1 they cannot, or there is none; 2 usage;
3 the DNS or the web server could not be asked.`,
		Example: "  mxward mta-sts example.com\n  mxward mta-sts example.com --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := openSPF(&f, args[0])
			if err != nil {
				return usage(err)
			}
			s := mtasts.Look(cmd.Context(), &mtasts.Fetcher{Resolver: r}, dns.MustName(args[0]))
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), newMTASTSDocument(s))
			} else {
				printMTASTS(cmd.OutOrStdout(), s)
			}
			if err != nil {
				return err
			}
			return mtastsExit(s)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON document on stdout (schema "+mtastsSchema+")")
	return cmd
}

func mtastsExit(s *mtasts.Survey) error {
	if broken(s.Findings) {
		return problem(fmt.Errorf("mta-sts %s: senders cannot use all of it", s.Domain))
	}
	switch err := s.Undetermined(); {
	case err != nil:
		return undetermined(fmt.Errorf("mta-sts %s: %w", s.Domain, err))
	case s.RecordErr != nil:
		return problem(fmt.Errorf("mta-sts %s: %w", s.Domain, s.RecordErr))
	case s.PolicyErr != nil:
		return problem(fmt.Errorf("mta-sts %s: %w", s.Domain, s.PolicyErr))
	}
	return nil
}

func printMTASTS(w io.Writer, s *mtasts.Survey) {
	if s.RecordErr != nil {
		fmt.Fprintf(w, "record: %v\n", s.RecordErr)
	} else {
		fmt.Fprintf(w, "record: %s\n", s.Record)
	}
	if s.PolicyErr == nil {
		fmt.Fprintf(w, "policy: %s\n", strings.ReplaceAll(strings.TrimSpace(s.Fetched.Policy.String()), "\r\n", ", "))
		for _, h := range s.Hosts {
			fmt.Fprintf(w, "mx %s: %s\n", h.Name, map[bool]string{true: "covered", false: "not covered"}[h.Covered])
		}
	} else if !errors.Is(s.RecordErr, mtasts.ErrNone) {
		fmt.Fprintf(w, "policy: %v\n", s.PolicyErr)
	}
	if s.HostsErr != nil {
		fmt.Fprintf(w, "mx: %v\n", s.HostsErr)
	}
	printFindings(w, s.Findings)
}

// mtastsDocument is what --json prints; fields are only ever added to it.
type mtastsDocument struct {
	Schema      string           `json:"schema"`
	Domain      dns.Name         `json:"domain"`
	ID          string           `json:"id"`
	RecordError string           `json:"record_error"`
	Mode        string           `json:"mode"`
	MaxAge      int              `json:"max_age"` // seconds
	Patterns    []string         `json:"patterns"`
	PolicyError string           `json:"policy_error"`
	Hosts       []mtastsHostJSON `json:"hosts"`
	HostsError  string           `json:"hosts_error"`
	Findings    []findingJSON    `json:"findings"`
}

type mtastsHostJSON struct {
	Host    dns.Name `json:"host"`
	Covered bool     `json:"covered"`
}

func newMTASTSDocument(s *mtasts.Survey) mtastsDocument {
	p := s.Fetched.Policy
	d := mtastsDocument{
		Schema: mtastsSchema, Domain: s.Domain, ID: s.Record.ID, RecordError: errorText(s.RecordErr),
		Mode: string(p.Mode), MaxAge: int(p.MaxAge.Seconds()), Patterns: []string{}, PolicyError: errorText(s.PolicyErr),
		Hosts: []mtastsHostJSON{}, HostsError: errorText(s.HostsErr), Findings: findingsJSON(s.Findings),
	}
	for _, m := range p.MX {
		d.Patterns = append(d.Patterns, m.String())
	}
	for _, h := range s.Hosts {
		d.Hosts = append(d.Hosts, mtastsHostJSON{h.Name, h.Covered})
	}
	return d
}
