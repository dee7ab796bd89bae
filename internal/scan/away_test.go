package scan

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/audit"
	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/dns/resolver"
)

// internet is a small one, with n domains in com.
func internet(t *testing.T, n int) *dnstest.Net {
	t.Helper()
	const soa = "$TTL 3600\n@ SOA ns1 hostmaster 1 14400 3600 604800 3600\n"
	var net dnstest.Net
	com := soa + "@ NS ns1\nns1 A 192.0.2.2\n"
	zones := map[dns.Name]dns.Resolver{}
	for i := range n {
		com += fmt.Sprintf("d%d NS ns1.d%d\nns1.d%d A 192.0.2.53\n", i, i, i)
		name := fmt.Sprintf("d%d.com", i)
		zones[dns.MustName(name)] = dnstest.Zone(t, name, soa+"@ NS ns1\nns1 A 192.0.2.53\n@ MX 10 mx\nmx A 192.0.2.25\n@ TXT \"v=spf1 mx -all\"\n")
	}
	for at, r := range map[string]dns.Resolver{
		"192.0.2.1":  dnstest.Zone(t, ".", "$TTL 86400\n@ SOA ns.root.example. hostmaster.root.example. 1 14400 3600 604800 3600\n@ NS ns.root.example.\nns.root.example. A 192.0.2.1\ncom. NS ns1.com.\nns1.com. A 192.0.2.2\n"),
		"192.0.2.2":  dnstest.Zone(t, "com", com),
		"192.0.2.53": &dns.Mux{Zones: zones},
	} {
		net.Set(at, dnstest.Host{Resolver: r, Delay: 50 * time.Millisecond})
	}
	return &net
}

// onNet is a Scanner as the verb makes one, in a small internet.
func onNet(t *testing.T, net *dnstest.Net) Scanner {
	t.Helper()
	own := &resolver.Resolver{
		Hints: []resolver.Hint{{Name: dns.MustName("ns.root.example"), Addr: netip.MustParseAddr("192.0.2.1")}},
		Dial:  net.Dial, KeepReferrals: true, NoMinimisation: true,
	}
	first := audit.Auditor{Resolver: own, Asker: own, Roots: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53")}, Common: &audit.Common{}, Hasty: true}
	var checks []audit.Check
	for _, c := range audit.Checks() {
		if slices.Contains([]string{"resolver", "net", "deleg", "mx", "spf", "dmarc"}, c.Area()) && c.ID != "resolver.disagrees" {
			checks = append(checks, c)
		}
	}
	first.Wanted = audit.Want(checks)
	again := first
	again.Hasty, again.Common = false, &audit.Common{}
	return Scanner{Check: Check(&first, checks, false), Again: Check(&again, checks, false), Parse: parse, Tally: &Tally{}, Concurrency: 3}
}

// TestAway: what our own network failed at while it was away has its right line in the end. One that
// does not come back is waited for once, and one that never was there not at all.
func TestAway(t *testing.T) {
	const domains = 60
	for _, tt := range []struct {
		why         string
		goes, comes time.Duration
		ordered     bool
		ours        bool          // lines are our own side's fault
		most        time.Duration // that the scan takes
	}{
		{"away for a minute", 5 * time.Second, 65 * time.Second, false, false, 4 * time.Minute},
		{"away for a minute, in the order of the input", 5 * time.Second, 65 * time.Second, true, false, 4 * time.Minute},
		{"away for good", 5 * time.Second, time.Hour, false, true, 20 * time.Minute},
		{"never there", 0, time.Hour, false, true, 10 * time.Minute},
	} {
		for _, how := range []dnstest.Behaviour{dnstest.Silent, dnstest.NoRoute} {
			t.Run(fmt.Sprintf("%s, behaviour %d", tt.why, how), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					net := internet(t, domains)
					set := func(how dnstest.Behaviour) {
						for at, h := range net.Hosts() {
							h.Behaviour = how
							net.Set(at.String(), h)
						}
					}
					if tt.goes == 0 {
						set(how)
					}
					defer time.AfterFunc(tt.goes, func() { set(how) }).Stop()
					defer time.AfterFunc(tt.comes, func() { set(dnstest.Honest) }).Stop()
					var lines []string
					for i := range domains {
						lines = append(lines, fmt.Sprintf("d%d.com", i))
					}
					s := onNet(t, net)
					s.Ordered = tt.ordered
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					began := time.Now()
					var sink kept
					if err := s.Run(ctx, &texts{lines: lines}, &sink); err != nil {
						t.Fatal(err)
					}
					took := time.Since(began)
					if took > tt.most {
						t.Errorf("it took %s", took)
					}
					exactlyOnce(t, &sink, domains)
					ours := 0
					for _, r := range sink.all {
						if audit.Ours(r.Findings) {
							ours++
						}
						for _, f := range r.Findings {
							if f.Status == audit.Unknown && !f.Blame.Ours() || f.Status == audit.Fail && slices.Contains([]string{"deleg.no-udp", "deleg.no-tcp", "deleg.no-ns", "spf.missing", "mx.missing"}, f.ID) {
								t.Errorf("%s: %s %s, %s: %s", r.Domain, f.ID, f.Status, f.Blame, strings.TrimSpace(f.Detail))
							}
						}
					}
					if (ours > 0) != tt.ours {
						t.Errorf("%d lines are our own side's", ours)
					}
				})
			})
		}
	}
}
