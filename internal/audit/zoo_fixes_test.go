package audit

import (
	"crypto/tls"
	"slices"
	"testing"
	"time"

	"mxward/internal/dns/dnstest"
	"mxward/internal/dns/zone"
	"mxward/internal/probe/probetest"
)

// doubtZoo is what must not be held against anybody, or only against the one whose it is.
func doubtZoo() []animal {
	ended := func(ca *probetest.Authority) *tls.Config { return ca.Server(-time.Hour, "mx2.example.com") }
	ahead := animal{signed: &zone.Signing{}, rootLasts: -time.Hour, lasts: -time.Hour, forwarded: true, credulous: true, gone: "dnssec.insecure", fails: "net.clock-skew"}
	sessions, programs := ahead, ahead
	sessions.why, sessions.unknown = "a clock that is weeks ahead, and certificates of MX hosts", "smtp.cert-expired@local-network@"+mx2At+" smtp.cert-expiring@local-network@"+mx2At
	sessions.smtp = mailHosts(func(ca *probetest.Authority, n probetest.Net) { n[mx2At].TLS = ended(ca) })
	programs.why, programs.unknown = "a clock that is weeks ahead, and certificates for mail programs", "autoconf.srv-cert@local-network@mx1.example.com:993"
	programs.certs = certOf("mx1.example.com", -time.Hour)
	return []animal{
		sessions, programs,
		{why: "MX hosts whose addresses nobody can ask for", drop: []string{"@ MX"}, add: "@ MX 10 mx.lost.com.\n", com: "lost NS ns.lost\nns.lost A 192.0.2.99\n", hosts: map[string]dnstest.Behaviour{"192.0.2.99": dnstest.Silent},
			smtp: mailHosts(nil), anyMore: true, passes: "smtp.unreachable", unknown: "smtp.unreachable@mx-host@example.com smtp.open-relay@mx-host@example.com"},
		{why: "an MX host of the zone without an address is the zone's own doing", add: "@ MX 30 bare\nbare TXT \"here\"\n", fails: "mx.no-address", blamed: "mx.no-address@zone@bare.example.com"},
		{why: "a private address of an MX host, which nobody can give a name", add: "@ MX 30 inside\ninside A 10.0.0.25\ninside TXT \"v=spf1 a -all\"\n", fails: "mx.private-address", anyMore: true, passes: "ptr.missing", blamed: "mx.private-address@zone@10.0.0.25"},
		{why: "a zone without keys is unsigned by its own choice", blamed: "dnssec.insecure@zone@example.com"},
		{why: "a zone with keys is unsigned by its parent's", signed: &zone.Signing{}, noDS: true, fails: "dnssec.key-without-ds", anyMore: true, blamed: "dnssec.insecure@parent-zone@example.com"},
	}
}

// TestChanges: a record to paste mends what is there, and makes no new mistake.
func TestChanges(t *testing.T) {
	for _, row := range []struct {
		why    string
		animal animal
		id     string
		want   Change
	}{
		{"beside other MX records a null MX would be mixed", animal{add: "* MX 10 mx1\n"}, "zone.wildcard-mail", Change{"replace", "*.example.com. MX 0 ."}},
		{"beside an address it is one more", animal{add: "* A 192.0.2.25\n"}, "zone.wildcard-mail", Change{"add", "*.example.com. MX 0 ."}},
		{"an alias of an alias: what stands in the zone is the first", animal{add: "mail CNAME next\nnext CNAME gone\n"}, "zone.dangling-cname", Change{"delete", "mail.example.com. CNAME next.example.com."}},
		{"an alias of what is gone", animal{add: "mail CNAME gone\n"}, "zone.dangling-cname", Change{"delete", "mail.example.com. CNAME gone.example.com."}},
		{"an alias of an alias into a domain that nobody has", animal{add: "_acme-challenge CNAME next\nnext CNAME id.gone.net.\n"}, "acme.delegation-dangling", Change{"delete", "_acme-challenge.example.com. CNAME next.example.com."}},
	} {
		t.Run(row.why, func(t *testing.T) {
			_, findings := row.animal.audit(t)
			i := slices.IndexFunc(findings, func(f Finding) bool { return f.ID == row.id && f.Status == Fail })
			if i < 0 || !slices.Equal(findings[i].Fix.Records, []Change{row.want}) {
				t.Errorf("%+v", findings[max(i, 0)])
			}
		})
	}
}
