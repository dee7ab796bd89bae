package audit

import (
	"context"
	"strings"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

// says is a resolver that gives something else for some questions; the rest it asks nobody for.
func says(say func(q dns.Question) (dns.Answer, bool)) dns.Resolver {
	return dns.ResolverFunc(func(_ context.Context, q dns.Question) (dns.Answer, error) {
		if a, ok := say(q); ok {
			return a, nil
		}
		return dns.Answer{Rcode: dns.ServFail}, nil
	})
}

func rr(line string) dns.RR {
	owner, data, _ := strings.Cut(line, " ")
	r, err := dns.ParseRecord(dns.MustName(owner), data)
	if err != nil {
		panic(err)
	}
	return r
}

func answer(lines ...string) dns.Answer {
	var a dns.Answer
	for _, line := range lines {
		a.Answer = append(a.Answer, rr(line))
	}
	return a
}

func resolverZoo() []animal {
	rootNS := answer(". 300 NS ns.root.example.")
	return []animal{
		{why: "a domain without fault"},
		{why: "through a resolver of somebody else", forwarded: true, unknown: "dane.unusable@local-resolver"},
		{why: "a resolver that makes up names", forwarded: true, forward: says(func(q dns.Question) (dns.Answer, bool) {
			if q == (dns.Question{Name: dns.Root, Type: dns.TypeNS}) {
				return rootNS, true
			}
			return answer(q.Name.FQDN() + " 300 A 203.0.113.1"), q.Type == dns.TypeA && q.Name.CountLabels() == 1
		}), fails: "resolver.rewrites-nxdomain resolver.servfail-rate", gone: "mtasts.txt-missing", unknown: "spf.missing@local-resolver mx.null@local-resolver mtasts.txt-missing@local-resolver"},
		{why: "a resolver that hides a name by policy", forwarded: true, forward: says(func(q dns.Question) (dns.Answer, bool) {
			if q.Name == dns.Root {
				return rootNS, true
			}
			return dns.Answer{Rcode: dns.NXDomain, Extended: 15}, true
		}), fails: "resolver.filtered", gone: usual, unknown: "mx.missing@local-resolver spf.missing@local-resolver"},
		{why: "a resolver that hides a name by policy, and nobody else to ask", forwarded: true, alone: true, forward: says(func(q dns.Question) (dns.Answer, bool) {
			if q.Name == dns.Root {
				return rootNS, true
			}
			return dns.Answer{Rcode: dns.NXDomain, Extended: 15}, true
		}), fails: "resolver.filtered", gone: usual, unknown: "deleg.nxdomain@local-resolver mx.missing@local-resolver spf.missing@local-resolver"},
		{why: "a resolver that says SERVFAIL once", forwarded: true, forward: says(func(q dns.Question) (dns.Answer, bool) {
			if q.Name == dns.Root {
				return rootNS, true
			}
			return answer(q.Name.FQDN() + " 300 MX 10 mx.example.net."), q.Type == dns.TypeMX && q.CheckingDisabled
		}), fails: "resolver.servfail-rate", blamed: "resolver.servfail-rate@local-resolver", gone: "mtasts.txt-missing", unknown: "mx.null@local-resolver dnssec.bogus@local-resolver"},
		{why: "a resolver that has other MX records", forwarded: true, forward: says(func(q dns.Question) (dns.Answer, bool) {
			switch {
			case q.Name == dns.Root:
				return rootNS, true
			case q.Type == dns.TypeMX:
				return answer(q.Name.FQDN() + " 300 MX 10 mx.example.net."), true
			}
			return dns.Answer{}, false
		}), fails: "resolver.disagrees resolver.servfail-rate", gone: "mtasts.txt-missing", unknown: "spf.missing@local-resolver", blamed: "resolver.disagrees@local-resolver"},
		{why: "a resolver that takes no TCP", forwarded: true, noTCP: resolverAt, fails: "resolver.no-tcp"},
		{why: "a resolver that is silent", forwarded: true, forwardHow: dnstest.Silent, fails: "resolver.unreachable", gone: "mtasts.txt-missing",
			blamed: "resolver.unreachable@local-resolver", unknown: "mx.null@local-resolver spf.missing@local-resolver ptr.missing@local-resolver"},
		{why: "a resolver from before EDNS", forwarded: true, forwardHow: dnstest.NoEDNS, fails: "resolver.edns-broken"},
		{why: "servers with IPv6 that this host cannot reach", delegation: zooDelegation + "ns2.example AAAA 2001:db8::53\n", add: "ns2 AAAA 2001:db8::53\n",
			hosts: map[string]dnstest.Behaviour{"2001:db8::53": dnstest.NoRoute}, fails: "net.no-ipv6", unknown: "deleg.no-udp@local-network@2001:db8::53"},
		{why: "servers with IPv6 that answer", delegation: zooDelegation + "ns2.example AAAA 2001:db8::53\n", add: "ns2 AAAA 2001:db8::53\n", six: true},
		{why: "servers with IPv6 that are silent, as all the world over IPv6 is", delegation: zooDelegation + "ns2.example AAAA 2001:db8::53\n", add: "ns2 AAAA 2001:db8::53\n",
			hosts: map[string]dnstest.Behaviour{"2001:db8::53": dnstest.Silent}, fails: "net.no-ipv6", unknown: "deleg.no-udp@local-network@2001:db8::53"},
		{why: "a server that is silent over IPv6, while others are heard", delegation: zooDelegation + "ns1.example AAAA 2001:db8::53\nns2.example AAAA 2001:db8::54\n", add: "ns1 AAAA 2001:db8::53\nns2 AAAA 2001:db8::54\n", six: true,
			hosts: map[string]dnstest.Behaviour{"2001:db8::54": dnstest.Silent}, fails: "deleg.no-udp", blamed: "deleg.no-udp@zone-ns@2001:db8::54"},
		{why: "an alias to somebody whose servers are silent", forwarded: true, drop: []string{"_dmarc"}, add: "_dmarc CNAME gone.plain.com.\n", com: "plain NS ns1.plain\nns1.plain A 192.0.2.99\n",
			hosts: map[string]dnstest.Behaviour{"192.0.2.99": dnstest.Silent}, unknown: "dmarc.missing@third-party dmarc.temperror@third-party"},
		{why: "the same, asked from the root down", drop: []string{"_dmarc"}, add: "_dmarc CNAME gone.plain.com.\n", com: "plain NS ns1.plain\nns1.plain A 192.0.2.99\n",
			hosts: map[string]dnstest.Behaviour{"192.0.2.99": dnstest.Silent}, unknown: "dmarc.missing@third-party dmarc.temperror@third-party"},
		{why: "a resolver that hides an MX host by policy", forwarded: true, forward: says(func(q dns.Question) (dns.Answer, bool) {
			switch {
			case q.Name == dns.Root:
				return rootNS, true
			case q.Name == dns.MustName("mx1.example.com"):
				return dns.Answer{Rcode: dns.NXDomain, Extended: 15}, true
			case q.Type == dns.TypeMX && q.Name == dns.MustName("example.com"):
				return answer("example.com. 300 MX 10 mx1.example.com.", "example.com. 300 MX 20 mx2.example.com."), true
			}
			return dns.Answer{}, false
		}), fails: "resolver.filtered resolver.servfail-rate", gone: "mtasts.txt-missing", unknown: "mx.nxdomain@local-resolver@mx1.example.com"},
		{why: "a resolver that is slow", forwarded: true, slow: 1200 * time.Millisecond, fails: "resolver.slow"},
	}
}

func delegationZoo() []animal {
	return []animal{
		{why: "a domain that nobody has", delegation: "other NS ns.net.\n", fails: "deleg.nxdomain", gone: usual, blamed: "deleg.nxdomain@parent-zone"},
		{why: "a name below a domain that is not there", domain: "gone.example.com", fails: "deleg.nxdomain", gone: usual, blamed: "deleg.nxdomain@zone"},
		{why: "all servers silent", hosts: map[string]dnstest.Behaviour{ns1At: dnstest.Silent, ns2At: dnstest.Silent},
			fails: "deleg.no-ns deleg.no-udp dmarc.temperror caa.servfail", gone: "mtasts.txt-missing", blamed: "deleg.no-ns@zone-ns deleg.no-udp@zone-ns@192.0.2.53",
			unknown: "mx.null@zone-ns spf.missing@zone-ns dmarc.missing@zone-ns caa.missing@zone-ns soa.missing@zone-ns"},
		{why: "one server", delegation: "example NS ns1.example\nns1.example A 192.0.2.53\n", drop: []string{"@ NS ns2"}, fails: "deleg.single-ns"},
		{why: "a server that only the parent names", drop: []string{"@ NS ns2"}, fails: "deleg.ns-mismatch-parent-extra", blamed: "deleg.ns-mismatch-parent-extra@parent-zone@ns2.example.com"},
		{why: "a server that only the zone names", delegation: "example NS ns1.example\nns1.example A 192.0.2.53\n", fails: "deleg.ns-mismatch-child-extra"},
		{why: "a server's name without an address", add: "@ NS ns3\n", delegation: zooDelegation + "example NS ns3.example\nns3.example A 192.0.2.54\n", hosts: map[string]dnstest.Behaviour{"192.0.2.54": dnstest.Refusing},
			fails: "deleg.ns-unresolvable deleg.glue-mismatch deleg.no-udp"},
		{why: "a server's name is an alias", add: "@ NS ns.example.net.\n", delegation: zooDelegation + "example NS ns.example.net.\n", net: "ns.example CNAME ns2.example.com.\n", fails: "deleg.ns-cname"},
		{why: "a server at a private address", add: "@ NS ns3\nns3 A 10.0.0.53\n", delegation: zooDelegation + "example NS ns3.example\nns3.example A 10.0.0.53\n", fails: "deleg.ns-private-address"},
		{why: "a lame server", hosts: map[string]dnstest.Behaviour{ns2At: dnstest.Lame}, fails: "deleg.lame", blamed: "deleg.lame@zone-ns@198.51.100.53"},
		{why: "a server that fails", hosts: map[string]dnstest.Behaviour{ns2At: dnstest.Failing}, fails: "deleg.lame"},
		{why: "a server without TCP", noTCP: ns2At, fails: "deleg.no-tcp", blamed: "deleg.no-tcp@zone-ns@198.51.100.53"},
		{why: "a silent server", hosts: map[string]dnstest.Behaviour{ns2At: dnstest.Silent}, fails: "deleg.no-udp", blamed: "deleg.no-udp@zone-ns@198.51.100.53"},
		{why: "a server from before EDNS", hosts: map[string]dnstest.Behaviour{ns2At: dnstest.NoEDNS}, fails: "deleg.edns"},
		{why: "a server with open recursion", open: true, fails: "deleg.recursion-open"},
		{why: "glue that is missing", delegation: "example NS ns1.example\nexample NS ns2.example\nns1.example A 192.0.2.53\n", fails: "deleg.glue-missing"},
		{why: "glue that is wrong", delegation: strings.Replace(zooDelegation, "198.51.100.53", "198.51.100.54", 1), hosts: map[string]dnstest.Behaviour{"198.51.100.54": dnstest.Refusing}, fails: "deleg.glue-mismatch deleg.no-udp"},
		{why: "all in one network", delegation: strings.Replace(zooDelegation, "198.51.100.53", "192.0.2.54", 1), drop: []string{"ns2 A"}, add: "ns2 A 192.0.2.54\n", alsoAt: "192.0.2.54", fails: "deleg.same-prefix"},
		{why: "a secondary that is behind", secondDrop: "@ SOA", second: "@ SOA ns1 hostmaster 2 14400 3600 604800 3600\n", fails: "deleg.serial-drift"},
		{why: "servers with different SPF", second: "@ TXT \"another\"\n", fails: "deleg.inconsistent-rrset"},
		{why: "a long referral", delegation: zooDelegation + longReferral(), add: longNS(), fails: "deleg.referral-too-big", gone: "", anyMore: true},
		{why: "the parent's servers are silent", hosts: map[string]dnstest.Behaviour{comAt: dnstest.Silent}, gone: usual,
			unknown: "deleg.nxdomain@parent-zone deleg.no-ns@parent-zone mx.null@parent-zone spf.missing@parent-zone"},
	}
}

func longReferral() string {
	var b strings.Builder
	for c := 'a'; c < 'a'+13; c++ {
		b.WriteString("example NS ns" + strings.Repeat(string(c), 50) + "." + strings.Repeat(string(c), 50) + ".example.net.\n")
	}
	return b.String()
}

func longNS() string { return strings.ReplaceAll(longReferral(), "example NS", "@ NS") }

func soaZoo() []animal {
	soa := func(text string) animal { return animal{drop: []string{"@ SOA"}, add: "@ SOA " + text + "\n"} }
	with := func(a animal, why, fails string) animal { a.why, a.fails = why, fails; return a }
	return []animal{
		with(soa(". hostmaster 1 14400 3600 604800 3600"), "a SOA without a primary", "soa.mname"),
		with(soa("ns1 . 1 14400 3600 604800 3600"), "a SOA without a mailbox", "soa.rname"),
		with(soa(`ns1 hostmaster\@example.com. 1 14400 3600 604800 3600`), "a SOA with an at sign", "soa.rname"),
		with(soa("ns1 hostmaster 1 60 120 3600 10"), "a SOA with odd times", "soa.timers"),
		{why: "a zone without a SOA", turn: func(q dns.Question, a *dns.Answer) {
			if q.Type == dns.TypeSOA {
				a.Answer = nil
			}
		}, fails: "soa.missing"},
		{why: "a zone with two SOAs", turn: func(q dns.Question, a *dns.Answer) {
			if q.Type == dns.TypeSOA && len(a.Answer) == 1 {
				a.Answer = append(a.Answer[:1:1], rr("example.com. 3600 SOA ns2.example.com. hostmaster.example.com. 1 14400 3600 604800 3600"))
			}
		}, fails: "soa.multiple"},
	}
}

// mx is a zone with these MX records in place of the usual ones.
func mx(why, lines, fails, gone string) animal {
	return animal{why: why, drop: []string{"@ MX"}, add: lines, fails: fails, gone: gone}
}

func mxZoo() []animal {
	return []animal{
		mx("no MX and no address", "", "mx.missing dmarc.rua-no-mail", "mtasts.txt-missing"),
		mx("no MX and an address", "@ A 192.0.2.25\n", "mx.implicit mx.no-ipv6 ptr.not-confirmed", "ptr.not-confirmed"),
		mx("a null MX, and others may send", "@ MX 0 .\n", "mx.null mx.null-but-sends dmarc.rua-no-mail", "mtasts.txt-missing"),
		{why: "a null MX and nobody sends", drop: []string{"@ MX", "@ TXT", "_dmarc"}, add: "@ MX 0 .\n@ TXT \"v=spf1 -all\"\n_dmarc TXT \"v=DMARC1; p=none; rua=mailto:d@example.com\"\n", anyMore: true, fails: "mx.null", gone: "mtasts.txt-missing"},
		mx("a null MX beside another", "@ MX 0 .\n@ MX 10 mx1\n", "mx.null-mixed", ""),
		mx("a null MX with a preference", "@ MX 10 .\n", "mx.null mx.null-nonzero-pref mx.null-but-sends dmarc.rua-no-mail", "mtasts.txt-missing"),
		mx("an address in an MX record", "@ MX 10 mx1\n@ MX 20 192.0.2.25.\n", "mx.ip-literal", ""),
		mx("an MX record with an underscore", "@ MX 10 mx1\n@ MX 20 my_host\nmy_host A 192.0.2.25\n", "mx.invalid-name mx.same-address", ""),
		mx("an MX record with an alias", "@ MX 10 mail\nmail CNAME mx1\n", "mx.cname", ""),
		mx("an MX host without an address", "@ MX 10 mx1\n@ MX 20 bare\nbare TXT \"here\"\n", "mx.no-address", ""),
		mx("an MX host that is not there", "@ MX 10 mx1\n@ MX 20 gone\n", "mx.nxdomain", ""),
		mx("an MX host at a private address", "@ MX 10 mx1\n@ MX 20 inside\ninside A 10.0.0.25\n", "mx.private-address spf.helo-missing", ""),
		mx("an MX host twice", "@ MX 10 mx1\n@ MX 20 mx1\n", "mx.duplicate", ""),
		mx("two names of one host", "@ MX 10 mx1\n@ MX 20 too\ntoo A 192.0.2.25\n", "mx.same-address spf.helo-missing", ""),
		mx("no IPv6", "@ MX 10 mx2\n", "mx.no-ipv6", ""),
		mx("eleven MX records", elevenMX(), "mx.too-many mx.same-address spf.mx-too-many spf.helo-missing", ""),
		{why: "servers with different MX records", secondDrop: "@ MX 20", fails: "mx.inconsistent", anyMore: true},
		{why: "the servers fail for one type: nothing is missing", turn: failing(dns.TypeTXT, "example.com"),
			unknown: "spf.missing@zone-ns spf.multiple@zone-ns spf.no-all@zone-ns"},
		{why: "the servers fail for MX", turn: failing(dns.TypeMX, "example.com"), unknown: "mx.null@zone-ns mx.missing@zone-ns ptr.missing@zone-ns dane.unusable@zone-ns"},
	}
}

// failing turns the answers of one name and type into SERVFAIL.
func failing(t dns.Type, name string) func(dns.Question, *dns.Answer) {
	return func(q dns.Question, a *dns.Answer) {
		if q.Type == t && q.Name == dns.MustName(name) {
			*a = dns.Answer{Rcode: dns.ServFail}
		}
	}
}

func elevenMX() string {
	var b strings.Builder
	for c := 'a'; c < 'a'+11; c++ {
		b.WriteString("@ MX 10 " + string(c) + "\n" + string(c) + " A 192.0.2.25\n" + string(c) + " AAAA 2001:db8::25\n")
	}
	return b.String()
}

func ptrZoo() []animal {
	good := "25.100.51.198 PTR mx2.example.com.\n"
	return []animal{
		{why: "an address without a name", arpa: good, fails: "ptr.missing", blamed: "ptr.missing@third-party@192.0.2.25"},
		{why: "a name that leads elsewhere", arpa: good + "25.2.0.192 PTR mx2.example.com.\n", fails: "ptr.not-confirmed"},
		{why: "two names", arpa: zooPTR + "25.2.0.192 PTR mx2.example.com.\n", fails: "ptr.multiple"},
		{why: "a name made up by the provider", arpa: good + "25.2.0.192 PTR ip-192-0-2-25.pool.example.net.\n", net: "ip-192-0-2-25.pool.example A 192.0.2.25\n", fails: "ptr.generic"},
		{why: "a reverse zone whose servers do not have it", arpa: good + "2.0.192 NS ns.lame.example.net.\n", net: "ns.lame.example A 203.0.113.4\n",
			hosts: map[string]dnstest.Behaviour{"203.0.113.4": dnstest.Lame}, fails: "ptr.zone-lame", unknown: "ptr.missing@third-party@192.0.2.25"},
		{why: "a reverse zone whose servers are silent", arpa: good + "2.0.192 NS ns.lame.example.net.\n", net: "ns.lame.example A 203.0.113.4\n", fails: "ptr.temperror", unknown: "ptr.missing@third-party@192.0.2.25"},
	}
}
