package resolver

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/zone"
)

// long makes the delegation of example.org outlive every test.
func (s *signedWorld) long() {
	s.text["org"] = strings.ReplaceAll(signedOrg, "example 3600", "example 86400")
	s.build()
}

// rekey gives example.org another key, which the parent knows.
func (s *signedWorld) rekey() {
	k, err := zone.SeededKey(zone.ECDSAP256SHA256, 77)
	if err != nil {
		s.t.Fatal(err)
	}
	s.keys["example.org"] = k
	s.how["example.org"] = zone.Signing{Keys: []*zone.Key{k}}
}

// Each row is a change of a zone that makes it look bogus by what the cache still has.
func TestOldDelegation(t *testing.T) {
	for _, tt := range []struct {
		why    string
		change func(s *signedWorld)
	}{
		{"the keys and the DS records were replaced at once", func(s *signedWorld) { s.rekey(); s.build() }},
		{"the zone has moved, and the old provider signs with a key of his own", func(s *signedWorld) {
			s.rekey()
			old := s.signedZone("example.org", s.text["example.org"])
			s.keys["example.org"], _ = zone.SeededKey(zone.ECDSAP256SHA256, 78)
			s.how["example.org"] = zone.Signing{Keys: []*zone.Key{s.keys["example.org"]}}
			s.text["org"] = strings.ReplaceAll(s.text["org"], "192.0.2.41", "192.0.2.49")
			s.text["example.org"] = strings.ReplaceAll(s.text["example.org"], "192.0.2.41", "192.0.2.49")
			s.build()
			s.Serve("192.0.2.41", old)
			s.Serve("192.0.2.49", s.signedZone("example.org", s.text["example.org"]))
		}},
		{"the zone has become a part of its parent, on the same servers", func(s *signedWorld) {
			text := strings.ReplaceAll(s.text["org"], "example 86400 NS ns.example\n", "mx.example 300 A 192.0.2.25\nextra.example 300 A 192.0.2.26\n")
			z := s.signedZone("org", text)
			s.Serve(orgAddr, z)
			s.Serve("192.0.2.41", z)
		}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSigned(t)
				s.long()
				s.secure("mx.example.org A", true)
				time.Sleep(10 * time.Minute)
				tt.change(s)
				s.Forget()
				s.secure("mx.example.org A", true)
				if n := s.Total(); n > 12 {
					t.Errorf("%d packets", n)
				}
			})
		})
	}
}

// A zone that stays bogus has its delegation fetched anew once in a while, not with each
// question: nobody is to make work with it.
func TestBogusForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigned(t)
		s.long()
		s.secure("mx.example.org A", true)
		time.Sleep(10 * time.Minute)
		s.turned("example.org", func(q dns.Question, a *dns.Answer) {
			a.Answer = withoutTypes(a.Answer, typeRRSIG)
			a.Authority = withoutTypes(a.Authority, typeRRSIG)
		})
		s.Forget()
		s.wantTrouble("first.example.org A", dns.Bogus)
		first := len(s.Asked(orgAddr))
		s.Forget()
		for i := range 20 {
			s.wantTrouble(fmt.Sprintf("n%d.example.org A", i), dns.Bogus)
		}
		if n := len(s.Asked(orgAddr)); first == 0 || n > 0 {
			t.Errorf("the parent was asked %d times for the first name, %d times for 20 others", first, n)
		}
	})
}

// TestSigningLease: a delegation, the keys and what they vouch for end with the DS records,
// and those with their signatures.
func TestSigningLease(t *testing.T) {
	for _, tt := range []struct {
		why   string
		ttl   uint32
		until time.Duration
		want  time.Duration
	}{
		{"the TTL of the DS records", 100, 24 * time.Hour, 100 * time.Second},
		{"the end of their signature", 3600, 200 * time.Second, 200 * time.Second},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSigned(t)
				how := s.how["org"]
				how.Expiration = time.Now().Add(tt.until)
				s.how["org"] = how
				ds := s.keys["example.org"].DS(dns.MustName("example.org"), tt.ttl).String() + "\n"
				text := strings.ReplaceAll(signedOrg, "example 3600", "example 86400")
				s.Serve(orgAddr, s.signedZone("org", text+ds))
				s.secure("mx.example.org A", true)
				end := time.Now().Add(tt.want)
				d, _ := s.Resolver.cache.get(delegationKey(dns.MustName("example.org")), time.Now()).(*delegation)
				if d == nil || d.lease.After(end) {
					t.Errorf("the delegation: %+v, want its end by %s", d, end)
				}
				keys := s.Resolver.cache.find(ask{name: dns.MustName("example.org"), typ: typeDNSKEY, dnssec: true}, time.Now())
				if keys == nil || keys.expires.After(end) {
					t.Errorf("the keys: %+v, want their end by %s", keys, end)
				}
			})
		})
	}
}
