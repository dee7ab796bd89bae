package resolver

import (
	"testing"
	"testing/synctest"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
	"mxward/internal/dns/zone"
)

// TestDNAMERoot: a DNAME may lead to the root, and stand there.
func TestDNAMERoot(t *testing.T) {
	for _, tt := range []struct{ zone, name, owner, target, want string }{
		{"example.com", "mx.net.x.example.com", "x.example.com", ".", "mx.net"},
		{".", "mx.example.com", ".", "example.net", "mx.example.com.example.net"},
		{"example.com", `a\.b.x.example.com`, "x.example.com", "example.net", `a\.b.example.net`},
	} {
		m := &wire.Msg{Answer: []dns.RR{&wire.DNAME{
			Hdr: wire.RR_Header{Name: dns.MustName(tt.owner).FQDN(), Rrtype: wire.TypeDNAME, Class: wire.ClassINET, Ttl: 300}, Target: dns.MustName(tt.target).FQDN(),
		}}}
		m.Authoritative = true
		found, err := scrub(ask{name: dns.MustName(tt.name), typ: dns.TypeA}, dns.MustName(tt.zone), m)
		if err != nil || len(found.pieces) == 0 || found.pieces[0].target != dns.MustName(tt.want) {
			t.Errorf("%s: %+v, %v", tt.name, found, err)
		}
	}
}

// TestWithoutSOA: an NXDOMAIN without an SOA is believed and not kept; with the SOA of
// another zone it is nobody's word, and never a name that is not there.
func TestWithoutSOA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "", "", "")
		var authority []dns.RR
		w.script(comAddr, func(dns.Question) dns.Answer {
			return dns.Answer{Authoritative: true, Rcode: dns.NXDomain, Authority: authority}
		})
		w.want("gone.com MX", dns.NXDomain)
		before := w.Total()
		w.want("gone.com MX", dns.NXDomain)
		if w.Total() == before {
			t.Error("it was kept")
		}
		authority = records("example.net. 300 SOA ns hostmaster 1 7200 900 1209600 300")
		w.wantTrouble("other.com MX", dns.Lame)
	})
}

// TestWhyInsecure: what is signed in vain says why, again from the cache.
func TestWhyInsecure(t *testing.T) {
	for why, tt := range map[string]struct {
		code uint16
		turn func(s *signedWorld)
	}{
		"the algorithm": {dnssec.CodeUnsupportedAlgorithm, func(s *signedWorld) { s.text["org"] = signedOrg + "example 3600 DS 1 5 2 " + zeros + "\n" }},
		"the digest":    {dnssec.CodeUnsupportedDigest, func(s *signedWorld) { s.text["org"] = signedOrg + "example 3600 DS 1 13 1 " + zeros[:40] + "\n" }},
		"nothing":       {0, func(s *signedWorld) { s.text["org"] = signedOrg }},
		"iterations": {dnssec.CodeIterations, func(s *signedWorld) {
			s.text["org"] = signedOrg + s.ds("example.org")
			s.sign("example.org", func(how *zone.Signing) { how.NSEC3 = &zone.NSEC3{Iterations: 51} })
		}},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newSigned(t)
			tt.turn(s)
			s.Serve(orgAddr, s.signedZone("org", s.text["org"]))
			for range 2 {
				if a := s.secure("nob.example.org MX", false); a.Extended != tt.code {
					t.Errorf("%s: extended error %d, want %d", why, a.Extended, tt.code)
				}
			}
		})
	}
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"
