package dns_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

const lookupZone = `
$TTL 300
@        SOA ns host 1 2 3 4 5
@        NS  ns.example.net.
@        MX  20 b
@        MX  10 c
@        MX  10 a
null     MX  0 .
txt      TXT "v=spf1 " "-all"
txt      TXT "other"
octets   TXT "\"a\\b\226\130\172\" \0"
a        A   192.0.2.1
both     60 A 192.0.2.2
both     30 AAAA 2001:db8::2
six      AAAA 2001:db8::3
alias    10 CNAME alias2
alias2   CNAME both
dangling CNAME no.such.a
away     CNAME www.example.net.
1        PTR one.example.net.
1        PTR two.example.net.
loop     CNAME pool
pool     CNAME loop
`

func TestLookupTLSA(t *testing.T) {
	z := dnstest.Zone(t, "example.com", lookupZone+"_25._tcp.a TLSA 3 1 1 00FF\n_25._tcp.b CNAME _25._tcp.a\n")
	for _, host := range []string{"a", "b"} {
		set, err := dns.LookupTLSA(t.Context(), z, dns.MustName("_25._tcp."+host+".example.com"))
		if err != nil || fmt.Sprint(set.Records) != "[{3 1 1 [0 255]}]" {
			t.Errorf("%s: %+v, %v", host, set, err)
		}
	}
}

func TestLookupMX(t *testing.T) {
	z := dnstest.Zone(t, "example.com", lookupZone)
	set, err := dns.LookupMX(t.Context(), z, dns.MustName("example.com"))
	if err != nil {
		t.Fatal(err)
	}
	// By preference, then by host.
	if got := fmt.Sprint(set.Records); got != "[{10 a.example.com} {10 c.example.com} {20 b.example.com}]" {
		t.Error(got)
	}
	if !set.Exists || set.TTL != 300*time.Second || set.Canonical != dns.MustName("example.com") || len(set.Aliases) != 0 || set.Authentic {
		t.Errorf("got %+v", set)
	}
	set, err = dns.LookupMX(t.Context(), z, dns.MustName("null.example.com"))
	if err != nil || len(set.Records) != 1 || set.Records[0].Host != dns.Root {
		t.Errorf("null MX: %+v, %v", set, err)
	}
}

func TestLookupTXT(t *testing.T) {
	set, err := dns.LookupTXT(t.Context(), dnstest.Zone(t, "example.com", lookupZone), dns.MustName("txt.example.com"))
	if err != nil || !slices.Equal(set.Records, []string{"v=spf1 -all", "other"}) {
		t.Errorf("%q, %v", set.Records, err)
	}
	// The octets of the record, not the escapes of a master file.
	set, err = dns.LookupTXT(t.Context(), dnstest.Zone(t, "example.com", lookupZone), dns.MustName("octets.example.com"))
	if err != nil || !slices.Equal(set.Records, []string{`"a\b€" 0`}) {
		t.Errorf("%q, %v", set.Records, err)
	}
}

func TestLookupPTR(t *testing.T) {
	z := dnstest.Zone(t, "2.0.192.in-addr.arpa", lookupZone)
	set, err := dns.LookupPTR(t.Context(), z, netip.MustParseAddr("192.0.2.1"))
	if err != nil || fmt.Sprint(set.Records) != "[one.example.net two.example.net]" {
		t.Errorf("%v, %v", set, err)
	}
}

func TestLookupAddrs(t *testing.T) {
	z := dnstest.Zone(t, "example.com", lookupZone)
	tests := []struct {
		name      string
		records   string
		exists    bool
		canonical string
		aliases   string
		ttl       time.Duration
	}{
		{"a", "[192.0.2.1]", true, "a", "[]", 300 * time.Second},
		{"six", "[2001:db8::3]", true, "six", "[]", 300 * time.Second},
		{"both", "[2001:db8::2 192.0.2.2]", true, "both", "[]", 30 * time.Second},
		{"alias", "[2001:db8::2 192.0.2.2]", true, "both", "[alias.example.com alias2.example.com]", 30 * time.Second},
		{"txt", "[]", true, "txt", "[]", 0},          // NODATA
		{"nothing", "[]", false, "nothing", "[]", 0}, // NXDOMAIN
		{"dangling", "[]", false, "no.such.a", "[dangling.example.com]", 0},
		{"loop", "[]", true, "loop", "[loop.example.com pool.example.com]", 0},
	}
	for _, tt := range tests {
		set, err := dns.LookupAddrs(t.Context(), z, dns.MustName(tt.name+".example.com"))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if fmt.Sprint(set.Records) != tt.records || set.Exists != tt.exists || set.Canonical.String() != tt.canonical+".example.com" ||
			fmt.Sprint(set.Aliases) != tt.aliases || set.TTL != tt.ttl {
			t.Errorf("%s: %+v", tt.name, set)
		}
	}
	set, err := dns.LookupAddrs(t.Context(), z, dns.MustName("away.example.com"))
	if err != nil || set.Canonical != dns.MustName("www.example.net") || len(set.Records) != 0 {
		t.Errorf("away: %+v, %v", set, err)
	}
}

