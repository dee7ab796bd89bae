package tlsrpt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		why, text string
		want      string // as String writes it
		err       error
	}{
		{"RFC 8460 §3.1.1", "v=TLSRPTv1;rua=mailto:reports@example.com", "v=TLSRPTv1; rua=mailto:reports@example.com", nil},
		{"RFC 8460 §3.1.2", "v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt", "v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt", nil},
		{"several, with white space", "v=TLSRPTv1 ;\t rua=mailto:a@example.com , https://example.com/ ; ", "v=TLSRPTv1; rua=mailto:a@example.com,https://example.com/", nil},
		{"an equals sign in a URI", "v=TLSRPTv1; rua=https://example.com/?a=b", "v=TLSRPTv1; rua=https://example.com/?a=b", nil},
		{"an extension", "v=TLSRPTv1; x-1=y; rua=mailto:a@example.com", "v=TLSRPTv1; rua=mailto:a@example.com; x-1=y", nil},
		{"a scheme that nobody serves", "v=TLSRPTv1; rua=ftp://example.com", "v=TLSRPTv1; rua=ftp://example.com", nil},
		{"another record", "v=spf1 -all", "", ErrNoRecord},
		{"the version is case-sensitive", "v=tlsrptv1; rua=mailto:a@example.com", "", ErrNoRecord},
		{"a later version", "v=TLSRPTv10; rua=mailto:a@example.com", "", ErrNoRecord},
		{"nothing behind the version", "v=TLSRPTv1", "", ErrNoRecord},
		{"no rua", "v=TLSRPTv1;", "", ErrSyntax},
		{"an empty rua", "v=TLSRPTv1; rua=", "", ErrSyntax},
		{"an empty URI", "v=TLSRPTv1; rua=mailto:a@example.com,,", "", ErrSyntax},
		{"two semicolons", "v=TLSRPTv1;; rua=mailto:a@example.com", "", ErrSyntax},
		{"no name", "v=TLSRPTv1; mailto:a@example.com", "", ErrSyntax},
		{"a space in a URI", "v=TLSRPTv1; rua=mailto:a@example.com mailto:b@example.com", "", ErrSyntax},
		{"a name that is too long", "v=TLSRPTv1; rua=mailto:a@example.com; " + strings.Repeat("x", 33) + "=y", "", ErrSyntax},
		{"very long", "v=TLSRPTv1; rua=mailto:" + strings.Repeat("a", maxRecord), "", ErrSyntax},
	} {
		r, err := Parse(tt.text)
		if !errors.Is(err, tt.err) || r.String() != tt.want {
			t.Errorf("%s: %q, %v; want %q, %v", tt.why, r.String(), err, tt.want, tt.err)
		}
	}
}

func TestDestinations(t *testing.T) {
	r, err := Parse("v=TLSRPTv1; rua=mailto:%22a%2Cb%22@example.com,https://example.com/r,ftp://example.com,mailto:,https:,mailto:c@example.com?subject=x")
	if err != nil {
		t.Fatal(err)
	}
	to, post := r.Destinations()
	if fmt.Sprint(to, post) != `["a,b"@example.com c@example.com] [https://example.com/r]` {
		t.Errorf("%v %v", to, post)
	}
}

func TestLookup(t *testing.T) {
	trouble := &dns.Error{Trouble: dns.NoReply}
	for _, tt := range []struct {
		why   string
		texts []string
		err   error
		want  error
	}{
		{"one", []string{"v=TLSRPTv1; rua=mailto:a@example.com"}, nil, nil},
		{"one among others", []string{"hello", "v=TLSRPTv1; rua=mailto:a@example.com"}, nil, nil},
		{"none", nil, nil, ErrNoRecord},
		{"two count as none", []string{"v=TLSRPTv1; rua=mailto:a@example.com", "v=TLSRPTv1; rua=mailto:b@example.com"}, nil, ErrNoRecord},
		{"a wrong one", []string{"v=TLSRPTv1; rua"}, nil, ErrSyntax},
		{"trouble says nothing", nil, trouble, trouble},
	} {
		var asked dns.Name
		r, err := Lookup(t.Context(), dns.ResolverFunc(func(_ context.Context, q dns.Question) (dns.Answer, error) {
			asked = q.Name
			var a dns.Answer
			for _, text := range tt.texts {
				rr, err := dns.ParseRecord(q.Name, fmt.Sprintf("TXT %q", text))
				if err != nil {
					t.Fatal(err)
				}
				a.Answer = append(a.Answer, rr)
			}
			return a, tt.err
		}), dns.MustName("example.com"))
		if !errors.Is(err, tt.want) || (err == nil) != (r.String() != "") {
			t.Errorf("%s: %v, %v; want %v", tt.why, r, err, tt.want)
		}
		if tt.want == error(trouble) && (errors.Is(err, ErrNoRecord) || errors.Is(err, ErrSyntax)) {
			t.Errorf("%s: %v", tt.why, err)
		}
		if asked.String() != "_smtp._tls.example.com" {
			t.Errorf("asked for %s", asked)
		}
	}
	if _, err := Lookup(t.Context(), nil, dns.MustName(strings.Repeat(strings.Repeat("a", 60)+".", 4)+"example")); !errors.Is(err, ErrNoRecord) {
		t.Errorf("a name that is too long: %v", err)
	}
}

