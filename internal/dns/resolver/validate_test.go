package resolver

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
	"mxward/internal/dns/dnstest"
	"mxward/internal/dns/zone"
)

// signedWorld is a root, org and example.org with signatures, and whatever a test turns.
type signedWorld struct {
	*world
	keys map[string]*zone.Key // by zone
	how  map[string]zone.Signing
	text map[string]string
}

const signedRoot = `
@ 86400 SOA ns hostmaster 1 7200 900 1209600 3600
@ 86400 NS a.root-servers.example.
a.root-servers.example. 86400 A 192.0.2.1
org. 86400 NS ns.org.
ns.org. 86400 A 192.0.2.4
`

const signedOrg = `
@ 86400 SOA ns hostmaster 1 7200 900 1209600 900
@ 86400 NS ns
ns 86400 A 192.0.2.4
example 3600 NS ns.example
ns.example 3600 A 192.0.2.41
plain 3600 NS ns.plain
ns.plain 3600 A 192.0.2.42
`

const signedExample = soa + `
@ 3600 NS ns
ns 3600 A 192.0.2.41
@ 300 MX 10 mx
mx 300 A 192.0.2.25
www 300 CNAME mx
out 300 CNAME www.plain.org.
*.wild 300 TXT "from a wildcard"
deep.er.name 300 A 192.0.2.81
dname 300 DNAME other
x.other 300 A 192.0.2.82
sub 3600 NS ns.sub
ns.sub 3600 A 192.0.2.43
`

var signedPlaces = map[string]string{".": rootAddr, "org": orgAddr, "example.org": "192.0.2.41", "plain.org": "192.0.2.42"}

func newSigned(t *testing.T) *signedWorld {
	s := &signedWorld{world: &world{t: t}, keys: map[string]*zone.Key{}, how: map[string]zone.Signing{}, text: map[string]string{
		".": signedRoot, "org": signedOrg, "example.org": signedExample, "plain.org": soa + "@ 3600 NS ns\nns A 192.0.2.42\nwww 300 A 192.0.2.90\n",
	}}
	for i, name := range []string{".", "org", "example.org"} {
		k, err := zone.SeededKey(zone.ECDSAP256SHA256, uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		s.keys[name] = k
		s.how[name] = zone.Signing{Keys: []*zone.Key{k}}
	}
	anchor, err := dnssec.AnchorOf(s.keys["."].DS(dns.Root, 3600))
	if err != nil {
		t.Fatal(err)
	}
	s.Resolver = &Resolver{
		Hints: []Hint{{dns.MustName("a.root-servers.example"), addr(rootAddr)}}, Dial: s.Dial,
		TrustAnchors: []dnssec.Anchor{anchor}, StaleFor: -1,
	}
	s.build()
	return s
}

// ds gives a DS record's line for a zone's key.
func (s *signedWorld) ds(name string) string {
	return s.keys[name].DS(dns.MustName(name), 3600).String() + "\n"
}

// signedZone makes a zone; turn may change its records once they are signed.
func (s *signedWorld) signedZone(name, text string) *zone.Zone {
	z := dnstest.Zone(s.t, name, text)
	how, ok := s.how[name]
	if !ok {
		return z
	}
	z, err := z.Sign(how)
	if err != nil {
		s.t.Fatal(err)
	}
	return z
}

// build puts all zones at their places, with DS records as far as the zones are signed.
func (s *signedWorld) build() {
	extra := map[string]string{".": s.ds("org"), "org": s.ds("example.org")}
	for name, at := range signedPlaces {
		s.Serve(at, s.signedZone(name, s.text[name]+extra[name]))
	}
}

// turned serves a zone whose answers are changed on the way.
func (s *signedWorld) turned(name string, turn func(q dns.Question, a *dns.Answer)) {
	z := s.signedZone(name, s.text[name])
	s.Serve(signedPlaces[name], dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
		a, err := z.Resolve(ctx, q)
		a.Answer, a.Authority = cloned(a.Answer), cloned(a.Authority)
		turn(q, &a)
		return a, err
	}))
}

