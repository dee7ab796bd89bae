package audit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"mxward/internal/dns"
	"mxward/internal/mailauth/spf"
)

const manyMX = 10 // RFC 7208 §4.6.4: SPF's mx looks at no more

func mxChecks() []Check {
	return []Check{
		{"mx.missing", "nothing says where mail for the domain goes", Notice, []string{"RFC 5321 §5.1"}, needMX(func(f *Facts, records []dns.MX) []verdict {
			switch {
			case len(records) > 0 || len(f.Own.addrs()) > 0:
				return nil
			case f.Own.err() != nil:
				return []verdict{unknown(f, f.Own.err(), ZoneServers, addrQuestions(f.Domain)...)}
			}
			return []verdict{fail("it has no MX record and no address: it takes no mail", f.q(dns.TypeMX)).
				mend("if it shall take none, say so", Change{"add", f.Domain.FQDN() + " MX 0 ."})}
		})},
		{"mx.implicit", "mail goes to the domain's own address, for want of an MX record", Warning, []string{"RFC 5321 §5.1"}, needMX(func(f *Facts, records []dns.MX) []verdict {
			if len(records) > 0 || len(f.Own.addrs()) == 0 {
				return nil
			}
			return []verdict{fail("it has no MX record, and so senders try "+f.Own.addrs()[0].String(), f.q(dns.TypeMX)).
				mend("name the host that takes the mail, or say that none does", Change{"add", f.Domain.FQDN() + " MX 10 " + f.Domain.FQDN()})}
		})},
		{"mx.null", "the domain takes no mail", Info, []string{"RFC 7505 §3"}, needMX(func(f *Facts, records []dns.MX) []verdict {
			if !null(records) {
				return nil
			}
			return []verdict{fail("it says so by a null MX"+f.evidentlyParked(), f.q(dns.TypeMX))}
		})},
		{"mx.null-mixed", "a null MX stands beside others", Error, []string{"RFC 7505 §3"}, needMX(func(f *Facts, records []dns.MX) []verdict {
			if len(records) < 2 || !slices.ContainsFunc(records, isNull) {
				return nil
			}
			var drop []Change
			for _, mx := range records {
				if isNull(mx) {
					drop = append(drop, Change{"delete", fmt.Sprintf("%s MX %d .", f.Domain.FQDN(), mx.Preference)})
				}
			}
			return []verdict{fail("senders may take either", f.q(dns.TypeMX)).mend("drop it", drop...)}
		})},
		{"mx.null-nonzero-pref", "a null MX has a preference", Notice, []string{"RFC 7505 §3"}, needMX(func(f *Facts, records []dns.MX) []verdict {
			if len(records) > 1 {
				return na("it should not be there at all: mx.null-mixed")
			}
			for _, mx := range records {
				if isNull(mx) && mx.Preference != 0 {
					return []verdict{fail(fmt.Sprintf("it is %d and should be 0", mx.Preference), f.q(dns.TypeMX)).mend("write 0", Change{"replace", f.Domain.FQDN() + " MX 0 ."})}
				}
			}
			return nil
		})},
		{"mx.null-but-sends", "the domain takes no mail, and lets others send in its name", Warning, []string{"RFC 7505 §4.2"}, needMX(func(f *Facts, records []dns.MX) []verdict {
			switch {
			case !null(records):
				return na("it takes mail")
			case errors.Is(f.SPF.Err, spf.ErrTemporary):
				return []verdict{unknown(f, f.SPF.Err, ZoneServers, f.q(dns.TypeTXT))}
			case deniesAll(f.SPF):
				return nil
			}
			return []verdict{fail("bounces to its senders cannot be delivered, and many receivers refuse them", f.q(dns.TypeMX), f.q(dns.TypeTXT)).
				mend("say that nobody sends", f.denyAll())}
		})},
		{"mx.ip-literal", "an MX record names an address", Error, []string{"RFC 5321 §5.1", "RFC 1123 §2.1"}, eachMX(func(f *Facts, mx dns.MX) []verdict {
			if _, literal := mx.Host.Addr(); !literal {
				return nil
			}
			return []verdict{fail("it must name a host, and most senders try none", f.q(dns.TypeMX)).at(mx.Host.String()).mend("give the address a name, and name that")}
		})},
		{"mx.invalid-name", "an MX record names no host name", Error, []string{"RFC 1123 §2.1", "RFC 5321 §2.3.5"}, eachMX(func(f *Facts, mx dns.MX) []verdict {
			if _, literal := mx.Host.Addr(); literal || hostName(mx.Host) {
				return nil
			}
			return []verdict{fail("a host name has letters, digits and hyphens, and a top level that is no number", f.q(dns.TypeMX)).at(mx.Host.String()).mend("name the host itself")}
		})},
		{"mx.cname", "an MX record names an alias", Error, []string{"RFC 2181 §10.3", "RFC 5321 §5.1"}, eachHost(func(f *Facts, h Host) []verdict {
			switch {
			case len(h.A.Aliases)+len(h.AAAA.Aliases) > 0:
			case h.A.Err != nil && h.AAAA.Err != nil:
				return []verdict{unknown(f, h.A.Err, f.sideOf(h.Name), addrQuestions(h.Name)...).at(h.Name.String())}
			default:
				return nil
			}
			return []verdict{fail("it is an alias of "+canonical(h).String(), addrQuestions(h.Name)...).at(h.Name.String()).
				mend("name the host itself", Change{"replace", fmt.Sprintf("%s MX %d %s", f.Domain.FQDN(), h.Preference, canonical(h).FQDN())})}
		})},
		{"mx.no-address", "an MX host has no address", Error, []string{"RFC 5321 §5.1"}, eachHost(func(f *Facts, h Host) []verdict {
			if h.err() != nil && len(h.addrs()) == 0 {
				return []verdict{unknown(f, h.err(), f.sideOf(h.Name), addrQuestions(h.Name)...).at(h.Name.String())}
			}
			if len(h.addrs()) > 0 || !h.A.Exists {
				return nil
			}
			return []verdict{fail("nobody can connect to it", addrQuestions(h.Name)...).at(h.Name.String()).by(f.dataOf(h.Name)).mend("give it an A or AAAA record")}
		})},
		{"mx.nxdomain", "an MX host does not exist", Error, []string{"RFC 5321 §5.1"}, eachHost(func(f *Facts, h Host) []verdict {
			if h.A.Err != nil && h.AAAA.Err != nil {
				return []verdict{unknown(f, h.A.Err, f.sideOf(h.Name), addrQuestions(h.Name)...).at(h.Name.String())}
			}
			if h.A.Err != nil || h.AAAA.Err != nil || h.A.Exists || h.AAAA.Exists {
				return nil
			}
			return []verdict{fail("there is no such name", addrQuestions(h.Name)...).at(h.Name.String()).mend("correct the name, or drop the record", Change{"delete", fmt.Sprintf("%s MX %d %s", f.Domain.FQDN(), h.Preference, h.Name.FQDN())})}
		})},
		{"mx.private-address", "an MX host has an address that the world cannot reach", Error, []string{"RFC 1918 §5", "RFC 6890"}, eachHost(func(f *Facts, h Host) (all []verdict) {
			for _, addr := range h.addrs() {
				if f.unreachable(addr) {
					all = append(all, fail(fmt.Sprintf("%s is said to be at %s", h.Name, addr), addrQuestions(h.Name)...).at(addr.String()).by(f.dataOf(h.Name)).mend("publish the address that the world sees"))
				}
			}
			if h.err() != nil {
				all = append(all, unknown(f, h.err(), f.sideOf(h.Name), addrQuestions(h.Name)...).at(h.Name.String()))
			}
			return all
		})},
		{"mx.duplicate", "an MX host stands twice", Notice, []string{"RFC 5321 §5.1"}, needMX(func(f *Facts, records []dns.MX) (all []verdict) {
			count := map[dns.Name]int{}
			for _, mx := range records {
				if count[mx.Host]++; count[mx.Host] == 2 {
					all = append(all, fail("it has two preferences, and the better one counts", f.q(dns.TypeMX)).at(mx.Host.String()).mend("drop the other", Change{"delete", fmt.Sprintf("%s MX %d %s", f.Domain.FQDN(), mx.Preference, mx.Host.FQDN())}))
				}
			}
			return all
		})},
		{"mx.same-address", "two MX hosts are one", Notice, []string{"RFC 5321 §5.1"}, needHosts(func(f *Facts) []verdict {
			at := map[netip.Addr]dns.Name{}
			var all []verdict
			for _, h := range f.Hosts {
				for _, addr := range h.addrs() {
					if other, known := at[addr]; known && other != h.Name {
						all = append(all, fail(fmt.Sprintf("%s and %s have the address %s", other, h.Name, addr), append(addrQuestions(h.Name), addrQuestions(other)...)...).at(addr.String()).mend("put one of them elsewhere, or drop its record: both are gone at the same time"))
					} else {
						at[addr] = h.Name
					}
				}
			}
			if len(all) == 0 {
				return f.hostTrouble()
			}
			return all
		})},
		{"mx.no-ipv6", "no MX host has an IPv6 address", Notice, []string{"RFC 3974"}, needHosts(func(f *Facts) []verdict {
			var asked []dns.Question
			for _, h := range f.Hosts {
				if len(h.AAAA.Records) > 0 {
					return nil
				}
				if h.AAAA.Err != nil {
					return []verdict{unknown(f, h.AAAA.Err, f.sideOf(h.Name), addrQuestions(h.Name)...)}
				}
				asked = append(asked, dns.Question{Name: h.Name, Type: dns.TypeAAAA})
			}
			return []verdict{fail("hosts with IPv6 alone cannot send here", asked...).mend("give one an AAAA record, once it listens there and the address has a name")}
		})},
		{"mx.too-many", "there are more MX records than SPF looks at", Warning, []string{"RFC 7208 §4.6.4"}, needMX(func(f *Facts, records []dns.MX) []verdict {
			if len(records) <= manyMX {
				return nil
			}
			return []verdict{fail(fmt.Sprintf("there are %d, and the SPF term mx is an error with more than %d", len(records), manyMX), f.q(dns.TypeMX)).mend("name fewer hosts, each with several addresses")}
		})},
		{"mx.inconsistent", "the servers have different MX records", Warning, []string{"RFC 1034 §4.3.5"}, needLive(func(f *Facts) []verdict {
			said := map[string][]string{}
			for _, s := range f.Zone.Servers {
				if text, ok := f.mxOf(s); ok {
					said[text] = append(said[text], s.Addr.String())
				}
			}
			if len(said) == 0 {
				return []verdict{f.zoneUnknown(f.q(dns.TypeMX))}
			}
			if len(said) < 2 {
				return nil
			}
			return []verdict{fail(clip(grouped(said)), f.q(dns.TypeMX)).by(ZoneServers).sure(Flapping).mend("see why the secondaries do not transfer the zone")}
		})},
		{"mx.unregistered", "an MX host's domain can be registered by anybody", Critical, []string{"RFC 5321 §5.1"}, eachMX(mxUnregistered)},
	}
}

