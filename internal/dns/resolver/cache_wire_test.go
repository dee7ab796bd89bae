package resolver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/server"
)

// variedZone has everything that an answer can be made of.
const variedZone = soa + `
@    NS ns
ns   A 192.0.2.2
www  300 A 192.0.2.80
www  300 A 192.0.2.81
six  300 AAAA 2001:db8::80
mail 3600 MX 10 mx1.com.
mail 3600 MX 20 mx2.mail.com.
mail 3600 TXT "v=spf1 mx -all"
long 60 TXT "` // goes on in varied

// varied gives the zone's text and the names to ask for.
func varied() (zone string, names []string) {
	long := strings.TrimSuffix(strings.Repeat(strings.Repeat("x", 200)+`" "`, 8), ` "`)
	zone = variedZone + long + "\n" + `
a1   500 CNAME a2
a2   400 CNAME www
out  300 CNAME host.example.org.
gone 300 CNAME nowhere
void 300 CNAME mail
*.wild 120 A 192.0.2.90
srv  300 SRV 0 5 25 mx1.com.
caa  300 CAA 0 issue "ca.example.net"
odd\.dot 300 A 192.0.2.91
sub  300 DNAME wild
unknown 300 TYPE65400 \# 4 01020304
`
	return zone, []string{"com", "www.com", "six.com", "mail.com", "long.com", "a1.com", "a2.com", "out.com", "gone.com",
		"void.com", "x.wild.com", "y.wild.com", "srv.com", "caa.com", `odd\.dot.com`, "unknown.com", "nowhere.com",
		"x.nowhere.com", "x.sub.com", "host.example.org", "example.org"}
}

func variedWorld(t *testing.T) (*world, []string) {
	zone, names := varied()
	w := newWorld(t, "", "", "host.example 300 A 192.0.2.70\n")
	w.zone(comAddr, "com", zone)
	return w, names
}

// TestWireAnswers: for thousands of questions, the answer from prepared bytes is the one
// that the long way gives: names in any case, with and without EDNS, DO, AD, CD, and sizes
// that truncate.
func TestWireAnswers(t *testing.T) {
	w, names := variedWorld(t)
	s := &server.Server{Resolver: w.Resolver, Recursion: true, Rate: -1}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.ServeUDP(pc) }()
	c, err := net.Dial("udp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	types := []uint16{wire.TypeA, wire.TypeAAAA, wire.TypeMX, wire.TypeTXT, wire.TypeCNAME, wire.TypeNS, wire.TypeSOA, wire.TypeSRV, wire.TypeCAA, wire.TypeDNAME, 65400}
	rng := rand.New(rand.NewPCG(1, 2))
	quick := 0
	for i := range 4000 {
		m := new(wire.Msg)
		m.SetQuestion(names[rng.IntN(len(names))]+".", types[rng.IntN(len(types))])
		m.Id = uint16(i)
		m.RecursionDesired, m.AuthenticatedData, m.CheckingDisabled = rng.IntN(4) > 0, rng.IntN(3) == 0, rng.IntN(8) == 0
		if rng.IntN(3) > 0 {
			m.SetEdns0([]uint16{512, 1232, 4096}[rng.IntN(3)], rng.IntN(2) == 0)
		}
		mixed := rng.IntN(2) == 0
		if mixed {
			m.Question[0].Name = mix(rng, m.Question[0].Name)
		}
		packet, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		same := false
		var fast, slow string
		for range 5 { // a second may end between the two
			slow = readable(t, s.Answer(context.Background(), packet, false, netip.MustParseAddrPort("127.0.0.1:9")), mixed)
			before := w.Resolver.cache.wired()
			fast = readable(t, exchanged(t, c, packet), mixed)
			quick += int(w.Resolver.cache.wired() - before)
			if same = fast == slow; same {
				break
			}
		}
		if !same {
			t.Fatalf("question %d:\n%s\nfrom prepared bytes:\n%s\nthe long way:\n%s", i, m, fast, slow)
		}
	}
	if quick < 2500 {
		t.Errorf("only %d of 4,000 answers came from prepared bytes", quick)
	}
	if err := errors.Join(s.Shutdown(context.Background()), <-served); err != nil {
		t.Error(err)
	}
}

func mix(rng *rand.Rand, name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'a' <= c && c <= 'z' && rng.IntN(2) == 0 {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}

func exchanged(t *testing.T, c net.Conn, packet []byte) []byte {
	t.Helper()
	if _, err := c.Write(packet); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// readable gives a message as text, flags and all. Names in a reply to a question in mixed
// case may have the question's case or the zone's (RFC 4343 §4.1).
func readable(t *testing.T, packet []byte, anyCase bool) string {
	t.Helper()
	m := new(wire.Msg)
	if err := m.Unpack(packet); err != nil {
		t.Fatalf("%v: %x", err, packet)
	}
	text := fmt.Sprintf("%+v %v %v %v %v", m.MsgHdr, m.Question, m.Answer, m.Ns, m.Extra)
	if anyCase {
		text = strings.ToLower(text)
	}
	return text
}

// TestNoAllocations: a look-up of what is in the cache costs no memory, as records and as
// bytes, an alias or not.
func TestNoAllocations(t *testing.T) {
	w, _ := variedWorld(t)
	buf := make([]byte, 0, 4096)
	for _, text := range []string{"www.com A", "mail.com MX", "a1.com A", "nowhere.com A", "six.com A"} {
		q := question(text)
		for range 4 {
			if _, err := w.ask(text); err != nil {
				t.Fatal(err)
			}
		}
		reply := asked(buf, q)
		packed := dns.WireQuestion{Name: q.Name.AppendWire(nil), Type: q.Type}
		if _, _, ok := w.Resolver.AppendAnswer(reply, packed); !ok {
			t.Errorf("%s: no prepared answer", text)
		}
		if n := testing.AllocsPerRun(500, func() { w.Resolver.AppendAnswer(reply, packed) }); n != 0 {
			t.Errorf("%s as bytes: %v allocations", text, n)
		}
		ctx := context.Background()
		if n := testing.AllocsPerRun(500, func() { _, _ = w.Resolver.Resolve(ctx, q) }); n != 0 {
			t.Errorf("%s: %v allocations", text, n)
		}
	}
}

// asked gives the beginning of a reply: a header and the question.
func asked(buf []byte, q dns.Question) []byte {
	buf = append(buf, make([]byte, headerSize)...)
	buf = q.Name.AppendWire(buf)
	return append(buf, byte(q.Type>>8), byte(q.Type), 0, 1)
}

func BenchmarkCached(b *testing.B) {
	w, _ := variedWorld(new(testing.T))
	for _, text := range []string{"www.com A", "mail.com MX", "a1.com A", "nowhere.com A"} {
		q := question(text)
		for range 4 {
			if _, err := w.ask(text); err != nil {
				b.Fatal(err)
			}
		}
		reply := asked(make([]byte, 0, 4096), q)
		packed := dns.WireQuestion{Name: q.Name.AppendWire(nil), Type: q.Type}
		b.Run(text+"/records", func(b *testing.B) {
			percentile(b, func() { _, _ = w.Resolver.Resolve(context.Background(), q) })
		})
		b.Run(text+"/bytes", func(b *testing.B) {
			percentile(b, func() { w.Resolver.AppendAnswer(reply, packed) })
		})
	}
}

// percentile reports the time that 99 of 100 calls stay below.
func percentile(b *testing.B, call func()) {
	b.ReportAllocs()
	took := make([]time.Duration, 0, b.N)
	for b.Loop() {
		began := time.Now()
		call()
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
}
