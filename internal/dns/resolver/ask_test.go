package resolver

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

// Each row is a server in some state, and what it is heard to say by itself.
func TestAsk(t *testing.T) {
	for _, tt := range []struct {
		why     string
		how     dnstest.Behaviour
		network string
		trouble dns.Trouble // 0: it says something
		rcode   dns.Rcode
		check   func(dns.Said) bool
	}{
		{"it answers over UDP", dnstest.Honest, "udp", 0, dns.NoError, func(s dns.Said) bool { return s.Authoritative && s.EDNS && len(s.Answer.Answer) == 1 }},
		{"it answers over TCP", dnstest.Honest, "tcp", 0, dns.NoError, func(s dns.Said) bool { return s.Authoritative && len(s.Answer.Answer) == 1 }},
		{"what does not fit is said to", dnstest.Truncating, "udp", 0, dns.NoError, func(s dns.Said) bool { return s.Truncated }},
		{"without EDNS where it knows none", dnstest.NoEDNS, "udp", 0, dns.NoError, func(s dns.Said) bool { return !s.EDNS && len(s.Answer.Answer) == 1 }},
		{"SERVFAIL is something said", dnstest.Failing, "udp", 0, dns.ServFail, nil},
		{"REFUSED too", dnstest.Lame, "udp", 0, dns.Refused, nil},
		{"silence", dnstest.Silent, "udp", dns.NoReply, 0, nil},
		{"silence over TCP", dnstest.Silent, "tcp", dns.NoReply, 0, nil},
		{"a closed port", dnstest.Refusing, "tcp", dns.NoReply, 0, nil},
		{"bytes that are no DNS", dnstest.Garbage, "udp", dns.Malformed, 0, nil},
		{"no way there is our trouble", dnstest.NoRoute, "udp", dns.NoNetwork, 0, nil},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n dnstest.Net
				n.Set("192.0.2.53", dnstest.Host{Resolver: dnstest.Zone(t, "example.com", exampleZone), Behaviour: tt.how})
				r := &Resolver{Dial: n.Dial}
				said, err := r.Ask(t.Context(), netip.MustParseAddrPort("192.0.2.53:53"), tt.network, question("www.example.com A"))
				if dns.TroubleOf(err) != tt.trouble || (err == nil) != (tt.trouble == 0) || said.Rcode != tt.rcode {
					t.Fatalf("%+v, %v", said, err)
				}
				if tt.check != nil && !tt.check(said) {
					t.Errorf("%+v", said)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		var n dnstest.Net
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := (&Resolver{Dial: n.Dial}).Ask(ctx, netip.MustParseAddrPort("192.0.2.53:53"), "udp", question("www.example.com A"))
		if !errors.Is(err, context.DeadlineExceeded) || dns.TroubleOf(err) != 0 {
			t.Errorf("%v, want the context's error", err)
		}
	})
}

// A parent's server refers, with glue and DS.
func TestAskReferral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n dnstest.Net
		n.Serve("192.0.2.53", dnstest.Zone(t, "com", "@ 300 SOA ns hostmaster 1 7200 900 1209600 300\n@ 300 NS ns\nns 300 A 192.0.2.53\nexample 300 NS ns2.example\nexample 300 NS ns1.example\nns1.example 300 A 192.0.2.1\nns2.example 300 AAAA 2001:db8::2\n"))
		said, err := (&Resolver{Dial: n.Dial}).Ask(t.Context(), netip.MustParseAddrPort("192.0.2.53:53"), "udp", question("mail.example.com MX"))
		if err != nil {
			t.Fatal(err)
		}
		ref, ok := dns.ReadReferral(said.Answer, dns.MustName("mail.example.com"))
		if !ok || ref.Zone != dns.MustName("example.com") || len(ref.Servers) != 2 || ref.Servers[0] != dns.MustName("ns1.example.com") || len(ref.Glue) != 2 {
			t.Errorf("%+v, %v", ref, ok)
		}
		if _, ok := dns.ReadReferral(said.Answer, dns.MustName("example.org")); ok {
			t.Error("a referral to a zone that the name is not in is none")
		}
	})
}

// Each row is a referral that Ask was given, and whether the resolver goes by it.
func TestKeepReferrals(t *testing.T) {
	for _, tt := range []struct {
		why    string
		keep   bool
		server string
		q      dns.Question
		kept   bool
	}{
		{"from a known server of the zone above", true, comAddr, dns.Question{Name: dns.MustName("example.com"), Type: dns.TypeSOA, DNSSEC: true}, true},
		{"not unless it is wanted", false, comAddr, dns.Question{Name: dns.MustName("example.com"), Type: dns.TypeSOA, DNSSEC: true}, false},
		{"not from somebody else", true, "198.51.100.66", dns.Question{Name: dns.MustName("example.com"), Type: dns.TypeSOA, DNSSEC: true}, false},
		{"not without what it says of DS records", true, comAddr, dns.Question{Name: dns.MustName("example.com"), Type: dns.TypeSOA}, false},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := exampleWorld(t)
				w.Resolver.KeepReferrals = tt.keep
				w.zone("198.51.100.66", "com", "@ 86400 SOA ns hostmaster 1 7200 900 1209600 900\n@ 86400 NS ns\nns 86400 A 198.51.100.66\nexample 86400 NS ns.example\nns.example 86400 A 198.51.100.66\n")
				w.want("nobody.com A", dns.NXDomain) // com is known now
				if _, err := w.Resolver.Ask(t.Context(), netip.MustParseAddrPort(tt.server+":53"), "udp", tt.q); err != nil {
					t.Fatal(err)
				}
				d := w.Resolver.closest(w.Resolver.asks(question("www.example.com A"), false))
				if kept := d.zone == dns.MustName("example.com"); kept != tt.kept {
					t.Errorf("the closest zone is %s", d.zone)
				}
				w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
			})
		})
	}
}
