package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"mxward/internal/dns"
	"mxward/internal/mailauth/lint"
	"mxward/internal/mailauth/spf"
)

func newSPF() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "spf",
		Short: "who may send for a domain by its SPF policy, and what that costs",
		Long: `Spf looks at SPF policies (RFC 7208): the tree of includes and what it costs, the verdict
on one client, the networks that pass, and the mistakes in a record that is not published yet.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSPFTree(), newSPFCheck(), newSPFFlatten(), newSPFLint())
	return cmd
}

const (
	spfSchema      = "mxward.spf/1"
	spfCheckSchema = "mxward.spf-check/1"
	spfLintSchema  = "mxward.spf-lint/1"
)

func newSPFTree() *cobra.Command {
	var f resolverFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "tree DOMAIN",
		Short: "what a domain's SPF policy includes, and how many look-ups each branch costs",
		Long: `Tree shows a domain's SPF record with everything that it includes or redirects to, how many
of the ten look-ups and the two void ones each branch costs, and what is wrong with it. It
goes on behind the point where receivers stop, so that one sees what to drop. What depends
on the client, by a macro, is counted and not followed.

Exit status: 0 receivers can use the policy; 1 they cannot, or there is none; 2 usage;
3 the DNS could not be asked.`,
		Example: "  mxward spf tree example.com\n  mxward spf tree example.com --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := openSPF(&f, args[0])
			if err != nil {
				return usage(err)
			}
			t := spf.Survey(cmd.Context(), r, args[0])
			findings := t.Findings()
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), newSPFTreeDocument(t, findings))
			} else {
				fmt.Fprint(cmd.OutOrStdout(), t)
				printFindings(cmd.OutOrStdout(), findings)
			}
			if err != nil {
				return err
			}
			return spfTreeExit(t, findings)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON document on stdout (schema "+spfSchema+")")
	return cmd
}

// openSPF makes the resolver for a domain, if that is one.
func openSPF(f *resolverFlags, domain string) (dns.Resolver, error) {
	if _, err := parseDomain(domain); err != nil {
		return nil, err
	}
	return f.resolver(nil)
}

// spfTreeExit: undetermined only where nothing is known to be wrong.
func spfTreeExit(t *spf.Tree, findings []lint.Finding) error {
	trouble := t.Undetermined()
	switch {
	case t.Err != nil && trouble == nil:
		return problem(fmt.Errorf("spf tree %s: %w", t.Domain, t.Err))
	case broken(findings):
		return problem(fmt.Errorf("spf tree %s: receivers cannot use the policy", t.Domain))
	case trouble != nil:
		return undetermined(fmt.Errorf("spf tree %s: %w", t.Domain, trouble))
	}
	return nil
}

// spfTreeDocument is what tree --json prints; fields are only ever added to it.
type spfTreeDocument struct {
	Schema string `json:"schema"`
	spfTreeJSON
	Limits   spfLimitsJSON `json:"limits"`
	Findings []findingJSON `json:"findings"`
}

type spfLimitsJSON struct {
	Lookups int `json:"lookups"`
	Voids   int `json:"voids"`
}

type spfTreeJSON struct {
	Domain   string          `json:"domain"`
	Record   string          `json:"record"`
	Status   string          `json:"status"` // "ok", "none", "temperror", "permerror"
	Error    string          `json:"error"`
	Lookups  int             `json:"lookups"`
	Voids    int             `json:"voids"`
	Branches []spfBranchJSON `json:"branches"`
}

type spfBranchJSON struct {
	Term    string       `json:"term"`
	Number  int          `json:"number"`
	Over    bool         `json:"over"`
	Lookups int          `json:"lookups"`
	Voids   int          `json:"voids"`
	Hosts   []dns.Name   `json:"hosts"`
	Addrs   []netip.Addr `json:"addresses"`
	Note    string       `json:"note"`
	Error   string       `json:"error"`
	Tree    *spfTreeJSON `json:"tree"`
}

func newSPFTreeDocument(t *spf.Tree, findings []lint.Finding) spfTreeDocument {
	return spfTreeDocument{
		Schema: spfSchema, spfTreeJSON: *newSPFTreeJSON(t),
		Limits: spfLimitsJSON{Lookups: spf.MaxLookups, Voids: spf.MaxVoids}, Findings: findingsJSON(findings),
	}
}

func newSPFTreeJSON(t *spf.Tree) *spfTreeJSON {
	out := &spfTreeJSON{
		Domain: t.Domain, Record: t.Record, Status: "ok", Error: errorText(t.Err),
		Lookups: t.Lookups, Voids: t.Voids, Branches: make([]spfBranchJSON, len(t.Branches)),
	}
	switch {
	case errors.Is(t.Err, spf.ErrNotSPF):
		out.Status = string(spf.None)
	case errors.Is(t.Err, spf.ErrTemporary):
		out.Status = string(spf.TempError)
	case t.Err != nil:
		out.Status = string(spf.PermError)
	}
	for i, b := range t.Branches {
		out.Branches[i] = spfBranchJSON{
			Term: b.Term.String(), Number: b.Number, Over: b.Over(), Lookups: b.Lookups, Voids: b.Voids,
			Hosts: notNil(b.Hosts), Addrs: notNil(b.Addrs), Note: b.Note, Error: errorText(b.Err),
		}
		if b.Tree != nil {
			out.Branches[i].Tree = newSPFTreeJSON(b.Tree)
		}
	}
	return out
}

// notNil: an empty list is [] in JSON.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func newSPFCheck() *cobra.Command {
	var f spfCheckFlags
	cmd := &cobra.Command{
		Use:   "check --ip ADDRESS [--from ADDRESS] [--helo NAME]",
		Short: "what would a receiver say of a client, a sender and a HELO name, and why",
		Long: `Check evaluates the SPF policy of the sender's domain for a client, as a receiver does, and
