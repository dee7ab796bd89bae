package resolver

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
)

// Aggressive use of denials (RFC 8198): an NSEC or NSEC3 record that was validated once
// denies every name in its span, so that names made up at random cost their zone nothing;
// and where a wildcard was seen to stand for one name of a span, it does for all of them
// (§5.3). Only after the cache has missed does anybody look here.
//
// Records with opt-out are not used, since a name in their span may be there (§5.2); nor
// are wildcards that were asked for by their own name.

const (
	spanShare    = 16   // this part of the cache's bytes is for spans
	maxZoneSpans = 4096 // of one zone
	maxZoneWild  = 256  // sets at wildcards, of one zone
	spanOverhead = 160  // of a span beside its records, about
	zoneOverhead = 400  // of a zone beside its spans, about
	victims      = 8    // zones looked at for the one that goes
)

// spans are the validated denials of all zones. Names are hashed outside of the lock.
type spans struct {
	mu    sync.RWMutex
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
	since time.Time // of the delegation by which they were learnt: those of another never count
	soa   span      // without records if not known
	list  []span
	chain *wire.NSEC3 // one of the list's, if they are NSEC3
	wild  map[ask]span
	bytes int
	used  atomic.Int64 // when, in Unix nanoseconds
}

// span is a record, or the set of a wildcard, with a good signature.
type span struct {
	key     string // the owner's dnssec.SortKey; empty but in a list
	records []dns.RR
	expires time.Time
	bytes   int
}

// lesson is what a reply has proven of a zone; all sets are validated.
type lesson struct {
	zone      dns.Name
	since     time.Time  // of its delegation
	soa, wild dnssec.Set // may have no records
	denials   []dnssec.Set
}

// learn keeps a lesson until it ends.
func (s *spans) learn(l lesson, now, end time.Time) {
	if s.most == 0 || !end.After(now) {
		return
	}
	var list []span
	var chain *wire.NSEC3
	for _, set := range l.denials {
		n, hashed := set.Records[0].(*wire.NSEC3)
		if hashed && n.Flags != 0 { // opt-out
			continue
		}
		if hashed {
			chain = n
		}
		sp := makeSpan(set, end)
		sp.key = dnssec.SortKey(set.Name)
		list = append(list, sp)
	}
	list = slices.DeleteFunc(list, func(sp span) bool { // NSEC beside NSEC3 prove nothing
		return chain != nil && sp.records[0].Header().Rrtype != wire.TypeNSEC3
	})
	if len(list) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	z := s.zones[l.zone]
	if z == nil || !z.since.Equal(l.since) || !alike(z.chain, chain) {
		s.forget(l.zone)
		z = &zoneSpans{since: l.since, chain: chain, wild: map[ask]span{}, bytes: zoneOverhead}
		if s.zones == nil {
			s.zones = map[dns.Name]*zoneSpans{}
		}
		s.zones[l.zone] = z
		s.bytes += z.bytes
	}
	z.used.Store(now.UnixNano())
	before := z.bytes
	for _, sp := range list {
		z.put(sp)
	}
	if len(l.soa.Records) > 0 {
		z.bytes -= z.soa.bytes
		z.soa = makeSpan(l.soa, end)
		z.bytes += z.soa.bytes
	}
	if len(l.wild.Records) > 0 {
		z.putWild(ask{name: l.wild.Name, typ: l.wild.Type}, makeSpan(l.wild, end))
	}
	s.bytes += z.bytes - before
	s.shrink(l.zone)
}

func makeSpan(set dnssec.Set, end time.Time) span {
	sp := span{records: slices.Clone(set.Records), expires: end}
	for _, sig := range set.Sigs {
		sp.records = append(sp.records, sig)
	}
	sp.bytes = size(sp.records) + spanOverhead
	return sp
}

// alike reports whether two records are of one chain; nil stands for NSEC.
func alike(a, b *wire.NSEC3) bool {
	if a == nil || b == nil {
		return a == b
	}
	return strings.EqualFold(a.Salt, b.Salt) && a.Iterations == b.Iterations
}

// at finds the place of an owner.
func (z *zoneSpans) at(key string) (int, bool) {
	return slices.BinarySearchFunc(z.list, key, func(s span, key string) int { return strings.Compare(s.key, key) })
}

// put takes a span in place of the one that has its owner, or of any if there are too many.
func (z *zoneSpans) put(sp span) {
	if i, found := z.at(sp.key); found {
		z.bytes += sp.bytes - z.list[i].bytes
		z.list[i] = sp
		return
	}
	if len(z.list) >= maxZoneSpans {
		z.thin()
	}
	i, _ := z.at(sp.key)
	z.list = slices.Insert(z.list, i, sp)
	z.bytes += sp.bytes
}

