package resolver

import (
	"net/netip"
	"strings"

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
