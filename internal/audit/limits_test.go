package audit

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"mxward/internal/dns"
)

// TestManyServers: whatever a zone's records ask for, one domain costs so much and no more.
func TestManyServers(t *testing.T) {
	var delegation, zone strings.Builder
	for i := range 300 {
		fmt.Fprintf(&delegation, "example NS ns%d.gone%d.net.\n", i, i)
		fmt.Fprintf(&zone, "@ NS ns%d.more%d.net.\n@ MX %d mx%d.more%d.net.\n", i, i, i, i, i)
	}
	a := animal{delegation: zooDelegation + delegation.String(), add: zone.String()}
	facts, _ := a.audit(t)
	if len(facts.Zone.Names) != maxServing || len(facts.Log) > maxAsked {
		t.Errorf("%d names, %d questions", len(facts.Zone.Names), len(facts.Log))
	}
}

// TestSpent: what is not asked any more is nobody's fault.
func TestSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auditor := animal{}.world(t)
		rec := &recorder{resolver: auditor.Resolver, asker: auditor.Asker, asked: maxAsked}
		_, err := rec.Resolve(t.Context(), dns.Question{Name: dns.MustName("example.com"), Type: dns.TypeMX})
		heard := rec.ask(t.Context(), auditor.Roots[0], "udp", dns.Question{Name: dns.Root, Type: dns.TypeNS})
		if !stopped(err) || !stopped(heard.Err) || len(rec.log) > 0 {
			t.Errorf("%v, %v, %v", err, heard.Err, rec.log)
		}
		facts := auditor.Gather(t.Context(), dns.MustName("example.com"))
		for i := range facts.Zone.Servers {
			facts.Zone.Servers[i].SOA = Heard{Err: context.DeadlineExceeded}
		}
		for _, f := range Judge(facts, Checks()) {
			if f.Status == Fail && f.Severity.AtLeast(Error) {
				t.Errorf("%s: %s", f.ID, f.Detail)
			}
		}
		facts = auditor.Gather(t.Context(), dns.MustName("example.com"))
		facts.Reverse[0].PTR.Err = context.DeadlineExceeded
		for _, f := range Judge(facts, Checks()) {
			if f.ID == "ptr.temperror" && (f.Status != Unknown || f.Blame != Nobody) {
				t.Errorf("%s: %s %s", f.ID, f.Status, f.Blame)
			}
		}
	})
}

// TestLead: one server above that is behind does not make the domain vanish.
func TestLead(t *testing.T) {
	name, com := dns.MustName("example.com"), dns.MustName("com")
	heard := func(a dns.Answer) Heard { return Heard{Said: dns.Said{Answer: a}} }
	denial := heard(dns.Answer{Authoritative: true, Rcode: dns.NXDomain})
	answered := heard(dns.Answer{Authoritative: true})
	referral := heard(dns.Answer{Authority: []dns.RR{rr("example.com. 300 NS ns1.example.com.")}})
	if ref, _ := lead([]Heard{denial, referral}, com, name); ref.Zone != name {
		t.Errorf("a denial hides the referral: %v", ref)
	}
	if _, got := lead([]Heard{denial, answered}, com, name); got == nil || got.Said.Rcode != dns.NoError {
		t.Errorf("a denial hides the answer: %v", got)
	}
	if _, got := lead([]Heard{{Err: context.Canceled}, denial}, com, name); got == nil || got.Said.Rcode != dns.NXDomain {
		t.Errorf("all deny: %v", got)
	}
}

// TestArrived: a server that has a public suffix and the one above says which of them denies the
// domain, and an alias into a zone below leads nowhere.
func TestArrived(t *testing.T) {
	suffix, uk := dns.MustName("co.uk"), dns.MustName("uk")
	if z := (Zone{Parent: uk, Absent: true, Undivided: true}).arrived(suffix, dns.Root); !z.Name.IsZero() || z.Parent != suffix {
		t.Errorf("a domain in co.uk is judged by co.uk: %v", z)
	}
	synctest.Test(t, func(t *testing.T) {
		facts := animal{domain: "alias.example.com", add: "alias CNAME end.sub\n", turn: func(q dns.Question, a *dns.Answer) {
			if q.Name == dns.MustName("alias.example.com") {
				a.Authority = []dns.RR{rr("sub.example.com. 300 SOA ns1.example.com. hostmaster.example.com. 1 2 3 4 5")}
			}
		}}.world(t).Gather(t.Context(), dns.MustName("alias.example.com"))
		if facts.Zone.Name != dns.MustName("example.com") {
			t.Errorf("the zone is %s", facts.Zone.Name)
		}
	})
}

// TestDenied: a resolver that heard a server which is behind does not hide anything.
func TestDenied(t *testing.T) {
	yes := Heard{Said: dns.Said{Answer: dns.Answer{Authoritative: true}}}
	no := Heard{Said: dns.Said{Answer: dns.Answer{Authoritative: true, Rcode: dns.NXDomain}}}
	if f := (&Facts{Zone: Zone{Servers: []Server{{MX: yes}, {MX: yes}}}}); !f.denied() {
		t.Error("all servers know it")
	}
	if f := (&Facts{Zone: Zone{Servers: []Server{{MX: yes}, {MX: no}}}}); f.denied() {
		t.Error("one server denies it too")
	}
}

