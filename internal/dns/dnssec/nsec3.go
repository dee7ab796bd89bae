package dnssec

import (
	"crypto/sha1" // RFC 5155 §11: the only hash of NSEC3; nothing rests on its resistance to collisions
	"encoding/base32"
	"encoding/hex"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

const optOutFlag = 1 // RFC 5155 §3.1.2.1

// nsec3 is one NSEC3 record of the zone, checked. Hashes are raw octets: their order is
// that of the names' in base32hex.
type nsec3 struct {
	hash, next string
	optOut     bool
	salt       string
	iterations uint16
	types      []uint16
}

// parseNSEC3 reads a record with a hash and flags that are known (RFC 5155 §8.1, §8.2),
// one label below its zone.
func parseNSEC3(owner, zone dns.Name, rr *wire.NSEC3) (nsec3, bool) {
	parent, ok := owner.Parent()
	if !ok || parent != zone || rr.Hash != wire.SHA1 || rr.Flags&^optOutFlag != 0 {
		return nsec3{}, false
	}
	hash, err := rawHash(owner.Labels()[0])
	next, errNext := rawHash(rr.NextDomain)
	salt, errSalt := hex.DecodeString(rr.Salt)
	if err != nil || errNext != nil || errSalt != nil || len(hash) != sha1.Size || len(next) != sha1.Size {
		return nsec3{}, false
	}
	return nsec3{
		hash: hash, next: next, optOut: rr.Flags&optOutFlag != 0,
		salt: string(salt), iterations: rr.Iterations, types: rr.TypeBitMap,
	}, true
}

// rawHash reads base32hex, which the wire library writes in upper case and names have in
// lower.
func rawHash(s string) (string, error) {
	raw, err := base32.HexEncoding.WithPadding(base32.NoPadding).DecodeString(upper(s))
	return string(raw), err
}

func upper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}

// alike reports whether two records belong to one chain.
func (n nsec3) alike(other nsec3) bool {
	return n.salt == other.salt && n.iterations == other.iterations
}

// covers reports whether a hash lies strictly between the record's and the next.
func (n nsec3) covers(hash string) bool {
	if n.hash < n.next {
		return n.hash < hash && hash < n.next
	}
	return hash > n.hash || hash < n.next // the end of the chain
}

// hash gives a name's hash with the parameters of the proof's chain, once (RFC 5155 §5).
func (p *Proof) hash(name dns.Name) (string, error) {
	if h, ok := p.hashes[name]; ok {
		return h, nil
	}
	if err := p.work.hash(p.nsec3[0].iterations); err != nil {
		return "", err
	}
	salt := p.nsec3[0].salt
	sum := sha1.Sum(append(wireName(name), salt...))
	for range p.nsec3[0].iterations {
		sum = sha1.Sum(append(sum[:], salt...))
	}
	p.hashes[name] = string(sum[:])
	return string(sum[:]), nil
}

// match3 gives the record of a name that is there.
func (p *Proof) match3(name dns.Name) (nsec3, bool, error) {
	h, err := p.hash(name)
	if err != nil {
		return nsec3{}, false, err
	}
	for _, n := range p.nsec3 {
		if n.hash == h {
			return n, true, nil
		}
	}
	return nsec3{}, false, nil
}

// covering3 reports whether a name is proven not to be there, but for unsigned delegations
// if optOut. A zero name, a wildcard that there is no room for, is not there.
func (p *Proof) covering3(name dns.Name) (optOut, covered bool, err error) {
	if name.IsZero() {
		return false, true, nil
	}
	h, err := p.hash(name)
	if err != nil {
		return false, false, err
	}
	for _, n := range p.nsec3 {
		if n.covers(h) {
			return n.optOut, true, nil
		}
	}
	return false, false, nil
}

// closest3 is the proof of the closest encloser (RFC 5155 §8.3): the longest ancestor that
// is there, and the name one label longer, which is not. It goes no further up than the
// zone's apex.
func (p *Proof) closest3(name dns.Name) (encloser dns.Name, optOut, ok bool, err error) {
	if !name.In(p.zone) || name == p.zone {
		return dns.Name{}, false, false, nil
	}
	next := name
	for next != p.zone {
		at, _ := next.Parent()
		n, found, err := p.match3(at)
		if err != nil {
			return dns.Name{}, false, false, err
		}
		if found {
			if leadsAway(n.types) {
				return dns.Name{}, false, false, nil
			}
			optOut, covered, err := p.covering3(next)
			return at, optOut, covered, err
		}
		next = at
	}
	return dns.Name{}, false, false, nil
}

// noData3 is NoData by NSEC3.
func (p *Proof) noData3(name dns.Name, typ dns.Type, none func() (Denial, error)) (Denial, error) {
	n, found, err := p.match3(name)
	if err != nil {
		return 0, err
	}
	if found {
		if lacks(n.types, typ, name) {
			return Proven, nil
		}
		return none()
	}
	encloser, optOut, ok, err := p.closest3(name)
	if err != nil || !ok {
		return result(none, err)
	}
	source, found, err := p.match3(wildcardOf(encloser))
	switch {
	case err != nil:
		return 0, err
	case found && lacks(source.types, typ, wildcardOf(encloser)):
		return worth(optOut), nil
	case !found && optOut:
		return Insecure, nil // RFC 5155 §8.6; ENTs above unsigned delegations likewise
	}
	return none()
}
