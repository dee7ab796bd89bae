package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mxward/internal/dns"
)

// What SOA timers are usual: Zonemaster's profile. They are notices at most.
const (
	leastRefresh = 4 * time.Hour
	leastRetry   = time.Hour
	leastExpire  = 7 * 24 * time.Hour
	leastMinimum = 5 * time.Minute
	mostMinimum  = 24 * time.Hour
)

// The networks in which servers fail together; ours, as Zonemaster's.
const (
	near4 = 24
	near6 = 48
)

const bigReferral = 1232 // RFC 9715 §3.1: what fits into a datagram everywhere

func delegationChecks() []Check {
	return []Check{
		{"deleg.nxdomain", "the domain does not exist", Critical, []string{"RFC 1034 §4.3.2"}, delegAbsent},
		{"deleg.no-ns", "no server of the zone can be reached", Critical, []string{"RFC 1034 §4.2.2"}, delegNoServer},
		{"deleg.single-ns", "the zone has one name server", Warning, []string{"RFC 1034 §4.1", "RFC 2182 §5"}, needZone(func(f *Facts) []verdict {
			addrs, one := f.oneServer()
			switch {
			case len(f.Zone.Names) == 1:
				return []verdict{fail("only "+f.Zone.Names[0].Name.String()+" serves the zone: mail stops with it", f.nsQuestion()).mend("add a second name server, elsewhere")}
			case one:
				return []verdict{fail("all the names in its NS records lead to "+strings.Join(addrs, " and ")+": mail stops with it", f.nsQuestion()).mend("add a second name server, elsewhere")}
			}
			return nil
		})},
		{"deleg.ns-mismatch-parent-extra", "the parent names a server that the zone does not", Error, []string{"RFC 1034 §4.2.2"}, needChildNS(func(f *Facts, ns NameServer) []verdict {
			if !ns.AtParent || ns.AtChild {
				return nil
			}
			return []verdict{fail("the parent names it, and the zone's own NS records do not", f.nsQuestion()).at(ns.Name.String()).by(ParentZone).
				mend("add it to the zone, or have the registrar drop it", Change{"add", fmt.Sprintf("%s NS %s", f.Zone.Name.FQDN(), ns.Name.FQDN())})}
		})},
		{"deleg.ns-mismatch-child-extra", "the zone names a server that its parent does not", Notice, []string{"RFC 1034 §4.2.2"}, needChildNS(func(f *Facts, ns NameServer) []verdict {
			if ns.AtParent || !ns.AtChild {
				return nil
			}
			return []verdict{fail("the zone's NS records name it, and the parent does not", f.nsQuestion()).at(ns.Name.String()).by(ParentZone).mend("have the registrar add it")}
		})},
		{"deleg.ns-unresolvable", "a name server's name has no address", Error, []string{"RFC 1034 §4.2.2"}, eachNS(func(f *Facts, ns NameServer) []verdict {
			switch {
			case f.deniedServer(ns):
				return []verdict{f.deniedUnknown(addrQuestions(ns.Name)...).at(ns.Name.String())}
			case ns.Addrs.Err != nil && len(f.Zone.Referral.Glue[ns.Name]) == 0:
				return []verdict{unknown(f, ns.Addrs.Err, ZoneServers, addrQuestions(ns.Name)...).at(ns.Name.String())}
			case ns.Addrs.Err == nil && len(ns.Addrs.Records) == 0:
				return []verdict{fail("it has no address", addrQuestions(ns.Name)...).at(ns.Name.String()).mend("give it an address, or name another server")}
			}
			return nil
		})},
		{"deleg.ns-cname", "a name server's name is an alias", Error, []string{"RFC 2181 §10.3"}, eachNS(func(f *Facts, ns NameServer) []verdict {
			switch {
			case ns.Addrs.Err != nil:
				return []verdict{unknown(f, ns.Addrs.Err, ZoneServers, addrQuestions(ns.Name)...).at(ns.Name.String())}
			case len(ns.Addrs.Aliases) == 0:
				return nil
			}
			return []verdict{fail("it is an alias of "+ns.Addrs.Canonical.String(), addrQuestions(ns.Name)...).at(ns.Name.String()).mend("name the host itself in the NS record")}
		})},
		{"deleg.ns-private-address", "a name server has an address that the world cannot reach", Error, []string{"RFC 1918 §5", "RFC 6890"}, eachServer(func(f *Facts, s Server) []verdict {
			if !f.unreachable(s.Addr) {
				return nil
			}
			return []verdict{fail(s.Name.String()+" is said to be at "+s.Addr.String(), addrQuestions(s.Name)...).at(s.Addr.String()).mend("publish the address that the world sees")}
		})},
		{"deleg.lame", "a name server does not serve the zone", Error, []string{"RFC 1912 §2.8"}, askedServer(func(f *Facts, s Server) []verdict {
			switch {
			case s.SOA.Err != nil || s.SOA.serves():
				return nil // not to be heard is deleg.no-udp
			case s.SOA.Said.Rcode != dns.NoError:
				return []verdict{fail(fmt.Sprintf("%s answers %s", s.Name, s.SOA.Said.Rcode), f.soaQuestion()).at(s.Addr.String()).by(ZoneServers).mend("have it load the zone, or take its name out of the NS records and the delegation")}
			}
			return []verdict{fail(s.Name.String()+" answers without authority", f.soaQuestion()).at(s.Addr.String()).by(ZoneServers).mend("have it load the zone, or take its name out of the NS records and the delegation")}
		})},
		{"deleg.no-tcp", "a name server takes no TCP", Error, []string{"RFC 7766 §5", "RFC 9210 §3"}, askedServer(func(f *Facts, s Server) []verdict {
			if s.TCP.Err == nil || s.SOA.Err != nil {
				return nil // deleg.no-udp says the rest
			}
			if !f.tcpHeard() {
				return []verdict{{status: Unknown, blame: LocalNetwork, target: s.Addr.String(), detail: "nobody at all is heard over TCP", asked: []dns.Question{f.soaQuestion()}}}
			}
			return f.deaf(s, s.TCP.Err, "over TCP: larger answers, long TXT records among them, are lost")
		})},
		{"deleg.no-udp", "a name server does not answer", Error, []string{"RFC 1035 §4.2.1"}, askedServer(func(f *Facts, s Server) []verdict {
			if s.SOA.Err == nil {
				return nil
			}
			return f.deaf(s, s.SOA.Err, "over UDP")
		})},
		{"deleg.edns", "a name server does not know EDNS", Warning, []string{"RFC 6891 §7"}, askedServer(func(f *Facts, s Server) []verdict {
			if s.SOA.Err != nil || s.SOA.Said.EDNS {
				return nil
			}
			return []verdict{fail(s.Name.String()+" answers without EDNS", f.soaQuestion()).at(s.Addr.String()).by(ZoneServers).mend("update it, or see whether a firewall before it takes the option out")}
		})},
		{"deleg.recursion-open", "a name server offers recursion to strangers", Warning, []string{"RFC 5358 §4"}, askedServer(func(f *Facts, s Server) []verdict {
			if s.SOA.Err != nil || !s.SOA.Said.Recursion {
				return nil
			}
			return []verdict{fail(s.Name.String()+" says that it would ask others for us", f.soaQuestion()).at(s.Addr.String()).by(ZoneServers).mend("serve recursion to your own network only")}
		})},
		{"deleg.axfr-open", "a name server gives the whole zone to strangers", Notice, []string{"RFC 5936 §5"}, askedServer(delegTransfer)},
		{"deleg.glue-missing", "the parent has no address for a name server inside the zone", Error, []string{"RFC 9471 §2.1"}, needReferral(func(f *Facts) []verdict {
			var all []verdict
			for _, ns := range f.Zone.Referral.Servers {
				if ns.In(f.Zone.Name) && len(f.Zone.Referral.Glue[ns]) == 0 {
					all = append(all, fail("it can be found only by those who have found it", f.soaAt(f.Domain)).at(ns.String()).by(ParentZone).mend("have the registrar add the address of "+ns.String()))
				}
			}
			return all
		})},
		{"deleg.glue-mismatch", "the parent has another address for a name server than the zone", Error, []string{"RFC 1034 §4.2.2"}, needReferral(delegGlue)},
		{"deleg.same-prefix", "all name servers are in one network", Notice, []string{"RFC 2182 §3.1"}, needZone(func(f *Facts) []verdict {
			networks := map[netip.Prefix]bool{}
			for _, s := range f.Zone.Servers {
				networks[network(s.Addr)] = true
			}
			_, one := f.oneServer()
			if len(networks) != 1 || len(f.Zone.Servers) < 2 || one { // one server is deleg.single-ns
				return nil
			}
			return []verdict{fail("all are in "+network(f.Zone.Servers[0].Addr).String(), f.nsQuestion()).mend("put one elsewhere")}
		})},
		{"deleg.same-as", "all name servers are in one autonomous system", Notice, []string{"RFC 2182 §3.1"}, delegSameAS},
		{"deleg.serial-drift", "the servers have different versions of the zone", Notice, []string{"RFC 1034 §4.3.5"}, needLive(func(f *Facts) []verdict {
			serials, records := map[string][]string{}, map[string][]string{}
			for _, s := range f.Zone.Servers {
				for _, soa := range soaRecords(f, s) {
					at, serial := s.Addr.String(), fmt.Sprint(soa.Serial)
					serials[serial] = append(serials[serial], at)
					text := fmt.Sprintf("%s %s %d %s %s %s %s", soa.MName, soa.RName, soa.Serial, soa.Refresh, soa.Retry, soa.Expire, soa.Minimum)
					records[text] = append(records[text], at)
				}
			}
			detail := "serial numbers: " + grouped(serials)
			switch {
			case len(records) < 2 || slices.ContainsFunc(f.Zone.Servers, func(s Server) bool { return len(soaRecords(f, s)) > 1 }):
				return nil // several at one server are soa.multiple
			case len(serials) == 1:
				detail = "one serial number, and different SOA records: " + clip(grouped(records))
			}
			return []verdict{fail(detail, f.soaQuestion()).by(ZoneServers).mend("see why the secondaries do not transfer the zone")}
		})},
		{"deleg.ns-inconsistent", "the servers have different NS records", Notice, []string{"RFC 1034 §4.3.5"}, needLive(func(f *Facts) []verdict {
			said := map[string][]string{}
			for _, s := range f.Zone.Servers {
				if set, err := dns.LookupNS(context.Background(), dns.Given(s.NS.Said.Answer), f.Zone.Name); s.NS.serves() && err == nil {
					names := strings.Fields(strings.Trim(fmt.Sprint(set.Records), "[]"))
					said[strings.Join(names, ", ")] = append(said[strings.Join(names, ", ")], s.Addr.String())
				}
			}
			switch len(said) {
			case 0:
				return []verdict{f.zoneUnknown(f.nsQuestion())}
			case 1:
				return nil
			}
			return []verdict{fail(clip(grouped(said)), f.nsQuestion()).by(ZoneServers).mend("see why the secondaries do not transfer the zone")}
		})},
		{"deleg.inconsistent-rrset", "the servers have different TXT records, and with them SPF", Error, []string{"RFC 1034 §4.3.5"}, needLive(func(f *Facts) []verdict {
			said := map[string][]string{}
			for _, s := range f.Zone.Servers {
				if !s.TXT.serves() {
					continue
				}
				set, err := dns.LookupTXT(context.Background(), dns.Given(s.TXT.Said.Answer), f.Domain)
				if err != nil {
					continue
				}
				texts := slices.Sorted(slices.Values(set.Records))
				sum := sha256.Sum256([]byte(fmt.Sprintf("%q", texts))) // of all, for what is shown may be cut
				key := fmt.Sprintf("%d records %x %.80q", len(texts), sum[:4], texts)
				said[key] = append(said[key], s.Addr.String())
			}
			switch len(said) {
			case 0:
				return []verdict{f.zoneUnknown(f.q(dns.TypeTXT))}
			case 1:
				return nil
			}
			return []verdict{fail("TXT records: "+clip(grouped(said)), f.q(dns.TypeTXT)).by(ZoneServers).mend("see why the secondaries do not transfer the zone")}
		})},
		{"deleg.expired", "the registration has ended", Critical, []string{"RFC 9083 §4.5"}, needRegistration(delegExpired)},
		{"deleg.expiring", "the registration ends soon", Warning, []string{"RFC 9083 §4.5"}, needRegistration(delegExpiring)},
		{"deleg.referral-too-big", "the parent's referral does not fit into a datagram", Notice, []string{"RFC 9715 §3.1"}, needReferral(func(f *Facts) []verdict {
			for _, h := range f.Zone.Parents {
				if h.Err == nil && h.Said.Size > bigReferral {
					return []verdict{fail(fmt.Sprintf("it has %d octets", h.Said.Size), f.soaAt(f.Domain)).by(ParentZone).mend("name fewer servers")}
				}
			}
			return nil
		})},

		{"soa.mname", "the SOA record names no host as the zone's primary", Notice, []string{"RFC 1035 §3.3.13"}, eachSOA(func(f *Facts, soa dns.SOA) []verdict {
			if soa.MName != dns.Root && hostName(soa.MName) {
				return nil
			}
			return []verdict{fail(fmt.Sprintf("it names %q", soa.MName), f.soaQuestion()).mend("name the host that has the zone first-hand")}
		})},
		{"soa.rname", "the SOA record names no mailbox", Notice, []string{"RFC 1035 §3.3.13", "RFC 2142 §7"}, eachSOA(func(f *Facts, soa dns.SOA) []verdict {
			if soa.RName.CountLabels() > 2 && !strings.Contains(soa.RName.String(), "@") {
				return nil
			}
			return []verdict{fail(fmt.Sprintf("it names %q; hostmaster@example.com is written hostmaster.example.com", soa.RName), f.soaQuestion()).mend("name a mailbox that somebody reads, best in another domain")}
		})},
		{"soa.timers", "the SOA record's times are unusual", Notice, []string{"RFC 1912 §2.2", "RFC 2308 §5"}, eachSOA(soaTimers)},
		{"soa.missing", "the zone has no SOA record", Error, []string{"RFC 1035 §5.2"}, soaCount(0, "there is none at the apex")},
		{"soa.multiple", "the zone has several SOA records", Error, []string{"RFC 2181 §6.1"}, soaCount(2, "there are several at the apex")},
	}
}

