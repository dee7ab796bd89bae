package server_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/server"
)

// prepared is a WireResolver: what it has ready says 192.0.2.1, the long way 192.0.2.2.
type prepared struct{}

func (prepared) Resolve(_ context.Context, q dns.Question) (dns.Answer, error) {
	rr, err := wire.NewRR(q.Name.FQDN() + " 60 IN A 192.0.2.2")
	return dns.Answer{Answer: []dns.RR{rr}}, err
}

func (prepared) AppendAnswer(reply []byte, q dns.WireQuestion) ([]byte, dns.WireAnswer, bool) {
	a := dns.WireAnswer{Answer: 1, Authentic: true}
	record := []byte{0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1}
	switch {
	case strings.HasPrefix(string(q.Name), "\x05panic"):
		panic("a fault of the resolver")
	case strings.HasPrefix(string(q.Name), "\x04slow"):
		return reply, a, false
	case strings.HasPrefix(string(q.Name), "\x05rcode"):
		a.Rcode = 16
	case strings.HasPrefix(string(q.Name), "\x04long"):
		a.Answer = 100
		for range a.Answer - 1 {
			reply = append(reply, record...)
		}
	case strings.HasPrefix(string(q.Name), "\x04huge"):
		reply = append(reply, make([]byte, 100_000)...)
	}
	return append(reply, record...), a, true
}

// TestQuick: what is ready goes out at once and with the right header; everything that is
// not for the short way goes the long way, a fault among it.
func TestQuick(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server.Server{Resolver: prepared{}, Recursion: true}
	served := make(chan error, 1)
	go func() { served <- s.ServeUDP(pc) }()
	c := dialUDP(t, pc.LocalAddr().String())
	for _, tt := range []struct {
		name string
		qt   uint16
		edit func(m *wire.Msg)
		want string // the address, or the Rcode
		ad   bool
	}{
		{"ready.example.", wire.TypeA, nil, "192.0.2.1", false},
		{"ReAdY.example.", wire.TypeA, nil, "192.0.2.1", false}, // the case is echoed
		{"ready.example.", wire.TypeA, func(m *wire.Msg) { m.AuthenticatedData = true }, "192.0.2.1", true},
		{"ready.example.", wire.TypeA, func(m *wire.Msg) { m.SetEdns0(1232, true) }, "192.0.2.1", true},
		{"ready.example.", wire.TypeA, func(m *wire.Msg) { m.SetEdns0(1232, false) }, "192.0.2.1", false},
		{"slow.example.", wire.TypeA, nil, "192.0.2.2", false},                                                   // the Resolver has nothing ready
		{"long.example.", wire.TypeA, nil, "192.0.2.2", false},                                                   // too long for 512 octets: to be cut with care
		{"huge.example.", wire.TypeA, nil, "192.0.2.2", false},                                                   // too long for the buffer
		{"rcode.example.", wire.TypeA, nil, "192.0.2.2", false},                                                  // more bits than a header has
		{"ready.example.", wire.TypeAXFR, nil, "REFUSED", false},                                                 // no resolver is asked
		{"ready.example.", wire.TypeA, func(m *wire.Msg) { m.Question[0].Qclass = 3 }, "REFUSED", false},         // nor for another class
		{"ready.example.", wire.TypeA, func(m *wire.Msg) { m.Opcode = wire.OpcodeNotify }, "NOTIMP", false},      // nor for another opcode
		{"ready.example.", wire.TypeA, func(m *wire.Msg) { m.Answer = []wire.RR{&wire.A{}} }, "FORMERR", false},  // nor for what is no question
		{"panic.example.", wire.TypeA, nil, "192.0.2.2", false},                                                  // a fault costs the short way only
		{"ready.example.", wire.TypeA, func(m *wire.Msg) { m.CheckingDisabled = true }, "192.0.2.1", false},      // CD is echoed
		{"ready.example.", wire.TypeA, func(m *wire.Msg) { m.RecursionDesired = false }, "192.0.2.1", false},     // RD too
		{"ready.example.", wire.TypeA, func(m *wire.Msg) { m.SetEdns0(1232, false); withVersion(m) }, "", false}, // BADVERS
	} {
		m := new(wire.Msg)
		m.SetQuestion(tt.name, tt.qt)
		if tt.edit != nil {
			tt.edit(m)
		}
		packet, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(packet); err != nil {
			t.Fatal(err)
		}
		got := receiveUDP(t, c)
		said := wire.RcodeToString[got.Rcode]
		if len(got.Answer) > 0 {
			said = got.Answer[0].(*wire.A).A.String()
		}
		if tt.want != "" && (said != tt.want || got.Question != nil && got.Question[0].Name != tt.name) ||
			got.Id != m.Id || got.AuthenticatedData != tt.ad || (got.IsEdns0() != nil) != (m.IsEdns0() != nil) {
			t.Errorf("%v\ngot %v", m, got)
		}
		if tt.want == "192.0.2.1" && (got.CheckingDisabled != m.CheckingDisabled || got.RecursionDesired != m.RecursionDesired || !got.RecursionAvailable) {
			t.Errorf("flags: %v", got.MsgHdr)
		}
	}
	if n := s.Counts().Panics; n != 1 {
		t.Errorf("%d panics", n)
	}
	if err := errors.Join(s.Shutdown(context.Background()), <-served); err != nil {
		t.Error(err)
	}
}

