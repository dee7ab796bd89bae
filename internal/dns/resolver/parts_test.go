package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

func TestParseHints(t *testing.T) {
	for _, tt := range []struct {
		name, text, want string
	}{
		{"as IANA writes it", `
; a comment
.                        3600000      NS    A.ROOT-SERVERS.NET.
A.ROOT-SERVERS.NET.      3600000      A     198.41.0.4
A.ROOT-SERVERS.NET.      3600000      AAAA  2001:503:ba3e::2:30
`, "a.root-servers.net 198.41.0.4, a.root-servers.net 2001:503:ba3e::2:30"},
		{"a blank owner, a class, no TTL", "$TTL 60\n. IN NS a.example. ; the only one\na.example. IN A 127.0.0.1\n\t A 127.0.0.2\n", "a.example 127.0.0.1, a.example 127.0.0.2"},
		{"an address of somebody else is left out", ". NS a.example.\nb.example. A 192.0.2.2\na.example. A 192.0.2.1\n", "a.example 192.0.2.1"},
		{"no DNS", "hello world\n", `f:1: expected one NS, A or AAAA record, got "hello world"`},
		{"a bad address", ". NS a.example.\n\na.example. A 192.0.2.256\n", `f:3: expected one NS, A or AAAA record, got "a.example. A 192.0.2.256"`},
		{"NS of another zone", "com. NS a.example.\n", "f:1: expected NS of the root, or A or AAAA, got NS of com."},
		{"another type", ". NS a.example.\na.example. MX 1 b.\n", "f:2: expected NS of the root, or A or AAAA, got MX of a.example."},
		{"no address", ". NS a.example.\n", "f: expected NS records of the root with the addresses of their hosts, got none"},
		{"empty", "", "f: expected NS records of the root with the addresses of their hosts, got none"},
		{"a line without end", ". NS a.example.\n" + strings.Repeat("x", 10_000), "f:2: expected one NS, A or AAAA record, got a line of more than 4096 octets"},
		{"$INCLUDE is no record", "$INCLUDE /etc/passwd\n", `f:1: expected one NS, A or AAAA record, got "$INCLUDE /etc/passwd"`},
	} {
		hints, err := ParseHints(strings.NewReader(tt.text), "f")
		var got []string
		for _, h := range hints {
			got = append(got, h.Name.String()+" "+h.Addr.String())
		}
		if err != nil {
			got = []string{err.Error()}
		}
		if s := strings.Join(got, ", "); s != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, s, tt.want)
		}
	}
}

func TestRootHints(t *testing.T) {
	hints := RootHints()
	four := 0
	names := map[dns.Name]bool{}
	for _, h := range hints {
		names[h.Name] = true
		if h.Addr.Is4() {
			four++
		}
	}
	if len(hints) != 26 || four != 13 || len(names) != 13 {
		t.Errorf("%d hints, %d over IPv4, %d names; want 26, 13, 13", len(hints), four, len(names))
	}
	// Debian's dns-root-data, where it is installed, says the same.
	f, err := os.Open("/usr/share/dns/root.hints")
	if err != nil {
		return
	}
	defer f.Close()
	theirs, err := ParseHints(f, "root.hints")
	if err != nil || !slices.Equal(theirs, hints) {
		t.Logf("the system's hints differ: %v, %v", theirs, err)
	}
}

