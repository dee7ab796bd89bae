package resolver

import (
	"net/netip"
	"slices"

	"mxward/internal/dns"
)

// rebinds reports whether an address of a name leads from the Internet into a private
// network (RFC 1918, RFC 4193, RFC 3927, RFC 4291). 127.0.0.0/8 does not count: block lists
// answer with it.
func (r *Resolver) rebinds(name dns.Name, a netip.Addr) bool {
	if !r.RebindProtection || name == dns.Root {
		return false
	}
	a = a.Unmap()
	if !a.IsPrivate() && !a.IsLinkLocalUnicast() && !a.IsUnspecified() && (a.Is4() || !a.IsLoopback()) {
		return false
	}
	return !slices.ContainsFunc(r.PrivateZones, name.In)
}

// withoutPrivate takes the records with private addresses out of the pieces of an answer.
// What is left of such a set is not what its zone signed.
func (r *Resolver) withoutPrivate(asked ask, pieces []*piece) []*piece {
	if !r.RebindProtection || r.stubbed(asked) {
		return pieces
	}
	for i, p := range pieces {
		private := func(rr dns.RR) bool {
			a, ok := address(rr)
			return ok && r.rebinds(p.name, a)
		}
		if !slices.ContainsFunc(p.answer, private) {
			continue
		}
		r.counts.rebinds.Add(1)
		left := *p
		left.answer = slices.DeleteFunc(slices.Clone(p.answer), func(rr dns.RR) bool {
			return private(rr) || dns.Type(rr.Header().Rrtype) == typeRRSIG
		})
		left.secure = false
		if len(left.answer) == 0 {
			left.authority = []dns.RR{localSOA(p.name.String())}
		}
		pieces[i] = &left
	}
	return pieces
}
