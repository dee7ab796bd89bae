package app

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/site"
)

// A plan's own zones, stubs, forwards and local data are what its resolver answers from.
func TestNewResolver(t *testing.T) {
	const soa = "@ 300 SOA ns hostmaster 1 3600 900 604800 300\n@ 300 NS ns\nns 300 A 192.0.2.53\n"
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "own.zone"), []byte(soa+"www 300 A 192.0.2.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "mxward.toml")
	if err := os.WriteFile(file, []byte(`
[site]
name  = "mx1.example.com"
store = "sqlite:mxward.db"
[[dns.zone]]
name = "example.com"
file = "own.zone"
[resolver]
listen = ["127.0.0.1:53"]
[[resolver.stub]]
name    = "bl.example.net"
servers = ["127.0.0.1:5353"]
[[resolver.forward]]
name    = "."
servers = ["192.0.2.53"]
[[resolver.local]]
name      = "db.example.org"
addresses = ["192.0.2.4", "2001:db8::4"]
records   = ["TXT here"]
`), 0o644); err != nil {
		t.Fatal(err)
	}
	plan, err := site.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewResolver(plan)
	if err != nil {
		t.Fatal(err)
	}
	var net dnstest.Net
	net.Serve("127.0.0.1", dnstest.Zone(t, "bl.example.net", soa+"2.0.0.127 300 A 127.0.0.2\n"))
	net.Set("192.0.2.53", dnstest.Host{Recursion: true, Resolver: dnstest.Zone(t, "example.org", soa+"www 300 A 192.0.2.3\n")})
	r.Iterative.Dial = onPort(t, net.Dial, "127.0.0.1:5353", "192.0.2.53:53")
	for name, want := range map[string]string{
		"www.example.com":          "192.0.2.1",
		"2.0.0.127.bl.example.net": "127.0.0.2",
		"www.example.org":          "192.0.2.3",
		"db.example.org":           "2001:db8::4 192.0.2.4",
	} {
		set, err := dns.LookupAddrs(t.Context(), r, dns.MustName(name))
		if got := texts(set.Records); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", name, got, err, want)
		}
	}
	if set, err := dns.LookupTXT(t.Context(), r, dns.MustName("db.example.org")); err != nil || len(set.Records) != 1 || set.Records[0] != "here" {
		t.Errorf("local TXT: %v, %v", set, err)
	}
}

// onPort lets only these sockets be asked.
func onPort(t *testing.T, dial func(context.Context, string, string) (net.Conn, error), allowed ...string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if !strings.Contains(strings.Join(allowed, " "), address) {
			t.Errorf("%s was asked", address)
		}
		return dial(ctx, network, address)
	}
}

func texts(addrs []netip.Addr) string {
	all := make([]string, len(addrs))
	for i, a := range addrs {
		all[i] = a.String()
	}
	return strings.Join(all, " ")
}
