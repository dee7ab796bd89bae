package audit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/dns/zone"
)

// askerFunc stands between us and servers.
type askerFunc func(ctx context.Context, server netip.AddrPort, network string, q dns.Question) (dns.Said, error)

func (f askerFunc) Ask(ctx context.Context, server netip.AddrPort, network string, q dns.Question) (dns.Said, error) {
	return f(ctx, server, network, q)
}

// turning changes what servers say.
func turning(turn func(q dns.Question, said *dns.Said)) func(Asker) Asker {
	return func(next Asker) Asker {
		return askerFunc(func(ctx context.Context, server netip.AddrPort, network string, q dns.Question) (dns.Said, error) {
			said, err := next.Ask(ctx, server, network, q)
			if err == nil {
				turn(q, &said)
			}
			return said, err
		})
	}
}

// rootless lets no question to root servers through.
func rootless(next Asker) Asker {
	return askerFunc(func(ctx context.Context, server netip.AddrPort, network string, q dns.Question) (dns.Said, error) {
		if server.Addr().String() == rootAt {
			return dns.Said{}, &dns.Error{Question: q, Trouble: dns.NoReply}
		}
		return next.Ask(ctx, server, network, q)
	})
}

// intercepting is a resolver on the way that answers in the place of whoever is asked.
var intercepting = turning(func(q dns.Question, said *dns.Said) {
	said.Authoritative, said.Recursion = false, true
	if len(said.Answer.Answer) == 0 { // it does not refer, it asks
		said.Authority = nil
		said.Answer.Answer = []dns.RR{rr(q.Name.FQDN() + " 300 TXT \"from elsewhere\"")}
	}
})

// transferring gives the zone to whoever asks.
var transferring = turning(func(q dns.Question, said *dns.Said) {
	if q.Type == dns.TypeAXFR {
		said.Rcode = dns.NoError
		said.Answer.Answer = []dns.RR{rr("example.com. 300 SOA ns1.example.com. hostmaster.example.com. 1 2 3 4 5"), rr("example.com. 300 NS ns1.example.com.")}
	}
})

// forgedPlain is plain.com with keys that the DS record at com does not mean.
const (
	forgedPlain   = "@ 300 SOA ns1 hostmaster 1 14400 3600 604800 3600\n@ 300 NS ns1\nns1 300 A " + plainAt + "\n@ 300 A 203.0.113.8\n@ 300 DNSKEY 257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==\n"
	forgedPlainDS = "plain DS 1 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"
	otherDS       = "example 3600 DS 1 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"
)

const originOne = "53.2.0.192.origin.example TXT \"64496 | 192.0.2.0/24 | ZZ\"\n"