func cloned(section []dns.RR) []dns.RR {
	var out []dns.RR
	for _, rr := range section {
		out = append(out, wire.Copy(rr))
	}
	return out
}

// secure asks and wants an answer with AD, or without.
func (s *signedWorld) secure(q string, ad bool) dns.Answer {
	s.t.Helper()
	a, err := s.ask(q)
	if err != nil {
		s.t.Errorf("%s: %v", q, err)
		return a
	}
	if a.Authentic != ad {
		s.t.Errorf("%s: AD is %v: %s %v", q, a.Authentic, a.Rcode, short(a.Answer))
	}
	for _, rr := range append(append([]dns.RR(nil), a.Answer...), a.Authority...) {
		switch rr.(type) {
		case *wire.RRSIG, *wire.NSEC, *wire.NSEC3:
			s.t.Errorf("%s: nobody asked for %v", q, rr)
		}
	}
	return a
}

// bogus asks and wants a fault with a code and a word.
func (s *signedWorld) bogus(q string, code uint16, word string) {
	s.t.Helper()
	a, err := s.ask(q)
	var e *dns.Error
	if !errors.As(err, &e) || e.Trouble != dns.Bogus || e.Extended != code || !strings.Contains(e.Detail, word) {
		s.t.Errorf("%s: got %v %v, %v; want bogus, code %d, %q", q, a.Rcode, short(a.Answer), err, code, word)
	}
}

// proofs are the ways to prove that something is not there.
var proofs = map[string]*zone.NSEC3{"NSEC": nil, "NSEC3": {}}

func TestValidation(t *testing.T) {
	for name, n3 := range proofs {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSigned(t)
				for name, how := range s.how {
					how.NSEC3 = n3
					s.how[name] = how
				}
				s.build()
				s.secure("mx.example.org A", true)
				packets := s.Total()
				if packets > 3+3 { // three for the name, and a DNSKEY for each zone: DS came with the referrals
					t.Errorf("%d packets", packets)
				}
				s.secure("example.org MX", true)
				s.secure("www.example.org A", true)
				s.secure("www.example.org A", true) // once more, from the cache
				s.secure("gone.example.org A", true)
				s.secure("mx.example.org AAAA", true)
				s.secure("er.name.example.org A", true)
				s.secure("x.wild.example.org TXT", true)
				s.secure("x.wild.example.org A", true)
				s.secure("x.dname.example.org A", true)
				s.secure("example.org DNSKEY", true)
				s.secure("example.org DS", true)
				s.secure("plain.org DS", true)
				s.secure(". DNSKEY", true)
				s.secure(". NS", true)
				// Unsigned delegations, proven so.
				s.secure("www.plain.org A", false)
				s.secure("gone.plain.org A", false)
				s.secure("plain.org DNSKEY", false)
				// A chain is as secure as its least secure piece.
				s.secure("out.example.org A", false)
				s.secure("out.example.org A", false)
			})
		})
	}
}

