package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxward/internal/mailauth/dkim"
	"mxward/internal/report"
)

// TestReports: two gates. Mail of example.com, true and forged, comes to example.net; when the
// day has ended, the report of it leaves through the queue, signed, and comes to the gate of
// example.com, which stores it as authentic and delivers it. It is not counted there for a
// report of its own: that would have no end.
func TestReports(t *testing.T) {
	w, err := newWorld(newTracer(0, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	ctx := t.Context()
	key, err := dkim.GenerateEd25519()
	if err != nil {
		t.Fatal(err)
	}
	public, err := dkim.KeyOf(key)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := dkim.MarshalPrivate(key)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(t.TempDir(), "2026a.pem")
	if err := os.WriteFile(keyFile, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	com := ladder()
	com.records += fmt.Sprintf("@ 300 TXT \"v=spf1 ip4:%s -all\"\n_dmarc 300 TXT \"v=DMARC1; p=quarantine; rua=mailto:dmarc@example.com\"\n", addrMX1)
	err = w.internet(com, domain{name: "example.net", servers: []string{addrNS2}, records: `
@                 300 MX  10 mx
mx                300 A   ` + addrOurs + `
@                 300 TXT "v=spf1 ip4:` + addrOurs + ` -all"
_dmarc            300 TXT "v=DMARC1; p=reject; rua=mailto:dmarc@example.net"
2026a._domainkey  300 TXT "` + public.String() + `"
`})
	if err != nil {
		t.Fatal(err)
	}
	ours, err := w.gate(ctx, "ours", "mx.example.net", addrOurs, oursPlan+fmt.Sprintf("[reports]\nfrom = \"dmarc-reports@example.net\"\norg = \"Example Net\"\ndkim-selector = \"2026a\"\ndkim-key = %q\n", keyFile))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := w.gate(ctx, "theirs", "mx1.example.com", addrMX1, planOf("mx1.example.com", "gate", "trap", "")+
		"[reports]\nfrom = \"reports@example.com\"\nreceive = [\"dmarc@example.com\"]\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{addrMX1, addrPostfix, addrPostfix} {
		s := w.sender(Postfix(), "mx1.example.com", from)
		if r := s.Attempt(ctx, address("alice@example.com"), address("bob@example.net"), letter("alice@example.com", "bob@example.net", "hello")); r.Step != Done {
			t.Fatal(knocks(r))
		}
	}
	tomorrow := report.Day(time.Now()).Add(48 * time.Hour)
	if n := ours.app.SendReports(ctx, time.Now()); n != 0 {
		t.Errorf("%d reports leave before the day has ended", n)
	}
	if n := ours.app.SendReports(ctx, tomorrow); n != 1 {
		t.Fatalf("%d reports leave", n)
	}
	var stored []report.Received
	arrived := until(ctx, 20*time.Second, func() bool {
		stored = nil
		for r, err := range report.All(ctx, theirs.app.Queue(), report.Aggregate, time.Time{}) {
			if err != nil {
				t.Fatal(err)
			}
			stored = append(stored, r)
		}
		return len(stored) > 0 && len(maildir(filepath.Join(theirs.dir, "mail"))) > 0
	})
	if !arrived || len(stored) != 1 {
		t.Fatalf("%d reports are stored", len(stored))
	}
	if r := stored[0]; !r.Authentic || r.Sender != "example.net" || r.Domain != "example.com" {
		t.Errorf("stored as %+v", r)
	}
	back, err := stored[0].Aggregate()
	if err != nil || len(back.Records) != 2 {
		t.Fatalf("%+v, %v", back, err)
	}
	for _, record := range back.Records {
		want := map[string]string{addrMX1: "1 pass pass", addrPostfix: "2 none fail"}[record.Source.String()]
		if got := fmt.Sprintf("%d %s %s", record.Count, record.Disposition, record.SPF); got != want {
			t.Errorf("%s: %s, want %s", record.Source, got, want)
		}
	}
	body := strings.Join(strings.Fields(maildir(filepath.Join(theirs.dir, "mail"))[0]), " ") // unfolded
	if !strings.Contains(body, "dkim=pass") || !strings.Contains(body, "dmarc=pass header.from=example.net") {
		t.Errorf("what was delivered is\n%s", body)
	}
	if n := theirs.app.SendReports(ctx, tomorrow); n != 0 {
		t.Errorf("%d reports about reports leave", n)
	}
	if days, err := theirs.app.Queue().PendingDays(context.Background(), 10); err != nil || len(days) != 0 {
		t.Errorf("a report was counted for one: %+v, %v", days, err)
	}
	if n := ours.app.SendReports(ctx, tomorrow.Add(24*time.Hour)); n != 0 {
		t.Errorf("the report leaves again: %d", n)
	}
}
