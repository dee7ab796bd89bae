package audit

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

// TestHalfControl: our network came back while our own side was looked at, so that a part of that
// look failed. The next of many domains, which meets no trouble, is not judged by it.
func TestHalfControl(t *testing.T) {
	failed := &dns.Error{Trouble: dns.NoNetwork}
	for _, tt := range []struct {
		why   string
		asked func(dns.Question) bool // in vain
	}{
		{"the name that nobody has", func(q dns.Question) bool { return q.Type == dns.TypeA && q.Name.CountLabels() == 1 }},
		{"what is signed", func(q dns.Question) bool { return q.Name == dns.Root && q.Type == dns.TypeSOA }},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				auditor := animal{}.world(t)
				inner, half := auditor.Resolver, true
				auditor.Common = &Common{}
				auditor.Resolver = dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
					if half && tt.asked(q) {
						return dns.Answer{}, failed
					}
					return inner.Resolve(ctx, q)
				})
				look := func() []Finding {
					return Judge(auditor.Gather(t.Context(), dns.MustName("example.com")), Checks())
				}
				if !Ours(look()) {
					t.Error("nothing is our own side's fault while it is")
				}
				half = false
				time.Sleep(2 * controlSoon)
				for _, f := range look() {
					if Ours([]Finding{f}) {
						t.Errorf("%s: %s, %s", f.ID, f.Status, f.Detail)
					}
				}
			})
		})
	}
}

// TestOutOfReach: servers that this host has no way to are not blamed for it, while others are heard,
// and our own side as a whole is not away.
func TestOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			why   string
			hosts map[string]dnstest.Behaviour
			blame Blame
		}{
			{"no way to any", map[string]dnstest.Behaviour{ns1At: dnstest.NoRoute, ns2At: dnstest.NoRoute}, LocalNetwork},
			{"one is silent", map[string]dnstest.Behaviour{ns1At: dnstest.NoRoute, ns2At: dnstest.Silent}, ZoneServers},
		} {
			f := animal{hosts: tt.hosts}.world(t).Gather(t.Context(), dns.MustName("example.com"))
			if v := f.zoneUnknown(); v.blame != tt.blame || f.Away() {
				t.Errorf("%s: %s is to blame (%s), away: %t", tt.why, v.blame, v.detail, f.Away())
			}
			for _, found := range Judge(f, Checks()) {
				if tt.blame == LocalNetwork && found.Status == Unknown && found.Blame.theirs() {
					t.Errorf("%s: %s: %s, %s", tt.why, found.ID, found.Blame, found.Detail)
				}
			}
		}
	})
}

// TestNoWay: the servers of the zone above have addresses of a family alone that this host does not
// have. That is its own fault, but nothing that could be waited for.
func TestNoWay(t *testing.T) {
	heard := Heard{Server: netip.MustParseAddrPort("192.0.2.1:53"), Said: dns.Said{Answer: dns.Answer{Authoritative: true}}}
	mute := func(at ...string) (out []Heard) {
		for _, a := range at {
			out = append(out, Heard{Server: netip.MustParseAddrPort(a), Err: &dns.Error{Trouble: dns.NoNetwork}})
		}
		return out
	}
	for _, tt := range []struct {
		why   string
		above []Heard
		want  bool
	}{
		{"of the family that the root is heard over", mute("192.0.2.2:53"), true},
		{"of both", mute("192.0.2.2:53", "[2001:db8::2]:53"), true},
		{"of the other", mute("[2001:db8::2]:53"), false},
		{"one is heard", slices.Concat(mute("192.0.2.2:53"), []Heard{heard}), false},
	} {
		f := &Facts{
			Control: Control{Roots: append(mute("[2001:db8::1]:53"), heard)},
			Zone:    Zone{Parent: dns.MustName("com"), Parents: tt.above, Err: errors.New("no server of com leads on")},
		}
		if got := f.Away(); got != tt.want {
			t.Errorf("%s: away is %t", tt.why, got)
		}
	}
}