// TestAside: what only this host's want of IPv6 leaves open does not make the whole undetermined.
func TestAside(t *testing.T) {
	_, findings := animal{delegation: zooDelegation + "ns2.example AAAA 2001:db8::53\n", add: "ns2 AAAA 2001:db8::53\n"}.audit(t)
	if Failed(findings, Error) {
		t.Error("the domain is blamed")
	}
	for _, f := range findings {
		if f.ID == "deleg.no-udp" && (f.Status != Unknown || !f.aside) {
			t.Errorf("%s: %s", f.Target, f.Status)
		}
	}
	unsure := []Finding{{ID: "deleg.no-udp", Status: Unknown}}
	if !Inconclusive(unsure, Checks(), Error) {
		t.Error("it is undetermined")
	}
	unsure[0].aside = true
	if Inconclusive(unsure, Checks(), Error) {
		t.Error("it is undetermined for want of IPv6")
	}
}

// cut is an Asker to whose datagrams no glue fits, and which does not say so.
type cut struct{ Asker }

func (c cut) Ask(ctx context.Context, server netip.AddrPort, network string, q dns.Question) (dns.Said, error) {
	said, err := c.Asker.Ask(ctx, server, network, q)
	if network == "udp" && !said.Authoritative {
		said.Additional = nil
	}
	return said, err
}

// TestGlueOverTCP: glue that a datagram has no room for is not missing.
func TestGlueOverTCP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auditor := animal{}.world(t)
		auditor.Asker = cut{auditor.Asker}
		for _, f := range Judge(auditor.Gather(t.Context(), dns.MustName("example.com")), Checks()) {
			if f.Status == Fail && f.Severity.AtLeast(Warning) {
				t.Errorf("%s: %s: %s", f.ID, f.Target, f.Detail)
			}
		}
	})
}

// TestLongTexts: texts that differ only where nobody is shown them differ.
func TestLongTexts(t *testing.T) {
	domain := dns.MustName("example.com")
	at := func(text string) Server {
		heard := func(line string) Heard {
			return Heard{Server: netip.MustParseAddrPort("192.0.2.53:53"), Said: dns.Said{Answer: dns.Answer{Authoritative: true, Answer: []dns.RR{rr(line)}}}}
		}
		return Server{Addr: netip.MustParseAddr("192.0.2.53"), SOA: heard("example.com. 300 SOA ns1 hostmaster 1 2 3 4 5"), TXT: heard(`example.com. 300 TXT "` + strings.Repeat("x", 220) + text + `"`)}
	}
	for _, other := range []string{"a", "b"} {
		f := &Facts{Domain: domain, Zone: Zone{Name: domain, Servers: []Server{at("a"), at(other)}}}
		for _, c := range Checks() {
			if c.ID == "deleg.inconsistent-rrset" && (len(c.judge(f)) > 0) != (other == "b") {
				t.Errorf("a and %s: %v", other, c.judge(f))
			}
		}
	}
}

// TestDenyAll: the policy that nobody sends takes the place of a policy, and of no other text.
func TestDenyAll(t *testing.T) {
	for add, want := range map[string]string{"@ TXT \"another\"\n": "add", "@ TXT \"v=spf1 mx -all\"\n": "replace"} {
		_, findings := animal{drop: []string{"@ MX", "@ TXT"}, add: "@ MX 0 .\n" + add}.audit(t)
		for _, f := range findings {
			if f.ID == "mx.null-but-sends" && (len(f.Fix.Records) != 1 || f.Fix.Records[0].Do != want) {
				t.Errorf("%s: %v", add, f.Fix.Records)
			}
		}
	}
}

// TestManyFindings: a zone with thousands of faults does not make thousands of findings.
func TestManyFindings(t *testing.T) {
	f := &Facts{Domain: dns.MustName("example.com"), MX: Fact[dns.MX]{Set: dns.Set[dns.MX]{Exists: true}}}
	for i := range 1000 {
		f.MX.Records = append(f.MX.Records, dns.MX{Host: dns.MustName(fmt.Sprintf("bad_%d.example.com", i))})
	}
	i := slices.IndexFunc(Checks(), func(c Check) bool { return c.ID == "mx.invalid-name" })
	findings := Judge(f, Checks()[i:i+1])
	if len(findings) != maxVerdicts || !slices.ContainsFunc(findings, func(f Finding) bool { return strings.Contains(f.Detail, "950 more") }) {
		t.Errorf("%d findings", len(findings))
	}
	long := f.finding(Checks()[i], fail(strings.Repeat("x", 5000)))
	if len(long.Detail) > maxDetail+len("…") {
		t.Errorf("%d octets", len(long.Detail))
	}
	many := append(make([]verdict, maxVerdicts), fail("late"))
	if kept := worst(Checks()[i], many); kept[0].status != Fail {
		t.Error("what fails is left out")
	}
}

// noTCP is an Asker in a network that lets no TCP out to port 53.
type noTCP struct{ Asker }

func (n noTCP) Ask(ctx context.Context, server netip.AddrPort, network string, q dns.Question) (dns.Said, error) {
	if network == "tcp" {
		return dns.Said{}, &dns.Error{Question: q, Trouble: dns.NoReply}
	}
	return n.Asker.Ask(ctx, server, network, q)
}

// TestNoTCPHere: a network that lets no TCP out says nothing about the zone's servers.
func TestNoTCPHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auditor := animal{}.world(t)
		auditor.Asker = noTCP{auditor.Asker}
		for _, f := range Judge(auditor.Gather(t.Context(), dns.MustName("example.com")), Checks()) {
			if f.Status == Fail && f.Severity.AtLeast(Error) || f.ID == "deleg.no-tcp" && (f.Status != Unknown || f.Blame != LocalNetwork) {
				t.Errorf("%s: %s %s: %s", f.ID, f.Status, f.Blame, f.Detail)
			}
		}
	})
}