func withVersion(m *wire.Msg) { m.IsEdns0().SetVersion(1) }

// TestBatches: what comes while the loop is not reading is answered, each question to who
// asked it, and so is one that comes alone afterwards, when the loop waits again; then a
// waiting loop stops. IPv4, IPv6, and an IPv4 client of an IPv6 socket.
func TestBatches(t *testing.T) {
	const clients, each = 3, 20
	for _, tt := range []struct{ network, listen, dial string }{
		{"udp4", "127.0.0.1:0", "127.0.0.1"},
		{"udp6", "[::1]:0", "::1"},
		{"udp", "[::]:0", "127.0.0.1"},
	} {
		t.Run(tt.network+" "+tt.listen, func(t *testing.T) {
			pc, err := net.ListenPacket(tt.network, tt.listen)
			if err != nil {
				t.Skipf("left out: %v", err)
			}
			_, port, err := net.SplitHostPort(pc.LocalAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			var asking []net.Conn
			for range clients {
				c := dialUDP(t, net.JoinHostPort(tt.dial, port))
				asking = append(asking, c)
				for i := range each { // both ways of answering
					if _, err := c.Write(query(t, []string{"ready.example.", "slow.example."}[i%2], wire.TypeA, nil)); err != nil {
						t.Fatal(err)
					}
				}
			}
			s := &server.Server{Resolver: prepared{}}
			served := make(chan error, 1)
			go func() { served <- s.ServeUDP(pc) }()
			for _, c := range asking {
				for range each {
					m := receiveUDP(t, c)
					want := map[string]string{"ready.example.": "192.0.2.1", "slow.example.": "192.0.2.2"}[m.Question[0].Name]
					if got := m.Answer[0].(*wire.A).A.String(); got != want {
						t.Errorf("%s: got %s", m.Question[0].Name, got)
					}
				}
			}
			for _, c := range asking {
				if m := exchange(t, c, "ready.example."); len(m.Answer) != 1 {
					t.Errorf("alone: %v", m)
				}
			}
			if n := s.Counts().Queries; n != clients*(each+1) {
				t.Errorf("%d queries counted", n)
			}
			if err := errors.Join(s.Shutdown(context.Background()), <-served); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestBatchClientGone: an answer that cannot be delivered harms nobody else.
func TestBatchClientGone(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server.Server{Resolver: prepared{}}
	served := make(chan error, 1)
	go func() { served <- s.ServeUDP(pc) }()
	for range 10 {
		gone := dialUDP(t, pc.LocalAddr().String())
		if _, err := gone.Write(query(t, "ready.example.", wire.TypeA, nil)); err != nil {
			t.Fatal(err)
		}
		_ = gone.Close()
	}
	c := dialUDP(t, pc.LocalAddr().String())
	if m := exchange(t, c, "ready.example."); len(m.Answer) != 1 {
		t.Errorf("got %v", m)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := errors.Join(s.Shutdown(ctx), <-served); err != nil {
		t.Error(err)
	}
}
