package dnssec

import (
	"mxward/internal/dns"
)

// nsec is one NSEC record of the zone, checked (RFC 4034 §4).
type nsec struct {
	owner, next dns.Name
	types       []uint16
}

func (n nsec) lacks(typ dns.Type, name dns.Name) bool { return lacks(n.types, typ, name) }

// spans reports whether the name lies strictly between owner and next; the last record of
// the zone leads back to its apex.
func (n nsec) spans(name, zone dns.Name) bool {
	if !name.In(zone) || compare(n.owner, name) >= 0 {
		return false
	}
	return compare(name, n.next) < 0 || compare(n.next, n.owner) <= 0
}

// below reports whether the name is below a delegation or DNAME at the owner, of which the
// record cannot speak (RFC 6840 §4.1, RFC 6672 §5.3.4.1).
func (n nsec) below(name dns.Name) bool {
	return name != n.owner && name.In(n.owner) && leadsAway(n.types)
}

// covering gives the NSEC record that proves that there is no such name.
func (p *Proof) covering(name dns.Name) (nsec, bool) {
	for _, n := range p.nsec {
		// If next is below the name, the name is an empty non-terminal.
		if n.spans(name, p.zone) && !n.below(name) && !n.next.In(name) {
			return n, true
		}
	}
	return nsec{}, false
}

func (p *Proof) covers(name dns.Name) bool {
	if name.IsZero() {
		return true // there is no room for a wildcard
	}
	_, ok := p.covering(name)
	return ok
}

// encloser gives the closest encloser of a name that is proven not to be there: the
// longest ancestor that it shares with one of the two names around it (RFC 4592 §3.3.1).
func (p *Proof) encloser(name dns.Name) (dns.Name, bool) {
	n, ok := p.covering(name)
	if !ok {
		return dns.Name{}, false
	}
	for at, ok := name.Parent(); ok; at, ok = at.Parent() {
		if n.owner.In(at) || n.next.In(at) {
			return at, at.In(p.zone)
		}
	}
	return dns.Name{}, false
}
