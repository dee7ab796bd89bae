package tlsa

import (
	"context"
	"net/netip"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
	"mxward/internal/dns/dnstest"
	"mxward/internal/dns/resolver"
	"mxward/internal/dns/zone"
)

const digits = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

const signedText = `
@ 3600 SOA ns hostmaster 1 7200 900 1209600 900
@ 3600 NS ns
ns 3600 A 192.0.2.41
mx1 300 A 192.0.2.1
_25._tcp.mx1 300 TLSA 3 1 1 ` + digits + `
_465._tcp.mx1 300 TLSA 2 1 1 ` + digits + `
mx2 300 A 192.0.2.2
mx3 300 A 192.0.2.3
_25._tcp.mx3 300 TLSA 1 1 1 ` + digits + `
alias 300 CNAME mx1
own 300 CNAME mx2
_25._tcp.own 300 TLSA 3 1 1 ` + digits + `
bare 300 CNAME mx2
out 300 CNAME mx1.plain.test.
_25._tcp.out 300 TLSA 3 1 1 ` + digits + `
away 300 A 192.0.2.4
_25._tcp.away 300 CNAME _25._tcp.mx1.plain.test.
led 300 A 192.0.2.5
_25._tcp.led 300 CNAME _25._tcp.mx1
broken 300 A 192.0.2.6
_25._tcp.broken 300 TLSA 3 1 1 ` + digits + `
`

const plainText = `
@ 3600 SOA ns hostmaster 1 7200 900 1209600 900
@ 3600 NS ns
ns 3600 A 192.0.2.42
mx1 300 A 192.0.2.7
_25._tcp.mx1 300 TLSA 3 1 1 ` + digits + `
alias 300 CNAME mx1.signed.test.
`

// signedNet is a root, and below it signed.test, which is signed, and plain.test, which is not.
func signedNet(t *testing.T) *resolver.Resolver {
	t.Helper()
	keys := make([]*zone.Key, 2)
	for i := range keys {
		k, err := zone.SeededKey(zone.ECDSAP256SHA256, uint64(i+1))
		if err != nil {
			t.Fatal(err)
		}
		keys[i] = k
	}
	sign := func(name, text string, k *zone.Key) dns.Resolver {
		z, err := dnstest.Zone(t, name, text).Sign(zone.Signing{Keys: []*zone.Key{k}})
		if err != nil {
			t.Fatal(err)
		}
		return z
	}
	var n dnstest.Net
	n.Serve("192.0.2.53", sign(".", `
@ 86400 SOA ns hostmaster 1 7200 900 1209600 3600
@ 86400 NS a.root-servers.example.
a.root-servers.example. 86400 A 192.0.2.53
signed.test. 86400 NS ns.signed.test.
ns.signed.test. 86400 A 192.0.2.41
plain.test. 86400 NS ns.plain.test.
ns.plain.test. 86400 A 192.0.2.42
`+keys[1].DS(dns.MustName("signed.test"), 3600).String()+"\n", keys[0]))
	good := sign("signed.test", signedText, keys[1])
	n.Serve("192.0.2.41", dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
		if q.Name == dns.MustName("_25._tcp.broken.signed.test") {
			return dns.Answer{Rcode: dns.ServFail}, nil // a name server that does not know the type
		}
		return good.Resolve(ctx, q)
	}))
	n.Serve("192.0.2.42", dnstest.Zone(t, "plain.test", plainText))
	anchor, err := dnssec.AnchorOf(keys[0].DS(dns.Root, 3600))
	if err != nil {
		t.Fatal(err)
	}
	return &resolver.Resolver{
		Hints: []resolver.Hint{{Name: dns.MustName("a.root-servers.example"), Addr: netip.MustParseAddr("192.0.2.53")}},
		Dial:  n.Dial, TrustAnchors: []dnssec.Anchor{anchor},
	}
}

// Only what is validated counts, from the root down.
func TestLookup(t *testing.T) {
	r := signedNet(t)
	for _, row := range []struct {
		host  string
		port  uint16
		state State
		base  string
		duty  Duty
		why   string
	}{
		{"mx1.signed.test", 0, Secure, "mx1.signed.test", Authenticate, "records in a signed zone"},
		{"mx1.signed.test", 465, Secure, "mx1.signed.test", Authenticate, "of another port"},
		{"mx2.signed.test", 0, Denied, "mx2.signed.test", Opportunistic, "it is proved that there are none"},
		{"mx3.signed.test", 0, Secure, "mx3.signed.test", Encrypt, "none that can be used"},
		{"mx1.plain.test", 0, Insecure, "mx1.plain.test", Opportunistic, "a zone that is not signed: its records do not count"},
		{"alias.signed.test", 0, Secure, "mx1.signed.test", Authenticate, "those at the end of an alias come first (RFC 7672 §2.2.3)"},
		{"own.signed.test", 0, Secure, "own.signed.test", Authenticate, "then those of the alias"},
		{"bare.signed.test", 0, Denied, "bare.signed.test", Opportunistic, "neither has any"},
		{"out.signed.test", 0, Secure, "out.signed.test", Authenticate, "an alias that is signed, though its end is not"},
		{"alias.plain.test", 0, Insecure, "alias.plain.test", Opportunistic, "an alias that is not signed, though its end is"},
		{"away.signed.test", 0, Insecure, "away.signed.test", Opportunistic, "the TLSA name itself leads out of the signed zones"},
		{"led.signed.test", 0, Secure, "led.signed.test", Authenticate, "or to another host's records"},
		{"broken.signed.test", 0, Trouble, "broken.signed.test", Delay, "nobody can tell: mail waits"},
		{"gone.signed.test", 0, Denied, "gone.signed.test", Opportunistic, "there is no such host"},
	} {
		got := Lookup(t.Context(), r, dns.MustName(row.host), row.port)
		if got.State != row.state || got.Base != dns.MustName(row.base) || got.Duty() != row.duty || (got.Err != nil) != (row.state == Trouble) {
			t.Errorf("%s: %s: %s of %s, %s (%v)", row.why, row.host, got.State, got.Base, got.Duty(), got.Err)
		}
		if got.String() == "" || (len(got.Records) > 0) != (row.state == Secure) {
			t.Errorf("%s: %s: %d records, %q", row.why, row.host, len(got.Records), got)
		}
	}
}

// A resolver that validates nothing makes nothing secure, and trouble stays trouble.
func TestLookupWithoutValidation(t *testing.T) {
	z := dnstest.Zone(t, "signed.test", signedText)
	if got := Lookup(t.Context(), z, dns.MustName("mx1.signed.test"), 0); got.State != Insecure || got.Records != nil {
		t.Errorf("%+v", got)
	}
	none := dns.ResolverFunc(func(_ context.Context, q dns.Question) (dns.Answer, error) {
		return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.NoReply}
	})
	if got := Lookup(t.Context(), none, dns.MustName("mx1.signed.test"), 0); got.Duty() != Delay || dns.TroubleOf(got.Err) != dns.NoReply {
		t.Errorf("%+v", got)
	}
}
