package zone

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

const (
	typeRRSIG      = dns.Type(wire.TypeRRSIG)
	typeNSEC       = dns.Type(wire.TypeNSEC)
	typeNSEC3      = dns.Type(wire.TypeNSEC3)
	typeNSEC3PARAM = dns.Type(wire.TypeNSEC3PARAM)
	typeDNSKEY     = dns.Type(wire.TypeDNSKEY)
)

// How long signatures hold where Signing does not say it.
const (
	signedSince = time.Hour // for clocks that are slow
	signedFor   = 14 * 24 * time.Hour
)

// Signing says how a zone is signed.
type Signing struct {
	// Keys sign; their DNSKEY records come into the zone. Those with Entry sign the
	// DNSKEY records and the others the rest; without one kind, the other does all.
	Keys []*Key
	// Inception and Expiration bound the signatures [an hour ago, in 14 days].
	Inception, Expiration time.Time
	// NSEC3 asks for hashed proofs (RFC 5155); nil for NSEC.
	NSEC3 *NSEC3
}

// NSEC3 are the parameters of hashed proofs. The zero value is what RFC 9276 §3.1 wants.
type NSEC3 struct {
	Iterations uint16
	Salt       []byte
	OptOut     bool // unsigned delegations have no proof of their own (RFC 5155 §6)
}

// Sign gives a signed copy of the zone (RFC 4035 §2, RFC 5155 §7.1): every authoritative
// RRset with a signature, DS records among them, but no glue and no NS records of
// delegations; and a chain of NSEC or NSEC3 records. Signatures and chains that the zone
// has are left behind, DNSKEY records stay.
func (z *Zone) Sign(s Signing) (*Zone, error) {
	if len(s.Keys) == 0 {
		return nil, fmt.Errorf("sign %s: no keys", z.Origin)
	}
	now := time.Now()
	if s.Inception.IsZero() {
		s.Inception = now.Add(-signedSince)
	}
	if s.Expiration.IsZero() {
		s.Expiration = now.Add(signedFor)
	}
	out := &Zone{Origin: z.Origin, nodes: make(map[dns.Name]*node, len(z.nodes))}
	for name, n := range z.nodes {
		copied := out.grow(name)
		for t, set := range n.sets {
			if t != typeRRSIG && t != typeNSEC && t != typeNSEC3 && t != typeNSEC3PARAM {
				copied.sets[t] = set
			}
		}
	}
	apex := out.nodes[out.Origin]
	keys := slices.Clip(apex.sets[typeDNSKEY])
	ttl := apex.sets[dns.TypeSOA][0].Header().Ttl
	if len(keys) > 0 {
		ttl = keys[0].Header().Ttl
	}
	for _, k := range s.Keys {
		keys = appendNew(keys, k.DNSKEY(out.Origin, ttl))
	}
	apex.sets[typeDNSKEY] = keys
	if s.NSEC3 != nil {
		apex.sets[typeNSEC3PARAM] = []dns.RR{s.NSEC3.param(out.Origin)}
	}
	out.link()
	if s.NSEC3 != nil {
		out.hash(*s.NSEC3)
	} else {
		out.chain()
	}
	if err := out.sign(s); err != nil {
		return nil, fmt.Errorf("sign %s: %w", z.Origin, err)
	}
	out.link()
	return out, nil
}

// appendNew adds a record that is not there yet.
func appendNew(set []dns.RR, rr dns.RR) []dns.RR {
	if slices.ContainsFunc(set, func(old dns.RR) bool { return wire.IsDuplicate(old, rr) }) {
		return set
	}
	return append(set, rr)
}

// proofTTL is the TTL of NSEC and NSEC3 records (RFC 9077 §3).
func (z *Zone) proofTTL() uint32 { return z.negative[0].Header().Ttl }

// chain makes the NSEC records (RFC 4034 §4, RFC 4035 §2.3): one at every name that has
// records of this zone's, delegations included, each naming the next.
func (z *Zone) chain() {
	var owners []*node
	for _, n := range z.nodes {
		if len(n.sets) > 0 && (n.cut == nil || n.cut == n) {
			owners = append(owners, n)
		}
	}
	slices.SortFunc(owners, func(a, b *node) int { return cmp.Compare(a.order, b.order) })
	for i, n := range owners {
		types := append(n.own(), typeRRSIG, typeNSEC)
		n.sets[typeNSEC] = []dns.RR{&wire.NSEC{
			Hdr:        wire.RR_Header{Name: n.owner(), Rrtype: wire.TypeNSEC, Class: wire.ClassINET, Ttl: z.proofTTL()},
			NextDomain: owners[(i+1)%len(owners)].name.FQDN(),
			TypeBitMap: bitmap(types),
		}}
	}
}

// own gives the types that belong to this zone at a name: at a delegation, those that the
// parent may speak of (RFC 4035 §2.3).
func (n *node) own() []dns.Type {
	types := n.types()
	if n.cut == n {
		types = slices.DeleteFunc(types, func(t dns.Type) bool {
			return t != dns.TypeNS && t != dns.TypeDS && t != typeNSEC
		})
	}
	return types
}

// owner gives the name as its records write it.
func (n *node) owner() string {
	for _, t := range n.types() {
		return n.sets[t][0].Header().Name
	}
	return n.name.FQDN()
}

