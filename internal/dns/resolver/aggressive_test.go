package resolver

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
	"mxward/internal/dns/zone"
)

// TestAggressive: what one proof has denied costs nobody a question more, and nothing else
// is denied by it.
func TestAggressive(t *testing.T) {
	for _, test := range []struct {
		first, then string
		nsec3       *zone.NSEC3
		asked       bool
		why         string
	}{
		{"nob.example.org A", "nod.example.org MX", nil, false, "the next name in the same gap"},
		{"nob.example.org A", "zzz.example.org A", nil, true, "another gap"},
		{"nob.example.org A", "aaa.example.org A", nil, false, "the gap of the wildcard, which the first one has denied as well"},
		{"plain.example.org A", "b.dname.example.org NS", nil, true, "a DNAME's record denies nothing below"},
		{"a.wild.example.org MX", "b.wild.example.org MX", nil, false, "the wildcard has no such type"},
		{"a.wild.example.org MX", "b.wild.example.org TXT", nil, true, "the wildcard has one, which nobody has seen"},
		{"nob.example.org A", "deep.er.name.example.org A", nil, true, "a name that is there"},
		{"mx.example.org TXT", "mx.example.org AAAA", nil, false, "no such type at the name"},
		{"mx.example.org TXT", "mx.example.org A", nil, true, "the type is there"},
		{"nob.example.org A", "nod.example.org MX", &zone.NSEC3{}, true, "the names' hashes lie apart"},
		{"x.mx.example.org A", "mx.example.org TXT", &zone.NSEC3{}, false, "the closest encloser's record is known"},
		{"sub.example.org DS", "a.sub.example.org A", nil, true, "a delegation's record denies nothing below"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newSigned(t)
			if test.nsec3 != nil {
				s.sign("example.org", func(how *zone.Signing) { how.NSEC3 = test.nsec3 })
			}
			_, _ = s.ask(test.first)
			before := s.Total()
			q := question(test.then)
			q.DNSSEC = true
			a, err := s.Resolver.Resolve(t.Context(), q)
			if asked := s.Total() > before; asked != test.asked {
				t.Errorf("%s after %s: asked %v, %v (%s)", test.then, test.first, asked, err, test.why)
			}
			if !test.asked && (err != nil || !a.Authentic || len(a.Authority) < 4) {
				t.Errorf("%s after %s: %v, %v: %v (%s)", test.then, test.first, a.Authentic, err, a.Authority, test.why)
			}
		})
	}
}

// TestAggressiveEnds: denials end with their time, with a flush and with CD, and can be
// turned off.
func TestAggressiveEnds(t *testing.T) {
	for why, turn := range map[string]func(s *signedWorld, q *dns.Question){
		"expired":            func(*signedWorld, *dns.Question) { time.Sleep(301 * time.Second) },
		"flushed":            func(s *signedWorld, _ *dns.Question) { s.Resolver.Flush(dns.MustName("example.org")) },
		"a name was flushed": func(s *signedWorld, _ *dns.Question) { s.Resolver.Flush(dns.MustName("nod.example.org")) },
		"CD":                 func(_ *signedWorld, q *dns.Question) { q.CheckingDisabled = true },
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newSigned(t)
			s.secure("nob.example.org A", true)
			before, q := s.Total(), question("nod.example.org A")
			turn(s, &q)
			if a, err := s.Resolver.Resolve(t.Context(), q); err != nil || a.Rcode != dns.NXDomain || s.Total() == before {
				t.Errorf("%s: %v, %v, %d questions", why, a.Rcode, err, s.Total()-before)
			}
		})
	}
}

// TestAggressiveWildcard: what a wildcard has said once it says for all names in the gap.
func TestAggressiveWildcard(t *testing.T) {
	for name, n3 := range proofs {
		synctest.Test(t, func(t *testing.T) {
			s := newSigned(t)
			s.text["example.org"] = signedExample + "*.links 300 CNAME mx\nnear.wild 300 TXT here\n"
			s.sign("example.org", func(how *zone.Signing) { how.NSEC3 = n3 })
			s.want("m.wild.example.org TXT", dns.NoError, `TXT "from a wildcard"`)
			s.want("m.links.example.org A", dns.NoError, "CNAME mx.example.org.", "A 192.0.2.25")
			// That the name itself is not there has to be known too: by NSEC3, of each by itself.
			asks, then := s.Total(), []string{"a.m.wild.example.org TXT", "a.m.links.example.org AAAA", "m.links.example.org MX"}
			for _, q := range then {
				a := s.secure(q, true)
				if len(a.Answer) == 0 || a.Answer[0].Header().Name != question(q).Name.FQDN() {
					t.Errorf("%s, %s: %v", name, q, a.Answer)
				}
			}
			if n := s.Total() - asks; n > 2 { // mx has no AAAA
				t.Errorf("%s: %d questions", name, n)
			}
			s.want("near.wild.example.org TXT", dns.NoError, "TXT \"here\"")
			s.want("a.near.wild.example.org TXT", dns.NXDomain)
		})
	}
}