// TestLint: what people type.
func TestLint(t *testing.T) {
	for _, tt := range []struct {
		why   string
		texts []string
		ids   string // each with its severity
		fix   string
	}{
		{"as it should be", []string{"v=TLSRPTv1; rua=mailto:a@example.com"}, "", ""},
		{"nothing", nil, "notice tlsrpt.missing", "_smtp._tls"},
		{"other texts", []string{"v=spf1 -all"}, "notice tlsrpt.missing", ""},
		{"two", []string{"v=TLSRPTv1; rua=mailto:a@example.com", "v=TLSRPTv1; rua=mailto:b@example.com"}, "error tlsrpt.multiple", "put all URIs into one"},
		{"no mailto:", []string{"v=TLSRPTv1; rua=a@example.com"}, "error tlsrpt.rua-invalid", "write mailto:a@example.com"},
		{"one of two without", []string{"v=TLSRPTv1; rua=mailto:a@example.com,b@example.com"}, "warning tlsrpt.rua-invalid", "write mailto:b@example.com"},
		{"mailto://", []string{"v=TLSRPTv1; rua=mailto://a@example.com"}, "error tlsrpt.rua-invalid", "write mailto:a@example.com"},
		{"http:", []string{"v=TLSRPTv1; rua=http://example.com/x"}, "error tlsrpt.rua-invalid", "write https://example.com/x"},
		{"a size limit, as DMARC had", []string{"v=TLSRPTv1; rua=mailto:a@example.com!10m"}, "error tlsrpt.rua-invalid", "drop"},
		{"lower case", []string{"v=tlsrptv1; rua=mailto:a@example.com"}, "error tlsrpt.syntax", `"v=TLSRPTv1; rua=mailto:a@example.com"`},
		{"no semicolon", []string{"v=TLSRPTv1 rua=mailto:a@example.com"}, "error tlsrpt.syntax", `"v=TLSRPTv1; rua=mailto:a@example.com"`},
		{"smart quotes", []string{"“v=TLSRPTv1; rua=mailto:a@example.com”"}, "error tlsrpt.syntax", `"v=TLSRPTv1; rua=mailto:a@example.com"`},
		{"a line break", []string{"v=TLSRPTv1; rua=mailto:a@exa\nmple.com"}, "error tlsrpt.syntax", `"v=TLSRPTv1; rua=mailto:a@example.com"`},
		{"the version is wrong", []string{"v=TLS-RPT1; rua=a@example.com, b@example.com"}, "error tlsrpt.syntax", `"v=TLSRPTv1; rua=mailto:a@example.com,mailto:b@example.com"`},
		{"spaces around =", []string{"v = TLSRPTv1; rua = mailto:a@example.com;"}, "error tlsrpt.syntax", `"v=TLSRPTv1; rua=mailto:a@example.com"`},
		{"nobody can tell", []string{"v=TLSRPTv1; mailto"}, "error tlsrpt.syntax", ""},
		{"an unknown field", []string{"v=TLSRPTv1; rua=mailto:a@example.com; p=none"}, "notice tlsrpt.syntax", ""},
	} {
		var ids, fixes []string
		for _, f := range LintTexts(tt.texts) {
			ids = append(ids, string(f.Severity)+" "+f.ID)
			fixes = append(fixes, f.Fix)
			if !strings.Contains(f.String(), f.ID) {
				t.Errorf("%s: %q does not name %s", tt.why, f, f.ID)
			}
		}
		if strings.Join(ids, " ") != tt.ids || !strings.Contains(strings.Join(fixes, " "), tt.fix) {
			t.Errorf("%s: %q, %q; want %q, %q", tt.why, ids, fixes, tt.ids, tt.fix)
		}
	}
}

