package dmarcrpt

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
)

var day = time.Date(2026, 5, 19, 0, 0, 0, 0, time.UTC)

func reporter() Reporter {
	return Reporter{
		Receiver: dns.MustName("mx.example.net"), Org: "Example & Søn <mail>", Email: "postmaster@example.net",
		Contact: "https://example.net/dmarc", Software: "mxward",
	}
}

func policy() Policy {
	return Policy{Domain: "example.com", P: "reject", SP: "quarantine", NP: "reject", ADKIM: "s", ASPF: "r", FO: "1:d:s", Testing: "n", Discovery: "treewalk"}
}

// observed is a spoofed message at an hour of the day.
func observed(hour int) Observation {
	return Observation{
		Time: day.Add(time.Duration(hour) * time.Hour), Source: netip.MustParseAddr("192.0.2.1"),
		HeaderFrom: "example.com", EnvelopeFrom: "bounce.example.org", EnvelopeTo: "example.net", Policy: policy(),
		SPF:         SPFResult{Domain: "bounce.example.org", Scope: "mfrom", Result: "pass"},
		DKIM:        []DKIMResult{{Domain: "example.org", Selector: "s1", Result: "pass"}},
		Disposition: "reject",
	}
}

// built has a report with every element that there is.
func built() []Report {
	good := observed(3)
	good.Source = netip.MustParseAddr("2001:db8::1")
	good.DKIM = []DKIMResult{
		{Domain: "example.org", Selector: "z", Result: "fail", Human: "body hash <did> not verify & more\x01"},
		{Domain: "mail.example.com", Selector: "r", Result: "pass"},
		{Domain: "example.com", Selector: "s", Result: "pass"},
		{Domain: "list.example", Selector: "l", Result: "pass"},
	}
	good.DKIMAligned, good.Disposition = true, ""
	forwarded := observed(5)
	forwarded.Disposition = "none"
	forwarded.Reasons = []Reason{{"trusted_forwarder", "ARC by example.net"}, {Type: "sampled_out"}}
	null := observed(6)
	null.EnvelopeFrom, null.SPF, null.DKIM = "", SPFResult{}, nil
	mapped := observed(7)
	mapped.Source = netip.MustParseAddr("::ffff:192.0.2.1")
	odd := observed(8)
	odd.SPF.Result, odd.PolicyError = "hardfail", "there are two records"
	return Build(reporter(), slices.Values([]Observation{observed(23), observed(0), good, forwarded, null, mapped, odd}))
}

