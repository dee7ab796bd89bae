package dnstest

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"mxward/internal/dns"
)

// Fill puts the servers of the internet into a Net.
func (in *Internet) Fill(n *Net) {
	for addr, h := range in.Hosts {
		n.Set(addr.String(), h)
	}
}

// Listen starts the servers on real sockets, UDP and TCP at one port. The caller has to
// close what it gives. IPv6 addresses have to be on an interface: see Addrs6.
func (in *Internet) Listen(port uint16) (io.Closer, error) {
	s := &sockets{}
	for addr, h := range in.Hosts {
		if h.Behaviour == Refusing || h.Behaviour == NoRoute {
			continue // nobody listens
		}
		if err := s.open(netip.AddrPortFrom(addr, port), h); err != nil {
			_ = s.Close()
			return nil, fmt.Errorf("listen for the lab internet: %w", err)
		}
	}
	return s, nil
}

// Addrs6 gives the IPv6 addresses that Listen listens at, in order.
func (in *Internet) Addrs6() (list []netip.Addr) {
	for addr := range in.Hosts {
		if addr.Is6() && labPrefix.Contains(addr) {
			list = append(list, addr)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}

// sockets are the sockets of an internet.
type sockets struct {
	mu      sync.Mutex
	closers []io.Closer
	closed  bool
	work    sync.WaitGroup
}

// labIdle is how long a server of the lab keeps a TCP connection.
const labIdle = 5 * time.Second

func (s *sockets) open(at netip.AddrPort, h Host) error {
	pc, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	s.keep(pc)
	ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	s.keep(ln)
	s.work.Go(func() { s.udp(pc, h) })
	s.work.Go(func() { s.tcp(ln, h) })
	return nil
}

// keep notes what Close closes, and closes it at once if that has been.
func (s *sockets) keep(c io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = c.Close()
		return
	}
	s.closers = append(s.closers, c)
}

// Close stops all servers.
func (s *sockets) Close() error {
	s.mu.Lock()
	s.closed = true
	var errs []error
	for _, c := range s.closers {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	s.mu.Unlock()
	s.work.Wait()
	return errors.Join(errs...)
}

func (s *sockets) udp(pc *net.UDPConn, h Host) {
	buf := make([]byte, 4096)
	for {
		n, from, err := pc.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP message about an earlier answer
		}
		answer := func(packet []byte) {
			if out, err := h.reply("udp", packet, from); err == nil && out != nil {
				_, _ = pc.WriteToUDPAddrPort(out, from)
			}
		}
		if h.Delay == 0 {
			answer(buf[:n])
			continue
		}
		packet := append([]byte(nil), buf[:n]...)
		s.work.Go(func() { answer(packet) })
	}
}

func (s *sockets) tcp(ln *net.TCPListener, h Host) {
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		s.work.Go(func() { s.conn(c, h) })
	}
}

func (s *sockets) conn(c net.Conn, h Host) {
	defer c.Close()
	from, err := netip.ParseAddrPort(c.RemoteAddr().String())
	for err == nil {
		_ = c.SetDeadline(time.Now().Add(labIdle))
		var packet, out []byte
		if packet, err = readFrame(c); err != nil {
			return
		}
		if out, err = h.reply("tcp", packet, from); err != nil || out == nil {
			continue
		}
		_, err = c.Write(append([]byte{byte(len(out) >> 8), byte(len(out))}, out...))
	}
}

// asked are names that questions are made of, with the types that make sense.
// The name stands before the zone's: "" for the apex; "?" is a random label.
var asked = []kind{
	{"", "A MX TXT NS SOA AAAA DNSKEY DS CAA"}, {"", "MX A TXT"},
	{"www", "A AAAA MX TXT"}, {"mail", "A AAAA"}, {"_dmarc", "TXT A"}, {"_25._tcp.mail", "TLSA A"}, {"_tcp.mail", "A TLSA"},
	{"alias", "A AAAA MX CNAME"}, {"ext", "A AAAA TXT"}, {"far", "A TXT"},
	{"?.w", "A TXT MX AAAA"}, {"here.w", "A AAAA"}, {"?.?.w", "A"}, {"w", "A"}, {"*.w", "A"}, {"?.alias2", "A MX"},
	{"b.ent", "A TXT"}, {"ent", "A"}, {"a.b.ent", "A"}, {"?.ent", "A"},
	{"self", "A"}, {"loop1", "A MX"}, {"xloop", "A"}, {"hop", "A TXT"},
	{"www.tree", "A AAAA"}, {"tree", "DNAME A"}, {"?.tree", "A"},
	{"big", "TXT MX"}, {"?", "A TXT MX DS"}, {"?.?", "A"}, {"ns1", "A AAAA"}, {"?._domainkey", "TXT"},
}

// oddly are names and types that little but a resolver's author asks for: what stands on
// both sides of a cut, what is made when a zone is signed, and types that are new or nobody's.
var oddly = []kind{
	{"", "RRSIG NSEC NSEC3 NSEC3PARAM DS DNSKEY CAA HTTPS SVCB CDS TYPE65280"}, {"", "DS NSEC ANY"}, {"", "DS CAA"},
	{"www", "DS NSEC RRSIG HTTPS DNSKEY"}, {"odd", "TYPE65280 TYPE65281 A DS"}, {"_dns", "SVCB HTTPS"},
	{"alias", "DS NSEC HTTPS TYPE65280"}, {"ext", "HTTPS CAA TYPE65280"}, {"?.w", "TYPE65280 DS NSEC"}, {"?.alias2", "CNAME HTTPS"},
	{"tree", "ANY DS"}, {"?.tree", "CNAME HTTPS"}, {"ent", "ANY NSEC DS"}, {"?", "ANY DS NSEC DNSKEY TYPE65280"},
	{"ns1", "DS NSEC"}, {"self", "CNAME DS"}, {"loop1", "CNAME ANY"}, {"mail", "ANY RRSIG"},
}

type kind struct{ name, types string }

// Oddities makes n different questions of types that are seldom asked for, the same for a
// seed.
func (in *Internet) Oddities(seed uint64, n int) []dns.Question { return in.ask(seed, n, oddly) }

// Questions makes n different questions about the internet, the same for a seed.
func (in *Internet) Questions(seed uint64, n int) []dns.Question { return in.ask(seed, n, asked) }

func (in *Internet) ask(seed uint64, n int, asked []kind) []dns.Question {
	random := rand.New(rand.NewPCG(seed, 2))
	known := map[dns.Question]bool{}
	var list []dns.Question
	for len(list) < n {
		zone := in.Zones[random.IntN(len(in.Zones))].Name
		kind := asked[random.IntN(len(asked))]
		name := kind.name
		for strings.Contains(name, "?") {
			name = strings.Replace(name, "?", fmt.Sprintf("%s%d", syllables(random), random.IntN(100)), 1)
		}
		if name != "" {
			name += "."
		}
		if random.IntN(200) == 0 { // a top-level domain that is not there
			name, zone = syllables(random)+".", dns.MustName("no"+syllables(random))
		}
		types := strings.Fields(kind.types)
		qtype, ok := dns.ParseType(types[random.IntN(len(types))])
		q := dns.Question{Name: dns.MustName(name + zone.FQDN()), Type: qtype, DNSSEC: random.IntN(3) == 0}
		if !ok || known[q] {
			continue
		}
		known[q] = true
		list = append(list, q)
	}
	return list
}
