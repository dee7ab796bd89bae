package audit

import (
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

// become makes all hosts behave so.
func become(n *dnstest.Net, how dnstest.Behaviour) {
	for at, h := range n.Hosts() {
		h.Behaviour = how
		n.Set(at.String(), h)
	}
}

// TestGone: whenever our network goes, it is not held against a domain, nor is what was known of our
// side before; and as soon as it is back, it is known to be.
func TestGone(t *testing.T) {
	for _, tt := range []struct {
		why   string
		how   dnstest.Behaviour
		since time.Duration // our own side was looked at so long before
	}{
		{"no route, at once after our side was looked at", dnstest.NoRoute, 0},
		{"no route, a while after", dnstest.NoRoute, 10 * time.Second},
		{"nobody answers, at once after", dnstest.Silent, 0},
		{"nobody answers, a while after", dnstest.Silent, 10 * time.Second},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n dnstest.Net
				auditor := animal{plain: "@ 300 SOA ns1 hostmaster 1 14400 3600 604800 3600\n@ 300 NS ns1\nns1 300 A " + plainAt + "\n"}.worldOn(t, &n)
				auditor.Common = &Common{}
				if auditor.Gather(t.Context(), dns.MustName("example.com")).Away() {
					t.Error("our own side is away before it goes")
				}
				time.Sleep(tt.since)
				become(&n, tt.how)
				facts := auditor.Gather(t.Context(), dns.MustName("plain.com"))
				if !facts.Away() {
					t.Error("our own side is not away")
				}
				for _, f := range Judge(facts, Checks()) {
					if f.Blame.theirs() {
						t.Errorf("%s at %s: %s, and %s is to blame: %s", f.ID, f.Target, f.Status, f.Blame, f.Detail)
					}
				}
				become(&n, dnstest.Honest)
				time.Sleep(2 * controlSoon)
				if auditor.Gather(t.Context(), dns.MustName("example.com")).Away() {
					t.Error("our own side is away after it has come back")
				}
			})
		})
	}
}
