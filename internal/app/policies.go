package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"

	"mxward/internal/dns"
	"mxward/internal/mailauth/mtasts"
)

// Limits of the web server for MTA-STS policies, which all the world may ask. They are ours:
// a request is two hundred octets, and a sender comes once a day (RFC 8461 §3.3). Who finds
// no place delivers by the policy that he has.
const (
	policyTimeout = 10 * time.Second // for a handshake, a request, a response, and an idle connection
	policyHeader  = 4 << 10          // octets of a request's header
	policyConns   = 512              // at once, on each listener; more wait in the kernel
)

// listenPolicies serves the MTA-STS policies of the plan's domains (RFC 8461 §3.3).
func (a *App) listenPolicies(ctx context.Context) error {
	plan := a.plan.MTASTS
	if len(plan.Listen) == 0 {
		return nil
	}
	mine, err := machineAddrs()
	if err != nil {
		return fmt.Errorf("listen for mta-sts: read this machine's addresses: %w", err)
	}
	policies := a.policies(ctx)
	s := policyServer(mtasts.Handler(policies), a.log)
	serve := s.Serve
	if plan.Cert != "" {
		cert, err := tls.LoadX509KeyPair(plan.Cert, plan.Key)
		if err != nil {
			return fmt.Errorf("read the certificate for mta-sts: %w", err)
		}
		a.checkPolicyCert(cert, policies)
		s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12} // RFC 8996
		serve = func(ln net.Listener) error { return s.ServeTLS(ln, "", "") }
	}
	for i, at := range onMachine(plan.Listen, mine) {
		ln, err := net.Listen(family("tcp", at), at.String())
		if err != nil {
			return fmt.Errorf("listen for mta-sts: %w", err)
		}
		a.cleanups = append(a.cleanups, func() { ln.Close() })
		stop := func(context.Context) error { return nil }
		if i == 0 {
			stop = s.Shutdown // one server, however many sockets
		}
		run := func() error {
			if err := serve(netutil.LimitListener(ln, policyConns)); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		}
		a.services = append(a.services, service{"mta-sts " + at.String(), run, stop})
	}
	return nil
}

func policyServer(h http.Handler, log *slog.Logger) *http.Server {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: policyTimeout,
		ReadTimeout:       policyTimeout,
		WriteTimeout:      policyTimeout,
		IdleTimeout:       policyTimeout,
		MaxHeaderBytes:    policyHeader,
		Protocols:         new(http.Protocols),
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	s.Protocols.SetHTTP1(true) // a connection has one request: HTTP/2 has nothing to give
	return s
}

// policies gives the policy of each domain that has one, and logs the record without which
// no sender looks for it.
func (a *App) policies(ctx context.Context) map[dns.Name]mtasts.Policy {
	all := map[dns.Name]mtasts.Policy{}
	for _, d := range a.plan.Domains {
		p, ok := d.Policy()
		if !ok {
			continue
		}
		all[d.Name] = p
		a.log.Info("mta-sts policy", "domain", d.Name, "mode", p.Mode, "txt", mtasts.Record{ID: p.ID()}.String())
		a.checkPolicyRecord(ctx, d.Name, p)
	}
	return all
}

// checkPolicyRecord warns where our own zone has the record and it is another policy's:
// senders that know that id do not come for the new policy. Zones elsewhere may be late by
// their nature, so that nobody asks them here.
func (a *App) checkPolicyRecord(ctx context.Context, domain dns.Name, p mtasts.Policy) {
	ours := &dns.Mux{Zones: a.resolver.(*dns.Mux).Zones}
	name, err := mtasts.RecordName(domain)
	if err != nil {
		return // too long to have one: no sender asks for it
	}
	answer, err := ours.Resolve(ctx, dns.Question{Name: name, Type: dns.TypeTXT})
	if err != nil || !answer.Authoritative {
		return
	}
	set, err := dns.LookupTXT(ctx, ours, name)
	if err != nil {
		return
	}
	if r, err := mtasts.Choose(set.Records); err != nil || r.ID != p.ID() {
		a.log.Warn("the plan's zone lacks the record of the mta-sts policy", "name", name, "want", mtasts.Record{ID: p.ID()}.String(), "got", set.Records)
	}
}

// checkPolicyCert warns of what senders would not accept. It is no error: the mail goes on
// without a policy, and a certificate may be mended while it does.
func (a *App) checkPolicyCert(cert tls.Certificate, policies map[dns.Name]mtasts.Policy) {
	if now := time.Now(); now.After(cert.Leaf.NotAfter) || now.Before(cert.Leaf.NotBefore) {
		a.log.Warn("the certificate for mta-sts is not valid today: senders do not see the policies", "file", a.plan.MTASTS.Cert, "from", cert.Leaf.NotBefore, "until", cert.Leaf.NotAfter)
	}
	for domain := range policies {
		host, err := mtasts.PolicyHost(domain)
		if err == nil {
			err = cert.Leaf.VerifyHostname(host.String())
		}
		if err != nil {
			a.log.Warn("the certificate for mta-sts does not cover a policy's host: senders do not see the policy", "domain", domain, "file", a.plan.MTASTS.Cert, "err", err)
		}
	}
}