func (z *zoneSpans) putWild(a ask, sp span) {
	for other, old := range z.wild { // any one
		if len(z.wild) < maxZoneWild {
			break
		}
		z.bytes -= old.bytes
		delete(z.wild, other)
	}
	z.bytes += sp.bytes - z.wild[a].bytes
	z.wild[a] = sp
}

// thin drops one span: of two, the one that ends first.
func (z *zoneSpans) thin() {
	i, j := rand.IntN(len(z.list)), rand.IntN(len(z.list))
	if z.list[j].expires.Before(z.list[i].expires) {
		i = j
	}
	z.bytes -= z.list[i].bytes
	z.list = slices.Delete(z.list, i, i+1)
}

// shrink brings the spans back below their bytes: of a few zones, the one that was not used
// for longest goes, and the one that has just been learnt only in parts. The lock is held.
func (s *spans) shrink(learnt dns.Name) {
	for s.bytes > s.most {
		var victim dns.Name
		looked := 0
		for zone, z := range s.zones {
			if looked++; looked > victims {
				break
			}
			if zone != learnt && (victim.IsZero() || z.used.Load() < s.zones[victim].used.Load()) {
				victim = zone
			}
		}
		if !victim.IsZero() {
			s.forget(victim)
			continue
		}
		z := s.zones[learnt]
		if len(z.list) == 0 {
			s.forget(learnt)
			return
		}
		before := z.bytes
		z.thin()
		s.bytes += z.bytes - before
	}
}

// forget drops a zone. The lock is held.
func (s *spans) forget(zone dns.Name) {
	if z := s.zones[zone]; z != nil {
		s.bytes -= z.bytes
		delete(s.zones, zone)
	}
}

