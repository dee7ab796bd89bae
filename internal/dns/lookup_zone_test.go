package dns_test

import (
	"testing"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

const zoneRecords = `
@    300 SOA ns1 hostmaster 7 14400 3600 604800 300
@    300 NS ns2
@    300 NS ns1
ns1  300 A 192.0.2.53
ns2  300 A 192.0.2.54
@    300 CAA 0 issue "ca.example.net; account=1"
@    300 CAA 128 TBS "x"
@    300 DNSKEY 257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==
www  300 CNAME @
`

// TestZoneLookups: what stands at an apex, in types of our own.
func TestZoneLookups(t *testing.T) {
	z, name := dnstest.Zone(t, "example.com", zoneRecords), dns.MustName("example.com")
	ns, err := dns.LookupNS(t.Context(), z, name)
	if err != nil || len(ns.Records) != 2 || ns.Records[0] != dns.MustName("ns1.example.com") {
		t.Errorf("NS %+v, %v", ns, err)
	}
	soa, err := dns.LookupSOA(t.Context(), z, name)
	want := dns.SOA{MName: dns.MustName("ns1.example.com"), RName: dns.MustName("hostmaster.example.com"), Serial: 7, Refresh: 4 * time.Hour, Retry: time.Hour, Expire: 7 * 24 * time.Hour, Minimum: 5 * time.Minute}
	if err != nil || len(soa.Records) != 1 || soa.Records[0] != want {
		t.Errorf("SOA %+v, %v", soa, err)
	}
	keys, err := dns.LookupKeys(t.Context(), z, name)
	if err != nil || len(keys.Records) != 1 || !keys.Records[0].Entry || keys.Records[0].Algorithm != 13 || keys.Records[0].KeyTag != 2371 {
		t.Errorf("DNSKEY %+v, %v", keys, err)
	}
	caa, err := dns.LookupCAA(t.Context(), z, dns.MustName("www.example.com"))
	if err != nil || len(caa.Records) != 2 || caa.Canonical != name {
		t.Fatalf("CAA %+v, %v", caa, err)
	}
	for _, c := range caa.Records {
		if c != (dns.CAA{Tag: "issue", Value: "ca.example.net; account=1"}) && c != (dns.CAA{Critical: true, Tag: "tbs", Value: "x"}) {
			t.Errorf("CAA %+v", c)
		}
	}
}

// TestGiven: one server's words are read as a resolver's are, and its failure is a failure.
func TestGiven(t *testing.T) {
	z, name := dnstest.Zone(t, "example.com", zoneRecords), dns.MustName("example.com")
	answer, err := z.Resolve(t.Context(), dns.Question{Name: name, Type: dns.TypeNS})
	if err != nil {
		t.Fatal(err)
	}
	if ns, err := dns.LookupNS(t.Context(), dns.Given(answer), name); err != nil || len(ns.Records) != 2 {
		t.Errorf("%+v, %v", ns, err)
	}
	if _, err := dns.LookupNS(t.Context(), dns.Given(dns.Answer{Rcode: dns.Refused}), name); dns.TroubleOf(err) != dns.ServerFailed {
		t.Errorf("%v, want that the server failed", err)
	}
	none, err := z.Resolve(t.Context(), dns.Question{Name: dns.MustName("gone.example.com"), Type: dns.TypeA})
	if err != nil || dns.Apex(none) != name || !dns.Apex(dns.Answer{}).IsZero() {
		t.Errorf("the apex of %+v is %s, %v", none, dns.Apex(none), err)
	}
}

func TestTarget(t *testing.T) {
	q := dns.Question{Name: dns.MustName("a.example"), Type: dns.TypeTXT}
	record := func(owner, data string) dns.RR {
		rr, err := dns.ParseRecord(dns.MustName(owner), data)
		if err != nil {
			t.Fatal(err)
		}
		return rr
	}
	alias, text := record("a.example", "300 CNAME b.example."), record("b.example", `300 TXT "x"`)
	for _, tt := range []struct {
		section []dns.RR
		end     string
		found   bool
	}{
		{nil, "a.example", false},
		{[]dns.RR{alias}, "b.example", false},
		{[]dns.RR{text, alias}, "b.example", true},
		{[]dns.RR{text}, "a.example", false},
	} {
		if end, found := dns.Target(dns.Answer{Answer: tt.section}, q); end.String() != tt.end || found != tt.found {
			t.Errorf("%v: %s, %t", tt.section, end, found)
		}
	}
}

// TestRareLookups: the types that only an audit asks for.
func TestRareLookups(t *testing.T) {
	// 304 bits; and keys that end in the exponent, or before it.
	const short = "AwEAAcMnWBKLuvG/LwnPVykcmpvnntwxfshHlHRhlY0F3oz8AMcuF8gw"
	z, name := dnstest.Zone(t, "example.com", zoneRecords+`
@    300 DNSKEY 256 3 8 `+short+`
@    300 CDS 1 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
@    300 CDNSKEY 257 3 8 AwEA
@    300 CDNSKEY 257 3 8 AAEA
@    300 CDNSKEY 257 3 8 AP//
@    300 NSEC3PARAM 1 0 10 abcd
@    300 SPF "v=spf1 " "-all"
`), dns.MustName("example.com")
	keys, err := dns.LookupKeys(t.Context(), z, name)
	bits := map[uint8]int{}
	for _, k := range keys.Records {
		bits[k.Algorithm] = k.RSABits
	}
	if err != nil || bits[13] != 0 || bits[8] != 304 {
		t.Errorf("DNSKEY %+v, %v", keys, err)
	}
	cds, err := dns.LookupCDS(t.Context(), z, name)
	if err != nil || len(cds.Records) != 1 || cds.Records[0] != (dns.DS{KeyTag: 1, Algorithm: 13, DigestType: 2}) {
		t.Errorf("CDS %+v, %v", cds, err)
	}
	short3, err := dns.LookupCDNSKEY(t.Context(), z, name)
	if err != nil || len(short3.Records) != 3 || short3.Records[0].RSABits != 0 || short3.Records[1].RSABits != 0 || short3.Records[2].RSABits != 0 {
		t.Errorf("CDNSKEY %+v, %v", short3, err)
	}
	hashing, err := dns.LookupHashing(t.Context(), z, name)
	if err != nil || len(hashing.Records) != 1 || hashing.Records[0].Iterations != 10 {
		t.Errorf("NSEC3PARAM %+v, %v", hashing, err)
	}
	old, err := dns.LookupSPF(t.Context(), z, name)
	if err != nil || len(old.Records) != 1 || old.Records[0] != "v=spf1 -all" {
		t.Errorf("SPF %+v, %v", old, err)
	}
}

// TestOpens: a transfer begins with the SOA record and goes on; a refusal does not.
func TestOpens(t *testing.T) {
	z := dnstest.Zone(t, "example.com", zoneRecords)
	all := dns.Answer{Answer: z.Records()}
	for _, tt := range []struct {
		why  string
		a    dns.Answer
		want bool
	}{
		{"the whole zone", all, true},
		{"refused", dns.Answer{Rcode: dns.Refused}, false},
		{"one record", dns.Answer{Answer: all.Answer[:1]}, false},
		{"another record first", dns.Answer{Answer: all.Answer[1:]}, false},
	} {
		if got := dns.Opens(tt.a); got != tt.want {
			t.Errorf("%s: %t", tt.why, got)
		}
	}
}
