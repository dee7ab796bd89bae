package app

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxward/internal/dns"
	"mxward/internal/edge"
	"mxward/internal/mail"
	"mxward/internal/mailauth"
	"mxward/internal/mailauth/dmarc"
)

// TestObserver: mail is counted where it comes in, once, and reports and what they cause are
// not.
func TestObserver(t *testing.T) {
	p := plan(t, freeAddr(t))
	p.Reports.From, p.Reports.Receive = mustAddress(t, "reports@example.com"), []mail.Address{mustAddress(t, "dmarc@example.com")}
	a, err := New(t.Context(), p, Options{Hold: true})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	record, err := dmarc.Parse("v=DMARC1; p=none; rua=mailto:r@example.net")
	if err != nil {
		t.Fatal(err)
	}
	net := dns.MustName("example.net")
	for _, row := range []struct {
		why, client, to string
		counted         int64
	}{
		{"mail", "192.0.2.1", "bob@example.com", 1},
		{"mail for several, one of them the reports'", "192.0.2.1", "bob@example.com DMARC@example.com", 0},
		{"a report", "192.0.2.1", "dmarc@example.com", 0},
		{"a bounce of our own report", "192.0.2.1", "reports@example.com", 0},
		{"what our backup brings", "203.0.113.2", "bob@example.com", 0},
	} {
		before, _ := a.counter.Counted()
		seen := edge.Observation{Time: time.Now(), Client: netip.MustParseAddr(row.client), EnvelopeFrom: "a@example.net"}
		seen.Results = mailauth.Results{DMARC: dmarc.Verdict{Result: dmarc.Pass, Author: net, Discovery: dmarc.Discovery{Domain: net, Record: record, Policy: dmarc.None}}}
		for to := range strings.FieldsSeq(row.to) {
			seen.Recipients = append(seen.Recipients, mustAddress(t, to))
		}
		a.gate.Observer.Observe(t.Context(), seen)
		if after, _ := a.counter.Counted(); after-before != row.counted {
			t.Errorf("%s: counted %d times", row.why, after-before)
		}
	}
}

// TestReportKey: a key that cannot be read ends New, not the first report.
func TestReportKey(t *testing.T) {
	p := plan(t, freeAddr(t))
	p.Reports.From, p.Reports.DKIMSelector = mustAddress(t, "reports@example.com"), "s1"
	p.Reports.DKIMKey = filepath.Join(t.TempDir(), "s1.pem")
	if _, err := New(t.Context(), p, Options{}); err == nil || !strings.Contains(err.Error(), "read the key that signs reports") {
		t.Errorf("error %v", err)
	}
	if err := os.WriteFile(p.Reports.DKIMKey, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), p, Options{}); err == nil || !strings.Contains(err.Error(), "s1.pem") {
		t.Errorf("error %v", err)
	}
}

// TestNoReports: without [reports] nothing is counted, and nobody is told.
func TestNoReports(t *testing.T) {
	a, err := New(t.Context(), plan(t, freeAddr(t)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if a.gate.Observer != nil || a.reader != nil || a.SendReports(t.Context(), time.Now()) != 0 {
		t.Error("reports are made that the plan does not want")
	}
}
