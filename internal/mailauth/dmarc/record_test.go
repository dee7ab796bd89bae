package dmarc

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct{ why, text, want string }{
		{"the least", "v=DMARC1; p=none", "v=DMARC1; p=none"},
		{"no space, and a semicolon at the end", "v=DMARC1;p=none;", "v=DMARC1; p=none"},
		{"space wherever it may be", "V \t= DMARC1 ;\tp = reject ; ", "v=DMARC1; p=reject"},
		{"case matters for DMARC1 alone", "v=DMARC1; P=Reject; SP=QUARANTINE; ADKIM=S; T=Y", "v=DMARC1; p=reject; sp=quarantine; t=y; adkim=s"},
		{"all tags, in another order", "v=DMARC1; ruf=mailto:f@example.com; rua=mailto:d@example.com,https://example.com/x; fo=1:d:s; aspf=s; adkim=s; t=y; psd=n; np=reject; sp=none; p=quarantine",
			"v=DMARC1; p=quarantine; sp=none; np=reject; psd=n; t=y; adkim=s; aspf=s; fo=1:d:s; rua=mailto:d@example.com,https://example.com/x; ruf=mailto:f@example.com"},
		{"what is the default is not written", "v=DMARC1; p=none; psd=u; t=n; adkim=r; aspf=r", "v=DMARC1; p=none"},
		{"removed tags are nothing", "v=DMARC1; p=reject; pct=0; rf=afrf; ri=3600", "v=DMARC1; p=reject"},
		{"unknown tags are nothing", "v=DMARC1; p=reject; x=y; policy=none", "v=DMARC1; p=reject"},
		{"the first of two counts", "v=DMARC1; p=reject; p=none; v=DMARC1", "v=DMARC1; p=reject"},
		{"a fault is left out", "v=DMARC1; p=reject; adkim=strict; aspf; t=maybe; psd=1; fo=x; =; ;; 1=2", "v=DMARC1; p=reject"},
		{"fo: 0 and 1 exclude each other", "v=DMARC1; p=reject; fo=0:1; ruf=mailto:a@example.com", "v=DMARC1; p=reject; ruf=mailto:a@example.com"},
		{"fo: each once", "v=DMARC1; p=reject; fo=d:d", "v=DMARC1; p=reject"},
		{"fo: any order, any case, spaces", "v=DMARC1; p=reject; fo=D : 1", "v=DMARC1; p=reject; fo=d:1"},
		{"sizes are left out", "v=DMARC1; p=none; rua=mailto:a@example.com!10m, mailto:b@example.com!1", "v=DMARC1; p=none; rua=mailto:a@example.com,mailto:b@example.com"},
		{"what can be read of a list counts", "v=DMARC1; p=none; rua=a@example.com,MAILTO:b@example.com,mailto:c@example.com!x,,mailto:d e@example.com", "v=DMARC1; p=none; rua=mailto:b@example.com"},
		{"encoded in a URI", "v=DMARC1; p=none; rua=mailto:a%21c@example.com?subject=x", "v=DMARC1; p=none; rua=mailto:a%21c@example.com?subject=x"},
		{"no p, and a destination", "v=DMARC1; sp=reject; rua=mailto:a@example.com", "v=DMARC1; p=none; rua=mailto:a@example.com"},
		{"a wrong sp, and a destination", "v=DMARC1; p=reject; sp=x; adkim=s; rua=mailto:a@example.com", "v=DMARC1; p=none; adkim=s; rua=mailto:a@example.com"},
		{"a wrong np, and a destination", "v=DMARC1; p=reject; sp=reject; np=; rua=mailto:a@example.com", "v=DMARC1; p=none; rua=mailto:a@example.com"},
		{"a second p that is wrong does not matter", "v=DMARC1; p=reject; p=x", "v=DMARC1; p=reject"},
		{"no p, no destination", "v=DMARC1", "permanent"},
		{"no p, and one that cannot be read", "v=DMARC1; rua=a@example.com", "permanent"},
		{"mailto without an address", "v=DMARC1; p=x; rua=mailto:", "permanent"},
		{"a wrong p", "v=DMARC1; p=rejct", "permanent"},
		{"a wrong p before a right one", "v=DMARC1; p=x; p=none", "permanent"},
		{"a colon for the equals sign", "v=DMARC1; p:none", "permanent"},
		{"commas for semicolons", "v=DMARC1; p=none, rua=mailto:a@example.com", "permanent"},
		{"a p that is no ASCII", "v=DMARC1; p=“none”", "permanent"},
		{"no record: lower case", "v=dmarc1; p=none", "not"},
		{"no record: a space before it", " v=DMARC1; p=none", "not"},
		{"no record: something behind the version", "v=DMARC1.0; p=none", "not"},
		{"no record: no semicolon", "v=DMARC1 p=none", "not"},
		{"no record: p comes first", "p=none; v=DMARC1", "not"},
		{"no record: another one", "v=spf1 -all", "not"},
		{"no record: nothing", "", "not"},
		{"no record: longer than any", "v=DMARC1; p=none;" + strings.Repeat(" ", maxText), "not"},
	} {
		r, err := Parse(tt.text)
		got := r.String()
		switch {
		case errors.Is(err, ErrNotDMARC):
			got = "not"
		case errors.Is(err, ErrPermanent):
			got = "permanent"
		}
		if got != tt.want {
			t.Errorf("%s: %q gives %q (%v), want %q", tt.why, tt.text, got, err, tt.want)
		}
		if err != nil && !reflect.DeepEqual(r, Record{}) {
			t.Errorf("%s: %+v beside an error", tt.why, r)
		}
	}
}

