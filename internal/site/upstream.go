package site

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"net/netip"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
)

// The ports of name servers that a plan gives without one.
const (
	dnsPort    = 53
	dnsTLSPort = 853 // RFC 7858 §3.1
)

var (
	nameServer = text("the address of a name server, with or without a port", parseNameServer)
	record     = text(`a record without its name, like "A 192.0.2.1"`, parseRecord)
)

var trustAnchor = text("a DS or DNSKEY record with the zone's name", parseTrustAnchor)

func parseTrustAnchor(s string) (string, *Error) {
	anchor, err := dnssec.ParseAnchor(s)
	if err != nil || !wholeDigest(anchor) {
		return s, &Error{Kind: BadAnchor, Hint: "write it as in a zone file, on one line: example.com. DS 12345 13 2 0123…"}
	}
	return s, nil
}

// wholeDigest reports whether an anchor's digest can be one: SHA-256 or SHA-384, in hex.
func wholeDigest(a dnssec.Anchor) bool {
	fields := strings.Fields(a.Record().String())
	digest, err := hex.DecodeString(fields[len(fields)-1])
	return err == nil && (len(digest) == sha256.Size || len(digest) == sha512.Size384)
}

// overTLS is a form of true, false, and the name in a certificate.
var overTLS = form[TLS]{"true, false, or the name in the certificate", func(r reader, n *node) (TLS, bool) {
	switch n.kind {
	case unstable.Bool:
		return TLS{On: n.text == "true"}, true
	case unstable.String:
		name, ok := hostName.read(r, n)
		return TLS{On: true, Name: name}, ok
	}
	r.wrongType(n, "true, false, or a name in quotes", "")
	return TLS{}, false
}}

// parseNameServer gives port 0 where none is written.
func parseNameServer(s string) (netip.AddrPort, *Error) {
	at, err := netip.ParseAddrPort(s)
	if bare, e := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); e == nil {
		at, err = netip.AddrPortFrom(bare, 0), nil
	} else if err == nil && at.Port() == 0 {
		return at, &Error{Kind: BadServer, Hint: "a port is a number from 1 to 65535"}
	}
	if err != nil {
		return at, &Error{Kind: BadServer, Hint: "write it like 192.0.2.53, 127.0.0.1:5353 or [2001:db8::53]:53"}
	}
	if _, e := parseAddress(at.Addr().String()); e != nil {
		return at, &Error{Kind: BadServer, Hint: e.Hint}
	}
	return at, nil
}

// parseRecord reads a record of some name; which one makes no difference.
func parseRecord(s string) (string, *Error) {
	rr, err := dns.ParseRecord(dns.MustName("local.invalid"), s)
	if err != nil {
		return s, &Error{Kind: BadRecord, Hint: "write it as in a zone file (RFC 1035 section 5), without the name"}
	}
	if typ := dns.Type(rr.Header().Rrtype); typ == dns.TypeSOA || typ == dns.TypeNS || typ == dns.TypeDS {
		return s, &Error{Kind: BadRecord, Hint: typ.String() + " makes a zone; serve one with [[dns.zone]], or ask for it with [[resolver.stub]]"}
	}
	return s, nil
}

// setPorts gives the name servers the ports that they lack.
func (p *Plan) setPorts() {
	set := func(servers []netip.AddrPort, port uint16) {
		for i, s := range servers {
			if s.Port() == 0 {
				servers[i] = netip.AddrPortFrom(s.Addr(), port)
			}
		}
	}
	for _, s := range p.Resolver.Stubs {
		set(s.Servers, dnsPort)
	}
	for _, f := range p.Resolver.Forwards {
		if f.TLS.On {
			set(f.Servers, dnsTLSPort)
		}
		set(f.Servers, dnsPort)
	}
}

// checkResolverLoop: a question that comes back to the resolver never ends.
func checkResolverLoop(d *draft, report reporter) {
	ours := newSockets()
	for n, s := range d.Resolver.Listen {
		ours.add(listener{atKey("resolver", "listen").number(n), s})
	}
	check := func(at place, servers []netip.AddrPort) {
		for n, s := range servers {
			if s.Port() == 0 {
				s = netip.AddrPortFrom(s.Addr(), dnsPort)
			}
			if l, ok := ours.at(s); ok {
				report(at.number(n), "another name server", quote(s.String()), l.at.option()+" in "+d.lineText(l.at)+" says that this is the resolver itself")
			}
		}
	}
	for i, s := range d.Resolver.Stubs {
		check(atStub(i, "servers"), s.Servers)
	}
	for i, f := range d.Resolver.Forwards {
		if !f.TLS.On {
			check(atForward(i, "servers"), f.Servers)
		}
	}
}

func checkUpstreamTwice(d *draft, report reporter) {
	stubs := len(d.Resolver.Stubs)
	twice(d, report, "zone of the resolver", stubs+len(d.Resolver.Forwards), func(i int) (dns.Name, place) {
		if i < stubs {
			return d.Resolver.Stubs[i].Name, atStub(i, "name")
		}
		i -= stubs
		return d.Resolver.Forwards[i].Name, atForward(i, "name")
	})
}

func checkLocalTwice(d *draft, report reporter) {
	twice(d, report, "[[resolver.local]]", len(d.Resolver.Local), func(i int) (dns.Name, place) {
		return d.Resolver.Local[i].Name, atLocal(i, "name")
	})
}

func checkLocalEmpty(d *draft, report reporter) {
	for i, l := range d.Resolver.Local {
		if !d.given(atLocal(i, "addresses")) && !d.given(atLocal(i, "records")) {
			report(atLocal(i, "addresses"), "addresses or records of "+quoteName(l.Name), "nothing", "")
		}
	}
}

// checkLocalAlias: a CNAME has no other data beside it (RFC 1034 §3.6.2).
func checkLocalAlias(d *draft, report reporter) {
	for i, l := range d.Resolver.Local {
		for n, text := range l.Records {
			rr, err := dns.ParseRecord(dns.MustName("local.invalid"), text)
			if err != nil || dns.Type(rr.Header().Rrtype) != dns.TypeCNAME || len(l.Records)+len(l.Addresses) == 1 {
				continue
			}
			report(atLocal(i, "records").number(n), "nothing beside a CNAME", quote(text)+" and more", "give the records to the name that it leads to")
		}
	}
}
