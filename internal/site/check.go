package site

import (
	"fmt"
	"iter"
	"math"
	"net/netip"
	"slices"
	"strconv"

	"mxward/internal/dns"
	"mxward/internal/mailauth/mtasts"
)

// check looks for one kind of mistake in what was read, and reports each. A part that
// could not be read has its zero value, and no check stumbles over it twice.
type check struct {
	kind Kind
	run  func(d *draft, report reporter)
}

// reporter takes a mistake: where, what was expected, what was got, and what to do.
type reporter func(p place, expected, got, hint string)

// checks are the checks that need nothing but the text.
var checks = []check{
	{EmptyPlan, checkEmpty},
	{Missing, checkSite},
	{HostTwice, checkHostTwice},
	{HostNowhere, checkHostNowhere},
	{AliasAndMore, checkAliasAndMore},
	{AliasOfItself, checkAliasOfItself},
	{CertAlone, checkCertAlone},
	{PolicyUnserved, checkPolicyUnserved},
	{PolicyPlain, checkPolicyPlain},
	{PolicySelfSigned, checkPolicySelfSigned},
	{ListenTwice, checkListenTwice},
	{DomainTwice, checkDomainTwice},
	{NoRung, checkNoRung},
	{NobodyAccepts, checkNobodyAccepts},
	{RungTwice, checkRungTwice},
	{PreferenceMixed, checkPreferenceMixed},
	{MXUnknown, checkMXUnknown},
	{MXIsAlias, checkMXIsAlias},
	{TrapTooGood, checkTrapTooGood},
	{BackupTooGood, checkBackupTooGood},
	{TwoRolesAddress, checkTwoRolesAddress},
	{RefuseListens, checkRefuseListens},
	{DeliverMissing, checkDeliverMissing},
	{DeliverLoop, checkDeliverLoop},
	{RecipientForeign, checkRecipientForeign},
	{ClientOverAll, checkClientOverAll},
	{DKIMAlone, checkDKIMAlone},
	{ReportsUnsent, checkReportsUnsent},
	{ReceiveForeign, checkReceiveForeign},
	{WatchMailAlone, checkWatchMailAlone},
	{ResolverPublic, checkResolverPublic},
	{ResolverLoop, checkResolverLoop},
	{UpstreamTwice, checkUpstreamTwice},
	{LocalTwice, checkLocalTwice},
	{LocalEmpty, checkLocalEmpty},
	{AliasAndMore, checkLocalAlias},
	{ZoneTwice, checkZoneTwice},
	{FlattenedTwice, checkFlattenedTwice},
	{FlattenedItself, checkFlattenedItself},
	{OutOfRange, checkFlattenedMany},
	{NetworkWithin, checkNetworkWithin},
	{AccountTwice, checkAccountTwice},
}

func (d *draft) run(all []check) {
	for _, c := range all {
		c.run(d, func(p place, expected, got, hint string) { d.fail(c.kind, p, expected, got, hint) })
	}
}

// Places of the plan's parts.
func atKey(table, key string) place    { return place{table: table, key: key} }
func atHost(i int, key string) place   { return place{table: "host", outer: i, key: key} }
func atDomain(i int, key string) place { return place{table: "domain", outer: i, key: key} }
func atZone(i int, key string) place   { return place{table: "dns.zone", outer: i, key: key} }

func atStub(i int, key string) place  { return place{table: "resolver.stub", outer: i, key: key} }
func atLocal(i int, key string) place { return place{table: "resolver.local", outer: i, key: key} }

func atForward(i int, key string) place {
	return place{table: "resolver.forward", outer: i, key: key}
}

func atRung(i, j int, key string) place {
	return place{table: "domain.mx", outer: i, inner: j, key: key}
}

// number gives the place of the list's item i, from 0.
func (p place) number(i int) place {
	p.item = i + 1
	return p
}

// lineText names the line of a place that another mistake is about.
func (d *draft) lineText(p place) string { return "line " + itoa(d.line(p)) }

func quoteName(n dns.Name) string { return strconv.Quote(n.String()) }

func (r Role) accepts() bool { return r == Gate || r == Backup }

// has reports whether a rung has one of the roles; "" is one that could not be read.
func (d Domain) has(roles ...Role) bool {
	return slices.ContainsFunc(d.Ladder, func(r Rung) bool { return slices.Contains(roles, r.Role) })
}

