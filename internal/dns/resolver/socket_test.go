package resolver

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/dns/server"
)

// loopback is an internet on 127.53.0.0/24, all of it on one port.
type loopback struct {
	t    *testing.T
	port string
}

func newLoopback(t *testing.T) *loopback {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.53.0.1:0")
	if err != nil {
		t.Skipf("left out: needs loopback addresses beyond 127.0.0.1: %v", err)
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return &loopback{t, port}
}

// serve runs a real server on an address.
func (l *loopback) serve(addr string, r dns.Resolver, recursion bool) {
	l.t.Helper()
	at := net.JoinHostPort(addr, l.port)
	pc, err := net.ListenPacket("udp4", at)
	if err != nil {
		l.t.Fatal(err)
	}
	ln, err := net.Listen("tcp4", at)
	if err != nil {
		l.t.Fatal(err)
	}
	s := &server.Server{Resolver: r, Recursion: recursion}
	go s.ServeUDP(pc)
	go s.ServeTCP(ln)
	l.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			l.t.Error(err)
		}
	})
}

// dial reaches port 53 of the loopback internet on the port where it really is.
func (l *loopback) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	return d.DialContext(ctx, network, net.JoinHostPort(host, l.port))
}

// build serves a root, com and org, and zones with what mail asks for and what goes wrong.
func (l *loopback) build() *Resolver {
	zone := func(addr, origin, text string) {
		l.serve(addr, dnstest.Zone(l.t, origin, "$TTL 300\n"+text), false)
	}
	zone("127.53.0.1", ".", `
@ SOA ns hostmaster 1 7200 900 1209600 300
@ NS a.root-servers.example.
a.root-servers.example. A 127.53.0.1
com. NS ns.com.
ns.com. A 127.53.0.2
org. NS ns.org.
ns.org. A 127.53.0.3
`)
	const apex = "@ SOA ns hostmaster 1 7200 900 1209600 300\n"
	zone("127.53.0.2", "com", apex+`
@ NS ns
ns A 127.53.0.2
example NS ns1.example
example NS ns2.example
ns1.example A 127.53.0.4
ns2.example A 127.53.0.5
dark NS ns.dark
ns.dark A 127.53.0.99
lame NS ns1.example
glueless NS ns.example.org.
noaddress NS gone.org.
`)
	zone("127.53.0.3", "org", apex+"@ NS ns\nns A 127.53.0.3\nexample NS ns.example\nns.example A 127.53.0.6\n")
	var big strings.Builder
	for i := range 60 {
		fmt.Fprintf(&big, "big TXT \"%d %s\"\n", i, strings.Repeat("x", 100))
	}
	example := apex + `
@ NS ns1
@ NS ns2
@ MX 10 mx1
@ MX 20 mx2.example.org.
@ TXT "v=spf1 mx -all"
ns1 A 127.53.0.4
ns2 A 127.53.0.5
mx1 A 192.0.2.1
mx1 AAAA 2001:db8::1
www CNAME mx1
there CNAME mx2.example.org.
nowhere CNAME gone.example.org.
gone CNAME not.there
loop1 CNAME loop2
loop2 CNAME loop1
long CNAME www
*.wild A 192.0.2.7
*.alias CNAME www
a.b.c TXT "below empty non-terminals"
old DNAME new.example.org.
` + big.String()
	zone("127.53.0.4", "example.com", example)
	zone("127.53.0.5", "example.com", example)
	l.serve("127.53.0.6", &dns.Mux{Zones: map[dns.Name]dns.Resolver{
		dns.MustName("example.org"): dnstest.Zone(l.t, "example.org", "$TTL 300\n"+apex+
			"@ NS ns\nns A 127.53.0.6\nmx2 A 192.0.2.2\nwww.new A 192.0.2.3\n"),
		dns.MustName("glueless.com"): dnstest.Zone(l.t, "glueless.com", "$TTL 300\n"+apex+"@ NS ns.example.org.\nwww A 192.0.2.4\n@ MX 0 .\n"),
	}}, false)
	return &Resolver{
		Hints:         []Hint{{dns.MustName("a.root-servers.example"), netip.MustParseAddr("127.53.0.1")}},
		Dial:          l.dial,
		AllowLoopback: true,
	}
}

