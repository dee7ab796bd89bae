package audit

import (
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
