// Package dnstest is a small internet without sockets, for tests and for the lab: zones
// from text, and name servers that answer well or behave badly.
//
// What a Net's servers say is made by package server, so that it is what would come over a
// real socket. Everything works inside a testing/synctest bubble, where silence costs no
// time.
package dnstest

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/server"
	"mxward/internal/dns/zone"
)

// Zone parses a zone that stands in a test; the test ends if the zone is wrong.
func Zone(t testing.TB, origin, text string) *zone.Zone {
	t.Helper()
	z, err := zone.Parse(strings.NewReader(text), dns.MustName(origin), t.Name())
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// Behaviour is how a server treats what reaches it.
type Behaviour int

// The behaviours. The zero value answers as it should.
const (
	Honest        Behaviour = iota
	Silent                  // takes everything and says nothing
	Refusing                // the port is closed: ECONNREFUSED
	NoRoute                 // ENETUNREACH when dialling
	Garbage                 // answers with bytes that are no DNS message
	WrongID                 // answers with another ID
	WrongQuestion           // answers a question that nobody asked
	Truncating              // over UDP always TC and no records
	Failing                 // SERVFAIL
	Lame                    // REFUSED
	NoEDNS                  // FORMERR to questions with EDNS, as very old servers
	LowerCase               // sends the question back in lower case
)

// Host is one name server of a Net.
type Host struct {
	Resolver  dns.Resolver
	Behaviour Behaviour
	Delay     time.Duration // before each answer
	Recursion bool          // it offers recursion (the RA bit)
}

// Asked is one question that reached a host.
type Asked struct {
	Network  string // "udp" or "tcp"
	Question dns.Question
}

// Net is an internet without sockets: name servers by address, whatever the port. At an
// address where nobody is, packets get lost. The zero value is ready for use, and hosts
// may be changed at any time.
type Net struct {
	mu    sync.Mutex
	hosts map[netip.Addr]Host
	asked map[netip.Addr][]Asked
	ports uint16
}

// Serve puts an honest server at an address, in place of what was there.
func (n *Net) Serve(addr string, r dns.Resolver) { n.Set(addr, Host{Resolver: r}) }

// Set puts a host at an address, in place of what was there. The questions noted so far stay.
func (n *Net) Set(addr string, h Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts == nil {
		n.hosts = map[netip.Addr]Host{}
	}
	n.hosts[netip.MustParseAddr(addr)] = h
}

// Hosts gives what is where now.
func (n *Net) Hosts() map[netip.Addr]Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.hosts)
}

// Asked gives the questions that reached an address, in order, answered or not.
func (n *Net) Asked(addr string) []Asked {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.asked[netip.MustParseAddr(addr)])
}

// Total is the number of questions that reached any host.
func (n *Net) Total() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	total := 0
	for _, asked := range n.asked {
		total += len(asked)
	}
	return total
}

// Forget empties what Asked and Total give.
func (n *Net) Forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = nil
}

// Dial connects to the host at address over udp or tcp; the signature is that of
// net.Dialer.DialContext.
func (n *Net) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	host := n.host(to.Addr())
	if host.Behaviour == NoRoute {
		return nil, dialError(network, to, syscall.ENETUNREACH)
	}
	switch {
	case strings.HasPrefix(network, "udp"):
		return n.dialUDP(to), nil
	case !strings.HasPrefix(network, "tcp"):
		return nil, dialError(network, to, net.UnknownNetworkError(network))
	case host.Behaviour == Refusing:
		return nil, dialError(network, to, syscall.ECONNREFUSED)
	case host.Behaviour == Silent:
		<-ctx.Done()
		return nil, dialError(network, to, ctx.Err())
	}
	return n.dialTCP(to), nil
}

func dialError(network string, to netip.AddrPort, err error) error {
	return &net.OpError{Op: "dial", Net: network, Addr: net.TCPAddrFromAddrPort(to), Err: err}
}

// host gives what is at an address now.
func (n *Net) host(a netip.Addr) Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	h, ok := n.hosts[a.Unmap()]
	if !ok {
		return Host{Behaviour: Silent}
	}
	return h
}

// client gives an address for the next client.
func (n *Net) client() netip.AddrPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports++
	return netip.AddrPortFrom(netip.MustParseAddr("192.0.2.255"), 1024+n.ports%60000)
}

func (n *Net) dialUDP(to netip.AddrPort) net.Conn {
	from := n.client()
	c := newPacketConn(net.UDPAddrFromAddrPort(from), net.UDPAddrFromAddrPort(to))
	c.send = func(packet []byte) {
		go func() {
			out, err := n.reply("udp", to.Addr(), packet, from)
			switch {
			case err != nil:
				c.fail(err)
			case out != nil:
				c.deliver(out)
			}
		}()
	}
	return c
}