func (f *Facts) nsQuestion() dns.Question { return dns.Question{Name: f.Zone.Name, Type: dns.TypeNS} }

func (f *Facts) soaQuestion() dns.Question { return f.soaAt(f.Zone.Name) }

func (f *Facts) soaAt(name dns.Name) dns.Question {
	return dns.Question{Name: name, Type: dns.TypeSOA}
}

func addrQuestions(name dns.Name) []dns.Question {
	return []dns.Question{{Name: name, Type: dns.TypeA}, {Name: name, Type: dns.TypeAAAA}}
}

// zoneUnknown is the verdict where the zone's servers could not be asked.
func (f *Facts) zoneUnknown(asked ...dns.Question) verdict {
	v := verdict{status: Unknown, asked: append(asked, f.soaAt(f.Domain))}
	switch err := f.Zone.Err; {
	case f.intercepted():
		v.blame, v.detail = LocalNetwork, "somebody on the way answers in the servers' place"
	case errors.Is(err, ErrNotRecorded):
		v.blame, v.detail = Nobody, clip(err.Error())
	case err != nil && (!f.rootsHeard() || f.Zone.Parent == dns.Root):
		v.blame, v.detail = LocalNetwork, "no root server could be asked: "+clip(err.Error())
	case f.noWay():
		v.blame, v.detail = LocalNetwork, clip(err.Error())
	case err != nil:
		v.blame, v.detail = ParentZone, clip(err.Error())
	case f.live() == 0:
		v.blame, v.detail = f.silenceOf(), "no server of the zone answers for it"
	default:
		v.blame, v.detail = Nobody, "the zone's servers do not say it"
	}
	return v
}

