package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// askTries is how often one server is asked over UDP: one packet may be lost.
const askTries = 2

// Ask puts one question to one server over "udp" or "tcp" and gives what it says, whatever
// that is: nothing is followed, judged by DNSSEC, or kept (but see KeepReferrals). A server that
// does not know EDNS is asked without. The error means that it said nothing, and is a *dns.Error.
func (r *Resolver) Ask(ctx context.Context, server netip.AddrPort, network string, q dns.Question) (dns.Said, error) {
	r.once.Do(r.start)
	p := packet{server: server, proto: network, edns: true, ask: ask{name: q.Name, typ: q.Type, dnssec: q.DNSSEC}}
	failed := &dns.Error{Question: q}
	for range askTries {
		rep, err := r.send(ctx, p)
		if err == nil && p.edns && deniesEDNS(rep.msg) {
			p.edns = false
			rep, err = r.send(ctx, p)
		}
		var se *serverError
		switch {
		case err == nil:
			if r.KeepReferrals {
				r.keepReferral(p, rep)
			}
			return saidBy(rep), nil
		case ctx.Err() != nil:
			return dns.Said{}, fmt.Errorf("ask %s for %s: %w", server, q, ctx.Err())
		case !errors.As(err, &se):
			return dns.Said{}, fmt.Errorf("ask %s for %s: %w", server, q, err)
		}
		failed.Attempts = append(failed.Attempts, dns.Attempt{Server: server, Protocol: network, Said: se.said, Took: rep.took})
		failed.Packets++
		failed.Trouble, failed.Detail = troubleWith(se), fmt.Sprintf("%s over %s: %s", server, network, se.said)
		if network == "tcp" || se.fault != faultSilent || se.heard {
			break
		}
	}
	return dns.Said{}, failed
}

// keepReferral takes a referral as if it had been met on a way of our own: from a server of the
// closest zone that is known, and with what that may speak of.
func (r *Resolver) keepReferral(p packet, rep reply) {
	cut := r.closest(p.ask)
	if rep.msg.Truncated || !p.dnssec || !cut.leadsTo(p.server) {
		return
	}
	if found, err := scrub(p.ask, cut.zone, rep.msg); err == nil && found.referral != nil {
		r.descend(cut, found.referral)
	}
}

// troubleWith says whose trouble it is that one server was not heard.
func troubleWith(se *serverError) dns.Trouble {
	switch se.fault {
	case faultLocal:
		return dns.NoNetwork
	case faultMalformed:
		return dns.Malformed
	}
	return dns.NoReply
}

func saidBy(rep reply) dns.Said {
	m := rep.msg
	return dns.Said{
		Answer: dns.Answer{
			Rcode: dns.Rcode(m.Rcode), Authoritative: m.Authoritative, Extended: extendedError(m), Packets: 1,
			Answer: m.Answer, Authority: m.Ns, Additional: withoutOPT(m.Extra),
		},
		Recursion: m.RecursionAvailable, Truncated: m.Truncated, EDNS: m.IsEdns0() != nil, Size: rep.size, Took: rep.took,
	}
}

// extendedError gives the first extended error that a reply carries (RFC 8914 §2), 0 for none.
func extendedError(m *wire.Msg) uint16 {
	opt := m.IsEdns0()
	if opt == nil {
		return 0
	}
	for _, option := range opt.Option {
		if ede, ok := option.(*wire.EDNS0_EDE); ok {
			return ede.InfoCode
		}
	}
	return 0
}