// The samples lie beside the project, not in it.
const samples = "../../../../shared/conformance/reports"

func TestSamples(t *testing.T) {
	for _, tt := range []struct {
		name string
		want Report
	}{
		{"tls-google.eml", Report{
			Org: "Google Inc.", Contact: "smtp-tls-reporting@google.com", ID: "2024-09-03T00:00:00Z_cardinalhealth.ca",
			Begin: time.Date(2024, 9, 3, 0, 0, 0, 0, time.UTC), End: time.Date(2024, 9, 3, 23, 59, 59, 0, time.UTC),
			Policies: []Policy{{
				Type: TypeNoPolicy, Domain: "cardinalhealth.ca", Successful: 48,
			}},
		}},
		{"tls-rfc8460.json", Report{
			Org: "Company-X", Contact: "sts-reporting@company-x.example", ID: "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
			Begin: time.Date(2016, 4, 1, 0, 0, 0, 0, time.UTC), End: time.Date(2016, 4, 1, 23, 59, 59, 0, time.UTC),
			Policies: []Policy{{
				Type: TypeSTS, Strings: []string{"version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400"},
				Domain: "company-y.example", MXHosts: []string{"*.mail.company-y.example"}, Successful: 5326, Failed: 303,
				Failures: []Failure{
					{Result: CertificateExpired, SendingIP: netip.MustParseAddr("2001:db8:abcd:12::1"), MXHost: "mx1.mail.company-y.example", Sessions: 100},
					{Result: STARTTLSNotSupported, SendingIP: netip.MustParseAddr("2001:db8:abcd:13::1"), MXHost: "mx2.mail.company-y.example", ReceivingIP: netip.MustParseAddr("203.0.113.56"), Sessions: 200,
						Information: "https://reports.company-x.example/report_info?id=5065427c-23d3#StarttlsNotSupported"},
					{Result: ValidationFailure, SendingIP: netip.MustParseAddr("198.51.100.62"), MXHost: "mx-backup.mail.company-y.example", ReceivingIP: netip.MustParseAddr("203.0.113.58"), Sessions: 3,
						Reason: "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"},
				},
			}},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := os.Open(filepath.Join(samples, tt.name))
			if errors.Is(err, fs.ErrNotExist) {
				t.Skip("left out: the sample reports are not in ../shared/conformance/reports")
			}
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			got, err := Read(f)
			if err != nil || len(got) != 1 {
				t.Fatal(len(got), err)
			}
			if !reflect.DeepEqual(got[0], tt.want) {
				t.Errorf("\n got %+v\nwant %+v", got[0], tt.want)
			}
		})
	}
}

const sample = `{"organization-name":"A","date-range":{"start-datetime":"2026-05-19T00:00:00Z","end-datetime":"2026-05-19T23:59:59Z"},"contact-info":"a@example.net","report-id":"1",` +
	`"policies":[{"policy":{"policy-type":"sts","policy-string":["version: STSv1"],"policy-domain":"example.com","mx-host":["mx.example.com"]},` +
	`"summary":{"total-successful-session-count":5,"total-failure-session-count":2},"failure-details":[{"result-type":"certificate-expired","sending-mta-ip":"192.0.2.1","failed-session-count":2}]}]}`