// The whole way over real sockets: referrals, a TXT set that needs TCP, a closed port.
func TestSockets(t *testing.T) {
	l := newLoopback(t)
	r := l.build()
	ctx := t.Context()
	mx, err := dns.LookupMX(ctx, r, dns.MustName("example.com"))
	if err != nil || len(mx.Records) != 2 || mx.Records[1].Host != dns.MustName("mx2.example.org") {
		t.Errorf("%+v, %v", mx, err)
	}
	txt, err := dns.LookupTXT(ctx, r, dns.MustName("big.example.com"))
	if err != nil || len(txt.Records) != 60 {
		t.Errorf("%d records over TCP, %v", len(txt.Records), err)
	}
	addrs, err := dns.LookupAddrs(ctx, r, dns.MustName("www.glueless.com"))
	if err != nil || len(addrs.Records) != 1 {
		t.Errorf("%+v, %v", addrs, err)
	}
	_, err = dns.LookupAddrs(ctx, r, dns.MustName("www.dark.com"))
	if dns.TroubleOf(err) != dns.NoReply || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("a closed port: %v", err)
	}
	r = &Resolver{Hints: r.Hints, Dial: l.dial} // without AllowLoopback
	if _, err := dns.LookupMX(ctx, r, dns.MustName("example.com")); dns.TroubleOf(err) != dns.BrokenDelegation {
		t.Errorf("delegations into loopback without leave: %v", err)
	}
}

// BIND, with the same root, answers as we do.
func TestAgainstBIND(t *testing.T) {
	named, err := exec.LookPath("named")
	if err != nil {
		t.Skip("left out: needs Debian's bind9 (apt-get install bind9)")
	}
	l := newLoopback(t)
	r := l.build()
	theirs := l.startBIND(named)
	names := []string{
		"example.com", "ns1.example.com", "mx1.example.com", "www.example.com", "there.example.com", "nowhere.example.com",
		"gone.example.com", "x.wild.example.com", "x.y.wild.example.com", "wild.example.com", "x.alias.example.com", "b.c.example.com",
		"a.b.c.example.com", "none.example.com", "www.old.example.com", "old.example.com", "big.example.com", "lame.com", "www.lame.com",
		"glueless.com", "www.glueless.com", "www.dark.com", "www.noaddress.com", "example.org", "mx2.example.org", "com", "none", "example.none",
	}
	for _, name := range names {
		for _, typ := range []string{"A", "AAAA", "MX", "TXT", "NS", "CNAME", "SOA", "PTR"} {
			q := question(name + " " + typ)
			ours, err := r.Resolve(t.Context(), q)
			got := fmt.Sprint(ours.Rcode, short(ours.Answer))
			if err != nil {
				got = "SERVFAIL []"
			}
			if want := bindSays(t, theirs, q); got != want {
				t.Errorf("%s: ours %s (%v), BIND's %s", q, got, err, want)
			}
		}
	}
}

// startBIND runs named as a resolver on a port of its own. Its option port is also the port
// that it asks name servers on.
func (l *loopback) startBIND(named string) string {
	l.t.Helper()
	var log string
	for range 3 { // somebody may take the port before BIND does
		at, text := l.tryBIND(named)
		if at != "" {
			return at
		}
		log = text
	}
	l.t.Fatalf("named does not answer:\n%s", log)
	return ""
}

func (l *loopback) tryBIND(named string) (at, logged string) {
	l.t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		l.t.Fatal(err)
	}
	listen := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	dir := l.t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			l.t.Fatal(err)
		}
		return path
	}
	hints := write("root.hints", ". 3600 NS a.root-servers.example.\na.root-servers.example. 3600 A 127.53.0.1\n")
	conf := write("named.conf", fmt.Sprintf(`
options {
	directory %q; pid-file none; session-keyfile none; port %s;
	listen-on port %d { 127.0.0.1; }; listen-on-v6 { none; };
	query-source address 127.0.0.1; recursion yes; dnssec-validation no; empty-zones-enable no;
	notify no; minimal-responses yes; qname-minimization off;
};
controls { };
zone "." { type hint; file %q; };
`, dir, l.port, listen, hints))
	log, err := os.Create(filepath.Join(dir, "named.log"))
	if err != nil {
		l.t.Fatal(err)
	}
	cmd := exec.Command(named, "-g", "-4", "-n", "1", "-c", conf)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		log.Close()
	})
	at = fmt.Sprintf("127.0.0.1:%d", listen)
	for range 100 {
		if _, err := exchangeWith(at, question(". NS")); err == nil {
			return at, ""
		}
		time.Sleep(100 * time.Millisecond)
	}
	text, err := os.ReadFile(log.Name())
	if err != nil {
		l.t.Fatal(err)
	}
	return "", string(text)
}

func exchangeWith(at string, q dns.Question) (*wire.Msg, error) {
	m := new(wire.Msg).SetQuestion(q.Name.FQDN(), uint16(q.Type))
	c := wire.Client{Net: "tcp", Timeout: 15 * time.Second}
	reply, _, err := c.Exchange(m, at)
	return reply, err
}

func bindSays(t *testing.T, at string, q dns.Question) string {
	t.Helper()
	reply, err := exchangeWith(at, q)
	if err != nil {
		t.Fatalf("%s: ask BIND: %v", q, err)
	}
	answers := slices.DeleteFunc(reply.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == wire.TypeOPT })
	return fmt.Sprint(dns.Rcode(reply.Rcode), short(answers))
}