// silenceOf: where others outside are heard, it is the servers that are silent.
func (f *Facts) silenceOf() Blame {
	switch {
	case slices.ContainsFunc(f.Zone.Servers, func(s Server) bool { return errors.Is(s.SOA.Err, ErrNotRecorded) }):
		return Nobody
	case f.rootsHeard() && !f.Zone.outOfReach():
		return ZoneServers
	}
	return LocalNetwork
}

// outOfReach reports whether this host could send to none of the servers.
func (z Zone) outOfReach() bool {
	return len(z.Servers) > 0 && !slices.ContainsFunc(z.Servers, func(s Server) bool { return dns.TroubleOf(s.SOA.Err) != dns.NoNetwork })
}

// live counts the servers that serve the zone.
func (f *Facts) live() int {
	n := 0
	for _, s := range f.Zone.Servers {
		if s.SOA.serves() {
			n++
		}
	}
	return n
}

// needZone: the way to the zone was found.
func needZone(judge func(*Facts) []verdict) func(*Facts) []verdict {
	return func(f *Facts) []verdict {
		switch {
		case f.Zone.Absent && f.Zone.Name.IsZero():
			return na("the domain does not exist")
		case f.Zone.Name.IsZero():
			return []verdict{f.zoneUnknown()}
		}
		return judge(f)
	}
}

