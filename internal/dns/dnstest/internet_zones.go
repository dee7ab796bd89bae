package dnstest

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/zone"
)

// special gives an address where all servers behave in one way.
func special(kind, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 30, byte(kind), byte(1 + i)})
}

// labPrefix is where the IPv6 addresses are: those of labAddr6.
var labPrefix = netip.MustParsePrefix("fd00:7f::/32")

// labAddr6 gives the IPv6 address of the server at an IPv4 address: 127.20.0.7 is
// fd00:7f::7f14:7 too.
func labAddr6(a netip.Addr) netip.Addr {
	b, four := labPrefix.Addr().As16(), a.As4()
	copy(b[12:], four[:])
	return netip.AddrFrom16(b)
}

// at gives the server at an address, and at its IPv6 address where there is IPv6.
func (in *Internet) at(name string, addr netip.Addr) nameServer {
	ns := nameServer{name: name, addr: addr}
	if in.ipv6 {
		ns.addr6 = labAddr6(addr)
	}
	return ns
}

// The kinds of special addresses.
const (
	kindLame = iota
	kindDark
	kindFailing
	kindNoEDNS
	kindSlow
	kindLower
	kindTruncating
	kindNoRoute
)

var kinds = map[int]Host{
	kindLame:       {},
	kindDark:       {Behaviour: Silent},
	kindFailing:    {Behaviour: Failing},
	kindNoEDNS:     {Behaviour: NoEDNS},
	kindSlow:       {Delay: 80 * time.Millisecond},
	kindLower:      {Behaviour: LowerCase},
	kindTruncating: {Behaviour: Truncating},
	kindNoRoute:    {Behaviour: NoRoute},
}

// provider gives one of the addresses where zones live.
func (in *Internet) provider() netip.Addr {
	return netip.AddrFrom4([4]byte{127, 20, 0, byte(1 + in.random.IntN(providers))})
}

// apart gives a provider for a zone. A broken zone shares no server with its parent: that
// server would answer for it, though the delegation leads nowhere.
func (in *Internet) apart(s *spec) netip.Addr {
	for {
		addr := in.provider()
		shared := slices.ContainsFunc(append(slices.Clip(s.parent.servers), s.parent.own...), func(ns nameServer) bool { return ns.addr == addr })
		if !shared || s.fault == Healthy {
			return addr
		}
	}
}

// delegate decides on the servers of a zone.
func (in *Internet) delegate(s *spec) {
	if s.parent == in.root {
		return
	}
	name := func(i int) string { return fmt.Sprintf("ns%d.%s", 1+i, s.name.FQDN()) }
	first, second := in.apart(s), in.apart(s)
	for second == first {
		second = in.apart(s)
	}
	servers := []nameServer{in.at(name(0), first), in.at(name(1), second)}
	set := func(i, kind, nth int) { servers[i] = in.at(servers[i].name, special(kind, nth)) }
	both := func(kind int) { set(0, kind, 0); set(1, kind, 1) }
	switch s.fault {
	case LameAll:
		both(kindLame)
	case LameOne:
		set(1, kindLame, 0)
	case DarkAll:
		both(kindDark)
	case DarkOne:
		set(1, kindDark, 0)
	case FailingAll:
		both(kindFailing)
	case FailingOne:
		set(1, kindFailing, 0)
	case NoEDNSServer:
		both(kindNoEDNS)
	case SlowServer:
		both(kindSlow)
	case LowerServer:
		both(kindLower)
	case LowerOne:
		set(1, kindLower, 0)
	case TruncateAll:
		both(kindTruncating)
	case SiblingGlue, Outside, NSIsAlias:
		s.peer = in.home(s)
		if s.peer == nil {
			s.fault = Healthy
			break
		}
		label := strings.ReplaceAll(s.name.String(), ".", "-")
		for i := range servers {
			servers[i].name = fmt.Sprintf("ns%d-%s.%s", i, label, s.peer.name.FQDN())
		}
	case Circle:
		if s.peer == nil {
			s.fault = NoGlue
			break
		}
		for i := range servers {
			servers[i].name = fmt.Sprintf("ns%d.%s", 8+i, s.peer.name.FQDN())
		}
	case NSMismatch:
		s.own = []nameServer{servers[1], in.at(name(2), in.apart(s))}
	case NSMismatchOne:
		s.own = []nameServer{servers[0], in.at(name(2), special(kindLame, 1))}
	}
	divide(servers, s.fault)
	s.servers = servers
}

