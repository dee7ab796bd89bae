package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"mxward/internal/audit"
	"mxward/internal/dns"
	"mxward/internal/dns/resolver"
	"mxward/internal/mailauth/mtasts"
)

const checkSchema = "mxward.check/1"

func newCheck() *cobra.Command {
	f := checkFlags{failOn: string(audit.Error)}
	cmd := &cobra.Command{
		Use:   "check DOMAIN...",
		Short: "is a domain's mail DNS right, whose fault is it if not, and how to mend it",
		Long: `Check looks at a domain's mail DNS from outside: its delegation and each of its name servers,
MX hosts and the names of their addresses, SPF, DMARC, DKIM, MTA-STS, TLS-RPT, DANE, DNSSEC,
BIMI and CAA. First it asks whether it can judge at all: its own resolver and network. What
could not be asked is unknown, never missing, and each finding says on whose side the trouble
lies. It needs no configuration and no root; it sends no mail, and talks to no mail server yet.

It asks the DNS from the root down by itself, or another resolver with --server; then that
resolver is looked at too, and the zone's own servers are asked beside it. DKIM keys are
looked at where --selector names them: no question can list them.

--only and --skip take ids (spf.ptr) and areas (spf), with commas between them.

Exit status: 0 nothing as bad as --fail-on; 1 something is; 2 usage; 3 nothing is, and what
is unknown might be, or the resolver or the network here is at fault.`,
		Example: `  mxward check example.com
  mxward check example.com --verbose --selector 2026a --selector 2026e
  mxward check example.com example.org --json --skip bimi,caa --fail-on warning`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.json, "json", false, "one JSON document on stdout (schema "+checkSchema+"), for several domains one in each line")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "also what was asked, with the dig commands that ask again, and what is fine")
	flags.StringArrayVar(&f.selectors, "selector", nil, "look at the DKIM key of this `selector`; may be given again")
	flags.StringSliceVar(&f.only, "only", nil, "check these `ids` or areas and nothing else")
	flags.StringSliceVar(&f.skip, "skip", nil, "leave out these `ids` or areas")
	flags.StringVar(&f.failOn, "fail-on", f.failOn, "the least `severity` for exit status 1: critical, error, warning, notice or info")
	flags.StringVar(&f.rootHints, "root-hints", "", "ask from the root servers in this `file`, written like named.root")
	flags.StringVar(&f.server, "server", "", "judge by what the resolver at this `address`[:port] says")
	return cmd
}

type checkFlags struct {
	resolverFlags
	json, verbose bool
	selectors     []string
	only, skip    []string
	failOn        string
	checks        []audit.Check
}

func (f *checkFlags) run(cmd *cobra.Command, args []string) error {
	domains, err := checkDomains(args)
	if err == nil {
		err = f.choose()
	}
	if err != nil {
		return usage(err)
	}
	a, err := f.auditor()
	if err != nil {
		return usage(err)
	}
	var all []audit.Finding
	for _, domain := range domains {
		findings := f.look(cmd.Context(), a, domain)
		if err := f.print(cmd.OutOrStdout(), domain, findings, len(domains) > 1); err != nil {
			return err
		}
		all = append(all, findings...)
		if cmd.Context().Err() != nil { // what is left would only be unknown
			return undetermined(fmt.Errorf("check %s: interrupted", domain))
		}
	}
	return f.exit(domains, all)
}

// checkDomains reads all arguments before anything is asked; a domain that is named twice is
// looked at once.
func checkDomains(args []string) ([]dns.Name, error) {
	const most = 10 // complaints
	var domains []dns.Name
	var wrong []error
	for _, arg := range args {
		domain, err := parseDomain(arg)
		if err != nil && len(wrong) < most {
			wrong = append(wrong, err)
		}
		if !slices.Contains(domains, domain) {
			domains = append(domains, domain)
		}
	}
	return domains, errors.Join(wrong...)
}

