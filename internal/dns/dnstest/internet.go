package dnstest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/zone"
)

// Internet is a lab internet: a root, a dozen top-level domains and below them zones of two
// levels, signed and unsigned, healthy and broken in every way that a resolver has to know.
// The same seed and number make the same internet, but for the times in signatures.
//
// Its servers have addresses in 127.0.0.0/8, and with IPv6 in labPrefix too, one name
// server an address; Fill puts them into a Net, Listen on real sockets.
type Internet struct {
	Roots  []Root
	Anchor *wire.DS // the trust anchor: it vouches for the root's key
	Hosts  map[netip.Addr]Host
	Zones  []ZoneInfo // all but the root

	ipv6   bool
	random *rand.Rand
	now    time.Time
	keys   []*zone.Key
	specs  []*spec
	root   *spec
}

// Root is the name and address of one root server. Addr6 is the zero Addr without IPv6.
type Root struct {
	Name  dns.Name
	Addr  netip.Addr
	Addr6 netip.Addr
}

// ZoneInfo is what there is to know of a zone of an Internet.
type ZoneInfo struct {
	Name   dns.Name
	Fault  Fault
	Signed bool
}

// Fault is what is wrong, or only strange, about a zone.
type Fault string

// The faults of servers and delegations.
const (
	Healthy       Fault = ""
	LameAll       Fault = "no server of the delegation serves the zone"
	LameOne       Fault = "one of two servers does not serve the zone"
	DarkAll       Fault = "no server answers"
	DarkOne       Fault = "one of two servers does not answer"
	FailingAll    Fault = "all servers say SERVFAIL"
	FailingOne    Fault = "one of two servers says SERVFAIL"
	NoGlue        Fault = "the servers are inside the zone, and the parent has no addresses for them"
	SiblingGlue   Fault = "the servers are in a sibling zone"
	Outside       Fault = "the servers are below another top-level domain"
	Circle        Fault = "the servers of two zones are in each other"
	NSIsAlias     Fault = "the name of the server is an alias"
	NSMismatch    Fault = "parent and child name different servers, and all of them work"
	NSMismatchOne Fault = "the child names one server that does not serve the zone"
	NoEDNSServer  Fault = "the servers say FORMERR to EDNS"
	SlowServer    Fault = "the servers are slow"
	LowerServer   Fault = "the servers send the question back in lower case"
	LowerOne      Fault = "one of two servers sends the question back in lower case"
	TruncateAll   Fault = "the servers truncate everything over UDP"
)

// The faults of an address family. Zones have them in an internet with IPv6 only.
const (
	OnlyIPv6     Fault = "the servers have IPv6 addresses only"
	OnlyIPv4     Fault = "the servers have IPv4 addresses only"
	DarkIPv6     Fault = "no server answers by IPv6, and both do by IPv4"
	DarkIPv4     Fault = "no server answers by IPv4, and both do by IPv6"
	NoRouteIPv6  Fault = "the IPv6 addresses of the servers have no route"
	DividedHosts Fault = "one server has an IPv4 address, the other one an IPv6 address"
)

// The faults of signatures. The first seven make the zone bogus, the next four insecure.
const (
	Expired     Fault = "the signatures have expired"
	NotYet      Fault = "the signatures are not yet valid"
	Unsigned    Fault = "there are no signatures but that of the keys"
	BadSigs     Fault = "the signatures do not fit"
	WrongDS     Fault = "the DS record is for another key"
	NoKeys      Fault = "there is a DS record, and the zone is not signed"
	NoProofs    Fault = "the zone has no NSEC records"
	NewAlg      Fault = "the algorithm is one that nobody knows"
	NewDigest   Fault = "the digest of the DS record is one that nobody knows"
	Island      Fault = "the zone is signed, and the parent has no DS record"
	ManyHashes  Fault = "NSEC3 with too many iterations"
	OptOut      Fault = "NSEC3 with opt-out"
	TwoKeySizes Fault = "an RSA key signs the keys, and another the zone"
)

