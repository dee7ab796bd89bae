package audit

import (
	"strings"
	"testing"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/dns/zone"
	"mxward/internal/probe/probetest"
)

// TestMatrix breaks our own side and theirs, each in several ways, and wants the blame where it
// belongs: nothing of ours is held against the domain, and no fault of theirs against us.
func TestMatrix(t *testing.T) {
	silent, lame := dnstest.Silent, dnstest.Lame
	sides := []struct {
		why  string
		turn func(*animal)
	}{
		{"our side is fine", func(*animal) {}},
		{"a resolver that is fine", func(a *animal) { a.forwarded = true }},
		{"my resolver is dead", func(a *animal) { a.forwarded, a.forwardHow = true, dnstest.Silent }},
		{"my resolver fails at everything", func(a *animal) { a.forwarded, a.forwardHow = true, dnstest.Failing }},
		{"the network is down", func(a *animal) { a.dark = true }},
		{"the network is down, and the resolver with it", func(a *animal) { a.forwarded, a.dark = true, true }},
		{"our port 25 is blocked", func(a *animal) {
			a.smtp, a.controls, a.net = lost(probetest.ErrLost, mx1At, mx1AtV6, mx2At), "control.net second.net", zooControls
		}},
	}
	type want struct {
		fails, blame string // the id that must fail, and the blame of what is unknown of SPF; "" for known
	}
	zones := []struct {
		why  string
		turn func(*animal)
		want want // where our side is fine
	}{
		{"the zone is fine", func(*animal) {}, want{}},
		{"its parent is silent", hosts(comAt, silent), want{blame: "parent-zone"}},
		{"its parent is lame", hosts(comAt, lame), want{blame: "parent-zone"}},
		{"its servers are silent", hosts(ns1At, silent, ns2At), want{"deleg.no-ns", "zone-ns"}},
		{"its servers are lame", hosts(ns1At, lame, ns2At), want{"deleg.lame", "zone-ns"}},
		{"its servers fail at TXT", func(a *animal) { a.turn = failing(dns.TypeTXT, "example.com") }, want{blame: "zone-ns"}},
		{"its signatures have ended", func(a *animal) { a.signed, a.lasts = &zone.Signing{}, -time.Hour }, want{"dnssec.bogus", "zone"}},
	}
	for row, side := range sides {
		for _, z := range zones {
			t.Run(side.why+"/"+z.why, func(t *testing.T) {
				a := animal{}
				z.turn(&a)
				side.turn(&a)
				_, findings := a.audit(t)
				expected := z.want
				switch row {
				case 2, 3:
					expected.blame = "local-resolver"
					if z.want.fails == "dnssec.bogus" {
						expected.fails = "" // nobody validates then
					}
				case 4, 5:
					expected = want{blame: "local-network"}
				}
				failed := map[string]bool{}
				for _, f := range findings {
					failed[f.ID] = f.Status == Fail || failed[f.ID]
					switch {
					case f.ID == "spf.no-all" && expected.blame == "" && f.Status != Pass:
						t.Errorf("%s: %s, %s, %s", f.ID, f.Status, f.Blame, f.Detail)
					case f.ID == "spf.no-all" && expected.blame != "" && (f.Status != Unknown || string(f.Blame) != expected.blame):
						t.Errorf("%s: %s, blame %s, want unknown and %s (%s)", f.ID, f.Status, f.Blame, expected.blame, f.Detail)
					case row > 1 && row < 6 && f.Status == Fail && f.Severity.AtLeast(Error) && f.Blame != LocalResolver && f.Blame != LocalNetwork && expected.fails == "" && z.want.fails == "":
						t.Errorf("%s is held against %s: %s", f.ID, f.Blame, f.Detail)
					}
				}
				if expected.fails != "" && !failed[expected.fails] {
					t.Errorf("%s does not fail", expected.fails)
				}
				if row == 6 {
					notHeld(t, findings, z.want.blame == "" && z.want.fails == "")
					return
				}
				if row >= 4 && !failed["resolver.unreachable"] {
					t.Error("resolver.unreachable does not fail")
				}
			})
		}
	}
}

// notHeld: no MX host is blamed for a port that is shut on our side, which is said where there
// are MX hosts at all.
func notHeld(t *testing.T, findings []Finding, said bool) {
	t.Helper()
	for _, f := range findings {
		switch {
		case strings.HasPrefix(f.ID, "smtp.") && (f.Status == Fail || f.Status == Unknown && said && f.Blame != LocalNetwork):
			t.Errorf("%s %s: %s, %s: %s", f.ID, f.Target, f.Status, f.Blame, f.Detail)
		case f.ID == "net.port25-blocked" && said && (f.Status != Fail || f.Blame != LocalNetwork):
			t.Errorf("%s: %s, %s: %s", f.ID, f.Status, f.Blame, f.Detail)
		}
	}
}

// hosts makes servers behave.
func hosts(first string, how dnstest.Behaviour, more ...string) func(*animal) {
	return func(a *animal) {
		a.hosts = map[string]dnstest.Behaviour{first: how}
		for _, at := range more {
			a.hosts[at] = how
		}
	}
}
