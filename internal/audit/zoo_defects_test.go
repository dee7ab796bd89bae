package audit

import (
	"strings"
	"testing"

	"mxward/internal/dns"
)

// defectsZoo is what other auditors are known to judge wrongly, and no other part of the zoo has.
func defectsZoo() []animal {
	below := dmarcIs("a name below two records: the walk goes on behind the first", "v=DMARC1; p=reject; rua=mailto:d@example.com", "bimi.missing tlsrpt.missing"+noPrograms)
	below.domain = "a.b.example.com"
	below.add += "_dmarc.b TXT \"v=DMARC1; p=none; rua=mailto:d@example.com\"\na.b MX 10 mx1\na.b TXT \"v=spf1 mx -all\"\n"
	short := mx("the servers fail at the IPv6 addresses of the MX host: that there are none is not known", "@ MX 10 mx1\n", "", "")
	short.turn, short.unknown = failing(dns.TypeAAAA, "mx1.example.com"), "mx.no-ipv6@zone-ns"
	four := spfIs("names with IPv4 alone are no void look-ups", "v=spf1 a:x.example.net a:y.example.net a:z.example.net -all", "")
	four.net = "x.example A 192.0.2.25\ny.example A 192.0.2.25\nz.example A 192.0.2.25\n"
	eleven := spfIs("a: is a look-up", "v=spf1"+strings.Repeat(" a:x.example.net/28 a:x.example.net/27 a:x.example.net/26 a:x.example.net/25", 3)+" -all", "spf.lookups-exceeded spf.duplicate-term")
	eleven.net = "x.example A 192.0.2.25\n"
	words := spfIs("mechanisms are words, and not parts of names", "v=spf1 include:ptr.all.example.net -all", "")
	words.net = "ptr.all.example TXT \"v=spf1 ip4:192.0.2.25 ~all\"\n"
	alias := keyIs("a key behind an alias of a provider's", "key._domainkey CNAME key.example.net.\n", "dkim.ed25519-only")
	alias.net = "key.example TXT \"v=DKIM1; k=ed25519; p=gJqa580Xk5Zevw/xdKKftoCJ8VIhv2xckvLH7XmqGiY=\"\n"
	return []animal{
		below, short, four, eleven, words, alias,
		spfIs("an include that depends on the client", "v=spf1 include:%{i}._spf.example.net -all", ""),
		spfIs("a policy in two strings, which are joined as they are", "v=spf1 mx\" \" -all", ""),
		spfIs("a space before the version", " v=spf1 mx -all", "spf.missing spf.syntax"),
		{why: "a text that is no text", add: "@ TXT \"\\255\\254\\000\"\n"},
		{why: "a policy that is an alias of itself", drop: []string{"_dmarc"}, add: "_dmarc CNAME loop\nloop CNAME _dmarc\n", anyMore: true, gone: usual},
	}
}

// TestKnownDefects: each defect that is known of other auditors has its case in the zoo.
func TestKnownDefects(t *testing.T) {
	known := map[string]int{}
	for _, a := range zoo() {
		known[a.why]++
	}
	for _, tt := range []struct{ defect, why string }{
		// Two records at a parent's _dmarc: they are discarded and the walk goes on; one peer
		// ends with an error.
		{"two records at a parent's _dmarc", "two records at the parent"},
		// One peer's walk ends at the first parent with a record, which need not be the one that
		// counts.
		{"the walk ends too early", "a name below two records: the walk goes on behind the first"},
		// SERVFAIL for one type is taken for "there is none" by several.
		{"SERVFAIL for one type: TXT", "the servers fail for one type: nothing is missing"},
		{"SERVFAIL for one type: MX", "the servers fail for MX"},
		{"SERVFAIL for one type: AAAA", "the servers fail at the IPv6 addresses of the MX host: that there are none is not known"},
		{"SERVFAIL for one type: CAA", "the servers fail at CAA"},
		{"SERVFAIL for one type: DMARC's TXT", "the servers fail at _dmarc"},
		// exp= is not counted (RFC 7208 §4.6.4); one counts it.
		{"exp= is counted", "ten look-ups and an explanation, which is not counted"},
		// a: with a domain is counted; one does not.
		{"a: is not counted", "a: is a look-up"},
		// A void look-up is a term that finds nothing, not each of its two questions.
		{"A and AAAA are counted apart", "names with IPv4 alone are no void look-ups"},
		// The prefix length behind a: is part of the term; one loses it.
		{"the length behind a: is lost", "a: is a look-up"},
		// Terms are found by looking for their letters.
		{"SPF is read by looking for letters", "mechanisms are words, and not parts of names"},
		// The version is a word: v=spf10 is another.
		{"v=spf10 is a policy", "v=spf10 is no policy"},
		{"a space before the version is passed over", "a space before the version"},
		// Macros in an include are one look-up, and no mistake.
		{"macros are mistakes", "an include that depends on the client"},
		// Strings of one record are joined without a space (RFC 7208 §3.3).
		{"strings are joined with a space", "a policy in two strings, which are joined as they are"},
		// The end of a tree with a loop.
		{"a loop never ends", "a loop"},
		// Redirects of MTA-STS policies must not be followed (RFC 8461 §3.3); two do.
		{"redirects of policies are followed", "a redirect"},
		// A policy has at most 64 KB; two read whatever comes.
		{"a policy of 10 MB is read", "a policy of 10 MB"},
		// That _domainkey exists, or does not, says nothing of a selector.
		{"DKIM is missing without a selector", "no selector: nothing is missing"},
		{"an alias of a selector is not followed", "a key behind an alias of a provider's"},
		{"several records at a selector are fine", "two records"},
		// A zone with keys and without a DS record is not signed for anybody.
		{"keys alone are a chain", "keys without a DS record"},
		// Whoever asks through a resolver that takes signatures away calls the zone unsigned.
		{"the resolver's fault is the zone's: DNSSEC", "a resolver behind which nothing is signed"},
		{"the resolver's fault is the zone's: names", "a domain that the world knows and the resolver denies"},
		// A dead delegation is an answer, and no exception.
		{"all servers are silent", "all servers silent"},
		{"octets that are no text end the program", "a text that is no text"},
		{"aliases in a ring end the program", "a policy that is an alias of itself"},
	} {
		if known[tt.why] == 0 {
			t.Errorf("%s: the zoo has no case %q", tt.defect, tt.why)
		}
	}
}
