package zone

import (
	"slices"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

const typeDNAME = dns.Type(wire.TypeDNAME)

// check finds the faults that show only when the whole zone is known.
func (p *parser) check() {
	z := p.zone
	apex := z.nodes[z.Origin]
	if apex == nil || len(apex.sets[dns.TypeSOA]) == 0 {
		p.fault(1, "expected a SOA record at %s, got none", z.Origin)
	}
	if apex == nil || len(apex.sets[dns.TypeNS]) == 0 {
		p.fault(1, "expected NS records at %s, got none", z.Origin)
	}
	for _, n := range z.nodes {
		p.checkNode(n)
	}
}

func (p *parser) checkNode(n *node) {
	isApex := n.name == p.zone.Origin
	soa, ns := n.sets[dns.TypeSOA], n.sets[dns.TypeNS]
	cname, dname := n.sets[dns.TypeCNAME], n.sets[typeDNAME]
	if len(soa) > 0 && !isApex {
		p.faultAt(soa[0], "expected the SOA record at %s, got one at %s", p.zone.Origin, n.name)
	}
	if len(soa) > 1 {
		p.faultAt(soa[1], "expected one SOA record, got a second one")
	}
	// RFC 2181 §10.1: an alias is one CNAME and nothing else.
	if len(cname) > 1 {
		p.faultAt(cname[1], "expected one CNAME record at %s, got a second one", n.name)
	}
	if other := besideCNAME(n); len(cname) > 0 && len(other) > 0 {
		p.faultAt(cname[0], "expected nothing beside the CNAME record at %s, got %s", n.name, other[0])
	}
	if len(dname) > 1 {
		p.faultAt(dname[1], "expected one DNAME record at %s, got a second one (RFC 6672 §2.4)", n.name)
	}
	if len(dname) > 0 && len(ns) > 0 && !isApex {
		p.faultAt(dname[0], "expected no DNAME record at the delegation %s (RFC 6672 §2.3)", n.name)
	}
	if isWildcard(n.name) {
		// RFC 4592 §4.2 and §4.4 leave it open what these would mean.
		if len(ns) > 0 {
			p.faultAt(ns[0], "expected no NS record at the wildcard %s (RFC 4592 §4.2)", n.name)
		}
		if len(dname) > 0 {
			p.faultAt(dname[0], "expected no DNAME record at the wildcard %s (RFC 4592 §4.4)", n.name)
		}
	}
	p.checkBelowDNAME(n)
}

// besideCNAME gives the types that may not stand beside a CNAME: all but those that a
// signed zone has at every name (RFC 4034 §3, §4).
func besideCNAME(n *node) []dns.Type {
	return slices.DeleteFunc(n.types(), func(t dns.Type) bool {
		return t == dns.TypeCNAME || t == typeRRSIG || t == typeNSEC
	})
}

// checkBelowDNAME: RFC 6672 §2.4, nothing exists below a DNAME.
func (p *parser) checkBelowDNAME(n *node) {
	if len(n.sets) == 0 || len(n.sets[typeNSEC3]) > 0 { // a hash is no name of the zone
		return
	}
	for above := n.parent; above != nil; above = above.parent {
		if len(above.sets[typeDNAME]) > 0 {
			first := n.sets[n.types()[0]][0]
			p.faultAt(first, "expected nothing below the DNAME record at %s (RFC 6672 §2.4), got %s", above.name, n.name)
			return
		}
	}
}

func (p *parser) faultAt(rr dns.RR, format string, args ...any) {
	p.fault(p.lines[rr], format, args...)
}

func isWildcard(n dns.Name) bool {
	s := n.String()
	return s == "*" || len(s) > 1 && s[:2] == "*."
}