shows every term: what it resolved to, what it cost, and which one matched. Without --from
the name of --helo is judged, as for the null sender.

Exit status: 0 pass, neutral or none; 1 fail, softfail or permerror; 2 usage; 3 temperror:
the DNS could not be asked.`,
		Example: "  mxward spf check --ip 192.0.2.1 --from alice@example.com\n  mxward spf check --ip 2001:db8::1 --helo mx1.example.com --json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.ip, "ip", "", "the client's `address`")
	cmd.Flags().StringVar(&f.from, "from", "", "the sender's `address`, or a bare domain")
	cmd.Flags().StringVar(&f.helo, "helo", "", "the `name` that the client said in HELO or EHLO")
	cmd.Flags().StringVar(&f.receiver, "receiver", "", "the receiving host's `name`, for the macro r")
	cmd.Flags().BoolVar(&f.json, "json", false, "one JSON document on stdout (schema "+spfCheckSchema+")")
	return cmd
}

type spfCheckFlags struct {
	resolverFlags
	ip, from, helo, receiver string
	json                     bool
}

func (f *spfCheckFlags) run(cmd *cobra.Command) error {
	s, err := f.session()
	if err != nil {
		return usage(err)
	}
	r, err := f.resolver(nil)
	if err != nil {
		return usage(err)
	}
	v := spf.Check(cmd.Context(), r, s)
	if f.json {
		err = writeJSON(cmd.OutOrStdout(), newSPFCheckDocument(s, v))
	} else {
		_, err = fmt.Fprint(cmd.OutOrStdout(), v)
	}
	if err != nil {
		return err
	}
	switch v.Result {
	case spf.Fail, spf.SoftFail:
		return problem(fmt.Errorf("spf check: %s may not send as %s: %s", s.Client, v.Domain, v.Result))
	case spf.PermError:
		return problem(fmt.Errorf("spf check: %w", v.Err))
	case spf.TempError:
		return undetermined(fmt.Errorf("spf check: %w", v.Err))
	}
	return nil
}

func (f *spfCheckFlags) session() (spf.Session, error) {
	s := spf.Session{Helo: f.helo, From: strings.Trim(f.from, "<>"), Receiver: f.receiver}
	var err error
	if s.Client, err = netip.ParseAddr(f.ip); err != nil {
		return s, fmt.Errorf("--ip: expected the client's IP address, got %q", f.ip)
	}
	if s.From == "" && s.Helo == "" {
		return s, errors.New("expected --from with the sender, or --helo with the client's name, or both")
	}
	return s, nil
}

// spfCheckDocument is what check --json prints; fields are only ever added to it.
type spfCheckDocument struct {
	Schema      string        `json:"schema"`
	IP          netip.Addr    `json:"ip"`
	From        string        `json:"from"`
	Helo        string        `json:"helo"`
	Identity    string        `json:"identity"`
	Domain      string        `json:"domain"`
	Result      string        `json:"result"`
	Matched     string        `json:"matched"`
	Explanation string        `json:"explanation"`
	Error       string        `json:"error"`
	Lookups     int           `json:"lookups"`
	Voids       int           `json:"voids"`
	Limits      spfLimitsJSON `json:"limits"`
	Trace       *spfTraceJSON `json:"trace"`
}

type spfTraceJSON struct {
	Domain  string        `json:"domain"`
	Record  string        `json:"record"`
	Result  string        `json:"result"`
	Matched string        `json:"matched"`
	Error   string        `json:"error"`
	Steps   []spfStepJSON `json:"steps"`
}

type spfStepJSON struct {
	Term    string        `json:"term"`
	Target  string        `json:"target"`
	Matched bool          `json:"matched"`
	Lookups int           `json:"lookups"`
	Voids   int           `json:"voids"`
	Hosts   []dns.Name    `json:"hosts"`
	Addrs   []netip.Addr  `json:"addresses"`
	Error   string        `json:"error"`
	Trace   *spfTraceJSON `json:"trace"`
}

func newSPFCheckDocument(s spf.Session, v spf.Verdict) spfCheckDocument {
	return spfCheckDocument{
		Schema: spfCheckSchema, IP: s.Client, From: s.From, Helo: s.Helo, Identity: v.Identity, Domain: v.Domain,
		Result: string(v.Result), Matched: v.Matched, Explanation: v.Explanation, Error: errorText(v.Err),
		Lookups: v.Lookups, Voids: v.Voids, Limits: spfLimitsJSON{Lookups: spf.MaxLookups, Voids: spf.MaxVoids},
		Trace: newSPFTraceJSON(v.Trace),
	}
}

func newSPFTraceJSON(t *spf.Trace) *spfTraceJSON {
	if t == nil {
		return nil
	}
	out := &spfTraceJSON{
		Domain: t.Domain, Record: t.Record, Result: string(t.Result), Matched: t.Matched,
		Error: errorText(t.Err), Steps: make([]spfStepJSON, len(t.Steps)),
	}
	for i, s := range t.Steps {
		out.Steps[i] = spfStepJSON{
			Term: s.Term.String(), Target: s.Target, Matched: s.Matched, Lookups: s.Lookups, Voids: s.Voids,
			Hosts: notNil(s.Hosts), Addrs: notNil(s.Addrs), Error: errorText(s.Err), Trace: newSPFTraceJSON(s.Trace),
		}
	}
	return out
}

func newSPFLint() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "lint RECORD...",
		Short: "what is wrong with an SPF record before it is published",
		Long: `Lint looks at the text of a record, as typed or pasted, and says where it is wrong and what
