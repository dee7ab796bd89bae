package resolver

import (
	"context"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// What is popular is renewed when a tenth of its time is left, so that nobody has to wait
// for it again.
const (
	renewTenth  = 10
	renewHits   = 3 // look-ups that make a name popular
	minRenewTTL = 10 * time.Second
	maxRenewals = 64 // at once; more are left to the next asker

	// renewHoldoff is how long a renewal that has failed keeps the next one away: longer
	// than one takes, and the failure itself is remembered as RFC 9520 §3.2 says.
	renewHoldoff = 10 * time.Second
)

// nearEnd reports whether the last tenth of a TTL has begun.
func nearEnd(expires time.Time, ttl time.Duration, now time.Time) bool {
	return expires.Sub(now) <= ttl/renewTenth
}

// due sees to it that an entry that is near its end is renewed. It reports whether the
// entry should not serve: a chain's links have to be looked at one by one.
func (r *Resolver) due(e *entry, a ask, now time.Time) bool {
	if c, ok := e.value.(*chain); ok {
		for _, l := range c.links {
			if nearEnd(l.expires, l.ttl, now) {
				return true
			}
		}
		return false
	}
	p := e.value.(*piece)
	if nearEnd(p.expires, p.ttl, now) {
		r.renew(e, a, p.ttl)
	}
	return false
}

// renewLink is due for a piece on the way to an answer.
func (r *Resolver) renewLink(a ask, p *piece, now time.Time) {
	if !nearEnd(p.expires, p.ttl, now) {
		return
	}
	var buf [maxNameOctets]byte
	if e := r.cache.locate(a.name.AppendWire(buf[:0]), a, r.cache.since(now)); e != nil {
		r.renew(e, a, p.ttl)
	}
}

// renew asks for the entry's data in the background if it is popular, and after a while
// once more if nothing has come to take the entry's place.
func (r *Resolver) renew(e *entry, a ask, ttl time.Duration) {
	now := r.cache.since(time.Now())
	at := e.renewAt.Load()
	if ttl < minRenewTTL || e.hits.Load() < renewHits || now < at {
		return
	}
	select {
	case r.renewals <- struct{}{}:
	default:
		return
	}
	if !e.renewAt.CompareAndSwap(at, now+int64(renewHoldoff)) {
		<-r.renewals
		return
	}
	text, _, err := wire.UnpackDomainName(e.name(), 0)
	if err != nil {
		<-r.renewals
		return
	}
	a.name = dns.NameOf(text)
	r.counts.renewals.Add(1)
	go func() {
		defer func() { <-r.renewals }()
		ctx, cancel := context.WithTimeout(context.Background(), r.timeout())
		defer cancel()
		q := a.question()
		// Whoever asks meanwhile, because the name has expired after all, waits for this.
		_, _ = r.question(ctx, q, func(ctx context.Context, end context.CancelFunc) (dns.Answer, error) {
			r.refetch(ctx, a)
			return r.answer(ctx, end, q)
		})
	}()
}

// refetch asks the servers for what the cache still has. It has a ledger of its own, and
// what it brings is kept under the same leases as ever.
func (r *Resolver) refetch(ctx context.Context, a ask) {
	var err error
	defer r.recovered(a.question(), &err)
	led := r.open(a, nil)
	led.renews = true
	if _, err = r.step(ctx, led); err != nil {
		r.logFailure(a.question(), err) // the old data serves until its end
	}
}