// halves answers A and AAAA apart: with one address, none, NXDOMAIN, or an error.
type halves map[dns.Type]string

func (h halves) Resolve(_ context.Context, q dns.Question) (dns.Answer, error) {
	switch say := h[q.Type]; say {
	case "none":
		return dns.Answer{}, nil
	case "nxdomain":
		return dns.Answer{Rcode: dns.NXDomain}, nil
	case "error":
		return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.NoReply}
	case "refused":
		return dns.Answer{Rcode: dns.Refused}, nil
	default:
		rr, err := wire.NewRR(q.Name.FQDN() + " 60 " + q.Type.String() + " " + say)
		return dns.Answer{Answer: []dns.RR{rr}, Authentic: true}, err
	}
}

// TestLookupAddrsHalves: an error counts only where it could change the answer.
func TestLookupAddrsHalves(t *testing.T) {
	tests := []struct {
		four, six string
		records   int
		exists    bool
		err       bool
	}{
		{"192.0.2.1", "2001:db8::1", 2, true, false},
		{"192.0.2.1", "error", 1, true, false},
		{"error", "2001:db8::1", 1, true, false},
		{"none", "error", 0, false, true}, // there might be an address
		{"error", "none", 0, false, true},
		{"nxdomain", "error", 0, false, false}, // NXDOMAIN is for all types
		{"error", "nxdomain", 0, false, false},
		{"error", "error", 0, false, true},
		{"none", "none", 0, true, false},
		{"nxdomain", "nxdomain", 0, false, false},
		{"refused", "none", 0, false, true}, // an Rcode that is no answer
	}
	for how, lookup := range map[string]func(context.Context, dns.Resolver, dns.Name) (dns.Set[netip.Addr], error){"at once": dns.LookupAddrs, "in turn": dns.LookupAddrsInTurn} {
		for _, tt := range tests {
			set, err := lookup(t.Context(), halves{dns.TypeA: tt.four, dns.TypeAAAA: tt.six}, dns.MustName("a.example"))
			if len(set.Records) != tt.records || (err != nil) != tt.err || err == nil && set.Exists != tt.exists {
				t.Errorf("%s: %s, %s: %+v, %v", how, tt.four, tt.six, set, err)
			}
			if set.Authentic != (tt.records > 0) {
				t.Errorf("%s: %s, %s: authentic %v", how, tt.four, tt.six, set.Authentic)
			}
		}
	}
}

// TestLookupAddrsInTurn: where A denies the name, AAAA is not asked.
func TestLookupAddrsInTurn(t *testing.T) {
	for say, want := range map[string]int{"nxdomain": 1, "none": 2, "192.0.2.1": 2, "error": 2} {
		asked := 0
		r := dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
			asked++
			return halves{dns.TypeA: say, dns.TypeAAAA: "none"}.Resolve(ctx, q)
		})
		_, _ = dns.LookupAddrsInTurn(t.Context(), r, dns.MustName("a.example"))
		if asked != want {
			t.Errorf("%s: %d questions, want %d", say, asked, want)
		}
	}
}

// TestStrayRecords: only what stands at the end of the chain is an answer.
func TestStrayRecords(t *testing.T) {
	var rrs []dns.RR
	for _, text := range []string{"Q.example. 60 CNAME r.example.", "other.example. 1 A 192.0.2.66", "q.example. 1 A 192.0.2.67", "R.example. 60 A 192.0.2.1"} {
		rr, err := wire.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		rrs = append(rrs, rr)
	}
	r := dns.ResolverFunc(func(context.Context, dns.Question) (dns.Answer, error) { return dns.Answer{Answer: rrs}, nil })
	set, err := dns.LookupAddrsOf(t.Context(), r, dns.MustName("q.example"), dns.TypeA)
	if err != nil || fmt.Sprint(set.Records) != "[192.0.2.1]" || set.TTL != time.Minute {
		t.Errorf("%+v, %v", set, err)
	}
}