func TestTolerance(t *testing.T) {
	for _, tt := range []struct {
		why, text, fault string
		is               func(Report) bool
	}{
		{"as it should be", sample, "", func(r Report) bool { return r.Domain() == "example.com" && r.Policies[0].Failures[0].Sessions == 2 }},
		{"a byte order mark", "\xef\xbb\xbf" + sample, "", func(r Report) bool { return r.Org == "A" }},
		{"one text instead of a list", strings.NewReplacer(`["version: STSv1"]`, `"version: STSv1"`, `["mx.example.com"]`, `"mx.example.com"`).Replace(sample), "", func(r Report) bool {
			return r.Policies[0].MXHosts[0] == "mx.example.com"
		}},
		{"null instead of a list", strings.NewReplacer(`["version: STSv1"]`, `null`).Replace(sample), "", func(r Report) bool { return r.Policies[0].Strings == nil }},
		{"a number in quotation marks", strings.Replace(sample, `:5,`, `:"5",`, 1), "", func(r Report) bool { return r.Policies[0].Successful == 5 }},
		{"no time zone", strings.Replace(sample, "00:00:00Z", "00:00:00", 1), "", func(r Report) bool { return r.Begin.Day() == 19 }},
		{"no time", strings.Replace(sample, "2026-05-19T00:00:00Z", "today", 1), `the time "today"`, func(r Report) bool { return r.Begin.IsZero() }},
		{"no address", strings.Replace(sample, "192.0.2.1", "here", 1), `the address "here"`, func(r Report) bool { return !r.Policies[0].Failures[0].SendingIP.IsValid() }},
		{"no organization", strings.Replace(sample, `"A"`, `""`, 1), "it has no organization-name", func(r Report) bool { return len(r.Policies) == 1 }},
		{"unknown keys", strings.Replace(sample, `{`, `{"x":[[{"y":1}]],`, 1), "", func(r Report) bool { return r.Org == "A" }},
	} {
		r, err := ParseReport(strings.NewReader(tt.text))
		faults := strings.Join(r.Faults, "; ")
		if err != nil || !tt.is(r) || (tt.fault == "") != (faults == "") || !strings.Contains(faults, tt.fault) {
			t.Errorf("%s: %+v, %v", tt.why, r, err)
		}
	}
}

func TestRefused(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, tt := range []struct {
		why, text string
		want      error
	}{
		{"nothing", "", ErrNotReport},
		{"no JSON", "<feedback/>", ErrNotReport},
		{"another document", `{"a":1}`, ErrNotReport},
		{"cut off", sample[:len(sample)-5], ErrMalformed},
		{"nobody knows whose it is", strings.Replace(sample, "example.com", "", 1), ErrMalformed},
		{"a negative count", strings.Replace(sample, ":5,", ":-5,", 1), ErrMalformed},
		{"a count that would overflow", strings.Replace(sample, ":5,", ":9223372036854775807,", 1), ErrMalformed},
		{"an object where a text belongs", strings.Replace(sample, `"A"`, `{}`, 1), ErrMalformed},
		{"deep", `{"policies":` + strings.Repeat("[", 100_000), ErrMalformed},
		{"very many policies", `{"policies":[{}` + strings.Repeat(",{}", maxObjects) + `]}`, ErrTooLarge},
		{"very many texts", `{"policies":[{"policy":{"policy-string":[""` + strings.Repeat(`,""`, maxCommas+1) + `]}}]}`, ErrTooLarge},
		{"very long", `{"policies":"` + strings.Repeat("a", MaxReport), ErrTooLarge},
	} {
		if r, err := ParseReport(strings.NewReader(tt.text)); !errors.Is(err, tt.want) || r.Policies != nil {
			t.Errorf("%s: %v, want %v", tt.why, err, tt.want)
		}
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 200<<20 {
		t.Errorf("%d octets were allocated", got)
	}
	broken := errors.New("the disk")
	if _, err := ParseReport(iotest.ErrReader(broken)); !errors.Is(err, broken) || errors.Is(err, ErrMalformed) {
		t.Errorf("a reader's error: %v", err)
	}
}

var day = time.Date(2026, 5, 19, 0, 0, 0, 0, time.UTC)

func built() []Report {
	session := func(hour int, domain string, f Failure) Session {
		return Session{Time: day.Add(time.Duration(hour) * time.Hour), Domain: domain, Type: TypeSTS, Strings: []string{"version: STSv1", "mode: enforce"}, MXHosts: []string{"*.example.com"}, Failure: f}
	}
	expired := Failure{Result: CertificateExpired, SendingIP: netip.MustParseAddr("192.0.2.1"), MXHost: "mx1.example.com", ReceivingIP: netip.MustParseAddr("2001:db8::1"), Sessions: 99}
	refused := Failure{Result: STARTTLSNotSupported, MXHost: "mx2.example.com", Information: "<none & nothing>"}
	dane := session(3, "example.com", Failure{})
	dane.Type, dane.Strings, dane.MXHosts = TypeTLSA, []string{"3 1 1 ab"}, nil
	return Build(Reporter{Submitter: dns.MustName("mx.example.net"), Contact: "postmaster@example.net"}, slices.Values([]Session{
		session(23, "example.com", refused), session(1, "Example.com", expired), session(2, "example.com", expired), session(4, "example.com", Failure{}),
		session(25, "example.com", Failure{}), session(1, "example.org", Failure{}), dane,
	}))
}

func TestBuild(t *testing.T) {
	reports := built()
	if len(reports) != 3 || reports[0].ID == reports[1].ID {
		t.Fatalf("%+v", reports)
	}
	r := reports[0]
	sts := r.Policies[0]
	if len(r.Policies) != 2 || sts.Successful != 1 || sts.Failed != 3 || len(sts.Failures) != 2 || sts.Failures[0].Sessions != 2 || r.Policies[1].Successful != 1 {
		t.Errorf("%+v", r)
	}
	if !r.Begin.Equal(day) || !r.End.Equal(day.Add(24*time.Hour-time.Second)) || r.Org != "mx.example.net" {
		t.Errorf("%+v", r)
	}
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	got, err := Read(&b)
	if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], r) {
		t.Errorf("written and read again:\n got %+v, %v\nwant %+v", got, err, r)
	}
	s := Summarize(slices.Values(append(reports, reports[0])))
	if s.Reports != 3 || len(s.Domains) != 3 || s.Domains[0] != (Domain{"example.com", TypeSTS, 2, 3}) || s.Failures[0] != (FailureTotal{"example.com", "mx1.example.com", CertificateExpired, 2}) {
		t.Errorf("%+v", s)
	}
	if err := (Report{}).Write(&b); err == nil {
		t.Error("an empty report was written")
	}
}