// needLive: a server serves the zone.
func needLive(judge func(*Facts) []verdict) func(*Facts) []verdict {
	return needZone(func(f *Facts) []verdict {
		if f.live() == 0 {
			return []verdict{f.zoneUnknown(f.soaQuestion())}
		}
		return judge(f)
	})
}

// needReferral: the parent's word was heard.
func needReferral(judge func(*Facts) []verdict) func(*Facts) []verdict {
	return needZone(func(f *Facts) []verdict {
		if len(f.Zone.Referral.Servers) == 0 {
			return na("one server has the zone and its parent, and so no delegation is to be seen")
		}
		return judge(f)
	})
}

// needChildNS compares the NS records of both sides, name by name.
func needChildNS(judge func(*Facts, NameServer) []verdict) func(*Facts) []verdict {
	return needReferral(func(f *Facts) []verdict {
		if !slices.ContainsFunc(f.Zone.Names, func(ns NameServer) bool { return ns.AtChild }) {
			return []verdict{f.zoneUnknown(f.nsQuestion())}
		}
		var all []verdict
		for _, ns := range f.Zone.Names {
			all = append(all, judge(f, ns)...)
		}
		return all
	})
}

func eachNS(judge func(*Facts, NameServer) []verdict) func(*Facts) []verdict {
	return needZone(func(f *Facts) (all []verdict) {
		for _, ns := range f.Zone.Names {
			all = append(all, judge(f, ns)...)
		}
		return all
	})
}

