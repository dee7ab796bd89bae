package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mxward/internal/app"
	"mxward/internal/dns"
	"mxward/internal/dns/resolver"
)

func newResolve() *cobra.Command {
	var f resolveFlags
	cmd := &cobra.Command{
		Use:   "resolve NAME [TYPE]",
		Short: "what does the DNS say, who says so, and is this host's DNS fit for mail",
		Long: `Resolve asks the DNS for NAME and prints the answer as dig does. It asks from the root down
by itself, or as the plan's resolver would with --plan, or another resolver with --server.
NAME may be in any script, or an IP address, whose names are then asked for. TYPE is A, MX,
TXT, TYPE65280 and so on, A by default.

With --trace every step is shown from the root down: whom was asked, why, what it said, and
how long that took. Where no answer could be had, it says why and whose trouble that is:
this host's, or the servers'.

With --health it asks instead whether this host's DNS is fit for mail: it tries each
resolver of /etc/resolv.conf, and iterating by itself, with names that a mail host needs;
with --server that resolver alone.
Is it fast, is it honest about names that do not exist, does it speak TCP and EDNS, does it
validate, and do the operators of block lists answer it?

Exit status: 0 there is an answer, also that there is no such name or no such record (its
status tells which), with --health: the DNS is fit; 1 with --health alone: it is not fit;
2 usage; 3 no answer could be had, whoever is to blame.`,
		Example: "  mxward resolve example.com mx\n  mxward resolve 192.0.2.1 --trace\n  mxward resolve --health",
		Args:    cobra.RangeArgs(0, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.health {
				return f.runHealth(cmd, args)
			}
			return f.run(cmd, args)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.plan, "plan", "", "ask as the resolver of this plan, a TOML `file`, does: own zones, stubs, forwards")
	cmd.Flags().BoolVar(&f.trace, "trace", false, "show every step")
	cmd.Flags().BoolVar(&f.dnssec, "dnssec", false, "show signatures and proofs too (the DO bit)")
	cmd.Flags().BoolVar(&f.cd, "cd", false, "show the data even where validation fails (the CD bit)")
	cmd.Flags().BoolVar(&f.json, "json", false, "one JSON document on stdout (schema "+resolveSchema+", with --health "+healthSchema+")")
	cmd.Flags().BoolVar(&f.health, "health", false, "say whether this host's DNS is fit for mail")
	cmd.Flags().StringVar(&f.resolvConf, "resolv-conf", "/etc/resolv.conf", "the `file` that names this host's resolvers")
	_ = cmd.Flags().MarkHidden("resolv-conf") // for tests; the flag is there
	cmd.MarkFlagsMutuallyExclusive("root-hints", "server", "plan")
	for _, other := range []string{"trace", "dnssec", "cd", "plan"} {
		cmd.MarkFlagsMutuallyExclusive("health", other)
	}
	return cmd
}

type resolveFlags struct {
	resolverFlags
	plan, resolvConf        string
	trace, dnssec, cd, json bool
	health                  bool
}

const resolveSchema = "mxward.resolve/1"

// resolveDocument is what --json prints; fields are only ever added to it.
type resolveDocument struct {
	Schema     string         `json:"schema"`
	Name       dns.Name       `json:"name"`
	Type       string         `json:"type"`
	Status     string         `json:"status"`   // the Rcode; "" where no answer could be had
	Extended   uint16         `json:"extended"` // an extended error beside an answer, RFC 8914
	Flags      []string       `json:"flags"`
	Answer     []recordJSON   `json:"answer"`
	Authority  []recordJSON   `json:"authority"`
	Additional []recordJSON   `json:"additional"`
	TookMS     float64        `json:"took_ms"`
	Packets    int            `json:"packets"`
	Error      failureJSON    `json:"error"`
	Steps      []resolverStep `json:"steps"` // with --trace
}

type recordJSON struct {
	Name dns.Name `json:"name"`
	TTL  uint32   `json:"ttl"`
	Type string   `json:"type"`
	Data string   `json:"data"`
}

// failureJSON is why no answer could be had; without a trouble there is one.
type failureJSON struct {
	Trouble  string        `json:"trouble"` // its id
	Ours     bool          `json:"ours"`    // this host's or this program's
	Text     string        `json:"text"`
	Extended uint16        `json:"extended"` // the extended DNS error, RFC 8914; 0 for none
	Tried    []attemptJSON `json:"tried"`
}

type attemptJSON struct {
	Server   string  `json:"server"`
	Name     string  `json:"name"`
	Protocol string  `json:"protocol"`
	Said     string  `json:"said"`
	TookMS   float64 `json:"took_ms"`
}

type resolverStep struct {
	Name       dns.Name `json:"name"`
	Type       string   `json:"type"`
	Depth      int      `json:"depth"` // 0 for the question itself, 1 for the address of a name server, …
	Zone       string   `json:"zone"`
	Server     string   `json:"server"` // "" for the cache and local data
	ServerName string   `json:"server_name"`
	Protocol   string   `json:"protocol"`
	Said       string   `json:"said"`
	TookMS     float64  `json:"took_ms"`
	Why        string   `json:"why"`
}

func (f *resolveFlags) run(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage(errors.New("expected a name to resolve, or --health"))
	}
	q, err := f.question(args)
	if err != nil {
		return usage(err)
	}
	var steps stepList
	var trace func(resolver.Step)
	if f.trace {
		trace = steps.add
	}
	r, err := f.open(trace)
	if err != nil {
		return err
	}
	began := time.Now()
	answer, err := r.Resolve(cmd.Context(), q)
	doc := newResolveDocument(q, answer, err, time.Since(began), steps.all())
	w := cmd.OutOrStdout()
	if f.json {
		if err := writeJSON(w, doc); err != nil {
			return err
		}
	} else {
		doc.print(w, answer)
	}
	if err != nil {
		return undetermined(fmt.Errorf("%s: no answer could be had: %s", q, doc.Error.Text))
	}
	return nil
}

