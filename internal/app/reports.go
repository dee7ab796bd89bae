package app

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"mxward/internal/edge"
	"mxward/internal/mail"
	"mxward/internal/mailauth/dkim"
	"mxward/internal/mailauth/dmarcrpt"
	"mxward/internal/report"
	"mxward/internal/site"
)

// makeReports makes what the plan's [reports] wants: who counts and sends, and who reads.
func (a *App) makeReports(context.Context) error {
	plan := a.plan.Reports
	if here := a.receivedHere(); len(here) > 0 {
		a.reader = &report.Reader{
			Next: a.runner.Deliverer, Reports: a.store, Addresses: here, ID: a.plan.AuthservID, Logger: a.log,
		}
		if a.reader.ID.IsZero() {
			a.reader.ID = a.plan.Name
		}
		a.runner.Deliverer = a.reader
	}
	if plan.From.IsZero() {
		return nil
	}
	signer, err := reportSigner(plan)
	if err != nil {
		return err
	}
	receiver := plan.From.Domain
	a.counter = &report.Counter{Store: a.store, Reporter: receiver, Logger: a.log}
	a.sender = &report.Sender{
		Days: a.store, Queue: a.store, Resolver: a.resolver, From: plan.From, Sign: signer, Wake: a.runner.Wake, Logger: a.log,
		By: dmarcrpt.Reporter{Receiver: receiver, Org: plan.Org, Email: plan.From.String(), Contact: plan.Contact, Software: "mxward"},
	}
	return nil
}

// receivedHere gives the addresses of reports of which this machine is a gate. Who is only a
// backup hands them on: they are read where they end.
func (a *App) receivedHere() []mail.Address {
	return slices.DeleteFunc(slices.Clone(a.plan.Reports.Receive), func(to mail.Address) bool {
		d, ok := a.plan.Domain(to.Domain)
		return !ok || !a.gateHere(d)
	})
}

// reportSigner reads the key with which reports are signed, where there is one.
func reportSigner(plan site.Reports) (*dkim.Signer, error) {
	if plan.DKIMKey == "" {
		return nil, nil
	}
	text, err := os.ReadFile(plan.DKIMKey)
	if err != nil {
		return nil, fmt.Errorf("read the key that signs reports: %w", err)
	}
	key, err := dkim.ParsePrivate(text)
	if err != nil {
		return nil, fmt.Errorf("read the key that signs reports, %s: %w", plan.DKIMKey, err)
	}
	return &dkim.Signer{Domain: plan.From.Domain, Selector: plan.DKIMSelector, Key: key}, nil
}

// observer tells the counter of the messages that the gate took.
type observer struct{ *App }

// Observe implements edge.Observer.
//
// Left out is what comes to the addresses of reports, and what comes back from those that we
// sent: it would be counted, reported, and so on for ever. Left out, too, is what a host of
// our own brings, a backup: it was counted there, as what it was when it came.
func (o observer) Observe(_ context.Context, seen edge.Observation) {
	plan := o.plan.Reports
	mine := func(to mail.Address) bool {
		return report.Contains(append(plan.Receive[:len(plan.Receive):len(plan.Receive)], plan.From), to)
	}
	if slices.ContainsFunc(seen.Recipients, mine) || o.hasHost(seen.Client) {
		return
	}
	o.counter.Add(report.Message{Time: seen.Time, Client: seen.Client, EnvelopeFrom: seen.EnvelopeFrom, Results: seen.Results})
}

func (a *App) hasHost(addr netip.Addr) bool {
	return slices.ContainsFunc(a.plan.Hosts, func(h site.Host) bool { return slices.Contains(h.Addresses, addr) })
}

// runReports does what is to be done for reports until ctx ends, after the listeners: what
// the gate took is counted by then.
func (a *App) runReports(ctx context.Context) {
	if a.counter == nil {
		return
	}
	done := make(chan struct{})
	go func() { defer close(done); a.counter.Run(ctx) }()
	if !a.opts.Hold {
		a.sender.Run(ctx)
	}
	<-done
}

// SendReports writes what is counted and sends the reports that are due at a time, for those
// in the same process. It tells how many days of domains it dealt with.
func (a *App) SendReports(ctx context.Context, now time.Time) int {
	if a.counter == nil {
		return 0
	}
	a.counter.Flush(ctx)
	return a.sender.Send(ctx, now)
}

// forgetReports forgets what is too old, whatever the plan wants today.
func (a *App) forgetReports(ctx context.Context) {
	a.report("forget counts for reports", a.store.ForgetCounts(ctx, report.Day(time.Now().Add(-report.CountAge))))
	a.report("forget reports", a.store.ForgetReports(ctx, time.Now().Add(-report.MaxAge)))
}