// ourSideZoo is what is wrong here, and held against nobody else.
func ourSideZoo() []animal {
	return []animal{
		{why: "a network that answers for all servers", forwarded: true, asker: intercepting, fails: "resolver.udp53-intercepted", gone: "dnssec.insecure", blamed: "resolver.udp53-intercepted@local-network",
			unknown: "deleg.lame@local-network deleg.no-ns@local-network soa.missing@local-network"},
		{why: "root servers that are not heard", forwarded: true, asker: rootless, gone: "dnssec.insecure",
			unknown: "deleg.no-ns@local-network dnssec.insecure@local-network soa.missing@local-network resolver.udp53-intercepted@local-network net.clock-skew@local-network"},
		{why: "root servers that refuse us", forwarded: true, asker: turning(func(q dns.Question, said *dns.Said) { said.Answer = dns.Answer{Rcode: dns.Refused} }), gone: "dnssec.insecure",
			unknown: "deleg.no-ns@local-network dnssec.insecure@local-network soa.missing@local-network"},
		{why: "root servers that are not heard, and a resolver that fails at the domain", forwarded: true, asker: rootless, refuses: "example.com", gone: usual, anyMore: true,
			unknown: "deleg.no-ns@local-network mx.null@unknown spf.missing@unknown caa.missing@unknown"},
		{why: "a clock that is weeks ahead", signed: &zone.Signing{}, rootLasts: -time.Hour, lasts: -time.Hour, forwarded: true, credulous: true, gone: "dnssec.insecure", fails: "net.clock-skew",
			unknown: "dnssec.rrsig-expired@local-network dnssec.rrsig-expiring@local-network"},
		{why: "a clock that is weeks ahead, and we validate", signed: &zone.Signing{}, rootLasts: -time.Hour, lasts: -time.Hour, gone: usual, fails: "net.clock-skew resolver.unreachable", anyMore: true,
			unknown: "dnssec.rrsig-expired@local-network spf.missing@local-resolver"},
		{why: "a resolver that takes this domain's forged signatures and no others", signed: &zone.Signing{}, ds: otherDS, forwarded: true, credulous: true, refuses: "plain.com", bogus: "plain.com", plain: forgedPlain, com: forgedPlainDS,
			fails: "resolver.bogus-accepted dnssec.ds-without-key", gone: "dnssec.insecure", blamed: "resolver.bogus-accepted@local-resolver"},
		{why: "a resolver that refuses forged signatures", signed: &zone.Signing{}, forwarded: true, bogus: "plain.com", plain: forgedPlain, com: forgedPlainDS, gone: "dnssec.insecure"},
		{why: "another resolver that does not validate", signed: &zone.Signing{}, forwarded: true, credulous: true, bogus: "plain.com", plain: forgedPlain, com: forgedPlainDS, gone: "dnssec.insecure", fails: "resolver.no-dnssec"},
		{why: "a name that is no longer forged says nothing about the resolver", signed: &zone.Signing{}, forwarded: true, credulous: true, bogus: "plain.com", plain: "@ 300 SOA ns1 hostmaster 1 14400 3600 604800 3600\n@ 300 NS ns1\nns1 300 A " + plainAt + "\n@ 300 A 203.0.113.8\n", gone: "dnssec.insecure"},
		{why: "a resolver that fails at names whose reverse zone answers", forwarded: true, refuses: "25.2.0.192.in-addr.arpa", unknown: "ptr.missing@local-resolver@192.0.2.25 ptr.temperror@local-resolver@192.0.2.25"},
		{why: "another resolver, and a reverse zone whose servers do not have it", forwarded: true, arpa: "25.100.51.198 PTR mx2.example.com.\n2.0.192 NS ns.lame.example.net.\n", net: "ns.lame.example A 203.0.113.4\n",
			hosts: map[string]dnstest.Behaviour{"203.0.113.4": dnstest.Lame}, fails: "ptr.zone-lame", blamed: "ptr.zone-lame@third-party@192.0.2.25"},
		{why: "another resolver, and a reverse zone whose servers are silent", forwarded: true, arpa: "25.100.51.198 PTR mx2.example.com.\n2.0.192 NS ns.lame.example.net.\n", net: "ns.lame.example A 203.0.113.4\n",
			fails: "ptr.temperror", blamed: "ptr.temperror@third-party@192.0.2.25"},
		{why: "a resolver that fails at a reverse zone, and nobody else to ask", forwarded: true, asker: rootless, refuses: "25.2.0.192.in-addr.arpa", gone: "dnssec.insecure", unknown: "ptr.temperror@unknown@192.0.2.25"},
	}
}

// splitZoo is domains that are another thing inside than outside, and those of which many are.
func splitZoo() []animal {
	inside := says(func(q dns.Question) (dns.Answer, bool) {
		switch {
		case q.Name == dns.Root:
			return answer(". 300 NS ns.root.example."), true
		case q.Type == dns.TypeMX:
			return answer(q.Name.FQDN() + " 300 MX 10 mx.example.net."), true
		}
		return dns.Answer{}, q.Name.In(dns.MustName("example.com"))
	})
	denies := says(func(q dns.Question) (dns.Answer, bool) {
		if q.Name == dns.Root {
			return answer(". 300 NS ns.root.example."), true
		}
		return dns.Answer{Rcode: dns.NXDomain}, true
	})
	return []animal{
		{why: "a domain that the resolver knows and the world does not", forwarded: true, forward: inside, delegation: "other NS ns.net.\n", anyMore: true, fails: "deleg.nxdomain resolver.disagrees", gone: usual,
			blamed: "deleg.nxdomain@parent-zone resolver.disagrees@local-resolver"},
		{why: "a domain that the world knows and the resolver denies", forwarded: true, forward: denies, fails: "resolver.disagrees", gone: usual,
			unknown: "mx.missing@local-resolver spf.missing@local-resolver caa.missing@local-resolver", blamed: "resolver.disagrees@local-resolver"},
		{why: "a domain that the resolver denies, delegated to servers that are silent", forwarded: true, forward: denies, hosts: map[string]dnstest.Behaviour{ns1At: dnstest.Silent, ns2At: dnstest.Silent},
			fails: "deleg.no-ns deleg.no-udp", gone: usual, unknown: "mx.missing@local-resolver spf.missing@local-resolver deleg.ns-unresolvable@local-resolver deleg.glue-mismatch@local-resolver"},
	}
}