func TestMessage(t *testing.T) {
	r := built()[0]
	e := Envelope{
		Submitter: dns.MustName("mx.example.net"), From: mail.Address{Local: "tls", Domain: dns.MustName("example.net")},
		To: []mail.Address{{Local: "reports", Domain: dns.MustName("example.com")}}, Date: day.Add(25 * time.Hour),
	}
	var b bytes.Buffer
	if err := r.WriteMessage(&b, e); err != nil {
		t.Fatal(err)
	}
	text := strings.ToLower(strings.NewReplacer("\r\n ", " ", "\r\n\t", " ").Replace("\r\n" + b.String()))
	name := "mx.example.net!example.com!1779148800!1779235199!" + r.ID + ".json.gz"
	for _, want := range []string{
		"\r\nTLS-Report-Domain: example.com\r\n", "\r\nTLS-Report-Submitter: mx.example.net\r\n", "report-type=tlsrpt", "\r\nContent-Type: multipart/report;",
		"\r\nSubject: Report Domain: example.com Submitter: mx.example.net Report-ID: <" + r.ID + "@mx.example.net>\r\n",
		"Content-Type: application/tlsrpt+gzip; name=\"" + name + "\"\r\n", "filename=\"" + name + "\"",
	} {
		if !strings.Contains(text, strings.ToLower(want)) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	got, err := Read(&b)
	if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], r) {
		t.Errorf("read again: %+v, %v", got, err)
	}
	e.Limit = 100
	if err := r.WriteMessage(&b, e); !errors.Is(err, ErrTooLarge) {
		t.Errorf("over the limit: %v", err)
	}
}

// FuzzRecord: nothing on an error, and the same again by String.
func FuzzRecord(f *testing.F) {
	f.Add("v=TLSRPTv1; rua=mailto:a@example.com,https://example.com; x=y")
	f.Add("v=TLSRPTv1;rua=mailto:a@example.com;")
	f.Add("“v=tlsrptv1 rua=a@example.com”")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse(text)
		if (err == nil) != (r.String() != "") {
			t.Fatalf("%+v, %v", r, err)
		}
		if again, err2 := Parse(r.String()); err == nil && (err2 != nil || !reflect.DeepEqual(again, r)) {
			t.Errorf("%+v became %+v, %v", r, again, err2)
		}
		if mended := Mend(text); mended != "" {
			if _, err := Parse(mended); err != nil {
				t.Errorf("mended to %q: %v", mended, err)
			}
		}
		for _, finding := range LintTexts([]string{text}) {
			if finding.ID == "" || finding.Text == "" {
				t.Errorf("%+v", finding)
			}
		}
		r.Destinations()
	})
}

// FuzzReport: nothing on an error, and the same again where it can be written.
func FuzzReport(f *testing.F) {
	f.Add([]byte(sample))
	var b bytes.Buffer
	if err := built()[0].WriteJSON(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseReport(bytes.NewReader(data))
		if (err == nil) != (r.Domain() != "") {
			t.Fatalf("%+v, %v", r, err)
		}
		var b bytes.Buffer
		if err != nil || r.WriteJSON(&b) != nil {
			return
		}
		again, err := ParseReport(&b)
		if err != nil || len(again.Policies) != len(r.Policies) || again.Domain() != r.Domain() {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}
