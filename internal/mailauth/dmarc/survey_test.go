package dmarc

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/mailauth/lint"
)

const mailHost = "example.com MX 10 mx.example.com.\nmx.example.com A 192.0.2.1\n"

// TestSurvey: what is wrong with a domain, found in the DNS. The record is good, but for
// what the row is about.
func TestSurvey(t *testing.T) {
	const good = mailHost + "_dmarc.example.com TXT \"v=DMARC1; p=reject; rua=mailto:d@example.com\"\n"
	for _, tt := range []struct {
		why, zone, domain string
		want              string // severity, id and domain of each finding
	}{
		{"nothing wrong", good, "example.com", ""},
		{"nothing wrong, from below", good, "mail.example.com", ""},
		{"nothing there", mailHost, "example.com", "warning dmarc.missing example.com"},
		{"at the apex", mailHost + `example.com TXT "v=DMARC1; p=reject"`, "example.com", "warning dmarc.missing example.com, error dmarc.misplaced example.com"},
		{"without the underscore", mailHost + `dmarc.example.com TXT "v=DMARC1; p=reject"`, "example.com", "warning dmarc.missing example.com, error dmarc.misplaced dmarc.example.com"},
		{"the domain twice", good + `_dmarc.example.com.example.com TXT "v=DMARC1; p=none"`, "example.com", "error dmarc.misplaced _dmarc.example.com.example.com"},
		{"SPF at the apex is right", good + `example.com TXT "v=spf1 mx -all"`, "example.com", ""},
		{"two records", good + `_dmarc.example.com TXT "v=DMARC1; p=reject; rua=mailto:e@example.com"`, "example.com", "error dmarc.multiple-records example.com"},
		{"two records below, one above", good + "_dmarc.a.example.com TXT \"v=DMARC1; p=reject; rua=mailto:e@example.com\"\n_dmarc.a.example.com TXT \"v=DMARC1; p=reject; rua=mailto:f@example.com\"", "a.example.com",
			"error dmarc.multiple-records a.example.com"},
		{"one in lower case below, one above", good + "_dmarc.a.example.com TXT \"v=dmarc1; p=reject\"", "a.example.com", "error dmarc.version-first a.example.com"},
		{"a useless record", mailHost + `_dmarc.example.com TXT "v=DMARC1; p=x; rua=mailto:d@example.com"`, "example.com", "error dmarc.p-invalid example.com"},
		{"reports for a stranger", mailHost + "example.net MX 10 mx.example.com.\n_dmarc.example.com TXT \"v=DMARC1; p=reject; rua=mailto:d@example.net\"", "example.com", "error dmarc.rua-unauthorized example.com"},
		{"failure reports for a stranger", good[:len(good)-2] + "; ruf=mailto:d@example.net\"\nexample.net A 192.0.2.1", "example.com", "error dmarc.ruf-unauthorized example.com"},
		{"reports for a friend", mailHost + "example.net A 192.0.2.1\n*._report._dmarc.example.net TXT \"v=DMARC1\"\n_dmarc.example.com TXT \"v=DMARC1; p=reject; rua=mailto:d@example.net\"", "example.com", ""},
		{"reports for nobody", "_dmarc.example.com TXT \"v=DMARC1; p=reject; rua=mailto:d@gone.example.com\"", "example.com", "error dmarc.rua-no-mail example.com"},
		{"reports for a host with a null MX", "example.com MX 0 .\nexample.com A 192.0.2.1\n_dmarc.example.com TXT \"v=DMARC1; p=reject; rua=mailto:d@example.com\"", "example.com", "error dmarc.rua-no-mail example.com"},
		{"reports for a host with an address only", "example.com AAAA 2001:db8::1\n_dmarc.example.com TXT \"v=DMARC1; p=reject; rua=mailto:d@example.com\"", "example.com", ""},
		{"a host whose MX cannot be asked for", good + "example.com FAILS", "example.com", ""},
		{"consent that cannot be asked for", mailHost + "example.com._report._dmarc.example.net FAILS\n_dmarc.example.com TXT \"v=DMARC1; p=reject; rua=mailto:d@example.net\"", "example.com", "warning dmarc.temperror example.com"},
		{"a record that cannot be asked for", good + "_dmarc.example.com FAILS", "example.com", "warning dmarc.temperror example.com"},
		{"psd=y of somebody who is none", mailHost + `_dmarc.example.com TXT "v=DMARC1; p=reject; psd=y; rua=mailto:d@example.com"`, "example.com", "error dmarc.psd-misuse example.com"},
		{"psd=y of a public suffix", "_dmarc.co.uk TXT \"v=DMARC1; p=reject; psd=y; rua=mailto:d@co.uk\"\nco.uk A 192.0.2.1", "co.uk", ""},
		{"a public suffix without psd=y", "_dmarc.co.uk TXT \"v=DMARC1; p=reject; rua=mailto:d@co.uk\"\nco.uk A 192.0.2.1", "a.co.uk", "warning dmarc.psd-misuse co.uk, warning dmarc.walk-differs-psl a.co.uk"},
		{"a record below and none above", "_dmarc.a.example.com TXT \"v=DMARC1; p=reject; rua=mailto:d@a.example.com\"\na.example.com A 192.0.2.1", "a.example.com", "warning dmarc.walk-differs-psl a.example.com"},
		{"psd=n below: somebody wants it so", "_dmarc.a.example.com TXT \"v=DMARC1; p=reject; psd=n; rua=mailto:d@a.example.com\"\na.example.com A 192.0.2.1", "a.example.com", "notice dmarc.walk-differs-psl a.example.com"},
		{"sp below the organizational domain", good + "_dmarc.a.example.com TXT \"v=DMARC1; p=reject; sp=reject; rua=mailto:d@example.com\"", "a.example.com", "notice dmarc.syntax a.example.com"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			w := newWorld(t, tt.zone)
			r := Survey(t.Context(), w, dns.MustName(tt.domain))
			var got []string
			for _, f := range r.Findings {
				got = append(got, string(f.Severity)+" "+f.ID+" "+f.Domain)
			}
			if strings.Join(got, ", ") != tt.want {
				t.Errorf("%v\nwant %s\n%s", r.Findings, tt.want, r.Discovery)
			}
			if (r.Undetermined() != nil) != strings.Contains(tt.want, "temperror") {
				t.Error(r.Undetermined())
			}
			if len(w.asked) > maxSurveyed {
				t.Errorf("%d questions", len(w.asked))
			}
		})
	}
}

// TestSurveyOfMany: where many are surveyed, a record in the right place spares the questions for
// those in the wrong one.
func TestSurveyOfMany(t *testing.T) {
	const twice = "_dmarc.example.com.example.com TXT \"v=DMARC1; p=none\"\n"
	for _, tt := range []struct {
		why, zone string
		want      bool // the misplaced record is found
	}{
		{"none in the right place", mailHost + twice, true},
		{"one there", mailHost + twice + "_dmarc.example.com TXT \"v=DMARC1; p=reject; rua=mailto:d@example.com\"\n", false},
		{"one of no use there", mailHost + twice + "_dmarc.example.com TXT \"v=DMARC1; p=x\"\n", false},
	} {
		w := newWorld(t, tt.zone)
		r := SurveyOfMany(t.Context(), w, dns.MustName("example.com"))
		found := slices.ContainsFunc(r.Findings, func(f lint.Finding) bool { return f.ID == "dmarc.misplaced" })
		asked := strings.Contains(fmt.Sprint(w.asked), "_dmarc.example.com.example.com")
		if found != tt.want || asked != tt.want {
			t.Errorf("%s: found %v, asked %v; %v", tt.why, found, asked, r.Findings)
		}
	}
}
