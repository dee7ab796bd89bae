package render

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"mxward/internal/audit"
	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/dns/resolver"
)

const com = `
@   300 SOA ns hostmaster 1 2 3 4 5
@   300 NS ns
ns  300 A 192.0.2.2
example   300 NS ns1.example
plain     300 NS ns1.example
hostile   300 NS ns1.example
wide      300 NS ns1.example
ns1.example 300 A 192.0.2.53
`

const head = "@ 300 SOA ns1.example.com. hostmaster 1 14400 3600 604800 3600\n@ 300 NS ns1.example.com.\n"

// example has faults of several kinds.
const example = head + `
ns1   300 A 192.0.2.53
@     300 MX 10 mail
@     300 MX 20 mx2
@     300 MX 30 gone
mail  300 CNAME mx1
mx1   300 A 192.0.2.25
mx1   300 AAAA 2001:db8::25
mx2   300 A 198.51.100.25
@     300 TXT "v=spf1 mx include:spf.example.com a:nosuch.example.com ?all"
spf   300 TXT "v=spf1 ip4:198.51.100.0/24 a:mx1.example.com exists:%{i}.list.example.com -all"
`

const plain = head + "@ 300 MX 0 .\n@ 300 TXT \"v=spf1 -all\"\n"

// hostile is what a stranger would write who wants to be in the page rather than on it.
const hostile = head + `
@     300 MX 10 mx
@     300 MX 20 \"\>\<script\>alert\(1\)\<\/script\>.mx
mx    300 A 192.0.2.25
@     300 TXT "v=spf1 include:</code><script>alert(2)</script> \027[31mred\007 \226\128\174 -all"
_dmarc 300 TXT "v=DMARC1; p=<script>alert(3)</script>; rua=javascript:alert(4)\000\255"
`

const arpa = head + `
25.2.0.192      300 PTR mx1.example.com.
25.100.51.198   300 PTR \<svg/onload=alert\(5\)\>.example.net.
`

// wide has what makes a drawing big: 20 hosts with long names and addresses of both families.
func wide() string {
	var b strings.Builder
	b.WriteString(head)
	long := strings.Repeat("a-very-long-label-of-a-name-", 2)
	for i := range 20 {
		fmt.Fprintf(&b, "@ 300 MX %d mx%d.%s%d.%s.wide.com.\n", i*1000, i, long, i, long)
		fmt.Fprintf(&b, "mx%d.%s%d.%s 300 A 203.0.113.%d\n", i, long, i, long, i+1)
		fmt.Fprintf(&b, "mx%d.%s%d.%s 300 AAAA 2001:db8:1234:5678:9abc:def0:1234:%x\n", i, long, i, long, i+0x1000)
	}
	b.WriteString("@ 300 TXT \"v=spf1 mx a:x1.wide.com a:x2.wide.com a:x3.wide.com a:x4.wide.com a:x5.wide.com a:x6.wide.com a:x7.wide.com a:x8.wide.com a:x9.wide.com a:x10.wide.com -all\"\n")
	return b.String()
}

// reports looks at domains of a small internet, at a time that is always the same.
func reports(t *testing.T, domains ...string) (all []Report, how Audit) {
	t.Helper()
	how = Audit{Checks: audit.Checks(), FailOn: audit.Error, Version: "1.0"}
	synctest.Test(t, func(t *testing.T) {
		a := auditor(t)
		for _, domain := range domains {
			facts := a.Gather(t.Context(), dns.MustName(domain))
			r := NewReport(facts, audit.Judge(facts, how.Checks))
			r.Profile = "mail"
			all = append(all, r)
		}
	})
	return all, how
}

func auditor(t *testing.T) *audit.Auditor {
	t.Helper()
	var n dnstest.Net
	n.Serve("192.0.2.1", dnstest.Zone(t, ".", "@ 300 SOA ns.root.example. hostmaster.root.example. 1 2 3 4 5\n@ 300 NS ns.root.example.\nns.root.example. 300 A 192.0.2.1\ncom. 300 NS ns.com.\nin-addr.arpa. 300 NS ns.com.\nip6.arpa. 300 NS ns.com.\nns.com. 300 A 192.0.2.2\n"))
	n.Serve("192.0.2.2", &dns.Mux{Zones: map[dns.Name]dns.Resolver{
		dns.MustName("com"):          dnstest.Zone(t, "com", com),
		dns.MustName("in-addr.arpa"): dnstest.Zone(t, "in-addr.arpa", arpa),
		dns.MustName("ip6.arpa"):     dnstest.Zone(t, "ip6.arpa", head),
	}})
	n.Serve("192.0.2.53", &dns.Mux{Zones: map[dns.Name]dns.Resolver{
		dns.MustName("example.com"): dnstest.Zone(t, "example.com", example),
		dns.MustName("plain.com"):   dnstest.Zone(t, "plain.com", plain),
		dns.MustName("hostile.com"): dnstest.Zone(t, "hostile.com", hostile),
		dns.MustName("wide.com"):    dnstest.Zone(t, "wide.com", wide()),
	}})
	own := func() *resolver.Resolver {
		return &resolver.Resolver{Hints: []resolver.Hint{{Name: dns.MustName("ns.root.example"), Addr: netip.MustParseAddr("192.0.2.1")}}, Dial: n.Dial}
	}
	return &audit.Auditor{Resolver: own(), Asker: own(), Roots: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53")}}
}
