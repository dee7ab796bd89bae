package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/spf13/cobra"

	"mxward/internal/audit"
	"mxward/internal/audit/render"
	"mxward/internal/dns"
	"mxward/internal/dns/blocklist"
	"mxward/internal/dns/resolver"
	"mxward/internal/mailauth/mtasts"
	"mxward/internal/rdap"
)

// forgedName is kept by its owner with DS records that mean none of its keys, so that people
// can see whether a resolver validates. If it is not, it says nothing.
const forgedName = "dnssec-failed.org"

func newCheck() *cobra.Command {
	f := checkFlags{failOn: string(audit.Error), profile: string(audit.Mail)}
	cmd := &cobra.Command{
		Use:   "check [DOMAIN...]",
		Short: "is a domain's mail DNS right, whose fault is it if not, and how to mend it",
		Long: `Check looks at a domain's mail DNS from outside: its delegation and each of its name servers,
MX hosts and the names of their addresses, SPF, DMARC, DKIM, MTA-STS, TLS-RPT, DANE, DNSSEC,
BIMI, CAA, what mail programs are told, ACME challenges, and block lists; and it visits each
address of the MX hosts once, as a stranger: greeting, EHLO, STARTTLS, and whether it would take
mail for anybody, which is asked and taken back. With servers that SRV records name it shakes
hands over TLS, and says no more; web servers of the domain are asked for the file of autoconfig.
First it asks whether it can judge at all: its own resolver and network. What could not be asked
is unknown, never missing, and each finding says on whose side the trouble lies. It needs no
configuration and no root, and it sends no mail. --no-smtp leaves the visits out, and so do --only
and --skip where no check needs them.

It asks the DNS from the root down by itself, or another resolver with --server; then that
resolver is looked at too, and the zone's own servers are asked beside it. DKIM keys are
looked at where --selector, --message or --plan names them, or where the domain's provider is
known to have them: no question can list them. --registries asks third
parties too: the registry when the registration ends, and whose networks the servers are in.

--format html writes one page for a browser, sarif and junit what CI systems read, prometheus
what node_exporter's textfile collector does; each is one document for all domains, written at
the end. Text and JSON come as each domain is done. What is milder than --fail-on is no failure
in junit.

Block lists are asked for the addresses of the MX hosts and for the domain, after a look at
their own test entries. Through a public resolver most of them refuse: then they are unusable,
and nobody is listed. --skip dnsbl asks none.

--only and --skip take ids (spf.ptr) and areas (spf), with commas between them. mxward explain
ID says more about a check.

--profile says what the domain is for: mail (it takes mail and sends it), receive (it sends
none), send (it takes none), parked (neither), bulk (it sends much, and must do what the large
mailbox providers want), strict (what is recommended is expected).

--message reads a message, its header, or a DKIM-Signature alone: its selectors are looked at,
and whether it is signed and sent in its author's name. Without DOMAIN, that author's domain
is checked. --plan compares with a site plan; without DOMAIN, all of its domains are checked.

--baseline names what is known, each with a day on which it counts again: it is shown, and
does not count for the exit status. --since compares with the --json output of an earlier run
and shows what is new, changed or gone; with --fail-on-new only what is new or worse counts.

--record writes all that is heard to a file, question by question and visit by visit, and
--replay judges such a file as of then, without the network: of all its domains, or those that
are named. What is about judging and output can be given anew. A recording holds what was asked
and what was answered, and nothing else; the plan and the message are not in it.

Exit status: 0 nothing as bad as --fail-on; 1 something is; 2 usage, plan or baseline; 3
nothing is, and what is unknown might be, or the resolver or the network here is at fault
(with --fail-on-unknown that is 1); 4 a fault of mxward's own; 5 it was interrupted, and what
it printed is not all.`,
		Example: `  mxward check example.com
  mxward check example.com --verbose --selector 2026a --selector 2026e
  mxward check example.com example.org --json --skip bimi,caa --fail-on warning
  mxward check example.com --format html --output example.com.html
  mxward check --plan mxward.toml --baseline known.toml
  mxward check --message - < message.eml
  mxward check example.com --since yesterday.json --fail-on-new
  mxward check example.com --record example.com.tape
  mxward check --replay example.com.tape --verbose`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	flags := cmd.Flags()
	f.outputFlags.add(cmd)
	flags.BoolVar(&f.json, "json", false, "as --format json: one document (schema "+render.Schema+"), for several domains one in each line")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "also what was asked, with the dig commands that ask again, and what is fine")
	flags.StringArrayVar(&f.selectors, "selector", nil, "look at the DKIM key of this `selector`; may be given again")
	flags.StringSliceVar(&f.only, "only", nil, "check these `ids` or areas and nothing else")
	flags.StringSliceVar(&f.skip, "skip", nil, "leave out these `ids` or areas")
	flags.StringSliceVar(&f.lists, "lists", nil, "ask the block lists with these `zones` in place of the well-known ones")
	flags.StringVar(&f.failOn, "fail-on", f.failOn, "the least `severity` for exit status 1: critical, error, warning, notice or info")
	flags.BoolVar(&f.noSMTP, "no-smtp", false, "visit no mail host; what needs that is skipped")
	f.probeFlags.add(cmd)
	f.weighing(flags)
	f.tapeFlags.add(flags)
	flags.StringVar(&f.rootHints, "root-hints", "", "ask from the root servers in this `file`, written like named.root")
	flags.StringVar(&f.server, "server", "", "judge by what the resolver at this `address`[:port] says")
	flags.StringArrayVar(&f.senders, "sender", nil, "hold this `address`, which sends the domain's mail, against SPF; may be given again")
	flags.BoolVar(&f.registries, "registries", false, "ask third parties too: the registry when the domain's registration ends (RDAP), and a public zone for the networks of its name servers")
	return cmd
}