func eachServer(judge func(*Facts, Server) []verdict) func(*Facts) []verdict {
	return needZone(func(f *Facts) (all []verdict) {
		for _, s := range f.Zone.Servers {
			all = append(all, judge(f, s)...)
		}
		return all
	})
}

func askedServer(judge func(*Facts, Server) []verdict) func(*Facts) []verdict {
	return eachServer(func(f *Facts, s Server) []verdict {
		if s.Unasked {
			return nil
		}
		return judge(f, s)
	})
}

func delegAbsent(f *Facts) []verdict {
	switch {
	case f.Zone.Absent:
		v := fail("the servers of "+zoneText(f.above())+" say that there is no such name", f.soaAt(f.Domain), f.q(dns.TypeMX)).
			mend("add records for the name, or see whether it is another one that is meant")
		if f.private() {
			v.detail += ", while the resolver knows it: it has a view of its own, and nobody outside sees that"
		}
		if f.Zone.Name.IsZero() {
			v = v.by(ParentZone).mend("register the domain, or see whether its registration has ended")
		}
		return []verdict{v}
	case f.MX.Err == nil && f.MX.Exists:
		return nil
	case !f.Zone.Name.IsZero() && f.ownDenial() && !f.hides(f.Domain):
		return []verdict{fail("the zone's servers say that there is no such name", f.q(dns.TypeMX)).mend("add records for the name, or see whether it is another one that is meant")}
	case f.Zone.Err != nil && f.hides(f.Domain):
		return []verdict{f.zoneUnknown(f.q(dns.TypeMX)).by(LocalResolver)}
	case f.Zone.Err != nil && f.MX.Err == nil: // nobody but the resolver could be asked
		return []verdict{fail("the resolver says that there is no such name", f.q(dns.TypeMX)).by(ParentZone).mend("register the domain, or see whether its registration has ended")}
	case f.Zone.Err != nil:
		return []verdict{f.zoneUnknown()}
	}
	return nil
}

// private reports whether the resolver knows a domain that the world denies (split DNS).
func (f *Facts) private() bool {
	return f.Server.IsValid() && f.Zone.Absent && f.MX.Err == nil && f.MX.Exists
}