// Each row is a message that differs in one way from a good reply to "www.example.com A".
func TestDecode(t *testing.T) {
	a := ask{name: dns.MustName("www.example.com"), typ: dns.TypeA}
	query, err := encode(nil, 7, a, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	good := answerTo(query, "www.example.com. 60 A 192.0.2.80")
	var q wire.Msg
	if err := q.Unpack(query); err != nil {
		t.Fatal(err)
	}
	if q.RecursionDesired || q.IsEdns0() == nil || q.IsEdns0().UDPSize() != ednsSize || q.IsEdns0().Do() {
		t.Errorf("the question goes out as %v", &q)
	}
	reply := func(change func(m *wire.Msg)) []byte {
		m := new(wire.Msg).SetReply(&q)
		change(m)
		return pack(m)
	}
	raw := func(rrs ...byte) []byte { // one record, by hand
		m := slices.Clone(good[:headerSize+17+4])
		m[7] = 1
		return append(m, rrs...)
	}
	for _, tt := range []struct {
		why  string
		b    []byte
		want error
	}{
		{"good", good, nil},
		{"upper case in the question", mangled(good, headerSize+1, func(byte) byte { return 'W' }), nil},
		{"empty", nil, errUnreadable},
		{"a header alone", good[:headerSize], errUnreadable},
		{"another ID", mangled(good, 1, func(byte) byte { return 8 }), errNotOurs},
		{"a question", query, errNotOurs},
		{"another type", mangled(good, headerSize+18, func(byte) byte { return 28 }), errNotOurs},
		{"class CH", mangled(good, headerSize+20, func(byte) byte { return 3 }), errNotOurs},
		{"two questions", reply(func(m *wire.Msg) { m.Question = append(m.Question, m.Question[0]) }), errNotOurs},
		{"no question in an answer", reply(func(m *wire.Msg) { m.Question = nil }), errNotOurs},
		{"no question in a denial", reply(func(m *wire.Msg) { m.Question = nil; m.Rcode = wire.RcodeNameError }), errNotOurs},
		{"no question in FORMERR", reply(func(m *wire.Msg) { m.Question = nil; m.Rcode = wire.RcodeFormatError }), nil},
		{"bytes after the end", append(slices.Clone(good), 0), errUnreadable},
		{"fewer records than announced", mangled(good, 9, func(byte) byte { return 1 }), errUnreadable},
		{"cut in a record", good[:len(good)-2], errUnreadable},
		{"cut, but TC says so", mangled(good[:len(good)-2], 2, func(b byte) byte { return b | 2 }), nil},
		{"two OPT records", reply(func(m *wire.Msg) { m.SetEdns0(512, false); m.SetEdns0(512, false) }), errUnreadable},
		{"an OPT with options without end", reply(func(m *wire.Msg) {
			m.SetEdns0(1232, false)
			for range maxEDNSOptions + 1 {
				m.IsEdns0().Option = append(m.IsEdns0().Option, &wire.EDNS0_PADDING{})
			}
		}), errUnreadable},
		{"a name that points at itself", raw(0xc0, headerSize+21, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 2, 3, 4), errUnreadable},
		{"a name that points forwards", raw(0xc0, 200, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 2, 3, 4), errUnreadable},
		{"a name in the header", raw(0xc0, 4, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 2, 3, 4), errUnreadable},
		{"a label type of old", raw(0x41, 0, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 2, 3, 4), errUnreadable},
		{"an A record without data", raw(0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 0), errUnreadable},
		{"an A record of three bytes", raw(0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 3, 1, 2, 3), errUnreadable},
		{"a CNAME whose target points at itself", raw(0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 2, 0xc0, headerSize+21+12), errUnreadable},
		{"a CNAME longer than its target", raw(0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 3, 0xc0, 12, 0), errUnreadable},
		{"a record of a type unknown to all, empty", raw(0xc0, 12, 0xff, 0, 0, 1, 0, 0, 0, 60, 0, 0), nil},
	} {
		msg, err := decode(tt.b, 7, a)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, %v; want %v", tt.why, msg, err, tt.want)
		}
	}
	// The upper bits of the Rcode are in the OPT record.
	m, err := decode(reply(func(m *wire.Msg) {
		m.SetEdns0(1232, false)
		m.Rcode = wire.RcodeBadVers
	}), 7, a)
	if err != nil || m.Rcode != wire.RcodeBadVers {
		t.Errorf("BADVERS: %v, %v", m, err)
	}
}

// A chain of pointers is bounded, and each leads backwards.
func TestPointerChain(t *testing.T) {
	b := make([]byte, headerSize, 1024)
	b = append(b, 0) // the root at 12
	for i := range maxPointers + 2 {
		at := headerSize + 1 + 2*(i-1)
		if i == 0 {
			at = headerSize
		}
		b = append(b, 0xc0|byte(at>>8), byte(at))
	}
	last := len(b) - 2
	if _, err := nameEnd(b, last-4); err != nil {
		t.Errorf("%d pointers: %v", maxPointers, err)
	}
	if _, err := nameEnd(b, last); !errors.Is(err, errUnreadable) {
		t.Errorf("%d pointers: %v", maxPointers+2, err)
	}
}

