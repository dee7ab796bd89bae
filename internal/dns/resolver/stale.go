package resolver

import (
	"context"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// Serve-stale: what has expired is better than nothing, once it is sure that there is
// nothing better (RFC 8767). What mail would take for a final no is not: that must be true
// now, or mail bounces for the DNS's trouble.
const (
	defaultStaleFor = 24 * time.Hour          // RFC 8767 §5 has 1 to 3 days
	staleAfter      = 1800 * time.Millisecond // RFC 8767 §5: the client response timer
	staleTTL        = 30 * time.Second        // RFC 8767 §4
	staleRecheck    = 30 * time.Second        // RFC 8767 §5: the failure recheck timer
)

// fresh asks the DNS, and falls back on what has expired where the DNS fails or takes its
// time. What is asked for goes on even then, for the next asker.
func (r *Resolver) fresh(ctx context.Context, q dns.Question) (dns.Answer, error) {
	work := func(ctx context.Context, end context.CancelFunc) (dns.Answer, error) { return r.answer(ctx, end, q) }
	old, ok := r.staleAnswer(q)
	if !ok {
		return r.question(ctx, q, work)
	}
	waits := cacheKey{kindStale, r.asks(q, false)}
	if r.cache.get(waits, time.Now()) != nil {
		r.counts.stale.Add(1)
		return old, nil // nobody has to find out again so soon
	}
	type result struct {
		answer dns.Answer
		err    error
	}
	done := make(chan result, 1)
	go func() {
		// The flight ends by itself after the time of one question.
		answer, err := r.question(context.WithoutCancel(ctx), q, work)
		done <- result{answer, err}
	}()
	timer := time.NewTimer(staleAfter)
	defer timer.Stop()
	select {
	case got := <-done:
		// Bogus is no failure to ask but a warning.
		if got.err == nil || dns.TroubleOf(got.err) == dns.Bogus {
			return got.answer, got.err
		}
	case <-timer.C:
	case <-ctx.Done():
		return dns.Answer{}, ctx.Err()
	}
	now := time.Now()
	r.cache.put(waits, now, now.Add(staleRecheck), recordOverhead)
	r.counts.stale.Add(1)
	return old, nil
}

// staleAnswer gives what the cache would answer if nothing had expired lately.
func (r *Resolver) staleAnswer(q dns.Question) (dns.Answer, bool) {
	patience := r.StaleFor
	if patience == 0 {
		patience = defaultStaleFor
	}
	if patience < 0 || q.CheckingDisabled {
		return dns.Answer{}, false
	}
	now := time.Now()
	var answer dns.Answer
	a := r.asks(q, false)
	for range maxRestarts + 1 {
		if r.neverStale(a) {
			return dns.Answer{}, false
		}
		p := r.cache.findUntil(a, now, patience)
		if p == nil {
			return dns.Answer{}, false
		}
		if !p.expires.After(now) {
			if denies(p) {
				return dns.Answer{}, false
			}
			lasting := *p
			lasting.ttl, lasting.expires = min(p.ttl, staleTTL), now.Add(staleTTL)
			lasting.secure = false // the signatures may have expired as well
			p = &lasting
		}
		if addTo(&answer, q.Type, p, now) {
			answer.Extended = wire.ExtendedErrorCodeStaleAnswer
			return answer, true
		}
		a.name = p.target
	}
	return dns.Answer{}, false
}

// denies reports that a name has nothing of the kind asked for, or takes no mail (a null
// MX, RFC 7505).
func denies(p *piece) bool {
	if !p.target.IsZero() {
		return false
	}
	for _, rr := range p.answer {
		if mx, ok := rr.(*wire.MX); !ok || mx.Mx != "." {
			return false
		}
	}
	return true
}

// neverStale reports whether a name lies where only what is true now counts.
func (r *Resolver) neverStale(a ask) bool {
	for _, zone := range r.NoStale {
		if a.name.In(zone) {
			return true
		}
	}
	return r.stubbed(a)
}