// choose takes the rows of the table that the flags want. An id that nobody knows is a
// mistake: a check that was meant to be left out, or to run, would not be.
func (f *checkFlags) choose() error {
	if !slices.Contains(audit.Severities(), audit.Severity(f.failOn)) {
		return fmt.Errorf("--fail-on: expected critical, error, warning, notice or info, got %q", f.failOn)
	}
	if len(f.selectors) > audit.MaxSelectors {
		return fmt.Errorf("--selector: at most %d are looked at, got %d", audit.MaxSelectors, len(f.selectors))
	}
	table := audit.Checks()
	for _, flag := range []struct {
		name  string
		words []string
	}{{"--only", f.only}, {"--skip", f.skip}} {
		for _, word := range flag.words {
			i := slices.IndexFunc(table, func(c audit.Check) bool { return names(c, word) })
			switch {
			case i < 0:
				return fmt.Errorf("%s: there is no check and no area %q", flag.name, word)
			case !slices.ContainsFunc(table, func(c audit.Check) bool { return names(c, word) && c.Checked() }):
				return fmt.Errorf("%s: %q is not checked yet", flag.name, word)
			}
		}
	}
	for _, c := range table {
		named := func(word string) bool { return names(c, word) }
		wanted := len(f.only) == 0 || slices.ContainsFunc(f.only, named)
		if wanted && !slices.ContainsFunc(f.skip, named) {
			f.checks = append(f.checks, c)
		}
	}
	return nil
}

func names(c audit.Check, word string) bool { return c.ID == word || c.Area() == word }

// auditor makes what asks: the resolver that counts, and beside it a way to single servers.
func (f *checkFlags) auditor() (*audit.Auditor, error) {
	own, err := f.iterative(nil)
	if err != nil {
		return nil, err
	}
	a := &audit.Auditor{Resolver: own, Asker: own, Selectors: f.selectors, AllowLoopback: own.AllowLoopback}
	if f.server != "" {
		if a.Server, err = parseServer(f.server); err != nil {
			return nil, err
		}
		a.Resolver = &resolver.Forwarder{Server: a.Server}
	}
	hints := own.Hints
	if hints == nil {
		hints = resolver.RootHints()
	}
	for _, h := range hints {
		a.Roots = append(a.Roots, netip.AddrPortFrom(h.Addr, 53))
	}
	slices.SortStableFunc(a.Roots, func(x, y netip.AddrPort) int { return x.Addr().BitLen() - y.Addr().BitLen() })
	a.MTASTS = &mtasts.Fetcher{AllowLoopback: own.AllowLoopback}
	return a, nil
}

func (f *checkFlags) look(ctx context.Context, a *audit.Auditor, domain dns.Name) []audit.Finding {
	return audit.Judge(a.Gather(ctx, domain), f.checks)
}

// checkDocument is what --json prints; fields are only ever added to it.
type checkDocument struct {
	Schema   string          `json:"schema"`
	Domain   dns.Name        `json:"domain"`
	Findings []audit.Finding `json:"findings"`
}