func TestBuild(t *testing.T) {
	other := observed(1)
	other.Policy.Domain = "Example.Org"
	next := observed(24)
	next.Policy.P = "none"
	late := observed(30)
	late.Policy.P = "quarantine"
	got := Build(reporter(), slices.Values([]Observation{late, other, observed(2), next, observed(1)}))
	var lines []string
	for _, r := range got {
		lines = append(lines, fmt.Sprintf("%s %s %s p=%s records=%d messages=%d", r.Policy.Domain,
			r.Begin.Format(time.DateTime), r.End.Format(time.DateTime), r.Policy.P, len(r.Records), r.Records[0].Count))
	}
	want := []string{
		"example.com 2026-05-19 00:00:00 2026-05-19 23:59:59 p=reject records=1 messages=2",
		"example.com 2026-05-20 00:00:00 2026-05-20 23:59:59 p=quarantine records=1 messages=2", // the day's last policy
		"example.org 2026-05-19 00:00:00 2026-05-19 23:59:59 p=reject records=1 messages=1",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	if got[0].ID == got[1].ID || got[0].ID == got[2].ID {
		t.Errorf("IDs are not unique: %s %s %s", got[0].ID, got[1].ID, got[2].ID)
	}
	r := built()[0]
	if n := len(r.Records); n != 5 {
		t.Fatalf("%d records, want 5: %+v", n, r.Records)
	}
	if last := r.Records[4]; last.Source.String() != "2001:db8::1" || last.Disposition != "pass" || last.DKIM != "pass" || last.SPF != "fail" {
		t.Errorf("the good message became %+v", last)
	} else if s := fmt.Sprint(last.DKIMResults[0].Selector, last.DKIMResults[1].Selector, last.DKIMResults[2].Selector, last.DKIMResults[3].Selector); s != "srlz" {
		t.Errorf("signatures are in the order %s, want strict, relaxed, passing, failed", s)
	}
	if again := built()[0]; !reflect.DeepEqual(again, r) {
		t.Error("the same messages give another report")
	}
}

// TestRoundTrip: what is written is read again, and is the same.
func TestRoundTrip(t *testing.T) {
	r := built()[0]
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	got, err := Read(&b)
	if err != nil || len(got) != 1 {
		t.Fatal(len(got), err)
	}
	for i := range r.Records { // XML has no control characters
		for j := range r.Records[i].DKIMResults {
			h := &r.Records[i].DKIMResults[j].Human
			*h = strings.ReplaceAll(*h, "\x01", "\uFFFD")
		}
	}
	if !reflect.DeepEqual(got[0], r) {
		t.Errorf("\n got %+v\nwant %+v", got[0], r)
	}
}

// TestSchema: the schema of RFC 9990 accepts what is written.
func TestSchema(t *testing.T) {
	if _, err := exec.LookPath("xmllint"); err != nil {
		t.Skip("left out: xmllint is not installed (libxml2-utils)")
	}
	validate := func(xml []byte) ([]byte, error) {
		file := filepath.Join(t.TempDir(), "report.xml")
		if err := os.WriteFile(file, xml, 0o600); err != nil {
			t.Fatal(err)
		}
		return exec.Command("xmllint", "--noout", "--nonet", "--schema", "testdata/dmarc-2.0.xsd", file).CombinedOutput()
	}
	small := observed(1)
	small.Policy = Policy{Domain: "example.com", P: "none"}
	small.EnvelopeTo, small.EnvelopeFrom, small.SPF, small.DKIM = "", "", SPFResult{}, nil
	least := Build(Reporter{Receiver: dns.MustName("mx.example.net"), Email: "a@example.net"}, slices.Values([]Observation{small}))
	for i, r := range append(built(), least...) {
		var b bytes.Buffer
		if err := r.WriteXML(&b); err != nil {
			t.Fatal(err)
		}
		if out, err := validate(b.Bytes()); err != nil {
			t.Errorf("report %d: %v\n%s\n%s", i, err, out, b.Bytes())
		}
		// The check can fail.
		broken := bytes.Replace(b.Bytes(), []byte("<p>"), []byte("<p>un"), 1)
		if _, err := validate(broken); err == nil {
			t.Error("the schema accepts a policy that there is not")
		}
	}
}

// TestCheck: what the schema would refuse is not written.
func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		why    string
		change func(*Report)
		want   string
	}{
		{"a name is required", func(r *Report) { r.Org = "" }, "org_name"},
		{"a time is required", func(r *Report) { r.Begin = time.Time{} }, "period"},
		{"and it goes forward", func(r *Report) { r.End = r.Begin }, "period"},
		{"at least one record", func(r *Report) { r.Records = nil }, "0 records"},
		{"not too many", func(r *Report) { r.Records = make([]Record, MaxRecords+1) }, "100001 records"},
		{"a policy", func(r *Report) { r.Policy.P = "" }, `p: expected one of ["none" "quarantine" "reject"]`},
		{"a word of RFC 7489", func(r *Report) { r.Records[0].Reasons = []Reason{{Type: "forwarded"}} }, "reason"},
		{"a word of RFC 8601 that DKIM has not", func(r *Report) { r.Records[4].DKIMResults[0].Result = "softfail" }, "dkim result"},
		{"no source", func(r *Report) { r.Records[0].Source = netip.Addr{} }, "a record"},
	} {
		r := built()[0]
		tt.change(&r)
		var b bytes.Buffer
		if err := r.Write(&b); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.why, err, tt.want)
		}
	}
}

func envelope() Envelope {
	return Envelope{
		Receiver: dns.MustName("mx.example.net"), From: mail.Address{Local: "dmarc", Domain: dns.MustName("example.net")},
		To: []mail.Address{
			{Local: "reports", Domain: dns.MustName("example.com")},
			{Local: "a, b\" <x@example.org>", Domain: dns.MustName("example.org")}, // a stranger's rua may be anything
		},
		Date: day.Add(25 * time.Hour),
	}
}

