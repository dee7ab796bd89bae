package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"mxward/internal/deliver"
	"mxward/internal/dns"
	"mxward/internal/dns/server"
	"mxward/internal/edge"
	"mxward/internal/mail"
	"mxward/internal/queue"
	"mxward/internal/site"
	"mxward/internal/smtp"
)

// makeResolver makes the resolver that this process uses and that the loopback listener
// serves.
func (a *App) makeResolver(context.Context) error {
	own, err := NewResolver(a.plan)
	if err != nil {
		return err
	}
	own.Iterative.Dial, own.Iterative.Logger, own.Iterative.Trace = a.opts.DialDNS, a.log, a.opts.TraceDNS
	a.inLab = own.Iterative.AllowLoopback
	a.resolver, a.iterative = &own.Mux, own.Iterative
	a.iterative.AnchorState = a.memory()
	return nil
}

func (a *App) listenDNS(context.Context) error {
	mux := a.resolver.(*dns.Mux)
	public := &server.Server{Resolver: &dns.Mux{Zones: mux.Zones}, Logger: a.log}
	mine, err := machineAddrs()
	if err != nil {
		return fmt.Errorf("listen for dns: read this machine's addresses: %w", err)
	}
	here := a.listensHere(mine)
	if elsewhere := len(a.plan.DNS.Listen) - len(here); elsewhere > 0 {
		a.log.Warn("dns addresses of other machines are left to them", "plan", len(a.plan.DNS.Listen), "here", len(here))
	}
	local := &server.Server{Resolver: mux, Recursion: true, Logger: a.log, MaxInFlight: maxAskers}
	a.dnsServers = map[string]*server.Server{"dns": public, "resolver": local}
	if err := a.serveDNS("dns", public, here); err != nil {
		return err
	}
	return a.serveDNS("resolver", local, a.plan.Resolver.Listen)
}

func (a *App) serveDNS(name string, s *server.Server, listen []netip.AddrPort) error {
	for i, addr := range listen {
		pc, err := net.ListenPacket(family("udp", addr), addr.String())
		if err != nil {
			return fmt.Errorf("listen for %s: %w", name, err)
		}
		ln, err := net.Listen(family("tcp", addr), addr.String())
		if err != nil {
			pc.Close()
			return fmt.Errorf("listen for %s: %w", name, err)
		}
		a.cleanups = append(a.cleanups, func() { pc.Close(); ln.Close() })
		stop := func(context.Context) error { return nil }
		if i == 0 {
			stop = s.Shutdown // one server, however many sockets
		}
		a.services = append(a.services,
			service{fmt.Sprintf("%s udp %s", name, addr), func() error { return closed(s.ServeUDP(pc)) }, stop},
			service{fmt.Sprintf("%s tcp %s", name, addr), func() error { return closed(s.ServeTCP(ln)) }, func(context.Context) error { return nil }})
	}
	return nil
}

// family gives the network of an address, "udp4" or "tcp6": 0.0.0.0 means IPv4 alone and ::
// IPv6 alone, so that a plan may have both.
func family(network string, at netip.AddrPort) string {
	if at.Addr().Is4() {
		return network + "4"
	}
	return network + "6"
}

// closed takes the end that a stop causes for no error.
func closed(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, smtp.ErrServerClosed) {
		return nil
	}
	return err
}

func (a *App) makeDelivery(context.Context) error {
	finder := &deliver.Finder{Resolver: a.resolver, AllowLoopback: a.inLab}
	for _, h := range a.hosts {
		finder.Self = append(finder.Self, h.Name)
		finder.SelfAddrs = append(finder.SelfAddrs, h.Addresses...)
	}
	a.deliverer = &deliver.Deliverer{
		Finder:  finder,
		Targets: a.target,
		Hello:   a.plan.Name.String(),
		Port:    a.opts.MailPort,
		Dial:    a.opts.DialMail,
		Logger:  a.log,
		DeadFor: a.opts.DeadFor,
	}
	a.runner = &queue.Runner{
		Store:     a.store,
		Deliverer: a.deliverer,
		Name:      a.plan.Name.String(),
		Lease:     lease,
		Logger:    a.log,
	}
	a.cleanups = append(a.cleanups, func() { a.report("close connections", a.deliverer.Close()) })
	return nil
}

// target gives where mail for one of our domains goes from here; other mail, and ours at
// a backup, goes by MX.
func (a *App) target(to mail.Address) (deliver.Target, bool) {
	d, ok := a.plan.Domain(to.Domain)
	if !ok || d.Deliver.Scheme == site.ToMX || !a.gateHere(d) {
		return deliver.Target{}, false
	}
	return deliver.Target{
		Scheme: deliver.Scheme(d.Deliver.Scheme),
		Host:   d.Deliver.Host,
		Port:   d.Deliver.Port,
		Path:   d.Deliver.Path,
	}, true
}

func (a *App) makeGate(context.Context) error {
	a.gate = &edge.Gate{
		Plan:     a.plan,
		Queue:    a.store,
		Wake:     a.runner.Wake,
		Contacts: a.store,
		Resolver: a.resolver,
		Logger:   a.log,
	}
	if a.counter != nil {
		a.gate.Observer = observer{a}
	}
	a.cleanups = append(a.cleanups, func() { a.report("flush contacts", a.gate.Close()) })
	return nil
}

func (a *App) listenSMTP(context.Context) error {
	for _, h := range a.hosts {
		if a.isDecoy(h.Name) {
			continue
		}
		cert, err := certificate(h)
		if err != nil {
			return err
		}
		s := &smtp.Server{
			Hostname:      h.Name.String(),
			Handler:       a.gate.Host(h.Name),
			TLS:           &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, // RFC 8996
			MaxSize:       a.plan.SMTP.MaxSize,
			MaxRecipients: a.plan.SMTP.MaxRecipients,
			MaxSessions:   a.plan.SMTP.MaxSessions,
			MaxPerClient:  a.plan.SMTP.MaxPerClient,
			Logger:        a.log,
		}
		a.smtpServers = append(a.smtpServers, s)
		for i, addr := range h.Listen {
			ln, err := net.Listen(family("tcp", addr), addr.String())
			if err != nil {
				return fmt.Errorf("listen for %s: %w", h.Name, err)
			}
			a.cleanups = append(a.cleanups, func() { ln.Close() })
			stop := func(context.Context) error { return nil }
			if i == 0 {
				stop = s.Shutdown
			}
			a.services = append(a.services, service{fmt.Sprintf("%s smtp %s", h.Name, addr), func() error { return closed(s.Serve(ln)) }, stop})
		}
	}
	return nil
}

// watchDecoys observes the attempts at this machine's hosts that refuse.
func (a *App) watchDecoys(context.Context) error {
	for _, h := range a.hosts {
		if !a.isDecoy(h.Name) {
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		watcher := a.gate.Watch(h.Name)
		a.services = append(a.services, service{
			name: h.Name.String() + " decoy",
			run:  func() error { return watcher.Run(ctx) },
			stop: func(context.Context) error { cancel(); return nil },
		})
		a.cleanups = append(a.cleanups, cancel)
	}
	return nil
}
