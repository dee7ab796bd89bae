package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"mxward/internal/audit"
	"mxward/internal/audit/render"
	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/site"
	"mxward/internal/watch"
)

func newWatch() *cobra.Command {
	f := watchFlags{checkFlags: checkFlags{failOn: string(audit.Error), profile: string(audit.Mail)}, severity: string(audit.Warning)}
	cmd := &cobra.Command{
		Use:   "watch [DOMAIN...]",
		Short: "check domains at intervals, and tell what has changed and what ends soon",
		Long: `Watch looks at domains every --interval, one after another, as mxward check does, and tells what
has changed: in the log on stderr, and to --mail-to by mail. It runs until SIGTERM or SIGINT.
mxward serve does the same where the plan has a table [watch].

A problem that is seen for the first time is looked at again after five minutes, and told when it
is still there; only one that is critical and was seen in two independent ways is told at once.
What is mended is seen twice, too. What could not be asked is neither better nor worse, and trouble
of this host's own resolver or network is in the log alone.

Of certificates, signatures and, with --registries, registrations the end is told 30, 14, 7, 3 and
1 days before, each once; not where that is more than a quarter of the whole life, since what lives
for two weeks is renewed every few days.

With --state it is known after a restart what was told, what was seen once, and what could not be
sent, which is sent then; what the mail host refuses for ever is logged as an error, and not tried
again. With --once each domain is looked at once: what is new is seen a second
time by the next run.

--plan names a site plan: its domains, unless some are named, are compared with it, and its table
[watch], if it has one, says what the flags do not.

Exit status with --once: as mxward check has it, and 1 where a change could not be sent. It stays
in the state, unless it was refused for ever. Without --once: 0.`,
		Example: `  mxward watch example.com example.org --state /var/lib/mxward/watch.json
  mxward watch --plan mxward.toml --mail-to admin@example.net --mail-from mxward@example.com
  mxward watch --once --state watch.json --mail-to admin@example.net --mail-from mxward@example.com example.com`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	flags := cmd.Flags()
	f.probeFlags.add(cmd)
	flags.StringVar(&f.rootHints, "root-hints", "", "ask from the root servers in this `file`, written like named.root")
	flags.StringVar(&f.server, "server", "", "judge by what the resolver at this `address`[:port] says")
	flags.BoolVar(&f.once, "once", false, "look at each domain once, and end")
	flags.DurationVar(&f.interval, "interval", watch.Interval, "look at each domain every so often, give or take a tenth; 5m to 168h")
	flags.StringVar(&f.state, "state", "", "keep what is known in this `file`, one for each watch; FILE.lock beside it holds off a second one")
	flags.StringArrayVar(&f.mailTo, "mail-to", nil, "tell this `address` by mail; may be given again")
	flags.StringVar(&f.mailFrom, "mail-from", "", "send the mail from this `address`")
	flags.StringVar(&f.relay, "smtp", "localhost:25", "hand the mail to this `host:port`, with STARTTLS where it is offered")
	flags.StringVar(&f.severity, "severity", f.severity, "the least `severity` that is told: critical, error, warning, notice or info")
	flags.StringVar(&f.failOn, "fail-on", f.failOn, "with --once: the least `severity` for exit status 1")
	flags.StringVar(&f.profile, "profile", f.profile, "what the domains are for, by `name`: mail, receive, send, parked, bulk or strict")
	flags.StringVar(&f.plan, "plan", "", "watch the domains of the site plan in this `file`, and compare them with it")
	flags.StringVar(&f.baseline, "baseline", "", "what is known and shall not be told, a TOML `file`")
	flags.StringArrayVar(&f.selectors, "selector", nil, "look at the DKIM key of this `selector`; may be given again")
	flags.StringSliceVar(&f.only, "only", nil, "check these `ids` or areas and nothing else")
	flags.StringSliceVar(&f.skip, "skip", nil, "leave out these `ids` or areas")
	flags.StringSliceVar(&f.lists, "lists", nil, "ask the block lists with these `zones` in place of the well-known ones")
	flags.BoolVar(&f.noSMTP, "no-smtp", false, "visit no mail host; then nothing is known of their certificates")
	flags.BoolVar(&f.registries, "registries", false, "ask third parties too: the registry when the domain's registration ends (RDAP), and a public zone for the networks of its name servers")
	flags.BoolVar(&f.jsonLog, "log-json", false, "log one JSON object a line")
	flags.StringVar(&f.logLevel, "log-level", "info", "the least `level` that is logged: debug, info, warn or error")
	return cmd
}

type watchFlags struct {
	checkFlags
	once            bool
	interval        time.Duration
	state           string
	mailTo          []string
	mailFrom, relay string
	severity        string
	jsonLog         bool
	logLevel        string
}

func (f *watchFlags) run(cmd *cobra.Command, args []string) error {
	domains, err := checkDomains(args)
	if err != nil {
		return usage(err)
	}
	if err := f.fromPlan(cmd); err != nil {
		return err
	}
	logger, err := newLogger(f.jsonLog, f.logLevel)
	if err == nil {
		err = errors.Join(f.valid(), f.choose())
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
	w := &watch.Watcher{Domains: domains, Check: f.check(a), Known: f.known, Interval: f.interval, Least: audit.Severity(f.severity), Logger: logger}
	if f.state != "" {
		if err := hasFolder(f.state); err != nil {
			return usage(fmt.Errorf("--state: %w", err))
		}
		file := watch.File(f.state)
		unlock, err := file.Lock()
		if err != nil {
			return usage(fmt.Errorf("--state: %w", err))
		}
		defer unlock()
		w.Store = file
	}
	if w.Mail, err = f.mail(logger); err != nil {
		return usage(err)
	}
	if err := w.Open(cmd.Context()); errors.Is(err, watch.ErrState) {
		return usage(fmt.Errorf("--state %s: %w: name another file, or move it away to begin anew", f.state, err))
	} else if err != nil {
		return usage(fmt.Errorf("--state: %w", err))
	}
	if f.once && f.state == "" {
		fmt.Fprintln(cmd.ErrOrStderr(), "mxward: watch: without --state nothing is seen twice, and so no change is told; the exit code says what this look has found")
	}
	if f.once {
		return f.lookOnce(cmd.Context(), w)
	}
	w.Run(cmd.Context())
	return nil
}

// fromPlan takes from the plan's [watch] what no flag says.
func (f *watchFlags) fromPlan(cmd *cobra.Command) error {
	if f.plan == "" {
		return nil
	}
	plan, err := loadPlan(f.plan)
	if err != nil || !plan.Watch.On {
		return err
	}
	own := plan.Watch
	for flag, take := range map[string]func(){
		"interval":   func() { f.interval = own.Interval },
		"severity":   func() { f.severity = own.Severity },
		"profile":    func() { f.profile = own.Profile },
		"selector":   func() { f.selectors = own.Selectors },
		"no-smtp":    func() { f.noSMTP = !own.SMTP },
		"registries": func() { f.registries = own.Registries },
		"baseline":   func() { f.baseline = own.Baseline },
		"hello":      func() { f.hello = plan.Name.String() },
		"mail-to":    func() { f.mailTo = texts(own.MailTo) },
		"mail-from":  func() { f.mailFrom = planSender(plan) },
	} {
		if !cmd.Flags().Changed(flag) {
			take()
		}
	}
	return nil
}

func texts(all []mail.Address) []string {
	out := make([]string, len(all))
	for i, a := range all {
		out[i] = a.String()
	}
	return out
}

// planSender gives who sends the mail by the plan, "" where nobody gets any.
func planSender(plan *site.Plan) string {
	if len(plan.Watch.MailTo) == 0 {
		return ""
	}
	return plan.WatchSender().String()
}

// valid finds what is wrong with the flags that check does not have.
func (f *watchFlags) valid() error {
	if f.interval < 5*time.Minute || f.interval > 7*24*time.Hour {
		return fmt.Errorf("--interval: expected a time between 5m and 168h, got %s", f.interval)
	}
	if !slices.Contains(audit.Severities(), audit.Severity(f.severity)) {
		return fmt.Errorf("--severity: expected critical, error, warning, notice or info, got %q", f.severity)
	}
	if len(f.mailTo) > 0 && f.once && f.state == "" {
		return errors.New("--once with --mail-to: add --state FILE, or nothing is ever seen twice, and what could not be sent is lost")
	}
	return nil
}

// mail gives who is told, nil where nobody is.
func (f *watchFlags) mail(logger *slog.Logger) (*watch.Mail, error) {
	switch {
	case len(f.mailTo) == 0 && f.mailFrom != "":
		return nil, errors.New("--mail-from: without --mail-to no mail is sent")
	case len(f.mailTo) == 0:
		return nil, nil
	case f.mailFrom == "":
		return nil, errors.New("--mail-to: add --mail-from ADDRESS, who sends the mail")
	}
	if host, port, err := net.SplitHostPort(f.relay); err != nil || host == "" || port == "" {
		return nil, fmt.Errorf("--smtp: expected a host and a port, such as localhost:25, got %q", f.relay)
	}
	m := &watch.Mail{}
	var err error
	if m.From, err = mail.ParseAddress(f.mailFrom); err != nil {
		return nil, fmt.Errorf("--mail-from: %w", err)
	}
	for _, text := range f.mailTo {
		to, err := mail.ParseAddress(text)
		if err != nil {
			return nil, fmt.Errorf("--mail-to: %w", err)
		}
		m.To = append(m.To, to)
	}
	m.Send = (&watch.Relay{Address: f.relay, Hello: f.helloName(), Logger: logger}).Send
	return m, nil
}

// check looks with a resolver that knows nothing yet: what an earlier look has in the cache is no
// news. What asks third parties stays the same.
func (f *watchFlags) check(first *audit.Auditor) func(context.Context, dns.Name) render.Report {
	return func(ctx context.Context, domain dns.Name) render.Report {
		a, err := f.auditor()
		if err != nil {
			a = first // it could be made, and a file that it needs is gone
		}
		a.Plan, a.PlanKey, a.Probes, a.Registry = first.Plan, first.PlanKey, first.Probes, first.Registry
		a.Web = nil // like the watch of serve
		r := f.look(ctx, a, domain)
		r.Profile = f.profile
		f.ignore(r.Findings)
		return r
	}
}

func (f *watchFlags) lookOnce(ctx context.Context, w *watch.Watcher) error {
	reports, err := w.Once(ctx)
	switch {
	case ctx.Err() != nil:
		return interrupted(errors.New("watch: interrupted; not all domains were looked at"))
	case err != nil:
		return problem(fmt.Errorf("watch: %w", err))
	case len(reports) < len(w.Domains):
		return internal(errors.New("watch: not all domains could be looked at; the log says why"))
	}
	var all []audit.Finding
	for _, r := range reports {
		all = append(all, r.Findings...)
	}
	return f.exit(w.Domains, all)
}
