package resolver

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"mxward/internal/dns"
)

const (
	// pulseServers is how many root servers are asked whether the network lives.
	pulseServers = 2
	// recently is how long a sign of life speaks against a network that answers by itself.
	recently = 10 * time.Second
)

// feelPulse starts to look for a sign of life once a server was silent and nothing else
// was heard from anyone since the question began: a network that drops everything looks
// like a dead server from here, and the server must not be blamed for it. The root's own
// servers need no second opinion.
func (r *Resolver) feelPulse(ctx context.Context, led *ledger, zone dns.Name) {
	if led.probe != nil || zone == dns.Root || r.servers.signsOfLife() != led.signs {
		return
	}
	led.probe = make(chan struct{})
	hints := make([]netip.AddrPort, 0, pulseServers)
	for _, i := range rand.Perm(len(r.Hints)) {
		a := r.Hints[i].Addr.Unmap()
		if len(hints) < pulseServers && r.usable(a, true) && r.servers.routable(familyOf(a)) && led.charge() == nil {
			hints = append(hints, netip.AddrPortFrom(a, dnsPort))
		}
	}
	led.probes = len(hints)
	go func() {
		defer close(led.probe)
		var all sync.WaitGroup
		for _, server := range hints {
			all.Go(func() { r.probe(ctx, server) })
		}
		all.Wait()
	}()
}

// probe asks a root server for the root's SOA record, which no other server and no proxy
// can give with authority.
func (r *Resolver) probe(ctx context.Context, server netip.AddrPort) {
	p := packet{server: server, proto: "udp", ask: ask{name: dns.Root, typ: dns.TypeSOA}}
	rep, err := r.send(ctx, p)
	if err != nil {
		return
	}
	r.servers.answered(server, rep.took)
	if found, err := scrub(p.ask, dns.Root, rep.msg); err == nil && len(found.pieces) > 0 && len(found.pieces[0].answer) > 0 {
		r.servers.lives()
	}
}

// alive reports whether the DNS was heard since the question began. What could not be
// looked at, because the question had no packet left for it, is taken for alive; where it
// had no time left, what was heard a moment ago counts.
func (r *Resolver) alive(ctx context.Context, led *ledger) bool {
	if led.probe != nil {
		select {
		case <-led.probe:
		case <-ctx.Done():
		}
		if ctx.Err() != nil && r.servers.livedWithin(recently) {
			return true // the look was cut short
		}
		if led.probes == 0 {
			return true
		}
	}
	return r.servers.signsOfLife() != led.signs
}
