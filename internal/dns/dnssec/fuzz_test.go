package dnssec

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// FuzzProof hands any NSEC and NSEC3 records to the proofs, as if their zone had signed
// them: nothing panics, the work is bounded, no name outside the zone is ever denied, nor
// one that a record says is there.
func FuzzProof(f *testing.F) {
	for _, seed := range []string{
		"a.example.org. NSEC c.example.org. A RRSIG NSEC\nexample.org. NSEC a.example.org. NS SOA RRSIG NSEC DNSKEY",
		"z.example.org. NSEC example.org. A RRSIG NSEC",
		"a.example.org. NSEC zzz.org. A",
		"b.example.org. NSEC x.b.example.org. NS RRSIG NSEC",
		"*.example.org. NSEC example.org. TXT CNAME",
		"2t7b4g4vsa5smi47k61mv5bv1a22bojr.example.org. NSEC3 1 1 12 aabbccdd 2vptu5timamqttgl4luu9kg21e0aor3s A RRSIG",
		"0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example.org. NSEC3 1 0 0 - 0p9mhaveqvm6t7vbl5lop2u3t2rp3tom NS SOA",
		"0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example.org. NSEC3 1 0 500 - 2vptu5timamqttgl4luu9kg21e0aor3s NS SOA",
	} {
		f.Add(seed, "b.example.org", uint16(1))
		f.Add(seed, strings.Repeat("x.", 60)+"example.org", uint16(43))
	}
	zone := dns.MustName("example.org")
	f.Fuzz(func(t *testing.T, text, asked string, typ uint16) {
		name, err := dns.ParseName(asked)
		if err != nil {
			return
		}
		work := &Work{}
		p := &Proof{zone: zone, work: work, hashes: map[dns.Name]string{}}
		there := map[dns.Name]bool{}
		for line := range strings.Lines(text) {
			rr, err := wire.NewRR(line)
			if err != nil || rr == nil || len(p.nsec)+len(p.nsec3) >= maxNSEC {
				continue
			}
			owner := dns.NameOf(rr.Header().Name)
			if !owner.In(zone) || p.tooDear(rr) {
				continue
			}
			if _, ok := rr.(*wire.NSEC); ok {
				there[owner] = true
			}
			p.add(Set{Name: owner, Type: dns.Type(rr.Header().Rrtype), Records: []dns.RR{rr}})
		}
		gone, errGone := p.NXDomain(name)
		none, errNone := p.NoData(name, dns.Type(typ))
		wild, errWild := p.Wildcard(name, labelCount(zone))
		_, errDS := p.NoDS(name)
		for _, err := range []error{errGone, errNone, errWild, errDS} {
			var fault *Fault
			if err != nil && !errors.As(err, &fault) && !errors.Is(err, ErrWork) {
				t.Errorf("an error of another kind: %v", err)
			}
		}
		if work.Hashes > maxHashes {
			t.Errorf("%d hashes", work.Hashes)
		}
		if !name.In(zone) && (gone == Proven || none == Proven || wild == Proven) {
			t.Errorf("%s is not in %s: %v %v %v", name, zone, gone, none, wild)
		}
		if there[name] && len(p.nsec3) == 0 && (gone == Proven || wild == Proven) {
			t.Errorf("%s is there", name)
		}
		if name == zone && gone == Proven {
			t.Errorf("the apex is there")
		}
	})
}

