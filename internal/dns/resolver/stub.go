package resolver

import (
	"net/netip"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// Stub is a zone whose authoritative servers are named by the operator and not found by
// delegations: a block list on this host, a zone inside a company. They may be anywhere,
// loopback included, and at any port.
//
// Such servers are asked for full names and believed for exactly the names asked for:
// rbldnsd says NXDOMAIN for names above the ones that it lists, so that neither QNAME
// minimisation (RFC 9156) nor a cut below NXDOMAIN (RFC 8020) would find those.
type Stub struct {
	Zone    dns.Name
	Servers []netip.AddrPort
}

// Data is what this host itself says about one name: these records, and no others at that
// name. The names above and below it stay the DNS's.
type Data struct {
	Name    dns.Name
	Records []dns.RR
}

// elsewhere is what stubs, forwards and local data the resolver has, by zone.
type elsewhere struct {
	stubs    map[dns.Name]*delegation
	forwards map[dns.Name]*forwarding
	local    map[dns.Name][]dns.RR
}

func (r *Resolver) makeElsewhere() elsewhere {
	e := elsewhere{map[dns.Name]*delegation{}, map[dns.Name]*forwarding{}, map[dns.Name][]dns.RR{}}
	for _, s := range r.Stubs {
		e.stubs[s.Zone] = &delegation{zone: s.Zone, fixed: s.Servers}
	}
	for _, f := range r.Forwards {
		e.forwards[f.Zone] = newForwarding(f)
	}
	for _, d := range r.Local {
		e.local[d.Name] = append(e.local[d.Name], d.Records...)
	}
	return e
}

// above gives the name at which the search for a question's zone begins: the DS records of
// a zone are its parent's (RFC 4035 §3.1.4.1).
func above(a ask) dns.Name {
	if parent, ok := a.name.Parent(); ok && a.typ == dns.TypeDS {
		return parent
	}
	return a.name
}

// find gives the stub or the forward with the longest zone that holds the question; both
// are nil where there is none.
func (e *elsewhere) find(a ask) (*delegation, *forwarding) {
	if len(e.stubs) == 0 && len(e.forwards) == 0 {
		return nil, nil
	}
	for name, ok := above(a), true; ok; name, ok = name.Parent() {
		if s := e.stubs[name]; s != nil {
			return s, nil
		}
		if f := e.forwards[name]; f != nil {
			return nil, f
		}
	}
	return nil, nil
}

// stubbed reports whether the question falls to a stub zone, or to a zone below one.
func (r *Resolver) stubbed(a ask) bool {
	s, _ := r.elsewhere.find(a)
	return s != nil
}

// known gives what this host itself says about a name and type, or nil where it says
// nothing about the name.
func (e *elsewhere) known(a ask) *piece {
	records, ok := e.local[a.name]
	if !ok || a.typ == dns.TypeDS || a.typ == typeDNSKEY {
		return nil // keys are those of the zone: what is below the name rests on them
	}
	p := &piece{ask: a, ttl: localTTL * time.Second, expires: time.Now().Add(localTTL * time.Second)}
	for _, rr := range records {
		switch typ := dns.Type(rr.Header().Rrtype); {
		case typ == a.typ, a.typ == dns.TypeANY:
			p.answer = append(p.answer, rr)
		case typ == dns.TypeCNAME:
			p.answer, p.target = []dns.RR{rr}, dns.NameOf(rr.(*wire.CNAME).Target)
		}
	}
	for _, rr := range p.answer {
		p.ttl = min(p.ttl, seconds(rr.Header().Ttl))
	}
	if len(p.answer) == 0 {
		p.authority = []dns.RR{localSOA(strings.TrimSuffix(a.name.FQDN(), "."))}
	}
	return p
}

// servers gives the addresses of a stub's servers as candidates.
func (d *delegation) candidates() []candidate {
	found := make([]candidate, len(d.fixed))
	for i, at := range d.fixed {
		found[i] = candidate{server: at}
	}
	return found
}

// servers says whom an error is about.
func (d *delegation) servers() string {
	if len(d.fixed) == 0 {
		return "servers of " + d.zone.String()
	}
	return "stub zone " + d.zone.String()
}
