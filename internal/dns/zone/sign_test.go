package zone_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/zone"
)

const toSign = `$TTL 600
@ SOA ns hostmaster 1 7200 900 1209600 300
@ NS ns
@ MX 10 mail
ns A 192.0.2.1
mail A 192.0.2.2
*.wild TXT "any"
a.b.ent A 192.0.2.3
alias CNAME mail
*star A 192.0.2.4
tree DNAME example.net.
insecure NS ns.insecure
ns.insecure A 192.0.2.5
deep.un.signed NS ns.example.net.
secure NS ns
secure DS 1 13 2 0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF
`

func seeded(t *testing.T, algorithm uint8, entry bool) *zone.Key {
	t.Helper()
	k, err := zone.SeededKey(algorithm, 7)
	if err != nil {
		t.Fatal(err)
	}
	k.Entry = entry
	return k
}

func signed(t *testing.T, s zone.Signing) *zone.Zone {
	t.Helper()
	z, err := parse(t, "example.com", toSign).Sign(s)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// TestSignatures verifies every signature of a zone with the wire library, and counts the
// sets that have one: all but glue and the NS records of delegations.
func TestSignatures(t *testing.T) {
	for _, algorithm := range []uint8{zone.ED25519, zone.ECDSAP256SHA256, zone.ECDSAP384SHA384, zone.RSASHA256, zone.RSASHA512} {
		for _, hashed := range []*zone.NSEC3{nil, {}, {OptOut: true, Iterations: 2, Salt: []byte{1, 2}}} {
			key := seeded(t, algorithm, true)
			z := signed(t, zone.Signing{Keys: []*zone.Key{key}, NSEC3: hashed})
			dnskey := key.DNSKEY(z.Origin, 0)
			sets, sigs := map[string][]dns.RR{}, map[string]*wire.RRSIG{}
			for _, rr := range z.Records() {
				if sig, ok := rr.(*wire.RRSIG); ok {
					sigs[sig.Hdr.Name+dns.Type(sig.TypeCovered).String()] = sig
					continue
				}
				at := rr.Header().Name + dns.Type(rr.Header().Rrtype).String()
				sets[at] = append(sets[at], rr)
			}
			for at, set := range sets {
				bare := slices.Contains([]string{"insecure.example.com.NS", "ns.insecure.example.com.A", "deep.un.signed.example.com.NS", "secure.example.com.NS"}, at)
				switch sig := sigs[at]; {
				case bare && sig != nil:
					t.Errorf("%s is signed", at)
				case bare || strings.HasPrefix(at, "*star"): // the wire library takes it for a wildcard
				case sig == nil:
					t.Errorf("%s is not signed", at)
				case sig.Verify(dnskey, set) != nil || !sig.ValidityPeriod(time.Now()):
					t.Errorf("%s: a bad signature %v", at, sig)
				}
			}
			if sig := sigs["*star.example.com.A"]; sig == nil || sig.Labels != 3 {
				t.Errorf("*star, which is no wildcard: %v", sig)
			}
			if len(sigs) < 15 {
				t.Errorf("only %d signatures", len(sigs))
			}
		}
	}
}

// TestSignTwice: a zone signed twice at the same time is the same zone, and what is
// written is read again as it was.
func TestSignTwice(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	s := zone.Signing{
		Keys:      []*zone.Key{seeded(t, zone.ECDSAP256SHA256, false)},
		Inception: at, Expiration: at.Add(time.Hour),
		NSEC3: &zone.NSEC3{},
	}
	var first, second, third bytes.Buffer
	z := signed(t, s)
	write := func(z *zone.Zone, to *bytes.Buffer) {
		if _, err := z.WriteTo(to); err != nil {
			t.Fatal(err)
		}
	}
	write(z, &first)
	z, err := z.Sign(s)
	if err != nil {
		t.Fatal(err)
	}
	write(z, &second)
	write(parse(t, "example.com", second.String()), &third)
	if first.String() != second.String() || second.String() != third.String() {
		t.Errorf("three different zones:\n%s\n%s\n%s", &first, &second, &third)
	}
}

func TestKeys(t *testing.T) {
	one, err := zone.NewKey(zone.ED25519)
	if err != nil {
		t.Fatal(err)
	}
	two, err := zone.NewKey(zone.RSASHA256)
	if err != nil {
		t.Fatal(err)
	}
	if got := two.DS(dns.MustName("example.com"), 60); len(got.Digest) != 64 || got.Algorithm != zone.RSASHA256 {
		t.Errorf("DS: %v", got)
	}
	if one.DNSKEY(dns.Root, 0).Flags != 256 {
		t.Error("a key without Entry has the SEP flag")
	}
	if _, err := zone.NewKey(5); err == nil {
		t.Error("a key for RSA/SHA-1")
	}
	if _, err := parse(t, "example.com", toSign).Sign(zone.Signing{}); err == nil {
		t.Error("signed without keys")
	}
}

// TestProofs asks signed zones and names the proofs in the authority section.
func TestProofs(t *testing.T) {
	nsec := signed(t, zone.Signing{Keys: []*zone.Key{seeded(t, zone.ED25519, false)}})
	nsec3 := signed(t, zone.Signing{Keys: []*zone.Key{seeded(t, zone.ED25519, false)}, NSEC3: &zone.NSEC3{}})
	optout := signed(t, zone.Signing{Keys: []*zone.Key{seeded(t, zone.ED25519, false)}, NSEC3: &zone.NSEC3{OptOut: true}})
	for _, row := range []struct {
		q             string
		answer        int // records without signatures
		nsec          string
		nsec3, optout int // NSEC3 records
	}{
		{"mail A", 1, "", 0, 0},
		{"mail TXT", 0, "mail", 1, 1},
		// The name and the wildcard at the apex are both covered.
		{"no A", 0, "secure,mail... ", 3, 3},
		{"x.wild TXT", 1, "*.wild", 1, 1},
		{"x.wild A", 0, "*.wild", 3, 3},
		{"b.ent A", 0, "alias", 1, 1},
		{"x.tree A", 2, "", 0, 0},
		{"x.insecure A", 0, "insecure", 1, 2},
		{"insecure DS", 0, "insecure", 1, 2},
		{"x.secure A", 0, "", 0, 0},
		{"secure DS", 1, "", 0, 0},
		// An empty non-terminal that only an opted-out delegation needs has no record.
		{"signed A", 0, "secure", 1, 2},
	} {
		name, typ, _ := strings.Cut(row.q, " ")
		qtype, _ := dns.ParseType(typ)
		q := dns.Question{Name: dns.MustName(name + ".example.com"), Type: qtype, DNSSEC: true}
		for z, want := range map[*zone.Zone]int{nsec: -1, nsec3: row.nsec3, optout: row.optout} {
			a, err := z.Resolve(context.Background(), q)
			if err != nil {
				t.Fatal(err)
			}
			count := func(section []dns.RR, match uint16) (n int) {
				for _, rr := range section {
					if rr.Header().Rrtype == match || match == 0 && rr.Header().Rrtype != wire.TypeRRSIG {
						n++
					}
				}
				return n
			}
			if got := count(a.Answer, 0); got != row.answer {
				t.Errorf("%s: %d records, want %d", row.q, got, row.answer)
			}
			if got := count(a.Authority, wire.TypeNSEC3); want >= 0 && got != want {
				t.Errorf("%s: %d NSEC3 records, want %d:\n%v", row.q, got, want, a.Authority)
			}
			if got := count(a.Authority, wire.TypeNSEC); want < 0 && (got > 0) != (row.nsec != "") {
				t.Errorf("%s: %d NSEC records:\n%v", row.q, got, a.Authority)
			}
			q.DNSSEC = false
			if a, _ := z.Resolve(context.Background(), q); count(a.Authority, wire.TypeNSEC)+count(a.Authority, wire.TypeNSEC3)+count(a.Answer, wire.TypeRRSIG) > 0 {
				t.Errorf("%s: proofs for who does not want them", row.q)
			}
			q.DNSSEC = true
		}
	}
}