func TestURI(t *testing.T) {
	for _, tt := range []struct{ text, uri, host, mailbox string }{
		{"mailto:dmarc@Example.COM", "mailto:dmarc@Example.COM", "example.com", "dmarc@example.com"},
		{"MailTo:a%2Bb@example.com!10M", "mailto:a%2Bb@example.com", "example.com", "a+b@example.com"},
		{"https://reports.example.net:8443/x", "https://reports.example.net:8443/x", "reports.example.net", ""},
		{"urn:isbn:1", "urn:isbn:1", "", ""},
		{"mailto:a@b@example.com", "", "", ""},
		{"mailto:a@[192.0.2.1]", "", "", ""},
		{"mailto:dmarc", "", "", ""},
		{"mailto:a%@example.com", "", "", ""},
		{"dmarc@example.com", "", "", ""},
		{"//example.com", "", "", ""},
		{"1x:example.com", "", "", ""},
		{"mailto:a@example.com!", "", "", ""},
		{"mailto:a@example.com!10mm", "", "", ""},
		{"mailto:a@example.com!m", "", "", ""},
	} {
		u, _, ok := parseURI(tt.text)
		if string(u) != tt.uri || ok != (tt.uri != "") {
			t.Errorf("%s: %q, %v", tt.text, u, ok)
			continue
		}
		host, _ := u.Host()
		mailbox, _ := u.Mailbox()
		if host.String() != tt.host || mailbox.String() != tt.mailbox {
			t.Errorf("%s: host %q, mailbox %q", tt.text, host, mailbox)
		}
	}
}