func bitmap(types []dns.Type) []uint16 {
	var out []uint16
	for _, t := range types {
		out = append(out, uint16(t))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (p NSEC3) param(origin dns.Name) *wire.NSEC3PARAM {
	return &wire.NSEC3PARAM{
		Hdr:  wire.RR_Header{Name: origin.FQDN(), Rrtype: wire.TypeNSEC3PARAM, Class: wire.ClassINET},
		Hash: wire.SHA1, Iterations: p.Iterations,
		SaltLength: uint8(len(p.Salt)), Salt: hex.EncodeToString(p.Salt),
	}
}

// hash makes the NSEC3 records (RFC 5155 §7.1), empty non-terminals included.
func (z *Zone) hash(p NSEC3) {
	salt := hex.EncodeToString(p.Salt)
	hashed := map[string][]uint16{}
	for _, n := range z.nodes {
		if n.cut != nil && n.cut != n || len(n.sets) == 0 {
			continue
		}
		types := n.own()
		insecure := n.cut == n && len(n.sets[dns.TypeDS]) == 0
		if insecure && p.OptOut {
			continue
		}
		if !insecure {
			types = append(types, typeRRSIG)
		}
		hashed[wire.HashName(n.name.FQDN(), wire.SHA1, p.Iterations, salt)] = bitmap(types)
		for above := n.parent; above != nil && len(above.sets) == 0; above = above.parent {
			hashed[wire.HashName(above.name.FQDN(), wire.SHA1, p.Iterations, salt)] = nil
		}
	}
	var hashes []string
	for h := range hashed {
		hashes = append(hashes, h)
	}
	slices.Sort(hashes)
	var flags uint8
	if p.OptOut {
		flags = 1
	}
	z.hashes = nil
	for i, h := range hashes {
		z.hashes = append(z.hashes, hashedNode{hash: h, set: []dns.RR{&wire.NSEC3{
			Hdr:  wire.RR_Header{Name: z.hashOwner(h), Rrtype: wire.TypeNSEC3, Class: wire.ClassINET, Ttl: z.proofTTL()},
			Hash: wire.SHA1, Flags: flags, Iterations: p.Iterations, SaltLength: uint8(len(p.Salt)), Salt: salt,
			HashLength: 20, NextDomain: hashes[(i+1)%len(hashes)], TypeBitMap: hashed[h],
		}}})
	}
}

func (z *Zone) hashOwner(hash string) string {
	if z.Origin == dns.Root {
		return strings.ToLower(hash) + "."
	}
	return strings.ToLower(hash) + "." + z.Origin.FQDN()
}

// sign makes the signatures (RFC 4035 §2.2).
func (z *Zone) sign(s Signing) error {
	var entry, rest []*Key
	for _, k := range s.Keys {
		if k.Entry {
			entry = append(entry, k)
		} else {
			rest = append(rest, k)
		}
	}
	if len(entry) == 0 {
		entry = rest
	} else if len(rest) == 0 {
		rest = entry
	}
	signed := func(set []dns.RR) (sigs []dns.RR, err error) {
		keys := rest
		if set[0].Header().Rrtype == wire.TypeDNSKEY {
			keys = entry
		}
		for _, k := range keys {
			sig, err := k.Sign(set, z.Origin, s.Inception, s.Expiration)
			if err != nil {
				return nil, err
			}
			sigs = append(sigs, sig)
		}
		return sigs, nil
	}
	for _, n := range z.nodes {
		if n.cut != nil && n.cut != n {
			continue
		}
		for _, t := range n.own() {
			if n.cut == n && t == dns.TypeNS {
				continue
			}
			sigs, err := signed(n.sets[t])
			if err != nil {
				return err
			}
			n.sets[typeRRSIG] = append(n.sets[typeRRSIG], sigs...)
		}
	}
	for i := range z.hashes {
		var err error
		if z.hashes[i].sigs, err = signed(z.hashes[i].set); err != nil {
			return err
		}
	}
	return nil
}

// New makes a zone from records, with the checks of Parse; the errors tell a record by
// its number.
func New(origin dns.Name, records []dns.RR) (*Zone, error) {
	if origin.IsZero() {
		return nil, errors.New("the zone has no name")
	}
	p := &parser{zone: &Zone{Origin: origin, nodes: map[dns.Name]*node{}}, lines: map[dns.RR]int{}}
	for i, rr := range records {
		if err := p.add(rr, i+1); err != nil {
			p.fault(i+1, "%s", err.Error())
		}
	}
	p.check()
	if len(p.faults) > 0 {
		return nil, p.joined("record")
	}
	p.zone.link()
	return p.zone, nil
}

// Records gives all records of the zone: the SOA first, then in canonical order (RFC 4034
// §6.1), the NSEC3 records at the end.
func (z *Zone) Records() []dns.RR {
	var nodes []*node
	for _, n := range z.nodes {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b *node) int { return cmp.Compare(a.order, b.order) })
	soa := z.nodes[z.Origin].sets[dns.TypeSOA]
	out := slices.Clone(soa)
	for _, n := range nodes {
		for _, t := range n.types() {
			if t != dns.TypeSOA || n.name != z.Origin {
				out = append(out, n.sets[t]...)
			}
		}
	}
	for _, h := range z.hashes {
		out = append(append(out, h.set...), h.sigs...)
	}
	return out
}

// WriteTo writes the zone as a master file that Parse reads.
func (z *Zone) WriteTo(w io.Writer) (int64, error) {
	var b bytes.Buffer
	for _, rr := range z.Records() {
		b.WriteString(rr.String() + "\n")
	}
	return b.WriteTo(w)
}
