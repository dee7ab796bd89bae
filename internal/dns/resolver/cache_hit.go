package resolver

import (
	"time"

	"mxward/internal/dns"
)

// hotAnswer is an answer with its records unpacked, as it is for one second: who asks for
// a name all the time gets it without any work.
type hotAnswer struct {
	answer dns.Answer
	sum    time.Duration // of its TTLs
}

// fromCache answers q if the whole alias chain is in the cache.
func (r *Resolver) fromCache(q dns.Question) (dns.Answer, bool) {
	now := time.Now()
	var buf [maxNameOctets]byte
	a := r.asks(q, false)
	e, there := r.cache.ready(q.Name.AppendWire(buf[:0]), a, now)
	if !there {
		return dns.Answer{}, false
	}
	if e == nil || r.due(e, a, now) {
		return r.linked(q, now)
	}
	r.counts.hits.Add(1)
	sum := e.sum(now)
	hot := e.hot.Load()
	if hot == nil || hot.sum != sum {
		answer := e.head(q.Type, now)
		answer.Answer, answer.Authority = e.records(func(i int) uint32 { return e.ttl(i, now) })
		first := hot == nil
		hot = &hotAnswer{answer, sum}
		if e.hits.Load() > 1 && e.hot.Swap(hot) == nil && first {
			r.cache.grow(e, size(answer.Answer)+size(answer.Authority))
		}
	}
	if r.Trace != nil {
		r.traced(Step{Question: q, Said: summary(&piece{rcode: hot.answer.Rcode, answer: hot.answer.Answer}), Why: "cache"})
	}
	return hot.answer, true
}

// linked answers from the pieces one by one, and keeps a chain of several as a whole.
func (r *Resolver) linked(q dns.Question, now time.Time) (dns.Answer, bool) {
	var answer dns.Answer
	var links []link
	a := r.asks(q, false)
	for range maxRestarts + 1 {
		p := r.cache.find(a, now)
		if p == nil {
			return dns.Answer{}, false
		}
		r.renewLink(a, p, now)
		end := addTo(&answer, q.Type, p, now)
		links = append(links, link{len(p.answer), p.ttl, p.expires})
		if end {
			r.counts.hits.Add(1)
			r.traced(Step{Question: q, Said: summary(p), Why: "cache"})
			if len(links) > 1 {
				r.cache.keepChain(r.asks(q, false), answer, links, now)
			}
			return answer, true
		}
		a.name = p.target
	}
	return dns.Answer{}, false
}

// keepChain stores an answer with aliases for as long as each link holds.
func (c *cache) keepChain(q ask, answer dns.Answer, links []link, now time.Time) {
	expires := links[0].expires
	for _, l := range links {
		if l.expires.Before(expires) {
			expires = l.expires
		}
		if nearEnd(l.expires, l.ttl, now) {
			return // it is about to be renewed
		}
	}
	body, ok := packBody(q.name, answer.Answer, answer.Authority)
	if !ok {
		return
	}
	e := &entry{answers: uint16(len(answer.Answer)), authority: uint16(len(answer.Authority))}
	answer.Answer, answer.Authority = nil, nil
	e.value = &chain{answer, links}
	const chainBytes, linkBytes = 128, 48
	c.store(cacheKey{kindChain, q}, e, body, expires, chainBytes+linkBytes*len(links))
}
