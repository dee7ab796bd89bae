package edge

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/reputation"
	"mxward/internal/site"
)

// segment gives a TCP header (RFC 9293 §3.1) to port 25.
func segment(flags byte, words int) []byte {
	s := make([]byte, max(words*4, tcpHeader))
	s[0], s[1] = 0x9c, 0x40
	s[tcpDestination+1] = 25
	s[tcpDataOffset] = byte(words) << 4
	s[tcpFlags] = flags
	return s
}

func TestFirstSYN(t *testing.T) {
	tests := []struct {
		name    string
		segment []byte
		want    bool
	}{
		{"SYN", segment(tcpSYN, 5), true},
		{"SYN with options", segment(tcpSYN, 10), true},
		{"SYN with ECN", segment(tcpSYN|0xc0, 5), true}, // the two flags above ask for ECN
		// The peer's answer to our own connection, and what comes later in one.
		{"SYN and ACK", segment(tcpSYN|tcpACK, 5), false},
		{"ACK", segment(tcpACK, 5), false},
		{"RST", segment(tcpRST|tcpACK, 5), false},
		// What no client's kernel sends.
		{"SYN and FIN", segment(tcpSYN|tcpFIN, 5), false},
		{"SYN and RST", segment(tcpSYN|tcpRST, 5), false},
		{"nothing", segment(0, 5), false},
		// Lengths that lie.
		{"short offset", segment(tcpSYN, 4), false},
		{"long offset", segment(tcpSYN, 15)[:40], false},
		{"cut", segment(tcpSYN, 5)[:19], false},
		{"empty", nil, false},
	}
	for _, tt := range tests {
		port, ok := firstSYN(tt.segment)
		if ok != tt.want || ok && port != 25 {
			t.Errorf("%s: %d, %v; want %v", tt.name, port, ok, tt.want)
		}
	}
}

func FuzzFirstSYN(f *testing.F) {
	f.Add(segment(tcpSYN, 5))
	f.Add(segment(tcpSYN|tcpACK, 15))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, s []byte) {
		if _, ok := firstSYN(s); ok && (len(s) < tcpHeader || s[tcpFlags]&tcpFirst != tcpSYN) {
			t.Errorf("%x is taken for a SYN", s)
		}
	})
}

// A flood of SYNs, with forged sources, costs bounded memory and bounded records.
func TestKnocksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k knocks
		client := netip.MustParseAddr("10.0.0.0")
		noted := 0
		for range 4 * maxKnocks {
			client = client.Next()
			for range 3 { // each tries again and again
				if k.note(client, time.Now()) {
					noted++
				}
			}
		}
		if noted != maxKnocks || len(k.clients) != maxKnocks {
			t.Errorf("%d noted, %d remembered, want %d", noted, len(k.clients), maxKnocks)
		}
		time.Sleep(knockWindow)
		if !k.note(client, time.Now()) {
			t.Error("the next window notes nothing")
		}
	})
}

func TestWatchAddresses(t *testing.T) {
	g, _, _ := newGate(t)
	w := g.Watch(dns.MustName("mx1.example.com"))
	if len(w.Addresses) != 1 || w.Addresses[0] != netip.MustParseAddrPort("192.0.2.1:25") {
		t.Errorf("watches %v, want its address and SMTP's port", w.Addresses)
	}
	g.Plan.Hosts[0].Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:2525")}
	if w := g.Watch(dns.MustName("mx1.example.com")); len(w.Addresses) != 1 || w.Addresses[0] != g.Plan.Hosts[0].Listen[0] {
		t.Errorf("watches %v, want where it would listen", w.Addresses)
	}
}

// TestWatch knocks for real at ports where nobody listens.
func TestWatch(t *testing.T) {
	for _, loopback := range []string{"127.0.0.1", "::1"} {
		t.Run(loopback, func(t *testing.T) { watchLoopback(t, netip.MustParseAddr(loopback)) })
	}
}

