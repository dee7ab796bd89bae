package audit

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// message is one of Zonemaster's, in our words: the ids that mean the same fault, any of them,
// or why no id of ours does.
type message struct {
	tag, level string
	ids        string
	why        string
}

// messages are all that the zoo brings up. What stands in every zone of the zoo is marked by a
// reason that begins with "everywhere".
var messages = []message{
	// Basic
	{"NO_GLUE_PREVENTS_NAMESERVER_TESTS", "critical", "deleg.nxdomain deleg.no-ns", ""}, // all that it says of a domain that is not there, or dead
	{"CANNOT_CONTINUE", "critical", "deleg.nxdomain deleg.no-ns", ""},                   // goes along with it
	{"NS_FAILED", "error", "deleg.lame", ""},                                            // an error code to a question for NS
	// Address
	{"NAMESERVER_IP_PRIVATE_NETWORK", "error", "deleg.ns-private-address", ""},
	{"NAMESERVER_IP_WITHOUT_REVERSE", "warning", "", "everywhere: a name server needs no PTR record, only a host that sends mail does (`ptr.missing`)"},
	{"NO_RESPONSE_PTR_QUERY", "warning", "ptr.temperror", ""}, // of a name server that has an MX host's address too
	// Connectivity
	{"CN01_NO_RESPONSE_UDP", "warning", "deleg.no-udp", ""},
	{"CN01_MISSING_SOA_RECORD_UDP", "warning", "soa.missing", ""},
	{"CN01_NS_RECORD_NOT_AA_UDP", "warning", "deleg.lame", ""},
	{"CN01_SOA_RECORD_NOT_AA_UDP", "warning", "deleg.lame", ""},
	{"CN01_UNEXPECTED_RCODE_NS_QUERY_UDP", "warning", "deleg.lame", ""},
	{"CN01_UNEXPECTED_RCODE_SOA_QUERY_UDP", "warning", "deleg.lame", ""},
	{"CN02_NO_RESPONSE_TCP", "warning", "deleg.no-tcp deleg.no-udp", ""}, // a server that is silent altogether is one fault
	{"CN02_MISSING_SOA_RECORD_TCP", "warning", "soa.missing", ""},
	{"CN02_NS_RECORD_NOT_AA_TCP", "warning", "deleg.lame", ""},
	{"CN02_SOA_RECORD_NOT_AA_TCP", "warning", "deleg.lame", ""},
	{"CN02_UNEXPECTED_RCODE_NS_QUERY_TCP", "warning", "deleg.lame", ""},
	{"CN02_UNEXPECTED_RCODE_SOA_QUERY_TCP", "warning", "deleg.lame", ""},
	// Consistency
	{"CHILD_ZONE_LAME", "error", "deleg.no-ns", ""}, // no server has the zone
	{"IN_BAILIWICK_ADDR_MISMATCH", "error", "deleg.glue-mismatch", ""},
	{"EXTRA_ADDRESS_CHILD", "notice", "deleg.glue-missing deleg.glue-mismatch deleg.ns-mismatch-child-extra", ""}, // an address that the zone has and the parent has not
	{"MULTIPLE_NS_SET", "notice", "deleg.ns-inconsistent", ""},
	{"MULTIPLE_SOA_SERIALS", "warning", "deleg.serial-drift", ""},
	{"SOA_SERIAL_VARIATION", "notice", "deleg.serial-drift", ""},
	{"MULTIPLE_SOA_MNAMES", "notice", "deleg.serial-drift", ""}, // the serial is the same, the record is not
	{"MULTIPLE_SOA_RNAMES", "notice", "deleg.serial-drift", ""},
	{"MULTIPLE_SOA_TIME_PARAMETER_SET", "notice", "deleg.serial-drift", ""},
	// DNSSEC
	{"NEITHER_DNSKEY_NOR_DS", "notice", "dnssec.insecure", ""},
	{"NOT_SIGNED", "notice", "dnssec.insecure", ""},
	{"DNSKEY_BUT_NOT_DS", "warning", "dnssec.key-without-ds", ""},
	{"DS01_DS_ALGO_DEPRECATED", "error", "dnssec.digest-sha1", ""}, // of the digest, by its name
	{"DS01_DS_ALGO_2_MISSING", "notice", "dnssec.digest-sha1", ""},
	{"DS02_NO_DNSKEY_FOR_DS", "warning", "dnssec.ds-without-key", ""},
	{"DS02_NO_VALID_DNSKEY_FOR_ANY_DS", "error", "dnssec.ds-without-key", ""},
	{"DS02_DNSKEY_NOT_SIGNED_BY_ANY_DS", "error", "dnssec.bogus", ""},
	{"DS02_NO_MATCHING_DNSKEY_RRSIG", "warning", "dnssec.bogus", ""},
	{"DS02_RRSIG_NOT_VALID_BY_DNSKEY", "error", "dnssec.bogus", ""},
	{"DS02_DNSKEY_NOT_SEP", "notice", "", "the zoo signs with one key, and the flag that a key is meant for the parent binds nobody (RFC 4034 §2.1.1)"},
	{"DS08_DNSKEY_RRSIG_EXPIRED", "error", "dnssec.rrsig-expired", ""},
	{"DS09_SOA_RRSIG_EXPIRED", "error", "dnssec.rrsig-expired", ""},
	{"RRSIG_EXPIRED", "error", "dnssec.rrsig-expired", ""},
	{"REMAINING_SHORT", "warning", "dnssec.rrsig-expiring", ""},
	{"DS10_NSEC_RRSIG_VERIFY_ERROR", "error", "dnssec.bogus", ""},
	{"ALGORITHM_NOT_RECOMMENDED", "warning", "dnssec.algo-deprecated", ""},
	{"DNSKEY_SMALLER_THAN_REC", "warning", "dnssec.key-size", ""},
	{"DNSKEY_TOO_SMALL_FOR_ALGO", "error", "dnssec.key-size", ""},
	{"DS08_MISSING_RRSIG_IN_RESPONSE", "error", "dnssec.bogus", ""},
	{"DS09_MISSING_RRSIG_IN_RESPONSE", "error", "dnssec.bogus", ""},
	{"DS10_MISSING_NSEC_NSEC3", "error", "dnssec.bogus", ""},
	{"EXTRA_PROCESSING_BROKEN", "error", "dnssec.bogus", ""}, // a question with DNSSEC gets no signatures
	// Delegation
	{"NOT_ENOUGH_NS_DEL", "error", "deleg.single-ns", ""},
	{"NOT_ENOUGH_NS_CHILD", "error", "deleg.single-ns", ""},
	{"NOT_ENOUGH_IPV4_NS_DEL", "error", "deleg.single-ns", ""},
	{"NOT_ENOUGH_IPV4_NS_CHILD", "error", "deleg.single-ns", ""},
	{"NOT_ENOUGH_IPV6_NS_DEL", "error", "", "one server with IPv6 is better than none: those with IPv4 stand in for it"},
	{"NOT_ENOUGH_IPV6_NS_CHILD", "error", "", "one server with IPv6 is better than none: those with IPv4 stand in for it"},
	{"NO_IPV6_NS_DEL", "notice", "", "everywhere: resolvers with IPv6 alone ask through others; for the hosts that take mail there is `mx.no-ipv6`"},
	{"NO_IPV6_NS_CHILD", "notice", "", "everywhere: resolvers with IPv6 alone ask through others; for the hosts that take mail there is `mx.no-ipv6`"},
	{"CHILD_NS_SAME_IP", "error", "deleg.single-ns", ""},
	{"DEL_NS_SAME_IP", "error", "deleg.single-ns", ""},
	{"SAME_IP_ADDRESS", "error", "deleg.single-ns", ""},
	{"EXTRA_NAME_PARENT", "error", "deleg.ns-mismatch-parent-extra", ""},
	{"EXTRA_NAME_CHILD", "notice", "deleg.ns-mismatch-child-extra", ""},
	{"NS_IS_CNAME", "error", "deleg.ns-cname", ""},
	{"IS_NOT_AUTHORITATIVE", "warning", "deleg.lame", ""},
	{"UNEXPECTED_RCODE", "warning", "deleg.lame deleg.ns-unresolvable", ""}, // to a question for SOA, or for the address of a name server
	{"REFERRAL_SIZE_TOO_LARGE", "warning", "deleg.referral-too-big", ""},
	{"SOA_NOT_EXISTS", "error", "soa.missing", ""},
	// Nameserver
	{"CAN_NOT_BE_RESOLVED", "error", "deleg.ns-unresolvable deleg.ns-cname", ""}, // it does not follow the alias
	{"A_UNEXPECTED_RCODE", "warning", "deleg.lame", ""},
	{"NS_ERROR", "warning", "deleg.lame soa.missing", ""},
	{"NO_EDNS_SUPPORT", "warning", "deleg.edns", ""},
	{"IS_A_RECURSOR", "error", "deleg.recursion-open", ""},
	// Syntax
	{"NAMESERVER_NON_ALLOWED_CHARS", "error", "", "resolvers ask a server whatever its name looks like, and mail is none the worse"},
	{"MX_NON_ALLOWED_CHARS", "warning", "mx.invalid-name", ""},
	{"MX_NUMERIC_TLD", "warning", "mx.ip-literal", ""},
	{"RNAME_RFC822_INVALID", "warning", "soa.rname", ""},
	{"RNAME_MISUSED_AT_SIGN", "warning", "soa.rname", ""},
	{"RNAME_MAIL_DOMAIN_INVALID", "notice", "mx.missing mx.null mx.null-mixed mx.ip-literal mx.cname mx.no-address mx.nxdomain", ""}, // nobody can write to the zone's keeper, who has a mailbox there
	// Zone
	{"MULTIPLE_SOA", "error", "soa.multiple", ""},
	{"Z01_MNAME_IS_DOT", "notice", "soa.mname", ""},
	{"MNAME_HAS_NO_ADDRESS", "warning", "soa.mname", ""},
	{"MNAME_IS_CNAME", "notice", "soa.mname", ""},
	{"Z01_MNAME_NOT_RESOLVE", "warning", "soa.mname", ""},
	{"Z01_MNAME_NOT_MASTER", "warning", "deleg.serial-drift", ""}, // another server is ahead of the primary
	{"REFRESH_MINIMUM_VALUE_LOWER", "notice", "soa.timers", ""},
	{"RETRY_MINIMUM_VALUE_LOWER", "notice", "soa.timers", ""},
	{"EXPIRE_MINIMUM_VALUE_LOWER", "warning", "soa.timers", ""},
	{"EXPIRE_LOWER_THAN_REFRESH", "warning", "soa.timers", ""},
	{"SOA_DEFAULT_TTL_MAXIMUM_VALUE_LOWER", "notice", "soa.timers", ""},
	{"Z09_MISSING_MAIL_TARGET", "notice", "mx.missing mx.implicit", ""},
	{"Z09_NULL_MX_WITH_OTHER_MX", "warning", "mx.null-mixed", ""},
	{"Z09_NULL_MX_NON_ZERO_PREF", "notice", "mx.null-nonzero-pref", ""},
	{"Z09_INCONSISTENT_MX_DATA", "warning", "mx.inconsistent", ""},
}

