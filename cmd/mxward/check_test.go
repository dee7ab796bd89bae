package main

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"

	"mxward/internal/audit"
	"mxward/internal/audit/render"
	"mxward/internal/audit/tape"
	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/dns/resolver"
)

// TestCheckJSON: the document is the one that was promised, key by key. UPDATE=1 writes it anew,
// and the recording from which script/check-tape.txtar wants the same document.
func TestCheckJSON(t *testing.T) {
	const file = "testdata/check.golden.json"
	var got, recorded bytes.Buffer
	synctest.Test(t, func(t *testing.T) { // whose clock is always the same
		var n dnstest.Net
		n.Serve("192.0.2.1", dnstest.Zone(t, ".", "@ 300 SOA ns.root.example. hostmaster.root.example. 1 2 3 4 5\n@ 300 NS ns.root.example.\nns.root.example. 300 A 192.0.2.1\ncom. 300 NS ns.com.\nns.com. 300 A 192.0.2.2\n"))
		n.Serve("192.0.2.2", dnstest.Zone(t, "com", `
@   300 SOA ns hostmaster 1 2 3 4 5
@   300 NS ns
ns  300 A 192.0.2.2
example 300 NS ns1.example
ns1.example 300 A 192.0.2.53
`))
		n.Serve("192.0.2.53", dnstest.Zone(t, "example.com", `
@   300 SOA ns1 hostmaster 1 2 3 4 5
@   300 NS ns1
ns1 300 A 192.0.2.53
@   300 MX 10 mail
mail 300 CNAME ns1
@   300 TXT "v=spf1 mx -all"
`))
		own := func() *resolver.Resolver {
			return &resolver.Resolver{Hints: []resolver.Hint{{Name: dns.MustName("ns.root.example"), Addr: netip.MustParseAddr("192.0.2.1")}}, Dial: n.Dial}
		}
		a := &audit.Auditor{Resolver: own(), Asker: own(), Roots: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53")}}
		f := checkFlags{failOn: "error", profile: "mail", only: []string{"mx.cname", "mx.null", "dkim.no-selector-known", "mtasts.cert"}}
		if err := f.choose(); err != nil {
			t.Fatal(err)
		}
		domain := dns.MustName("example.com")
		var err error
		if f.recorder, err = tape.Record(&recorded, a, []dns.Name{domain}, "test"); err != nil {
			t.Fatal(err)
		}
		report := f.look(t.Context(), a, domain)
		report.Profile = f.profile
		if err := render.JSON(&got, report, false); err != nil {
			t.Fatal(err)
		}
	})
	if os.Getenv("UPDATE") != "" {
		if err := errors.Join(os.WriteFile(file, got.Bytes(), 0o644), os.WriteFile("testdata/check.tape", recorded.Bytes(), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the document has changed:\n%s", got.Bytes())
	}
}
