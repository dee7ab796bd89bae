package dnssec

import (
	"encoding/base32"
	"strings"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// Known is the proof of records that were validated before, for aggressive use (RFC 8198).
// The records are of one zone, and of one chain if they are NSEC3.
func Known(zone dns.Name, records []dns.RR, work *Work) *Proof {
	p := &Proof{zone: zone, work: work, hashes: map[dns.Name]string{}}
	for _, set := range Group(records) {
		if (set.Type == dns.Type(wire.TypeNSEC) || set.Type == dns.Type(wire.TypeNSEC3)) && len(set.Records) == 1 {
			p.add(set)
		}
	}
	return p
}

// With is Known for other records of the same zone and chain. The hashes that have been
// computed are not computed again.
func (p *Proof) With(records []dns.RR) *Proof {
	next := Known(p.zone, records, p.work)
	if len(p.nsec3) == 0 || len(next.nsec3) == 0 || next.nsec3[0].alike(p.nsec3[0]) {
		next.hashes = p.hashes
	}
	return next
}

// Encloser gives the closest encloser of a name that an NSEC record proves not to be there.
func (p *Proof) Encloser(name dns.Name) (dns.Name, bool) { return p.encloser(name) }

// SortKey gives a text for each name whose order as octets is the canonical order of the
// names (RFC 4034 §6.1): labels from the right, each ended by a zero; a zero or one within
// a label is escaped.
func SortKey(name dns.Name) string {
	var key strings.Builder
	for _, label := range labels(name) {
		for _, c := range label {
			if c <= 1 {
				key.WriteByte(1)
				c++
			}
			key.WriteByte(c)
		}
		key.WriteByte(0)
	}
	return key.String()
}

// Closest3 gives the owners that NSEC3 records of the proof's chain would have for a name,
// or, if it is not there, for its closest encloser that is there, for the name one label
// longer, and for the wildcard (RFC 5155 §8.3). It gives none if the work is spent or
// nothing above the name is there.
func (p *Proof) Closest3(name dns.Name, there func(owner dns.Name) bool) []dns.Name {
	var next dns.Name
	for at := name; ; at, _ = at.Parent() {
		owner, ok := p.Owner3(at)
		switch {
		case !ok:
			return nil
		case there(owner) && at == name:
			return []dns.Name{owner}
		case there(owner):
			owners := []dns.Name{owner, next}
			if wild := wildcardOf(at); !wild.IsZero() {
				if source, ok := p.Owner3(wild); ok {
					owners = append(owners, source)
				}
			}
			return owners
		case at == p.zone:
			return nil
		}
		next = owner
	}
}

// Owner3 gives the owner that the NSEC3 record of a name would have in the proof's chain.
func (p *Proof) Owner3(name dns.Name) (dns.Name, bool) {
	if len(p.nsec3) == 0 || !name.In(p.zone) {
		return dns.Name{}, false
	}
	hash, err := p.hash(name)
	if err != nil {
		return dns.Name{}, false
	}
	owner, err := p.zone.Child(strings.ToLower(base32.HexEncoding.EncodeToString([]byte(hash))))
	return owner, err == nil
}
