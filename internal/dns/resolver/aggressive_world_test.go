package resolver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
	"mxward/internal/dns/zone"
)

// wildWorld is a signedWorld whose example.org has some 200 names made up at random: names
// of several labels with nothing in between, wildcards at all depths, aliases of both
// kinds, and delegations, signed and not, to its own server and to another.
type wildWorld struct {
	*signedWorld
	rand    *rand.Rand
	zones   map[dns.Name]dns.Resolver // example.org and those below it
	names   []string                  // of example.org, and where zones begin
	insides []string                  // alone: aliases lead there
	wilds   []string                  // have a wildcard below
}

const (
	wildOwn   = "192.0.2.41" // example.org's server
	wildOther = "192.0.2.60"
)

func newWild(t *testing.T, seed uint64, n3 *zone.NSEC3) *wildWorld {
	w := &wildWorld{signedWorld: newSigned(t), rand: rand.New(rand.NewPCG(seed, 1)), zones: map[dns.Name]dns.Resolver{}}
	text := soa + "@ 3600 NS ns\nns 3600 A 192.0.2.41\n"
	if seed%3 == 0 {
		text += "* 120 TXT \"for all\"\n"
	}
	seen := map[string]bool{"ns": true}
	for i := 0; len(w.names) < 200; i++ {
		name := w.made(1 + w.rand.IntN(3))
		if seen[name] || w.crosses(seen, name) {
			continue
		}
		seen[name] = true
		w.names = append(w.names, name)
		switch kind := w.rand.IntN(20); {
		case kind < 10:
			text += fmt.Sprintf("%s %d A 192.0.2.%d\n", name, 60+60*w.rand.IntN(5), i%250)
			if kind < 3 {
				text += fmt.Sprintf("%s 300 TXT %d\n", name, i)
			}
			w.insides = append(w.insides, name)
		case kind < 14:
			w.wilds = append(w.wilds, name)
			text += fmt.Sprintf("*.%s %d TXT %d\n*.%s 300 A 192.0.2.%d\n", name, 60+60*w.rand.IntN(5), i, name, i%250)
		case kind < 15:
			text += fmt.Sprintf("*.%s 300 CNAME %s\n", name, w.inside())
		case kind < 16:
			text += fmt.Sprintf("%s 300 CNAME %s\n", name, w.inside())
		case kind < 17 && !seen["dname"+name]:
			text += fmt.Sprintf("%s 300 DNAME %s\n", name, w.inside())
			seen["/"+name] = true
		default:
			text += w.delegate(name, i)
			seen["/"+name] = true
		}
	}
	w.text["example.org"] = text
	how := w.how["example.org"]
	how.NSEC3 = n3
	w.how["example.org"] = how
	w.build()
	w.zones[dns.MustName("example.org")] = w.signedZone("example.org", text)
	mux := &dns.Mux{Zones: w.zones}
	w.Serve(wildOwn, mux)
	w.Serve(wildOther, mux)
	return w
}

// made makes a name of some labels out of few letters, so that many share their ends.
func (w *wildWorld) made(labels int) string {
	var parts []string
	for range labels {
		parts = append(parts, string(rune('a'+w.rand.IntN(26)))+strings.Repeat("x", w.rand.IntN(2)))
	}
	return strings.Join(parts, ".")
}

// crosses reports whether a name lies below a delegation or DNAME, or one of those would
// stand above what is there.
func (w *wildWorld) crosses(seen map[string]bool, name string) bool {
	for at, rest, ok := "", name, true; ok; {
		at, rest, ok = rest, "", false
		if _, parent, more := strings.Cut(at, "."); more {
			rest, ok = parent, true
		}
		if seen["/"+at] {
			return true
		}
	}
	return slices.ContainsFunc(w.names, func(other string) bool { return strings.HasSuffix(other, "."+name) })
}

func (w *wildWorld) inside() string {
	if len(w.insides) == 0 {
		return "ns"
	}
	return w.insides[w.rand.IntN(len(w.insides))]
}

// delegate makes a zone, every third one signed, and gives the records that lead there.
func (w *wildWorld) delegate(name string, i int) string {
	zoneName := name + ".example.org"
	host := []string{wildOwn, wildOther}[w.rand.IntN(2)]
	text := soa + "@ 3600 NS ns\nns 3600 A " + host + "\nwww 300 A 192.0.2.70\n*.wild 300 TXT below\n"
	lines := fmt.Sprintf("%s 3600 NS ns.%s\nns.%s 3600 A %s\n", name, name, name, host)
	if i%3 == 0 {
		k, err := zone.SeededKey(zone.ECDSAP256SHA256, uint64(100+i))
		if err != nil {
			w.t.Fatal(err)
		}
		w.keys[zoneName], w.how[zoneName] = k, zone.Signing{Keys: []*zone.Key{k}}
		lines += w.ds(zoneName)
	}
	w.zones[dns.MustName(zoneName)] = w.signedZone(zoneName, text)
	return lines
}

