package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// forwardTries is how often a Forwarder asks over UDP before it gives up.
const forwardTries = 3

// Forwarder asks one recursive resolver and believes it: for people who want to know what
// that one says. It keeps nothing, and AD is not believed, since nobody has said that the
// way to the resolver is safe (RFC 4035 §4.9.3).
type Forwarder struct {
	Server netip.AddrPort
	// Dial opens connections, as Resolver.Dial does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Trace, if set, is told of every time that the resolver is asked.
	Trace func(Step)

	once sync.Once
	wire Resolver // its way to ask one server; no more of it is used
}

// Resolve implements dns.Resolver. Where the resolver does not answer at all, the trouble
// is on our side: NoNetwork.
func (f *Forwarder) Resolve(ctx context.Context, q dns.Question) (dns.Answer, error) {
	f.once.Do(func() {
		f.wire.Dial = f.Dial
		f.wire.once.Do(f.wire.start)
	})
	if answer, ok := local(q); ok {
		return answer, nil
	}
	failed := &dns.Error{Question: q, Trouble: dns.NoNetwork, Detail: "the resolver " + f.Server.String() + " does not answer"}
	p := packet{server: f.Server, proto: "udp", edns: true, recurse: true, ask: ask{name: q.Name, typ: q.Type, dnssec: q.DNSSEC, unchecked: q.CheckingDisabled}}
	for try := range forwardTries {
		rep, err := f.ask(ctx, &p, failed)
		switch {
		case ctx.Err() != nil:
			return dns.Answer{}, fmt.Errorf("resolve %s: %w", q, ctx.Err())
		case err != nil:
			continue
		case rep.msg.Rcode == int(dns.NoError) || rep.msg.Rcode == int(dns.NXDomain):
			return dns.Answer{Rcode: dns.Rcode(rep.msg.Rcode), Answer: rep.msg.Answer, Authority: rep.msg.Ns, Additional: withoutOPT(rep.msg.Extra), Extended: extendedError(rep.msg), Packets: try + 1}, nil
		}
		failed.Extended = extendedError(rep.msg)
		failed.Trouble, failed.Detail = dns.ServerFailed, "the resolver "+f.Server.String()+" says "+said(rep.msg)
		return dns.Answer{}, failed
	}
	return dns.Answer{}, failed
}

// withoutOPT leaves out what belongs to one hop only (RFC 6891 §6.1.1).
func withoutOPT(section []dns.RR) []dns.RR {
	return slices.DeleteFunc(slices.Clone(section), func(rr dns.RR) bool { return rr.Header().Rrtype == wire.TypeOPT })
}

// ask asks once, over TCP where the answer over UDP was cut, and without EDNS from then on
// where the resolver does not know it.
func (f *Forwarder) ask(ctx context.Context, p *packet, failed *dns.Error) (reply, error) {
	began := time.Now()
	rep, err := f.wire.send(ctx, *p)
	if err == nil && rep.msg.Truncated {
		over := *p
		over.proto = "tcp"
		rep, err = f.wire.send(ctx, over)
	}
	if err == nil && p.edns && deniesEDNS(rep.msg) {
		p.edns = false
		rep, err = f.wire.send(ctx, *p)
	}
	attempt := dns.Attempt{Server: f.Server, Protocol: p.proto, Took: time.Since(began)}
	var se *serverError
	switch {
	case errors.As(err, &se):
		attempt.Said = se.said
	case err == nil:
		attempt.Said = said(rep.msg)
	}
	failed.Attempts = append(failed.Attempts, attempt)
	if f.Trace != nil {
		f.Trace(Step{
			Question: failed.Question, Zone: dns.Root, Server: f.Server,
			Protocol: attempt.Protocol, Said: attempt.Said, Took: attempt.Took, Why: "the resolver that was named",
		})
	}
	return rep, err
}