// FuzzKey: any bytes as a key and as a signature.
func FuzzKey(f *testing.F) {
	for _, a := range []uint8{1, 5, 8, 10, 13, 14, 15, 16} {
		f.Add(a, []byte{3, 1, 0, 1, 5, 5, 5}, []byte{1, 2, 3})
		f.Add(a, make([]byte, 64), make([]byte, 64))
		f.Add(a, append([]byte{9, 1, 0, 0, 0, 0, 0, 0, 0, 1}, []byte(strings.Repeat("\xff", 200))...), make([]byte, 200))
		f.Add(a, append([]byte{8, 0x80, 0, 0, 0, 0, 0, 0, 1}, []byte(strings.Repeat("\xff", 200))...), make([]byte, 200))
	}
	f.Fuzz(func(t *testing.T, algorithm uint8, public, sig []byte) {
		rr := &wire.DNSKEY{
			Hdr:   wire.RR_Header{Name: "example.org.", Rrtype: wire.TypeDNSKEY, Class: wire.ClassINET},
			Flags: wire.ZONE, Protocol: protocolDNSSEC, Algorithm: algorithm, PublicKey: base64.StdEncoding.EncodeToString(public),
		}
		k := parseKey(rr)
		const libraryBuffer = 4000 // what the wire library can make a tag of
		if len(public) < libraryBuffer && k.Tag != rr.KeyTag() && algorithm != wire.RSAMD5 {
			t.Errorf("tag %d, want %d", k.Tag, rr.KeyTag())
		}
		if k.Supported() != (k.public != nil) || k.Supported() && !supportedAlgorithm(algorithm) {
			t.Error("a key of an algorithm that is not supported")
		}
		if k.Supported() {
			k.verify([]byte("data"), sig)
		}
		zone := &Zone{Name: dns.MustName("example.org"), Keys: []Key{k}}
		a := &wire.A{Hdr: wire.RR_Header{Name: "a.example.org.", Rrtype: wire.TypeA, Class: wire.ClassINET}, A: []byte{192, 0, 2, 1}}
		now := time.Now()
		set := Set{Name: dns.MustName("a.example.org"), Type: dns.TypeA, Records: []dns.RR{a}, Sigs: []*wire.RRSIG{{
			Hdr: wire.RR_Header{Name: "a.example.org."}, TypeCovered: wire.TypeA, Algorithm: algorithm, Labels: 3, KeyTag: k.Tag,
			Expiration: uint32(now.Unix()) + 100, Inception: uint32(now.Unix()) - 100, SignerName: "example.org.",
			Signature: base64.StdEncoding.EncodeToString(sig),
		}}}
		if verdict, err := zone.Verify(set, now, &Work{}); err == nil {
			t.Logf("somebody has found a signature: %v", verdict)
		}
	})
}

// TestSerialTime: seconds wrap around in 2106 (RFC 4034 §3.1.5).
func TestSerialTime(t *testing.T) {
	for _, tt := range []struct{ now, then int64 }{
		{1_800_000_000, 1_800_000_100}, {1_800_000_000, 1_700_000_000},
		{1<<32 - 10, 1<<32 + 10}, {1<<32 + 10, 1<<32 - 10},
	} {
		if got := serialTime(uint32(tt.then), time.Unix(tt.now, 0)); got.Unix() != tt.then {
			t.Errorf("%d from %d: %d", tt.then, tt.now, got.Unix())
		}
	}
}

// TestOrder is the example of RFC 4034 §6.1.
func TestOrder(t *testing.T) {
	names := []string{"example", "a.example", "yljkjljk.a.example", "Z.a.example", "zABC.a.EXAMPLE", "z.example", `\001.z.example`, "*.z.example", `\200.z.example`}
	for i, a := range names {
		for j, b := range names {
			got := compare(dns.MustName(a), dns.MustName(b))
			if (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("%s and %s: %d", a, b, got)
			}
		}
	}
}

// TestCompactDenial: an NSEC made for one name, which it says is there without any records
// (RFC 9824 §3.1), is a proof of NODATA and of nothing else.
func TestCompactDenial(t *testing.T) {
	zone, name := dns.MustName("example.org"), dns.MustName("gone.example.org")
	p := &Proof{zone: zone, work: &Work{}, hashes: map[dns.Name]string{}}
	rr, err := wire.NewRR(`gone.example.org. 300 IN NSEC \000.gone.example.org. RRSIG NSEC TYPE128`)
	if err != nil {
		t.Fatal(err)
	}
	p.add(Set{Name: name, Type: dns.Type(wire.TypeNSEC), Records: []dns.RR{rr}})
	if d, err := p.NoData(name, dns.TypeA); err != nil || d != Proven {
		t.Errorf("%v, %v", d, err)
	}
	if cut, err := p.NoDS(name); err != nil || cut != NoCut {
		t.Errorf("%v, %v", cut, err)
	}
	for _, other := range []string{"a.gone.example.org", "other.example.org", "example.org"} {
		if d, err := p.NXDomain(dns.MustName(other)); err == nil {
			t.Errorf("%s: %v", other, d)
		}
	}
}
