package render

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/net/html"

	"mxward/internal/audit"
	"mxward/internal/dns"
)

// formats are all that write one document for any number of domains, and text and JSON, which
// write one after the other.
func formats() map[string]func(io.Writer, []Report, Audit) error {
	each := func(write func(io.Writer, Report, bool) error, same bool) func(io.Writer, []Report, Audit) error {
		return func(w io.Writer, reports []Report, _ Audit) error {
			for _, r := range reports {
				if err := write(w, r, same || len(reports) > 1); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return map[string]func(io.Writer, []Report, Audit) error{
		"txt": each(Text, true), "json": each(JSON, false), "html": HTML, "sarif": SARIF, "xml": JUnit,
		"prom": func(w io.Writer, reports []Report, _ Audit) error { return Prometheus(w, reports) },
	}
}

// TestGolden: what each format writes is what it wrote before. UPDATE=1 writes it anew.
func TestGolden(t *testing.T) {
	const ids = "deleg.nxdomain deleg.single-ns dkim.no-selector-known dmarc.unknown-tag dmarc.missing mx.cname mx.null mx.nxdomain ptr.not-confirmed spf.neutral-all spf.syntax spf.missing"
	for _, c := range []struct {
		name    string
		domains []string
	}{
		{"one", []string{"example.com"}},
		{"several", []string{"example.com", "plain.com", "nosuch.com"}}, // the last does not exist
		{"hostile", []string{"hostile.com"}},
	} {
		all, how := reports(t, c.domains...)
		narrow(all, &how, strings.Fields(ids))
		for ext, write := range formats() {
			t.Run(c.name+"."+ext, func(t *testing.T) {
				var got bytes.Buffer
				if err := write(&got, all, how); err != nil {
					t.Fatal(err)
				}
				golden(t, "testdata/"+c.name+"."+ext, got.Bytes())
			})
		}
	}
}

// narrow leaves out all other ids: a golden file should be short enough to be read, and stay as
// it is when checks are added.
func narrow(all []Report, how *Audit, ids []string) {
	how.Checks = slices.DeleteFunc(how.Checks, func(c audit.Check) bool { return !slices.Contains(ids, c.ID) })
	for i := range all {
		all[i].Findings = slices.DeleteFunc(all[i].Findings, func(f audit.Finding) bool { return !slices.Contains(ids, f.ID) })
	}
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has changed (UPDATE=1 writes it anew):\n%s", file, got)
	}
}

// nasty is what a stranger could write, everywhere where a stranger may write.
const nasty = "\x1b[31m</code></pre>\"'><script>alert(1)</script>\x00\u202e\u2028\xff&{{.Version}}]]>\r\n# HELP x\n"

// hostileReport has it in every field.
func hostileReport() Report {
	f := audit.Finding{
		ID: "spf.syntax", Target: nasty, Status: audit.Fail, Severity: audit.Error, Blame: audit.ZoneData, Confidence: audit.Single,
		Title: "the record is wrong", Detail: nasty, Refs: []string{}, Fix: audit.Fix{Text: nasty, Records: []audit.Change{{Do: "replace", Record: nasty}}},
		Evidence: []audit.Exchange{{Name: dns.MustName("example.com"), Type: "TXT", Records: []string{nasty, strings.Repeat("<script>", 10000)}, Rcode: "NOERROR", Again: "dig " + nasty}, {Error: nasty}},
	}
	open := f
	open.Status, open.Severity = audit.Unknown, ""
	return Report{
		Domain: dns.MustName("example.com"), Findings: []audit.Finding{f, open},
		Ladder: Ladder{Note: nasty, Rungs: []Rung{
			{Host: dns.MustName("mx.example.com"), Preference: "10", Alias: nasty, Trouble: nasty, Open: true},
			{Host: dns.MustName("mx.example.com"), Preference: "20", Addresses: []Address{{
				Addr: netip.MustParseAddr("2001:db8::1"), Trouble: nasty,
				Certificate: &Certificate{Names: []string{nasty, nasty}, Issuer: nasty, Trouble: nasty},
			}}},
		}},
		Clocks: []Clock{{Kind: "certificate", Target: nasty, Ends: time.Unix(0, 0)}},
	}
}

// TestHostile: no format lets through what steers a terminal, a browser or a parser.
func TestHostile(t *testing.T) {
	how := Audit{Checks: audit.Checks(), FailOn: audit.Error, Version: "1.0"}
	for ext, write := range formats() {
		var b bytes.Buffer
		if err := write(&b, []Report{hostileReport(), hostileReport()}, how); err != nil {
			t.Fatalf("%s: %v", ext, err)
		}
		for _, c := range b.String() {
			if c != '\n' && c != '\t' && unicode.IsControl(c) || ext != "json" && (c == '\u202e' || c == '\u2028') {
				t.Errorf("%s: %U gets through", ext, c)
			}
		}
		if b.Len() > 250_000 && ext != "json" {
			t.Errorf("%s: %d octets", ext, b.Len())
		}
	}
	if text := written(t, HTML, hostileReport()); strings.Contains(text, "<script") {
		t.Error("a script is in the page")
	}
}

// TestZoneIsNoScript: the same by way of the DNS.
func TestZoneIsNoScript(t *testing.T) {
	all, _ := reports(t, "hostile.com", "example.com")
	elements(t, written(t, HTML, all...))
}

func written(t *testing.T, write func(io.Writer, []Report, Audit) error, all ...Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b, all, Audit{Checks: audit.Checks(), FailOn: audit.Error, Version: "1.0"}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// elements counts the elements of a page, all of which are closed, and none of which loads or
// runs anything. Ids are unique, and each link leads to one.
func elements(t *testing.T, page string) map[string]int {
	t.Helper()
	count, ids, links := map[string]int{}, map[string]bool{}, []string{}
	var open []string
	void := map[string]bool{"meta": true, "br": true}
	for z := html.NewTokenizer(strings.NewReader(page)); ; {
		kind := z.Next()
		token := z.Token()
		switch kind {
		case html.ErrorToken:
			if len(open) > 0 {
				t.Errorf("not closed: %v", open)
			}
			for _, link := range links {
				if !ids[link] {
					t.Errorf("%s leads nowhere", link)
				}
			}
			return count
		case html.StartTagToken, html.SelfClosingTagToken:
			count[token.Data]++
			switch token.Data {
			case "script", "link", "img", "iframe", "object", "embed", "base", "form", "image", "use", "foreignobject":
				t.Errorf("the page has a %s", token.Data)
			}
			for _, a := range token.Attr {
				switch {
				case strings.HasPrefix(a.Key, "on"), a.Key == "src", a.Key == "style", a.Key == "href" && !strings.HasPrefix(a.Val, "#"):
					t.Errorf("%s has %s=%q", token.Data, a.Key, a.Val)
				case a.Key == "href":
					links = append(links, a.Val[1:])
				case a.Key == "id":
					if ids[a.Val] {
						t.Errorf("the id %s stands twice", a.Val)
					}
					ids[a.Val] = true
				}
			}
			if kind == html.StartTagToken && !void[token.Data] {
				open = append(open, token.Data)
			}
		case html.EndTagToken:
			if len(open) == 0 || open[len(open)-1] != token.Data {
				t.Fatalf("</%s> ends %v", token.Data, open)
			}
			open = open[:len(open)-1]
		}
	}
}

// TestHTML: each domain has its section, each finding is there, and each folded part has a name.
func TestHTML(t *testing.T) {
	all, _ := reports(t, "example.com", "plain.com", "nosuch.com", "wide.com")
	count := elements(t, written(t, HTML, all...))
	fails := 0
	for _, r := range all {
		fails += r.count(audit.Fail)
	}
	if count["section"] != 4 || count["article"] != fails || count["details"] != count["summary"] || count["h1"] != 1 || count["svg"] == 0 {
		t.Errorf("%d fails: %v", fails, count)
	}
	elements(t, written(t, HTML))
	elements(t, written(t, HTML, hostileReport()))
}

// TestEmpty: nothing found, nothing asked, nothing at all.
func TestEmpty(t *testing.T) {
	empty := Report{Domain: dns.MustName("example.com")}
	for ext, write := range formats() {
		for _, all := range [][]Report{nil, {empty}, {empty, empty}} {
			var b bytes.Buffer
			if err := write(&b, all, Audit{}); err != nil {
				t.Errorf("%s of %d: %v", ext, len(all), err)
			}
			switch ext {
			case "html":
				elements(t, b.String())
			case "sarif":
				if !json.Valid(b.Bytes()) || !strings.Contains(b.String(), `"results": []`) {
					t.Errorf("of %d: %s", len(all), b.String())
				}
			case "xml":
				if err := xml.Unmarshal(b.Bytes(), new(junitSuites)); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// TestMany: what is too much for a page is left out, and the page says so.
func TestMany(t *testing.T) {
	r := hostileReport()
	for range maxFindings + 7 {
		r.Findings = append(r.Findings, r.Findings[0])
	}
	page := written(t, HTML, r)
	if count := elements(t, page); count["article"] != maxFindings || !strings.Contains(page, "8 findings more are not shown") {
		t.Errorf("%d articles", count["article"])
	}
	if len(page) > 10<<20 {
		t.Errorf("%d octets", len(page))
	}
}

// TestSARIF: a fail has its level, what is unknown is open, and each has its rule and its place.
func TestSARIF(t *testing.T) {
	all, how := reports(t, "example.com", "plain.com")
	var log sarifLog
	if err := json.Unmarshal([]byte(written(t, SARIF, all...)), &log); err != nil {
		t.Fatal(err)
	}
	rules := log.Runs[0].Tool.Driver.Rules
	kinds := map[string]int{}
	for _, result := range log.Runs[0].Results {
		kinds[result.Kind+" "+result.Level]++
		if result.RuleIndex == nil || rules[*result.RuleIndex].ID != result.RuleID || len(result.Locations) != 1 {
			t.Errorf("%s: %+v", result.RuleID, result)
		}
	}
	want := map[string]int{}
	for _, r := range all {
		want["open none"] += r.count(audit.Unknown)
		for _, s := range audit.Severities() {
			if n := len(r.fails(s)); n > 0 {
				want["fail "+sarifLevel(s)] += n
			}
		}
	}
	if len(kinds) != len(want) || len(rules) > len(how.Checks) || len(rules) == 0 {
		t.Errorf("%v, want %v", kinds, want)
	}
	for kind, n := range want {
		if kinds[kind] != n {
			t.Errorf("%d %s, want %d", kinds[kind], kind, n)
		}
	}
}

// TestJUnit: one case for each id; its outcome is that of the worst, by FailOn.
func TestJUnit(t *testing.T) {
	fail := func(id, target string, s audit.Severity) audit.Finding {
		return audit.Finding{ID: id, Target: target, Status: audit.Fail, Severity: s, Blame: audit.ZoneData, Title: id}
	}
	status := func(id string, s audit.Status) audit.Finding {
		return audit.Finding{ID: id, Target: "example.com", Status: s, Title: id}
	}
	r := Report{Domain: dns.MustName("example.com"), Findings: []audit.Finding{
		fail("mx.cname", "a.example.com", audit.Error), // one failure for both
		fail("mx.cname", "b.example.com", audit.Error),
		fail("mx.no-ipv6", "example.com", audit.Notice), // too mild
		status("mx.nxdomain", audit.Unknown),            // it might be an error
		status("mx.same-address", audit.Unknown),        // it could only be a notice
		status("mx.too-many", audit.Pass),               // fine
		status("spf.ptr", audit.NotApplicable),          // skipped
		status("spf.ptr-none", audit.Pass),              // one of two is fine: so is the case
		status("spf.ptr-none", audit.Skipped),
	}}
	s := newJUnitSuite(r, Audit{Checks: audit.Checks(), FailOn: audit.Error})
	if s.Tests != 7 || s.Failures != 1 || s.Errors != 1 || s.Skipped != 2 {
		t.Errorf("%d tests, %d failures, %d errors, %d skipped", s.Tests, s.Failures, s.Errors, s.Skipped)
	}
	ours := fail("resolver.unreachable", "192.0.2.53", audit.Critical)
	ours.Blame = audit.LocalResolver // it is not held against the domain
	if s := newJUnitSuite(Report{Findings: []audit.Finding{ours}}, Audit{FailOn: audit.Error}); s.Failures != 0 || s.Errors != 1 {
		t.Errorf("our own trouble: %d failures, %d errors", s.Failures, s.Errors)
	}
	if c := s.Cases[0]; c.Failure == nil || !strings.Contains(c.Failure.Message, "(and 1 more)") || !strings.Contains(c.Failure.Text, "b.example.com") {
		t.Errorf("%+v", c.Failure)
	}
	if c := s.Cases[1]; c.Failure != nil || c.Output == "" {
		t.Errorf("%+v", c)
	}
}

// TestPrometheus: the library's own parser reads it, whatever the labels.
func TestPrometheus(t *testing.T) {
	all, _ := reports(t, "example.com", "plain.com")
	twice := hostileReport()
	twice.Domain = dns.MustName("example.net")
	twice.Findings = append(twice.Findings, twice.Findings...) // the same series
	var b bytes.Buffer
	if err := Prometheus(&b, append(all, twice)); err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(&b)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{
		"mxward_check_timestamp_seconds": 3, "mxward_check_passed": 3, "mxward_check_findings": 3 * len(audit.Severities()),
		"mxward_check_unknown": 3 * len(audit.Blames()), "mxward_check_failed": all[0].count(audit.Fail) + all[1].count(audit.Fail) + 1,
		"mxward_check_expiry_timestamp_seconds": 1,
	} {
		if got := len(families[name].GetMetric()); got != want {
			t.Errorf("%s: %d series, want %d", name, got, want)
		}
	}
}

// TestText: unknowns are one line for each reason, and more with verbose.
func TestText(t *testing.T) {
	r := Report{Domain: dns.MustName("example.com")}
	for _, id := range []string{"mx.cname", "spf.missing", "spf.ptr"} {
		r.Findings = append(r.Findings, audit.Finding{ID: id, Target: "example.com", Status: audit.Unknown, Blame: audit.LocalNetwork, Detail: "no way out, " + id})
	}
	var short, long bytes.Buffer
	if err := Text(&short, r, false); err != nil {
		t.Fatal(err)
	}
	if want := "example.com: 0 found, 3 unknown, 0 fine\nunknown 3 checks: no way out, mx.cname (mx, spf 2) [local-network]\n"; short.String() != want {
		t.Errorf("got %q", short.String())
	}
	if err := Text(&long, r, true); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(long.String(), "\n    mx.cname spf.missing spf.ptr\n") {
		t.Errorf("got %q", long.String())
	}
	session := Report{Domain: r.Domain, Findings: []audit.Finding{{ID: "smtp.slow", Status: audit.Fail, Severity: audit.Warning, Evidence: []audit.Exchange{{Type: "SMTP", Rcode: "220", Records: []string{"< 220 mx", "> QUIT\r"}, Again: "nc mx 25"}}}}}
	long.Reset()
	if err := Text(&long, session, true); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(long.String(), "# 220 in 0.0 ms\n        < 220 mx\n        > QUIT \n") {
		t.Errorf("got %q", long.String())
	}
}
