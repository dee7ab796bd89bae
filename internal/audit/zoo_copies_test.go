package audit

import (
	"slices"
	"strings"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/mailauth/spf"
)

// copiesPlan has the networks of one include.
const copiesPlan = zooPlan + `
[[domain.spf-flattened]]
include = "_spf.example.net"
networks = ["203.0.113.0/24", "2001:db8:5::/48"]
`

// copied is a domain of that plan, whose record names these terms, by what the include says today.
func copied(why, record, today, fails string) animal {
	a := animal{why: why, plan: copiesPlan, fails: fails, drop: []string{"@ TXT"}, add: quotedTXT("@", "v=spf1 mx "+record+" -all"), net: "ns.example A 192.0.2.3\n"}
	if today != "" {
		a.net += quotedTXT("_spf.example", "v=spf1 "+today+" -all")
	}
	switch {
	case strings.HasPrefix(why, "unknown: "):
		a.unknown = "spf.flatten-stale@unknown@_spf.example.net"
	case fails != "":
		a.blamed = "spf.flatten-stale@zone@_spf.example.net"
	}
	if strings.Contains(record, "ip4:") { // all the networks here are for examples
		a.fails += " spf.private-range"
	}
	return a
}

const asCopied = "ip4:203.0.113.0/24 ip6:2001:db8:5::/48"

// accountPlan has an account at the authority of the zoo, and two at another.
const accountPlan = zooPlan + `
[[acme-account]]
issuer = "ca.example.net"
uri = "https://ca.example.net/acct/1234"
[[acme-account]]
issuer = "ca.example.org"
uri = "https://ca.example.org/acct/1"
[[acme-account]]
issuer = "ca.example.org"
uri = "https://ca.example.org/acct/2"
`

// accounts is a domain of that plan by its CAA records.
func accounts(why, fails string, records ...string) animal {
	a := animal{why: why, plan: accountPlan, fails: fails, drop: []string{"@ CAA"}}
	for _, r := range records {
		a.add += r + "\n"
	}
	if fails == "caa.account-mismatch" {
		a.blamed = "caa.account-mismatch@zone@example.com"
	}
	return a
}

func at(name, tag, value string) string { return name + " CAA 0 " + tag + ` "` + value + `"` }

