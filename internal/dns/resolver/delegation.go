package resolver

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"mxward/internal/dns"
)

// delegation is how to reach a zone: the names of its servers as the parent gives them,
// and the parent's glue. Glue serves for that alone and never becomes an answer
// (RFC 2181 §5.4.1). It is never changed once it is in use, but for roll.
type delegation struct {
	zone  dns.Name
	names []dns.Name
	glue  map[dns.Name][]netip.Addr
	ttl   time.Duration
	above dns.Name         // the zone whose servers gave it; zero for the root and for stubs
	ds    *piece           // what they said about the zone's DS records, not judged; may be nil
	fixed []netip.AddrPort // in place of names, for a stub zone

	since time.Time
	lease time.Time // absolute; zero for the root, which lasts

	roll atomic.Pointer[rollCall]
}

// root gives the root's delegation, made of the hints.
func (r *Resolver) root() *delegation {
	d := &delegation{zone: dns.Root, glue: map[dns.Name][]netip.Addr{}}
	for _, h := range r.Hints {
		if !slices.Contains(d.names, h.Name) {
			d.names = append(d.names, h.Name)
		}
		d.glue[h.Name] = append(d.glue[h.Name], h.Addr.Unmap())
	}
	return d
}

// leadsTo reports whether a server is one of those whose addresses came with the delegation.
func (d *delegation) leadsTo(server netip.AddrPort) bool {
	for _, addrs := range d.glue {
		if server.Port() == dnsPort && slices.Contains(addrs, server.Addr()) {
			return true
		}
	}
	return false
}

// until gives the same delegation with another end.
func (d *delegation) until(lease time.Time) *delegation {
	return &delegation{
		zone: d.zone, names: d.names, glue: d.glue, ttl: d.ttl, above: d.above, ds: d.ds, fixed: d.fixed,
		since: d.since, lease: lease,
	}
}

// same reports whether two delegations lead to the same servers.
func (d *delegation) same(other *delegation) bool {
	if d.zone != other.zone || len(d.names) != len(other.names) {
		return false
	}
	for _, host := range d.names {
		if !slices.Contains(other.names, host) || len(d.glue[host]) != len(other.glue[host]) {
			return false
		}
		for _, a := range d.glue[host] {
			if !slices.Contains(other.glue[host], a) {
				return false
			}
		}
	}
	return true
}