func isNull(mx dns.MX) bool { return mx.Host == dns.Root }

func null(records []dns.MX) bool { return len(records) == 1 && isNull(records[0]) }

// deniesAll: the policy is that nobody sends.
func deniesAll(t *spf.Tree) bool {
	return t.Err == nil && strings.EqualFold(strings.Join(strings.Fields(t.Record), " "), "v=spf1 -all")
}

// denyAll is the record by which nobody sends. Where there is none yet, no other TXT record goes.
func (f *Facts) denyAll() Change {
	do := "replace"
	if errors.Is(f.SPF.Err, spf.ErrNotSPF) {
		do = "add"
	}
	return Change{do, f.Domain.FQDN() + ` TXT "v=spf1 -all"`}
}

// needMX: the MX records, or that there are none, are known.
func needMX(judge func(*Facts, []dns.MX) []verdict) func(*Facts) []verdict {
	return func(f *Facts) []verdict {
		if f.MX.Err != nil {
			return []verdict{unknown(f, f.MX.Err, ZoneServers, f.q(dns.TypeMX))}
		}
		return judge(f, f.MX.Records)
	}
}

func eachMX(judge func(*Facts, dns.MX) []verdict) func(*Facts) []verdict {
	return needMX(func(f *Facts, records []dns.MX) (all []verdict) {
		for _, mx := range records {
			if !isNull(mx) {
				all = append(all, judge(f, mx)...)
			}
		}
		return all
	})
}