func TestError(t *testing.T) {
	cause := errors.New("the cable is out")
	q := dns.Question{Name: dns.MustName("example.com"), Type: dns.TypeMX}
	err := error(&dns.Error{Question: q, Trouble: dns.NoReply, Detail: "three servers", Err: cause, Attempts: []dns.Attempt{
		{Server: netip.MustParseAddrPort("192.0.2.1:53"), Protocol: "udp", Said: "time-out", Took: time.Second},
		{Server: netip.MustParseAddrPort("[2001:db8::1]:53"), Name: "ns.example.com", Protocol: "tcp", Said: "SERVFAIL", Took: 1500 * time.Microsecond},
	}})
	want := "resolve example.com MX: no reply: three servers: the cable is out (last tried: ns.example.com ([2001:db8::1]:53) over tcp: SERVFAIL after 2ms)"
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	if !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
	wrapped := fmt.Errorf("route: %w", err)
	if dns.TroubleOf(wrapped) != dns.NoReply || dns.TroubleOf(cause) != 0 || dns.TroubleOf(nil) != 0 {
		t.Error("TroubleOf")
	}
	for trouble := dns.NoNetwork; trouble <= dns.Malformed; trouble++ {
		if trouble.String() == "" || trouble.Ours() != (trouble <= dns.WorkLimit) {
			t.Errorf("trouble %d: %q, ours %v", trouble, trouble, trouble.Ours())
		}
	}
}

func TestMux(t *testing.T) {
	says := func(name string) dns.Resolver {
		return dns.ResolverFunc(func(context.Context, dns.Question) (dns.Answer, error) {
			return dns.Answer{}, errors.New(name)
		})
	}
	zones := map[dns.Name]dns.Resolver{}
	for _, name := range []string{"example.com", "sub.example.com", "arpa"} {
		zones[dns.MustName(name)] = says(name)
	}
	alone, whole := &dns.Mux{Zones: zones}, &dns.Mux{Zones: zones, Default: says("world")}
	tests := []struct {
		mux      *dns.Mux
		question string
		want     string
	}{
		{alone, "example.com MX", "example.com"},
		{alone, "www.example.com A", "example.com"},
		{alone, "www.sub.example.com A", "sub.example.com"}, // the longest
		{alone, "notexample.com A", "REFUSED"},
		{alone, "com NS", "REFUSED"},
		{whole, "com NS", "world"},
		{whole, ". NS", "world"},
		// DS is the parent's.
		{alone, "sub.example.com DS", "example.com"},
		{alone, "www.sub.example.com DS", "sub.example.com"},
		{alone, "example.com DS", "example.com"}, // nobody else is here
		{whole, "example.com DS", "world"},
	}
	for _, tt := range tests {
		name, typ, _ := strings.Cut(tt.question, " ")
		qtype, _ := dns.ParseType(typ)
		a, err := tt.mux.Resolve(t.Context(), dns.Question{Name: dns.MustName(name), Type: qtype})
		got := a.Rcode.String()
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: asked %s, want %s", tt.question, got, tt.want)
		}
	}
	root := &dns.Mux{Zones: map[dns.Name]dns.Resolver{dns.Root: says("root")}}
	if _, err := root.Resolve(t.Context(), dns.Question{Name: dns.MustName("a.b"), Type: dns.TypeA}); err == nil {
		t.Error("the root's resolver was not asked")
	}
}

// TestLookupStale: records that have expired still serve, but that there are none has to be
// true now: mail would bounce.
func TestLookupStale(t *testing.T) {
	const stale, staleNX = wire.ExtendedErrorCodeStaleAnswer, wire.ExtendedErrorCodeStaleNXDOMAINAnswer
	z := dnstest.Zone(t, "example.com", lookupZone)
	for _, tt := range []struct {
		name     string
		extended uint16
		err      bool
	}{
		{"example.com", stale, false},
		{"a.example.com", 0, false},
		{"a.example.com", stale, true},
		{"nowhere.example.com", 0, false},
		{"nowhere.example.com", staleNX, true},
	} {
		r := dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
			answer, err := z.Resolve(ctx, q)
			answer.Extended = tt.extended
			return answer, err
		})
		set, err := dns.LookupMX(t.Context(), r, dns.MustName(tt.name))
		if (err != nil) != tt.err || tt.err && dns.TroubleOf(err) != dns.ServerFailed {
			t.Errorf("%s with code %d: got %v, %v", tt.name, tt.extended, set, err)
		}
	}
}
