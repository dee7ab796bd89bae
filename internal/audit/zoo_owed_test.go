package audit

import (
	"context"
	"crypto/tls"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/mailauth/fetch"
	"mxward/internal/probe/probetest"
)

// Where the closed rungs of the zoo's plan are.
const (
	decoyAt = "203.0.113.20"
	trapAt  = "203.0.113.30"
)

// closedPlan has a decoy before and a trap behind its gates.
const closedPlan = zooPlan + `
[[domain.mx]]
preference = 5
host = "decoy.example.com"
role = "refuse"
[[domain.mx]]
preference = 90
host = "trap.example.com"
role = "trap"
[[host]]
name = "decoy.example.com"
addresses = ["203.0.113.20"]
[[host]]
name = "trap.example.com"
addresses = ["203.0.113.30"]
`

// trapped is a domain of that plan.
func trapped(why, fails string, turn func(probetest.Net)) animal {
	a := animal{why: why, fails: fails, plan: closedPlan, add: "@ MX 5 decoy\n@ MX 90 trap\ndecoy A 203.0.113.20\ntrap A 203.0.113.30\ndecoy TXT \"v=spf1 -all\"\ntrap TXT \"v=spf1 -all\"\n",
		arpa: zooPTR + "20.113.0.203 PTR decoy.example.com.\n30.113.0.203 PTR trap.example.com.\n"}
	a.smtp = mailHosts(func(_ *probetest.Authority, n probetest.Net) {
		n[decoyAt] = &probetest.Host{Err: syscall.ECONNREFUSED}
		n[trapAt] = &probetest.Host{Says: map[string]string{"greeting": probetest.Hang}} // so slow that nothing comes
		if turn != nil {
			turn(n)
		}
	})
	return a
}

// nameless is a domain of that plan where the addresses of closed rungs have no names.
func nameless(why, fails, more, arpa string) animal {
	a := trapped(why, fails, nil)
	a.plan, a.arpa = a.plan+more, arpa
	if more != "" {
		a.blamed, a.anyMore = "ptr.missing@third-party@"+trapAt, true // spf.own-ip-not-covered and such
	}
	return a
}

// TestTrapInTime: a trap is not visited to its end, a decoy is not held against the domain, and
// nothing is left open by either.
func TestTrapInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := trapped("", "", nil)
		began := time.Now()
		facts := a.world(t).Gather(t.Context(), dns.MustName("example.com"))
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it took %s", took)
		}
		findings := Judge(facts, Checks())
		if Failed(findings, Warning) || Inconclusive(findings, Checks(), Warning) {
			t.Error("something is wrong or open")
			for _, f := range findings {
				if f.Status == Unknown && !f.aside || f.Status == Fail && f.Severity.AtLeast(Warning) {
					t.Errorf("%s %s: %s %s", f.ID, f.Target, f.Status, f.Detail)
				}
			}
		}
	})
}

// TestClosedWithoutUs: where our own port 25 is shut, nothing is known of closed rungs.
func TestClosedWithoutUs(t *testing.T) {
	_, findings := trapped("", "", func(n probetest.Net) {
		for at := range n {
			n[at] = &probetest.Host{Err: probetest.ErrLost}
		}
	}).audit(t)
	for _, f := range findings {
		if f.ID == "plan.rung-mismatch" && (f.Status != Unknown || f.Blame != LocalNetwork) {
			t.Errorf("%s: %s, %s: %s", f.Target, f.Status, f.Blame, f.Detail)
		}
	}
}

// owedZoo is what was once judged wrongly, or not at all.
func owedZoo() []animal {
	away := mx("an MX host elsewhere, whose servers are silent", "@ MX 10 mx1\n@ MX 20 mx.lost.com.\n", "dane.denial-broken", "")
	away.com, away.hosts = "lost NS ns.lost\nns.lost A 192.0.2.99\n", map[string]dnstest.Behaviour{"192.0.2.99": dnstest.Silent}
	away.unknown = "mx.unregistered@mx-host@mx.lost.com mx.cname@mx-host@mx.lost.com mx.private-address@mx-host@mx.lost.com"
	return []animal{
		away,
		{why: "no way to the host of the MTA-STS policy from here", add: "_mta-sts TXT \"v=STSv1; id=1;\"\nmta-sts AAAA 2001:db8::80\n", noWeb: syscall.ENETUNREACH, gone: "mtasts.txt-missing", unknown: "mtasts.https-error@local-network"},
		{why: "the MTA-STS policy, and no authority is known here", add: "_mta-sts TXT \"v=STSv1; id=1;\"\nmta-sts A 203.0.113.80\n", noWeb: fetch.ErrNoRoots, gone: "mtasts.txt-missing", unknown: "mtasts.https-error@local-network"},
		{why: "a name server that routers know nothing of", astray: ns2At, fails: "deleg.no-udp", blamed: "deleg.no-udp@zone-ns@" + ns2At},
		{why: "our own gateway is gone", astray: "*", fails: "resolver.unreachable", gone: usual, blamed: "resolver.unreachable@local-network", unknown: "spf.missing@local-network deleg.no-ns@local-network"},
		twoNames("one address of two names shows each its certificate", "", func(ca *probetest.Authority) *tls.Config {
			return ca.Chosen(2*month, "mx1.example.com", "mx3.example.com")
		}),
		twoNames("one address of two names has a certificate for both", "", func(ca *probetest.Authority) *tls.Config {
			return ca.Server(2*month, "mx1.example.com", "mx3.example.com")
		}),
		twoNames("one address of two names has a certificate for the first", "smtp.cert-name", func(ca *probetest.Authority) *tls.Config { return ca.Server(2*month, "mx1.example.com") }),
		trapped("a trap and a decoy as the plan has them", "", nil),
		trapped("a decoy at which somebody listens", "plan.rung-mismatch", func(n probetest.Net) { n[decoyAt] = &probetest.Host{} }),
		trapped("a decoy that is silent", "plan.rung-mismatch", func(n probetest.Net) { n[decoyAt] = &probetest.Host{Err: probetest.ErrLost} }),
		trapped("a trap at which nobody listens", "plan.rung-mismatch", func(n probetest.Net) { n[trapAt] = &probetest.Host{Err: syscall.ECONNREFUSED} }),
		nameless("a trap and a decoy without names", "", "", zooPTR),
		nameless("a gate without a name beside them", "ptr.missing", "", "25.2.0.192 PTR mx1.example.com.\n"),
		nameless("the plan has another host at the trap's address", "ptr.missing", "[[host]]\nname = \"out.example.com\"\naddresses = [\"203.0.113.30\"]\nlisten = [\"203.0.113.31:25\"]\n", zooPTR),
		{why: "another resolver, and an alias to a name that is gone", forwarded: true, add: "mail CNAME old.example.net.\n", net: "ns.example A 192.0.2.3\n", fails: "zone.dangling-cname"},
		{why: "another resolver that denies the end of an alias", forwarded: true, between: denying("there.example.net"), add: "mail CNAME there.example.net.\n", net: "there.example A 203.0.113.80\n",
			unknown: "zone.dangling-cname@local-resolver@mail.example.com"},
	}
}

