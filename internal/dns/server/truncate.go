package server

import (
	"slices"
	"sort"
	"strings"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// pack gives the bytes of a reply that is no longer than limit. What does not fit is left
// out in whole RRsets (RFC 2181 §9), from the end: first the addresses that are a mere
// courtesy, and then, with the TC bit, what the answer needs.
func (s *Server) pack(m *wire.Msg, q *query, limit int, tcp bool) []byte {
	if m.Rcode > 0xf && !q.edns {
		m.Rcode = wire.RcodeServerFailure // there is no place for the upper bits
	}
	out, err := m.Pack()
	if err == nil && len(out) <= limit {
		return out
	}
	cut := false
	if err == nil {
		out, cut = fit(m, limit)
	}
	if out == nil || cut && tcp {
		// A record that cannot be packed, or an answer that is too long even for TCP:
		// with TC there the client would ask again for ever.
		s.counts.failed.Add(1)
		logUnpackable(s.logger(), q, err)
		return s.bare(q, wire.RcodeServerFailure)
	}
	if cut {
		s.counts.truncated.Add(1)
	}
	return out
}

// set is one RRset of a section.
type set struct {
	section int // 0 answer, 1 authority, 2 additional
	rrs     []dns.RR
}

// fit packs as many RRsets as fit, and reports whether a needed one had to go. The OPT
// record always stays.
func fit(m *wire.Msg, limit int) (out []byte, cut bool) {
	sets, needed := orderedSets(m)
	opt := m.IsEdns0()
	try := func(n int) []byte {
		part := *m
		part.Answer, part.Ns, part.Extra = nil, nil, nil
		part.Truncated = m.Truncated || n < needed
		for _, s := range sets[:n] {
			switch s.section {
			case 0:
				part.Answer = append(part.Answer, s.rrs...)
			case 1:
				part.Ns = append(part.Ns, s.rrs...)
			default:
				part.Extra = append(part.Extra, s.rrs...)
			}
		}
		if opt != nil {
			part.Extra = append(part.Extra, opt)
		}
		packed, err := part.Pack()
		if err != nil || len(packed) > limit {
			return nil
		}
		return packed
	}
	// The length grows with n, so the first n that is too many can be searched for.
	n := sort.Search(len(sets)+1, func(n int) bool { return try(n) == nil }) - 1
	if n < 0 {
		return nil, true
	}
	return try(n), n < needed
}

// orderedSets cuts a reply into RRsets, the dispensable ones last. Needed are the answer,
// the authority section, and of a referral's glue that of the hosts inside the delegated
// zone: without it nobody could go on (RFC 9471 §3).
func orderedSets(m *wire.Msg) (sets []set, needed int) {
	sets = appendSets(sets, 0, m.Answer)
	sets = appendSets(sets, 1, m.Ns)
	var courtesy []set
	for _, s := range appendSets(nil, 2, m.Extra) {
		switch {
		case s.rrs[0].Header().Rrtype == wire.TypeOPT:
		case glueIsNeeded(m, s.rrs[0].Header().Name):
			sets = append(sets, s)
		default:
			courtesy = append(courtesy, s)
		}
	}
	return append(sets, courtesy...), len(sets)
}

// appendSets groups neighbours of one owner and type; a signature counts to the set that
// it covers.
func appendSets(sets []set, section int, rrs []dns.RR) []set {
	for i := 0; i < len(rrs); {
		end := i + 1
		for end < len(rrs) && sameSet(rrs[i], rrs[end]) {
			end++
		}
		sets = append(sets, set{section, rrs[i:end]})
		i = end
	}
	return sets
}

func sameSet(a, b dns.RR) bool {
	return setType(a) == setType(b) && strings.EqualFold(a.Header().Name, b.Header().Name)
}

func setType(rr dns.RR) uint16 {
	if sig, ok := rr.(*wire.RRSIG); ok {
		return sig.TypeCovered
	}
	return rr.Header().Rrtype
}

// glueIsNeeded reports whether host is in the zone that the reply refers to and is one of
// its servers.
func glueIsNeeded(m *wire.Msg, host string) bool {
	if m.Authoritative {
		return false
	}
	return slices.ContainsFunc(m.Ns, func(rr dns.RR) bool {
		ns, ok := rr.(*wire.NS)
		return ok && strings.EqualFold(ns.Ns, host) && wire.IsSubDomain(ns.Hdr.Name, ns.Ns)
	})
}
