package dnssec_test

import (
	"cmp"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
	"mxward/internal/dns/zone"
)

// TestSortKey: the order of RFC 4034 §6.1, with its own example.
func TestSortKey(t *testing.T) {
	names := []string{
		".", "example", "a.example", "yljkjljk.a.example", "z.a.example", "zabc.a.example", "z.example",
		`\000.z.example`, `\001.z.example`, `a\000.z.example`, "*.z.example", `\200.z.example`,
	}
	names[9], names[10] = names[10], names[9] // "*" comes before "a"
	for i := range names {
		for j := range names {
			a, b := dnssec.SortKey(dns.MustName(names[i])), dnssec.SortKey(dns.MustName(names[j]))
			if cmp.Compare(a, b) != cmp.Compare(i, j) {
				t.Errorf("%s and %s: %q, %q", names[i], names[j], a, b)
			}
		}
	}
}

// TestSecondDear: a forged record before the signed one does not hide that hashes are dear.
func TestSecondDear(t *testing.T) {
	s := sign(t, zone.Signing{Keys: []*zone.Key{key(t, zone.ED25519, 1)}, NSEC3: &zone.NSEC3{Iterations: 51}})
	a := s.ask("gone.example.org", dns.TypeA)
	forged := &wire.NSEC3{
		Hdr:  wire.RR_Header{Name: "00000000000000000000000000000000.example.org.", Rrtype: wire.TypeNSEC3, Class: wire.ClassINET, Ttl: 300},
		Hash: 1, Iterations: 99, HashLength: 20, NextDomain: "10000000000000000000000000000000",
	}
	p := s.proof(dns.Answer{Authority: append([]dns.RR{forged}, a.Authority...)})
	if d, err := p.NXDomain(dns.MustName("gone.example.org")); err != nil || d != dnssec.Insecure || !p.Dear() {
		t.Errorf("%v, %v", d, err)
	}
}

// TestProofSets: what a proof holds is of one chain, each with its good signature alone.
func TestProofSets(t *testing.T) {
	k := key(t, zone.ED25519, 1)
	s := sign(t, zone.Signing{Keys: []*zone.Key{k}, NSEC3: &zone.NSEC3{}})
	other := sign(t, zone.Signing{Keys: []*zone.Key{k}, NSEC3: &zone.NSEC3{Salt: []byte{1}}})
	a := s.ask("gone.example.org", dns.TypeA)
	own := len(s.proof(a).Sets)
	mixed := append(a.Authority, other.ask("gone.example.org", dns.TypeA).Authority...)
	for _, rr := range a.Authority {
		if sig, ok := rr.(*wire.RRSIG); ok { // junk beside the good one
			bad := wire.Copy(sig).(*wire.RRSIG)
			bad.OrigTtl++
			mixed = append([]dns.RR{bad}, mixed...)
		}
	}
	p, until, err := s.keys.Proof(mixed, time.Now(), &dnssec.Work{})
	if err != nil || len(p.Sets) != own || own == 0 || time.Until(until) > 24*time.Hour {
		t.Fatalf("%d sets, %d without the other chain; until %v; %v", len(p.Sets), own, until, err)
	}
	for _, set := range p.Sets {
		if n := set.Records[0].(*wire.NSEC3); n.Salt != "" || len(set.Sigs) != 1 || set.Sigs[0].OrigTtl != n.Hdr.Ttl {
			t.Errorf("%v, %v", set.Records, set.Sigs)
		}
	}
}