// above is the zone whose servers speak of the domain.
func (f *Facts) above() dns.Name {
	if f.Zone.Name.IsZero() {
		return f.Zone.Parent
	}
	return f.Zone.Name
}

func delegNoServer(f *Facts) []verdict {
	if f.Zone.Err != nil || f.Zone.Name.IsZero() {
		return needZone(nil)(f)
	}
	if f.live() > 0 {
		return nil
	}
	if !f.rootsHeard() || f.onlyOurs() {
		return []verdict{f.zoneUnknown(f.soaQuestion()).by(LocalNetwork)}
	}
	if slices.ContainsFunc(f.Zone.Servers, func(s Server) bool { return stopped(s.SOA.Err) }) {
		return []verdict{f.zoneUnknown(f.soaQuestion()).by(Nobody)}
	}
	v := fail("none of the servers answers for the zone, while others on the internet are heard", f.soaQuestion(), f.nsQuestion()).by(ZoneServers).sure(Confirmed).
		mend("see that the servers run, have the zone, and get questions from everywhere")
	if len(f.Zone.Servers) == 0 {
		v.blame, v.detail = ParentZone, "the parent names servers, and none has an address"
		v = v.mend("give the servers addresses, or have the registrar name others")
	}
	return []verdict{v}
}

// onlyOurs reports whether it is this host that has no way to any of the zone's servers.
func (f *Facts) onlyOurs() bool {
	return len(f.Zone.Servers) > 0 && !slices.ContainsFunc(f.Zone.Servers, func(s Server) bool {
		return dns.TroubleOf(s.SOA.Err) != dns.NoNetwork && (s.SOA.Err == nil || !s.Addr.Is6() || f.sixHeard())
	})
}

// deaf: a server was not heard. Whether that is its fault shows in others.
func (f *Facts) deaf(s Server, err error, how string) []verdict {
	switch {
	case stopped(err):
		return []verdict{unknown(f, err, ZoneServers, f.soaQuestion()).at(s.Addr.String())}
	case dns.TroubleOf(err) == dns.NoNetwork || s.Addr.Is6() && !f.sixHeard():
		// A zone with servers over IPv4 is judged by those; net.no-ipv6 says the rest.
		return []verdict{{status: Unknown, blame: LocalNetwork, aside: s.Addr.Is6() && f.live() > 0, target: s.Addr.String(), detail: "this host has no way there", asked: []dns.Question{f.soaQuestion()}}}
	case !f.rootsHeard() && f.live() == 0:
		return []verdict{{status: Unknown, blame: LocalNetwork, target: s.Addr.String(), detail: clip(err.Error()), asked: []dns.Question{f.soaQuestion()}}}
	}
	return []verdict{fail(fmt.Sprintf("%s does not answer %s: %v", s.Name, how, err), f.soaQuestion()).at(s.Addr.String()).by(ZoneServers).mend("see that it runs, and that no firewall keeps questions to port 53 from it")}
}

// tcpHeard reports whether anybody outside was heard over TCP: many networks let none out.
func (f *Facts) tcpHeard() bool {
	return slices.ContainsFunc(f.Control.OverTCP, func(h Heard) bool { return h.Err == nil }) ||
		slices.ContainsFunc(f.Zone.Servers, func(s Server) bool { return s.TCP.Err == nil && s.TCP.Server.IsValid() })
}

// sixHeard reports whether anybody was heard over IPv6.
func (f *Facts) sixHeard() bool {
	for h := range f.heardAll() {
		if h.Err == nil && h.Server.Addr().Is6() {
			return true
		}
	}
	return false
}

func delegGlue(f *Facts) []verdict {
	var all []verdict
	for _, ns := range f.Zone.Names {
		glue := f.Zone.Referral.Glue[ns.Name]
		if !ns.Name.In(f.Zone.Name) || len(glue) == 0 {
			continue
		}
		if f.deniedServer(ns) {
			all = append(all, f.deniedUnknown(addrQuestions(ns.Name)...).at(ns.Name.String()))
			continue
		}
		if ns.Addrs.Err != nil {
			all = append(all, unknown(f, ns.Addrs.Err, ZoneServers, addrQuestions(ns.Name)...).at(ns.Name.String()))
			continue
		}
		for _, addr := range glue {
			if !slices.Contains(ns.Addrs.Records, addr) {
				all = append(all, fail(fmt.Sprintf("the parent says %s, the zone says %s", addr, addrText(ns.Addrs.Records)), addrQuestions(ns.Name)...).at(ns.Name.String()).by(ParentZone).mend("have the registrar correct the address"))
				break
			}
		}
	}
	return all
}

