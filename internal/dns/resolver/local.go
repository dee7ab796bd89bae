package resolver

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// Types from 128 to 255 are no data (RFC 6895 §3.1).
const (
	firstMeta  = dns.Type(128)
	lastMeta   = dns.Type(255)
	typeNXNAME = dns.Type(128)
)

// local answers what no server is to be asked: the special names of RFC 6761, and the
// types that are no data.
func local(q dns.Question) (dns.Answer, bool) {
	if q.Name.IsZero() {
		return dns.Answer{Rcode: dns.FormErr}, true
	}
	switch q.Type {
	case 0, dns.Type(wire.TypeOPT), dns.Type(wire.TypeTSIG), dns.Type(wire.TypeTKEY):
		return dns.Answer{Rcode: dns.FormErr}, true
	case typeNXNAME: // RFC 9824 §3.5: it is no type to ask for
		return dns.Answer{Rcode: dns.FormErr}, true
	case dns.TypeANY:
	default:
		if q.Type >= firstMeta && q.Type <= lastMeta { // transfers, MAILA, MAILB and those to come
			return dns.Answer{Rcode: dns.NotImp}, true
		}
	}
	switch top := topLabel(q.Name); top {
	case "localhost": // RFC 6761 §6.3
		return localhost(q), true
	case "invalid", "onion": // RFC 6761 §6.4, RFC 7686 §2
		return dns.Answer{Rcode: dns.NXDomain, Authority: []dns.RR{localSOA(top)}}, true
	}
	return dns.Answer{}, false
}

// ownZone gives the zone of this host's that holds the question, or nil.
func (r *Resolver) ownZone(a ask) (dns.Name, dns.Resolver) {
	if len(r.Own) == 0 {
		return dns.Name{}, nil
	}
	for name, ok := above(a), true; ok; name, ok = name.Parent() {
		if z := r.Own[name]; z != nil {
			return name, z
		}
	}
	return dns.Name{}, nil
}

// own asks a zone of this host's. What the zone has delegated is the world's again: then,
// as for a name in no such zone, there are no pieces.
func (r *Resolver) own(ctx context.Context, led *ledger) ([]*piece, error) {
	zone, z := r.ownZone(led.ask)
	if z == nil {
		return nil, nil
	}
	answer, err := z.Resolve(ctx, led.question())
	if err != nil {
		return nil, err
	}
	m := &wire.Msg{Answer: answer.Answer, Ns: answer.Authority, Extra: answer.Additional}
	m.Rcode, m.Authoritative = int(answer.Rcode), true
	found, err := scrub(led.ask, zone, m)
	var fault *serverError
	switch {
	case errors.As(err, &fault):
		return nil, led.failed(dns.ServerFailed, "the own zone "+zone.String()+": "+fault.said)
	case err != nil:
		return nil, err
	case found.referral != nil:
		return nil, nil
	}
	now := time.Now()
	for _, p := range found.pieces {
		p.expires, p.dnssec, p.unchecked = now.Add(p.ttl), led.dnssec, led.unchecked
	}
	r.traced(Step{Question: led.question(), Depth: led.depth, Zone: zone, Said: outcome(found, nil), Why: "own zone"})
	return found.pieces, nil
}

// theirs gives the pieces of an alias chain up to where it leads to a name of which this
// host itself knows.
func (r *Resolver) theirs(pieces []*piece) []*piece {
	for i, p := range pieces {
		if i > 0 && r.cache.barred(p.ask) {
			return pieces[:i]
		}
	}
	return pieces
}

// topLabel gives the last label of a name as it is written, without splitting the others.
func topLabel(name dns.Name) string {
	text := name.String()
	dot := strings.LastIndexByte(text, '.')
	if dot > 0 && text[dot-1] == '\\' {
		return "" // an escaped dot: no label that means anything here
	}
	return text[dot+1:]
}

func localhost(q dns.Question) dns.Answer {
	h := wire.RR_Header{Name: q.Name.FQDN(), Class: wire.ClassINET, Rrtype: uint16(q.Type), Ttl: localTTL}
	switch q.Type {
	case dns.TypeA:
		return dns.Answer{Answer: []dns.RR{&wire.A{Hdr: h, A: netip.AddrFrom4([4]byte{127, 0, 0, 1}).AsSlice()}}}
	case dns.TypeAAAA:
		return dns.Answer{Answer: []dns.RR{&wire.AAAA{Hdr: h, AAAA: netip.IPv6Loopback().AsSlice()}}}
	}
	return dns.Answer{Authority: []dns.RR{localSOA("localhost")}}
}

const localTTL = 3600

// localSOA lets a negative answer be cached (RFC 2308 §3), as RFC 6303 §3 does for local
// zones.
func localSOA(zone string) dns.RR {
	return &wire.SOA{
		Hdr:     wire.RR_Header{Name: zone + ".", Rrtype: wire.TypeSOA, Class: wire.ClassINET, Ttl: localTTL},
		Ns:      "localhost.",
		Mbox:    "nobody.invalid.",
		Serial:  1,
		Refresh: 3600, Retry: 1200, Expire: 604800, Minttl: localTTL,
	}
}