// drop forgets one zone.
func (s *spans) drop(zone dns.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(zone)
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

// answer makes the piece that says what stands at a name, as far as the denials of the zone
// tell, which is the deepest known above the name: nothing, or what a wildcard has.
func (s *spans) answer(zone dns.Name, since time.Time, a ask, now time.Time) *piece {
	s.mu.RLock()
	z := s.zones[zone]
	s.mu.RUnlock()
	if z == nil || !z.since.Equal(since) {
		return nil
	}
	z.used.Store(now.UnixNano())
	g := gathering{spans: s, zone: z, now: now, until: now.Add(maxTTL)}
	var chain []dns.RR
	if z.chain != nil {
		chain = []dns.RR{z.chain}
	}
	g.proof = dnssec.Known(zone, chain, new(dnssec.Work))
	wild := g
	p := wild.expand(zone, a)
	if p == nil {
		p = g.deny(a)
	}
	if p == nil {
		return nil
	}
	p.ask, p.secure = a, true
	if p.ttl = p.expires.Sub(now).Truncate(time.Second); p.ttl <= 0 {
		return nil
	}
	return p
}

// gathering collects the records that prove something.
type gathering struct {
	spans *spans
	zone  *zoneSpans
	proof *dnssec.Proof // by nothing, but with the zone's chain
	now   time.Time

	authority []dns.RR
	keys      []string // of the owners
	until     time.Time
}

// live gives the span at an owner, if there is one.
func (g *gathering) live(owner dns.Name) bool {
	key := dnssec.SortKey(owner)
	g.spans.mu.RLock()
	defer g.spans.mu.RUnlock()
	i, found := g.zone.at(key)
	return found && g.zone.list[i].expires.After(g.now)
}

// take collects the record at an owner or the last before it; the last of all leads around
// to the first.
func (g *gathering) take(owner dns.Name) {
	key := dnssec.SortKey(owner)
	g.spans.mu.RLock()
	defer g.spans.mu.RUnlock()
	list := g.zone.list
	if len(list) == 0 {
		return
	}
	i, found := g.zone.at(key)
	if !found {
		i = (i - 1 + len(list)) % len(list)
	}
	if !slices.Contains(g.keys, list[i].key) {
		g.keys = append(g.keys, list[i].key)
		g.add(list[i])
	}
}

// add collects a span that has not ended.
func (g *gathering) add(sp span) bool {
	if !sp.expires.After(g.now) {
		return false
	}
	g.authority = append(g.authority, sp.records...)
	if sp.expires.Before(g.until) {
		g.until = sp.expires
	}
	return true
}

// deny makes the piece that says that there is nothing.
func (g *gathering) deny(a ask) *piece {
	g.spans.mu.RLock()
	known := len(g.zone.soa.records) > 0 && g.add(g.zone.soa)
	g.spans.mu.RUnlock()
	if !known {
		return nil
	}
	if g.zone.chain != nil {
		for _, owner := range g.proof.Closest3(a.name, g.live) {
			g.take(owner)
		}
	} else {
		g.take(a.name)
		if encloser, ok := g.proof.With(g.authority).Encloser(a.name); ok {
			if wild, err := encloser.Child("*"); err == nil {
				g.take(wild)
			}
		}
	}
	p := &piece{authority: g.authority, expires: g.until}
	proof := g.proof.With(g.authority)
	if d, err := proof.NXDomain(a.name); err == nil && d == dnssec.Proven {
		p.rcode = dns.NXDomain
		return p
	}
	if d, err := proof.NoData(a.name, a.typ); err != nil || d != dnssec.Proven {
		return nil
	}
	if a.typ == dns.TypeDS {
		var err error
		if p.cut, err = proof.NoDS(a.name); err != nil {
			return nil
		}
	}
	return p
}

// expand makes the piece that a wildcard stands for, if the name and all that is closer to
// it are known not to be there (RFC 8198 §5.3).
func (g *gathering) expand(zone dns.Name, a ask) *piece {
	next := a.name
	for next != zone {
		at, ok := next.Parent()
		if !ok {
			return nil
		}
		if set, alias := g.wildcard(at, a.typ); set != nil {
			closer := a.name
			if g.zone.chain != nil {
				if closer, ok = g.proof.Owner3(next); !ok {
					return nil
				}
			}
			g.take(closer)
			d, err := g.proof.With(g.authority).Wildcard(a.name, at.CountLabels())
			if err != nil || d != dnssec.Proven {
				return nil
			}
			return &piece{answer: renamed(set, a.name), target: alias, authority: g.authority, expires: g.until}
		}
		next = at
	}
	return nil
}

// wildcard gives the set of a type, or the alias, that the wildcard below a name is known
// to have.
func (g *gathering) wildcard(encloser dns.Name, typ dns.Type) (set []dns.RR, alias dns.Name) {
	g.spans.mu.RLock()
	defer g.spans.mu.RUnlock()
	if len(g.zone.wild) == 0 {
		return nil, alias
	}
	name, err := encloser.Child("*")
	if err != nil {
		return nil, alias
	}
	sp, ok := g.zone.wild[ask{name: name, typ: typ}]
	if !ok && !besideAlias(typ) && typ != dns.TypeDS {
		sp, ok = g.zone.wild[ask{name: name, typ: dns.TypeCNAME}]
	}
	if !ok || !sp.expires.After(g.now) {
		return nil, alias
	}
	if sp.expires.Before(g.until) {
		g.until = sp.expires
	}
	if c, ok := sp.records[0].(*wire.CNAME); ok {
		alias = dns.NameOf(c.Target)
	}
	return sp.records, alias
}

// renamed gives copies of records with another owner.
func renamed(records []dns.RR, owner dns.Name) []dns.RR {
	copies := make([]dns.RR, len(records))
	for i, rr := range records {
		copies[i] = wire.Copy(rr)
		copies[i].Header().Name = owner.FQDN()
	}
	return copies
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
	zone, since := dns.Root, time.Time{}
	cut := r.cache.deepest(above(led.ask), now)
	if cut != nil {
		zone, since = cut.zone, cut.since
	}
	p := r.spans.answer(zone, since, led.ask, now)
	if p == nil {
		return nil
	}
	if cut != nil && !cut.lease.IsZero() && cut.lease.Before(p.expires) {
		p.expires = cut.lease
		p.ttl = min(p.ttl, cut.lease.Sub(now).Truncate(time.Second))
	}
	p.answer, p.authority = retime(p.answer, p.ttl), retime(p.authority, p.ttl)
	if !led.dnssec {
		p.answer, p.authority = bare(p.answer, p.typ), bare(p.authority, noType)
	}
	return r.withoutPrivate(led.ask, []*piece{p})[0]
}

// teach keeps what a validated piece has proven, for other names. Of which delegation of
// the zone it comes is part of it: when a zone moves, its old denials go.
func (v *vetting) teach(l lesson) {
	if d, ok := v.r.cache.get(delegationKey(l.zone), v.now).(*delegation); ok {
		l.since = d.since
	}
	end := v.now.Add(min(v.p.ttl, v.ttl))
	if v.until.Before(end) {
		end = v.until
	}
	v.r.spans.learn(l, v.now, end)
}

// expanded is the lesson of a set that was made from the wildcard below its closest
// encloser, which has so many labels.
func expanded(zone dns.Name, set dnssec.Set, verdict dnssec.Verdict, proof *dnssec.Proof) lesson {
	encloser := set.Name
	for encloser.CountLabels() > verdict.Labels {
		encloser, _ = encloser.Parent()
	}
	l := lesson{zone: zone, denials: proof.Sets}
	switch set.Type {
	case dns.TypeNS, dns.TypeDS, typeDNAME, typeNSEC: // they mean something else at another name
		return l
	}
	if name, err := encloser.Child("*"); err == nil {
		l.wild = dnssec.Set{Name: name, Type: set.Type, Records: renamed(set.Records, name)}
		l.wild.Sigs = []*wire.RRSIG{verdict.Sig}
	}
	return l
}
