package resolver

import (
	"context"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
)

// trust is where chains of trust begin, and where they end by order of the operator.
type trust struct {
	anchors  map[dns.Name][]dns.RR // DS records
	negative []dns.Name
}

// makeTrust reads the fields. The anchors of the Internet's root hold for its servers
// alone: not where the hints lead elsewhere, nor where another resolver answers for all.
func (r *Resolver) makeTrust(builtInHints bool) trust {
	t := trust{anchors: map[dns.Name][]dns.RR{}}
	anchors := r.TrustAnchors
	if anchors == nil && builtInHints && r.elsewhere.forwards[dns.Root] == nil {
		anchors = dnssec.RootAnchors()
	}
	if r.NoValidation {
		anchors = nil
	}
	for _, a := range anchors {
		t.anchors[a.Zone] = append(t.anchors[a.Zone], a.Record())
	}
	t.negative = append(t.negative, r.NegativeTrustAnchors...)
	// What stubs and forwards say is private to the operator's network: the tree of the
	// Internet cannot vouch for it.
	for zone := range r.elsewhere.stubs {
		t.negative = append(t.negative, zone)
	}
	for zone := range r.elsewhere.forwards {
		if zone != dns.Root {
			t.negative = append(t.negative, zone)
		}
	}
	return t
}

// validating reports whether there is anything to validate by.
func (r *Resolver) validating() bool { return len(r.trust.anchors) > 0 }

// anchor gives the closest anchor at or above a name.
func (t *trust) anchor(name dns.Name) (dns.Name, bool) {
	for ok := true; ok; name, ok = name.Parent() {
		if len(t.anchors[name]) > 0 {
			return name, true
		}
	}
	return dns.Name{}, false
}

// exempt reports whether a name is not validated: there is no anchor above it, or a
// negative one is closer (RFC 7646 §2).
func (r *Resolver) exempt(name dns.Name) bool {
	anchor, ok := r.trust.anchor(name)
	if !ok {
		return true
	}
	for _, n := range r.trust.negative {
		if name.In(n) && (n == anchor || n.In(anchor)) && !(anchor != n && anchor.In(n)) {
			return true
		}
	}
	return false
}

// anchoredBelow reports whether an anchor stands between an unsigned zone and a name in it.
func (r *Resolver) anchoredBelow(zone, name dns.Name) bool {
	anchor, ok := r.trust.anchor(name)
	return ok && anchor != zone && anchor.In(zone)
}

func trustKey(zone dns.Name) cacheKey { return cacheKey{kind: kindTrust, ask: ask{name: zone}} }

// keepTrust remembers a judgement: for the question at hand in any case.
func (r *Resolver) keepTrust(led *ledger, zone dns.Name, t *zoneTrust) {
	if led.zones == nil {
		led.zones = map[dns.Name]*zoneTrust{}
	}
	led.zones[zone] = t
	if t.until.After(time.Now()) {
		bytes := size(t.ds)
		if t.keys != nil {
			bytes += len(t.keys.Keys) * 600
		}
		r.cache.put(trustKey(zone), t, t.until, bytes)
	}
}

func (r *Resolver) knownTrust(led *ledger, zone dns.Name) *zoneTrust {
	if t := led.zones[zone]; t != nil {
		return t
	}
	t, _ := r.cache.get(trustKey(zone), time.Now()).(*zoneTrust)
	return t
}