// ourOwn are the ids that Zonemaster has no test for, or none that can see this.
var ourOwn = map[string]string{
	"net.no-ipv6":              "Zonemaster does not look at its own host",
	"deleg.same-prefix":        "Zonemaster looks at autonomous systems alone, in a database that no private network has",
	"deleg.inconsistent-rrset": "Zonemaster compares SOA, NS and MX records, and no TXT records",
	"dnssec.insecure":          "Zonemaster says so of zones without keys alone",
	"mx.null-but-sends":        "Zonemaster does not look at SPF",
	"mx.private-address":       "Zonemaster asks for no address of an MX host",
	"mx.duplicate":             "Zonemaster compares no MX hosts",
	"mx.same-address":          "Zonemaster asks for no address of an MX host",
	"mx.no-ipv6":               "Zonemaster asks for no address of an MX host",
	"mx.too-many":              "Zonemaster does not look at SPF",
	"ptr.missing":              "Zonemaster asks for the names of name servers alone, not of MX hosts",
	"ptr.not-confirmed":        "Zonemaster asks for the names of name servers alone, not of MX hosts",
	"ptr.multiple":             "Zonemaster asks for the names of name servers alone, not of MX hosts",
	"ptr.generic":              "Zonemaster asks for the names of name servers alone, not of MX hosts",
	"ptr.zone-lame":            "Zonemaster asks for the names of name servers alone, not of MX hosts",
}