// TestBogus: what is wrong with a zone, and what the error says.
func TestBogus(t *testing.T) {
	for _, tt := range []struct {
		name     string
		turn     func(s *signedWorld)
		question string
		code     uint16
		word     string
	}{
		{"expired", func(s *signedWorld) {
			s.sign("example.org", func(how *zone.Signing) {
				how.Inception, how.Expiration = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
			})
		}, "mx.example.org A", dnssec.CodeSignatureExpired, "example.org DNSKEY expired on"},
		{"one signature expired", func(s *signedWorld) {
			old := s.keys["example.org"]
			s.turned("example.org", func(q dns.Question, a *dns.Answer) {
				if q.Type == dns.TypeA && len(a.Answer) == 2 {
					a.Answer[1], _ = old.Sign(a.Answer[:1], dns.MustName("example.org"), time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour))
				}
			})
		}, "mx.example.org A", dnssec.CodeSignatureExpired, "the signature on mx.example.org A expired on"},
		{"not yet valid", func(s *signedWorld) {
			s.sign("example.org", func(how *zone.Signing) {
				how.Inception, how.Expiration = time.Now().Add(24*time.Hour), time.Now().Add(48*time.Hour)
			})
		}, "mx.example.org A", dnssec.CodeSignatureNotYetValid, "valid only from"},
		{"signed by the parent", func(s *signedWorld) {
			s.turned("example.org", func(q dns.Question, a *dns.Answer) {
				if q.Type == dns.TypeA && len(a.Answer) == 2 {
					a.Answer[1], _ = s.keys["org"].Sign(a.Answer[:1], dns.MustName("org"), time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
				}
			})
		}, "mx.example.org A", dnssec.CodeSignaturesMissing, "no signature"},
		{"no signatures", func(s *signedWorld) {
			s.turned("example.org", func(q dns.Question, a *dns.Answer) {
				if q.Type == dns.TypeA {
					a.Answer = a.Answer[:1]
				}
			})
		}, "mx.example.org A", dnssec.CodeSignaturesMissing, "there is no signature on mx.example.org A"},
		{"no proof of NXDOMAIN", func(s *signedWorld) {
			s.turned("example.org", func(_ dns.Question, a *dns.Answer) { a.Authority = a.Authority[:min(2, len(a.Authority))] })
		}, "gone.example.org A", dnssec.CodeProofMissing, "no proof that gone.example.org does not exist"},
		{"NODATA that is none", func(s *signedWorld) {
			z := s.signedZone("example.org", s.text["example.org"])
			s.Serve("192.0.2.41", dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
				if q.Name == dns.MustName("mx.example.org") {
					q.Name = dns.MustName("ns.example.org") // its neighbour's proof
					q.Type = dns.TypeMX
				}
				return z.Resolve(ctx, q)
			}))
		}, "mx.example.org A", dnssec.CodeProofMissing, "no proof that mx.example.org has no A"},
		{"another key than the DS says", func(s *signedWorld) {
			s.keys["example.org"], _ = zone.SeededKey(zone.ECDSAP256SHA256, 99)
			s.sign("example.org", func(how *zone.Signing) { how.Keys = []*zone.Key{s.keys["example.org"]} })
		}, "mx.example.org A", dnssec.CodeKeyMissing, "no DNSKEY of example.org matches its DS record"},
		{"unsigned though there is a DS", func(s *signedWorld) {
			s.zone("192.0.2.41", "example.org", s.text["example.org"])
		}, "mx.example.org A", dnssec.CodeSignaturesMissing, "no signature on mx.example.org A, and its zone is signed"},
		{"a wildcard that hides a name", func(s *signedWorld) {
			z := s.signedZone("example.org", s.text["example.org"])
			s.Serve("192.0.2.41", dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
				a, err := z.Resolve(ctx, q)
				if len(a.Authority) > 0 && q.Type == dns.TypeTXT {
					a.Authority = nil
				}
				return a, err
			}))
		}, "x.wild.example.org TXT", dnssec.CodeProofMissing, "no proof that the wildcard below wild.example.org"},
		{"no DS and no proof", func(s *signedWorld) {
			s.turned("org", func(_ dns.Question, a *dns.Answer) {
				a.Authority = withoutTypes(a.Authority, typeNSEC, typeNSEC3, typeRRSIG)
			})
		}, "www.plain.org A", dnssec.CodeSignaturesMissing, "plain.org"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSigned(t)
				tt.turn(s)
				s.bogus(tt.question, tt.code, tt.word)
				// Remembered, and the data can be had with CD all the same.
				n := s.Total()
				s.bogus(tt.question, tt.code, tt.word)
				if s.Total() != n {
					t.Errorf("a bogus answer was asked for again at once")
				}
				q := question(tt.question)
				q.CheckingDisabled = true
				if a, err := s.Resolver.Resolve(t.Context(), q); err != nil || a.Authentic {
					t.Errorf("with CD: %v, AD %v", err, a.Authentic)
				}
				s.bogus(tt.question, tt.code, tt.word) // what CD brought is for CD alone
			})
		})
	}
}

