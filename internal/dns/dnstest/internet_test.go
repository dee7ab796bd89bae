package dnstest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// TestInternet: every fault is there, and often enough to be asked for.
func TestInternet(t *testing.T) {
	in, err := NewInternet(1, 2000)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[Fault]int{}
	signed := 0
	for _, z := range in.Zones {
		seen[z.Fault]++
		if z.Signed {
			signed++
		}
	}
	for _, f := range faults {
		if seen[f.fault] < 2 {
			t.Errorf("%d zones with the fault %q", seen[f.fault], f.fault)
		}
	}
	if len(in.Zones) != 1999 || signed < 600 || len(in.Hosts) < 150 {
		t.Errorf("%d zones, %d signed, on %d addresses", len(in.Zones), signed, len(in.Hosts))
	}
}

// TestInternet6: every fault of a family is there, and the addresses follow from the fault.
func TestInternet6(t *testing.T) {
	in, err := NewInternet6(1, 400)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[Fault]int{}
	for _, s := range in.specs {
		seen[s.fault]++
		for i, ns := range s.servers {
			four, six := ns.addr.IsValid(), ns.addr6.IsValid()
			want4 := s.fault != OnlyIPv6 && (s.fault != DividedHosts || i == 0)
			want6 := s.fault != OnlyIPv4 && (s.fault != DividedHosts || i == 1)
			if four != want4 || six != want6 {
				t.Errorf("%s, %s: server %d has %v and %v", s.name, s.fault, i, ns.addr, ns.addr6)
			}
		}
	}
	for _, f := range familyFaults {
		if seen[f] < 2 {
			t.Errorf("%d zones with the fault %q", seen[f], f)
		}
	}
	if n := len(in.Addrs6()); n < 100 {
		t.Errorf("%d IPv6 addresses", n)
	}
}

// TestSameInternet: a seed makes the same zones, servers and questions, and another seed
// other ones.
func TestSameInternet(t *testing.T) {
	var made [3]*Internet
	for i, seed := range []uint64{5, 5, 6} {
		var err error
		if made[i], err = NewInternet(seed, 100); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(made[0].Zones, made[1].Zones) || slices.Equal(made[0].Zones, made[2].Zones) {
		t.Error("zones do not follow from the seed alone")
	}
	one, two := made[0].Questions(7, 500), made[1].Questions(7, 500)
	if !slices.Equal(one, two) || slices.Equal(one, made[0].Questions(8, 500)) {
		t.Error("questions do not follow from the seed alone")
	}
	if made[0].Anchor.String() != made[1].Anchor.String() {
		t.Error("the same seed makes another key")
	}
}

// TestInternetServers asks servers of each kind, in a Net and on sockets.
func TestInternetServers(t *testing.T) {
	in, err := NewInternet(2, 700)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var n Net
		in.Fill(&n)
		c, err := n.Dial(context.Background(), "udp", netip.AddrPortFrom(in.Roots[0].Addr, 53).String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		answered(t, c, "com.", wire.RcodeSuccess)
	})
	// Held where no server is, so that no test beside this one takes the same port.
	held, err := net.Listen("tcp4", "127.10.0.254:0")
	if err != nil {
		t.Skipf("left out: needs loopback addresses beyond 127.0.0.1: %v", err)
	}
	defer held.Close()
	port := uint16(held.Addr().(*net.TCPAddr).Port)
	world, err := in.Listen(port)
	if err != nil {
		t.Fatal(err)
	}
	for _, network := range []string{"udp", "tcp"} {
		c, err := net.Dial(network, fmt.Sprintf("127.10.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		answered(t, c, "com.", wire.RcodeSuccess)
		_ = c.Close()
	}
	for kind, want := range map[int]int{kindLame: wire.RcodeRefused, kindFailing: wire.RcodeServerFailure, kindNoEDNS: wire.RcodeFormatError, kindSlow: wire.RcodeSuccess} {
		for _, z := range in.specs {
			if len(z.servers) > 0 && z.servers[0].addr == special(kind, 0) {
				c, err := net.Dial("udp", netip.AddrPortFrom(special(kind, 0), port).String())
				if err != nil {
					t.Fatal(err)
				}
				answered(t, c, z.name.FQDN(), want)
				_ = c.Close()
				break
			}
		}
	}
	if err := world.Close(); err != nil {
		t.Error(err)
	}
}

// answered asks for NS records and wants an rcode.
func answered(t *testing.T, c net.Conn, name string, rcode int) {
	t.Helper()
	m := new(wire.Msg).SetQuestion(name, wire.TypeNS)
	m.SetEdns0(1232, true)
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	co := wire.Conn{Conn: c}
	if c.RemoteAddr().Network() == "udp" {
		packet, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(packet); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var r wire.Msg
		if err := r.Unpack(buf[:n]); err != nil || r.Rcode != rcode {
			t.Errorf("%s: %s (%v), want %s", name, wire.RcodeToString[r.Rcode], err, wire.RcodeToString[rcode])
		}
		return
	}
	if err := co.WriteMsg(m); err != nil {
		t.Fatal(err)
	}
	if r, err := co.ReadMsg(); err != nil || r.Rcode != rcode {
		t.Errorf("%s over TCP: %v, %v", name, r, err)
	}
}

// TestOddServers: what NoEDNS and LowerCase do to packets.
func TestOddServers(t *testing.T) {
	z := Zone(t, "example.com", "@ 60 SOA ns h 1 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.1\n")
	ask := func(b Behaviour, edns bool) *wire.Msg {
		t.Helper()
		m := new(wire.Msg).SetQuestion("NS.example.COM.", uint16(dns.TypeA))
		if edns {
			m.SetEdns0(1232, false)
		}
		packet, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		out, err := Host{Resolver: z, Behaviour: b}.reply("udp", packet, netip.MustParseAddrPort("192.0.2.9:53"))
		if err != nil {
			t.Fatal(err)
		}
		var r wire.Msg
		if err := r.Unpack(out); err != nil || r.Id != m.Id || !r.Response {
			t.Fatalf("%v, %v", &r, err)
		}
		return &r
	}
	if r := ask(NoEDNS, true); r.Rcode != wire.RcodeFormatError || r.IsEdns0() != nil {
		t.Errorf("with EDNS: %v", r)
	}
	if r := ask(NoEDNS, false); r.Rcode != wire.RcodeSuccess || len(r.Answer) != 1 {
		t.Errorf("without EDNS: %v", r)
	}
	if r := ask(LowerCase, true); r.Question[0].Name != "ns.example.com." || len(r.Answer) != 1 {
		t.Errorf("in lower case: %v", r)
	}
}
