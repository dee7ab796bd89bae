package resolver

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
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

// TestRandomNames: a flood of names that are not there costs a zone no more questions than
// it has gaps, and us no more memory than the spans' share.
func TestRandomNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigned(t)
		s.Resolver.CacheBytes = 1 << 20
		for i := range 500 {
			s.want(fmt.Sprintf("r%d.example.org A", i*7919), dns.NXDomain)
		}
		if n := s.Total(); n > 40 {
			t.Errorf("%d questions", n)
		}
		if s.Resolver.spans.bytes > s.Resolver.spans.most || s.Resolver.spans.bytes == 0 {
			t.Errorf("%d of %d bytes", s.Resolver.spans.bytes, s.Resolver.spans.most)
		}
	})
}
