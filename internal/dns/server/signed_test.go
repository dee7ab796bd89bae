package server_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/zone"
)

// signings are the ways in which the zones of TestSignedPeers are signed.
var signings = map[string]func(t *testing.T) zone.Signing{
	"nsec": func(t *testing.T) zone.Signing {
		return zone.Signing{Keys: []*zone.Key{seeded(t, zone.ECDSAP256SHA256, 1, true), seeded(t, zone.ECDSAP256SHA256, 2, false)}}
	},
	"nsec3": func(t *testing.T) zone.Signing {
		return zone.Signing{
			Keys:  []*zone.Key{seeded(t, zone.ED25519, 3, true)},
			NSEC3: &zone.NSEC3{Iterations: 3, Salt: []byte{0xde, 0xad}},
		}
	},
	"optout": func(t *testing.T) zone.Signing {
		return zone.Signing{Keys: []*zone.Key{seeded(t, zone.ED25519, 4, false)}, NSEC3: &zone.NSEC3{OptOut: true}}
	},
}

func seeded(t *testing.T, algorithm uint8, seed uint64, entry bool) *zone.Key {
	t.Helper()
	k, err := zone.SeededKey(algorithm, seed)
	if err != nil {
		t.Fatal(err)
	}
	k.Entry = entry
	return k
}

// signedZones signs the zones of a folder and writes them as master files. A delegation to
// a zone of the same folder gets a DS record.
func signedZones(t *testing.T, zones map[string]string, s zone.Signing) map[string]string {
	t.Helper()
	dir, out := t.TempDir(), map[string]string{}
	for origin, file := range zones {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		z, err := zone.Parse(f, dns.MustName(origin), filepath.Base(file))
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		records := z.Records()
		for child := range zones {
			name := dns.MustName(child)
			ns, _ := z.Lookup(name, dns.TypeNS)
			if ds, _ := z.Lookup(name, dns.TypeDS); len(ns) > 0 && len(ds) == 0 && name != z.Origin {
				records = append(records, s.Keys[0].DS(name, 300))
			}
		}
		if z, err = zone.New(z.Origin, records); err != nil {
			t.Fatal(err)
		}
		if z, err = z.Sign(s); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.Base(file))
		w, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := z.WriteTo(w); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		out[origin] = path
	}
	return out
}

// TestSignedPeers is TestPeers with the zones signed, read from the signed files, and every
// question asked with DO, over TCP so that nothing is cut.
func TestSignedPeers(t *testing.T) {
	for how, signing := range signings {
		for name, p := range peers {
			t.Run(how+"/"+name, func(t *testing.T) {
				t.Parallel()
				zones := signedZones(t, zoneFiles(t, "world"), signing(t))
				c := comparison{peer: name, zones: zones, said: map[string]bool{}, used: map[string]int{}}
				theirs := dial(t, p.start(t, zones))
				mine := dial(t, serve(t, ours(t, zones)))
				list := questions(t, zones)
				if len(list) < 3000 {
					t.Fatalf("only %d questions", len(list))
				}
				for i, q := range list {
					if i%4 != 0 && hashOwner(q.Name) != "." {
						continue // some names of NSEC3 records are enough
					}
					m := &wire.Msg{Question: []wire.Question{q}}
					m.Id = uint16(i)
					m.SetEdns0(1232, true)
					packet, err := m.Pack()
					if err != nil {
						t.Fatal(err)
					}
					got, want := mine.ask(t, packet, true), theirs.ask(t, packet, true)
					if diff := compareSigned(&c, q, got, want); diff != "" {
						t.Errorf("%v: %s\nours:\n%v\ntheirs:\n%v", q, diff, got, want)
					}
				}
				t.Logf("%d questions; explained differences: %v", len(list), c.used)
			})
		}
	}
}

// compareSigned compares everything, signatures and proofs included. What differs has to be
// known for the unsigned answer too, or to be one of the few ways in which proofs differ.
func compareSigned(c *comparison, q wire.Question, got, want *wire.Msg) string {
	if len(want.Answer) > 0 && len(aliasEnd(unsigned(want).Answer)) == 0 {
		want.Ns = slices.DeleteFunc(want.Ns, func(rr wire.RR) bool { return covers(rr) == wire.TypeNS }) // NSD adds it
	}
	bare := comparison{peer: c.peer, zones: c.zones, said: c.said, used: c.used}
	diff := bare.compare(q, unsigned(got), unsigned(want))
	if diff != "" {
		return diff
	}
	known := bare.used
	total := 0
	for _, n := range known {
		total += n
	}
	switch {
	case total > c.explained: // the unsigned answers differ, and the table says why
		c.explained = total
	case slices.Equal(texts(got.Answer), texts(want.Answer)) && slices.Equal(texts(got.Ns), texts(want.Ns)):
	case c.peer == "nsd" && wire.IsSubDomain(hashOwner(q.Name), q.Name) && got.Rcode == want.Rcode:
		c.used["NSD takes the owner of an NSEC3 record for a name of the zone, against RFC 5155 §7.2.8"]++
		c.explained++
	case got.Rcode == wire.RcodeSuccess && len(got.Answer) == 0 && subset(want.Ns, got.Ns) && c.peer == "bind":
		c.used["the wildcard is an empty non-terminal: BIND leaves out that the name itself does not exist (RFC 4035 §3.1.3.4)"]++
		c.explained++
	default:
		return "signatures or proofs"
	}
	return ""
}

// hashOwner gives the last three labels of a name if the first of them looks like a hash.
func hashOwner(name string) string {
	labels := wire.SplitDomainName(name)
	for i, label := range labels {
		if len(label) == 32 {
			return wire.Fqdn(strings.Join(labels[i:], "."))
		}
	}
	return "."
}

// covers gives the type that a record is of or signs.
func covers(rr wire.RR) uint16 {
	if sig, ok := rr.(*wire.RRSIG); ok {
		return sig.TypeCovered
	}
	return rr.Header().Rrtype
}

// unsigned gives a reply without signatures and proofs that nobody asked for by name.
func unsigned(m *wire.Msg) *wire.Msg {
	out := *m
	drop := func(section []wire.RR, negative bool) []wire.RR {
		return slices.DeleteFunc(slices.Clone(section), func(rr wire.RR) bool {
			switch rr.Header().Rrtype {
			case wire.TypeRRSIG:
				return true
			case wire.TypeNSEC, wire.TypeNSEC3, wire.TypeDS:
				return negative
			}
			return false
		})
	}
	out.Answer, out.Ns, out.Extra = drop(m.Answer, false), drop(m.Ns, true), drop(m.Extra, false)
	return &out
}