func moreZoo() []animal {
	const (
		record = "v=STSv1; id=1;"
		good   = "version: STSv1\nmode: enforce\nmx: mx1.example.com\nmx: mx2.example.com\nmax_age: 2419200\n"
		ed     = "TXT \"v=DKIM1; k=ed25519; p=gJqa580Xk5Zevw/xdKKftoCJ8VIhv2xckvLH7XmqGiY=\"\n"
	)
	issued := func(why, caa, fails string) animal {
		a := stsIs(why, record, policy(good), fails)
		a.drop, a.issuer = []string{"@ CAA"}, "Let's Encrypt"
		a.add += "@ CAA 0 issue \"" + caa + "\"\n"
		return a
	}
	with := func(a animal, net string) animal { a.net = net; return a }
	hashed := signedWith("proofs that are hashed twice", "", "dnssec.nsec3-iterations")
	hashed.signed = &zone.Signing{NSEC3: &zone.NSEC3{Iterations: 1}}
	plainHashed := signedWith("proofs that are hashed once", "", "")
	plainHashed.signed = &zone.Signing{NSEC3: &zone.NSEC3{}}
	foreign := mx("an MX host in a domain that nobody has", "@ MX 10 mx1\n@ MX 20 mx.example.net.\n", "mx.nxdomain mx.unregistered", "")
	foreign.blamed = "mx.unregistered@zone@example.net"
	registered := mx("an MX host that is gone, in a domain that somebody has", "@ MX 10 mx1\n@ MX 20 mx.example.net.\n", "mx.nxdomain", "")
	registered.net = "www.example A 192.0.2.80\n"
	nowhere := mx("an MX host below a top level that does not exist: nobody can register that", "@ MX 10 mx1\n@ MX 20 mx.example.nosuch.\n", "mx.nxdomain", "")
	hostCAA := animal{why: "a CAA record with a mistake at an MX host", add: "mx1 CAA 0 issue \"https://ca.example.net\"\n", fails: "caa.syntax", blamed: "caa.syntax@zone@mx1.example.com"}
	return []animal{
		{why: "a server that gives the zone to strangers", asker: transferring, fails: "deleg.axfr-open", blamed: "deleg.axfr-open@zone-ns@192.0.2.53"},
		{why: "all servers in one autonomous system", origins: true, net: originOne + "53.100.51.198.origin.example TXT \"64496 | 198.51.100.0/24 | ZZ\"\n", fails: "deleg.same-as"},
		{why: "servers in two autonomous systems", origins: true, net: originOne + "53.100.51.198.origin.example TXT \"64511 64496 | 198.51.100.0/24 | ZZ\"\n"},
		{why: "nobody knows the autonomous system of one server", origins: true, net: originOne, unknown: "deleg.same-as@third-party"},
		{why: "a registration that has ended", registered: -24 * time.Hour, fails: "deleg.expired", blamed: "deleg.expired@parent-zone@example.com"},
		{why: "a registration that ends soon", registered: 24 * time.Hour, fails: "deleg.expiring"},
		{why: "a registration that lasts", registered: 365 * 24 * time.Hour},
		{why: "a registry that does not say", registry: errors.New("status 429"), unknown: "deleg.expired@third-party deleg.expiring@third-party"},
		foreign, registered, nowhere,
		with(spfIs("an include that is gone, of a domain that somebody has", "v=spf1 include:gone.example.net -all", "spf.include-nxdomain"), "www.example A 192.0.2.80\n"),
		{why: "a policy of the old type", add: "@ SPF \"v=spf1 mx -all\"\n", fails: "spf.type99"},
		{why: "an MX host that anybody may say to be", drop: []string{"mx1 TXT"}, fails: "spf.helo-missing", blamed: "spf.helo-missing@zone@mx1.example.com"},
		{why: "a sender that SPF does not name", senders: []string{"192.0.2.25", "203.0.113.25"}, fails: "spf.own-ip-not-covered", blamed: "spf.own-ip-not-covered@zone@203.0.113.25"},
		{why: "senders that SPF names", senders: []string{"192.0.2.25", "2001:db8::25"}},
		{why: "reject without a key", drop: []string{"s1._domainkey"}, fails: "dmarc.spf-only-reject"},
		{why: "reject without a key, and nobody sends", drop: []string{"s1._domainkey", "@ TXT"}, add: "@ TXT \"v=spf1 -all\"\n"},
		{why: "one key at two selectors", add: "s2._domainkey " + ed, selectors: []string{"s1", "s2"}, fails: "dkim.key-reused dkim.ed25519-only"},
		{why: "a key for each of two selectors", add: quotedTXT("s2._domainkey", "v=DKIM1; k=rsa; p="+rsaKey(2048)), selectors: []string{"s1", "s2"}},
		hashed, plainHashed,
		signedWith("a CDS record of a key that is not there", "@ CDS 1 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n", "dnssec.cds-inconsistent"),
		signedWith("a CDS record by which all DS records shall go", "@ CDS 0 0 0 00\n", ""),
		issued("an authority that may not issue any more", "ca.example.net", "caa.forbids-issuer"),
		issued("the authority that may issue", "letsencrypt.org; validationmethods=dns-01", ""),
		hostCAA,
		{why: "the servers fail at CAA of an MX host", turn: failing(dns.TypeCAA, "mx1.example.com"), fails: "caa.servfail", blamed: "caa.servfail@zone-ns@mx1.example.com", unknown: "caa.syntax@zone-ns@mx1.example.com"},
	}
}