// dialTCP serves a connection until the client closes it. Several questions may be under
// way; each answer is one Write.
func (n *Net) dialTCP(to netip.AddrPort) net.Conn {
	from := n.client()
	near, far := net.Pipe()
	go func() {
		var writing sync.Mutex
		defer far.Close()
		for {
			packet, err := readFrame(far)
			if err != nil {
				return
			}
			go func() {
				out, err := n.reply("tcp", to.Addr(), packet, from)
				if err != nil {
					_ = far.Close()
				}
				if out == nil {
					return
				}
				writing.Lock()
				defer writing.Unlock()
				_, _ = far.Write(append([]byte{byte(len(out) >> 8), byte(len(out))}, out...))
			}()
		}
	}()
	return &streamConn{near, net.TCPAddrFromAddrPort(from), net.TCPAddrFromAddrPort(to)}
}

// reply is what the host at an address does with a packet: bytes, nothing, or an error of
// the network.
func (n *Net) reply(network string, to netip.Addr, packet []byte, from netip.AddrPort) ([]byte, error) {
	n.note(network, to, packet)
	return n.host(to).reply(network, packet, from)
}

func (host Host) reply(network string, packet []byte, from netip.AddrPort) ([]byte, error) {
	time.Sleep(host.Delay)
	tcp := network == "tcp"
	switch host.Behaviour {
	case Honest:
		return host.answer(host.Resolver, packet, tcp, from), nil
	case Refusing:
		return nil, syscall.ECONNREFUSED
	case Failing:
		return host.answer(rcode(dns.ServFail), packet, tcp, from), nil
	case Lame:
		return host.answer(rcode(dns.Refused), packet, tcp, from), nil
	case Truncating:
		if tcp {
			return host.answer(host.Resolver, packet, tcp, from), nil
		}
		out := host.answer(rcode(dns.NoError), packet, tcp, from)
		if len(out) > 2 {
			out[2] |= 0x02 // TC
		}
		return out, nil
	case Garbage:
		return []byte("220 mail.example.com ESMTP\r\n"), nil
	case NoEDNS:
		return host.withoutEDNS(packet, tcp, from), nil
	case LowerCase:
		return host.answer(host.Resolver, lowerCase(packet), tcp, from), nil
	case WrongID, WrongQuestion:
		return forged(host.answer(host.Resolver, packet, tcp, from), host.Behaviour), nil
	}
	return nil, nil // Silent
}

// answer is the reply of package server with what r says; without an r, REFUSED.
func (h Host) answer(r dns.Resolver, packet []byte, tcp bool, from netip.AddrPort) []byte {
	if r == nil {
		r = rcode(dns.Refused)
	}
	s := server.Server{Resolver: r, Recursion: h.Recursion}
	return s.Answer(context.Background(), packet, tcp, from)
}

func rcode(r dns.Rcode) dns.Resolver {
	return dns.ResolverFunc(func(context.Context, dns.Question) (dns.Answer, error) {
		return dns.Answer{Rcode: r}, nil
	})
}

// withoutEDNS answers as a server from before RFC 2671.
func (h Host) withoutEDNS(packet []byte, tcp bool, from netip.AddrPort) []byte {
	if len(packet) > 11 && packet[10]|packet[11] != 0 { // additional records
		out := append([]byte(nil), packet[:12]...)
		out[2] |= 0x80                                // QR
		out[3] = wire.RcodeFormatError                // and no RA
		out[4], out[5], out[10], out[11] = 0, 0, 0, 0 // the header alone
		return out
	}
	return h.answer(h.Resolver, packet, tcp, from)
}

// lowerCase gives the packet with the letters of the question's name in lower case.
func lowerCase(packet []byte) []byte {
	out := append([]byte(nil), packet...)
	for i := 12; i < len(out) && out[i] != 0 && out[i] < 64; {
		end := min(i+1+int(out[i]), len(out))
		for i++; i < end; i++ {
			if 'A' <= out[i] && out[i] <= 'Z' {
				out[i] += 'a' - 'A'
			}
		}
	}
	return out
}

// forged spoils an answer as somebody would who guesses.
func forged(out []byte, how Behaviour) []byte {
	if how == WrongID {
		if len(out) > 1 {
			out[1]++
		}
		return out
	}
	var m wire.Msg
	if err := m.Unpack(out); err != nil || len(m.Question) == 0 {
		return out
	}
	m.Question[0].Name = "forged.invalid."
	out, err := m.Pack()
	if err != nil {
		panic(fmt.Sprintf("dnstest: pack a forged answer: %v", err))
	}
	return out
}

// note remembers a question, if the packet is one.
func (n *Net) note(network string, to netip.Addr, packet []byte) {
	var m wire.Msg
	if err := m.Unpack(packet); err != nil || len(m.Question) != 1 {
		return
	}
	q := dns.Question{Name: dns.NameOf(m.Question[0].Name), Type: dns.Type(m.Question[0].Qtype), CheckingDisabled: m.CheckingDisabled}
	if opt := m.IsEdns0(); opt != nil {
		q.DNSSEC = opt.Do()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.asked == nil {
		n.asked = map[netip.Addr][]Asked{}
	}
	n.asked[to.Unmap()] = append(n.asked[to.Unmap()], Asked{network, q})
}
