package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"time"

	"mxward/internal/audit"
	"mxward/internal/audit/render"
	"mxward/internal/dns"
	"mxward/internal/dns/blocklist"
	"mxward/internal/dns/resolver"
	"mxward/internal/mail"
	"mxward/internal/mailauth/dkim"
	"mxward/internal/mailauth/mtasts"
	"mxward/internal/probe"
	"mxward/internal/rdap"
	"mxward/internal/report"
	"mxward/internal/store"
	"mxward/internal/watch"
)

// The watch's state in the store is one for all gates that share it: one of them watches.
const (
	watchOwner = "site"
	watchState = "watch"
)

// makeWatch makes what the plan's [watch] wants.
func (a *App) makeWatch(context.Context) error {
	plan := a.plan.Watch
	if !plan.On {
		return nil
	}
	l, err := a.newLooker()
	if err != nil {
		return err
	}
	a.watcher = &watch.Watcher{
		Check: l.look, Known: l.known, Interval: plan.Interval, Least: audit.Severity(plan.Severity), Store: watchStore{a.store}, Gate: a.memory().gate, Logger: a.log,
	}
	for _, d := range a.plan.Domains {
		a.watcher.Domains = append(a.watcher.Domains, d.Name)
	}
	if len(plan.MailTo) == 0 {
		return nil
	}
	signer, err := reportSigner(a.plan.Reports)
	if err != nil {
		return err
	}
	from := a.plan.WatchSender()
	if signer != nil && signer.Domain != from.Domain {
		signer = nil
	}
	a.watcher.Mail = &watch.Mail{From: from, To: plan.MailTo, Send: func(ctx context.Context, env mail.Envelope, text []byte) error {
		return a.sendOwn(ctx, signer, env, text)
	}}
	return nil
}

// sendOwn hands a message of this site's own to the queue; signer may be nil.
func (a *App) sendOwn(ctx context.Context, signer *dkim.Signer, env mail.Envelope, text []byte) error {
	signature := ""
	if signer != nil {
		var err error
		if signature, err = dkim.Sign(bytes.NewReader(text), *signer); err != nil {
			return fmt.Errorf("sign a message: %w", err)
		}
	}
	if err := report.Enqueue(ctx, a.store, env, []byte(signature), text); err != nil {
		return fmt.Errorf("enqueue a message: %w", err)
	}
	a.runner.Wake()
	return nil
}

// runWatch watches until ctx ends. Who keeps the mail in the queue for maintenance may be at work
// on what would be seen.
func (a *App) runWatch(ctx context.Context) {
	if a.watcher != nil && !a.opts.Hold {
		a.watcher.Run(ctx)
	}
}

// looker looks at the plan's domains as the outside world does: from the root down, with nothing in
// the cache, whatever zones, stubs and forwards the plan has.
type looker struct {
	*App
	checks   []audit.Check
	known    audit.Baseline
	key      *audit.OwnKey
	registry *rdap.Client
	probes   audit.Probes
}

func (a *App) newLooker() (*looker, error) {
	plan := a.plan.Watch
	l := &looker{App: a, checks: audit.Profile(plan.Profile).Checks()}
	if plan.Registries {
		l.registry = &rdap.Client{Resolver: a.resolver, AllowLoopback: a.inLab}
	}
	if plan.Baseline != "" {
		in, err := os.Open(plan.Baseline)
		if err != nil {
			return nil, fmt.Errorf("read the watch's baseline: %w", err)
		}
		defer in.Close()
		if l.known, err = audit.ReadBaseline(in, plan.Baseline); err != nil {
			return nil, fmt.Errorf("read the watch's baseline: %w", err)
		}
	}
	signer, err := reportSigner(a.plan.Reports)
	if err != nil {
		return nil, err
	}
	if signer != nil {
		key, err := dkim.KeyOf(signer.Key)
		if err != nil {
			return nil, fmt.Errorf("read the key that signs reports: %w", err)
		}
		l.key = &audit.OwnKey{Key: key}
		if about, err := os.Stat(a.plan.Reports.DKIMKey); err == nil {
			l.key.Written = about.ModTime()
		}
	}
	return l, nil
}

// look gathers the facts and judges them.
func (l *looker) look(ctx context.Context, domain dns.Name) render.Report {
	facts := l.auditor().Gather(ctx, domain)
	findings := audit.Judge(facts, l.checks)
	l.known.Mark(findings, time.Now())
	r := render.NewReport(facts, findings)
	r.Profile = l.plan.Watch.Profile
	return r
}

func (l *looker) auditor() *audit.Auditor {
	plan := l.plan.Watch
	own := &resolver.Resolver{
		Hints: l.iterative.Hints, AllowLoopback: l.inLab, NoValidation: l.iterative.NoValidation,
		TrustAnchors: l.iterative.TrustAnchors, NegativeTrustAnchors: l.iterative.NegativeTrustAnchors, Dial: l.opts.DialDNS,
	}
	a := &audit.Auditor{
		Resolver: own, Asker: own, Probes: &l.probes, Selectors: plan.Selectors, AllowLoopback: l.inLab,
		Plan: l.plan, PlanKey: l.key, MTASTS: &mtasts.Fetcher{AllowLoopback: l.inLab}, Certs: &audit.CertLook{},
	}
	hints := own.Hints
	if hints == nil { // then this is the Internet, where block lists and well-known hosts are
		hints = resolver.RootHints()
		a.Lists = blocklist.Open()
		a.Controls = audit.WellKnown()
	}
	for _, h := range hints {
		a.Roots = append(a.Roots, netip.AddrPortFrom(h.Addr, 53))
	}
	slices.SortStableFunc(a.Roots, func(x, y netip.AddrPort) int { return x.Addr().BitLen() - y.Addr().BitLen() })
	if plan.SMTP {
		a.SMTP = &probe.Prober{Hello: l.plan.Name.String(), Port: l.opts.MailPort, Dial: l.opts.DialMail}
	}
	if l.registry != nil {
		a.Registry = l.registry.Ends
		a.Origins = audit.PublicOrigins()
	}
	return a
}

// watchStore keeps the watch's state in the site's store.
type watchStore struct{ stateStore }

// Load implements watch.Store.
func (s watchStore) Load(ctx context.Context) ([]byte, error) {
	r, err := s.LoadState(ctx, watchOwner, watchState)
	if errors.Is(err, store.ErrNoState) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the state of the watch: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(r, watch.MaxState+1))
	if err == nil && len(text) > watch.MaxState {
		err = fmt.Errorf("%w: it has more than %d octets", watch.ErrState, watch.MaxState)
	}
	if err != nil {
		return nil, fmt.Errorf("read the state of the watch: %w", err)
	}
	return text, nil
}

// Save implements watch.Store.
func (s watchStore) Save(ctx context.Context, text []byte) error {
	err := s.SaveState(ctx, time.Now(), watchOwner, watchState, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
	if err != nil {
		return fmt.Errorf("write the state of the watch: %w", err)
	}
	return nil
}