func watchLoopback(t *testing.T, loopback netip.Addr) {
	at, other := freePort(t, loopback), freePort(t, loopback)
	conn, err := listenRaw(at)
	if errors.Is(err, fs.ErrPermission) {
		t.Skip("left out: raw sockets need root or CAP_NET_RAW")
	}
	if err != nil {
		t.Skipf("left out: %v", err)
	}
	conn.Close()

	g, m, _ := newGate(t)
	g.Plan.Hosts = append(g.Plan.Hosts, site.Host{Name: dns.MustName("decoy.example.com"), Addresses: []netip.Addr{loopback}})
	w := g.Watch(dns.MustName("decoy.example.com"))
	w.Addresses = []netip.AddrPort{at}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	var seen atomic.Int32
	record := w.record
	w.record = func(c reputation.Contact) { record(c); seen.Add(1) }
	go func() { ended <- w.Run(ctx) }()

	deadline := time.Now().Add(10 * time.Second)
	for seen.Load() == 0 && time.Now().Before(deadline) {
		knockAt(t, other) // another port is no knock
		knockAt(t, at)
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if len(m.contacts) != 1 { // however often the same client knocked
		t.Fatalf("%d contacts, want 1: %+v", len(m.contacts), m.contacts)
	}
	c := m.contacts[0]
	if c.Client != loopback || c.Host != w.Host || c.Stage != mail.StageConnect || c.Session != "" || time.Since(c.When) > time.Minute {
		t.Errorf("recorded %+v", c)
	}
}

// The kernel keeps back what is no first SYN to the port, so that a busy address costs little.
func TestKernelFilter(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("left out: needs Linux's socket filters")
	}
	for _, loopback := range []string{"127.0.0.1", "::1"} {
		a := netip.MustParseAddr(loopback)
		at, other := freePort(t, a), freePort(t, a)
		conn, err := listenRaw(at)
		if err != nil {
			t.Skipf("left out: raw sockets need root or CAP_NET_RAW: %v", err)
		}
		defer conn.Close()
		buf := make([]byte, maxSegment)
		conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		for err == nil { // what others sent before the filter was in place
			_, _, err = conn.ReadFromIP(buf)
		}
		knockAt(t, other)
		knockAt(t, at)
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, _, err := conn.ReadFromIP(buf)
		if err != nil {
			t.Fatal(err)
		}
		if port, ok := firstSYN(buf[:n]); !ok || port != at.Port() {
			t.Errorf("%s: the first segment that came is %x, want a SYN to %s", loopback, buf[:n], at)
		}
	}
}

func freePort(t *testing.T, a netip.Addr) netip.AddrPort {
	t.Helper()
	ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err != nil {
		t.Skipf("left out: no %s here: %v", a, err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

func knockAt(t *testing.T, at netip.AddrPort) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", at.String(), time.Second)
	if err == nil {
		conn.Close()
		t.Errorf("somebody listens at %s", at)
	}
}

// Where a decoy cannot be watched the log says so, once if the reason is a missing right,
// and Run waits for its end like any service.
func TestUnwatched(t *testing.T) {
	var log strings.Builder
	g, _, _ := newGate(t)
	g.Logger = slog.New(slog.NewTextHandler(&log, nil))
	w := g.Watch(dns.MustName("mx1.example.com")) // 192.0.2.1 is nobody's address
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := w.Run(ctx); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "watched"); n != 1 {
		t.Errorf("%d lines, want 1:\n%s", n, log.String())
	}
	log.Reset()
	denied := &events{logger: g.Logger}
	for range 3 {
		denied.unwatched(w.Host, w.Addresses[0], fs.ErrPermission)
	}
	if !strings.Contains(log.String(), "CAP_NET_RAW") || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("want one line that names the right:\n%s", log.String())
	}
}

// A segment that makes the watcher panic costs that segment.
func TestSawSurvives(t *testing.T) {
	g, _, log := newGate(t)
	w := g.Watch(dns.MustName("mx1.example.com"))
	w.record = func(reputation.Contact) { panic("oh") }
	var seen knocks
	w.saw(segment(tcpSYN, 5), &net.IPAddr{IP: net.IPv4(192, 0, 2, 7)}, 25, &seen)
	if !strings.Contains(log.String(), "msg=panic") {
		t.Errorf("nothing in the log:\n%s", log)
	}
}