// standing says whether a chain of trust leads to a zone, without a look at its keys.
func (r *Resolver) standing(ctx context.Context, led *ledger, zone dns.Name) (*zoneTrust, error) {
	now := time.Now()
	t := &zoneTrust{standing: unsignedZone, until: now.Add(maxTrust)}
	if r.exempt(zone) {
		return t, nil
	}
	if len(r.trust.anchors[zone]) > 0 {
		t.standing, t.ds = signedZone, r.anchorsNow(zone)
		if known := r.knownTrust(led, zone); known != nil && known.keys != nil {
			t = known
		}
		return t, nil
	}
	if known := r.knownTrust(led, zone); known != nil {
		return known, nil
	}
	if d, ok := r.cache.get(delegationKey(zone), now).(*delegation); ok && !d.above.IsZero() && !r.anchoredBelow(d.above, zone) {
		above, err := r.standing(ctx, led, d.above)
		if err != nil {
			return nil, err
		}
		if above.standing == unsignedZone {
			r.keepTrust(led, zone, above)
			return above, nil
		}
	}
	p, err := r.delegationSigner(ctx, led, zone)
	if err != nil {
		return nil, err
	}
	if !p.expires.IsZero() && p.expires.Before(t.until) {
		t.until = p.expires
	}
	t.standing, t.why = standingBy(zone, p), p.extended
	if t.standing == unsignedZone && p.secure && len(p.answer) > 0 {
		t.why = dnssec.Unsupported(p.answer)
	}
	if t.standing == signedZone {
		t.ds = p.answer
		r.shorten(zone, p.expires)
	}
	if p.ttl == 0 {
		t.until = now
	}
	r.keepTrust(led, zone, t)
	return t, nil
}

// standingBy reads the judged answer to the question for a zone's DS records.
func standingBy(zone dns.Name, p *piece) standingOf {
	switch {
	case !p.secure:
		return unsignedZone
	case p.rcode == dns.NXDomain, !p.target.IsZero():
		return noZone
	case len(p.answer) > 0 && dnssec.Supported(zone, p.answer):
		return signedZone
	case len(p.answer) > 0: // RFC 6840 §5.2
		return unsignedZone
	case p.cut == dnssec.InsecureCut:
		return unsignedZone
	}
	return noZone
}

// delegationSigner gives the judged DS piece of a zone: from the cache, from the referral
// that led there, or from the servers of the zone above.
func (r *Resolver) delegationSigner(ctx context.Context, led *ledger, zone dns.Name) (*piece, error) {
	a := ask{name: zone, typ: dns.TypeDS, dnssec: true}
	now := time.Now()
	if p := r.cache.find(a, now); p != nil {
		return p, nil
	}
	sub := r.open(a, led)
	sub.depth = max(1, led.depth) // the depth bounds searches for name servers, not chains of trust
	if sub.circular() {
		return nil, errCircular
	}
	d, ok := r.cache.get(delegationKey(zone), now).(*delegation)
	if ok && d.ds != nil && !d.above.IsZero() {
		p := *d.ds
		err := r.vet(ctx, sub, d.above, &p)
		if err == nil {
			// A referral proves without an SOA that there is no DS. That is no answer to give
			// to others (RFC 2308 §2.2); the judgement is kept by itself.
			if p.ends(d.lease, now); len(p.answer) > 0 {
				r.cache.keep(&p, d.lease, now)
			}
			return &p, nil
		}
		if dns.TroubleOf(err) != dns.Bogus {
			return nil, err
		}
		// The parent's servers may have a better word.
	}
	pieces, err := r.step(ctx, sub)
	if err != nil {
		return nil, err
	}
	return pieces[0], nil
}

// keysOf gives a zone's trusted keys, if a chain of trust leads to it.
func (r *Resolver) keysOf(ctx context.Context, led *ledger, zone dns.Name) (*zoneTrust, error) {
	t, err := r.standing(ctx, led, zone)
	if err != nil || t.standing != signedZone || t.keys != nil {
		return t, err
	}
	sub := r.open(ask{name: zone, typ: typeDNSKEY, dnssec: true}, led)
	sub.depth = max(1, led.depth)
	pieces, err := r.step(ctx, sub)
	if err != nil {
		return nil, err
	}
	if known := r.knownTrust(led, zone); known != nil && (known.keys != nil || known.standing == unsignedZone) {
		return known, nil
	}
	known := *t
	if p := pieces[0]; p.secure { // the keys were in the cache, the judgement no longer
		known.keys = &dnssec.Zone{Name: zone, Keys: dnssec.ParseKeys(p.answer)}
		if p.expires.Before(known.until) {
			known.until = p.expires
		}
	} else {
		known.standing, known.why = unsignedZone, p.extended
	}
	r.keepTrust(led, zone, &known)
	return &known, nil
}
