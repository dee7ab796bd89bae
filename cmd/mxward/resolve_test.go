package main

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/dns/health"
	"mxward/internal/dns/resolver"
	"mxward/internal/dns/server"
)

// serveWorld runs a resolver that knows what --health asks for; public is how block lists
// see it.
func serveWorld(t *testing.T, public bool) string {
	t.Helper()
	code := "127.0.0.2"
	if public {
		code = "127.255.255.254"
	}
	zones := map[dns.Name]dns.Resolver{
		dns.Root: dnstest.Zone(t, ".", "@ 300 SOA ns hostmaster 1 3600 900 604800 300\n@ 300 NS ns\nns 300 A 192.0.2.53\n"),
	}
	questions := health.Standard()
	const top = "@ 300 SOA ns hostmaster 1 3600 900 604800 300\n@ 300 NS ns\nns 300 A 192.0.2.53\n"
	for _, q := range append(questions.Names, questions.Signed) {
		zones[q.Name] = dnstest.Zone(t, q.Name.String(), top+"@ 300 MX 10 mx\n")
	}
	for _, list := range questions.Lists {
		zones[list.Zone] = dnstest.Zone(t, list.Zone.String(), top+"2.0.0.127 300 A "+code+"\n")
	}
	for range 20 { // until a port is free for both
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", pc.LocalAddr().String())
		if err != nil {
			pc.Close()
			continue
		}
		s := &server.Server{Resolver: &dns.Mux{Zones: zones}, Recursion: true}
		go s.ServeUDP(pc)
		go s.ServeTCP(ln)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			s.Shutdown(ctx)
		})
		return pc.LocalAddr().String()
	}
	t.Fatal("no port is free for UDP and TCP")
	return ""
}

// A trace leads from the root to the answer, the look-up of a name server's address
// indented, and what was cached is said to be.
func TestTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const soa = "@ 300 SOA ns hostmaster 1 3600 900 604800 300\n@ 300 NS ns\n"
		var n dnstest.Net
		n.Serve("192.0.2.1", dnstest.Zone(t, ".", soa+"ns 300 A 192.0.2.1\ncom 300 NS ns.com\nns.com 300 A 192.0.2.2\n"))
		n.Serve("192.0.2.2", dnstest.Zone(t, "com", soa+"ns 300 A 192.0.2.2\nexample 300 NS ns.other\nother 300 NS ns.other\nns.other 300 A 192.0.2.3\n"))
		n.Serve("192.0.2.3", &dns.Mux{Zones: map[dns.Name]dns.Resolver{
			dns.MustName("example.com"): dnstest.Zone(t, "example.com", "@ 300 SOA ns hostmaster 1 3600 900 604800 300\n@ 300 NS ns.other.com.\n@ 300 MX 10 mx1\n"),
			dns.MustName("other.com"):   dnstest.Zone(t, "other.com", soa+"ns 300 A 192.0.2.3\n"),
		}})
		var steps stepList
		r := &resolver.Resolver{
			Hints: []resolver.Hint{{Name: dns.MustName("ns"), Addr: netip.MustParseAddr("192.0.2.1")}},
			Dial:  n.Dial, Trace: steps.add,
		}
		ask := func(name string) string {
			q := dns.Question{Name: dns.MustName(name), Type: dns.TypeMX}
			answer, err := r.Resolve(t.Context(), q)
			doc := newResolveDocument(q, answer, err, 0, steps.all())
			var out bytes.Buffer
			doc.print(&out, answer)
			return out.String()
		}
		for _, want := range []string{
			`(?m)^;; \. +ns 192\.0\.2\.1:53 udp .*refers to com`,
			`(?m)^;; com +ns\.com 192\.0\.2\.2:53 udp .*refers to example\.com`,
			`(?m)^;; example\.com +ns\.other\.com 192\.0\.2\.3:53 udp .*1 record`,
			`(?m)^example\.com\.\t300\tIN\tMX\t10 mx1\.example\.com\.$`,
			`status: NOERROR; flags: none; time: 0\.0 ms`,
		} {
			if got := ask("example.com"); !regexp.MustCompile(want).MatchString(got) {
				t.Errorf("no %s in\n%s", want, got)
			}
		}
		if got := ask("example.com"); !regexp.MustCompile(`(?m)^;; - +- +example\.com MX +- +1 record +cache`).MatchString(got) {
			t.Errorf("the cache is not named in\n%s", got)
		}
		n.Set("192.0.2.3", dnstest.Host{Behaviour: dnstest.Silent})
		r.Flush(dns.Root)
		got := ask("example.com")
		for _, want := range []string{"no answer could be had: no reply", "whose trouble: the servers'", "tried ns.other.com 192.0.2.3:53 over udp: no reply after 1500 ms"} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in\n%s", want, got)
			}
		}
	})
}