func (f *checkFlags) print(w io.Writer, domain dns.Name, findings []audit.Finding, several bool) error {
	if !f.json {
		return printCheck(w, domain, findings, f.verbose)
	}
	doc := checkDocument{Schema: checkSchema, Domain: domain, Findings: notNil(findings)}
	if !several {
		return writeJSON(w, doc)
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(doc)
}

// printCheck writes for people: the worst first, one line each, then what could not be asked.
func printCheck(w io.Writer, domain dns.Name, findings []audit.Finding, verbose bool) error {
	var b strings.Builder
	count := map[audit.Status]int{}
	for _, f := range findings {
		count[f.Status]++
	}
	fmt.Fprintf(&b, "%s: %d found, %d unknown, %d fine\n", domain.Unicode(), count[audit.Fail], count[audit.Unknown], count[audit.Pass])
	for _, severity := range audit.Severities() {
		for _, f := range findings {
			if f.Status == audit.Fail && f.Severity == severity {
				writeFinding(&b, string(severity), domain, f, verbose)
			}
		}
	}
	writeUnknown(&b, domain, findings, verbose)
	if verbose {
		for _, f := range findings {
			if f.Status == audit.Pass {
				fmt.Fprintf(&b, "pass %s\n", f.ID)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeFinding(b *strings.Builder, word string, domain dns.Name, f audit.Finding, verbose bool) {
	fmt.Fprintf(b, "%s %s: ", word, f.ID)
	if f.Target != domain.String() {
		fmt.Fprintf(b, "%s: ", f.Target)
	}
	b.WriteString(f.Title)
	if f.Detail != "" && f.Detail != f.Title {
		fmt.Fprintf(b, ": %s", oneLine(f.Detail))
	}
	fmt.Fprintf(b, " [%s]\n", f.Blame)
	if f.Fix.Text != "" && f.Status == audit.Fail {
		fmt.Fprintf(b, "    %s\n", oneLine(f.Fix.Text))
	}
	for _, c := range f.Fix.Records {
		fmt.Fprintf(b, "    %s: %s\n", c.Do, oneLine(c.Record))
	}
	if verbose {
		writeEvidence(b, f)
	}
}

func writeEvidence(b *strings.Builder, f audit.Finding) {
	if len(f.Refs) > 0 {
		fmt.Fprintf(b, "    by %s; %s\n", strings.Join(f.Refs, ", "), f.Confidence)
	}
	for _, x := range f.Evidence {
		said := x.Rcode
		if x.Error != "" {
			said = oneLine(x.Error)
		}
		if len(x.Records) > 0 {
			said = fmt.Sprintf("%s, %d records", said, len(x.Records))
		}
		fmt.Fprintf(b, "    %s  # %s in %s ms\n", x.Again, said, showMS(x.RTT))
	}
}

// writeUnknown puts together what could not be determined for the same reason. Where it lies with
// us, one reason is enough.
func writeUnknown(b *strings.Builder, domain dns.Name, findings []audit.Finding, verbose bool) {
	type reason struct {
		blame  audit.Blame
		detail string
	}
	var reasons []reason
	ids := map[reason][]audit.Finding{}
	for _, f := range findings {
		if f.Status != audit.Unknown {
			continue
		}
		r := reason{f.Blame, f.Detail}
		if f.Blame.Ours() {
			r.detail = ""
		}
		if ids[r] == nil {
			reasons = append(reasons, r)
		}
		ids[r] = append(ids[r], f)
	}
	for _, r := range reasons {
		same := ids[r]
		if len(same) == 1 {
			writeFinding(b, "unknown", domain, same[0], verbose)
			continue
		}
		words := make([]string, len(same))
		for i, f := range same {
			words[i] = f.ID
		}
		fmt.Fprintf(b, "unknown %d checks: %s [%s]\n    %s\n", len(same), oneLine(same[0].Detail), r.blame, strings.Join(slices.Compact(words), " "))
		if verbose {
			writeEvidence(b, same[0])
		}
	}
}

// oneLine keeps what strangers wrote from steering the terminal.
func oneLine(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 {
			return ' '
		}
		return c
	}, s)
}

// exit gives the worst: undetermined only where nothing is known to be wrong.
func (f *checkFlags) exit(domains []dns.Name, findings []audit.Finding) error {
	least := audit.Severity(f.failOn)
	what := domains[0].String()
	if len(domains) > 1 {
		what = fmt.Sprintf("%d domains", len(domains))
	}
	switch {
	case audit.Failed(findings, least):
		return problem(fmt.Errorf("check %s: something is wrong", what))
	case audit.Inconclusive(findings, f.checks, least):
		return undetermined(errors.New("check " + what + ": not all could be determined; this says nothing about the domain"))
	}
	return nil
}