// TestAggressiveNot: where denials do not count, each name is asked for.
func TestAggressiveNot(t *testing.T) {
	for why, turn := range map[string]func(s *signedWorld){
		"it is turned off":        func(s *signedWorld) { s.Resolver.NoAggressive = true },
		"a negative trust anchor": func(s *signedWorld) { s.Resolver.NegativeTrustAnchors = []dns.Name{dns.MustName("example.org")} },
		"a stub zone": func(s *signedWorld) {
			s.Resolver.Stubs = []Stub{{dns.MustName("example.org"), []netip.AddrPort{at("192.0.2.41:53")}}}
		},
		"opt-out": func(s *signedWorld) {
			s.sign("example.org", func(how *zone.Signing) { how.NSEC3 = &zone.NSEC3{OptOut: true} })
		},
		"the zone is not signed": func(s *signedWorld) {
			delete(s.how, "example.org")
			s.text["org"] = signedOrg
			s.Serve(orgAddr, s.signedZone("org", signedOrg))
			s.Serve("192.0.2.41", s.signedZone("example.org", signedExample))
		},
		"unsigned records alone say": func(s *signedWorld) {
			s.turned("example.org", func(q dns.Question, a *dns.Answer) {
				a.Authority = append(a.Authority, records("nob.example.org. 300 NSEC ns.example.org. A RRSIG NSEC")...)
			})
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newSigned(t)
			turn(s)
			name := "nod.example.org A"
			if strings.HasPrefix(why, "unsigned") {
				name = "nsz.example.org A" // the gap beside the one that was asked for
			}
			s.want("nob.example.org A", dns.NXDomain)
			before := s.Total()
			s.want(name, dns.NXDomain)
			if s.Total() == before {
				t.Errorf("%s: nobody was asked", why)
			}
		})
	}
}

// TestAggressiveRoot: names under tops that are not there cost the root nothing.
func TestAggressiveRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigned(t)
		s.secure("printer.lan A", true)
		before := s.Total()
		s.secure("another.lan MX", true)
		s.secure("x.laq A", true)
		s.secure("mx.example.org A", true)
		if n := len(s.Asked(rootAddr)); before == 0 || n > before+1 {
			t.Errorf("the root was asked %d times", n)
		}
	})
}

// TestAggressiveMoved: when a zone is fetched anew by its parent, what its old servers have
// denied is forgotten.
func TestAggressiveMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigned(t)
		s.secure("nob.example.org A", true)
		cut := *s.Resolver.closest(ask{name: dns.MustName("example.org")})
		cut.since = cut.since.Add(time.Second)
		s.Resolver.cache.keepDelegation(&cut)
		before := s.Total()
		if s.secure("nod.example.org A", true); s.Total() == before {
			t.Error("nobody was asked")
		}
		s.Resolver.spans.drop(dns.MustName("example.org"))
		before = s.Total()
		if s.secure("noe.example.org A", true); s.Total() == before {
			t.Error("nobody was asked after the zone was dropped")
		}
	})
}

// TestAggressiveReverse: the longest names that are common, in a zone with NSEC3.
func TestAggressiveReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigned(t)
		s.sign("example.org", func(how *zone.Signing) { how.NSEC3 = &zone.NSEC3{} })
		long := strings.Repeat("0.", 32)
		s.want(long+"example.org PTR", dns.NXDomain)
		before := s.Total()
		a := s.secure("1."+strings.TrimPrefix(long, "0.")+"example.org PTR", true)
		if a.Rcode != dns.NXDomain || s.Total() != before {
			t.Errorf("%v after %d questions", a.Rcode, s.Total()-before)
		}
	})
}

// TestSpanBytes: the share of the spans holds, the zone that was just learnt stays, and of
// the others the one that was used goes last.
func TestSpanBytes(t *testing.T) {
	s := &spans{most: 20_000}
	now := time.Now()
	learn := func(origin string, i int) {
		owner := fmt.Sprintf("n%d.%s", i, origin)
		s.learn(lesson{zone: dns.MustName(origin), denials: dnssec.Group(records(owner + ". 300 NSEC o" + owner + ". A"))}, now.Add(time.Duration(i)), now.Add(time.Hour))
	}
	for i := range 200 {
		origin := fmt.Sprintf("z%d.example", i)
		learn(origin, i)
		if s.zones[dns.MustName(origin)] == nil || s.bytes > s.most {
			t.Fatalf("%d: %d bytes in %d zones", i, s.bytes, len(s.zones))
		}
	}
	for i := range 2 * maxZoneSpans {
		learn("one.example", 1000+i)
	}
	sum := 0
	for _, z := range s.zones {
		sum += zoneOverhead
		for _, sp := range z.list {
			sum += sp.bytes
		}
	}
	if s.bytes != sum || s.bytes > s.most || s.bytes < s.most/2 || len(s.zones) != 1 {
		t.Errorf("%d bytes, counted %d, in %d zones", s.bytes, sum, len(s.zones))
	}
	s.most = 1 << 30
	for i := range maxZoneSpans + 100 {
		learn("one.example", i)
	}
	if n := len(s.zones[dns.MustName("one.example")].list); n != maxZoneSpans {
		t.Errorf("%d spans", n)
	}
}

// TestRandomNames: a flood of names that are not there costs a zone no more questions than
// it has gaps, and us no more memory than the spans' share.
func TestRandomNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigned(t)
		s.Resolver.CacheBytes = 1 << 20
		for i := range 500 {
			s.want(fmt.Sprintf("r%d.example.org A", i*7919), dns.NXDomain)
		}
		// Three and the keys of three zones for the first; then one for each gap, of 13 at most.
		if n := s.Total(); n < 6 || n > 6+12 {
			t.Errorf("%d questions", n)
		}
		if s.Resolver.spans.bytes > s.Resolver.spans.most || s.Resolver.spans.bytes == 0 {
			t.Errorf("%d of %d bytes", s.Resolver.spans.bytes, s.Resolver.spans.most)
		}
	})
}