to write instead. It asks no DNS: for what includes cost, see tree. Several records are taken
as what stands at one name.

Exit status: 0 receivers can use it; 1 they cannot; 2 usage.`,
		Example: "  mxward spf lint 'v=spf1 mx ip4:192.0.2.1 -all'",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			args = typedRecords(args)
			doc := spfLintDocument{Schema: spfLintSchema, Records: args}
			findings := spf.LintTexts(args)
			doc.Findings = findingsJSON(findings)
			if mended, ok := spf.Mend(strings.Join(args, " ")); ok && (len(args) > 1 || mended != args[0]) && !broken(spf.LintTexts([]string{mended})) {
				doc.Suggestion = mended
			}
			if asJSON {
				if err := writeJSON(cmd.OutOrStdout(), doc); err != nil {
					return err
				}
			} else {
				printFindings(cmd.OutOrStdout(), findings)
				if doc.Suggestion != "" {
					fmt.Fprintf(cmd.OutOrStdout(), "perhaps: %s\n", doc.Suggestion)
				}
			}
			if broken(findings) || findings != nil && findings[0].ID == "spf.missing" {
				return problem(errors.New("spf lint: receivers cannot use this"))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON document on stdout (schema "+spfLintSchema+")")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return fmt.Errorf("%w: put the record into quotes: mxward spf lint 'v=spf1 mx -all'", err)
	})
	return cmd
}

// spfLintDocument is what lint --json prints; fields are only ever added to it.
type spfLintDocument struct {
	Schema     string        `json:"schema"`
	Records    []string      `json:"records"`
	Suggestion string        `json:"suggestion"` // one record instead; "" where there is nothing to mend
	Findings   []findingJSON `json:"findings"`
}
