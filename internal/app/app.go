// Package app wires the rooms to a daemon: from a plan it makes the name server, the SMTP
// listeners, the queue and the deliverer of one machine, runs them, and stops them in
// order. It has no policy and speaks no protocol.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"mxward/internal/deliver"
	"mxward/internal/dns"
	"mxward/internal/dns/resolver"
	"mxward/internal/dns/server"
	"mxward/internal/edge"
	"mxward/internal/queue"
	"mxward/internal/report"
	"mxward/internal/reputation"
	"mxward/internal/site"
	"mxward/internal/smtp"
	"mxward/internal/store"
	"mxward/internal/watch"
)

// Times of the daemon's own housekeeping.
const (
	// stopGrace is how long transactions in flight may take to end after a stop was asked
	// for. It is below systemd's default of 90 s (TimeoutStopSec), after which it kills.
	stopGrace  = 30 * time.Second
	forgetEach = time.Hour
	// lease is how long a crashed worker's job waits before another takes it.
	lease = time.Minute
	// contactAge is how long contacts are kept: the order memory is 48 h, and a week lets
	// a person look back.
	contactAge = 7 * 24 * time.Hour
)

// Options is what a plan does not say. The zero value is a production daemon.
type Options struct {
	Logger *slog.Logger
	// Hosts names the plan's hosts that this machine is; empty: those whose listening
	// addresses are this machine's.
	Hosts []dns.Name
	// DialDNS and DialMail open connections; nil: the network's. MailPort is the port of
	// other people's MX hosts; 0: 25. A lab has its own.
	DialDNS, DialMail func(ctx context.Context, network, address string) (net.Conn, error)
	MailPort          uint16
	// DeadFor is how long a host that did not answer is left alone; 0: the deliverer's default.
	DeadFor time.Duration
	// Hold accepts mail and delivers none.
	Hold     bool
	TraceDNS func(resolver.Step) // each step of a resolution; may be nil
}

// App is one machine's part of a plan.
type App struct {
	plan  *site.Plan
	opts  Options
	log   *slog.Logger
	hosts []site.Host
	inLab bool // the very root is on loopback

	store     store.Engine
	resolver  dns.Resolver
	iterative *resolver.Resolver // behind it
	gate      *edge.Gate
	runner    *queue.Runner
	deliverer *deliver.Deliverer

	counter *report.Counter // these two where the plan sends reports
	sender  *report.Sender
	reader  *report.Reader // where it receives them
	watcher *watch.Watcher // where it watches its domains

	dnsServers  map[string]*server.Server // by what they serve; for the metrics
	smtpServers []*smtp.Server

	services []service
	// cleanups undo New, last first.
	cleanups []func()
}

// service is something that runs until stop; it ends run with nil then.
type service struct {
	name string
	run  func() error
	stop func(ctx context.Context) error
}

// New opens the store and binds every listener, so that what can fail fails before a
// client is met. Close it if Run is never called.
func New(ctx context.Context, plan *site.Plan, opts Options) (*App, error) {
	a := &App{plan: plan, opts: opts, log: opts.Logger}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	for _, step := range []func(context.Context) error{
		a.chooseHosts, a.openStore, a.makeResolver, a.makeDelivery, a.makeReports, a.makeWatch, a.makeGate, a.listenDNS, a.listenSMTP, a.watchDecoys, a.listenPolicies, a.listenMetrics,
	} {
		if err := step(ctx); err != nil {
			a.Close()
			return nil, err
		}
	}
	return a, nil
}

// Close undoes New.
func (a *App) Close() {
	for i := len(a.cleanups) - 1; i >= 0; i-- {
		a.cleanups[i]()
	}
	a.cleanups = nil
}

// Queue gives the store of the running daemon, for those in the same process.
func (a *App) Queue() store.Engine { return a.store }

// Wake makes the queue look for due jobs now, after a change to Queue in this process. One
// by another process is noticed within a second.
func (a *App) Wake() { a.runner.Wake() }

// Contacts gives what is known of a client, oldest first.
func (a *App) Contacts(ctx context.Context, client netip.Addr, since time.Time) ([]reputation.Contact, error) {
	return a.store.Contacts(ctx, netip.PrefixFrom(client, client.BitLen()), since)
}

// Run serves until ctx ends, then stops: listeners first, so that nothing new is accepted;
// then the queue, which lets attempts end for a moment and gives the other leases back, and
// the resolver, whose cache is kept; then the store.
// The error is that of the first service that failed by itself.
func (a *App) Run(ctx context.Context) error {
	defer a.Close()
	failed := make(chan error, len(a.services))
	var running sync.WaitGroup
	for _, s := range a.services {
		running.Go(func() {
			if err := s.run(); err != nil {
				failed <- fmt.Errorf("%s: %w", s.name, err)
			}
		})
	}
	back, stopBack := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	if !a.opts.Hold {
		background.Go(func() { a.report("queue", a.runner.Run(back)) })
	}
	background.Go(func() { a.housekeep(back) })
	background.Go(func() { a.runReports(back) })
	background.Go(func() { a.runWatch(back) })
	if a.iterative != nil {
		background.Go(func() { a.iterative.FollowAnchors(back) })
	}
	background.Go(func() { a.keepCache(back) })
	a.logServing()

	var cause error
	select {
	case <-ctx.Done():
	case cause = <-failed:
	case <-a.store.Failed():
		cause = errors.New("the store's disk failed; it is opened anew when mxward is started again")
	}
	a.logStopping(cause)
	a.stopServices()
	running.Wait()
	stopBack()
	background.Wait()
	return cause
}

// stopServices stops all listeners at once, within stopGrace.
func (a *App) stopServices() {
	ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	var stopping sync.WaitGroup
	for _, s := range a.services {
		stopping.Go(func() { a.report("stop "+s.name, s.stop(ctx)) })
	}
	stopping.Wait()
}

func (a *App) report(what string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		a.log.Error("trouble", "what", what, "err", err)
	}
}

// housekeep forgets what nobody needs.
func (a *App) housekeep(ctx context.Context) {
	tick := time.NewTicker(forgetEach)
	defer tick.Stop()
	for {
		a.report("forget contacts", a.store.Forget(ctx, time.Now().Add(-contactAge)))
		a.forgetReports(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (a *App) openStore(ctx context.Context) error {
	engine, err := store.Open(ctx, a.plan.Store)
	if err != nil {
		return err
	}
	a.store = engine
	a.cleanups = append(a.cleanups, func() { a.report("close the store", engine.Close()) })
	return nil
}

func (a *App) logServing() {
	names := make([]string, 0, len(a.services))
	for _, s := range a.services {
		names = append(names, s.name)
	}
	a.log.Info("serving", "plan", a.plan.File, "services", names)
}

func (a *App) logStopping(cause error) {
	if cause != nil {
		a.log.Error("stopping", "err", cause)
		return
	}
	a.log.Info("stopping")
}
