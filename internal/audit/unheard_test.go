package audit

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"mxward/internal/dns"
	"mxward/internal/probe/probetest"
)

// silentWorld is a domain of which everything is wanted, in a world that says nothing: no host takes
// a connection, no registry answers, and what the DNS says is up to turn.
func silentWorld(turn func(*animal)) animal {
	a := animal{
		selectors: []string{"s1", "s2"}, senders: []string{"192.0.2.25"}, origins: true, registry: errors.New("status 429"), lists: zooLists(),
		plan: closedPlan + copiesPlan[len(zooPlan):] + accountPlan[len(zooPlan):], add: "@ MX 5 decoy\n@ MX 90 trap\ndecoy A 203.0.113.20\ntrap A 203.0.113.30\n",
		message: "Return-Path: <alice@example.com>\r\n" + byExample + alice, smtp: lost(probetest.ErrLost, mx1At, mx1AtV6, mx2At),
		certs: &CertLook{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, io.ErrUnexpectedEOF }},
	}
	turn(&a)
	return a
}

// failingBut makes the zone's servers fail at all but these types.
func failingBut(types ...dns.Type) func(*animal) {
	return func(a *animal) {
		a.turn = func(q dns.Question, answer *dns.Answer) {
			if !slices.Contains(types, q.Type) {
				*answer = dns.Answer{Rcode: dns.ServFail}
			}
		}
	}
}

// TestUnheard: "could not ask" is never "is not there", nor "is fine". Whatever does not come is
// unknown, or skipped; what is said all the same stands here, with the reason.
func TestUnheard(t *testing.T) {
	const (
		// What nobody need be asked for: the selectors, the message and the plan were given, and the
		// profile was chosen.
		given = "dkim.no-selector-known dkim.unsigned dkim.mismatch-with-plan dkim.key-old mtasts.id-stale dane.missing dmarc.not-reject dmarc.parked-not-reject mx.parked-not-null spf.parked-not-deny"
		// Our own side: that nobody answers us is what the first says, and of the others there is
		// nothing to look at.
		ours = " resolver.unreachable resolver.no-dnssec resolver.edns-broken resolver.no-tcp net.no-ipv6"
		// The root and the parent are heard, and the servers say their SOA record: that the rest fails
		// is for the delegation no matter. The glue gives the servers' addresses. That there are no
		// signatures is seen at the SOA record, and that there is no DS record at the parent. The rows
		// …temperror and …servfail are about just this failure.
		served = " resolver net soa deleg -deleg.glue-mismatch -deleg.inconsistent-rrset -deleg.ns-cname -deleg.same-as -deleg.expired -deleg.expiring" +
			" -resolver.disagrees -net.port25-blocked dnssec.insecure dnssec.digest-sha1 dnssec.rrsig-expired dnssec.rrsig-expiring caa.servfail dmarc.temperror"
		noNS = " -deleg.ns-inconsistent -deleg.ns-mismatch-parent-extra -deleg.ns-mismatch-child-extra"
		// The MX records are heard, and so is that a name which was made up has none; they are those
		// of the plan, and not signed. The hosts are in the domain's zone, where nobody can register
		// anything. That their addresses cannot be had is what dane.denial-broken says.
		mail    = " mx resolver.disagrees dnssec.bogus plan.unsafe-order zone.wildcard-mail dane.denial-broken"
		noHosts = " -mx.cname -mx.no-address -mx.nxdomain -mx.private-address -mx.same-address -mx.no-ipv6"
		// The addresses are heard: nobody asks for TLSA records in a zone that is not signed. Of two rows
		// about names of addresses that cannot be had, one fails and the other does not.
		addresses = " deleg.glue-mismatch deleg.ns-cname dane plan autoconf.autoconfig-missing autoconf.autodiscover-missing zone.dangling-cname zone.cname-coexistence"
	)
	for _, w := range []struct {
		why  string
		turn func(*animal)
		said string // ids and areas that are known all the same; those with - in front are not
	}{
		{"no network, and a resolver of our own", func(a *animal) { a.dark = true }, given + ours},
		{"no network, and another resolver", func(a *animal) { a.dark, a.forwarded = true, true }, given + ours},
		{"the zone's servers fail at all but SOA", failingBut(dns.TypeSOA), given + served + noNS},
		{"at all but SOA and NS", failingBut(dns.TypeSOA, dns.TypeNS), given + served},
		{"at all but SOA, NS and MX", failingBut(dns.TypeSOA, dns.TypeNS, dns.TypeMX), given + served + mail + noHosts},
		{"at all but SOA, NS, MX and addresses, whose names fail too", func(a *animal) {
			failingBut(dns.TypeSOA, dns.TypeNS, dns.TypeMX, dns.TypeA, dns.TypeAAAA)(a)
			a.arpa = "2.0.192 NS ns.gone.net.\n100.51.198 NS ns.gone.net.\n113.0.203 NS ns.gone.net.\n"
		}, given + served + mail + addresses + " ptr.zone-lame ptr.temperror"},
	} {
		t.Run(w.why, func(t *testing.T) {
			_, findings := silentWorld(w.turn).audit(t)
			unsaid(t, findings, w.said)
		})
	}
	t.Run("we were told to stop", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			facts := silentWorld(func(*animal) {}).world(t).Gather(ctx, dns.MustName("example.com"))
			unsaid(t, Judge(facts, Checks()), given+ours)
		})
	})
}

// unsaid holds that nothing is said but by these ids and areas.
func unsaid(t *testing.T, findings []Finding, said string) {
	t.Helper()
	words := strings.Fields(said)
	for _, f := range findings {
		area, _, _ := strings.Cut(f.ID, ".")
		excused := slices.Contains(words, f.ID) || slices.Contains(words, area) && !slices.Contains(words, "-"+f.ID)
		if !excused && f.Status != Unknown && f.Status != Skipped {
			t.Errorf("%s %s: %s: %s", f.ID, f.Target, f.Status, f.Detail)
		}
	}
}
