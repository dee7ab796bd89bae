package resolver

import (
	"hash/maphash"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

const (
	defaultCacheEntries = 1_000_000
	defaultCacheBytes   = 64 << 20
	recordOverhead      = 150 // of a record that is kept as a structure, about
)

// Failures are remembered as RFC 9520 §3.2 wants it: 5 s, doubling to 5 min.
const (
	failureTTL    = 5 * time.Second
	maxFailureTTL = 5 * time.Minute
)

type cacheKind uint8

const (
	kindPiece      cacheKind = iota
	kindDelegation           // of the name
	kindFailure
	kindChain // the whole answer to a question whose name is an alias
	kindTrust // what is known of the keys of the zone
	kindDoubt // when the zone's delegation was last fetched anew because it looked bogus
	kindStale // a stale answer served for the question, since no new one could be had
)

type cacheKey struct {
	kind cacheKind
	ask
}

// anyType stands for all types of a name that does not exist (RFC 2308 §5).
const anyType = dns.Type(0)

// failure is an answer that could not be had, and for how long nobody needs to ask again.
type failure struct {
	err     *dns.Error
	backoff time.Duration
	until   time.Time
}

// get gives a value that has not expired: a *piece, *delegation, *failure or *chain. A TTL
// of 0 never gets in here.
func (c *cache) get(key cacheKey, now time.Time) any {
	e := c.entry(key, now)
	if e == nil {
		return nil
	}
	if skeleton, ok := e.value.(*piece); ok {
		return e.piece(skeleton, key.ask)
	}
	return e.value
}

// entry finds what is stored under key and has not expired.
func (c *cache) entry(key cacheKey, now time.Time) *entry {
	var buf [maxNameOctets]byte
	e := c.lookup(key.name.AppendWire(buf[:0]), key)
	if e == nil || e.expires <= c.since(now) {
		return nil
	}
	return e
}

// put stores a value that is shared and never changed, of about so many bytes.
func (c *cache) put(key cacheKey, value any, expires time.Time, bytes int) {
	c.store(key, &entry{value: value}, nil, expires, bytes)
}

// find gives what is known about exactly this name and type: the records, an alias, or
// that there are none.
func (c *cache) find(a ask, now time.Time) *piece { return c.findUntil(a, now, 0) }

// findUntil is find with patience for what expired no longer than extra ago.
func (c *cache) findUntil(a ask, now time.Time, extra time.Duration) *piece {
	var buf [maxNameOctets]byte
	e := c.locate(a.name.AppendWire(buf[:0]), a, c.since(now)-int64(extra))
	if e == nil {
		return nil
	}
	skeleton := e.value.(*piece)
	key := a
	key.typ = e.key.typ
	return e.piece(skeleton, key)
}

// locate gives the entry of the piece that answers for a name and type, or of the alias
// that stands there. A name that does not exist has no types (RFC 2308 §5).
func (c *cache) locate(name []byte, a ask, now int64) *entry {
	key, hashed := cacheKey{kindPiece, a}, maphash.Bytes(c.seed, name)
	if e := c.lookupHashed(name, hashed, key); e != nil && e.expires > now {
		return e
	}
	if !besideAlias(a.typ) {
		key.typ = dns.TypeCNAME
		if e := c.lookupHashed(name, hashed, key); e != nil && e.expires > now && !e.value.(*piece).target.IsZero() {
			return e
		}
	}
	key.typ = anyType
	if e := c.lookupHashed(name, hashed, key); e != nil && e.expires > now {
		return e
	}
	return nil
}

// besideAlias reports whether an alias is no answer for a type: it may have records of its
// own there (RFC 4035 §2.5).
func besideAlias(t dns.Type) bool {
	return t == dns.TypeCNAME || t == dns.TypeANY || t == typeNSEC || t == typeRRSIG
}

// keep stores a piece for its TTL, but not beyond the lease of the zone that it came from:
// when the parent takes the zone back, its data goes with it. A TTL of 0 serves only the
// question at hand (RFC 1035 §3.2.1).
func (c *cache) keep(p *piece, lease, now time.Time) {
	p.ends(lease, now)
	if !p.expires.After(now) || p.rcode == rcodeYXDomain || c.barred != nil && c.barred(p.ask) {
		return
	}
	body, ok := packBody(p.name, p.answer, p.authority)
	if !ok {
		return
	}
	key := cacheKey{kindPiece, p.ask}
	if p.rcode == dns.NXDomain {
		key.typ = anyType
	}
	// The records are in the body now, and the name in the key.
	skeleton := *p
	skeleton.name, skeleton.answer, skeleton.authority = dns.Name{}, nil, nil
	e := &entry{value: &skeleton, answers: uint16(len(p.answer)), authority: uint16(len(p.authority))}
	c.store(key, e, body, p.expires, pieceBytes+len(skeleton.target.String()))
}

// ends sets when a piece expires.
func (p *piece) ends(lease, now time.Time) {
	p.expires = now.Add(p.ttl)
	if !lease.IsZero() && lease.Before(p.expires) {
		p.expires = lease
	}
}

// piece gives back what keep took.
func (e *entry) piece(skeleton *piece, key ask) *piece {
	p := *skeleton
	p.name = key.name
	p.answer, p.authority = e.records(func(int) uint32 { return uint32(p.ttl / time.Second) })
	return &p
}

// size estimates the memory of records.
func size(records []dns.RR) int {
	n := 0
	for _, rr := range records {
		n += wire.Len(rr) + recordOverhead
	}
	return n
}

// deepest gives the delegation that is known closest above the name, or nil for none but
// the root's.
func (c *cache) deepest(name dns.Name, now time.Time) *delegation {
	for ok := true; ok && name != dns.Root; name, ok = name.Parent() {
		if d, ok := c.get(delegationKey(name), now).(*delegation); ok {
			return d
		}
	}
	return nil
}

func delegationKey(zone dns.Name) cacheKey {
	return cacheKey{kind: kindDelegation, ask: ask{name: zone}}
}

// keepDelegation stores a delegation until its lease ends.
func (c *cache) keepDelegation(d *delegation) {
	bytes := 0
	for _, host := range d.names {
		bytes += len(host.String()) + recordOverhead + len(d.glue[host])*24
	}
	c.put(delegationKey(d.zone), d, d.lease, bytes)
}

func failureKey(a ask) cacheKey {
	return cacheKey{kindFailure, ask{name: a.name, typ: a.typ, unchecked: a.unchecked}}
}

// failed gives the error that the question ended with a moment ago, or nil.
func (c *cache) failed(a ask, now time.Time) *dns.Error {
	f, ok := c.get(failureKey(a), now).(*failure)
	if !ok || !f.until.After(now) {
		return nil
	}
	return f.err
}

// keepFailure remembers a failure, for twice as long as the one before if that was not
// long ago.
func (c *cache) keepFailure(a ask, err *dns.Error, now time.Time) {
	f := &failure{err: err, backoff: failureTTL}
	if last, ok := c.get(failureKey(a), now).(*failure); ok {
		f.backoff = min(2*last.backoff, maxFailureTTL)
	}
	f.until = now.Add(f.backoff)
	// It stays known beyond its end, for the doubling.
	c.put(failureKey(a), f, f.until.Add(f.backoff), recordOverhead*(1+len(err.Attempts)))
}
