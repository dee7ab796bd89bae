package audit

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
)

// TestLongNames: a domain that leaves no room for the names below it, and one of one label.
func TestLongNames(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 62)+".", 3) + strings.Repeat("b", 49) + ".example.com"
	for _, domain := range []string{long, "com", "example.com"} {
		a := animal{domain: domain, selectors: []string{"s1", strings.Repeat("s", 200), ""}}
		_, findings := a.audit(t)
		if len(findings) == 0 {
			t.Errorf("%s: no findings", domain)
		}
	}
}

// TestSame: the same internet gives the same findings, and evidence in the same order.
func TestSame(t *testing.T) {
	told := func() string {
		_, findings := animal{add: "@ MX 30 gone\n"}.audit(t)
		for i := range findings {
			if findings[i].Target == "" || findings[i].Title == "" {
				t.Errorf("%+v", findings[i])
			}
			for j := range findings[i].Evidence {
				findings[i].Evidence[j].RTT, findings[i].Evidence[j].When = 0, time.Time{}
			}
		}
		text, err := json.Marshal(findings)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if a, b := told(), told(); a != b {
		t.Errorf("two reports differ:\n%s\n%s", a, b)
	}
}

// TestAsksOnce: whoever wants to know something, the resolver is asked once.
func TestAsksOnce(t *testing.T) {
	facts, _ := animal{}.audit(t)
	asked := map[string]int{}
	for _, x := range facts.Log {
		if x.Transport == "" {
			asked[x.written().Again]++
		}
	}
	for what, n := range asked {
		if n > 1 {
			t.Errorf("%d times: %s", n, what)
		}
	}
	if len(asked) < 20 {
		t.Errorf("%d questions are too few for a test", len(asked))
	}
}

// TestAddressesOfOurs: no domain's records make us talk to this host or network.
func TestAddressesOfOurs(t *testing.T) {
	a := animal{add: "@ NS ns3\nns3 A 10.0.0.53\nns3 A 127.0.0.1\n", delegation: zooDelegation + "example NS ns3.example\nns3.example A 10.0.0.53\nns3.example A 127.0.0.1\n"}
	facts, _ := a.audit(t)
	for _, x := range facts.Log {
		if strings.HasPrefix(x.Server, "10.") || strings.HasPrefix(x.Server, "127.") {
			t.Errorf("%s was asked", x.Server)
		}
	}
}

// TestNobodyToAsk: without a way around the resolver, what needs one is unknown and the rest is not.
func TestNobodyToAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auditor := animal{}.world(t)
		auditor.Asker, auditor.MTASTS = nil, nil
		findings := Judge(auditor.Gather(t.Context(), dns.MustName("example.com")), Checks())
		for _, f := range findings {
			if f.ID == "deleg.lame" && (f.Status != Unknown || f.Blame != LocalNetwork) || f.ID == "spf.no-all" && f.Status != Pass {
				t.Errorf("%s: %s %s", f.ID, f.Status, f.Blame)
			}
			if f.Status == Fail && f.Severity.AtLeast(Error) {
				t.Errorf("%s: %s", f.ID, f.Detail)
			}
		}
	})
}

// TestCancelled: what is ended early says nothing against anybody.
func TestCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, f := range Judge(animal{}.world(t).Gather(ctx, dns.MustName("example.com")), Checks()) {
			if f.Status == Fail && f.Blame != LocalNetwork && f.Blame != LocalResolver {
				t.Errorf("%s: %s %s", f.ID, f.Blame, f.Detail)
			}
		}
	})
}

// TestQuick: somebody waits. A domain without silent servers takes seconds where each packet takes
// 50 ms there and back.
func TestQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auditor := animal{rtt: 50 * time.Millisecond, selectors: []string{"s1"}}.world(t)
		began := time.Now()
		facts := auditor.Gather(t.Context(), dns.MustName("example.com"))
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it took %s and %d questions", took, len(facts.Log))
		}
		t.Logf("%s, %d questions", time.Since(began), len(facts.Log))
	})
}

func TestAgain(t *testing.T) {
	q := dns.Question{Name: dns.MustName("example.com"), Type: dns.TypeMX}
	signed := dns.Question{Name: dns.MustName(`it\'s.example.com`), Type: dns.TypeTXT, DNSSEC: true, CheckingDisabled: true}
	for _, tt := range []struct {
		got, want string
	}{
		{again(q, netip.AddrPort{}, "", true), "dig +trace example.com MX"},
		{again(q, netip.MustParseAddrPort("192.0.2.53:5353"), "", true), "dig @192.0.2.53 -p 5353 example.com MX"},
		{again(q, netip.MustParseAddrPort("[2001:db8::53]:53"), "tcp", false), "dig @2001:db8::53 +norecurse +tcp example.com MX"},
		{again(dns.Question{Name: dns.MustName("-f.example.com"), Type: dns.TypeMX}, netip.AddrPort{}, "", true), "dig +trace -q -f.example.com MX"},
		{again(signed, netip.AddrPort{}, "", true), `dig +trace +dnssec +cdflag 'it\'\''s.example.com' TXT`},
	} {
		if tt.got != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
}

// TestExit: what is unknown counts only where it could be as bad.
func TestExit(t *testing.T) {
	checks := []Check{{ID: "a.error", Severity: Error}, {ID: "a.info", Severity: Info}}
	doubt := func(id string) []Finding { return []Finding{{ID: id, Status: Unknown}} }
	if !Inconclusive(doubt("a.error"), checks, Error) || Inconclusive(doubt("a.info"), checks, Error) || !Inconclusive(doubt("a.info"), checks, Info) {
		t.Error("Inconclusive")
	}
	worse := []Finding{{Status: Fail, Severity: Warning}, {Status: Pass}}
	ours := []Finding{{Status: Fail, Severity: Critical, Blame: LocalResolver}}
	if Failed(ours, Error) || !Inconclusive(ours, checks, Error) {
		t.Error("our own side is held against the domain")
	}
	if Failed(worse, Error) || !Failed(worse, Warning) || !Failed(worse, Notice) {
		t.Error("Failed")
	}
	if !slices.IsSortedFunc(Severities(), func(a, b Severity) int { return a.rank() - b.rank() }) {
		t.Error("Severities")
	}
}