func withoutTypes(section []dns.RR, types ...dns.Type) []dns.RR {
	var kept []dns.RR
next:
	for _, rr := range section {
		for _, t := range types {
			if dns.Type(rr.Header().Rrtype) == t {
				continue next
			}
		}
		kept = append(kept, rr)
	}
	return kept
}

// sign signs one zone anew in another way and serves it.
func (s *signedWorld) sign(name string, change func(*zone.Signing)) {
	how := s.how[name]
	change(&how)
	s.how[name] = how
	s.Serve(signedPlaces[name], s.signedZone(name, s.text[name]))
}

// TestInsecure: what counts as unsigned, and by whose order.
func TestInsecure(t *testing.T) {
	badKey := func(s *signedWorld) {
		s.keys["example.org"], _ = zone.SeededKey(zone.ECDSAP256SHA256, 99)
		s.sign("example.org", func(how *zone.Signing) { how.Keys = []*zone.Key{s.keys["example.org"]} })
	}
	for name, turn := range map[string]func(s *signedWorld){
		"negative trust anchor": func(s *signedWorld) {
			badKey(s)
			s.Resolver.NegativeTrustAnchors = []dns.Name{dns.MustName("example.org")}
		},
		"negative trust anchor above": func(s *signedWorld) {
			badKey(s)
			s.Resolver.NegativeTrustAnchors = []dns.Name{dns.MustName("org")}
		},
		"no validation": func(s *signedWorld) {
			badKey(s)
			s.Resolver.NoValidation = true
		},
		"no anchors": func(s *signedWorld) { s.Resolver.TrustAnchors = []dnssec.Anchor{} },
		// Those of the Internet are for the Internet's root alone.
		"built-in anchors with other hints": func(s *signedWorld) { s.Resolver.TrustAnchors = nil },
		"DS of an unsupported algorithm": func(s *signedWorld) {
			s.zoneWithDS(func(ds *wire.DS) { ds.Algorithm = wire.RSASHA1 })
		},
		"DS with SHA-1 alone": func(s *signedWorld) {
			s.zoneWithDS(func(ds *wire.DS) { ds.DigestType = wire.SHA1; ds.Digest = ds.Digest[:40] })
		},
		"opt-out": func(s *signedWorld) {
			s.sign("org", func(how *zone.Signing) { how.NSEC3 = &zone.NSEC3{OptOut: true} })
			s.zone("192.0.2.41", "example.org", s.text["example.org"])
		},
		"too many iterations": func(s *signedWorld) {
			s.sign("org", func(how *zone.Signing) { how.NSEC3 = &zone.NSEC3{Iterations: 100} })
			s.zone("192.0.2.41", "example.org", s.text["example.org"])
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSigned(t)
				turn(s)
				s.secure("mx.example.org A", false)
				s.secure("gone.example.org A", false)
				s.secure("www.example.org A", false)
			})
		})
	}
}

// zoneWithDS serves org with a changed DS record for example.org.
func (s *signedWorld) zoneWithDS(change func(*wire.DS)) {
	ds := s.keys["example.org"].DS(dns.MustName("example.org"), 3600)
	change(ds)
	s.Serve(orgAddr, s.signedZone("org", s.text["org"]+ds.String()+"\n"))
}

// TestDNSSECSections: signatures and proofs go to those who ask for them.
func TestDNSSECSections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigned(t)
		for range 2 { // fetched, then from the cache
			for q, want := range map[string]string{"mx.example.org A": "A RRSIG", "gone.example.org A": "SOA RRSIG NSEC RRSIG NSEC RRSIG", "x.wild.example.org TXT": "TXT RRSIG NSEC RRSIG"} {
				question := question(q)
				question.DNSSEC = true
				a, err := s.Resolver.Resolve(t.Context(), question)
				var got []string
				for _, rr := range append(append([]dns.RR(nil), a.Answer...), a.Authority...) {
					got = append(got, dns.Type(rr.Header().Rrtype).String())
				}
				if err != nil || !a.Authentic || strings.Count(strings.Join(got, " "), "RRSIG") != strings.Count(want, "RRSIG") {
					t.Errorf("%s: %v, AD %v, %q; want %q", q, err, a.Authentic, got, want)
				}
				s.secure(q, true)
			}
		}
	})
}

