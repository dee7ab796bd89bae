package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"mxward/internal/dns"
	"mxward/internal/mailauth/dmarc"
)

const (
	dmarcSchema     = "mxward.dmarc/1"
	dmarcLintSchema = "mxward.dmarc-lint/1"
)

func newDMARC() *cobra.Command {
	var f resolverFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "dmarc DOMAIN",
		Short: "which DMARC policy applies to a domain, where it was found, and what is wrong with it",
		Long: `Dmarc walks up the DNS tree from a domain, as receivers do (RFC 9989), and shows each name
that is asked and what is there; the policy that applies to mail from the domain; its
organizational domain, also by the public-suffix list where receivers that go by RFC 7489
see another one; whether the destinations of reports take them; and what is wrong.

Exit status: 0 a policy applies; 1 none does, or receivers cannot use it as it is; 2 usage;
3 the DNS could not be asked.`,
		Example: "  mxward dmarc example.com\n  mxward dmarc mail.example.com --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			domain, err := dmarcDomain(args[0])
			if err != nil {
				return usage(err)
			}
			r, err := f.resolver(nil)
			if err != nil {
				return usage(err)
			}
			report := dmarc.Survey(cmd.Context(), r, domain)
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), newDMARCDocument(report))
			} else {
				err = printDMARC(cmd.OutOrStdout(), report)
			}
			if err != nil {
				return err
			}
			return dmarcExit(report)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON document on stdout (schema "+dmarcSchema+")")
	cmd.AddCommand(newDMARCLint())
	return cmd
}

// dmarcDomain reads a domain; of a whole public suffix too, which may have a record.
func dmarcDomain(typed string) (dns.Name, error) {
	if domain, err := dns.ParseName(typed); err == nil && len(domain.Labels()) == 1 && isHostName(domain) {
		return domain, nil
	}
	return parseDomain(typed)
}