type checkFlags struct {
	outputFlags
	resolverFlags
	probeFlags
	tapeFlags
	json, verbose bool
	noSMTP        bool
	selectors     []string
	only, skip    []string
	lists         []string
	failOn        string
	senders       []string
	registries    bool
	checks        []audit.Check

	profile              string
	message, plan        string
	baseline, since      string
	failNew, failUnknown bool
	judging              // what these stand for, once they are read
}

func (f *checkFlags) run(cmd *cobra.Command, args []string) error {
	if f.schema {
		return printSchema(cmd, args)
	}
	domains, err := checkDomains(args)
	if err == nil {
		err = f.choose()
	}
	if err == nil {
		err = f.chooseFormat(cmd.Flags().Changed("format"))
	}
	if err == nil {
		domains, err = f.play(cmd, domains)
	}
	if err != nil {
		return usage(err)
	}
	a, err := f.auditor()
	if err != nil {
		return usage(err)
	}
	if domains, err = f.read(cmd, a, domains); err != nil {
		return err
	}
	if err := f.tapeOver(a, domains); err != nil {
		return usage(err)
	}
	out, err := f.open(cmd.OutOrStdout(), len(domains))
	if err != nil {
		return usage(err)
	}
	defer out.drop()
	var all []audit.Finding
	addrs := map[netip.Addr]bool{}
	for _, domain := range domains {
		if audit.PublicSuffix(domain) {
			fmt.Fprintf(cmd.ErrOrStderr(), "mxward: check: %s is a public suffix, below which others register their domains: unless it takes mail itself, its delegation, its SOA record, DNSSEC and DMARC are looked at, and the checks of mail do not apply\n", domain)
		}
		report := f.look(cmd.Context(), a, domain)
		report.Profile, report.Since = f.profile, f.since != ""
		report.Moves = f.weigh(domain, report.Findings)
		if err := out.add(report); err != nil {
			return internal(fmt.Errorf("check %s: %w", domain, err))
		}
		all = append(all, report.Findings...)
		for _, addr := range report.Addrs {
			addrs[addr] = true
		}
		if cmd.Context().Err() != nil { // what is left would only be unknown
			return interrupted(fmt.Errorf("check %s: interrupted; what was printed is not all", domain))
		}
	}
	f.tellUnmatched(cmd.ErrOrStderr(), domains, addrs, all)
	if err := errors.Join(out.finish(), f.close()); err != nil {
		return err
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
	if len(f.senders) > audit.MaxSenders {
		return fmt.Errorf("--sender: at most %d are looked at, got %d", audit.MaxSenders, len(f.senders))
	}
	if len(f.selectors) > audit.MaxSelectors {
		return fmt.Errorf("--selector: at most %d are looked at, got %d", audit.MaxSelectors, len(f.selectors))
	}
	profile, err := audit.ParseProfile(f.profile)
	if err != nil {
		return fmt.Errorf("--profile: %w", err)
	}
	table := profile.Checks()
	for _, flag := range []struct {
		name  string
		words []string
	}{{"--only", f.only}, {"--skip", f.skip}} {
		for _, word := range flag.words {
			if !slices.ContainsFunc(table, func(c audit.Check) bool { return names(c, word) }) {
				return fmt.Errorf("%s: %w", flag.name, noCheck(word, table))
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
	a := &audit.Auditor{Resolver: own, Asker: own, Wanted: audit.Want(f.checks), Probes: &audit.Probes{}, Selectors: f.selectors, AllowLoopback: own.AllowLoopback}
	if f.server != "" {
		if a.Server, err = parseServer(f.server); err != nil {
			return nil, err
		}
		a.Resolver = &resolver.Forwarder{Server: a.Server}
		a.Bogus = dns.MustName(forgedName)
	}
	for _, s := range f.senders {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("--sender: expected an address, such as 192.0.2.25, got %q", s)
		}
		a.Senders = append(a.Senders, addr.Unmap())
	}
	if f.registries {
		registry := &rdap.Client{Resolver: own, AllowLoopback: own.AllowLoopback}
		a.Registry = registry.Ends
		a.Origins = audit.PublicOrigins()
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
	if f.wants("autoconf.autoconfig-missing") {
		a.Web = &audit.WebLook{}
	}
	if f.wants("autoconf.srv-cert") {
		a.Certs = &audit.CertLook{}
	}
	if a.Lists, err = f.blockLists(); err != nil {
		return nil, err
	}
	if !f.noSMTP && audit.NeedsSMTP(f.checks) {
		a.SMTP = f.prober()
		if f.rootHints == "" { // else it is not known who is out there
			a.Controls = audit.WellKnown()
		}
	}
	return a, nil
}

// wants reports whether checks of this id or area were chosen.
func (f *checkFlags) wants(word string) bool {
	return slices.ContainsFunc(f.checks, func(c audit.Check) bool { return names(c, word) })
}

// blockLists gives those to ask. Who brings root hints has another internet, where the well-known
// ones are not.
func (f *checkFlags) blockLists() ([]blocklist.List, error) {
	var lists []blocklist.List
	for _, word := range f.lists {
		zone, err := dns.ParseName(word)
		if err != nil || zone == dns.Root {
			return nil, fmt.Errorf("--lists: expected the zone of a block list, such as zen.spamhaus.org, got %q", word)
		}
		lists = append(lists, blocklist.ByZone(zone))
	}
	switch {
	case !f.wants("dnsbl"):
		return nil, nil
	case len(lists) == 0 && f.rootHints == "":
		return blocklist.Open(), nil
	}
	return lists, nil
}

// exit gives the worst: undetermined only where nothing is known to be wrong.
func (f *checkFlags) exit(domains []dns.Name, findings []audit.Finding) error {
	least := audit.Severity(f.failOn)
	what := domains[0].String()
	if len(domains) > 1 {
		what = fmt.Sprintf("%d domains", len(domains))
	}
	failed := audit.Failed(findings, least)
	if f.failNew {
		failed = slices.ContainsFunc(f.moves, func(m audit.Move) bool { return m.Worsened(least) })
	}
	switch {
	case failed:
		return problem(fmt.Errorf("check %s: something is wrong", what))
	case !audit.Inconclusive(findings, f.checks, least):
	case f.failUnknown:
		return problem(errors.New("check " + what + ": not all could be determined (--fail-on-unknown)"))
	default:
		return undetermined(errors.New("check " + what + ": not all could be determined; this says nothing about the domain"))
	}
	return nil
}
