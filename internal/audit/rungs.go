package audit

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"mxward/internal/dns"
	"mxward/internal/probe"
	"mxward/internal/site"
)

// The limits of a look at rungs that are not there to take mail; ours.
const (
	maxRungs     = 16 // addresses
	rungPatience = patientMS * time.Millisecond
)

// Rung is an address of an MX host that the plan wants closed, or to put everybody off: one
// connection shows as much as the plan promises of it, and a visit to a trap takes minutes.
type Rung struct {
	Host dns.Name
	Knock
	Role site.Role
}

// open reports whether it takes connections.
func (r Rung) open() bool { return r.Stage != "" && r.Trouble == "" }

// closedRungs gives what those hosts of a ladder do that take no mail by the plan.
func closedRungs(plan *site.Plan, d site.Domain) map[dns.Name]site.Role {
	closed := map[dns.Name]site.Role{}
	for _, r := range d.Ladder {
		h, _ := plan.Host(r.Host)
		if r.Role == site.Trap || r.Role == site.Refuse || h.Drain {
			closed[r.Host] = r.Role
		}
	}
	return closed
}

// closed reports whether the plan wants no mail taken at an MX host.
func (f *Facts) closed(host dns.Name) (role site.Role, ok bool) {
	if f.Plan != nil {
		role, ok = f.Plan.Closed[host]
	}
	return role, ok
}

// sending gives the addresses of the plan's hosts from which mail may leave: all but those that are
// traps or decoys, and nothing else to any domain.
func sending(plan *site.Plan) map[netip.Addr]bool {
	roles := map[dns.Name][]site.Role{}
	for _, d := range plan.Domains {
		for _, r := range d.Ladder {
			roles[r.Host] = append(roles[r.Host], r.Role)
		}
	}
	addrs := map[netip.Addr]bool{}
	for _, h := range plan.Hosts {
		if all := roles[h.Name]; len(all) == 0 || slices.ContainsFunc(all, takes) {
			for _, addr := range h.Addresses {
				addrs[addr] = true
			}
		}
	}
	return addrs
}

// takes reports whether hosts in a role take mail, and so send some.
func takes(role site.Role) bool { return role != site.Trap && role != site.Refuse }

// sendsNone reports whether by the plan no mail leaves from an address of an MX host: nothing is to
// be expected of its name then.
func (f *Facts) sendsNone(addr netip.Addr) bool {
	return f.Plan != nil && !f.Plan.Sending[addr] && !slices.ContainsFunc(f.hostsAt(addr), func(host dns.Name) bool {
		role, closed := f.closed(host)
		return !closed || takes(role)
	})
}

// rungs knocks at the addresses that the plan's closed hosts have alone.
func (g *gatherer) rungs(ctx context.Context, s *SMTP) {
	for _, h := range g.facts.Hosts {
		role, closed := g.facts.closed(h.Name)
		for _, addr := range h.addrs() {
			known := slices.ContainsFunc(s.Rungs, func(r Rung) bool { return r.Addr == addr })
			if closed && !known && len(s.Rungs) < maxRungs && g.allowed(addr) && !g.facts.visited(addr) {
				s.Rungs = append(s.Rungs, Rung{Host: h.Name, Role: role, Knock: Knock{Addr: addr}})
			}
		}
	}
	do := make([]func(context.Context), len(s.Rungs))
	for i := range s.Rungs {
		r := &s.Rungs[i]
		do[i] = func(ctx context.Context) {
			session := probe.Session{Host: r.Host, Address: netip.AddrPortFrom(r.Addr, 25), Began: g.facts.When}
			patient, cancel := context.WithTimeout(ctx, rungPatience)
			r.Step = g.SMTP.Knock(patient, r.Addr)
			cancel()
			if r.Trouble == probe.TimedOut && ctx.Err() != nil {
				r.Trouble = probe.Stopped // before its time was over
			}
			session.Steps, session.TookMS = []probe.Step{r.Step}, r.TookMS
			e := exchangeOf(session)
			if r.Trouble == "" {
				e.Error = ""
			}
			g.rec.note(e)
		}
	}
	g.all(ctx, do...)
}

// visited reports whether an address is one of a host that shall take mail.
func (f *Facts) visited(addr netip.Addr) bool {
	return slices.ContainsFunc(f.Hosts, func(h Host) bool {
		_, closed := f.closed(h.Name)
		return !closed && slices.Contains(h.addrs(), addr)
	})
}

// rungsAsPlanned judges closed hosts by what the plan promises of them.
func rungsAsPlanned(f *Facts) []verdict {
	switch {
	case len(f.Plan.Closed) == 0:
		return na("the plan wants mail taken at each of its MX hosts")
	case f.SMTP == nil:
		return []verdict{unknown(f, errNotVisited, MXHost)}
	}
	var all []verdict
	for _, r := range f.SMTP.Rungs {
		if v, said := f.rung(r); said {
			v.asked = append(v.asked, visitQuestion(r.Addr))
			all = append(all, v.at(r.Addr.String()).sure(Single))
		}
	}
	trouble := f.hostTrouble()
	if len(f.SMTP.Rungs) == 0 && trouble == nil {
		return na("none of the hosts at which the plan wants no mail taken is among the MX hosts, with an address to connect to")
	}
	return append(all, trouble...)
}

func (f *Facts) rung(r Rung) (verdict, bool) {
	at := fmt.Sprintf("%s at %s", r.Host, r.Addr)
	open, way := r.open(), f.way(r.Addr)
	switch {
	case r.Role == site.Refuse && open:
		return fail(at + " is a decoy by the plan, and takes connections").by(MXHost).
			mend("see what listens there, and end it; the decoy works only where nobody does"), true
	case r.Role != site.Refuse && open, r.Role == site.Refuse && r.Trouble == probe.Refused && way:
		return verdict{}, false
	case r.Trouble == probe.NoWay, r.Trouble == probe.Stopped, !way:
		side := LocalNetwork
		if way || r.Trouble == probe.Stopped {
			side = Nobody
		}
		return verdict{status: Unknown, blame: side, detail: clip(at + ": " + r.Error)}, true
	case r.Role == site.Refuse:
		return fail(clip(at + " is a decoy by the plan, and does not refuse: " + r.Error + "; silence costs each sender minutes")).by(MXHost).
			mend("let the packet filter pass port 25, so that the host itself refuses"), true
	}
	return fail(fmt.Sprintf("%s takes connections by the plan (%s), and does not: %s", at, what(r.Role), clip(r.Error))).by(MXHost).
		mend("start mxward there, and see that no packet filter is before it"), true
}

// what says in words what a rung is there for.
func what(role site.Role) string {
	if role == site.Trap {
		return "a trap"
	}
	return "drained: it puts everybody off"
}