func TestMessage(t *testing.T) {
	r := built()[0]
	var b bytes.Buffer
	if err := r.WriteMessage(&b, envelope()); err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(b.String(), "\r\n", "\n")
	unfolded := strings.NewReplacer("\n ", " ", "\n\t", " ").Replace(text)
	name := "mx.example.net!example.com!1779148800!1779235199!" + r.ID + ".xml.gz"
	for _, want := range []string{
		"From: dmarc@example.net\nTo: reports@example.com, \"a, b\\\" <x@example.org>\"@example.org\n",
		"\nSubject: Report Domain: example.com Submitter: mx.example.net Report-ID: <" + r.ID + ">\n",
		"\nDate: Wed, 20 May 2026 01:00:00 +0000\n", "\nMessage-ID: <" + r.ID + "@mx.example.net>\n",
		"\nMIME-Version: 1.0\n", "\nAuto-Submitted: auto-generated\n", "\nContent-Type: multipart/mixed; boundary=",
		"Content-Type: application/gzip; name=\"" + name + "\"\n",
		"Content-Disposition: attachment; filename=\"" + name + "\"\n", "Content-Transfer-Encoding: base64\n",
	} {
		if !strings.Contains(strings.ToLower("\n"+unfolded), strings.ToLower(want)) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	for line := range strings.Lines(b.String()) {
		if len(line) > 998+2 || !strings.HasSuffix(line, "\r\n") {
			t.Errorf("the line %q is too long or has no CRLF (RFC 5322 §2.1.1)", line)
		}
	}
	got, err := Read(&b)
	if err != nil || len(got) != 1 || len(got[0].Records) != len(r.Records) {
		t.Errorf("read again: %+v, %v", got, err)
	}
}

func TestMessageTooLarge(t *testing.T) {
	r := built()[0]
	e := envelope()
	e.Limit = 1500
	var b bytes.Buffer
	if err := r.WriteMessage(&b, e); !errors.Is(err, ErrTooLarge) || b.Len() > 0 {
		t.Errorf("%v, %d octets, want ErrTooLarge and none", err, b.Len())
	}
	first, second, ok := r.Split()
	if !ok || len(first.Records)+len(second.Records) != len(r.Records) || first.ID == second.ID || first.ID == r.ID {
		t.Errorf("split into %d and %d of %d records, IDs %s and %s of %s", len(first.Records), len(second.Records), len(r.Records), first.ID, second.ID, r.ID)
	}
	one := r
	one.Records = r.Records[:1]
	if _, _, ok := one.Split(); ok {
		t.Error("one record was split")
	}
	e.To = nil
	if err := r.WriteMessage(&b, e); err == nil {
		t.Error("a message to nobody was written")
	}
}

func TestSummarize(t *testing.T) {
	r := built()[0]
	second := r
	second.ID, second.Org, second.End = "other", "B", r.End.Add(24*time.Hour)
	s := Summarize(slices.Values([]Report{r, r, second}), nil) // one came twice
	if s.Reports != 2 || s.Messages != 14 || !s.Begin.Equal(r.Begin) || !s.End.Equal(second.End) || !slices.Equal(s.Domains, []string{"example.com"}) {
		t.Errorf("%+v", s)
	}
	want := Source{"192.0.2.1", 1, []string{"example.com"}, []string{"B", r.Org}, Tally{Messages: 12, Rejected: 10, Overridden: 2}}
	if !reflect.DeepEqual(s.Sources[0], want) {
		t.Errorf("got %+v, want %+v", s.Sources[0], want)
	}
	if got := s.Sources[1]; got.Name != "2001:db8::1" || got.Tally != (Tally{Messages: 2, Pass: 2, DKIM: 2}) {
		t.Errorf("got %+v", got)
	}
	grouped := Summarize(slices.Values([]Report{r}), func(netip.Addr) string { return "example.org" })
	if len(grouped.Sources) != 1 || grouped.Sources[0].Addresses != 2 || grouped.Sources[0].Messages != 7 {
		t.Errorf("%+v", grouped.Sources)
	}
}
