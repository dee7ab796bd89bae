package dnssec

import (
	"encoding/base32"
	"slices"
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

// Holds reports whether the proof has a validated record of this owner.
func (p *Proof) Holds(owner dns.Name) bool { return slices.Contains(p.owners, owner) }

// Encloser gives the closest encloser of a name that an NSEC record proves not to be there.
func (p *Proof) Encloser(name dns.Name) (dns.Name, bool) { return p.encloser(name) }

// Compare gives the canonical order of names (RFC 4034 §6.1).
func Compare(a, b dns.Name) int { return compare(a, b) }

// Closest3 gives the owners that NSEC3 records of a chain would have for the name, or, if
// it is not there, for its closest encloser that is there, for the name one label longer,
// and for the wildcard (RFC 5155 §8.3). It gives none if the work is spent or the apex is
// not known.
func Closest3(zone, name dns.Name, chain *wire.NSEC3, work *Work, there func(owner dns.Name) bool) []dns.Name {
	p := Known(zone, []dns.RR{chain}, work)
	if len(p.nsec3) == 0 || !name.In(zone) {
		return nil
	}
	var next dns.Name
	for at := name; ; at, _ = at.Parent() {
		owner, ok := p.owner3(at)
		switch {
		case !ok:
			return nil
		case there(owner) && at == name:
			return []dns.Name{owner}
		case there(owner):
			owners := []dns.Name{owner, next}
			if wild := wildcardOf(at); !wild.IsZero() {
				if source, ok := p.owner3(wild); ok {
					owners = append(owners, source)
				}
			}
			return owners
		case at == zone:
			return nil
		}
		next = owner
	}
}

// owner3 gives the owner of the NSEC3 record of a name.
func (p *Proof) owner3(name dns.Name) (dns.Name, bool) {
	hash, err := p.hash(name)
	if err != nil {
		return dns.Name{}, false
	}
	owner, err := p.zone.Child(strings.ToLower(base32.HexEncoding.EncodeToString([]byte(hash))))
	return owner, err == nil
}
