package audit

import (
	"mxward/internal/dns"
	"mxward/internal/dns/blocklist"
)

// The zoo's lists.
func zooLists() []blocklist.List {
	return []blocklist.List{
		{
			Name: "Major", Zone: dns.MustName("major.example.net"), Kind: blocklist.Addresses, Weight: blocklist.Major, IPv6: true,
			Codes: []blocklist.Code{{Answer: "127.0.0.2", Class: blocklist.Listed, Meaning: "spam"}, {Answer: "127.0.0.10", Class: blocklist.Policy, Meaning: "dial-up"}},
		},
		plainList("one"), plainList("two"),
		{
			Name: "Minor", Zone: dns.MustName("minor.example.net"), Kind: blocklist.Addresses, Weight: blocklist.Minor,
			Codes: []blocklist.Code{{Answer: "127.0.0.2", Class: blocklist.Listed, Meaning: "trapped"}},
		},
		{
			Name: "Domains", Zone: dns.MustName("domains.example.net"), Kind: blocklist.Domains, Weight: blocklist.Major,
			Codes: []blocklist.Code{{Answer: "127.0.1.2", Class: blocklist.Listed, Meaning: "spam"}, {Answer: "127.0.1.3", Class: blocklist.Mixed, Meaning: "watched"}},
		},
		{
			Name: "Good", Zone: dns.MustName("good.example.net"), Kind: blocklist.Allowed,
			Codes: []blocklist.Code{{Answer: "127.0.x.2", Class: blocklist.Allow, Meaning: "trust medium"}},
		},
	}
}

func plainList(name string) blocklist.List {
	return blocklist.Plain(dns.MustName(name + ".example.net"))
}

const six = ".0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0"

// listsAlive are the lists' test entries (RFC 5782 §5).
const listsAlive = `
2.0.0.127.major.example A 127.0.0.2
2` + six + `.major.example A 127.0.0.2
2.0.0.127.one.example A 127.0.0.2
2.0.0.127.two.example A 127.0.0.2
2.0.0.127.minor.example A 127.0.0.2
test.domains.example A 127.0.1.2
2.0.0.127.good.example A 127.0.5.2
`

func listZoo() []animal {
	const mx1, mx2 = "25.2.0.192.", "25.100.51.198."
	on := func(why, lines, fails string) animal {
		return animal{why: why, lists: zooLists(), net: listsAlive + lines, fails: fails}
	}
	blamed := func(a animal, blamed string) animal { a.blamed = blamed; return a }
	only := func(why, lines, unknown string) animal {
		return animal{why: why, lists: []blocklist.List{plainList("one")}, net: lines, unknown: unknown}
	}
	behind := func(a animal) animal { a.forwarded = true; return a }
	const at = ".one.example "
	refuses := only("a list that sees a public resolver", "2.0.0.127"+at+"A 127.255.255.254\n1.0.0.127"+at+"A 127.255.255.254\n"+mx1+"one.example A 127.255.255.254\n", "dnsbl.listed-ip@local-resolver")
	refuses.fails = "dnsbl.list-unusable"
	network := refuses
	network.why, network.unknown = "a list that does not answer this network", "dnsbl.listed-ip@local-network"
	return []animal{
		on("on no list", "", ""),
		on("on an allow list", mx1+"good.example A 127.0.5.2\n", ""),
		blamed(on("one address on a list", mx1+"one.example A 127.0.0.3\n"+mx1+"one.example TXT \"https://bl.example.net/why\"\n", "dnsbl.listed-ip"), "dnsbl.listed-ip@mx-host@192.0.2.25"),
		blamed(on("an IPv6 address on a list", "5.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.major.example A 127.0.0.2\n", "dnsbl.listed-ip"), "dnsbl.listed-ip@mx-host@2001:db8::25"),
		blamed(on("a dial-up range", mx2+"major.example A 127.0.0.10\n", "dnsbl.listed-policy"), "dnsbl.listed-policy@mx-host@198.51.100.25"),
		on("the domain on a list", "example.com.domains.example A 127.0.1.2\n", "dnsbl.listed-domain"),
		on("a domain that is watched", "example.com.domains.example A 127.0.1.3\n", "dnsbl.listed-domain"),
		behind(refuses), network,
		only("a list that is gone", "ns.example A 192.0.2.3\n", "dnsbl.list-unusable@third-party dnsbl.listed-ip@third-party"),
		only("a list that lists everything", "*"+at+"A 127.0.0.2\n", "dnsbl.list-unusable@third-party dnsbl.listed-ip@third-party"),
		only("a list whose name is for sale", "*"+at+"A 192.0.2.99\n", "dnsbl.list-unusable@third-party"),
		only("a code that is not in the table", "2.0.0.127"+at+"A 127.0.0.2\n"+mx1+"one.example A 127.0.3.3\n", "dnsbl.list-unusable@third-party"),
		behind(only("a list that is not seen through another resolver", "ns.example A 192.0.2.3\n", "dnsbl.list-unusable@unknown")),
	}
}