func TestTTLs(t *testing.T) {
	for _, tt := range []struct {
		wire uint32
		want time.Duration
	}{
		{0, 0},
		{60, time.Minute},
		{1<<31 - 1, (1<<31 - 1) * time.Second},
		{1 << 31, 0}, // RFC 2181 §8
		{1<<32 - 1, 0},
	} {
		if got := seconds(tt.wire); got != tt.want {
			t.Errorf("seconds(%d) = %s, want %s", tt.wire, got, tt.want)
		}
	}
	// One set has one TTL, the least; the records that came are not touched.
	m := &wire.Msg{Answer: records("www.example.com. 60 A 192.0.2.1", "www.example.com. 30 A 192.0.2.2", "WWW.example.com. 90 A 192.0.2.2")}
	m.Authoritative = true
	f, err := scrub(ask{name: dns.MustName("www.example.com"), typ: dns.TypeA}, dns.MustName("com"), m)
	if err != nil || len(f.pieces) != 1 || len(f.pieces[0].answer) != 2 || f.pieces[0].ttl != 30*time.Second {
		t.Fatalf("%+v, %v", f, err)
	}
	for _, rr := range f.pieces[0].answer {
		if rr.Header().Ttl != 30 {
			t.Errorf("%v", rr)
		}
	}
	if m.Answer[0].Header().Ttl != 60 {
		t.Error("scrub changed the message, which others share")
	}
}

func TestFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flights[string, int]{most: 6}
		runs := 0
		do := func(ctx context.Context, key string) (int, error) {
			return g.do(ctx, key, func() (int, error) {
				runs++
				n := runs
				select {
				case <-time.After(time.Second):
					return n, nil
				case <-ctx.Done():
					return 0, ctx.Err()
				}
			})
		}
		// All leave: the work is stopped, and the next one starts afresh at once.
		short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := do(short, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if n, err := do(t.Context(), "a"); n != 2 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		// Who does the work leaves, and at once: one of those who wait begins anew, for all of
		// them, and none of them is turned away for those who come after.
		runs = 0
		began := time.Now()
		soon, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := do(soon, "c"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 500*time.Millisecond {
				t.Errorf("%v after %s", err, time.Since(began))
			}
		})
		synctest.Wait()
		for range 5 {
			all.Go(func() {
				if n, err := do(t.Context(), "c"); n != 2 || err != nil || time.Since(began) != 1500*time.Millisecond {
					t.Errorf("%d, %v after %s", n, err, time.Since(began))
				}
			})
		}
		synctest.Wait()
		if _, err := do(t.Context(), "c"); err != errCrowded {
			t.Errorf("one more than may wait: %v", err)
		}
		all.Wait()
		if runs != 2 {
			t.Errorf("%d runs, want 2", runs)
		}
		if len(g.m) != 0 {
			t.Errorf("%d flights are left", len(g.m))
		}
	})
}

// Who has waited for a flight whose asker went away has a seat in the next, however many wait
// there already.
func TestFlightSeats(t *testing.T) {
	g := flights[string, int]{most: 1}
	if _, first := g.board("a", false); !first {
		t.Fatal("the first does not begin")
	}
	if f, _ := g.board("a", false); f != nil {
		t.Error("a newcomer has a seat beyond the most")
	}
	if f, first := g.board("a", true); f == nil || first {
		t.Error("who has waited has no seat")
	}
}

// The work has a limit of its own; to it, the end of its asker's time is none.
func TestFlightLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			asker, limit time.Duration
			want         error
		}{
			{time.Second, time.Minute, context.Canceled},
			{time.Minute, time.Second, context.DeadlineExceeded},
		} {
			r := &Resolver{Timeout: tt.limit}
			ctx, cancel := context.WithTimeout(t.Context(), tt.asker)
			_, _ = r.question(ctx, dns.Question{}, func(ctx context.Context, _ context.CancelFunc) (dns.Answer, error) {
				<-ctx.Done()
				if ctx.Err() != tt.want {
					t.Errorf("%s, %s: %v, want %v", tt.asker, tt.limit, ctx.Err(), tt.want)
				}
				return dns.Answer{}, ctx.Err()
			})
			cancel()
		}
	})
}