// TestSignatureEnd: an answer does not outlive its signature.
func TestSignatureEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigned(t)
		s.sign("example.org", func(how *zone.Signing) { how.Expiration = time.Now().Add(100 * time.Second) })
		a := s.secure("mx.example.org A", true)
		if ttl := a.Answer[0].Header().Ttl; ttl > 100 {
			t.Errorf("TTL %d beyond the signature's end", ttl)
		}
		time.Sleep(101 * time.Second)
		s.sign("example.org", func(how *zone.Signing) { how.Expiration = time.Now().Add(time.Hour) })
		s.secure("mx.example.org A", true)
	})
}

// TestKeyRollover: both styles of RFC 7583 §2, step by step, under a warm cache.
func TestKeyRollover(t *testing.T) {
	key := func(seed uint64, entry bool) *zone.Key {
		k, err := zone.SeededKey(zone.ECDSAP256SHA256, seed)
		if err != nil {
			t.Fatal(err)
		}
		k.Entry = entry
		return k
	}
	t.Run("pre-publish", func(t *testing.T) { // of the key that signs data
		synctest.Test(t, func(t *testing.T) {
			s := newSigned(t)
			entry, old, next := s.keys["example.org"], key(11, false), key(12, false)
			entry.Entry = true
			s.build()
			published := s.text["example.org"] + next.DNSKEY(dns.MustName("example.org"), 3600).String() + "\n"
			retired := s.text["example.org"] + old.DNSKEY(dns.MustName("example.org"), 3600).String() + "\n"
			for _, step := range []struct {
				text string
				keys []*zone.Key
			}{{s.text["example.org"], []*zone.Key{entry, old}}, {published, []*zone.Key{entry, old}}, {retired, []*zone.Key{entry, next}}, {s.text["example.org"], []*zone.Key{entry, next}}} {
				s.text["example.org"] = step.text
				s.sign("example.org", func(how *zone.Signing) { how.Keys = step.keys })
				s.secure("mx.example.org A", true)
				s.secure("deep.er.name.example.org A", true)
				time.Sleep(2 * time.Hour)
			}
		})
	})
	t.Run("double signature", func(t *testing.T) { // of the key that the parent points to
		synctest.Test(t, func(t *testing.T) {
			s := newSigned(t)
			old, next := s.keys["example.org"], key(12, false)
			for _, step := range []struct {
				keys []*zone.Key
				ds   *zone.Key
			}{{[]*zone.Key{old}, old}, {[]*zone.Key{old, next}, old}, {[]*zone.Key{old, next}, next}, {[]*zone.Key{next}, next}} {
				s.keys["example.org"] = step.ds
				s.how["example.org"] = zone.Signing{Keys: step.keys}
				s.build()
				s.secure("mx.example.org A", true)
				s.secure("gone.example.org A", true)
				time.Sleep(25 * time.Hour)
			}
		})
	})
}

// TestSharedServers: where one server has a zone and the ones below it, no referral shows
// the cuts.
func TestSharedServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigned(t)
		org := s.signedZone("org", s.text["org"]+s.ds("example.org"))
		example := s.signedZone("example.org", s.text["example.org"])
		s.Serve(orgAddr, &dns.Mux{Zones: map[dns.Name]dns.Resolver{
			dns.MustName("org"): org, dns.MustName("example.org"): example,
			dns.MustName("plain.org"): dnstest.Zone(t, "plain.org", s.text["plain.org"]),
		}})
		s.secure("mx.example.org A", true)
		s.secure("gone.example.org A", true)
		s.secure("www.plain.org A", false)
		s.secure("gone.plain.org A", false)
	})
}