// sameAddress gives an address that both hosts have.
func sameAddress(a, b Host) (netip.Addr, bool) {
	for _, addr := range a.Addresses {
		if addr.IsValid() && slices.Contains(b.Addresses, addr) {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

func checkEmpty(d *draft, report reporter) {
	serves := d.given(atDomain(0, "")) || d.given(atZone(0, "")) || d.given(atKey("resolver", "listen"))
	if !serves {
		report(place{}, "at least one [[domain]], [[dns.zone]] or resolver.listen", "nothing to serve", "mxward.toml(5) has an example")
	}
}

func checkSite(d *draft, report reporter) {
	if !d.given(atKey("site", "")) {
		report(atKey("site", ""), "the table [site] with name and store", "nothing", "")
	}
}

// twice reports names that come again.
func twice(d *draft, report reporter, what string, n int, name func(int) (dns.Name, place)) {
	first := map[dns.Name]place{}
	for i := range n {
		name, at := name(i)
		if at0, again := first[name]; again && !name.IsZero() {
			report(at, "each "+what+" once", quoteName(name)+" again", "the first is in "+d.lineText(at0))
			continue
		}
		first[name] = at
	}
}

func checkHostTwice(d *draft, report reporter) {
	twice(d, report, "[[host]]", len(d.Hosts), func(i int) (dns.Name, place) { return d.Hosts[i].Name, atHost(i, "name") })
}

func checkDomainTwice(d *draft, report reporter) {
	twice(d, report, "[[domain]]", len(d.Domains), func(i int) (dns.Name, place) { return d.Domains[i].Name, atDomain(i, "name") })
}

func checkZoneTwice(d *draft, report reporter) {
	twice(d, report, "[[dns.zone]]", len(d.DNS.Zones), func(i int) (dns.Name, place) { return d.DNS.Zones[i].Name, atZone(i, "name") })
}

func checkRungTwice(d *draft, report reporter) {
	for i, dom := range d.Domains {
		twice(d, report, "host of a domain", len(dom.Ladder), func(j int) (dns.Name, place) { return dom.Ladder[j].Host, atRung(i, j, "host") })
	}
}

func checkHostNowhere(d *draft, report reporter) {
	for i, h := range d.Hosts {
		if !d.given(atHost(i, "addresses")) && !d.given(atHost(i, "alias")) {
			report(atHost(i, "addresses"), "the addresses of "+quoteName(h.Name), "nothing", "a name that is a CNAME has an alias instead")
		}
	}
}

// checkAliasAndMore: a CNAME has no other data beside it (RFC 1034 §3.6.2).
func checkAliasAndMore(d *draft, report reporter) {
	for i, h := range d.Hosts {
		for _, key := range []string{"addresses", "listen", "cert", "key"} {
			if d.given(atHost(i, "alias")) && d.given(atHost(i, key)) {
				report(atHost(i, key), "nothing beside alias", key, "the host "+quoteName(h.Alias)+" has it")
			}
		}
	}
}

func checkAliasOfItself(d *draft, report reporter) {
	for i, h := range d.Hosts {
		if !h.Alias.IsZero() && h.Alias == h.Name {
			report(atHost(i, "alias"), "another name", quoteName(h.Alias), "give the host its addresses instead")
		}
	}
}

func checkCertAlone(d *draft, report reporter) {
	alone := func(at func(key string) place) {
		for _, pair := range [][2]string{{"cert", "key"}, {"key", "cert"}} {
			if d.given(at(pair[0])) && !d.given(at(pair[1])) {
				report(at(pair[0]), "cert and key together", pair[0]+" alone", "add "+pair[1])
			}
		}
	}
	for i := range d.Hosts {
		alone(func(key string) place { return atHost(i, key) })
	}
	alone(func(key string) place { return atKey("mta-sts", key) })
}

func checkPolicyUnserved(d *draft, report reporter) {
	for i := range d.Domains {
		if d.given(atDomain(i, "mta-sts")) && !d.given(atKey("mta-sts", "listen")) {
			report(atDomain(i, "mta-sts"), "the table [mta-sts] with listen", "nothing", "somebody has to serve the policy")
		}
	}
}

// checkPolicyPlain: senders come over HTTPS alone (RFC 8461 §3.3).
func checkPolicyPlain(d *draft, report reporter) {
	for n, ap := range d.MTASTS.Listen {
		if ap.IsValid() && !ap.Addr().IsLoopback() && !d.given(atKey("mta-sts", "cert")) {
			report(atKey("mta-sts", "listen").number(n), "a loopback address where there is no cert", quote(ap.String()),
				"add cert and key, or let a reverse proxy of this machine speak HTTPS")
		}
	}
}

// checkPolicySelfSigned: senders that heed the policy hand no mail to a host whose certificate
// no authority vouches for (RFC 8461 §4.2). A decoy that they pass over costs nothing.
func checkPolicySelfSigned(d *draft, report reporter) {
	hosts := map[dns.Name]int{}
	for i, h := range d.Hosts {
		hosts[h.Name] = i
	}
	d.rungs(func(i, j int, r Rung) {
		h, known := hosts[r.Host]
		if d.Domains[i].MTASTS == mtasts.Enforce && r.Role.accepts() && known && !d.given(atHost(h, "cert")) {
			report(atRung(i, j, "host"), "a host with cert and key, as "+quoteName(d.Domains[i].Name)+" enforces MTA-STS",
				quoteName(r.Host)+", which signs its certificate itself", "senders with MTA-STS would not deliver there")
		}
	})
}

func checkNoRung(d *draft, report reporter) {
	for i, dom := range d.Domains {
		if len(dom.Ladder) == 0 && !d.given(atRung(i, 0, "")) {
			report(atRung(i, 0, ""), "at least one rung of "+quoteName(dom.Name), "nothing", "add a [[domain.mx]] below it")
		}
	}
}

func checkNobodyAccepts(d *draft, report reporter) {
	for i, dom := range d.Domains {
		if len(dom.Ladder) > 0 && !dom.has(Gate, Backup, "") {
			report(atDomain(i, "name"), "a rung with the role gate or backup", "only decoys", "nobody would take mail for "+quoteName(dom.Name))
		}
	}
}

// rungs goes over every rung that could be read.
func (d *draft) rungs(visit func(i, j int, r Rung)) {
	for i := range d.Domains {
		for j, r := range d.ladder(i) {
			visit(i, j, r)
		}
	}
}

// ladder goes over the rungs of one domain that could be read.
func (d *draft) ladder(i int) iter.Seq2[int, Rung] {
	return func(yield func(int, Rung) bool) {
		for j, r := range d.Domains[i].Ladder {
			if d.good(atRung(i, j, "preference")) && d.good(atRung(i, j, "host")) && d.good(atRung(i, j, "role")) && !yield(j, r) {
				return
			}
		}
	}
}

func checkPreferenceMixed(d *draft, report reporter) {
	for i := range d.Domains {
		first := map[uint16]Role{}
		for j, r := range d.ladder(i) {
			was, again := first[r.Preference]
			if !again {
				first[r.Preference] = r.Role
			} else if was != r.Role {
				report(atRung(i, j, "role"), fmt.Sprintf("%s, as of the other host at preference %d", was, r.Preference), string(r.Role),
					"clients choose among equals at random; give this one a preference of its own")
			}
		}
	}
}

// maxGuesses is how often checkMXUnknown looks for a similar name, which takes its time in
// a plan of thousands of hosts.
const maxGuesses = 20

func checkMXUnknown(d *draft, report reporter) {
	if d.bad[atHost(0, "")] {
		return // nobody knows which hosts there are
	}
	names := make([]string, len(d.Hosts))
	known := map[dns.Name]bool{}
	for i, h := range d.Hosts {
		known[h.Name], names[i] = true, h.Name.String()
	}
	unknown := 0
	d.rungs(func(i, j int, r Rung) {
		if known[r.Host] {
			return
		}
		hint := "add a [[host]] with that name"
		if unknown++; unknown <= maxGuesses {
			if near := Nearest(r.Host.String(), names); near != "" {
				hint += ", or did you mean " + near + "?"
			}
		}
		report(atRung(i, j, "host"), "the name of a [[host]]", quoteName(r.Host), hint)
	})
}

// checkMXIsAlias: RFC 2181 §10.3 and RFC 5321 §5.1; some clients drop such a rung.
func checkMXIsAlias(d *draft, report reporter) {
	alias := map[dns.Name]dns.Name{}
	for _, h := range d.Hosts {
		alias[h.Name] = h.Alias
	}
	d.rungs(func(i, j int, r Rung) {
		if to := alias[r.Host]; !to.IsZero() {
			report(atRung(i, j, "host"), "a host with addresses of its own", quoteName(r.Host)+", an alias of "+quoteName(to), "write "+quoteName(to))
		}
	})
}

// checkTrapTooGood: clients that restart their walk after a 451 at RCPT never get past a
// trap, so it stands behind all that accept.
func checkTrapTooGood(d *draft, report reporter) {
	for i := range d.Domains {
		worst := -1
		for _, r := range d.ladder(i) {
			if r.Role.accepts() {
				worst = max(worst, int(r.Preference))
			}
		}
		for j, r := range d.ladder(i) {
			if r.Role == Trap && int(r.Preference) < worst {
				report(atRung(i, j, "preference"), "a trap behind every gate and backup, above "+itoa(worst), itoa(int(r.Preference)),
					"some senders never get past a trap")
			}
		}
	}
}

// checkBackupTooGood: what a backup takes it hands to better rungs, so a better gate must be
// there, or none at all of ours.
func checkBackupTooGood(d *draft, report reporter) {
	for i := range d.Domains {
		best := math.MaxInt
		for _, r := range d.ladder(i) {
			if r.Role == Gate {
				best = min(best, int(r.Preference))
			}
		}
		for j, r := range d.ladder(i) {
			if r.Role == Backup && best < math.MaxInt && int(r.Preference) < best {
				report(atRung(i, j, "preference"), "a backup behind the best gate, above "+itoa(best), itoa(int(r.Preference)),
					"a backup hands its mail to better rungs")
			}
		}
	}
}

// hostOf gives the host of each name; of two with one name, the first.
func (d *draft) hostOf() map[dns.Name]Host {
	hosts := map[dns.Name]Host{}
	for _, h := range d.Hosts {
		if _, ok := hosts[h.Name]; !ok {
			hosts[h.Name] = h
		}
	}
	return hosts
}

// checkTwoRolesAddress: one address cannot tell which rung a client meant.
func checkTwoRolesAddress(d *draft, report reporter) {
	hosts := d.hostOf()
	d.rungs(func(i, j int, r Rung) {
		if r.Role != Trap {
			return
		}
		for _, other := range d.ladder(i) {
			if !other.Role.accepts() || other.Host == r.Host {
				continue
			}
			if addr, ok := sameAddress(hosts[r.Host], hosts[other.Host]); ok {
				report(atRung(i, j, "host"), "a trap with addresses of its own",
					fmt.Sprintf("%s, which shares %s with the %s %s", quoteName(r.Host), addr, other.Role, quoteName(other.Host)),
					"nobody could tell by which name a client came")
				return
			}
		}
	})
}

// checkRefuseListens: a decoy is refused by the kernel, for every domain alike.
func checkRefuseListens(d *draft, report reporter) {
	listening := map[netip.Addr]place{}
	hosts := d.hostOf()
	d.rungs(func(i, j int, r Rung) {
		for _, a := range hosts[r.Host].Addresses {
			if _, ok := listening[a]; !ok && r.Role != Refuse && a.IsValid() {
				listening[a] = atRung(i, j, "role")
			}
		}
	})
	explicit := map[dns.Name]place{}
	for i, h := range d.Hosts {
		if d.given(atHost(i, "listen")) {
			explicit[h.Name] = atHost(i, "listen")
		}
	}
	d.rungs(func(i, j int, r Rung) {
		if r.Role != Refuse {
			return
		}
		if at, ok := explicit[r.Host]; ok {
			report(atRung(i, j, "host"), "a host at which nobody listens", quoteName(r.Host)+", which has host.listen in "+d.lineText(at), "leave listen out there")
			return
		}
		for _, a := range hosts[r.Host].Addresses {
			if at, ok := listening[a]; ok {
				report(atRung(i, j, "host"), "an address at which nobody listens",
					fmt.Sprintf("%s with %s, where mail is answered because of %s", quoteName(r.Host), a, d.lineText(at)),
					"a decoy needs an address of its own")
				return
			}
		}
	})
}

func checkDeliverMissing(d *draft, report reporter) {
	for i, dom := range d.Domains {
		if dom.has(Gate) && !d.given(atDomain(i, "deliver")) {
			report(atDomain(i, "deliver"), targetForms, "nothing", "say where the mail goes that the gate of "+quoteName(dom.Name)+" accepts")
		}
	}
}

func checkRecipientForeign(d *draft, report reporter) {
	for i, dom := range d.Domains {
		for n, r := range dom.Recipients {
			if !r.IsZero() && r.Domain != dom.Name && !dom.Name.IsZero() {
				report(atDomain(i, "recipients").number(n), "an address at "+quoteName(dom.Name), strconv.Quote(r.String()), "")
			}
		}
	}
}

func checkClientOverAll(d *draft, report reporter) {
	if d.given(atKey("smtp", "max-per-client")) && d.SMTP.MaxPerClient > d.SMTP.MaxSessions {
		report(atKey("smtp", "max-per-client"), "at most max-sessions, "+itoa(d.SMTP.MaxSessions), itoa(d.SMTP.MaxPerClient), "")
	}
}

func checkResolverPublic(d *draft, report reporter) {
	for n, ap := range d.Resolver.Listen {
		if ap.IsValid() && !ap.Addr().IsLoopback() {
			report(atKey("resolver", "listen").number(n), "a loopback address, such as 127.0.0.1:53", quote(ap.String()),
				"an open resolver serves attacks on others")
		}
	}
}