// sourcesZoo is what is held against the places that it was copied from, or that know it.
func sourcesZoo() []animal {
	const stale, mismatch = "spf.flatten-stale", "caa.account-mismatch"
	const ours, other = "ca.example.net; accounturi=https://ca.example.net/acct/1234", "ca.example.net; accounturi=https://ca.example.net/acct/9"

	below := copied("copies in a record of the zone that is included", "include:_flat.example.com", asCopied, "")
	below.add += quotedTXT("_flat", "v=spf1 "+asCopied+" -all")
	belowStale := copied("copies there that are old", "include:_flat.example.com", "ip4:203.0.113.0/24", stale)
	belowStale.add = below.add
	hosts := copied("hosts and includes of the include", asCopied, "include:a.example.net include:b.example.net mx:c.example.net", "")
	hosts.net += quotedTXT("a.example", "v=spf1 ip4:203.0.113.0/24 -all") + quotedTXT("b.example", "v=spf1 redirect=d.example.net") +
		quotedTXT("d.example", "v=spf1 ip6:2001:db8:5::/48 -all") + "c.example MX 10 e.example\ne.example A 203.0.113.9\n"
	moved := copied("its MX host has moved", asCopied, "mx:c.example.net "+asCopied, stale)
	moved.net += "c.example MX 10 e.example\ne.example A 203.0.112.9\n"
	elsewhere := copied("the network is another include's now", asCopied, "ip6:2001:db8:5::/48", "")
	elsewhere.plan += "[[domain.spf-flattened]]\ninclude = \"_spf2.example.net\"\nnetworks = [\"203.0.113.0/24\"]\n"
	elsewhere.net += quotedTXT("_spf2.example", "v=spf1 ip4:203.0.113.0/24 -all")
	renamed := copied("the include is gone, and another one has its networks", asCopied, "", "")
	renamed.plan = elsewhere.plan
	renamed.net += quotedTXT("_spf2.example", "v=spf1 "+asCopied+" -all")
	noneBelow := copied("the include includes one without a policy, and so nobody can use it", asCopied, "include:gone.example.net", "")
	noneBelow.unknown = "spf.flatten-stale@third-party@_spf.example.net"
	perhaps := copied("nobody answers for a record that may have the copies", "include:_spf.lost.com", asCopied, "")
	perhaps.com, perhaps.hosts = "lost NS ns.lost\nns.lost A 192.0.2.99\n", map[string]dnstest.Behaviour{"192.0.2.99": dnstest.Silent}
	perhaps.unknown = "spf.flatten-stale@third-party@_spf.example.net"
	partly := copied("nobody answers for an include that may pass the new network", asCopied+" include:_spf.lost.com", asCopied+" ip4:198.51.100.128/25", "")
	partly.com, partly.hosts, partly.unknown = perhaps.com, perhaps.hosts, perhaps.unknown
	otherwise := copied("a new network, which the record passes by another include", asCopied+" include:more.example.com", asCopied+" ip4:198.51.100.128/25", "")
	otherwise.add += quotedTXT("more", "v=spf1 ip4:198.51.100.0/24 -all")
	lost := copied("nobody answers for the include", asCopied, "", "")
	lost.com, lost.hosts = "lost NS ns.lost\nns.lost A 192.0.2.99\n", map[string]dnstest.Behaviour{"192.0.2.99": dnstest.Silent}
	lost.plan = strings.Replace(lost.plan, "_spf.example.net", "_spf.lost.com", 1)
	lost.unknown = "spf.flatten-stale@third-party@_spf.lost.com"
	lostBelow := copied("nobody answers for what it includes", asCopied, "ip4:203.0.113.0/24 include:_spf.lost.com", "")
	lostBelow.com, lostBelow.hosts = lost.com, lost.hosts
	lostBelow.unknown = "spf.flatten-stale@third-party@_spf.example.net"
	fails := copied("our own resolver fails at it", asCopied, asCopied, "")
	fails.forwarded, fails.refuses, fails.unknown = true, "_spf.example.net", "spf.flatten-stale@third-party@_spf.example.net"
	ownTrouble := copied("the zone's servers fail at the copies", "include:_flat.example.com", asCopied, "")
	ownTrouble.add, ownTrouble.turn, ownTrouble.unknown, ownTrouble.anyMore = below.add, failing(dns.TypeTXT, "_flat.example.com"), "spf.flatten-stale@zone-ns@example.com", true
	broken := copied("its policy has a mistake, and so nobody can use it", asCopied, "ip4:203.0.113.300", "")
	broken.unknown = "spf.flatten-stale@third-party@_spf.example.net"
	half := copied("a family of a host of the include is not heard", asCopied, "a:c.example.com//48 ip4:203.0.113.0/24", "")
	half.add += "c A 203.0.113.9\nc AAAA 2001:db8:5::9\n"
	half.turn, half.unknown = failing(dns.TypeAAAA, "c.example.com"), "spf.flatten-stale@zone-ns@_spf.example.net"
	huge := copied("unknown: the include is too large to be looked at as a whole", asCopied, "include:big.example.com", "")
	huge.add += quotedTXT("big", "v=spf1"+strings.Repeat(" ip4:203.0.113.1", 2001)+" -all")
	large := copied("unknown: a record that is too large to be looked at as a whole may pass the new network", asCopied+" include:big.example.com include:more.example.com", asCopied+" ip4:198.51.100.128/25", "")
	large.add += quotedTXT("big", "v=spf1"+strings.Repeat(" ip4:203.0.113.1", 2000)+" -all") + quotedTXT("more", "v=spf1 ip4:198.51.100.0/24 -all")
	broken2 := copied("unknown: the record has a term for each client, which may pass the new ones", asCopied+" exists:%{i}.l.example.com", asCopied+" ip4:198.51.100.0/24", "")

	hostOnly := accounts("an MX host's own record names another account", mismatch, at("@", "issue", ours), at("mx1", "issue", other))
	hostOnly.blamed = "caa.account-mismatch@zone@mx1.example.com"
	servfail := accounts("nobody can ask for the records", "caa.servfail")
	servfail.turn, servfail.anyMore, servfail.unknown = failing(dns.TypeCAA, "example.com"), true, mismatch+"@zone-ns@example.com"
	above := accounts("records of the zone above hold", mismatch, at("@", "issue", other))
	above.domain, above.anyMore, above.plan = "sub.example.com", true, strings.Replace(accountPlan, `name = "example.com"`, `name = "sub.example.com"`, 1)
	above.add += "sub MX 10 mx1\nsub MX 20 mx2\n"
	above.blamed = "caa.account-mismatch@zone@sub.example.com"

	return []animal{
		copied("the copies are those of today", asCopied, asCopied, ""),
		copied("halves are the whole", "ip4:203.0.113.0/25 ip4:203.0.113.128/25 ip6:2001:db8:5::/48", "ip4:203.0.113.0/24 ip6:2001:db8:5::/49 ip6:2001:db8:5:8000::/49", ""),
		copied("the record names a network that the include has left", asCopied, "ip4:203.0.113.0/24", stale),
		copied("half of one", asCopied, "ip4:203.0.113.0/25 ip6:2001:db8:5::/48", stale),
		copied("the include has a new network", asCopied, asCopied+" ip4:198.51.100.0/24", stale),
		copied("a new one that the record has, and the plan has not yet", asCopied+" ip4:198.51.100.0/24", asCopied+" ip4:198.51.100.0/24", ""),
		copied("the plan was renewed and the record was not", "ip4:203.0.113.0/24", asCopied, stale),
		copied("the record was renewed and the plan was not", "ip4:203.0.113.0/24", "ip4:203.0.113.0/24", ""),
		copied("the record names none of them, nor what the include has now", "ip4:198.51.100.7", "ip4:203.0.113.0/24", stale),
		copied("the plan was renewed, to other networks all of them, and the record was not", "ip4:198.51.100.0/24", asCopied, stale),
		copied("the record has the include again", "include:_spf.example.net", "ip4:198.51.100.0/24", ""),
		copied("what the record refuses is no copy", "-ip4:203.0.113.0/24 -ip6:2001:db8:5::/48", "ip4:203.0.113.0/25", stale),
		copied("nor is it where the include has left it", "-ip4:203.0.113.0/24 -ip6:2001:db8:5::/48 ip4:198.51.100.0/24", "ip4:198.51.100.0/24", ""),
		copied("what the record refuses first is no copy", "-ip4:203.0.113.0/25 "+asCopied, "ip4:203.0.113.128/25 ip6:2001:db8:5::/48", ""),
		copied("the include has no policy any more", asCopied, "", stale),
		copied("the include refuses a part itself", asCopied, "-ip4:203.0.113.0/25 "+asCopied, stale),
		copied("terms that are no networks, beside the same networks", asCopied, "exists:%{i}.l.example.net "+asCopied, ""),
		copied("unknown: terms that are no networks may pass the rest", asCopied, "exists:%{i}.l.example.net ip4:203.0.113.0/24", ""),
		copied("a new network, beside such a term", asCopied, "exists:%{i}.l.example.net "+asCopied+" ip4:198.51.100.0/24", stale),
		copied("unknown: a term for each client may refuse the new ones", asCopied, "-exists:%{i}.l.example.net "+asCopied+" ip4:198.51.100.0/24", ""),
		below, belowStale, hosts, moved, elsewhere, renamed, noneBelow, perhaps, partly, otherwise, lost, lostBelow, fails, ownTrouble, broken, broken2, half, huge, large,

		accounts("the records name the plan's account", "", at("@", "issue", ours)),
		accounts("another account", mismatch, at("@", "issue", other)),
		accounts("another spelling of the authority, and of the parameter", "", at("@", "issue", "CA.example.NET.; validationmethods=dns-01; AccountURI=https://ca.example.net/acct/1234")),
		accounts("octets are compared", mismatch, at("@", "issue", strings.Replace(ours, "acct", "ACCT", 1))),
		accounts("one of two records names it", "", at("@", "issue", other), at("@", "issue", ours)),
		accounts("one of two records names nobody", "", at("@", "issue", other), at("@", "issue", "ca.example.net")),
		accounts("two accounts in one record are nobody", mismatch, at("@", "issue", ours+"; accounturi=https://ca.example.net/acct/9")),
		accounts("any account may", "", at("@", "issue", "ca.example.net")),
		accounts("no record is about the authority", "", at("@", "issue", "ca.example.com; accounturi=https://ca.example.com/acct/9")),
		accounts("any of the accounts at an authority will do", "", at("@", "issue", "ca.example.org; accounturi=https://ca.example.org/acct/2"), at("@", "issue", ours)),
		accounts("an account of another authority", mismatch, at("@", "issue", ours), at("@", "issue", "ca.example.org; accounturi=https://ca.example.net/acct/1234")),
		accounts("the wildcard's record names another account", mismatch, at("@", "issue", ours), at("@", "issuewild", other)),
		accounts("the wildcard's record names the account, and the other one does not", mismatch, at("@", "issue", other), at("@", "issuewild", ours)),
		accounts("no wildcards at all", "", at("@", "issue", ours), at("@", "issuewild", ";")),
		accounts("an account for certificates of mail's names", "", at("@", "issue", ours), at("@", "issuemail", other)),
		accounts("a value with a mistake is another row's", "caa.syntax", at("@", "issue", ours+"; x y=1")),
		hostOnly, servfail, above,
	}
}