func addrText(addrs []netip.Addr) string {
	if len(addrs) == 0 {
		return "none"
	}
	return strings.Trim(fmt.Sprint(addrs), "[]")
}

// oneServer gives the addresses to which all of several names of servers are known to lead.
func (f *Facts) oneServer() (addrs []string, one bool) {
	at := map[dns.Name][]string{}
	for _, s := range f.Zone.Servers {
		at[s.Name] = append(at[s.Name], s.Addr.String())
	}
	for i, ns := range f.Zone.Names {
		slices.Sort(at[ns.Name])
		if i == 0 {
			addrs = at[ns.Name]
		}
		if ns.Addrs.Err != nil || !slices.Equal(at[ns.Name], addrs) {
			return nil, false
		}
	}
	return addrs, len(f.Zone.Names) > 1 && len(addrs) > 0
}

func network(a netip.Addr) netip.Prefix {
	bits := near4
	if a.Is6() {
		bits = near6
	}
	p, _ := a.Prefix(bits) // fails for no length of these
	return p
}

// grouped puts "value (who, who)" together, in a fixed order.
func grouped(by map[string][]string) string {
	var parts []string
	for value, who := range by {
		slices.Sort(who)
		parts = append(parts, fmt.Sprintf("%s (%s)", value, strings.Join(who, ", ")))
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}

func soaRecords(f *Facts, s Server) []dns.SOA {
	if !s.SOA.serves() {
		return nil
	}
	set, err := dns.LookupSOA(context.Background(), dns.Given(s.SOA.Said.Answer), f.Zone.Name)
	if err != nil {
		return nil
	}
	return set.Records
}

// eachSOA looks at the record of the first server that has one.
func eachSOA(judge func(*Facts, dns.SOA) []verdict) func(*Facts) []verdict {
	return needLive(func(f *Facts) []verdict {
		for _, s := range f.Zone.Servers {
			if records := soaRecords(f, s); len(records) > 0 {
				return judge(f, records[0])
			}
		}
		return na("there is none: soa.missing")
	})
}

func soaTimers(f *Facts, soa dns.SOA) []verdict {
	var odd []string
	add := func(wrong bool, format string, args ...any) {
		if wrong {
			odd = append(odd, fmt.Sprintf(format, args...))
		}
	}
	add(soa.Refresh < leastRefresh, "refresh is %s, less than %s", soa.Refresh, leastRefresh)
	add(soa.Retry < leastRetry, "retry is %s, less than %s", soa.Retry, leastRetry)
	add(soa.Retry >= soa.Refresh, "retry is not less than refresh")
	add(soa.Expire < leastExpire, "expire is %s, less than %s", soa.Expire, leastExpire)
	add(soa.Expire <= soa.Refresh+soa.Retry, "expire is %s: secondaries give the zone up before they have looked twice", soa.Expire)
	add(soa.Minimum < leastMinimum || soa.Minimum > mostMinimum, "negative answers last %s, and %s to %s are usual", soa.Minimum, leastMinimum, mostMinimum)
	if len(odd) == 0 {
		return nil
	}
	return []verdict{fail(strings.Join(odd, "; "), f.soaQuestion()).mend("usual are, in seconds, a refresh of 14400, a retry of 3600, an expire of 1209600 and a minimum of 3600")}
}

// soaCount fails at servers with no SOA record, or with this many or more.
func soaCount(many int, detail string) func(*Facts) []verdict {
	return needLive(func(f *Facts) (all []verdict) {
		for _, s := range f.Zone.Servers {
			n := len(soaRecords(f, s))
			if s.SOA.serves() && (many == 0 && n == 0 || many > 0 && n >= many) {
				all = append(all, fail(detail, f.soaQuestion()).at(s.Addr.String()).mend("the zone has exactly one, at its apex"))
			}
		}
		return all
	})
}