// apart is why the two differ about one zone: by its name, the ids and tags.
var apart = map[string]map[string]string{
	"servers with IPv6 that this host cannot reach": reason("Zonemaster holds its own host's want of IPv6 against the domain; to mxward it is unknown, and `net.no-ipv6`",
		"CN01_NO_RESPONSE_UDP", "CN02_NO_RESPONSE_TCP"),
	"servers with IPv6 that are silent, as all the world over IPv6 is": reason("nobody at all is heard over IPv6: Zonemaster holds it against the domain; to mxward it is unknown, and `net.no-ipv6`",
		"CN01_NO_RESPONSE_UDP", "CN02_NO_RESPONSE_TCP"),
	"all servers silent": reason("Zonemaster ends with that no server is there, and does not say of each what is wrong", "deleg.no-udp"),
	"a server that only the parent names": reason("that the zone names one server is one fault with that the parent names another one, which serves",
		"NOT_ENOUGH_NS_CHILD", "NOT_ENOUGH_IPV4_NS_CHILD"),
	"a server that only the zone names": reason("that the parent names one server is one fault with that the zone names another one, which serves",
		"NOT_ENOUGH_NS_DEL", "NOT_ENOUGH_IPV4_NS_DEL"),
	"a server's name without an address":                            reason("Zonemaster does not ask at the address that the parent alone has", "deleg.no-udp"),
	"glue that is wrong":                                            reason("Zonemaster does not ask at the address that the parent alone has", "deleg.no-udp"),
	"a server's name in the zone that is an alias of one elsewhere": reason("Zonemaster does not follow the alias; mxward does, and finds the address that the parent has", "IN_BAILIWICK_ADDR_MISMATCH"),
	"a server at a private address": reason("mxward asks nobody at private addresses: a domain's records shall not make it knock at this network's doors",
		"CN01_NO_RESPONSE_UDP", "CN02_NO_RESPONSE_TCP"),
	"the parent's servers are silent": reason("Zonemaster says that the domain has no servers; to mxward the parent is silent, and whether the domain is there is unknown",
		"CANNOT_CONTINUE", "NO_GLUE_PREVENTS_NAMESERVER_TESTS"),
	"the servers fail for MX":    reason("an MX record that could not be had is not missing: to mxward it is unknown", "RNAME_MAIL_DOMAIN_INVALID"),
	"a DS record of another key": reason("Zonemaster speaks of the keys, mxward also of what comes of it: validation fails", "dnssec.bogus"),
	"an algorithm of the past": reason("there is a key and no signature, and no DS record, so that nobody looks for one",
		"DS08_MISSING_RRSIG_IN_RESPONSE", "DS09_MISSING_RRSIG_IN_RESPONSE", "DS10_MISSING_NSEC_NSEC3", "EXTRA_PROCESSING_BROKEN"),
	"a SOA whose primary is not there": reason("a primary may be hidden: nobody but those who send updates looks for it",
		"MNAME_HAS_NO_ADDRESS", "Z01_MNAME_NOT_RESOLVE"),
	"a SOA whose primary is an alias": reason("nobody but those who send updates looks for the primary, and they follow an alias",
		"MNAME_HAS_NO_ADDRESS", "MNAME_IS_CNAME"),
	"a mailbox at a domain that is not there": reason("mxward reads the mailbox and does not ask whether it can be written to: the domain's mail does not depend on it", "RNAME_MAIL_DOMAIN_INVALID"),
}

