package resolver

import (
	"errors"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// A zone that has moved, has other keys, or has gone into the zone above looks bogus to
// who still has its old delegation, DS records or keys. So these are fetched anew, from the
// parent, before a zone is called bogus (RFC 4035 §4.7 bounds how often).
const (
	doubtAfter   = 3 * time.Second // what is younger is what the parent says
	doubtHoldoff = time.Minute     // for a zone: one that stays bogus costs no more than any other
)

// doubt drops what the cache knows of the cut and of the zones from there down to the name,
// if that is why a reply looks bogus, and reports whether it is worth asking again.
func (r *Resolver) doubt(led *ledger, cut *delegation, err error) bool {
	var e *dns.Error
	if !errors.As(err, &e) || e.Trouble != dns.Bogus {
		return false
	}
	now := time.Now()
	if known := r.closest(led.ask); cut.lease.After(now) && (known.zone != cut.zone || known.since.After(cut.since)) {
		return true // a question on the way has done it
	}
	held := cacheKey{kind: kindDoubt, ask: ask{name: cut.zone}}
	zones := append(between(cut.zone, above(led.ask)), cut.zone)
	if r.cache.get(held, now) != nil || !r.anyOld(zones, now) {
		return false
	}
	r.cache.put(held, now, now.Add(doubtHoldoff), 0)
	for _, zone := range zones {
		delete(led.zones, zone)
		r.cache.drop(trustKey(zone))
		r.cache.drop(delegationKey(zone))
		r.spans.drop(zone)
		for _, typ := range []dns.Type{dns.TypeDS, typeDNSKEY, anyType} {
			a := ask{name: zone, typ: typ, dnssec: true}
			r.cache.drop(cacheKey{kindPiece, a})
			r.cache.drop(failureKey(a))
		}
	}
	return true
}

// anyOld reports whether the delegation, the DS records or the keys of one of the zones
// have been known for a while.
func (r *Resolver) anyOld(zones []dns.Name, now time.Time) bool {
	for _, zone := range zones {
		if d, ok := r.cache.get(delegationKey(zone), now).(*delegation); ok && now.Sub(d.since) > doubtAfter {
			return true
		}
		for _, typ := range []dns.Type{dns.TypeDS, typeDNSKEY} {
			p := r.cache.find(ask{name: zone, typ: typ, dnssec: true}, now)
			if p != nil && p.ttl-p.expires.Sub(now) > doubtAfter {
				return true
			}
		}
	}
	return false
}

// lease gives until when what the servers of a cut say may be kept: as long as the
// delegation holds, which validation may have cut short meanwhile.
func (r *Resolver) lease(cut *delegation) time.Time {
	d, ok := r.cache.get(delegationKey(cut.zone), time.Now()).(*delegation)
	if ok && !cut.lease.IsZero() && d.lease.Before(cut.lease) {
		return d.lease
	}
	return cut.lease
}

// shorten ends a delegation with the DS records that vouch for it: with their TTL, and with
// their signatures.
func (r *Resolver) shorten(zone dns.Name, end time.Time) {
	d, ok := r.cache.get(delegationKey(zone), time.Now()).(*delegation)
	if ok && !end.IsZero() && end.Before(d.lease) {
		r.cache.keepDelegation(d.until(end))
	}
}

// signedFor gives the TTL of the DS records that came with a delegation, or the
// delegation's own where there are none.
func (d *delegation) signedFor() time.Duration {
	if d.ds == nil {
		return d.ttl
	}
	for _, rr := range d.ds.answer {
		if rr.Header().Rrtype == wire.TypeDS {
			return min(d.ttl, d.ds.ttl)
		}
	}
	return d.ttl
}