// TestCopiesSaid: a finding names the networks on both sides, and what it could not judge.
func TestCopiesSaid(t *testing.T) {
	both := copied("", asCopied, "exists:%{i}.l.example.net ip4:203.0.113.0/25 ip4:198.51.100.128/25", "")
	for _, tt := range []struct {
		why  string
		a    animal
		says []string
	}{
		{"both sides", copied("", asCopied, "ip4:203.0.113.0/25 ip4:198.51.100.128/25 ip6:2001:db8:5::/48", ""), []string{"it has left 203.0.113.128/25, which the record names", "it names 198.51.100.128/25, which the record does not pass"}},
		{"what is sure beside what is not", both, []string{"it names 198.51.100.128/25", "exists:%{i}.l.example.net"}},
		{"very many", copied("", asCopied, "-ip4:203.0.113.0 "+asCopied+" ip4:198.51.100.1 ip4:198.51.100.3 ip4:198.51.100.5 ip4:198.51.100.7 ip4:198.51.100.9 ip4:198.51.100.11 ip4:198.51.100.13 ip4:198.51.100.15 ip4:198.51.100.17 ip4:198.51.100.19 ip4:198.51.100.21 ip4:198.51.100.23", ""), []string{"and 2 more"}},
		{"no policy", copied("", asCopied, "", ""), []string{"it has no SPF policy", "203.0.113.0/24, 2001:db8:5::/48"}},
	} {
		_, findings := tt.a.audit(t)
		i := slices.IndexFunc(findings, func(f Finding) bool { return f.ID == "spf.flatten-stale" })
		for _, want := range tt.says {
			if f := findings[i]; f.Status != Fail || !strings.Contains(f.Detail, want) {
				t.Errorf("%s: %s: %q; want %q", tt.why, f.Status, f.Detail, want)
			}
		}
		if len(findings[i].Evidence) < 2 {
			t.Errorf("%s: the evidence is %v", tt.why, findings[i].Evidence)
		}
	}
}