// faults are those of the zones below the top-level domains, with their weights; signing
// ones fall on signed zones only.
var faults = []struct {
	fault   Fault
	weight  int
	signing bool
}{
	{Healthy, 560, false},
	{LameAll, 12, false}, {LameOne, 20, false}, {DarkAll, 4, false}, {DarkOne, 20, false},
	{FailingAll, 12, false}, {FailingOne, 20, false}, {NoGlue, 12, false}, {SiblingGlue, 30, false},
	{Outside, 60, false}, {Circle, 8, false}, {NSIsAlias, 12, false}, {NSMismatch, 30, false},
	{NSMismatchOne, 15, false}, {NoEDNSServer, 15, false}, {SlowServer, 12, false},
	{LowerServer, 15, false}, {LowerOne, 15, false}, {TruncateAll, 12, false},
	{Expired, 14, true}, {NotYet, 12, true}, {Unsigned, 14, true}, {BadSigs, 14, true},
	{WrongDS, 14, true}, {NoKeys, 14, true}, {NoProofs, 14, true}, {NewAlg, 14, true},
	{NewDigest, 12, true}, {Island, 20, true}, {ManyHashes, 14, true}, {OptOut, 25, true}, {TwoKeySizes, 4, true},
}

// familyFaults are those of zones with servers in two families.
var familyFaults = []Fault{OnlyIPv6, OnlyIPv4, DarkIPv6, DarkIPv4, NoRouteIPv6, DividedHosts}

// familyPart of the healthy zones has one of them, where there is IPv6.
const familyPart = 0.3

// spec is a zone in the making.
type spec struct {
	name   dns.Name
	parent *spec
	fault  Fault
	signed bool
	keys   []*zone.Key
	nsec3  *zone.NSEC3

	servers []nameServer // as the parent names them
	own     []nameServer // as the zone names them; nil for the same
	text    strings.Builder
	peer    *spec // the other one of a circle, or the zone that the servers are in
}

// nameServer is a server of a zone. One of its addresses may be missing.
type nameServer struct {
	name  string // with the dot
	addr  netip.Addr
	addr6 netip.Addr
}

// addrs gives the addresses that there are.
func (ns nameServer) addrs() (list []netip.Addr) {
	for _, a := range []netip.Addr{ns.addr, ns.addr6} {
		if a.IsValid() {
			list = append(list, a)
		}
	}
	return list
}

// records gives the address records of the server below another name.
func (ns nameServer) records(name string) string {
	var b strings.Builder
	for _, a := range ns.addrs() {
		kind := dns.TypeA
		if a.Is6() {
			kind = dns.TypeAAAA
		}
		fmt.Fprintf(&b, "%s %s %s\n", name, kind, a)
	}
	return b.String()
}

// The shape of an internet.
const (
	thirdLevel = 0.4  // of the zones are below a zone of the second level
	signedPart = 0.55 // of the zones are signed, where the parent is
	providers  = 160  // addresses where zones live
	labTTL     = 3600
)

var topLevels = []string{"com", "net", "org", "info", "biz", "dev", "app", "eu", "us", "de", "uk", "nu"}

// NewInternet makes an internet with about so many zones, where all servers have IPv4.
func NewInternet(seed uint64, zones int) (*Internet, error) { return newInternet(seed, zones, false) }

// NewInternet6 makes one where servers have IPv6 too, unless a zone's fault says otherwise.
func NewInternet6(seed uint64, zones int) (*Internet, error) { return newInternet(seed, zones, true) }

func newInternet(seed uint64, zones int, ipv6 bool) (*Internet, error) {
	in := &Internet{
		ipv6:   ipv6,
		Hosts:  map[netip.Addr]Host{},
		random: rand.New(rand.NewPCG(seed, 1)),
		now:    time.Now().Truncate(time.Second),
	}
	for i, algorithm := range []uint8{zone.ECDSAP256SHA256, zone.ECDSAP256SHA256, zone.ED25519, zone.ED25519, zone.RSASHA256, zone.ECDSAP384SHA384} {
		k, err := zone.SeededKey(algorithm, seed+uint64(i))
		if err != nil {
			return nil, err
		}
		in.keys = append(in.keys, k)
	}
	in.plan(zones)
	for _, s := range in.specs {
		in.delegate(s)
	}
	for i, s := range in.specs {
		in.fill(s, i)
	}
	for _, s := range append([]*spec{in.root}, in.specs...) {
		if err := in.serve(s); err != nil {
			return nil, fmt.Errorf("zone %s (%s): %w", s.name, s.fault, err)
		}
	}
	in.Anchor = in.root.keys[0].DS(dns.Root, 86400)
	return in, nil
}