// TestMilder: what an id that has several severities gives, and what its words say.
func TestMilder(t *testing.T) {
	other := "25.100.51.198 PTR mx2.example.com.\n25.2.0.192 PTR mx2.example.com.\n"
	for _, tt := range []struct {
		why      string
		a        animal
		id       string
		severity Severity
		words    string // of detail and fix
	}{
		{"an MX host that SPF permits sends, and receivers look at its name", animal{arpa: other}, "ptr.not-confirmed", Error, ""},
		{"one that SPF does not permit receives alone", animal{arpa: other, drop: []string{"@ TXT"}, add: "@ TXT \"v=spf1 ip4:203.0.113.9 -all\"\n"}, "ptr.not-confirmed", Warning, "only receives"},
		{"without a key and in strict alignment, nothing but SPF can pass", animal{drop: []string{"s1._domainkey", "_dmarc"}, add: "_dmarc TXT \"v=DMARC1; p=reject; adkim=s; rua=mailto:d@example.com\"\n"}, "dmarc.spf-only-reject", Warning, ""},
		{"in relaxed alignment a subdomain's key may sign", animal{drop: []string{"s1._domainkey"}}, "dmarc.spf-only-reject", Notice, "subdomain"},
		{"a null MX among others is deleted as it stands", mx("", "@ MX 7 .\n@ MX 10 mx1\n", "", ""), "mx.null-mixed", Error, "example.com. MX 7 ."},
		{"a policy that is an error names nobody", animal{senders: []string{"192.0.2.25"}, drop: []string{"@ TXT"}, add: "@ TXT \"v=spf1 mx -all\"\n@ TXT \"v=spf1 -all\"\n"}, "spf.own-ip-not-covered", Error, "mend the policy"},
		{"a domain that the registry's servers deny may be suspended", mx("", "@ MX 10 mx.example.net.\n", "", ""), "mx.unregistered", Critical, "suspended"},
		{"a view of the resolver's own", splitZoo()[0], "deleg.nxdomain", Critical, "a view of its own"},
	} {
		_, findings := tt.a.audit(t)
		i := slices.IndexFunc(findings, func(f Finding) bool { return f.ID == tt.id && f.Status == Fail })
		if i < 0 {
			t.Errorf("%s: %s does not fail", tt.why, tt.id)
			continue
		}
		f := findings[i]
		text := f.Detail + f.Fix.Text
		for _, c := range f.Fix.Records {
			text += "\n" + c.Record
		}
		if f.Severity != tt.severity || !strings.Contains(text, tt.words) {
			t.Errorf("%s: %s, %s", tt.why, f.Severity, text)
		}
	}
}

// TestNobodyDisagrees: of a domain that is not there, nobody says something else.
func TestNobodyDisagrees(t *testing.T) {
	_, findings := animal{delegation: "other NS ns.net.\n"}.audit(t)
	for _, f := range findings {
		if f.ID == "resolver.disagrees" && f.Status != NotApplicable {
			t.Errorf("%s, %s: %s", f.Status, f.Blame, f.Detail)
		}
	}
}