// question makes one up: about what is there, or beside, below, or above it.
func (w *wildWorld) question() dns.Question {
	name := w.names[w.rand.IntN(len(w.names))]
	switch w.rand.IntN(12) {
	case 10, 11: // often enough for them to be known
		name = w.made(1) + "." + w.wilds[w.rand.IntN(5)]
	case 0, 1:
	case 2:
		name = "*." + name
	case 3:
		name = w.made(1) + ".*." + name
	case 4, 5:
		name = w.made(1) + "." + name
	case 6:
		name = w.made(2) + "." + name
	case 7:
		_, name, _ = strings.Cut(name, ".")
		name = strings.TrimPrefix(w.made(1)+"."+name, ".")
	case 8:
		_, parent, ok := strings.Cut(name, ".")
		if ok {
			name = parent
		}
	case 9:
		name = w.made(1 + w.rand.IntN(3))
	}
	types := []dns.Type{dns.TypeA, dns.TypeTXT, dns.TypeMX, dns.TypeCNAME, dns.TypeDS, dns.TypeNS, dns.TypeSOA}
	return dns.Question{
		Name: dns.MustName(strings.TrimSuffix(name, ".") + ".example.org"), Type: types[w.rand.IntN(len(types))],
		DNSSEC: w.rand.IntN(2) == 0,
	}
}

// truth is what the zones themselves say, and which one of them.
func (w *wildWorld) truth(q dns.Question) (a dns.Answer, best dns.Name) {
	q.DNSSEC = false
	best = dns.MustName("example.org")
	for zone := range w.zones {
		if above(ask{name: q.Name, typ: q.Type}).In(zone) && zone.In(best) {
			best = zone
		}
	}
	a, err := w.zones[best].Resolve(context.Background(), q)
	if err != nil {
		w.t.Fatal(err)
	}
	return a, best
}

// plainly gives a section without proofs and TTLs, sorted.
func plainly(section []dns.RR) []string {
	var lines []string
	for _, rr := range bare(section, noType) {
		rr = wire.Copy(rr)
		rr.Header().Ttl = 0
		lines = append(lines, strings.ToLower(rr.String()))
	}
	slices.Sort(lines)
	return lines
}

// proven wants the proofs of an answer to hold for who checks them himself.
func (w *wildWorld) proven(q dns.Question, a dns.Answer) error {
	work := &dnssec.Work{}
	keys := &dnssec.Zone{Name: dns.MustName("example.org"), Keys: dnssec.ParseKeys([]dns.RR{w.keys["example.org"].DNSKEY(dns.MustName("example.org"), 3600)})}
	p, _, err := keys.Proof(a.Authority, time.Now(), work)
	if err != nil {
		return err
	}
	denial := dnssec.Proven
	if len(a.Answer) == 0 {
		if a.Rcode == dns.NXDomain {
			denial, err = p.NXDomain(q.Name)
		} else {
			denial, err = p.NoData(q.Name, q.Type)
		}
	} else if sets := dnssec.Group(a.Answer); len(sets) == 1 {
		var verdict dnssec.Verdict
		if verdict, err = keys.Verify(sets[0], time.Now(), work); err == nil && verdict.Expanded {
			denial, err = p.Wildcard(q.Name, verdict.Labels)
		}
	}
	if err == nil && denial != dnssec.Proven {
		return fmt.Errorf("it is worth %v", denial)
	}
	return err
}

// TestAggressiveTruth: whatever was asked before, in whatever order, an answer out of known
// denials is the one that the zone gives.
func TestAggressiveTruth(t *testing.T) {
	const questions = 300
	for name, n3 := range map[string]*zone.NSEC3{"NSEC": nil, "NSEC3": {}, "NSEC3 with salt": {Iterations: 3, Salt: []byte{1, 2}}, "opt-out": {OptOut: true}} {
		for seed := range uint64(2) {
			t.Run(fmt.Sprint(name, " ", seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWild(t, seed, n3)
					expanded := 0
					for range questions {
						q := w.question()
						before := w.Resolver.counts.denied.Load()
						a, err := w.Resolver.Resolve(t.Context(), q)
						want, zone := w.truth(q)
						_, signed := w.how[zone.String()]
						// Below a delegation, it may be the DS record that is known not to be there.
						known := w.Resolver.counts.denied.Load() > before && zone.String() == "example.org"
						if err != nil {
							t.Fatalf("%s: %v", q, err)
						}
						if a.Rcode != want.Rcode || !slices.Equal(plainly(a.Answer), plainly(want.Answer)) || a.Authentic && !signed {
							t.Fatalf("%s (known %v): %s %q %v; the zone says %s %q", q, known, a.Rcode, plainly(a.Answer), a.Authentic, want.Rcode, plainly(want.Answer))
						}
						if known && len(a.Answer) > 0 {
							expanded++
						}
						if known && !a.Authentic {
							t.Errorf("%s: out of known denials, and no AD", q)
						}
						if signed && !a.Authentic && (n3 == nil || !n3.OptOut) {
							t.Errorf("%s: no AD", q)
						}
						if known && q.DNSSEC && len(want.Answer) < 2 {
							if err := w.proven(q, a); err != nil {
								t.Errorf("%s: %v: %v %v", q, err, a.Answer, a.Authority)
							}
						}
						if w.rand.IntN(10) == 0 {
							time.Sleep(time.Duration(w.rand.IntN(20)) * time.Second)
						}
					}
					n := w.Resolver.counts.denied.Load()
					if n3 != nil && n3.OptOut {
						if n > 0 {
							t.Errorf("%d denials with opt-out were used", n)
						}
					} else if n < questions/4 || expanded == 0 {
						t.Errorf("only %d of %d questions met a known denial, %d of them a wildcard", n, questions, expanded)
					}
				})
			})
		}
	}
}