// How long a server is waited for follows what it did.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s servers
		at := candidateFor("192.0.2.1")
		for _, step := range []struct {
			why    string
			took   time.Duration // 0: it was silent
			within [2]time.Duration
		}{
			{"the first reply: half of it either way", 300 * time.Millisecond, [2]time.Duration{900 * time.Millisecond, 900 * time.Millisecond}},
			{"steady", 300 * time.Millisecond, [2]time.Duration{700 * time.Millisecond, 800 * time.Millisecond}},
			{"silence: as for an unknown one", 0, [2]time.Duration{packetTimeout, packetTimeout}},
			{"a quick one after that is taken at its word", 10 * time.Millisecond, [2]time.Duration{minPacketTimeout, minPacketTimeout}},
			{"slow by now", time.Second, [2]time.Duration{time.Second, packetTimeout}},
			{"more than there is", 10 * time.Second, [2]time.Duration{packetTimeout, packetTimeout}},
		} {
			if step.took == 0 {
				s.silent(at, dns.Root)
			} else {
				s.answered(at, step.took)
			}
			if got := s.patience(at); got < step.within[0] || got > step.within[1] {
				t.Errorf("%s: %s, want %s", step.why, got, step.within)
			}
		}
		if s.patience(candidateFor("192.0.2.2")) != packetTimeout {
			t.Error("an unknown server")
		}
	})
}

func TestServersBound(t *testing.T) {
	var s servers
	for i := range maxServers + 1000 {
		s.answered(candidateAt(i), time.Millisecond)
	}
	if len(s.m) > maxServers {
		t.Errorf("%d servers are remembered", len(s.m))
	}
	one := candidateAt(1)
	for i := range 10 * maxLameZones {
		s.lame(one, dns.MustName(fmt.Sprintf("z%d.example.com", i)))
	}
	if n := len(s.m[one].lame); n > maxLameZones {
		t.Errorf("%d lame zones are remembered for one server", n)
	}
}

// What ends work that waits is told once it has begun to wait, and may take its time: it holds up
// nobody else.
func TestHangup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h hangup
		if err := h.err(); err != nil {
			t.Error(err)
		}
		ended := make(chan string, 2)
		h.with(func() { ended <- "the first"; _ = h.err() })
		h.now()
		if got := <-ended; got != "the first" || h.err() == nil {
			t.Errorf("%s, %v", got, h.err())
		}
		h.with(func() { ended <- "the next" }) // it was ended before
		if got := <-ended; got != "the next" {
			t.Error(got)
		}
	})
}

// A question's own socket: connected, on a port of its own, waiting no longer than it may,
// and an empty datagram is one.
func TestOpenUDP(t *testing.T) {
	server, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	at := server.LocalAddr().(*net.UDPAddr).AddrPort()
	conn, err := new(udpSockets).open(netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 8)
	_, from, err := server.ReadFrom(buf)
	if err != nil || from.String() != conn.LocalAddr().String() || conn.RemoteAddr().String() != at.String() {
		t.Fatalf("from %v at %v, to %v, %v", from, conn.LocalAddr(), conn.RemoteAddr(), err)
	}
	for _, sent := range []string{"", "!"} {
		if _, err := server.WriteTo([]byte(sent), from); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(buf); err != nil || string(buf[:n]) != sent {
			t.Errorf("%q, %v", buf[:n], err)
		}
	}
	conn.SetDeadline(time.Now())
	if _, err := conn.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	server.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, err = conn.Write(buf)
	if err == nil {
		_, err = conn.Read(buf)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody is there: %v", err)
	}
}

// A resolver on the host's own link is found through the interface that its address names,
// which the dialer knows.
func TestLinkLocal(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	var dialled string
	r := &Resolver{ownSockets: true, Logger: slog.New(slog.DiscardHandler), Dial: func(_ context.Context, _, address string) (net.Conn, error) {
		dialled = address
		return ours, nil
	}}
	conn, err := r.dialUDP(wait{&hangup{}, time.Now().Add(time.Minute)}, packet{proto: "udp", server: netip.MustParseAddrPort("[fe80::1%eth0]:53")})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if dialled != "[fe80::1%eth0]:53" {
		t.Errorf("dialled %q", dialled)
	}
}