// What people type: the severities and ids, and the record that they may have meant.
func TestLint(t *testing.T) {
	const good = "v=DMARC1; p=reject; rua=mailto:d@example.com"
	for _, tt := range []struct {
		why   string
		texts []string
		want  string // severity and id of each, in order
		mends string // what Mend gives for the first; "" where it is not looked at, "-" for nothing
	}{
		{"nothing wrong", []string{good}, "", good},
		{"others beside it", []string{"v=spf1 -all", good}, "", "-"},
		{"nothing there", nil, "warning dmarc.missing", ""},
		{"something else", []string{"hello"}, "warning dmarc.missing", "-"},
		{"SPF at the name", []string{"v=spf1 -all"}, "warning dmarc.missing", "-"},
		{"the proof of some service", []string{"dmarcian-site-verification=1"}, "warning dmarc.missing", "-"},
		{"two records", []string{good, "v=DMARC1; p=none; rua=mailto:d@example.com"}, "error dmarc.multiple-records, notice dmarc.weak-none", ""},
		{"lower case", []string{"v=dmarc1; p=reject; rua=mailto:d@example.com"}, "error dmarc.version-first", good},
		{"a space before it", []string{" " + good}, "error dmarc.version-first", good},
		{"quotation marks", []string{`"` + good + `"`}, "error dmarc.version-first", good},
		{"smart quotes", []string{"“v=DMARC1; p=reject; rua=mailto:d@example.com”"}, "error dmarc.version-first", good},
		{"smart quotes around a value", []string{"v=DMARC1; p=“reject”; rua=mailto:d@example.com"}, "error dmarc.p-invalid", good},
		{"no v", []string{"DMARC1; p=reject; rua=mailto:d@example.com"}, "error dmarc.version-first", good},
		{"a colon behind v", []string{"v:DMARC1; p=reject; rua=mailto:d@example.com"}, "error dmarc.version-first", good},
		{"v not first", []string{"p=reject; v=DMARC1; rua=mailto:d@example.com"}, "error dmarc.version-first", good},
		{"v last", []string{"p=reject; rua=mailto:d@example.com; v=DMARC1"}, "error dmarc.version-first", good},
		{"no semicolons", []string{"v=DMARC1 p=reject rua=mailto:d@example.com"}, "error dmarc.version-first", good},
		{"a comma behind the version", []string{"v=DMARC1, p=reject, rua=mailto:d@example.com"}, "error dmarc.version-first", good},
		{"commas for semicolons", []string{"v=DMARC1; p=reject, rua=mailto:d@example.com"}, "error dmarc.p-invalid, warning dmarc.rua-missing", good},
		{"a line of a zone file", []string{"_dmarc.example.com. 3600 IN TXT ( \"v=DMARC1; p=reject; \" \"rua=mailto:d@example.com\" )"}, "error dmarc.version-first", good},
		{"escaped semicolons", []string{`v=DMARC1\; p=reject\; rua=mailto:d@example.com`}, "error dmarc.version-first", good},
		{"line breaks", []string{"v=DMARC1;\n p=reject;\n rua=mailto:d@example.com"}, "error dmarc.syntax, error dmarc.syntax, error dmarc.p-missing, warning dmarc.rua-missing", good},
		{"a colon for the equals sign", []string{"v=DMARC1; p:reject; rua=mailto:d@example.com"}, "error dmarc.syntax, warning dmarc.p-missing", good},
		{"a space for it", []string{"v=DMARC1; p reject; rua=mailto:d@example.com"}, "error dmarc.syntax, warning dmarc.p-missing", good},
		{"a policy misspelt", []string{"v=DMARC1; p=rejected; rua=mailto:d@example.com"}, "error dmarc.p-invalid", good},
		{"another one", []string{"v=DMARC1; p=quarentine; rua=mailto:d@example.com"}, "error dmarc.p-invalid", "v=DMARC1; p=quarantine; rua=mailto:d@example.com"},
		{"one that nobody can guess", []string{"v=DMARC1; p=block; rua=mailto:d@example.com"}, "error dmarc.p-invalid", "-"},
		{"sp", []string{"v=DMARC1; p=reject; sp=non; rua=mailto:d@example.com"}, "error dmarc.sp-invalid", "v=DMARC1; p=reject; sp=none; rua=mailto:d@example.com"},
		{"np", []string{"v=DMARC1; p=reject; np=; rua=mailto:d@example.com"}, "error dmarc.sp-invalid", "-"},
		{"no p", []string{"v=DMARC1; rua=mailto:d@example.com"}, "warning dmarc.p-missing", "v=DMARC1; p=none; rua=mailto:d@example.com"},
		{"no p and no rua", []string{"v=DMARC1;"}, "error dmarc.p-missing, warning dmarc.rua-missing", "-"},
		{"p not right behind v", []string{"v=DMARC1; rua=mailto:d@example.com; p=reject"}, "notice dmarc.syntax", good},
		{"no mailto:", []string{"v=DMARC1; p=reject; rua=d@example.com"}, "error dmarc.rua-invalid", good},
		{"mailto with an equals sign", []string{"v=DMARC1; p=reject; rua=mailto=d@example.com"}, "error dmarc.rua-invalid", good},
		{"mailto://", []string{"v=DMARC1; p=reject; rua=mailto://d@example.com"}, "", ""},
		{"mailto in brackets", []string{"v=DMARC1; p=reject; rua=<d@example.com>"}, "error dmarc.rua-invalid", good},
		{"a space in it", []string{"v=DMARC1; p=reject; rua=mailto: d@example.com"}, "error dmarc.rua-invalid", good},
		{"one with mailto: and one without", []string{"v=DMARC1; p=reject; rua=mailto:d@example.com, e@example.com"}, "error dmarc.rua-invalid", good + ",mailto:e@example.com"},
		{"a semicolon in the list", []string{"v=DMARC1; p=reject; rua=mailto:d@example.com; mailto:e@example.com"}, "error dmarc.rua-invalid", good + ",mailto:e@example.com"},
		{"ruf without mailto:", []string{good + "; ruf=d@example.com"}, "error dmarc.rua-invalid", good + "; ruf=mailto:d@example.com"},
		{"https alone", []string{"v=DMARC1; p=reject; rua=https://example.com/dmarc"}, "notice dmarc.rua-invalid", ""},
		{"a size", []string{good + "!10m"}, "notice dmarc.obsolete-tag", good},
		{"no rua", []string{"v=DMARC1; p=reject"}, "warning dmarc.rua-missing", ""},
		{"rua misspelt", []string{"v=DMARC1; p=reject; rau=mailto:d@example.com"}, "notice dmarc.unknown-tag, warning dmarc.rua-missing", good},
		{"p=none", []string{"v=DMARC1; p=none; rua=mailto:d@example.com"}, "notice dmarc.weak-none", ""},
		{"t=y", []string{good + "; t=y"}, "notice dmarc.testing", ""},
		{"t=yes", []string{good + "; t=yes"}, "warning dmarc.syntax", good[:18] + "; t=y" + good[18:]},
		{"a weaker sp", []string{good + "; sp=none"}, "warning dmarc.sp-weaker", ""},
		{"a weaker np", []string{good + "; np=quarantine"}, "warning dmarc.np-weaker", ""},
		{"an np weaker than sp", []string{"v=DMARC1; p=quarantine; sp=reject; np=quarantine; rua=mailto:d@example.com"}, "warning dmarc.np-weaker", ""},
		{"pct", []string{good + "; pct=20"}, "warning dmarc.pct-ignored", good},
		{"pct=100, rf, ri", []string{good + "; pct=100; rf=afrf; ri=86400"}, "notice dmarc.obsolete-tag, notice dmarc.obsolete-tag, notice dmarc.obsolete-tag", good},
		{"fo without ruf", []string{good + "; fo=1"}, "notice dmarc.fo-without-ruf", ""},
		{"a wrong fo", []string{good + "; fo=2; ruf=mailto:d@example.com"}, "warning dmarc.syntax", ""},
		{"adkim=strict", []string{good + "; adkim=strict"}, "warning dmarc.syntax", good[:18] + "; adkim=s" + good[18:]},
		{"an unknown tag", []string{good + "; foo=bar"}, "notice dmarc.unknown-tag", "-"},
		{"a tag twice", []string{good + "; p=none"}, "error dmarc.syntax", ""},
		{"a whole record within", []string{good + "; v=DMARC1; p=none"}, "error dmarc.syntax, error dmarc.syntax", ""},
		{"a zero-width space", []string{"v=DMARC1; p=reject\u200b; rua=mailto:d@example.com"}, "error dmarc.p-invalid", good},
	} {
		findings := LintTexts(tt.texts)
		var got []string
		for _, f := range findings {
			got = append(got, string(f.Severity)+" "+f.ID)
			if f.Text == "" || f.Found != "" && !strings.Contains(strings.Join(tt.texts, " "), strings.TrimSuffix(f.Found, "...")) {
				t.Errorf("%s: %+v", tt.why, f)
			}
		}
		if strings.Join(got, ", ") != tt.want {
			t.Errorf("%s: %q: %v\nwant %s", tt.why, tt.texts, findings, tt.want)
		}
		if tt.mends == "" {
			continue
		}
		if mended, ok := Mend(tt.texts[0]); ok != (tt.mends != "-") || ok && mended != tt.mends {
			t.Errorf("%s: mended to %q, %v; want %q", tt.why, mended, ok, tt.mends)
		}
	}
	if s := Lint("v=DMARC1; p=none; rua=d@example.com")[0].String(); s != `error: dmarc.rua-invalid: position 19, "rua=d@example.com": "d@example.com" is no URI such as mailto:dmarc@example.com; write "v=DMARC1; p=none; rua=mailto:d@example.com"` {
		t.Error(s)
	}
}
