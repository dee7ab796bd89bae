package audit

import (
	"strings"

	"mxward/internal/dns"
)

// peersZoo are the faults that other checkers of zones look for and that no case of ours brings up.
func peersZoo() []animal {
	soa := func(why, text, fails string) animal {
		return animal{why: why, drop: []string{"@ SOA"}, add: "@ SOA " + text + "\n", fails: fails}
	}
	return []animal{
		{why: "two servers' names and one address", delegation: strings.Replace(zooDelegation, "198.51.100.53", "192.0.2.53", 1), drop: []string{"ns2 A"}, add: "ns2 A 192.0.2.53\n", fails: "deleg.single-ns"},
		{why: "two servers' names and the same address of each family", six: true, delegation: strings.Replace(zooDelegation, "198.51.100.53", "192.0.2.53", 1) + "ns1.example AAAA 2001:db8::53\nns2.example AAAA 2001:db8::53\n", drop: []string{"ns2 A"}, add: "ns2 A 192.0.2.53\nns1 AAAA 2001:db8::53\nns2 AAAA 2001:db8::53\n", fails: "deleg.single-ns"},
		{why: "servers with different NS records", delegation: zooDelegation + "example NS ns3.example\nns3.example A 198.51.100.54\n", add: "ns3 A 198.51.100.54\n", alsoAt: "198.51.100.54", second: "@ NS ns3\n", fails: "deleg.ns-inconsistent"},
		{why: "a server's name that is no host name", delegation: zooDelegation + "example NS ns_3.example\nns_3.example A 198.51.100.54\n", add: "@ NS ns_3\nns_3 A 198.51.100.54\n", alsoAt: "198.51.100.54"},
		{why: "a server's name in the zone that is an alias of one elsewhere", delegation: zooDelegation + "example NS ns3.example\nns3.example A 198.51.100.54\n", add: "@ NS ns3\nns3 CNAME ns3.example.net.\n", net: "ns3.example A 198.51.100.54\n", alsoAt: "198.51.100.54", fails: "deleg.ns-cname"},
		{why: "servers without authority, as caches have none", turn: func(_ dns.Question, a *dns.Answer) { a.Authoritative = false }, fails: "deleg.lame", anyMore: true},
		{why: "more MX records than fit into a datagram, behind another resolver", forwarded: true, drop: []string{"@ MX"}, add: fiftyMX() + strings.ReplaceAll(fiftyMX(), "many", "evenmore"), anyMore: true, fails: "mx.too-many", passes: "resolver.disagrees mx.inconsistent"},
		soa("a SOA whose primary is not there", "gone hostmaster 1 14400 3600 604800 3600", ""),
		soa("a SOA whose primary is an alias", "primary hostmaster 1 14400 3600 604800 3600\nprimary CNAME ns1", ""),
		soa("a zone that secondaries give up before they look again", "ns1 hostmaster 1 691200 3600 604800 3600", "soa.timers"),
		soa("a mailbox at a domain that is not there", "ns1 hostmaster.gone.example.net. 1 14400 3600 604800 3600", ""),
		{why: "different SOA records with one serial number", secondDrop: "@ SOA", second: "@ SOA ns2 postmaster 1 28800 7200 1209600 3600\n", fails: "deleg.serial-drift"},
	}
}
