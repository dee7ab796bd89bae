package audit

import (
	"errors"
	"fmt"
	"iter"
	"time"

	"mxward/internal/dns"
)

// slow is when a resolver is; ours: a message needs dozens of answers.
const slow = time.Second

var (
	rootNS  = dns.Question{Name: dns.Root, Type: dns.TypeNS}
	rootSOA = dns.Question{Name: dns.Root, Type: dns.TypeSOA}
)

func resolverChecks() []Check {
	return []Check{
		{"resolver.unreachable", "the resolver does not answer", Critical, []string{"RFC 1035 §7"}, resolverUnreachable},
		{"resolver.slow", "the resolver is slow", Warning, []string{"RFC 5321 §4.5.3.2"}, needResolver(func(f *Facts) []verdict {
			if f.Control.Took <= slow {
				return nil
			}
			return []verdict{fail(fmt.Sprintf("it took %s to name the root servers", f.Control.Took.Round(time.Millisecond)), rootNS).by(LocalResolver).mend("see what it waits for: forwarders, IPv6 that leads nowhere, a full line")}
		})},
		{"resolver.servfail-rate", "the resolver fails at many names", Warning, []string{"RFC 1034 §5.3.3"}, resolverFails},
		{"resolver.no-dnssec", "the resolver does not validate", Notice, []string{"RFC 4035 §3.2.3", "RFC 7672 §2.2"}, resolverNoDNSSEC},
		{"resolver.strips-dnssec", "the resolver takes signatures away", Warning, []string{"RFC 4035 §3.2.1"}, resolverStrips},
		{"resolver.bogus-accepted", "the resolver takes forged signatures", Error, []string{"RFC 4035 §5"}, resolverTakesForged},
		{"resolver.rewrites-nxdomain", "the resolver makes up names", Error, []string{"RFC 2308 §2.1"}, resolverRewrites},
		{"resolver.filtered", "the resolver filters answers", Error, []string{"RFC 8914 §4.16"}, resolverFiltered},
		{"resolver.no-tcp", "the resolver takes no TCP", Error, []string{"RFC 7766 §5"}, resolverNoTCP},
		{"resolver.edns-broken", "the resolver does not know EDNS", Warning, []string{"RFC 6891 §7"}, resolverNoEDNS},
		{"resolver.disagrees", "the resolver and the zone's servers disagree", Warning, []string{"RFC 1034 §3.7"}, resolverDisagrees},
		{"resolver.udp53-intercepted", "somebody answers in the servers' place", Error, []string{"RFC 1034 §6.1", "RFC 1035 §4.1.1"}, resolverIntercepted},
		{"net.no-ipv6", "this host has no IPv6", Notice, []string{"RFC 3596"}, netNoIPv6},
		{"net.clock-skew", "this host's clock is wrong", Error, []string{"RFC 4035 §5.3.1"}, netClock},
		{"net.port25-blocked", "this network lets nothing out to port 25", Notice, []string{"RFC 5068 §3.1"}, port25Blocked},
	}
}

func resolverUnreachable(f *Facts) []verdict {
	err := f.Control.Resolver.Err
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotRecorded):
		return []verdict{unknown(f, err, LocalResolver, rootNS)}
	}
	return []verdict{fail(clip(err.Error()), rootNS).by(f.blame(err, LocalResolver)).mend("see that it runs and may be asked from here, and that questions to port 53 get out")}
}

// needResolver: a resolver that does not answer is not judged further.
func needResolver(judge func(*Facts) []verdict) func(*Facts) []verdict {
	return func(f *Facts) []verdict {
		if err := f.Control.Resolver.Err; err != nil {
			return []verdict{unknown(f, err, LocalResolver, rootNS)}
		}
		return judge(f)
	}
}

// rootSigned reports whether a root server itself gives signatures.
func (f *Facts) rootSigned() bool {
	for _, h := range f.Control.Roots {
		if h.Err == nil && len(dns.Signatures(h.Said.Answer)) > 0 {
			return true
		}
	}
	return false
}

// resolverNoDNSSEC: only our own resolver can say that it validated; what another one says
// about that is not to be believed (RFC 4035 §4.9.3).
func resolverNoDNSSEC(f *Facts) []verdict {
	switch c := f.Control.Forged; {
	case f.Server.IsValid() && c != nil && c.Proved && c.Addrs.Err != nil:
		return nil
	case f.Server.IsValid() && c != nil && c.Proved:
		return []verdict{fail(fmt.Sprintf("it answers for %s, whose DS records mean no key of the zone", c.Name), dns.Question{Name: c.Name, Type: dns.TypeA}).by(LocalResolver).mend(ownResolver)}
	case f.Server.IsValid():
		return na("whether another resolver validates cannot be told from here")
	case f.Control.Signed.Err != nil:
		return []verdict{unknown(f, f.Control.Signed.Err, LocalResolver, rootSOA)}
	case !f.rootSigned():
		return na("the root that is asked is not signed")
	case f.Control.Signed.Said.Authentic:
		return nil
	}
	return []verdict{fail("the root's signed answer was not validated", rootSOA).by(LocalResolver).mend("turn validation on, with a trust anchor that is current")}
}

func resolverStrips(f *Facts) []verdict {
	switch {
	case f.Control.Signed.Err != nil:
		return []verdict{unknown(f, f.Control.Signed.Err, LocalResolver, rootSOA)}
	case !f.rootsHeard():
		return []verdict{{status: Unknown, blame: LocalNetwork, detail: "no root server could be asked to compare with", asked: []dns.Question{rootSOA}}}
	case !f.rootSigned() || len(dns.Signatures(f.Control.Signed.Said.Answer)) > 0:
		return nil
	}
	return []verdict{fail("a root server signs its answer, and the resolver gives it without", rootSOA).by(LocalResolver).mend(ownResolver)}
}

