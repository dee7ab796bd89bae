package server

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// The table of the rate limit: sets of a few buckets each, so that its memory never grows.
// A flood of forged networks only pushes others out of their set, which gives them a full
// bucket again.
const (
	limiterSets  = 4096
	limiterWays  = 4
	limiterLocks = 64 // each guards every 64th set, so that readers hardly ever meet
)

// verdict of the rate limit about one packet.
type verdict int

const (
	pass verdict = iota
	slip         // answer with TC and nothing else
	drop
)

// limiter is a token bucket for each network of clients.
type limiter struct {
	rate float64 // tokens a second, and the depth of a bucket
	seed maphash.Seed

	sets  [][limiterWays]bucket
	locks [limiterLocks]struct {
		sync.Mutex
		_ [56]byte // a cache line each
	}
}

type bucket struct {
	network netip.Prefix
	tokens  float64
	last    time.Time
	over    uint // packets above the rate
}

// newLimiter gives nil, which limits nothing, for a negative rate.
func newLimiter(rate int) *limiter {
	if rate < 0 {
		return nil
	}
	return &limiter{rate: float64(rate), seed: maphash.MakeSeed(), sets: make([][limiterWays]bucket, limiterSets)}
}

func (l *limiter) check(client netip.Addr, now time.Time) verdict {
	if l == nil {
		return pass
	}
	network := networkOf(client, 24)
	n := maphash.Comparable(l.seed, network) % limiterSets
	lock := &l.locks[n%limiterLocks]
	lock.Lock()
	defer lock.Unlock()
	b := l.find(&l.sets[n], network, now)
	b.tokens = min(l.rate, b.tokens+l.rate*now.Sub(b.last).Seconds())
	b.last = now
	if b.tokens >= 1 {
		b.tokens--
		return pass
	}
	b.over++
	if b.over%2 == 1 {
		return slip
	}
	return drop
}

// find gives the bucket of a network; where there is none it takes the one of its set that
// has not been used for longest.
func (l *limiter) find(set *[limiterWays]bucket, network netip.Prefix, now time.Time) *bucket {
	oldest := &set[0]
	for i := range set {
		if set[i].network == network {
			return &set[i]
		}
		if set[i].last.Before(oldest.last) {
			oldest = &set[i]
		}
	}
	*oldest = bucket{network: network, tokens: l.rate, last: now}
	return oldest
}

// networkOf is what counts as one client: bits4 of an IPv4 address, a /64 of IPv6.
func networkOf(a netip.Addr, bits4 int) netip.Prefix {
	bits := 64
	if a = a.Unmap(); a.Is4() {
		bits = bits4
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address at all, from a socket of another kind
	}
	return p
}