// question reads NAME and TYPE; an address stands for its name in the reverse tree.
func (f *resolveFlags) question(args []string) (dns.Question, error) {
	q := dns.Question{Type: dns.TypeA, DNSSEC: f.dnssec, CheckingDisabled: f.cd}
	if a, err := netip.ParseAddr(args[0]); err == nil {
		q.Name, q.Type = dns.ReverseName(a.WithZone("")), dns.TypePTR
	} else if q.Name, err = dns.ParseName(args[0]); err != nil {
		return q, fmt.Errorf("expected a name or an IP address: %w", err)
	}
	if len(args) == 2 {
		typ, ok := dns.ParseType(args[1])
		if !ok {
			return q, fmt.Errorf("expected a type such as MX or TYPE65280, got %q", args[1])
		}
		q.Type = typ
	}
	return q, nil
}

func (f *resolveFlags) open(trace func(resolver.Step)) (dns.Resolver, error) {
	if f.plan == "" {
		r, err := f.resolver(trace)
		if err != nil {
			return nil, usage(err)
		}
		return r, nil
	}
	plan, err := loadPlan(f.plan)
	if err != nil {
		return nil, err
	}
	r, err := app.NewResolver(plan)
	if err != nil {
		return nil, usage(err)
	}
	r.Iterative.Trace = trace
	return r, nil
}

// stepList gathers steps, which may come from several goroutines.
type stepList struct {
	mu    sync.Mutex
	steps []resolver.Step
}

func (l *stepList) add(s resolver.Step) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.steps = append(l.steps, s)
}

func (l *stepList) all() []resolver.Step {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.steps)
}

func newResolveDocument(q dns.Question, answer dns.Answer, err error, took time.Duration, steps []resolver.Step) resolveDocument {
	doc := resolveDocument{
		Schema: resolveSchema, Name: q.Name, Type: q.Type.String(), Flags: []string{},
		Answer: recordsJSON(answer.Answer), Authority: recordsJSON(answer.Authority), Additional: recordsJSON(answer.Additional),
		Extended: answer.Extended, Packets: answer.Packets, TookMS: milliseconds(took), Error: newFailure(err), Steps: make([]resolverStep, len(steps)),
	}
	if err == nil {
		doc.Status = answer.Rcode.String()
	}
	if answer.Authoritative {
		doc.Flags = append(doc.Flags, "aa")
	}
	if answer.Authentic {
		doc.Flags = append(doc.Flags, "ad")
	}
	for i, s := range steps {
		doc.Steps[i] = resolverStep{
			Name: s.Question.Name, Type: s.Question.Type.String(), Depth: s.Depth, Zone: s.Zone.String(),
			ServerName: s.ServerName.String(), Protocol: s.Protocol, Said: s.Said, TookMS: milliseconds(s.Took), Why: s.Why,
		}
		if s.Server.IsValid() {
			doc.Steps[i].Server = s.Server.String()
		}
	}
	return doc
}

