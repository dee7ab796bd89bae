package audit

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/probe"
)

// The limits of what the MX hosts of one domain are asked; ours.
const (
	maxVisits   = 16               // addresses
	maxControls = 3                // domains
	maxSaid     = 60               // lines of a session, in the evidence
	smtpLimit   = 45 * time.Second // from the beginning, so that time is left to ask once more about DNS
)

// SMTP is what came of the visits to the MX hosts.
type SMTP struct {
	Visits []Visit // each address once
	// Named are sessions with the same addresses by other names of MX hosts, for the sake of the
	// certificates, where there is TLS.
	Named []Visit
	Left  int    // addresses that are too many to visit
	Rungs []Rung // addresses where the plan wants no mail taken, which are not visited
	// Controls are knocks at port 25 of hosts elsewhere, where no MX host took a connection.
	Controls   []Knock
	ControlErr error // a control could not even be looked up
}

// Visit is one session with one address of an MX host.
type Visit struct {
	probe.Session
	Unasked bool // its address is not one to connect to
	Own     Host // by the name that the host gives itself in EHLO or, failing that, its greeting; zero for none
}

// Knock is a connection to port 25 that says nothing.
type Knock struct {
	Addr netip.Addr
	probe.Step
}

// smtp visits each address of the MX hosts once, and shakes hands there by their other names.
func (g *gatherer) smtp(ctx context.Context) {
	if g.SMTP == nil {
		return
	}
	ctx, cancel := context.WithDeadline(ctx, g.began.Add(smtpLimit))
	defer cancel()
	s := &SMTP{}
	g.facts.SMTP = s
	targets, named := g.targets(s)
	var sessions []probe.Session
	g.all(ctx, func(ctx context.Context) { sessions = g.SMTP.Visits(ctx, append(targets, named...)) }, func(ctx context.Context) { g.rungs(ctx, s) })
	s.named(g.rec, sessions, len(targets), named)
	sessions = sessions[:len(targets)]
	for _, session := range sessions {
		s.Visits = append(s.Visits, Visit{Session: session, Own: Host{Name: ownName(session)}})
		g.rec.note(exchangeOf(session))
	}
	do := []func(context.Context){}
	for i := range sessions {
		if v := &s.Visits[i]; !v.Own.Name.IsZero() {
			do = append(do, func(ctx context.Context) { v.Own = g.host(ctx, dns.MX{Host: v.Own.Name}) })
		}
	}
	met := slices.ContainsFunc(sessions, probe.Session.Connected) || slices.ContainsFunc(s.Rungs, Rung.open)
	if len(sessions)+len(s.Rungs) > 0 && !met {
		do = append(do, func(ctx context.Context) { g.controls(ctx, s) })
	}
	g.all(ctx, do...)
	for _, addr := range g.unasked() {
		s.Visits = append(s.Visits, Visit{Session: probe.Session{Address: netip.AddrPortFrom(addr, 25)}, Unasked: true})
	}
}

// named keeps what was seen by other names, which is behind what was seen by the first ones. On a
// tape of old, each address has one session.
func (s *SMTP) named(rec *recorder, sessions []probe.Session, first int, targets []probe.Target) {
	for i, session := range sessions[first:] {
		held := slices.ContainsFunc(sessions[:first], func(o probe.Session) bool { return o.Address == session.Address && o.TLS != nil })
		switch {
		case session.Host != targets[i].Host:
			s.Named = append(s.Named, Visit{Session: probe.Session{Host: targets[i].Host, Address: session.Address}, Unasked: true})
		case held: // else it is that of the first name
			s.Named = append(s.Named, Visit{Session: session})
			rec.note(exchangeOf(session))
		}
	}
}