// divide changes the addresses of servers as a fault of an address family wants it.
func divide(servers []nameServer, fault Fault) {
	for i := range servers {
		ns := &servers[i]
		switch {
		case fault == OnlyIPv6, fault == DividedHosts && i == 1:
			ns.addr = netip.Addr{}
		case fault == OnlyIPv4, fault == DividedHosts:
			ns.addr6 = netip.Addr{}
		case fault == DarkIPv6:
			ns.addr6 = labAddr6(special(kindDark, i))
		case fault == DarkIPv4:
			ns.addr = special(kindDark, i)
		case fault == NoRouteIPv6:
			ns.addr6 = noRoute(i)
		}
	}
}

// noRoute gives an address outside of the lab.
func noRoute(i int) netip.Addr {
	b := netip.MustParseAddr("2001:db8::").As16()
	b[15] = byte(1 + i)
	return netip.AddrFrom16(b)
}

// home finds a healthy zone where the servers of s can have their names: a sibling, or for
// other faults a zone of the second level below another top-level domain.
func (in *Internet) home(s *spec) *spec {
	var found []*spec
	for _, other := range in.specs {
		healthy := other.fault == Healthy && other.parent != nil && other.parent.parent == in.root
		switch {
		case !healthy || other == s || s.name.In(other.name):
		case s.fault == SiblingGlue && other.parent == s.parent, s.fault != SiblingGlue && top(other.name) != top(s.name):
			found = append(found, other)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return found[in.random.IntN(len(found))]
}

func top(n dns.Name) string { labels := n.Labels(); return labels[len(labels)-1] }

// fill writes what the zone and its parent say.
func (in *Internet) fill(s *spec, i int) {
	in.fillDelegation(s)
	own := s.own
	if own == nil {
		own = s.servers
	}
	for _, ns := range own {
		fmt.Fprintf(&s.text, "@ NS %s\n", ns.name)
		if inside(ns.name, s.name) {
			s.text.WriteString(ns.records(ns.name))
		}
	}
	for _, ns := range s.servers {
		if s.own != nil && !slices.Contains(own, ns) {
			s.text.WriteString(ns.records(ns.name))
		}
	}
	switch s.fault {
	case SiblingGlue, Outside:
		for _, ns := range s.servers {
			s.peer.text.WriteString(ns.records(ns.name))
		}
	case NSIsAlias:
		for j, ns := range s.servers {
			target := fmt.Sprintf("real%d-%d", i, j)
			fmt.Fprintf(&s.peer.text, "%s CNAME %s\n%s", ns.name, target, ns.records(target))
		}
	case Circle:
		for _, ns := range s.servers {
			s.peer.text.WriteString(ns.records(ns.name))
		}
	}
	if s.parent == in.root {
		return
	}
	in.fillData(s, i)
}

func inside(name string, z dns.Name) bool { return dns.NameOf(name).In(z) }

// fillDelegation writes the parent's part.
func (in *Internet) fillDelegation(s *spec) {
	p := &s.parent.text
	for _, ns := range s.servers {
		fmt.Fprintf(p, "%s NS %s\n", s.name.FQDN(), ns.name)
		switch {
		case s.fault == NoGlue || s.fault == Circle:
		case inside(ns.name, s.name), s.fault == SiblingGlue:
			if inside(ns.name, s.parent.name) {
				p.WriteString(ns.records(ns.name))
			}
		}
	}
	if !s.signed || s.fault == Island || !s.parent.signed {
		return
	}
	ds := s.keys[0].DS(s.name, labTTL)
	switch s.fault {
	case WrongDS:
		ds.Digest = strings.Repeat("ab", 32)
	case NewDigest:
		ds.DigestType = 99
	case NewAlg:
		key := s.keys[0].DNSKEY(s.name, labTTL)
		key.Algorithm = unknownAlgorithm
		ds = key.ToDS(wire.SHA256)
	}
	fmt.Fprintln(p, ds)
}

// unknownAlgorithm is one that IANA has not assigned.
const unknownAlgorithm = 200

// fillData writes what people would ask for.
func (in *Internet) fillData(s *spec, i int) {
	other := func() *spec { return in.specs[len(topLevels)+in.random.IntN(len(in.specs)-len(topLevels))] }
	next := in.specs[len(topLevels)+(i+1-len(topLevels))%(len(in.specs)-len(topLevels))]
	fmt.Fprintf(&s.text, `@ A 192.0.2.%[1]d
@ MX 10 mail
@ MX 20 mail.%[2]s
@ TXT "v=spf1 mx -all"
_dmarc TXT "v=DMARC1; p=none"
www A 192.0.2.%[1]d
www AAAA 2001:db8::%[1]d
mail A 198.51.100.%[1]d
_25._tcp.mail TLSA 3 1 1 0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF
alias CNAME www
ext CNAME www.%[3]s
far CNAME no.such.%[4]s
*.w A 203.0.113.%[1]d
*.w TXT "any"
here.w AAAA 2001:db8::1
*.alias2 CNAME www
a.b.ent A 192.0.2.1
self CNAME self
loop1 CNAME loop2
loop2 CNAME loop1
xloop CNAME xloop.%[5]s
@ CAA 0 issue "ca.example"
@ HTTPS 1 . alpn=h2
_dns SVCB 1 mail alpn=dot
odd TYPE65280 \# 4 C0000201
odd A 192.0.2.9
`, 1+i%250, other().name.FQDN(), other().name.FQDN(), other().name.FQDN(), in.partner(i).name.FQDN())
	if i%8 == 7 {
		s.text.WriteString("hop A 192.0.2.8\n")
	} else {
		fmt.Fprintf(&s.text, "hop CNAME hop.%s\n", next.name.FQDN())
	}
	if in.random.IntN(3) == 0 {
		fmt.Fprintf(&s.text, "tree DNAME %s\n", other().name.FQDN())
	}
	if in.random.IntN(8) == 0 {
		for j := range 30 {
			fmt.Fprintf(&s.text, "big TXT \"%d %s\"\n", j, strings.Repeat("x", 90))
			fmt.Fprintf(&s.text, "big MX %d mail%d.example\n", j, j)
		}
	}
}

// partner gives the other zone of a pair whose aliases lead to each other.
func (in *Internet) partner(i int) *spec {
	j := (i - len(topLevels)) ^ 1 + len(topLevels)
	if j >= len(in.specs) {
		j = len(in.specs) - 1
	}
	return in.specs[j]
}

// serve makes the zone and puts it on its servers.
func (in *Internet) serve(s *spec) error {
	if s.name == dns.Root {
		for _, ns := range s.servers {
			fmt.Fprintf(&s.text, "@ NS %s\n", ns.name)
		}
		// The root's servers have their addresses in a zone of the root's, as they have no
		// other home.
		for _, ns := range s.servers {
			s.text.WriteString(ns.records(ns.name))
		}
	}
	text := fmt.Sprintf("$TTL %d\n@ SOA ns1 hostmaster 1 7200 900 1209600 %d\n", labTTL, NegativeTTL) + s.text.String()
	z, err := zone.Parse(strings.NewReader(text), s.name, s.name.String())
	if err != nil {
		return err
	}
	if z, err = lasting(z); err != nil {
		return err
	}
	if s.signed && s.fault != NoKeys {
		if z, err = in.sign(s, z); err != nil {
			return err
		}
	}
	for _, ns := range append(slices.Clip(s.servers), s.own...) {
		for _, addr := range ns.addrs() {
			in.put(addr, z)
		}
	}
	if s != in.root {
		in.Zones = append(in.Zones, ZoneInfo{s.name, s.fault, s.signed})
	}
	return nil
}

// TTL is what all records of a type have in an Internet, in seconds. Signatures have that
// of what they sign, and proofs that of a negative answer (RFC 2308 §5).
func TTL(t dns.Type) uint32 {
	switch t {
	case dns.TypeAAAA:
		return 2400
	case dns.TypeMX:
		return 1800
	case dns.TypeTXT:
		return 600
	case dns.TypeCNAME, dns.Type(wire.TypeDNAME):
		return 1200
	}
	return labTTL
}

// NegativeTTL is how long all zones of an Internet let a negative answer live, in seconds.
const NegativeTTL = 900

// lasting gives the zone with the TTLs that its types have.
func lasting(z *zone.Zone) (*zone.Zone, error) {
	var records []dns.RR
	for _, rr := range z.Records() {
		rr = wire.Copy(rr)
		rr.Header().Ttl = TTL(dns.Type(rr.Header().Rrtype))
		records = append(records, rr)
	}
	return zone.New(z.Origin, records)
}

// sign signs a zone, and spoils it as its fault wants.
func (in *Internet) sign(s *spec, z *zone.Zone) (*zone.Zone, error) {
	const day = 24 * time.Hour
	how := zone.Signing{Keys: s.keys, NSEC3: s.nsec3, Inception: in.now.Add(-day), Expiration: in.now.Add(14 * day)}
	switch s.fault {
	case Expired:
		how.Inception, how.Expiration = in.now.Add(-30*day), in.now.Add(-2*day)
	case NotYet:
		how.Inception, how.Expiration = in.now.Add(2*day), in.now.Add(30*day)
	}
	z, err := z.Sign(how)
	if err != nil {
		return nil, err
	}
	switch s.fault {
	case Unsigned, BadSigs, NoProofs, NewAlg:
		return zone.New(s.name, spoil(z.Records(), s.fault))
	}
	return z, nil
}

func spoil(records []dns.RR, fault Fault) (out []dns.RR) {
	var tag uint16
	for _, rr := range records {
		if key, ok := rr.(*wire.DNSKEY); ok && fault == NewAlg {
			copied := wire.Copy(key).(*wire.DNSKEY)
			copied.Algorithm = unknownAlgorithm
			tag = copied.KeyTag()
		}
	}
	for _, rr := range records {
		rr = wire.Copy(rr)
		switch rr := rr.(type) {
		case *wire.RRSIG:
			switch {
			case fault == Unsigned && rr.TypeCovered != wire.TypeDNSKEY:
				continue
			case fault == NoProofs && (rr.TypeCovered == wire.TypeNSEC || rr.TypeCovered == wire.TypeNSEC3):
				continue
			case fault == BadSigs && rr.TypeCovered != wire.TypeDNSKEY:
				raw, err := base64.StdEncoding.DecodeString(rr.Signature)
				if err != nil {
					continue
				}
				raw[len(raw)/2] ^= 0x55
				rr.Signature = base64.StdEncoding.EncodeToString(raw)
			case fault == NewAlg:
				rr.Algorithm, rr.KeyTag = unknownAlgorithm, tag
			}
		case *wire.DNSKEY:
			if fault == NewAlg {
				rr.Algorithm = unknownAlgorithm
			}
		case *wire.NSEC, *wire.NSEC3:
			if fault == NoProofs {
				continue
			}
		}
		out = append(out, rr)
	}
	return out
}

// put adds a zone to the server at an address.
func (in *Internet) put(addr netip.Addr, z *zone.Zone) {
	kind, odd := kindOf(addr)
	h, ok := in.Hosts[addr]
	if !ok {
		if odd {
			h = kinds[kind]
		}
		h.Resolver = &dns.Mux{Zones: map[dns.Name]dns.Resolver{}}
	}
	if kind != kindLame || !odd {
		h.Resolver.(*dns.Mux).Zones[z.Origin] = z
	}
	in.Hosts[addr] = h
}

// kindOf gives the kind of a special address, of either family.
func kindOf(addr netip.Addr) (kind int, odd bool) {
	b := addr.As16()
	if addr.Is6() && !labPrefix.Contains(addr) {
		return kindNoRoute, true
	}
	return int(b[14]), b[13] == 30
}
