// Package zone holds authoritative data: a zone is read from a master file (RFC 1035 §5)
// and answers as RFC 1034 §4.3.2 says, with wildcards and empty non-terminals by RFC 4592,
// negative answers by RFC 2308, DNAME by RFC 6672, ANY by RFC 8482, glue by RFC 9471 and
// unknown types by RFC 3597. A zone that is signed, by its file or by Sign, gives
// signatures and proofs to who asks for them (RFC 4035 §3.1, RFC 5155 §7.2).
//
// Not here: signing anew before signatures expire; transfers (RFC 5936), updates (RFC
// 2136); classes other than IN; $INCLUDE and $GENERATE.
package zone

import (
	"maps"
	"slices"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// Zone is the data of one zone. It never changes after Parse, so that any number of
// goroutines may ask it. The records that it gives are its own: nobody may change them.
type Zone struct {
	Origin dns.Name // the apex

	nodes    map[dns.Name]*node
	negative []dns.RR // the SOA as it stands in negative answers

	negativeSigned []dns.RR         // the same with its signatures
	ordered        []*node          // the names with NSEC records, in canonical order
	params         *wire.NSEC3PARAM // of the NSEC3 chain in use, if there is one
	hashes         []hashedNode     // the NSEC3 chain, in the order of the hashes
}

// node is one name of the zone. Every name between the apex and an owner has one, so that
// "the name exists" is "there is a node" (RFC 4592 §2.2.2, empty non-terminals).
type node struct {
	name     dns.Name
	parent   *node
	sets     map[dns.Type][]dns.RR // owner names in the case of the file
	wildcard *node                 // the child "*", the source of synthesis (RFC 4592 §3.3.1)

	order string                // sorts as the canonical order of names wants it
	sigs  map[dns.Type][]dns.RR // the signatures of each set

	// cut is the highest delegation at or above this name, apex apart. What is at or below
	// it is glue or does not belong here, and is never an answer (RFC 1034 §4.3.2, step 3b).
	cut *node
}

// types gives the node's types in the order of their numbers.
func (n *node) types() []dns.Type { return slices.Sorted(maps.Keys(n.sets)) }

// grow gives the node of a name that is in the zone, and makes it and its ancestors where
// they are missing.
func (z *Zone) grow(name dns.Name) *node {
	if n, ok := z.nodes[name]; ok {
		return n
	}
	n := &node{name: name, sets: map[dns.Type][]dns.RR{}}
	z.nodes[name] = n
	if name != z.Origin {
		above, _ := name.Parent()
		n.parent = z.grow(above)
		if isWildcard(name) {
			n.parent.wildcard = n
		}
	}
	return n
}

// link notes what follows from the whole of a zone that has no faults.
func (z *Zone) link() {
	for _, n := range z.nodes {
		for at := n; at.parent != nil; at = at.parent {
			if len(at.sets[dns.TypeNS]) > 0 {
				n.cut = at
			}
		}
	}
	z.index()
	soa := wire.Copy(z.nodes[z.Origin].sets[dns.TypeSOA][0]).(*wire.SOA)
	soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl) // RFC 2308 §5
	z.negative = []dns.RR{soa}
	z.negativeSigned = []dns.RR{soa}
	for _, rr := range z.nodes[z.Origin].sigs[dns.TypeSOA] {
		sig := wire.Copy(rr)
		sig.Header().Ttl = soa.Hdr.Ttl
		z.negativeSigned = append(z.negativeSigned, sig)
	}
}

// Lookup gives the records of exactly this name and type as they stand in the file, glue
// included, without wildcards and aliases. The bool says whether the name exists at all.
func (z *Zone) Lookup(name dns.Name, t dns.Type) ([]dns.RR, bool) {
	n, ok := z.nodes[name]
	if !ok {
		return nil, false
	}
	return n.sets[t], true
}
