package audit

import (
	"regexp"
	"strings"
	"testing"

	"mxward/docs/checks"
	"mxward/internal/dns"
	"mxward/internal/dns/zone"
	"mxward/internal/mailauth/dmarc"
	"mxward/internal/mailauth/lint"
	"mxward/internal/mailauth/mtasts"
	"mxward/internal/mailauth/spf"
	"mxward/internal/mailauth/tlsrpt"
)

var (
	pasted     = regexp.MustCompile(`(?m)^[*_a-z0-9.-]*(?:example\.(?:com|net|org)|arpa)\. +(?:\d+ +)?(?:A|AAAA|MX|NS|SOA|TXT|CNAME|PTR|TLSA|CAA|SRV|DS) .*[^(\n]$`)
	txtRecords = regexp.MustCompile(`TXT "(.*)"$`)
	octets     = regexp.MustCompile(`\b\d{1,3}(?:\.\d{1,3}){3}\b(?:\.in-addr)?`)
)

// TestPagesRecords: what a page gives to paste can stand in a zone, is no mistake of its own, and
// names nobody's real address.
func TestPagesRecords(t *testing.T) {
	count := 0
	for _, id := range checks.IDs() {
		page, _ := checks.Page(id)
		for _, line := range pasted.FindAllString(page, -1) {
			count++
			origin, top := dns.Root, "$TTL 300\n. NS a.\n. SOA a. b. 1 14400 3600 604800 300\n"
			if strings.Contains(line, " SOA ") {
				origin, top = dns.MustName("example.com"), "$TTL 300\n@ NS ns1.example.net.\n"
			}
			whole := strings.ReplaceAll(line, "…", "") // keys and digests are cut short there
			if _, err := zone.Parse(strings.NewReader(top+whole+"\n"), origin, id); err != nil {
				t.Errorf("%s: %q: %v", id, line, err)
			}
			if m := txtRecords.FindStringSubmatch(whole); m != nil {
				pastedText(t, id, strings.ReplaceAll(m[1], `" "`, ""))
			}
		}
		for _, text := range octets.FindAllString(page, -1) {
			free := strings.HasPrefix(text, "192.0.2.") || strings.HasPrefix(text, "198.51.100.") || strings.HasPrefix(text, "203.0.113.") || strings.HasPrefix(text, "127.")
			turned := strings.HasSuffix(text, ".2.0.192") || strings.HasSuffix(text, ".0.0.127") || strings.Contains(page, "§"+text)
			if !free && !turned && !strings.HasSuffix(text, ".in-addr") {
				t.Errorf("%s: %s is no address for examples", id, text)
			}
		}
	}
	if count == 0 {
		t.Error("no records were found")
	}
}

// pastedText: a policy to paste has no error.
func pastedText(t *testing.T, id, text string) {
	t.Helper()
	var found []lint.Finding
	switch {
	case strings.HasPrefix(text, "v=spf1"):
		found = spf.Lint(text)
	case strings.HasPrefix(text, "v=DMARC1;"):
		found = dmarc.Lint(text)
	case strings.HasPrefix(text, "v=STSv1"):
		found = mtasts.LintTexts([]string{text})
	case strings.HasPrefix(text, "v=TLSRPTv1"):
		found = tlsrpt.LintTexts([]string{text})
	}
	for _, f := range found {
		if f.Severity == lint.Error {
			t.Errorf("%s: %q: %s: %s", id, text, f.ID, f.Text)
		}
	}
}