// TestSuffix: a public suffix without mail is not told to publish mail's records; one with mail is
// a domain like others, and a name below one is nothing special.
func TestSuffix(t *testing.T) {
	for _, tt := range []struct {
		why, domain, com string
		want             Status // of spf.missing, which fails for any domain here
	}{
		{"a top level itself", "com", "", NotApplicable},
		{"one with an MX record", "com", "@ MX 10 ns.com.\n", Fail},
		{"a domain that nobody calls a suffix", "other.com", "other NS ns1.plain\nns1.plain A " + plainAt + "\n", Unknown},
	} {
		_, findings := animal{domain: tt.domain, com: tt.com}.audit(t)
		for _, f := range findings {
			switch {
			case f.ID == "spf.missing" && f.Status != tt.want:
				t.Errorf("%s: spf.missing: %s, %s", tt.why, f.Status, f.Detail)
			case tt.want == NotApplicable && f.Status == Fail && mailArea(strings.Split(f.ID, ".")[0]):
				t.Errorf("%s: %s: %s", tt.why, f.ID, f.Detail)
			case tt.want == NotApplicable && f.Status == Fail && strings.HasPrefix(f.ID, "dmarc."):
				t.Errorf("%s: %s: %s", tt.why, f.ID, f.Detail)
			case tt.want == NotApplicable && f.ID == "soa.missing" && f.Status != Pass:
				t.Errorf("%s: the zone is not looked at: %s", tt.why, f.Detail)
			}
		}
	}
	for domain, want := range map[string]bool{"co.uk": true, "com": true, "example.co.uk": false, "github.io": false, "nosuch": false} {
		if PublicSuffix(dns.MustName(domain)) != want {
			t.Errorf("%s: %t", domain, !want)
		}
	}
}

func TestParseOrigin(t *testing.T) {
	for text, want := range map[string][]uint32{
		"64496 | 192.0.2.0/24 | ZZ | nobody | 2001-01-01": {64496}, "64496 64511 | 192.0.2.0/24": {64496, 64511},
		"": nil, "64496": nil, "NA | 192.0.2.0/24": nil, "0 | ": nil, "-1 | ": nil, "4294967296 | ": nil, strings.Repeat("1 ", maxASNs+1) + "|": nil,
	} {
		if got := parseOrigin(text); !slices.Equal(got, want) {
			t.Errorf("%q: %v", text, got)
		}
	}
	o := Origins{V4: dns.MustName("origin.example.net"), V6: dns.MustName("origin6.example.net")}
	for addr, want := range map[string]string{"192.0.2.53": "53.2.0.192.origin.example.net", "2001:db8::1": "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.origin6.example.net"} {
		if got, ok := o.name(netip.MustParseAddr(addr)); !ok || got.String() != want {
			t.Errorf("%s: %s", addr, got)
		}
	}
}

func FuzzOrigin(f *testing.F) {
	f.Add("64496 64511 | 192.0.2.0/24 | ZZ")
	f.Fuzz(func(t *testing.T, text string) {
		if got := parseOrigin(text); len(got) > maxASNs || slices.Contains(got, 0) {
			t.Errorf("%v", got)
		}
	})
}

// TestManyOthers: records that name very many domains that are gone cost so much and no more.
func TestManyOthers(t *testing.T) {
	var records, policy strings.Builder
	for i := range 40 {
		fmt.Fprintf(&records, "@ MX %d mx.gone%d.net.\n", i, i)
		fmt.Fprintf(&policy, " include:spf.lost%d.net", i)
	}
	facts, _ := animal{drop: []string{"@ MX", "@ TXT"}, add: records.String() + quotedTXT("@", "v=spf1"+policy.String()+" -all")}.audit(t)
	if len(facts.Others) != maxOthers || len(facts.Log) > maxAsked {
		t.Errorf("%d domains, %d questions", len(facts.Others), len(facts.Log))
	}
	for i := range 40 {
		facts.Hosts = append(facts.Hosts, Host{Name: dns.MustName(fmt.Sprintf("mx%d.example.com", i)), A: Fact[netip.Addr]{Set: dns.Set[netip.Addr]{Records: []netip.Addr{netip.MustParseAddr("192.0.2.25")}}}})
	}
	if n := len(facts.ownHosts()); n != maxNamed {
		t.Errorf("%d hosts", n)
	}
}