// needHosts: there are hosts that take mail.
func needHosts(judge func(*Facts) []verdict) func(*Facts) []verdict {
	return needMX(func(f *Facts, records []dns.MX) []verdict {
		if len(f.Hosts) == 0 {
			return na("no host takes mail for the domain")
		}
		return judge(f)
	})
}

// eachHost leaves out what is no host name, which has a finding already.
func eachHost(judge func(*Facts, Host) []verdict) func(*Facts) []verdict {
	return needHosts(func(f *Facts) (all []verdict) {
		for _, h := range f.Hosts {
			if hostName(h.Name) {
				all = append(all, judge(f, h)...)
			}
		}
		return all
	})
}

// takesNone: the domain has a null MX, or neither an MX record nor an address (RFC 5321 §5.1).
func (f *Facts) takesNone() bool {
	implicit := len(f.MX.Records) == 0 && (len(f.Own.addrs()) > 0 || f.Own.err() != nil)
	return f.MX.Err == nil && len(f.Hosts) == 0 && !implicit
}

// hostTrouble is the verdict where hosts that take mail, or addresses of theirs, could not be asked
// for; nil where all could.
func (f *Facts) hostTrouble() []verdict {
	if f.MX.Err != nil {
		return []verdict{unknown(f, f.MX.Err, ZoneServers, f.q(dns.TypeMX))}
	}
	for _, h := range f.Hosts {
		if h.err() != nil {
			return []verdict{unknown(f, h.err(), f.sideOf(h.Name), addrQuestions(h.Name)...)}
		}
	}
	return nil
}

