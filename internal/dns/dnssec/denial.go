package dnssec

import (
	"slices"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// Denial is what a proof of absence is worth.
type Denial int

// The worths.
const (
	// Proven: it is not there.
	Proven Denial = iota + 1
	// Insecure: it is not there as far as can be known: the name lies in a span of unsigned
	// delegations (opt-out, RFC 5155 §6), or the hashes are too dear (RFC 9276 §3.2).
	Insecure
)

// Cut is what a zone says about a name that has no DS record in it.
type Cut int

// What there may be.
const (
	// NoCut: the name belongs to the zone itself, or is not there.
	NoCut Cut = iota + 1
	// InsecureCut: an unsigned zone begins there, or may (opt-out).
	InsecureCut
)

// Proof holds the NSEC or NSEC3 records of a reply that their zone has signed.
type Proof struct {
	zone  dns.Name
	work  *Work
	nsec  []nsec
	nsec3 []nsec3

	// Sets are the records that prove, each with its good signature; NSEC3 of one chain.
	Sets []Set

	dear   bool  // hashes with more iterations than we compute
	failed error // why a record was left out
	hashes map[dns.Name]string
}

// Proof reads the NSEC and NSEC3 records of a section and checks their signatures. What is
// not signed well, or cannot be the zone's, proves nothing. The time is when the first of
// them ends, with its signature or the TTL that was signed (RFC 4035 §5.3.3). The error is
// ErrWork.
func (z *Zone) Proof(section []dns.RR, now time.Time, work *Work) (*Proof, time.Time, error) {
	p := &Proof{zone: z.Name, work: work, hashes: map[dns.Name]string{}}
	until := now.Add(maxProofLife)
	for _, set := range Group(section) {
		if set.Type != dns.Type(wire.TypeNSEC) && set.Type != dns.Type(wire.TypeNSEC3) {
			continue
		}
		if len(p.nsec)+len(p.nsec3) >= maxNSEC {
			break
		}
		if !set.Name.In(z.Name) || len(set.Records) != 1 {
			continue
		}
		if p.tooDear(set.Records[0]) {
			continue // its zone must have signed it all the same; see below
		}
		verdict, err := z.Verify(set, now, work)
		switch {
		case isWork(err):
			return nil, now, err
		case err != nil:
			p.note(err)
			continue
		case verdict.Expanded:
			p.note(fault(CodeBogus, "%s was made from a wildcard and proves nothing", set))
			continue
		}
		for _, end := range []time.Time{verdict.Until, now.Add(verdict.TTL)} {
			if end.Before(until) {
				until = end
			}
		}
		set.Sigs = []*wire.RRSIG{verdict.Sig}
		p.add(set)
	}
	if len(p.nsec)+len(p.nsec3) == 0 && p.dear {
		if err := p.signedDear(z, section, now); err != nil {
			return nil, now, err
		}
	}
	return p, until, nil
}

// maxProofLife is more than any TTL that is kept.
const maxProofLife = 7 * 24 * time.Hour

// note keeps the first reason for which a record was left out.
func (p *Proof) note(err error) {
	if p.failed == nil {
		p.failed = err
	}
}

// tooDear reports an NSEC3 with too many iterations.
func (p *Proof) tooDear(rr dns.RR) bool {
	n, ok := rr.(*wire.NSEC3)
	if ok && n.Iterations > maxIterations {
		p.dear = true
		return true
	}
	return false
}

// signedDear wants one of the dear records to be signed: else anybody could make a zone
// insecure with a record of his own.
func (p *Proof) signedDear(z *Zone, section []dns.RR, now time.Time) error {
	p.dear = false
	for _, set := range Group(section) {
		if set.Type != dns.Type(wire.TypeNSEC3) || len(set.Records) != 1 {
			continue
		}
		_, err := z.Verify(set, now, p.work)
		switch {
		case isWork(err):
			return err
		case err == nil:
			p.dear = true
			return nil
		}
		p.note(err) // the next may be signed all the same
	}
	return nil
}

func (p *Proof) add(set Set) {
	switch rr := set.Records[0].(type) {
	case *wire.NSEC:
		next := dns.NameOf(rr.NextDomain)
		// A next name outside the zone would deny names of others (CVE-2026-13321).
		if !next.In(p.zone) {
			p.note(fault(CodeBogus, "the NSEC of %s leads out of %s", set.Name, p.zone))
			return
		}
		p.nsec = append(p.nsec, nsec{set.Name, next, rr.TypeBitMap})
		p.Sets = append(p.Sets, set)
	case *wire.NSEC3:
		n, ok := parseNSEC3(set.Name, p.zone, rr)
		if !ok || len(p.nsec3) > 0 && !n.alike(p.nsec3[0]) {
			return // RFC 5155 §8.1, §8.2
		}
		p.nsec3 = append(p.nsec3, n)
		p.Sets = append(p.Sets, set)
	}
}

// missing is the fault of a proof that is not there, or the reason for it.
func (p *Proof) missing(format string, args ...any) error {
	if p.failed != nil {
		return p.failed
	}
	return fault(CodeProofMissing, format, args...)
}

// Dear reports whether the proof has hashes with more iterations than are computed, and is
// insecure for that.
func (p *Proof) Dear() bool { return p.dear }

// NXDomain wants a proof that neither the name nor a wildcard for it is there (RFC 4035
// §5.4, RFC 5155 §8.4).
func (p *Proof) NXDomain(name dns.Name) (Denial, error) {
	if p.dear {
		return Insecure, nil
	}
	none := func() (Denial, error) {
		return 0, p.missing("there is no proof that %s does not exist", name)
	}
	if !name.In(p.zone) {
		return none()
	}
	if len(p.nsec3) == 0 {
		encloser, ok := p.encloser(name)
		if !ok || !p.covers(wildcardOf(encloser)) {
			return none()
		}
		return Proven, nil
	}
	encloser, optOut, ok, err := p.closest3(name)
	if err != nil || !ok {
		return result(none, err)
	}
	_, covered, err := p.covering3(wildcardOf(encloser))
	if err != nil || !covered {
		return result(none, err)
	}
	return worth(optOut), nil
}

// result lets an error of the work go before the fault of the proof.
func result(none func() (Denial, error), err error) (Denial, error) {
	if err != nil {
		return 0, err
	}
	return none()
}

func worth(optOut bool) Denial {
	if optOut {
		return Insecure
	}
	return Proven
}

// NoData wants a proof that the name, or the wildcard that stands for it, has no records
// of a type and no alias (RFC 4035 §3.1.3.1, §3.1.3.4; RFC 5155 §8.5 to §8.7).
func (p *Proof) NoData(name dns.Name, typ dns.Type) (Denial, error) {
	if p.dear {
		return Insecure, nil
	}
	none := func() (Denial, error) {
		return 0, p.missing("there is no proof that %s has no %s", name, typ)
	}
	if !name.In(p.zone) {
		return none()
	}
	if len(p.nsec3) > 0 {
		return p.noData3(name, typ, none)
	}
	for _, n := range p.nsec {
		if n.owner == name {
			if n.lacks(typ, name) {
				return Proven, nil
			}
			return none()
		}
	}
	for _, n := range p.nsec { // an empty non-terminal: RFC 4592 §2.2.2
		if n.spans(name, p.zone) && n.next != name && n.next.In(name) && !n.below(name) {
			return Proven, nil
		}
	}
	encloser, ok := p.encloser(name)
	if !ok {
		return none()
	}
	source := wildcardOf(encloser)
	for _, n := range p.nsec {
		if n.owner == source && n.lacks(typ, source) {
			return Proven, nil
		}
	}
	return none()
}

// Wildcard wants a proof that an answer made from the wildcard below the closest encloser
// with so many labels was rightly made: that nothing is closer (RFC 4035 §5.3.4, RFC 5155
// §8.8).
func (p *Proof) Wildcard(name dns.Name, labels int) (Denial, error) {
	if p.dear {
		return Insecure, nil
	}
	none := func() (Denial, error) {
		return 0, p.missing("there is no proof that the wildcard below %s stands for %s", ancestor(name, labels), name)
	}
	if !name.In(p.zone) || labels < labelCount(p.zone) || labels >= name.CountLabels() {
		return none()
	}
	if len(p.nsec3) == 0 {
		encloser, ok := p.encloser(name)
		if !ok || encloser != ancestor(name, labels) {
			return none()
		}
		return Proven, nil
	}
	optOut, covered, err := p.covering3(ancestor(name, labels+1))
	if err != nil || !covered {
		return result(none, err)
	}
	return worth(optOut), nil
}

// NoDS says what is at a name that has no DS record (RFC 4035 §5.2, RFC 5155 §8.6, §8.9).
func (p *Proof) NoDS(name dns.Name) (Cut, error) {
	if p.dear {
		return InsecureCut, nil
	}
	denial, err := p.NoData(name, dns.TypeDS)
	if err != nil {
		return 0, err
	}
	if denial == Insecure {
		return InsecureCut, nil
	}
	if types, ok := p.types(name); ok && has(types, wire.TypeNS) {
		return InsecureCut, nil
	}
	return NoCut, nil
}

// types gives the types at a name that a record speaks of itself.
func (p *Proof) types(name dns.Name) ([]uint16, bool) {
	for _, n := range p.nsec {
		if n.owner == name {
			return n.types, true
		}
	}
	for _, n := range p.nsec3 {
		if h, ok := p.hashes[name]; ok && n.hash == h {
			return n.types, true
		}
	}
	return nil, false
}

func has(types []uint16, t uint16) bool { return slices.Contains(types, t) }

// lacks reports whether the types at a name are a proof that it has none of typ.
func lacks(types []uint16, typ dns.Type, name dns.Name) bool {
	if has(types, uint16(typ)) || has(types, wire.TypeCNAME) {
		return false
	}
	if typ == dns.TypeDS {
		// The child's apex knows nothing of its DS; the root has no parent (RFC 6840 §4.1).
		return !has(types, wire.TypeSOA) || name == dns.Root
	}
	// A delegation's record speaks for its DS alone (RFC 6840 §4.1).
	return !has(types, wire.TypeNS) || has(types, wire.TypeSOA)
}

// leadsAway reports whether what is below a name is another's or an alias's matter.
func leadsAway(types []uint16) bool {
	return has(types, wire.TypeDNAME) || has(types, wire.TypeNS) && !has(types, wire.TypeSOA)
}