func resolverRewrites(f *Facts) []verdict {
	made := f.Control.NoSuch
	switch {
	case made.Err != nil:
		return []verdict{unknown(f, made.Err, LocalResolver)}
	case len(made.Records) == 0:
		return nil
	}
	return []verdict{fail(fmt.Sprintf("a top-level name that nobody has is said to have the address %s", made.Records[0]), dns.Question{Name: made.Canonical, Type: dns.TypeA}).by(LocalResolver).mend(ownResolver)}
}

// The extended errors by which a resolver says that it hides something: RFC 8914 §4.16 to §4.19.
const (
	extendedBlocked    = 15
	extendedProhibited = 18
)

// hiding reports whether an extended error is one of those.
func hiding(extended uint16) bool {
	return extendedBlocked <= extended && extended <= extendedProhibited
}

func resolverFiltered(f *Facts) []verdict {
	if f.Control.Resolver.Err != nil {
		return []verdict{unknown(f, f.Control.Resolver.Err, LocalResolver, rootNS)}
	}
	var all []verdict
	seen := map[dns.Question]bool{}
	for _, x := range f.Log {
		resolver := f.Server.IsValid() && x.Server == f.Server.String() && x.Transport == ""
		if resolver && hiding(x.Extended) && !seen[bare(x.question)] {
			seen[bare(x.question)] = true
			all = append(all, fail(fmt.Sprintf("it hides %s by a policy of its own (extended error %d)", x.question, x.Extended), bare(x.question)).at(x.Name.String()).by(LocalResolver).mend(ownResolver))
		}
	}
	return all
}

func resolverNoTCP(f *Facts) []verdict {
	switch tcp := f.Control.TCP; {
	case tcp == nil:
		return na("no other resolver is asked")
	case tcp.Err != nil && (f.Control.Resolver.Err != nil || stopped(tcp.Err)):
		return []verdict{unknown(f, tcp.Err, LocalResolver, rootNS)}
	case tcp.Err != nil:
		return []verdict{fail("answers that do not fit into a datagram are lost: "+clip(tcp.Err.Error()), rootNS).by(LocalResolver).mend("let TCP to port 53 through, or use another resolver")}
	}
	return nil
}

func resolverNoEDNS(f *Facts) []verdict {
	switch tcp := f.Control.TCP; {
	case tcp == nil:
		return na("no other resolver is asked")
	case tcp.Err != nil:
		return []verdict{unknown(f, tcp.Err, LocalResolver, rootNS)}
	case !tcp.Said.EDNS:
		return []verdict{fail("it answers without EDNS: no signatures come through, and each larger answer costs a connection", rootNS).by(LocalResolver).mend(ownResolver)}
	}
	return nil
}

// resolverDisagrees compares the MX records. A cache may be behind: that is no certainty.
func resolverDisagrees(f *Facts) []verdict {
	theirs, agreed := f.mxOfServers()
	switch {
	case f.MX.Err != nil:
		return []verdict{unknown(f, f.MX.Err, ZoneServers, f.q(dns.TypeMX))}
	case f.absent():
		return na("the domain does not exist, by either")
	case f.private():
		return []verdict{fail("the resolver knows the domain, and the servers of "+zoneText(f.above())+" deny it: what is said here of its mail is the resolver's own view", f.q(dns.TypeMX), f.soaAt(f.Domain)).by(LocalResolver).mend("to judge what the world sees, ask without --server")}
	case theirs == nil:
		return []verdict{f.zoneUnknown(f.q(dns.TypeMX))}
	case !agreed:
		return na("the zone's servers disagree among themselves: mx.inconsistent")
	case len(f.MX.Aliases) > 0 || mxText(f.MX.Records) == *theirs:
		return nil
	}
	return []verdict{fail(fmt.Sprintf("the resolver says %s, the zone's servers say %s", mxText(f.MX.Records), *theirs), f.q(dns.TypeMX)).by(LocalResolver).sure(Flapping).
		mend("if the records were changed lately, wait for their TTL; else ask who runs the resolver")}
}

func netNoIPv6(f *Facts) []verdict {
	four, six, sixTried := 0, 0, 0
	for h := range f.heardAll() {
		is6 := h.Server.Addr().Is6()
		if is6 {
			sixTried++
		}
		switch {
		case h.Err != nil:
		case is6:
			six++
		default:
			four++
		}
	}
	switch {
	case sixTried == 0:
		return na("nobody with an IPv6 address was to be asked")
	case six > 0:
		return nil
	case four == 0:
		return []verdict{{status: Unknown, blame: LocalNetwork, detail: "nobody outside could be heard"}}
	}
	return []verdict{fail(fmt.Sprintf("%d questions over IPv6 and none was answered, while %d were over IPv4", sixTried, four)).by(LocalNetwork).mend("mend this host's way out over IPv6, or turn it off")}
}

// heardAll gives what all the servers said that were asked by themselves.
func (f *Facts) heardAll() iter.Seq[Heard] {
	return func(yield func(Heard) bool) {
		for _, some := range [][]Heard{f.Control.Roots, f.Zone.Parents} {
			for _, h := range some {
				if !yield(h) {
					return
				}
			}
		}
		for _, s := range f.Zone.Servers {
			if !s.Unasked && !yield(s.SOA) {
				return
			}
		}
	}
}