// reason gives one reason for all of these.
func reason(text string, all ...string) map[string]string {
	reasons := map[string]string{}
	for _, what := range all {
		reasons[what] = text
	}
	return reasons
}

// comparedAreas: on the rest of our ids Zonemaster has nothing to say.
var comparedAreas = []string{"resolver", "net", "deleg", "soa", "mx", "ptr", "dnssec"}

const (
	peersDoc   = "../../docs/peers.md"
	zonesHead  = "| the zone | both | mxward alone | Zonemaster alone | why |\n|---|---|---|---|---|\n"
	tagsHead   = "\n## Zonemaster's words\n\n| message | level | mxward's id and severity |\n|---|---|---|\n"
	everywhere = "everywhere: "
)

// TestPeers holds docs/peers.md: who found what, with a reason wherever the two differ. UPDATE=1
// writes it anew.
func TestPeers(t *testing.T) {
	text, err := os.ReadFile(peersDoc)
	if err != nil {
		t.Fatal(err)
	}
	head, _, ok := strings.Cut(string(text), zonesHead)
	if !ok {
		t.Fatalf("%s has no table", peersDoc)
	}
	want, said, used := head+zonesHead, readPeers(t), map[string]bool{}
	for _, a := range compared() {
		tags, asked := said[a.why]
		if !asked {
			t.Errorf("%s: Zonemaster has not been asked: run UPDATE=1 go test -run TestZonemaster ./internal/audit, as root", a.why)
			continue
		}
		_, findings := a.audit(t)
		want += beside(t, a.why, foundIn(findings), tags, used).row()
	}
	want += tagsHead
	for _, m := range messages {
		want += m.row()
	}
	reasonsUsed(t, used)
	if want == string(text) || t.Failed() {
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Fatalf("%s is not what was found (UPDATE=1 go test -run TestPeers ./internal/audit):\n%s", peersDoc, firstDifference(string(text), want))
	}
	if err := os.WriteFile(peersDoc, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// readPeers gives the tags of each animal.
func readPeers(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(peersFile)
	if err != nil {
		t.Fatal(err)
	}
	said := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if i := strings.LastIndex(line, ": "); i > 0 && line[0] != '#' {
			said[line[:i]] = strings.Fields(line[i+2:])
		}
	}
	return said
}

// foundIn gives the ids that fail and that Zonemaster could speak of.
func foundIn(findings []Finding) []string {
	var ids []string
	for _, f := range findings {
		area, _, _ := strings.Cut(f.ID, ".")
		if f.Status == Fail && slices.Contains(comparedAreas, area) {
			ids = append(ids, f.ID)
		}
	}
	return slices.Compact(ids) // they come sorted
}

// comparison is what came of one zone.
type comparison struct {
	zone                        string
	both, ours, theirs, reasons []string
}

// beside puts the two together, and wants a reason for what one alone has found.
func beside(t *testing.T, zone string, ours, tags []string, used map[string]bool) comparison {
	t.Helper()
	c := comparison{zone: zone}
	because := func(what, usually string) {
		reason, special := apart[zone][what]
		switch {
		case special:
			used[zone+" "+what] = true
		case usually != "":
			used[what], reason = true, usually
		default:
			t.Errorf("%s: one alone finds %s, and nobody says why", zone, what)
		}
		if !slices.Contains(c.reasons, reason) {
			c.reasons = append(c.reasons, reason)
		}
	}
	for _, tag := range tags {
		i := slices.IndexFunc(messages, func(m message) bool { return m.tag == tag })
		if i < 0 {
			t.Errorf("%s: nobody says what %s means", zone, tag)
			continue
		}
		m := messages[i]
		used[tag] = true
		if strings.HasPrefix(m.why, everywhere) {
			continue
		}
		same := slices.DeleteFunc(strings.Fields(m.ids), func(id string) bool { return !slices.Contains(ours, id) })
		c.both = append(c.both, same...)
		if len(same) == 0 {
			c.theirs = append(c.theirs, tag)
			because(tag, m.why)
		}
	}
	slices.Sort(c.both)
	c.both = slices.Compact(c.both)
	for _, id := range ours {
		if !slices.Contains(c.both, id) {
			c.ours = append(c.ours, id)
			because(id, ourOwn[id])
		}
	}
	return c
}

func (c comparison) row() string {
	return fmt.Sprintf("| %s | %s | %s | %s | %s |\n", c.zone, words(c.both), words(c.ours), words(c.theirs), strings.Join(c.reasons, "; "))
}

func (m message) row() string {
	meaning := m.why
	for i, id := range strings.Fields(m.ids) {
		at := slices.IndexFunc(Checks(), func(c Check) bool { return c.ID == id })
		meaning += map[bool]string{true: "", false: ", "}[i == 0] + fmt.Sprintf("`%s` (%s)", id, Checks()[at].Severity)
	}
	return fmt.Sprintf("| `%s` | %s | %s |\n", m.tag, m.level, meaning)
}

func words(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return "`" + strings.Join(ids, "` `") + "`"
}

// reasonsUsed: no reason is left over from what is mended by now.
func reasonsUsed(t *testing.T, used map[string]bool) {
	t.Helper()
	for _, m := range messages {
		if !used[m.tag] {
			t.Errorf("no zone brings up %s", m.tag)
		}
	}
	for id := range ourOwn {
		if !used[id] {
			t.Errorf("mxward alone never finds %s", id)
		}
	}
	for zone, reasons := range apart {
		for what := range reasons {
			if !used[zone+" "+what] {
				t.Errorf("%s: %s needs no reason", zone, what)
			}
		}
	}
}
