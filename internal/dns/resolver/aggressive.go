package resolver

import (
	"slices"
	"sync"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
)

// Aggressive use of denials (RFC 8198): an NSEC or NSEC3 record that was validated once
// denies every name in its span, so that names made up at random cost their zone nothing.
// Only after the cache has missed does anybody look here.
//
// Not implemented: positive answers from wildcards are asked for each name (RFC 8198 §5.3).

const (
	spanShare    = 16   // this part of the cache's bytes is for spans
	maxZoneSpans = 4096 // of one zone
	spanOverhead = 100  // of a span beside its records, about
)

// spans are the validated denials of all zones.
type spans struct {
	mu    sync.Mutex
	most  int // bytes; 0 if denials are not used
	bytes int
	zones map[dns.Name]*zoneSpans
}

// limit takes the share of the spans from the bytes of the cache, and gives the rest.
func (s *spans) limit(bytes int, off bool) int {
	if off {
		return bytes
	}
	if bytes <= 0 {
		bytes = defaultCacheBytes
	}
	s.most = bytes / spanShare
	return bytes - s.most
}

// zoneSpans are the denials of one zone: its SOA and, in canonical order of their owners,
// its NSEC or its NSEC3 records. The owners of NSEC3 records sort as their hashes do.
type zoneSpans struct {
	soa   span
	list  []span
	chain *wire.NSEC3 // one of the list's, if they are NSEC3
}

// span is a record with its signatures.
type span struct {
	owner   dns.Name
	records []dns.RR
	expires time.Time
	bytes   int
}

// learn keeps what has proven that there is nothing, until it expires. The authority holds
// the records of one zone, all of them validated.
func (s *spans) learn(zone dns.Name, authority []dns.RR, proof *dnssec.Proof, now, until time.Time) {
	if s.most == 0 {
		return
	}
	var soa span
	var list []span
	var chain *wire.NSEC3
	for _, set := range dnssec.Group(authority) {
		sp := span{owner: set.Name, expires: until}
		for _, rr := range authority {
			sig, isSig := rr.(*wire.RRSIG)
			typ := rr.Header().Rrtype
			if isSig {
				typ = sig.TypeCovered
			}
			if dns.NameOf(rr.Header().Name) == set.Name && typ == uint16(set.Type) {
				sp.records = append(sp.records, rr)
				if end := now.Add(seconds(rr.Header().Ttl)); end.Before(sp.expires) {
					sp.expires = end
				}
			}
		}
		sp.bytes = size(sp.records) + spanOverhead
		switch rr := set.Records[0].(type) {
		case *wire.SOA:
			if set.Name != zone {
				return
			}
			// RFC 9077 §3: no longer than the SOA's minimum.
			if end := now.Add(seconds(rr.Minttl)); end.Before(sp.expires) {
				sp.expires = end
			}
			soa = sp
		case *wire.NSEC:
			if proof.Holds(set.Name) {
				list = append(list, sp)
			}
		case *wire.NSEC3:
			if proof.Holds(set.Name) && rr.Flags == 0 { // not with opt-out (RFC 8198 §5.2)
				list, chain = append(list, sp), rr
			}
		}
	}
	if soa.records == nil || len(list) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	z := s.zones[zone]
	if z != nil && (!alike(z.chain, chain) || len(z.list) >= maxZoneSpans) {
		s.forget(zone)
		z = nil
	}
	if z == nil {
		z = &zoneSpans{chain: chain}
		if s.zones == nil {
			s.zones = map[dns.Name]*zoneSpans{}
		}
		s.zones[zone] = z
	}
	s.bytes += soa.bytes - z.soa.bytes
	z.soa = soa
	for _, sp := range list {
		if soa.expires.Before(sp.expires) {
			sp.expires = soa.expires
		}
		i, found := z.at(sp.owner)
		if found {
			s.bytes -= z.list[i].bytes
			z.list[i] = sp
		} else {
			z.list = slices.Insert(z.list, i, sp)
		}
		s.bytes += sp.bytes
	}
	for other := range s.zones { // any: what is of use will be learnt again
		if s.bytes <= s.most {
			break
		}
		s.forget(other)
	}
}

// alike reports whether two records are of one chain; nil stands for NSEC.
func alike(a, b *wire.NSEC3) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Salt == b.Salt && a.Iterations == b.Iterations
}