func printDMARC(w io.Writer, r dmarc.Report) error {
	var b strings.Builder
	b.WriteString(r.Discovery.String())
	for _, d := range r.Destinations {
		fmt.Fprintf(&b, "reports to %s\n", d)
	}
	for _, f := range r.Findings {
		fmt.Fprintln(&b, f)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// dmarcExit: undetermined only where nothing is known to be wrong.
func dmarcExit(r dmarc.Report) error {
	trouble := r.Undetermined()
	switch {
	case errors.Is(r.Err, dmarc.ErrNotDMARC):
		return problem(fmt.Errorf("dmarc %s: there is no policy for it", r.Start))
	case r.Err != nil && !errors.Is(r.Err, dmarc.ErrTemporary):
		return problem(fmt.Errorf("dmarc %s: %w", r.Start, r.Err))
	case broken(r.Findings):
		return problem(fmt.Errorf("dmarc %s: receivers cannot use all of it", r.Start))
	case trouble != nil:
		return undetermined(fmt.Errorf("dmarc %s: %w", r.Start, trouble))
	}
	return nil
}

// dmarcDocument is what dmarc --json prints; fields are only ever added to it.
type dmarcDocument struct {
	Schema       string                 `json:"schema"`
	Domain       dns.Name               `json:"domain"`
	Status       string                 `json:"status"` // "ok", "none", "temperror", "permerror"
	Error        string                 `json:"error"`
	Steps        []dmarcStepJSON        `json:"steps"`
	Policy       *dmarcPolicyJSON       `json:"policy"`
	Org          dns.Name               `json:"organizational_domain"`
	OldOrg       dns.Name               `json:"organizational_domain_psl"`
	Destinations []dmarcDestinationJSON `json:"destinations"`
	Findings     []findingJSON          `json:"findings"`
}

type dmarcStepJSON struct {
	Domain  dns.Name `json:"domain"`
	Records []string `json:"records"`
	Others  []string `json:"others"`
	Exists  bool     `json:"exists"`
	Stale   bool     `json:"stale"`
	Error   string   `json:"error"`
}

type dmarcPolicyJSON struct {
	Domain  dns.Name `json:"domain"`
	Record  string   `json:"record"`
	Tag     string   `json:"tag"`
	Policy  string   `json:"policy"`
	Testing bool     `json:"testing"`
	Exists  *bool    `json:"exists"`
}

type dmarcDestinationJSON struct {
	URI      string   `json:"uri"`
	Host     dns.Name `json:"host"`
	Allowed  bool     `json:"allowed"`
	Internal bool     `json:"internal"`
	Asked    dns.Name `json:"asked"`
	Records  []string `json:"records"`
	Why      string   `json:"why"`
	Error    string   `json:"error"`
}

func newDMARCDocument(r dmarc.Report) dmarcDocument {
	doc := dmarcDocument{
		Schema: dmarcSchema, Domain: r.Start, Status: "ok", Error: errorText(r.Err), Org: r.Org, OldOrg: r.Old,
		Steps: dmarcStepsJSON(r.Steps), Destinations: make([]dmarcDestinationJSON, len(r.Destinations)),
		Findings: findingsJSON(r.Findings),
	}
	switch {
	case errors.Is(r.Err, dmarc.ErrTemporary):
		doc.Status = string(dmarc.TempError)
	case errors.Is(r.Err, dmarc.ErrNotDMARC):
		doc.Status = string(dmarc.ResultNone)
	case r.Err != nil:
		doc.Status = string(dmarc.PermError)
	default:
		doc.Policy = &dmarcPolicyJSON{Domain: r.Discovery.Domain, Record: r.Text, Tag: r.Tag, Policy: string(r.Policy), Testing: r.Record.Testing, Exists: r.Existence}
	}
	for i, d := range r.Destinations {
		doc.Destinations[i] = dmarcDestinationJSON{
			URI: string(d.URI), Host: d.Host, Allowed: d.Allowed, Internal: d.Internal, Asked: d.Asked,
			Records: notNil(d.Records), Why: d.Why, Error: errorText(d.Err),
		}
	}
	return doc
}

func dmarcStepsJSON(steps []dmarc.Step) []dmarcStepJSON {
	out := make([]dmarcStepJSON, len(steps))
	for i, s := range steps {
		out[i] = dmarcStepJSON{Domain: s.Domain, Records: notNil(s.Records), Others: notNil(s.Others), Exists: s.Exists, Stale: s.Stale}
		if !errors.Is(s.Err, dmarc.ErrNotDMARC) {
			out[i].Error = errorText(s.Err)
		}
	}
	return out
}

func newDMARCLint() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "lint RECORD...",
		Short: "what is wrong with a DMARC record before it is published",
		Long: `Lint looks at the text of a record, as typed or pasted, and says where it is wrong and what
to write instead. It asks no DNS. Several records are taken as what stands at one name.

Exit status: 0 receivers can use it; 1 they cannot; 2 usage.`,
		Example: "  mxward dmarc lint 'v=DMARC1; p=none; rua=mailto:dmarc@example.com'",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			args = typedRecords(args)
			findings := dmarc.LintTexts(args)
			doc := dmarcLintDocument{Schema: dmarcLintSchema, Records: args, Findings: findingsJSON(findings)}
			if mended, ok := dmarc.Mend(args[0]); ok && len(args) == 1 && len(findings) > 0 && mended != args[0] {
				doc.Suggestion = mended
			}
			if asJSON {
				if err := writeJSON(cmd.OutOrStdout(), doc); err != nil {
					return err
				}
			} else {
				for _, f := range findings {
					fmt.Fprintln(cmd.OutOrStdout(), f)
				}
				if doc.Suggestion != "" {
					fmt.Fprintf(cmd.OutOrStdout(), "perhaps: %s\n", doc.Suggestion)
				}
			}
			if broken(findings) || findings != nil && findings[0].ID == "dmarc.missing" {
				return problem(errors.New("dmarc lint: receivers cannot use this as it is"))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON document on stdout (schema "+dmarcLintSchema+")")
	return cmd
}

// dmarcLintDocument is what lint --json prints; fields are only ever added to it.
type dmarcLintDocument struct {
	Schema     string        `json:"schema"`
	Records    []string      `json:"records"`
	Suggestion string        `json:"suggestion"` // the record that may have been meant; "" where there is nothing to mend
	Findings   []findingJSON `json:"findings"`
}