func recordsJSON(section []dns.RR) []recordJSON {
	all := make([]recordJSON, len(section))
	for i, rr := range section {
		h := rr.Header()
		all[i] = recordJSON{dns.NameOf(h.Name), h.Ttl, dns.Type(h.Rrtype).String(), strings.TrimPrefix(rr.String(), h.String())}
	}
	return all
}

func newFailure(err error) failureJSON {
	fail := failureJSON{Tried: []attemptJSON{}}
	if err == nil {
		return fail
	}
	trouble := dns.TroubleOf(err)
	fail.Trouble, fail.Ours, fail.Text = trouble.ID(), trouble.Ours() || errors.Is(err, context.Canceled), err.Error()
	var e *dns.Error
	if !errors.As(err, &e) {
		return fail
	}
	fail.Text, fail.Extended = e.Trouble.String(), e.ExtendedError()
	if e.Detail != "" {
		fail.Text += ": " + e.Detail
	}
	for _, a := range e.Attempts {
		fail.Tried = append(fail.Tried, attemptJSON{a.Server.String(), a.Name, a.Protocol, a.Said, milliseconds(a.Took)})
	}
	return fail
}

// milliseconds with three places: what takes less is nothing.
func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

// print writes what people read: the steps, and the answer as dig does or the failure.
func (d resolveDocument) print(w io.Writer, answer dns.Answer) {
	if len(d.Steps) > 0 {
		printSteps(w, d.Steps)
	}
	fmt.Fprintf(w, ";; QUESTION SECTION:\n;%s\tIN\t%s\n\n", d.Name.FQDN(), d.Type)
	if d.Error.Trouble != "" {
		d.Error.print(w)
		return
	}
	for _, s := range []struct {
		title   string
		records []dns.RR
	}{{"ANSWER", answer.Answer}, {"AUTHORITY", answer.Authority}, {"ADDITIONAL", answer.Additional}} {
		if len(s.records) == 0 {
			continue
		}
		fmt.Fprintf(w, ";; %s SECTION:\n", s.title)
		for _, rr := range s.records {
			fmt.Fprintln(w, rr)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, ";; status: %s%s; flags: %s; time: %s ms; packets: %d\n", d.Status, d.meaning(),
		cmp.Or(strings.Join(d.Flags, " "), "none"), showMS(d.TookMS), d.Packets)
	if d.Extended > 0 {
		fmt.Fprintf(w, ";; extended error: %d (RFC 8914)\n", d.Extended)
	}
}

// meaning says what the status alone does not.
func (d resolveDocument) meaning() string {
	own := slices.ContainsFunc(d.Answer, func(r recordJSON) bool { return r.Type == d.Type })
	switch {
	case d.Status == dns.NXDomain.String():
		return " (there is no such name)"
	case d.Status == dns.NoError.String() && !own && d.Type != dns.TypeANY.String():
		return " (the name has no " + d.Type + " records)"
	}
	return ""
}

func printSteps(w io.Writer, steps []resolverStep) {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, ";; zone\tserver\tasked\ttook\tsaid\twhy")
	for _, s := range steps {
		server, zone, took := "-", cmp.Or(s.Zone, "-"), "-"
		if s.Server != "" {
			server = s.Server + " " + s.Protocol
			if s.ServerName != "" {
				server = s.ServerName + " " + server
			}
			took = showMS(s.TookMS) + " ms"
		}
		fmt.Fprintf(table, ";; %s%s\t%s\t%s %s\t%s\t%s\t%s\n", strings.Repeat("  ", s.Depth), zone, server, s.Name, s.Type, took, s.Said, s.Why)
	}
	table.Flush()
	fmt.Fprintln(w)
}

func (f failureJSON) print(w io.Writer) {
	whose := "the servers', not this host's"
	if f.Ours {
		whose = "this host's, not the servers'"
	}
	fmt.Fprintf(w, ";; no answer could be had: %s\n;; whose trouble: %s\n", f.Text, whose)
	for _, a := range f.Tried {
		fmt.Fprintf(w, ";; tried %s over %s: %s after %s ms\n", strings.TrimSpace(a.Name+" "+a.Server), a.Protocol, a.Said, showMS(a.TookMS))
	}
}

// showMS is short where it is long enough.
func showMS(ms float64) string {
	if ms >= 10 {
		return fmt.Sprintf("%.0f", ms)
	}
	return fmt.Sprintf("%.1f", ms)
}