// TestKeyTrap: many keys with one tag and many signatures cost no more than a question may
// (CVE-2023-50387).
func TestKeyTrap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigned(t)
		s.turned("example.org", func(_ dns.Question, a *dns.Answer) {
			for _, rr := range a.Answer {
				if sig, ok := rr.(*wire.RRSIG); ok {
					sig.Signature = strings.Repeat("A", len(sig.Signature)-2) + "=="
					for range 20 {
						a.Answer = append(a.Answer, wire.Copy(sig))
					}
				}
			}
		})
		_, err := s.ask("mx.example.org A")
		if err == nil {
			t.Fatal("no error")
		}
		if n := s.Total(); n > 10 {
			t.Errorf("%d packets", n)
		}
	})
}

// anchorFile is an AnchorState in memory.
type anchorFile struct {
	saved chan []byte
	text  []byte
}

func (f *anchorFile) LoadAnchors(context.Context) ([]byte, error) { return f.text, nil }

func (f *anchorFile) SaveAnchors(_ context.Context, text []byte) error {
	f.saved <- text
	return nil
}

// TestAnchorRollover: a root key that was seen for 30 days carries the chain when the one
// that was configured is gone (RFC 5011), also in the next process.
func TestAnchorRollover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigned(t)
		file := &anchorFile{saved: make(chan []byte, 10)}
		s.Resolver.AnchorState = file
		old := s.keys["."]
		next, err := zone.SeededKey(zone.ECDSAP256SHA256, 50)
		if err != nil {
			t.Fatal(err)
		}
		old.Entry, next.Entry = true, true
		anchor, err := dnssec.AnchorOf(old.DS(dns.Root, 3600))
		if err != nil {
			t.Fatal(err)
		}
		s.Resolver.TrustAnchors = []dnssec.Anchor{anchor}
		s.how["."] = zone.Signing{Keys: []*zone.Key{old, next}}
		s.build()
		s.secure("mx.example.org A", true)
		for range 31 {
			time.Sleep(25 * time.Hour)
			s.build() // fresh signatures
			s.secure("mx.example.org A", true)
		}
		synctest.Wait()
		for len(file.saved) > 0 {
			file.text = <-file.saved
		}
		s.how["."] = zone.Signing{Keys: []*zone.Key{next}}
		time.Sleep(25 * time.Hour)
		s.build()
		s.secure("mx.example.org A", true)
		// Another process, with what the first one saved.
		s.Resolver = &Resolver{Hints: s.Resolver.Hints, Dial: s.Dial, TrustAnchors: s.Resolver.TrustAnchors, AnchorState: file}
		s.secure("mx.example.org A", true)
		// And one without.
		s.Resolver = &Resolver{Hints: s.Resolver.Hints, Dial: s.Dial, TrustAnchors: s.Resolver.TrustAnchors}
		s.bogus("mx.example.org A", dnssec.CodeKeyMissing, "no DNSKEY of . matches")
	})
}

// TestFollowAnchors: nobody asks for anything, and yet a new key of the root is trusted
// after 30 days, and the one that has gone is missed (RFC 5011 §2.3, §2.4).
func TestFollowAnchors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigned(t)
		file := &anchorFile{saved: make(chan []byte, 100)}
		s.Resolver.AnchorState = file
		old := s.keys["."]
		next, err := zone.SeededKey(zone.ECDSAP256SHA256, 50)
		if err != nil {
			t.Fatal(err)
		}
		old.Entry, next.Entry = true, true
		anchor, err := dnssec.AnchorOf(old.DS(dns.Root, 3600))
		if err != nil {
			t.Fatal(err)
		}
		s.Resolver.TrustAnchors = []dnssec.Anchor{anchor}
		states := func() string {
			synctest.Wait()
			var found []string
			for _, k := range s.Resolver.rolling.tracked[dns.Root].Keys {
				found = append(found, string(k.State))
			}
			return strings.Join(found, " ")
		}
		days := func(n int, keys ...*zone.Key) {
			for range n {
				s.how["."] = zone.Signing{Keys: keys}
				s.build() // fresh signatures
				time.Sleep(24 * time.Hour)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { s.Resolver.FollowAnchors(ctx); close(ended) }()
		for _, step := range []struct {
			why  string
			days int
			keys []*zone.Key
			want string
		}{
			{"one key", 2, []*zone.Key{old}, "valid"},
			{"another is held down", 29, []*zone.Key{old, next}, "valid pending"},
			{"after 30 days it is trusted", 3, []*zone.Key{old, next}, "valid valid"},
			{"the first has gone", 2, []*zone.Key{next}, "missing valid"},
		} {
			days(step.days, step.keys...)
			if got := states(); got != step.want {
				t.Errorf("%s: %q, want %q", step.why, got, step.want)
			}
		}
		if n := len(s.Asked(rootAddr)); n > 36*24 || n < 36 {
			t.Errorf("the root was asked %d times in 36 days", n)
		}
		stop()
		<-ended
	})
}

