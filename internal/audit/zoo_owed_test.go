package audit

import (
	"slices"
	"strings"
	"testing"

	"mxward/internal/dns/dnstest"
)

// owedZoo is what was once judged wrongly, or not at all.
func owedZoo() []animal {
	away := mx("an MX host elsewhere, whose servers are silent", "@ MX 10 mx1\n@ MX 20 mx.lost.com.\n", "dane.denial-broken", "")
	away.com, away.hosts = "lost NS ns.lost\nns.lost A 192.0.2.99\n", map[string]dnstest.Behaviour{"192.0.2.99": dnstest.Silent}
	away.unknown = "mx.unregistered@mx-host@mx.lost.com mx.cname@mx-host@mx.lost.com mx.private-address@mx-host@mx.lost.com"
	return []animal{
		away,
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
