package blocklist

import (
	"slices"

	"mxward/internal/dns"
)

// Known gives the lists whose codes are known here. docs/checks.md shows them.
func Known() []List {
	return []List{
		{
			Name: "Spamhaus ZEN", Zone: dns.MustName("zen.spamhaus.org"), Kind: Addresses, Weight: Major, IPv6: true,
			Codes: []Code{
				{"127.0.0.2", Listed, "SBL: it sends spam, or serves those who do"},
				{"127.0.0.3", Listed, "CSS: it sends mail of low reputation, seen by machines"},
				{"127.0.0.4", Listed, "XBL: a machine that others control, or an open proxy"},
				{"127.0.0.5", Listed, "XBL, as 127.0.0.4; not in use now"},
				{"127.0.0.6", Listed, "XBL, as 127.0.0.4; not in use now"},
				{"127.0.0.7", Listed, "XBL, as 127.0.0.4; not in use now"},
				{"127.0.0.9", Listed, "DROP: the whole network is a criminal's; beside 127.0.0.2"},
				{"127.0.0.10", Policy, "PBL: its provider says that no mail server is there, a dial-up range say"},
				{"127.0.0.11", Policy, "PBL: Spamhaus takes it for a range without mail servers"},
				{"127.0.0.30", Listed, "BCL: a controller of a botnet"},
			},
			Source: "https://docs.spamhaus.com/datasets/docs/source/10-data-type-documentation/datasets/040-zones.html", Removal: "https://check.spamhaus.org/",
		},
		{
			Name: "SpamCop", Zone: dns.MustName("bl.spamcop.net"), Kind: Addresses, Weight: Ordinary,
			Codes:  []Code{{"127.0.0.2", Listed, "people have reported mail from it; it goes by itself when the reports end"}},
			Source: "https://www.spamcop.net/bl.shtml", Removal: "https://www.spamcop.net/bl.shtml",
		},
		{
			Name: "Barracuda BRBL", Zone: dns.MustName("b.barracudacentral.org"), Kind: Addresses, Weight: Major, Registration: true,
			Codes:  []Code{{"127.0.0.2", Listed, "it has sent spam or viruses to Barracuda's customers or traps"}},
			Source: "https://www.barracudacentral.org/rbl/how-to-use", Removal: "https://www.barracudacentral.org/rbl/removal-request",
		},
		{
			Name: "PSBL", Zone: dns.MustName("psbl.surriel.com"), Kind: Addresses, Weight: Ordinary,
			Codes:  []Code{{"127.0.0.2", Listed, "it has sent mail to a trap; anybody can take it off"}},
			Source: "https://psbl.org/howto/", Removal: "https://psbl.org/remove/",
		},
		{
			Name: "Mailspike", Zone: dns.MustName("bl.mailspike.net"), Kind: Addresses, Weight: Ordinary,
			Codes: []Code{
				{"127.0.0.2", Listed, "it is part of a wave of spam now"},
				{"127.0.0.10", Listed, "worst reputation"},
				{"127.0.0.11", Listed, "very bad reputation"},
				{"127.0.0.12", Listed, "bad reputation"},
			},
			Source: "https://mailspike.io/", Removal: "https://mailspike.io/",
		},
		{
			Name: "UCEPROTECT level 1", Zone: dns.MustName("dnsbl-1.uceprotect.net"), Kind: Addresses, Weight: Minor,
			Codes:  []Code{{"127.0.0.2", Listed, "it has sent mail to a trap; it goes by itself after seven days"}},
			Source: "https://www.uceprotect.net/en/index.php?m=3&s=3", Removal: "https://www.uceprotect.net/en/rblcheck.php",
		},
		{
			Name: "Spamhaus DBL", Zone: dns.MustName("dbl.spamhaus.org"), Kind: Domains, Weight: Major, Hosts: true, Test: "dbltest.com",
			Codes: []Code{
				{"127.0.1.2", Listed, "a domain of low reputation: it is in spam"},
				{"127.0.1.4", Listed, "phishing"},
				{"127.0.1.5", Listed, "malware"},
				{"127.0.1.6", Listed, "a controller of a botnet"},
				{"127.0.1.102", Listed, "an honest domain that spammers abuse"},
				{"127.0.1.103", Listed, "an honest redirector that spammers abuse"},
				{"127.0.1.104", Listed, "an honest domain that is abused for phishing"},
				{"127.0.1.105", Listed, "an honest domain that is abused for malware"},
				{"127.0.1.106", Listed, "an honest domain that is abused to control a botnet"},
				{"127.0.1.255", Refused, "it was asked for an address, and has domains only"},
			},
			Source: "https://docs.spamhaus.com/datasets/docs/source/10-data-type-documentation/datasets/040-zones.html", Removal: "https://check.spamhaus.org/",
		},
		{
			Name: "SURBL", Zone: dns.MustName("multi.surbl.org"), Kind: Domains, Weight: Ordinary, Bits: true, Test: "2.0.0.127", Never: "1.0.0.127",
			Codes: []Code{
				{"127.0.0.1", Refused, "it does not serve whoever asks: a public resolver, or too many questions"},
				{"127.0.0.8", Listed, "PH: phishing"},
				{"127.0.0.16", Listed, "MW: malware"},
				{"127.0.0.64", Listed, "ABUSE: it is in spam"},
				{"127.0.0.128", Listed, "CR: a site that was broken into"},
			},
			Source: "https://surbl.org/lists", Removal: "https://surbl.org/surbl-analysis",
		},
		{
			Name: "URIBL", Zone: dns.MustName("multi.uribl.com"), Kind: Domains, Weight: Ordinary, Bits: true, Test: "2.0.0.127", Never: "1.0.0.127",
			Codes: []Code{
				{"127.0.0.1", Refused, "it does not serve whoever asks: a public resolver, or too many questions"},
				{"127.0.0.2", Listed, "black: it is in spam"},
				{"127.0.0.4", Mixed, "grey: it is in mail in bulk, which some have asked for"},
				{"127.0.0.8", Mixed, "red: it is new or hides its owner, and is only watched"},
			},
			Source: "https://uribl.com/usage.shtml", Removal: "https://lookup.uribl.com/",
		},
		{
			Name: "DNSWL", Zone: dns.MustName("list.dnswl.org"), Kind: Allowed, Weight: Minor, IPv6: true,
			Codes: []Code{
				{"127.0.0.255", Refused, "it does not serve whoever asks: a public resolver, or too many questions"},
				{"127.0.x.0", Allow, "known, trust none: do not refuse it for its address alone"},
				{"127.0.x.1", Allow, "known, trust low"},
				{"127.0.x.2", Allow, "known, trust medium"},
				{"127.0.x.3", Allow, "known, trust high"},
			},
			Source: "https://www.dnswl.org/?page_id=15", Removal: "https://www.dnswl.org/",
		},
	}
}

// Open gives those that answer everybody who asks a little.
func Open() []List {
	return slices.DeleteFunc(Known(), func(l List) bool { return l.Registration })
}

// ByZone gives the known list with this zone, or a plain one.
func ByZone(zone dns.Name) List {
	all := Known()
	if i := slices.IndexFunc(all, func(l List) bool { return l.Zone == zone }); i >= 0 {
		return all[i]
	}
	return Plain(zone)
}