func canonical(h Host) dns.Name {
	if len(h.A.Aliases) > 0 {
		return h.A.Canonical
	}
	return h.AAAA.Canonical
}

// sideOf: a host in the domain's zone is the zone's matter.
func (f *Facts) sideOf(host dns.Name) Blame {
	zone := f.Zone.Name
	if zone.IsZero() {
		zone = f.Domain
	}
	if host.In(zone) {
		return ZoneServers
	}
	return MXHost
}

// dataOf is whose it is that what stands at a host's name is wrong, though it could be asked for.
func (f *Facts) dataOf(host dns.Name) Blame {
	if side := f.sideOf(host); side != ZoneServers {
		return side
	}
	return ZoneData
}

// hostName: letters, digits and hyphens, and a top level that is no number (RFC 1123 §2.1).
func hostName(n dns.Name) bool {
	last, labels := "", 0
	for label := range strings.SplitSeq(n.String(), ".") { // one with an escaped dot is none in any case
		if strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return false
		}
		last, labels = label, labels+1
	}
	return labels > 1 && strings.Trim(last, "0123456789") != ""
}

// unreachable: no packet from elsewhere arrives there; in a lab everybody is on this host.
func (f *Facts) unreachable(a netip.Addr) bool {
	return !(f.Lab && a.Unmap().IsLoopback()) && !global(a)
}

// global reports whether packets from elsewhere can arrive at an address.
func global(a netip.Addr) bool { return dns.Global(a) }

// mxOf gives the MX records as one server has them, in one line.
func (f *Facts) mxOf(s Server) (string, bool) {
	if !s.MX.serves() {
		return "", false
	}
	set, err := dns.LookupMX(context.Background(), dns.Given(s.MX.Said.Answer), f.Domain)
	return mxText(set.Records), err == nil
}

// mxOfServers gives what the zone's servers say, nil for nothing, and whether they agree.
func (f *Facts) mxOfServers() (said *string, agreed bool) {
	for _, s := range f.Zone.Servers {
		text, ok := f.mxOf(s)
		switch {
		case !ok:
		case said == nil:
			said = &text
		case *said != text:
			return said, false
		}
	}
	return said, true
}

func mxText(records []dns.MX) string {
	if len(records) == 0 {
		return "none"
	}
	words := make([]string, len(records))
	for i, mx := range records {
		words[i] = fmt.Sprintf("%d %s", mx.Preference, mx.Host)
	}
	return strings.Join(words, ", ")
}
