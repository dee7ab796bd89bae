package dnssec_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
	"mxward/internal/dns/zone"
)

const plain = `
@ 3600 SOA ns host 1 7200 900 1209600 300
@ 3600 NS ns
@ 300 MX 10 Mail
ns 300 A 192.0.2.53
mail 300 A 192.0.2.25
*.wild 300 TXT "from a wildcard"
deep.er.name 300 A 192.0.2.81
cut 3600 NS ns.example.net.
signed 3600 NS ns.example.net.
signed 3600 DS 1 13 2 0000000000000000000000000000000000000000000000000000000000000000
dname 300 DNAME example.net.
`

func key(t testing.TB, algorithm uint8, seed uint64) *zone.Key {
	t.Helper()
	k, err := zone.SeededKey(algorithm, seed)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// signed is example.org, signed, and what trusts it.
type signed struct {
	*zone.Zone
	t    testing.TB
	keys *dnssec.Zone
}

func sign(t testing.TB, s zone.Signing) signed {
	t.Helper()
	z, err := zone.Parse(strings.NewReader(plain), dns.MustName("example.org"), "plain")
	if err != nil {
		t.Fatal(err)
	}
	if z, err = z.Sign(s); err != nil {
		t.Fatal(err)
	}
	var records []dns.RR
	for _, k := range s.Keys {
		records = append(records, k.DNSKEY(z.Origin, 3600))
	}
	return signed{z, t, &dnssec.Zone{Name: z.Origin, Keys: dnssec.ParseKeys(records)}}
}

func (s signed) ask(name string, typ dns.Type) dns.Answer {
	s.t.Helper()
	a, err := s.Resolve(context.Background(), dns.Question{Name: dns.MustName(name), Type: typ, DNSSEC: true})
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// set gives the only set of an answer.
func (s signed) set(name string, typ dns.Type) dnssec.Set {
	s.t.Helper()
	sets := dnssec.Group(s.ask(name, typ).Answer)
	if len(sets) != 1 || len(sets[0].Sigs) == 0 {
		s.t.Fatalf("%s %s: %v", name, typ, sets)
	}
	return sets[0]
}

func (s signed) proof(a dns.Answer) *dnssec.Proof {
	s.t.Helper()
	p, _, err := s.keys.Proof(a.Authority, time.Now(), &dnssec.Work{})
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

var algorithms = []uint8{zone.RSASHA256, zone.RSASHA512, zone.ECDSAP256SHA256, zone.ECDSAP384SHA384, zone.ED25519}

// TestAlgorithms: each algorithm signs, is checked, and its keys are found by DS.
func TestAlgorithms(t *testing.T) {
	for _, a := range algorithms {
		k := key(t, a, 1)
		s := sign(t, zone.Signing{Keys: []*zone.Key{k}})
		for _, q := range []struct {
			name string
			typ  dns.Type
		}{{"example.org", dns.TypeMX}, {"mail.example.org", dns.TypeA}, {"example.org", dns.TypeSOA}} {
			verdict, err := s.keys.Verify(s.set(q.name, q.typ), time.Now(), &dnssec.Work{})
			if err != nil || verdict.Expanded || time.Until(verdict.Until) < 24*time.Hour {
				t.Errorf("algorithm %d, %s: %+v, %v", a, q.name, verdict, err)
			}
		}
		ds := []dns.RR{k.DS(s.Origin, 3600)}
		keys := s.set("example.org", dns.Type(wire.TypeDNSKEY))
		got, _, err := dnssec.Trust(s.Origin, ds, keys, time.Now(), &dnssec.Work{})
		if err != nil || len(got.Keys) != 1 {
			t.Errorf("algorithm %d: trust: %v", a, err)
		}
	}
}

func wantFault(t *testing.T, err error, code uint16, word string) {
	t.Helper()
	var f *dnssec.Fault
	if !errors.As(err, &f) || f.Code != code || !strings.Contains(f.Text, word) {
		t.Errorf("got %v, want code %d with %q", err, code, word)
	}
}

// TestVerifyFaults: what is wrong with a signature, one row each.
func TestVerifyFaults(t *testing.T) {
	k := key(t, zone.ED25519, 1)
	s := sign(t, zone.Signing{Keys: []*zone.Key{k}})
	now := time.Now()
	for _, tt := range []struct {
		name string
		turn func(*dnssec.Set, *wire.RRSIG)
		at   time.Duration // from now
		code uint16
		word string
	}{
		{"expired", nil, 15 * 24 * time.Hour, dnssec.CodeSignatureExpired, "mail.example.org A expired on 20"},
		{"not yet valid", nil, -2 * time.Hour, dnssec.CodeSignatureNotYetValid, "valid only from 20"},
		{"data changed", func(s *dnssec.Set, _ *wire.RRSIG) { s.Records[0].(*wire.A).A[15]++ }, 0, dnssec.CodeBogus, "is wrong"},
		{"a record more", func(s *dnssec.Set, _ *wire.RRSIG) {
			more := wire.Copy(s.Records[0])
			more.(*wire.A).A[15]++
			s.Records = append(s.Records, more)
		}, 0, dnssec.CodeBogus, "is wrong"},
		{"wrong signer", func(_ *dnssec.Set, r *wire.RRSIG) { r.SignerName = "org." }, 0, dnssec.CodeBogus, "by org, not by"},
		// Not label by label (RESOLVER: HasSuffix on strings).
		{"signer by suffix", func(_ *dnssec.Set, r *wire.RRSIG) { r.SignerName = "ample.org." }, 0, dnssec.CodeBogus, "by ample.org"},
		{"key missing", func(_ *dnssec.Set, r *wire.RRSIG) { r.KeyTag++ }, 0, dnssec.CodeKeyMissing, "does not have"},
		{"no signature", func(s *dnssec.Set, _ *wire.RRSIG) { s.Sigs = nil }, 0, dnssec.CodeSignaturesMissing, "no signature"},
		{"unsupported", func(_ *dnssec.Set, r *wire.RRSIG) { r.Algorithm = 5 }, 0, dnssec.CodeUnsupportedAlgorithm, "RSASHA1"},
		// CVE-2026-11721 and its kin: a wildcard above the signer's zone.
		{"labels below the signer's", func(_ *dnssec.Set, r *wire.RRSIG) { r.Labels = 1 }, 0, dnssec.CodeBogus, "above example.org"},
		{"labels of the root", func(_ *dnssec.Set, r *wire.RRSIG) { r.Labels = 0 }, 0, dnssec.CodeBogus, "above example.org"},
		{"labels beyond the owner's", func(_ *dnssec.Set, r *wire.RRSIG) { r.Labels = 4 }, 0, dnssec.CodeBogus, "longer name"},
		{"labels of a wildcard that nobody signed", func(_ *dnssec.Set, r *wire.RRSIG) { r.Labels = 2 }, 0, dnssec.CodeBogus, "is wrong"},
		{"ends before it begins", func(_ *dnssec.Set, r *wire.RRSIG) { r.Inception = r.Expiration + 1 }, 0, dnssec.CodeBogus, "before it begins"},
		{"other type", func(_ *dnssec.Set, r *wire.RRSIG) { r.TypeCovered = wire.TypeMX }, 0, dnssec.CodeBogus, "covers something else"},
		{"no base64", func(_ *dnssec.Set, r *wire.RRSIG) { r.Signature = "?" }, 0, dnssec.CodeBogus, "cannot be read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set := s.set("mail.example.org", dns.TypeA)
			set.Records = []dns.RR{wire.Copy(set.Records[0])}
			sig := wire.Copy(set.Sigs[0]).(*wire.RRSIG)
			set.Sigs = []*wire.RRSIG{sig}
			if tt.turn != nil {
				if a := set.Records[0].(*wire.A); len(a.A) == 4 {
					a.A = a.A.To16()
				}
				tt.turn(&set, sig)
			}
			_, err := s.keys.Verify(set, now.Add(tt.at), &dnssec.Work{})
			wantFault(t, err, tt.code, tt.word)
		})
	}
	// Within the skew of clocks all is well.
	set := s.set("mail.example.org", dns.TypeA)
	if _, err := s.keys.Verify(set, now.Add(14*24*time.Hour+time.Minute), &dnssec.Work{}); err != nil {
		t.Error(err)
	}
	// The order of records and the case of names inside them are not signed.
	mx := s.set("example.org", dns.TypeMX)
	other := wire.Copy(mx.Records[0]).(*wire.MX)
	other.Mx, other.Hdr.Name, other.Hdr.Ttl = strings.ToUpper(other.Mx), "EXAMPLE.org.", 1
	mx.Records = []dns.RR{other, other}
	if _, err := s.keys.Verify(mx, now, &dnssec.Work{}); err != nil {
		t.Error(err)
	}
}

func TestSigner(t *testing.T) {
	org := dns.MustName("org")
	sig := func(signer string) *wire.RRSIG { return &wire.RRSIG{SignerName: signer} }
	for _, tt := range []struct {
		name    string
		typ     dns.Type
		signers []string
		servers dns.Name
		want    string
	}{
		{"mx.example.org", dns.TypeA, []string{"example.org."}, org, "example.org"},
		{"mx.example.org", dns.TypeA, []string{"example.org.", "org."}, org, "org"}, // the servers' zone first
		{"mx.example.org", dns.TypeA, []string{"."}, org, ""},                       // above the servers' zone
		{"mx.example.org", dns.TypeA, []string{"ple.org."}, org, ""},                // not label by label
		{"example.org", dns.TypeDS, []string{"example.org.", "org."}, org, "org"},   // the parent's, never the child's
		{"example.org", dns.TypeDS, []string{"example.org."}, org, ""},
	} {
		set := dnssec.Set{Name: dns.MustName(tt.name), Type: tt.typ}
		for _, s := range tt.signers {
			set.Sigs = append(set.Sigs, sig(s))
		}
		if got := set.Signer(tt.servers); got.String() != tt.want {
			t.Errorf("%s %s by %v: %q, want %q", tt.name, tt.typ, tt.signers, got, tt.want)
		}
	}
}

// TestTrust: DS records and keys that do and do not fit.
func TestTrust(t *testing.T) {
	entry, data, other := key(t, zone.ECDSAP256SHA256, 1), key(t, zone.ECDSAP256SHA256, 2), key(t, zone.ECDSAP256SHA256, 3)
	entry.Entry = true
	s := sign(t, zone.Signing{Keys: []*zone.Key{entry, data}})
	dnskey := s.set("example.org", dns.Type(wire.TypeDNSKEY))
	ds := func(k *zone.Key, turn func(*wire.DS)) dns.RR {
		d := k.DS(s.Origin, 3600)
		if turn != nil {
			turn(d)
		}
		return d
	}
	sha1 := func(d *wire.DS) { d.DigestType = wire.SHA1 }
	rsaSHA1 := func(d *wire.DS) { d.Algorithm = wire.RSASHA1 }
	wrong := func(d *wire.DS) { d.Digest = strings.Repeat("00", 32) }
	many := make([]dns.RR, 20)
	for i := range many {
		many[i] = ds(entry, wrong)
	}
	for _, tt := range []struct {
		name string
		ds   []dns.RR
		code uint16 // 0: trusted; 1: unsupported
	}{
		{"fits", []dns.RR{ds(entry, nil)}, 0},
		{"one of two fits", []dns.RR{ds(other, nil), ds(entry, nil)}, 0},
		{"beside SHA-1 and old algorithms", []dns.RR{ds(entry, sha1), ds(entry, rsaSHA1), ds(entry, nil)}, 0},
		{"another key", []dns.RR{ds(other, nil)}, dnssec.CodeKeyMissing},
		{"wrong digest", []dns.RR{ds(entry, wrong)}, dnssec.CodeKeyMissing},
		{"too many wrong digests", append(many, ds(entry, nil)), dnssec.CodeKeyMissing},
		{"the key that does not sign keys", []dns.RR{ds(data, nil)}, dnssec.CodeKeyMissing},
		{"SHA-1 alone: RFC 9904", []dns.RR{ds(entry, sha1)}, 1},
		{"an old algorithm alone", []dns.RR{ds(entry, rsaSHA1)}, 1},
		{"none", nil, 1},
	} {
		_, _, err := dnssec.Trust(s.Origin, tt.ds, dnskey, time.Now(), &dnssec.Work{})
		switch {
		case tt.code == 0 && err != nil, tt.code == 1 && !errors.Is(err, dnssec.ErrUnsupported):
			t.Errorf("%s: %v", tt.name, err)
		case tt.code > 1:
			t.Run(tt.name, func(t *testing.T) { wantFault(t, err, tt.code, "example.org") })
		}
	}
	_, _, err := dnssec.Trust(s.Origin, []dns.RR{ds(entry, nil)}, dnssec.Set{Name: s.Origin, Type: dns.Type(wire.TypeDNSKEY)}, time.Now(), &dnssec.Work{})
	wantFault(t, err, dnssec.CodeKeyMissing, "no DNSKEY")
}

// chains are the ways to prove that something is not there.
var chains = map[string]*zone.NSEC3{"NSEC": nil, "NSEC3": {}, "NSEC3 with salt": {Iterations: 5, Salt: []byte("salt")}}

func TestDenial(t *testing.T) {
	for name, n3 := range chains {
		t.Run(name, func(t *testing.T) {
			s := sign(t, zone.Signing{Keys: []*zone.Key{key(t, zone.ED25519, 1)}, NSEC3: n3})
			for _, gone := range []string{"gone.example.org", "a.b.c.example.org", "zz.name.example.org", "a.mail.example.org"} {
				p := s.proof(s.ask(gone, dns.TypeA))
				if d, err := p.NXDomain(dns.MustName(gone)); err != nil || d != dnssec.Proven {
					t.Errorf("NXDOMAIN %s: %v, %v", gone, d, err)
				}
				if d, err := p.NoData(dns.MustName(gone), dns.TypeA); err == nil {
					t.Errorf("NODATA %s by a proof of NXDOMAIN: %v", gone, d)
				}
				// The proof is for nothing that is there.
				for _, there := range []string{"mail.example.org", "example.org", "er.name.example.org", "x.wild.example.org", "gone.example.net", "org"} {
					if d, err := p.NXDomain(dns.MustName(there)); err == nil {
						t.Errorf("the proof for %s denies %s: %v", gone, there, d)
					}
				}
			}
			for _, nodata := range []string{"mail.example.org", "name.example.org", "er.name.example.org", "x.wild.example.org", "example.org"} {
				p := s.proof(s.ask(nodata, dns.TypeAAAA))
				if d, err := p.NoData(dns.MustName(nodata), dns.TypeAAAA); err != nil || d != dnssec.Proven {
					t.Errorf("NODATA %s: %v, %v", nodata, d, err)
				}
				if d, err := p.NXDomain(dns.MustName(nodata)); err == nil {
					t.Errorf("NXDOMAIN %s by a proof of NODATA: %v", nodata, d)
				}
			}
			p := s.proof(s.ask("mail.example.org", dns.TypeAAAA))
			if d, err := p.NoData(dns.MustName("mail.example.org"), dns.TypeA); err == nil {
				t.Errorf("A of mail is there: %v", d)
			}
			// A wildcard, and its proof.
			a := s.ask("x.wild.example.org", dns.TypeTXT)
			verdict, err := s.keys.Verify(dnssec.Group(a.Answer)[0], time.Now(), &dnssec.Work{})
			if err != nil || !verdict.Expanded || verdict.Labels != 3 {
				t.Fatalf("wildcard: %+v, %v", verdict, err)
			}
			p = s.proof(a)
			if d, err := p.Wildcard(dns.MustName("x.wild.example.org"), 3); err != nil || d != dnssec.Proven {
				t.Errorf("wildcard: %v, %v", d, err)
			}
			if d, err := p.Wildcard(dns.MustName("mail.example.org"), 2); err == nil {
				t.Errorf("a wildcard in place of what is there: %v", d)
			}
			// Delegations.
			ds := s.proof(s.ask("cut.example.org", dns.TypeDS))
			if cut, err := ds.NoDS(dns.MustName("cut.example.org")); err != nil || cut != dnssec.InsecureCut {
				t.Errorf("an unsigned delegation: %v, %v", cut, err)
			}
			for _, typ := range []dns.Type{dns.TypeA, dns.TypeMX} {
				if d, err := ds.NoData(dns.MustName("cut.example.org"), typ); err == nil {
					t.Errorf("the parent speaks for %s of a delegation: %v", typ, d)
				}
			}
			for _, below := range []string{"a.cut.example.org", "a.b.cut.example.org"} {
				if d, err := ds.NXDomain(dns.MustName(below)); err == nil {
					t.Errorf("the parent denies %s, below a delegation: %v", below, d)
				}
			}
			if cut, err := s.proof(s.ask("mail.example.org", dns.TypeDS)).NoDS(dns.MustName("mail.example.org")); err != nil || cut != dnssec.NoCut {
				t.Errorf("no delegation: %v, %v", cut, err)
			}
			// The child's apex says nothing of its DS.
			if d, err := s.proof(s.ask("example.org", dns.TypeAAAA)).NoDS(s.Origin); err == nil {
				t.Errorf("the child denies its DS: %v", d)
			}
		})
	}
}

// TestOptOut: between opt-out records there may be unsigned delegations (RFC 5155 §6).
func TestOptOut(t *testing.T) {
	s := sign(t, zone.Signing{Keys: []*zone.Key{key(t, zone.ED25519, 1)}, NSEC3: &zone.NSEC3{OptOut: true}})
	cut := dns.MustName("cut.example.org")
	if c, err := s.proof(s.ask("cut.example.org", dns.TypeDS)).NoDS(cut); err != nil || c != dnssec.InsecureCut {
		t.Errorf("%v, %v", c, err)
	}
	gone := dns.MustName("gone.example.org")
	if d, err := s.proof(s.ask("gone.example.org", dns.TypeA)).NXDomain(gone); err != nil || d != dnssec.Insecure {
		t.Errorf("%v, %v", d, err)
	}
}

// TestIterations: too many make a proof insecure, if the zone itself has signed it.
func TestIterations(t *testing.T) {
	s := sign(t, zone.Signing{Keys: []*zone.Key{key(t, zone.ED25519, 1)}, NSEC3: &zone.NSEC3{Iterations: 51}})
	gone := dns.MustName("gone.example.org")
	a := s.ask("gone.example.org", dns.TypeA)
	var work dnssec.Work
	p, _, err := s.keys.Proof(a.Authority, time.Now(), &work)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := p.NXDomain(gone); err != nil || d != dnssec.Insecure || work.Hashes != 0 {
		t.Errorf("%v, %v, %d hashes", d, err, work.Hashes)
	}
	forged := slices.Clone(a.Authority)
	for i, rr := range forged {
		if n, ok := rr.(*wire.NSEC3); ok {
			forged[i] = wire.Copy(n)
			forged[i].(*wire.NSEC3).Iterations = 100
		}
	}
	if d, err := s.proof(dns.Answer{Authority: forged}).NXDomain(gone); err == nil {
		t.Errorf("records that nobody signed make a zone insecure: %v", d)
	}
}

// TestNSECOutside: a next name in another zone proves nothing (CVE-2026-13321).
func TestNSECOutside(t *testing.T) {
	k := key(t, zone.ED25519, 1)
	s := sign(t, zone.Signing{Keys: []*zone.Key{k}})
	n := &wire.NSEC{
		Hdr:        wire.RR_Header{Name: "mail.example.org.", Rrtype: wire.TypeNSEC, Class: wire.ClassINET, Ttl: 300},
		NextDomain: "zzz.org.", TypeBitMap: []uint16{wire.TypeA, wire.TypeRRSIG, wire.TypeNSEC},
	}
	sig, err := k.Sign([]dns.RR{n}, s.Origin, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	p := s.proof(dns.Answer{Authority: []dns.RR{n, sig}})
	for _, name := range []string{"victim.org", "z.example.org", "zoo.example.org"} {
		if d, err := p.NXDomain(dns.MustName(name)); err == nil {
			t.Errorf("%s: %v", name, d)
		}
	}
}

// TestKeyTrap: many keys with one tag, many signatures: the work is bounded
// (CVE-2023-50387).
func TestKeyTrap(t *testing.T) {
	s := sign(t, zone.Signing{Keys: []*zone.Key{key(t, zone.ECDSAP256SHA256, 1)}})
	trap := &dnssec.Zone{Name: s.Origin}
	for range 500 {
		trap.Keys = append(trap.Keys, s.keys.Keys[0])
	}
	set := s.set("mail.example.org", dns.TypeA)
	bad := wire.Copy(set.Sigs[0]).(*wire.RRSIG)
	bad.OrigTtl++
	set.Sigs = slices.Repeat([]*wire.RRSIG{bad}, 500)
	var work dnssec.Work
	if _, err := trap.Verify(set, time.Now(), &work); err == nil || work.Verifications > 8 {
		t.Errorf("%v after %d verifications", err, work.Verifications)
	}
	_, err := trap.Verify(set, time.Now(), &work)
	if !errors.Is(err, dnssec.ErrWork) || work.Verifications > 8 {
		t.Errorf("%v after %d verifications", err, work.Verifications)
	}
	good := s.set("mail.example.org", dns.TypeA)
	work = dnssec.Work{}
	for range 32 {
		if _, err := s.keys.Verify(good, time.Now(), &work); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.keys.Verify(good, time.Now(), &work); !errors.Is(err, dnssec.ErrWork) {
		t.Errorf("the 33rd signature: %v", err)
	}
}

// TestHashBudget: a name of very many labels costs no more hashes than a question may
// (CVE-2023-50868).
func TestHashBudget(t *testing.T) {
	s := sign(t, zone.Signing{Keys: []*zone.Key{key(t, zone.ED25519, 1)}, NSEC3: &zone.NSEC3{Iterations: 50}})
	name := strings.Repeat("a.", 100) + "example.org"
	var work dnssec.Work
	p, _, err := s.keys.Proof(s.ask(name, dns.TypeA).Authority, time.Now(), &work)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.NXDomain(dns.MustName(name)); !errors.Is(err, dnssec.ErrWork) || work.Hashes > 32 {
		t.Errorf("%v after %d hashes", err, work.Hashes)
	}
}

func TestAnchors(t *testing.T) {
	if got := dnssec.RootAnchors(); len(got) != 2 || !strings.HasPrefix(got[0].String(), ". DS 20326 8 2 E06D") {
		t.Errorf("%v", got)
	}
	k := key(t, zone.ED25519, 1)
	a, err := dnssec.AnchorOf(k.DNSKEY(dns.MustName("example.org"), 1))
	if err != nil || !strings.EqualFold(a.Record().(*wire.DS).Digest, k.DS(dns.MustName("example.org"), 1).Digest) {
		t.Errorf("%v, %v", a, err)
	}
	if again, err := dnssec.ParseAnchor(a.String()); err != nil || again.String() != a.String() {
		t.Errorf("%v, %v", again, err)
	}
	for _, bad := range []string{"", "example.org. A 192.0.2.1", "example.org. DS 1 5 1 00", "?"} {
		if a, err := dnssec.ParseAnchor(bad); err == nil {
			t.Errorf("%q: %v", bad, a)
		}
	}
}