// TestCopiesNotAsked: facts that nobody gathered accuse nobody.
func TestCopiesNotAsked(t *testing.T) {
	facts, _ := copied("", asCopied, "", "").audit(t)
	facts.Plan.Passed, facts.Plan.Copies[0].Now = spf.Networks{}, spf.Networks{}
	for _, f := range Judge(facts, Checks()) {
		if f.ID == "spf.flatten-stale" && f.Status != Skipped {
			t.Errorf("%s: %s", f.Status, f.Detail)
		}
	}
}

// TestCopiesWithoutPlan: nobody is told anything without one.
func TestCopiesWithoutPlan(t *testing.T) {
	_, findings := animal{}.audit(t)
	for _, f := range findings {
		if (f.ID == "spf.flatten-stale" || f.ID == "caa.account-mismatch") && f.Status != Skipped {
			t.Errorf("%s: %s", f.ID, f.Status)
		}
	}
}

// FuzzReadIssue: whatever stands in a CAA record, who is read out of it can be written into one.
func FuzzReadIssue(f *testing.F) {
	for _, seed := range []string{"", ";", "ca.example.net", "ca.example.net; accounturi=https://ca.example.net/acct/1", "a.b;accounturi=x; AccountURI = y;=", "ca.example.net; accounturi"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		issuer, accounts := readIssue(value)
		for _, a := range accounts {
			if strings.Contains(a, ";") {
				t.Errorf("%q of %q", a, issuer)
			}
		}
	})
}
