package audit

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"mxward/internal/dns"
	"mxward/internal/probe/probetest"
)

// TestRungsRefusedHere: where our own network refuses whatever goes out to port 25, no trap is accused
// by the word of a decoy, which refuses anyway.
func TestRungsRefusedHere(t *testing.T) {
	for _, tt := range []struct {
		why     string
		control error // at well-known hosts; nil: they take connections
		want    Status
		blame   Blame
	}{
		{"well-known hosts refuse too", syscall.ECONNREFUSED, Unknown, LocalNetwork},
		{"well-known hosts take connections", nil, Fail, MXHost},
	} {
		a := trapped(tt.why, "", nil)
		a.drop, a.controls, a.net = []string{"@ MX"}, "control.net second.net", zooControls
		a.smtp = func(*probetest.Authority) probetest.Net {
			n := probetest.Net{}
			for _, at := range []string{decoyAt, trapAt} {
				n[at] = &probetest.Host{Err: syscall.ECONNREFUSED}
			}
			for _, at := range []string{otherAt, thirdAt} {
				n[at] = &probetest.Host{Err: tt.control}
			}
			return n
		}
		_, findings := a.audit(t)
		i := slices.IndexFunc(findings, func(f Finding) bool { return f.ID == "plan.rung-mismatch" && f.Target == trapAt })
		if i < 0 || findings[i].Status != tt.want || findings[i].Blame != tt.blame {
			t.Errorf("%s: %+v", tt.why, findings[max(i, 0)])
		}
		blocked := slices.ContainsFunc(findings, func(f Finding) bool { return f.ID == "net.port25-blocked" && f.Status == Fail })
		if blocked != (tt.control != nil) {
			t.Errorf("%s: net.port25-blocked is said: %v", tt.why, blocked)
		}
	}
}

// TestRungsCutShort: a decoy that was not waited for is not called silent.
func TestRungsCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := trapped("", "", func(n probetest.Net) { n[decoyAt] = &probetest.Host{Err: probetest.ErrLost} })
		auditor := a.world(t)
		facts := auditor.Gather(t.Context(), dns.MustName("example.com"))
		ctx, cancel := context.WithTimeout(t.Context(), rungPatience/2)
		defer cancel()
		facts.SMTP.Rungs = nil
		auditor.gatherer(facts).rungs(ctx, facts.SMTP)
		for _, r := range facts.SMTP.Rungs {
			if v, _ := facts.rung(r); r.Addr.String() == decoyAt && (v.status != Unknown || v.blame != Nobody) {
				t.Errorf("%s after %.0f ms: %+v", r.Trouble, r.TookMS, v)
			}
		}
	})
}

// TestNamedHeld: where the first session with an address came to no TLS, none was held by another
// name, and none is shown.
func TestNamedHeld(t *testing.T) {
	a := animal{drop: []string{"mx1 AAAA"}, add: "@ MX 30 mx3\nmx3 A 192.0.2.25\n", smtp: mailHosts(func(_ *probetest.Authority, n probetest.Net) { n[mx1At] = &probetest.Host{Err: probetest.ErrLost} })}
	facts, _ := a.audit(t)
	shown := slices.DeleteFunc(facts.Log, func(e Exchange) bool { return e.Type != "SMTP" || !strings.HasPrefix(e.Server, mx1At+":") })
	if len(shown) != 1 || len(facts.SMTP.Named) != 0 {
		t.Errorf("%+v, %+v", shown, facts.SMTP.Named)
	}
}

// TestOwnAsked: whoever looks for wrong signatures alone asks for the domain's own addresses too.
func TestOwnAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auditor := animal{}.world(t)
		auditor.Wanted = Want([]Check{{ID: "dnssec.bogus"}})
		if f := auditor.Gather(t.Context(), dns.MustName("example.com")); f.Own.Name != f.Domain {
			t.Errorf("%+v", f.Own)
		}
	})
}

// TestUnsigned: an answer that was cut off does not show that a zone has no signatures.
func TestUnsigned(t *testing.T) {
	said := dns.Said{Answer: dns.Answer{Authoritative: true}}
	whole := Zone{Name: dns.MustName("example.com"), Signed: Heard{Said: said}}
	cut := whole
	cut.Signed.Said.Truncated = true
	if !whole.unsigned() || cut.unsigned() {
		t.Errorf("whole %v, cut off %v", whole.unsigned(), cut.unsigned())
	}
}

// TestInnerOnce: a domain inside of a zone that is its own MX host is unknown once.
func TestInnerOnce(t *testing.T) {
	own := Host{Name: dns.MustName("mail.example.com"), A: Fact[netip.Addr]{Err: errNotAsked}}
	f := &Facts{Domain: own.Name, Zone: Zone{Name: dns.MustName("example.com")}, Own: own, Hosts: []Host{own}}
	if got := f.inner(); len(got) != 1 {
		t.Errorf("%+v", got)
	}
}
