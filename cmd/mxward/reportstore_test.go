package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/report"
	"mxward/internal/store"
)

// swallow delivers nothing.
type swallow struct{}

func (swallow) Deliver(context.Context, mail.Envelope, func() io.ReadCloser) []mail.Outcome {
	return nil
}

// storedPlan is a plan whose store has three reports, one of them forged, and a day that is
// counted.
func storedPlan(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "mxward.toml")
	if err := os.WriteFile(file, []byte("[site]\nname = \"mx.example.com\"\nstore = \"sqlite:mxward.db\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	engine, err := store.Open(t.Context(), "sqlite:"+filepath.Join(dir, "mxward.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	to, err := mail.ParseAddress("dmarc@example.com")
	if err != nil {
		t.Fatal(err)
	}
	reader := report.Reader{Next: swallow{}, Reports: engine, Addresses: []mail.Address{to}, ID: dns.MustName("mx.example.com"), Logger: slog.New(slog.DiscardHandler)}
	day := report.Day(time.Now().Add(-24 * time.Hour))
	for _, r := range []struct{ result, domain, id, source string }{
		{"pass", "example.com", "1", "192.0.2.1"}, {"pass", "sub.example.com", "2", "192.0.2.2"}, {"fail", "example.com", "3", "203.0.113.9"},
	} {
		text := fmt.Sprintf("Received: from x\r\nAuthentication-Results: mx.example.com; dmarc=%s header.from=example.net\r\nContent-Type: application/xml\r\n\r\n"+
			"<feedback><report_metadata><org_name>Who I Like</org_name><report_id>%s</report_id><date_range><begin>%d</begin><end>%d</end></date_range></report_metadata>"+
			"<policy_published><domain>%s</domain><p>none</p></policy_published><record><row><source_ip>%s</source_ip><count>7</count><policy_evaluated>"+
			"<disposition>none</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated></row><identifiers><header_from>example.com</header_from></identifiers></record></feedback>",
			r.result, r.id, day.Unix(), day.Add(24*time.Hour-time.Second).Unix(), r.domain, r.source)
		reader.Deliver(t.Context(), mail.Envelope{Recipients: []mail.Recipient{{Address: to}}}, func() io.ReadCloser { return io.NopCloser(strings.NewReader(text)) })
	}
	count := report.Count{Day: day, Domain: "example.org", What: "{}", Last: day, Messages: 3}
	if _, err := engine.AddCounts(t.Context(), report.Usual(), "example.com", []report.Count{count}); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestStoredReports: what the gate has stored is summed up as files are; what may be forged is
// left out, and told of.
func TestStoredReports(t *testing.T) {
	plan := storedPlan(t)
	for _, test := range []struct {
		args string
		want []string
		not  string
	}{
		{"", []string{"DMARC: 2 reports of example.com, sub.example.com;", "; 14 messages\n", "192.0.2.1  7 ", "reported by example.net\n", "not summed up: 1 report that may be forged"}, "203.0.113.9"},
		{"--domain sub.example.com", []string{"DMARC: 1 report of sub.example.com;"}, "not summed up"},
		{"--domain Example.COM.", []string{"DMARC: 2 reports"}, "203.0.113.9"},
		{"--domain example.edu", []string{"no reports of the last 30 days"}, "DMARC"},
		{"--unauthenticated", []string{"DMARC: 3 reports", "203.0.113.9"}, "not summed up"},
		{"--json", []string{`"schema": "mxward.report/1"`, `"unauthenticated": 1`, `"reporters": [`, `"example.net"`, `"messages": 14`}, "Who I Like"},
		{"--pending", []string{"example.org  1 "}, "done"},
		{"--pending --domain example.com", []string{"nothing is counted"}, "example.org"},
		{"--pending --json", []string{`"schema": "mxward.report-pending/1"`, `"domain": "example.org"`, `"sent": []`}, ""},
	} {
		var out bytes.Buffer
		cmd := newReport()
		cmd.SetArgs(append([]string{"--plan", plan}, strings.Fields(test.args)...))
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		if err := cmd.ExecuteContext(t.Context()); err != nil {
			t.Errorf("%s: %v", test.args, err)
		}
		for _, want := range test.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: no %q in\n%s", test.args, want, out.String())
			}
		}
		if test.not != "" && strings.Contains(out.String(), test.not) {
			t.Errorf("%s: %q in\n%s", test.args, test.not, out.String())
		}
	}
}

// TestReportUsage: files or a plan, and no flag that means nothing.
func TestReportUsage(t *testing.T) {
	for _, args := range []string{"", "--plan p.toml file", "--domain example.com file", "--pending", "--plan p.toml --days 0", "--plan p.toml --days 200000", "--plan p.toml --domain a..b"} {
		cmd := newReport()
		cmd.SetArgs(strings.Fields(args))
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		var e *exitError
		if err := cmd.ExecuteContext(t.Context()); !errors.As(err, &e) || e.code != exitUsage {
			t.Errorf("%q: %v", args, err)
		}
	}
}