// TestTakesNone: a domain that takes no mail is told nothing about mail's way in.
func TestTakesNone(t *testing.T) {
	for why, lines := range map[string]string{"a null MX": "@ MX 0 .\n", "neither MX nor address": ""} {
		a := animal{drop: []string{"@ MX", "_smtp._tls", "autoconfig", "autodiscover", "_imaps._tcp"}, add: lines, lists: zooLists(), net: listsAlive, smtp: mailHosts(nil)}
		_, findings := a.audit(t)
		for _, f := range findings {
			area, _, _ := strings.Cut(f.ID, ".")
			in := slices.Contains([]string{"mtasts", "tlsrpt", "dane", "autoconf", "ptr", "smtp"}, area) ||
				slices.Contains([]string{"dnsbl.listed-ip", "dnsbl.listed-policy", "net.port25-blocked", "mx.no-ipv6", "mx.cname", "mx.no-address", "mx.nxdomain", "mx.private-address", "mx.same-address", "spf.helo-missing"}, f.ID)
			if in && f.Status != NotApplicable {
				t.Errorf("%s: %s: %s %s", why, f.ID, f.Status, f.Detail)
			}
		}
	}
}

// denying is a resolver that hides one name.
func denying(name string) func(dns.Resolver) dns.Resolver {
	return func(r dns.Resolver) dns.Resolver {
		return dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
			answer, err := r.Resolve(ctx, q)
			of := func(rr dns.RR) bool { return dns.NameOf(rr.Header().Name) == dns.MustName(name) }
			if slices.ContainsFunc(answer.Answer, of) {
				answer.Answer, answer.Rcode = slices.DeleteFunc(slices.Clone(answer.Answer), of), dns.NXDomain
			}
			return answer, err
		})
	}
}

// TestDanglingWord: who says that there is nothing at an alias's end, and how sure that is.
func TestDanglingWord(t *testing.T) {
	gone := animal{add: "mail CNAME old.example.net.\n", net: "ns.example A 192.0.2.3\n"}
	other, alone := gone, gone
	other.forwarded = true
	alone.forwarded, alone.asker = true, rootless
	for _, tt := range []struct {
		why   string
		a     animal
		sure  Confidence
		words string
	}{
		{"our own resolver asks the servers themselves", gone, Single, "it is an alias of old.example.net, which does not exist"},
		{"another resolver, and the servers say so too", other, Confirmed, "; so say the resolver 203.0.113.53 and the servers there"},
		{"another resolver, and nobody else is heard", alone, Single, "; so says the resolver 203.0.113.53, and nobody else could be asked"},
	} {
		_, findings := tt.a.audit(t)
		i := slices.IndexFunc(findings, func(f Finding) bool { return f.ID == "zone.dangling-cname" && f.Status == Fail })
		if i < 0 || findings[i].Confidence != tt.sure || !strings.HasSuffix(findings[i].Detail, tt.words) {
			t.Errorf("%s: %+v", tt.why, findings[max(i, 0)])
		}
	}
}

// twoNames is a domain whose MX hosts mx1 and mx3 have one address.
func twoNames(why, fails string, shows func(*probetest.Authority) *tls.Config) animal {
	a := animal{why: why, fails: strings.TrimSpace("mx.same-address " + fails), drop: []string{"mx1 AAAA"}, add: "@ MX 30 mx3\nmx3 A 192.0.2.25\nmx2 AAAA 2001:db8::25\nmx3 TXT \"v=spf1 a -all\"\n", anyMore: true}
	a.passes = "smtp.cert-name"
	if fails != "" {
		a.passes, a.blamed = "", fails+"@mx-host@mx3.example.com"
	}
	a.smtp = mailHosts(func(ca *probetest.Authority, n probetest.Net) {
		n[mx1At].TLS, n[mx1AtV6].TLS = shows(ca), ca.Server(2*month, "mx2.example.com")
	})
	return a
}
