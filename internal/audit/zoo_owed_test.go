package audit

import (
	"context"
	"slices"
	"strings"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

// owedZoo is what was once judged wrongly, or not at all.
func owedZoo() []animal {
	away := mx("an MX host elsewhere, whose servers are silent", "@ MX 10 mx1\n@ MX 20 mx.lost.com.\n", "dane.denial-broken", "")
	away.com, away.hosts = "lost NS ns.lost\nns.lost A 192.0.2.99\n", map[string]dnstest.Behaviour{"192.0.2.99": dnstest.Silent}
	away.unknown = "mx.unregistered@mx-host@mx.lost.com mx.cname@mx-host@mx.lost.com mx.private-address@mx-host@mx.lost.com"
	return []animal{
		away,
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