// at finds the place of an owner.
func (z *zoneSpans) at(owner dns.Name) (int, bool) {
	return slices.BinarySearchFunc(z.list, owner, func(s span, name dns.Name) int { return dnssec.Compare(s.owner, name) })
}

// before gives the record at a name or the last before it; the last of all leads around to
// the first.
func (z *zoneSpans) before(name dns.Name, now time.Time) (span, bool) {
	i, found := z.at(name)
	if !found {
		i = (i - 1 + len(z.list)) % len(z.list)
	}
	return z.list[i], z.list[i].expires.After(now)
}

// forget drops a zone; mu is held.
func (s *spans) forget(zone dns.Name) {
	if z := s.zones[zone]; z != nil {
		s.bytes -= z.soa.bytes
		for _, sp := range z.list {
			s.bytes -= sp.bytes
		}
		delete(s.zones, zone)
	}
}

// flush drops what might deny a name, or a name below it.
func (s *spans) flush(name dns.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for zone := range s.zones {
		if zone.In(name) || name.In(zone) {
			s.forget(zone)
		}
	}
}

// deny makes the piece that says that there is nothing, if that is known: with the records
// of zone, which is the deepest known above the name.
func (s *spans) deny(zone dns.Name, a ask, now time.Time) *piece {
	s.mu.Lock()
	defer s.mu.Unlock()
	z := s.zones[zone]
	if z == nil || !z.soa.expires.After(now) {
		return nil
	}
	until := z.soa.expires
	authority := slices.Clone(z.soa.records)
	var used []dns.Name
	take := func(owner dns.Name) {
		if sp, ok := z.before(owner, now); ok && !slices.Contains(used, sp.owner) {
			used = append(used, sp.owner)
			authority = append(authority, sp.records...)
			if sp.expires.Before(until) {
				until = sp.expires
			}
		}
	}
	work := new(dnssec.Work)
	var proof *dnssec.Proof
	if z.chain == nil {
		take(a.name)
		proof = dnssec.Known(zone, authority, work)
		if encloser, ok := proof.Encloser(a.name); ok {
			if wild, ok := wildcard(encloser); ok {
				take(wild)
			}
		}
	} else {
		for _, hash := range dnssec.Closest3(zone, a.name, z.chain, work, func(hash dns.Name) bool {
			i, found := z.at(hash)
			return found && z.list[i].expires.After(now)
		}) {
			take(hash)
		}
	}
	proof = dnssec.Known(zone, authority, work)
	p := &piece{ask: a, secure: true, authority: authority, ttl: until.Sub(now).Truncate(time.Second), expires: until}
	if d, err := proof.NXDomain(a.name); err == nil && d == dnssec.Proven {
		p.rcode = dns.NXDomain
	} else if d, err := proof.NoData(a.name, a.typ); err != nil || d != dnssec.Proven {
		return nil
	} else if a.typ == dns.TypeDS {
		if p.cut, err = proof.NoDS(a.name); err != nil {
			return nil
		}
	}
	if p.ttl <= 0 {
		return nil
	}
	return p
}

func wildcard(encloser dns.Name) (dns.Name, bool) {
	w, err := encloser.Child("*")
	return w, err == nil
}

// denied gives what the denials of a signed zone say about a question. Those of stub and
// forward zones do not count, nor those under a negative trust anchor, and a child never
// denies its DS.
func (r *Resolver) denied(led *ledger, now time.Time) *piece {
	if r.spans.most == 0 || led.unchecked || !r.validating() || led.typ == typeRRSIG || led.typ == dns.TypeANY || r.exempt(above(led.ask)) {
		return nil
	}
	if s, f := r.elsewhere.find(led.ask); s != nil || f != nil {
		return nil
	}
	cut := r.cache.deepest(above(led.ask), now)
	if cut == nil {
		return nil
	}
	p := r.spans.deny(cut.zone, led.ask, now)
	if p == nil {
		return nil
	}
	if !cut.lease.IsZero() && cut.lease.Before(p.expires) {
		p.expires = cut.lease
		p.ttl = min(p.ttl, cut.lease.Sub(now).Truncate(time.Second))
	}
	p.dnssec = led.dnssec
	p.authority = retime(p.authority, p.ttl)
	if !led.dnssec {
		p.authority = bare(p.authority, noType)
	}
	return p
}