// TestAnchorRetry: a look that failed is tried again after the retry time, not sooner.
func TestAnchorRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigned(t)
		s.Set(rootAddr, dnstest.Host{Behaviour: dnstest.Silent})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { s.Resolver.FollowAnchors(ctx); close(ended) }()
		time.Sleep(minRetryTime - time.Minute)
		first := len(s.Asked(rootAddr))
		s.build()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if first == 0 || first > maxStepPackets || len(s.Asked(rootAddr)) <= first || len(s.Resolver.rolling.tracked) != 1 {
			t.Errorf("asked %d times at first, %d in all; %d zones followed", first, len(s.Asked(rootAddr)), len(s.Resolver.rolling.tracked))
		}
		stop()
		<-ended
	})
}

// Each row is a DNSKEY set's times, and when it is looked at again (RFC 5011 §2.3).
func TestAnchorTimes(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		why          string
		ttl, valid   time.Duration
		query, retry time.Duration
	}{
		{"half of the TTL, a tenth of it", 2 * day, 14 * day, day, 2 * day / 10},
		{"half of the signature's time", 4 * day, 2 * day, day, 2 * day / 10},
		{"never more often than each hour", time.Minute, 14 * day, time.Hour, time.Hour},
		{"at least every 15 days, and after a day where it failed", 90 * day, 90 * day, 15 * day, day},
	} {
		set := dnssec.Set{Sigs: []*wire.RRSIG{{OrigTtl: uint32(tt.ttl / time.Second), Inception: 1<<32 - 100, Expiration: uint32(tt.valid/time.Second) - 100}}}
		if q, r := queryInterval(set), retryTime(set); q != tt.query || r != tt.retry {
			t.Errorf("%s: %s and %s, want %s and %s", tt.why, q, r, tt.query, tt.retry)
		}
	}
}

// TestPrivateZones: stub and forward zones are not judged by the tree of the Internet,
// which does not know them; a resolver that is asked for everything is.
func TestPrivateZones(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigned(t)
		s.zone("192.0.2.60", "corp.org", soa+"@ NS ns\nns A 192.0.2.60\nwww 300 A 192.0.2.61\n")
		at := netip.AddrPortFrom(addr("192.0.2.60"), 53)
		s.Resolver.Stubs = []Stub{{Zone: dns.MustName("corp.org"), Servers: []netip.AddrPort{at}}}
		s.secure("www.corp.org A", false)
		s.secure("gone.corp.org A", false)
		s.secure("mx.example.org A", true)
		s.secure("corp.org DS", true) // that one is org's
	})
	synctest.Test(t, func(t *testing.T) {
		s := newSigned(t)
		own := s.Resolver // the resolver of somebody else, which passes signatures on
		s.Set("192.0.2.70", dnstest.Host{Recursion: true, Resolver: dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
			q.CheckingDisabled = true
			return own.Resolve(ctx, q)
		})})
		at := netip.AddrPortFrom(addr("192.0.2.70"), 53)
		s.Resolver = &Resolver{Dial: s.Dial, TrustAnchors: own.TrustAnchors, Forwards: []Forward{{Zone: dns.Root, Servers: []netip.AddrPort{at}}}}
		s.secure("mx.example.org A", true)
		s.secure("gone.example.org A", true)
		s.secure("www.example.org A", true)
		s.secure("www.plain.org A", false)
		s.secure("gone.plain.org A", false)
		// Without anchors of one's own, a forward is believed.
		s.Resolver = &Resolver{Dial: s.Dial, Forwards: s.Resolver.Forwards}
		s.secure("mx.example.org A", false)
	})
}

