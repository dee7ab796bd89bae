package resolver

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"mxward/internal/dns"
)

// A stranger's name that leads into a private network is cut short, if that is wanted; a
// block list's answers and the zones that are meant to are not.
func TestRebindProtection(t *testing.T) {
	const zone = soa + `
@ NS ns1
ns1 A 192.0.2.11
pub A 192.0.2.80
ten A 10.1.2.3
mixed A 192.0.2.80
mixed A 192.168.0.1
local A 169.254.1.1
zero A 0.0.0.0
listed A 127.0.0.2
ula AAAA fd00::1
six AAAA ::1
alias CNAME ten
ten.corp A 10.1.2.3
inner NS ns.inner
ns.inner A 10.0.0.53
`
	for _, tt := range []struct {
		question string
		on, off  []string
	}{
		{"pub.example.com A", []string{"A 192.0.2.80"}, []string{"A 192.0.2.80"}},
		{"ten.example.com A", nil, []string{"A 10.1.2.3"}},
		{"mixed.example.com A", []string{"A 192.0.2.80"}, []string{"A 192.0.2.80", "A 192.168.0.1"}},
		{"local.example.com A", nil, []string{"A 169.254.1.1"}},
		{"zero.example.com A", nil, []string{"A 0.0.0.0"}},
		{"listed.example.com A", []string{"A 127.0.0.2"}, []string{"A 127.0.0.2"}},
		{"ula.example.com AAAA", nil, []string{"AAAA fd00::1"}},
		{"six.example.com AAAA", nil, []string{"AAAA ::1"}},
		{"alias.example.com A", []string{"CNAME ten.example.com."}, []string{"CNAME ten.example.com.", "A 10.1.2.3"}},
		{"ten.corp.example.com A", []string{"A 10.1.2.3"}, []string{"A 10.1.2.3"}}, // exempt
		{"ten.bl.example A", []string{"A 10.1.2.3"}, []string{"A 10.1.2.3"}},       // a stub zone
	} {
		for _, on := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "example NS ns1.example\nns1.example A 192.0.2.11\n", "", "")
				w.zone("192.0.2.11", "example.com", zone)
				w.zone("10.9.9.9", "bl.example", soa+"@ NS ns\nns A 10.9.9.9\nten A 10.1.2.3\n")
				w.Resolver.Stubs = []Stub{{dns.MustName("bl.example"), []netip.AddrPort{netip.MustParseAddrPort("10.9.9.9:53")}}}
				w.Resolver.RebindProtection = on
				w.Resolver.PrivateZones = []dns.Name{dns.MustName("corp.example.com")}
				want := tt.off
				if on {
					want = tt.on
				}
				for range 2 { // from the zone, and from the cache
					answer := w.want(tt.question, dns.NoError, want...)
					if len(want) == 0 && len(answer.Authority) != 1 {
						t.Errorf("%s: authority %v", tt.question, answer.Authority)
					}
				}
				if n := w.Resolver.Stats().Rebinds; (n > 0) != (on && len(tt.on) < len(tt.off)) {
					t.Errorf("%s: %d answers counted", tt.question, n)
				}
			})
		}
	}
	r := &Resolver{RebindProtection: true}
	if !r.rebinds(dns.MustName("example.com"), addr("::ffff:10.0.0.1")) {
		t.Error("an IPv4 address in IPv6 clothes passes")
	}
	// A delegation into the private network is not followed.
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "example NS ns1.example\nns1.example A 192.0.2.11\n", "", "")
		w.zone("192.0.2.11", "example.com", zone)
		w.zone("10.0.0.53", "inner.example.com", soa+"@ NS ns\nns A 10.0.0.53\nwww A 192.0.2.80\n")
		w.Resolver.RebindProtection = true
		w.wantTrouble("www.inner.example.com A", dns.BrokenDelegation)
		if n := len(w.Asked("10.0.0.53")); n != 0 {
			t.Errorf("%d packets into the private network", n)
		}
	})
}