// targets gives the addresses to visit, by the first host that has each, and those hosts beside it.
func (g *gatherer) targets(s *SMTP) (targets, named []probe.Target) {
	seen := map[netip.Addr]bool{}
	for _, h := range g.facts.Hosts {
		if _, closed := g.facts.closed(h.Name); closed {
			continue
		}
		for _, addr := range h.addrs() {
			one := probe.Target{Host: h.Name, Addr: addr, Domain: g.facts.Domain}
			beside := func(t probe.Target) bool { return t.Addr == addr && t.Host != h.Name }
			if slices.ContainsFunc(targets, beside) && len(named) < maxVisits && !slices.Contains(named, one) {
				named = append(named, one)
			}
			if seen[addr] || !g.allowed(addr) {
				continue
			}
			seen[addr] = true
			if len(targets) == maxVisits {
				s.Left++
				continue
			}
			targets = append(targets, one)
		}
	}
	return targets, named
}

// unasked gives the addresses that nobody connects to, lest a domain's records make us talk to
// this host or network.
func (g *gatherer) unasked() []netip.Addr {
	var all []netip.Addr
	for _, h := range g.facts.Hosts {
		for _, addr := range h.addrs() {
			if !g.allowed(addr) && !slices.Contains(all, addr) {
				all = append(all, addr)
			}
		}
	}
	return all
}

// ownName is the host name by which a host introduces itself; zero where it gives none.
func ownName(s probe.Session) dns.Name {
	for _, stage := range []mail.Stage{mail.StageHello, mail.StageGreeting} {
		step, _ := s.At(stage)
		if step.Code/100 != 2 {
			continue
		}
		if name, err := dns.ParseName(step.Calls()); err == nil && hostName(name) {
			return name
		}
	}
	return dns.Name{}
}

// controls knocks at one address of each family of the best MX host of each control.
func (g *gatherer) controls(ctx context.Context, s *SMTP) {
	found := make([][]Knock, min(maxControls, len(g.Controls)))
	errs := make([]error, len(found))
	do := make([]func(context.Context), len(found))
	for i := range found {
		do[i] = func(ctx context.Context) { found[i], errs[i] = g.control25(ctx, g.Controls[i]) }
	}
	g.all(ctx, do...)
	for i := range found {
		s.Controls = append(s.Controls, found[i]...)
		if errs[i] != nil {
			s.ControlErr = errs[i]
		}
	}
}

func (g *gatherer) control25(ctx context.Context, domain dns.Name) ([]Knock, error) {
	set, err := dns.LookupMX(ctx, g.rec, domain)
	if err != nil || len(set.Records) == 0 || isNull(set.Records[0]) {
		return nil, err
	}
	host := g.host(ctx, set.Records[0])
	var knocks []Knock
	for _, family := range []Fact[netip.Addr]{host.A, host.AAAA} {
		if len(family.Records) > 0 && g.allowed(family.Records[0]) {
			knocks = append(knocks, Knock{Addr: family.Records[0]})
		}
	}
	do := make([]func(context.Context), len(knocks))
	for i := range knocks {
		do[i] = func(ctx context.Context) { knocks[i].Step = g.SMTP.Knock(ctx, knocks[i].Addr) }
	}
	g.all(ctx, do...)
	return knocks, host.err()
}

// visitQuestion stands for a session where evidence is looked for: it is about no record.
func visitQuestion(addr netip.Addr) dns.Question { return dns.Question{Name: dns.ReverseName(addr)} }

// exchangeOf is a session as evidence: the code of the greeting, and what was said.
func exchangeOf(s probe.Session) Exchange {
	e := Exchange{
		Name: s.Host, Type: "SMTP", Server: s.Address.String(), Transport: "tcp", Records: []string{},
		RTT: s.TookMS, When: s.Began, question: visitQuestion(s.Address.Addr()),
		Again: "openssl s_client -starttls smtp -connect " + shellQuoted(s.Address.String()) + " -servername " + shellQuoted(s.Host.String()),
	}
	if greeting, ok := s.At(mail.StageGreeting); ok && greeting.Code != 0 {
		e.Rcode = strconv.Itoa(greeting.Code)
	}
	if !s.Listens() {
		e.Error = s.Because()
	}
	lines := s.Transcript()
	for _, line := range lines[:min(maxSaid, len(lines))] {
		e.Records = append(e.Records, clip(line))
	}
	return e
}