// TestOneBadServer: a secondary with old signatures does not take the zone away.
func TestOneBadServer(t *testing.T) {
	for range 4 { // whichever is asked first
		synctest.Test(t, func(t *testing.T) {
			s := newSigned(t)
			s.text["org"] = strings.ReplaceAll(signedOrg, "example 3600 NS ns.example\n", "example 3600 NS ns.example\nexample 3600 NS ns2.example\nns2.example 3600 A 192.0.2.44\n")
			s.build()
			stale := s.how["example.org"]
			stale.Inception, stale.Expiration = time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)
			z, err := dnstest.Zone(t, "example.org", s.text["example.org"]).Sign(stale)
			if err != nil {
				t.Fatal(err)
			}
			s.Serve("192.0.2.44", z)
			for _, q := range []string{"mx.example.org A", "gone.example.org A", "example.org MX", "ns.example.org A"} {
				s.secure(q, true)
			}
		})
	}
}

// TestHashExhaustion: a zone with many iterations and a name with many labels cost no more
// than a question may, at no time longer than any other failure (CVE-2023-50868).
func TestHashExhaustion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigned(t)
		s.sign("example.org", func(how *zone.Signing) { how.NSEC3 = &zone.NSEC3{Iterations: 50} })
		e := s.wantTrouble(strings.Repeat("a.", 100)+"example.org A", dns.WorkLimit)
		if !strings.Contains(e.Detail, "NSEC3 hashes") {
			t.Errorf("%v", e)
		}
		s.secure("a.b.c.d.example.org A", true) // a usual name does not suffer
	})
}

// TestForeignWildcard: example.org cannot sign a wildcard for org, and the proofs of one
// zone deny nothing in another (CVE-2026-11721, CVE-2026-13321).
func TestForeignWildcard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigned(t)
		s.turned("example.org", func(q dns.Question, a *dns.Answer) {
			for _, rr := range a.Answer {
				if sig, ok := rr.(*wire.RRSIG); ok && q.Type == dns.TypeTXT {
					sig.Labels = 1
				}
			}
			for _, rr := range a.Authority {
				if n, ok := rr.(*wire.NSEC); ok {
					n.NextDomain = "zzz.org."
				}
			}
		})
		s.bogus("x.wild.example.org TXT", dnssec.CodeBogus, "wildcard above example.org")
		s.bogus("gone.example.org A", dnssec.CodeBogus, "is wrong")
		s.secure("www.plain.org A", false)
		s.secure("org SOA", true)
	})
}

// TestWireAuthentic: what the cache has ready on the wire says AD as Resolve does, and is
// nothing for those who ask with CD.
func TestWireAuthentic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigned(t)
		for q, ad := range map[string]bool{"mx.example.org A": true, "gone.example.org A": true, "www.plain.org A": false} {
			s.secure(q, ad)
			asked := question(q)
			w := dns.WireQuestion{Name: asked.Name.AppendWire(nil), Type: asked.Type}
			_, head, ok := s.Resolver.AppendAnswer(make([]byte, headerSize+len(w.Name)+questionTail), w)
			if !ok || head.Authentic != ad {
				t.Errorf("%s: AD %v, %v", q, head.Authentic, ok)
			}
			w.CheckingDisabled = true
			if _, _, ok := s.Resolver.AppendAnswer(make([]byte, headerSize+len(w.Name)+questionTail), w); ok {
				t.Errorf("%s: with CD it comes from the cache of the judged", q)
			}
		}
	})
}

// TestLocalDataSigned: what this host says about the top of a signed zone does not take the
// signatures from what is below.
func TestLocalDataSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigned(t)
		s.Resolver.Local = []Data{{dns.MustName("example.org"), records("example.org. 60 A 192.0.2.99")}}
		s.want("example.org A", dns.NoError, "A 192.0.2.99")
		s.secure("mx.example.org A", true)
	})
}