// plan decides which zones there are, and what is wrong with each.
func (in *Internet) plan(zones int) {
	in.root = &spec{name: dns.Root, signed: true, keys: in.keys[:1]}
	for i := range 3 {
		name := dns.MustName(fmt.Sprintf("%c.root-servers.net", 'a'+i))
		ns := in.at(name.FQDN(), netip.AddrFrom4([4]byte{127, 10, 0, byte(1 + i)}))
		in.Roots = append(in.Roots, Root{name, ns.addr, ns.addr6})
		in.root.servers = append(in.root.servers, ns)
	}
	var tops, seconds []*spec
	for i, label := range topLevels {
		s := &spec{name: dns.MustName(label), parent: in.root, signed: i%4 != 3, keys: in.keys[i%4 : i%4+1]}
		switch i % 3 {
		case 1:
			s.nsec3 = &zone.NSEC3{}
		case 2:
			s.nsec3 = &zone.NSEC3{OptOut: true, Salt: []byte{0xab}}
		}
		for j := range 2 {
			s.servers = append(s.servers, in.at(fmt.Sprintf("%c.nic.%s.", 'a'+j, label), netip.AddrFrom4([4]byte{127, 11, byte(i), byte(1 + j)})))
		}
		tops = append(tops, s)
	}
	in.specs = append(in.specs, tops...)
	for i := range max(0, zones-len(tops)-1) {
		parents := tops
		if len(seconds) > 50 && in.random.Float64() < thirdLevel {
			parents = seconds
		}
		parent := parents[in.random.IntN(len(parents))]
		s := &spec{name: dns.MustName(fmt.Sprintf("%s%d.%s", syllables(in.random), i, parent.name)), parent: parent}
		in.choose(s)
		if parent.parent == in.root && s.fault == Healthy {
			seconds = append(seconds, s)
		}
		in.specs = append(in.specs, s)
	}
}

func syllables(r *rand.Rand) string {
	var b strings.Builder
	for range 2 + r.IntN(2) {
		b.WriteByte("bdfgklmnprstvz"[r.IntN(14)])
		b.WriteByte("aeiou"[r.IntN(5)])
	}
	return b.String()
}

// choose decides on the fault and the keys of a zone.
func (in *Internet) choose(s *spec) {
	s.signed = s.parent.signed && in.random.Float64() < signedPart
	total := 0
	for _, f := range faults {
		if !f.signing || s.signed {
			total += f.weight
		}
	}
	at := in.random.IntN(total)
	for _, f := range faults {
		if f.signing && !s.signed {
			continue
		}
		if at -= f.weight; at < 0 {
			s.fault = f.fault
			break
		}
	}
	if in.ipv6 && s.fault == Healthy && in.random.Float64() < familyPart {
		s.fault = familyFaults[in.random.IntN(len(familyFaults))]
	}
	switch s.fault {
	case NoEDNSServer: // without EDNS there are no signatures
		s.signed = false
	case TwoKeySizes:
		s.keys = []*zone.Key{entry(in.keys[4]), in.keys[0]}
	default:
		k := in.random.IntN(len(in.keys))
		if k >= 4 && in.random.IntN(4) > 0 {
			k -= 4 // RSA and P-384 are slow to sign with
		}
		s.keys = in.keys[k : k+1]
	}
	switch s.fault {
	case OptOut:
		s.nsec3 = &zone.NSEC3{OptOut: true}
	case ManyHashes:
		s.nsec3 = &zone.NSEC3{Iterations: 500}
	case NoProofs:
	default:
		if in.random.IntN(2) == 0 {
			s.nsec3 = &zone.NSEC3{}
		}
	}
	if s.fault == Circle {
		// Two zones below one parent; both get the fault.
		for _, other := range in.specs {
			if other.parent == s.parent && other.fault == Circle && other.peer == nil {
				other.peer, s.peer = s, other
				return
			}
		}
	}
}

func entry(k *zone.Key) *zone.Key {
	copied := *k
	copied.Entry = true
	return &copied
}
