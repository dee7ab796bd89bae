package resolver

import (
	"context"
	"testing"
	"testing/synctest"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// TestProofsGoAlong: who validates behind us needs every proof that the answer stands on,
// with the time that it has, and nobody else gets one.
func TestProofsGoAlong(t *testing.T) {
	for _, test := range []struct {
		question string
		soa      bool // in the authority section
		proofs   bool // NSEC records there, for DO
		why      string
	}{
		{"a.wild.example.org TXT", false, true, "the name itself has to be denied"},
		{"a.links.example.org A", false, true, "so has the name of an alias from a wildcard, wherever the alias leads"},
		{"a.links.example.org ANY", false, true, "ANY follows no less, and is no way around DO"},
		{"mx.example.org NSEC3", true, true, "asking for NSEC3 is not asking for proofs"},
		{"mx.example.org ANY", false, false, "nothing is denied"},
		{"plain.org DS", true, true, "the referral's proof has no SOA, and cannot be kept without (RFC 2308 §5)"},
		{"no.example.org MX", true, true, "NXDOMAIN"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newSigned(t)
			s.text["example.org"] = signedExample + "*.links 300 CNAME mx\n"
			s.build()
			if _, err := s.ask("www.plain.org A"); err != nil { // brings the referral to plain.org along
				t.Fatal(err)
			}
			for _, do := range []bool{true, false} {
				for _, from := range []string{"servers", "pieces", "cache"} {
					q := question(test.question)
					q.DNSSEC = do
					a, err := s.Resolver.Resolve(context.Background(), q)
					if err != nil {
						t.Fatalf("%s from %s: %v", test.question, from, err)
					}
					soa, proofs := false, false
					for _, rr := range a.Authority {
						switch rr := rr.(type) {
						case *wire.SOA:
							soa = true
						case *wire.NSEC:
							proofs = true
							if rr.Hdr.Ttl > 900 {
								t.Errorf("%s from %s: a proof for %d s", test.question, from, rr.Hdr.Ttl)
							}
						case *wire.RRSIG:
							proofs = proofs || !do
						}
					}
					if soa != test.soa || proofs != (test.proofs && do) {
						t.Errorf("%s, do=%v, from %s: SOA %v, proofs %v (%s): %v", test.question, do, from, soa, proofs, test.why, a.Authority)
					}
				}
			}
		})
	}
}

// TestBesideAlias: an alias that is known is no answer for what may stand beside it (RFC
// 4035 §2.5).
func TestBesideAlias(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigned(t)
		s.secure("www.example.org A", true)
		for _, typ := range []dns.Type{typeNSEC, typeRRSIG} {
			a, err := s.Resolver.Resolve(context.Background(), dns.Question{Name: dns.MustName("www.example.org"), Type: typ})
			if err != nil || len(a.Answer) == 0 || dns.Type(a.Answer[0].Header().Rrtype) != typ || a.Answer[0].Header().Name != "www.example.org." {
				t.Errorf("%s: %v, %v", typ, a, err)
			}
		}
	})
}

// TestProofTTL: a proof with less time than what it goes along with is not kept for longer.
func TestProofTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigned(t)
		s.text["example.org"] = signedExample + "*.long 3600 TXT \"for an hour\"\n" // NSEC: 300 s
		s.build()
		for _, do := range []bool{true, false} {
			a, err := s.Resolver.Resolve(context.Background(), dns.Question{Name: dns.MustName("a.long.example.org"), Type: dns.TypeTXT, DNSSEC: do})
			if err != nil {
				t.Fatal(err)
			}
			for _, rr := range append(a.Answer, a.Authority...) {
				if rr.Header().Ttl != 300 {
					t.Errorf("do=%v: %v", do, rr)
				}
			}
		}
	})
}
