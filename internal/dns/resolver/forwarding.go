package resolver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"mxward/internal/dns"
)

// Forward sends the questions for a zone, Root for all of them, to recursive resolvers,
// over UDP and TCP, or over TLS (RFC 7858).
type Forward struct {
	Zone    dns.Name
	Servers []netip.AddrPort

	// TLS asks over TLS alone: there is no falling back (RFC 7858 §4.2). The certificate must be for ServerName, or where that is
	// zero for the server's address. RootCAs are who may have signed it; nil: the host's.
	TLS        bool
	ServerName dns.Name
	RootCAs    *x509.CertPool
}

// forwardRounds is how often each resolver of a Forward is asked for one name.
const forwardRounds = 2

// forwarding is a Forward at work.
type forwarding struct {
	Forward
	secure map[netip.AddrPort]*tlsServer // nil without TLS
}

func newForwarding(f Forward) *forwarding {
	w := &forwarding{Forward: f}
	if !f.TLS {
		return w
	}
	w.secure = map[netip.AddrPort]*tlsServer{}
	for _, at := range f.Servers {
		name := at.Addr().String() // looked for among the certificate's addresses
		if !f.ServerName.IsZero() {
			name = f.ServerName.String()
		}
		w.secure[at] = &tlsServer{config: &tls.Config{ServerName: name, RootCAs: f.RootCAs, MinVersion: tls.VersionTLS12}} // RFC 8996
	}
	return w
}

// forward asks the resolvers of f, the fastest first, and believes what they say about
// names in the zone.
func (r *Resolver) forward(ctx context.Context, led *ledger, f *forwarding) ([]*piece, error) {
	candidates := make([]candidate, len(f.Servers))
	for i, at := range f.Servers {
		candidates[i] = candidate{server: at}
	}
	r.servers.rank(candidates, f.Zone)
	last := &serverError{fault: faultLocal, said: "none is named"}
	var who netip.AddrPort // whose error that is
	var bogus error        // what the first said whose answer was
	for range forwardRounds {
		for _, c := range candidates {
			if err := r.stepAside(ctx, led, c); err != nil {
				return nil, err
			}
			pieces, err := r.askForward(ctx, led, f, c)
			var fault *serverError
			switch {
			case err == nil:
				pieces = r.withoutPrivate(led.ask, pieces)
				for _, p := range pieces {
					r.cache.keep(p, time.Time{}, time.Now())
				}
				return pieces, nil
			case dns.TroubleOf(err) == dns.Bogus && bogus == nil:
				bogus = err
				continue
			case dns.TroubleOf(err) == dns.Bogus:
				continue
			case ctx.Err() == context.Canceled:
				return nil, ctx.Err()
			case !errors.As(err, &fault):
				return nil, err // the end of the ledger
			case last.fault == faultSilent || last.fault == faultLocal:
				last, who = fault, c.server
			}
			if ctx.Err() != nil {
				break
			}
		}
		if last.fault != faultSilent || ctx.Err() != nil || bogus != nil {
			break // only silence may be a lost packet
		}
	}
	if bogus != nil {
		return nil, bogus
	}
	return nil, f.failure(led, who, last)
}

// askForward asks one resolver and judges what it says. One that validates may have judged
// otherwise, by a clock or an anchor of its own, and one that does not may have a bad
// answer in its cache: where the answer is of no use, it is asked once more with CD=1, for
// all that it can get (RFC 6840 §5.9, Appendix B).
func (r *Resolver) askForward(ctx context.Context, led *ledger, f *forwarding, c candidate) ([]*piece, error) {
	found, err := r.askResolver(ctx, led, f, c, led.unchecked)
	var pieces []*piece
	if err == nil {
		pieces, err = r.vetted(ctx, led, f.Zone, found.pieces)
	}
	var fault *serverError
	refused := errors.As(err, &fault) && fault.fault == faultFailed
	if led.unchecked || !r.validating() || r.exempt(above(led.ask)) || !refused && dns.TroubleOf(err) != dns.Bogus {
		return pieces, err
	}
	again, failed := r.askResolver(ctx, led, f, c, true)
	if failed != nil {
		return nil, err
	}
	return r.vetted(ctx, led, f.Zone, again.pieces)
}

// failure says what was wrong. A resolver that was chosen for this host and is not there
// is this host's trouble.
func (f *forwarding) failure(led *ledger, who netip.AddrPort, last *serverError) error {
	trouble := dns.NoNetwork
	switch last.fault {
	case faultFailed, faultLame:
		trouble = dns.ServerFailed
	case faultMalformed:
		trouble = dns.Malformed
	}
	return led.failed(trouble, fmt.Sprintf("forward zone %s: the resolver %s: %s", f.Zone, who, last.said))
}

// askResolver asks one resolver, in as many ways as it needs; unchecked is CD=1.
func (r *Resolver) askResolver(ctx context.Context, led *ledger, f *forwarding, c candidate, unchecked bool) (finding, error) {
	p := packet{server: c.server, proto: "udp", ask: r.upstream(led.ask), edns: r.servers.speaksEDNS(c.server), recurse: true}
	p.unchecked = unchecked
	spoke := p.edns
	if f.TLS {
		p.proto, p.tls = "tcp", f.secure[c.server]
	}
	for {
		rep, err := r.sendCharged(ctx, led, p)
		var found finding
		switch {
		case err != nil:
		case p.edns && deniesEDNS(rep.msg):
			err = &serverError{fault: faultFailed, said: said(rep.msg) + ", without EDNS then", heard: true}
		case rep.msg.Truncated:
			err = &serverError{fault: faultFailed, said: "truncated, over TCP then", heard: true}
		default:
			found, err = recursed(r.upstream(led.ask), f.Zone, rep)
		}
		r.traced(Step{
			Question: led.question(), Depth: led.depth, Zone: f.Zone, Server: c.server,
			Protocol: p.protocol(), Said: outcome(found, err), Took: rep.took, Why: "forwarded",
		})
		switch {
		case rep.msg != nil && p.edns && deniesEDNS(rep.msg):
			p.edns = false // RFC 6891 §7
		case rep.msg != nil && rep.msg.Truncated:
			p.proto = "tcp" // RFC 7766 §5
		default:
			if err == nil && spoke && !p.edns {
				r.servers.refusesEDNS(c.server) // and does better without
			}
			r.judge(led, f.Zone, c, p, rep, err)
			return found, err
		}
	}
}

// recursed reads the reply of a resolver, whose word counts for the whole zone though it
// is nobody's authority.
func recursed(a ask, zone dns.Name, rep reply) (finding, error) {
	m := *rep.msg
	m.Authoritative = true
	found, err := scrub(a, zone, &m)
	if err == nil && found.referral != nil {
		return finding{}, &serverError{fault: faultLame, said: "it does not recurse: it refers to " + found.referral.zone.String(), heard: true}
	}
	return found, err
}

// protocol names the way for people.
func (p packet) protocol() string {
	if p.tls != nil {
		return "tls"
	}
	return p.proto
}
