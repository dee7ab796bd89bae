package mtasts

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mailauth/lint"
)

func TestParse(t *testing.T) {
	for _, row := range []struct {
		text  string
		id    string
		class error
		why   string
	}{
		{"v=STSv1; id=20160831085700Z;", "20160831085700Z", nil, "the example of RFC 8461 §3.1"},
		{"v=STSv1;id=1", "1", nil, "no space and no last delimiter"},
		{"v=STSv1 ; \tid = abc ; x-y.z_=1:2 ;", "abc", nil, "white space around delimiters and =, a field of the future"},
		{"v=STSv1; id=a; id=b;", "a", nil, "the first of two counts"},
		{"v=STSv1; x=1; id=a", "a", nil, "the order of fields is free"},
		{"v=STSv1; id=" + strings.Repeat("a", 32), strings.Repeat("a", 32), nil, "the longest id"},
		{"v=STSv1; id=" + strings.Repeat("a", 33), "", ErrPermanent, "one more"},
		{"v=STSv1; id=2016-08-31", "", ErrPermanent, "letters and digits only"},
		{"v=STSv1; id=", "", ErrPermanent, "an empty value is no value"},
		{"v=STSv1;", "", ErrPermanent, "no id"},
		{"v=STSv1; ; id=1", "", ErrPermanent, "an empty field is none"},
		{"v=STSv1; ID=1", "", ErrPermanent, "names of fields have their case"},
		{"v=STSv1; id=1; two words=3", "", ErrPermanent, "no name of a field"},
		{"v=STSv1; id=1; " + strings.Repeat("x", maxRecord), "", ErrPermanent, "longer than anybody's record"},
		{"v=STSv10; id=1", "", ErrNone, "another version is another thing (erratum 6285)"},
		{"v=STSv1", "", ErrNone, "without a delimiter it is no record"},
		{"v=stsv1; id=1", "", ErrNone, "the version has its case"},
		{" v=STSv1; id=1", "", ErrNone, "nothing stands before it"},
		{"\"v=STSv1; id=1\"", "", ErrNone, "quotation marks inside the record"},
		{"", "", ErrNone, "nothing"},
	} {
		r, err := Parse(row.text)
		if r.ID != row.id || !errors.Is(err, row.class) || (row.class == nil) != (err == nil) {
			t.Errorf("%s: %q: %+v, %v", row.why, row.text, r, err)
		}
		if err == nil {
			if again, err := Parse(r.String()); err != nil || again != r {
				t.Errorf("%s: %q: again %+v, %v", row.why, r.String(), again, err)
			}
		}
	}
}

func TestChoose(t *testing.T) {
	for _, row := range []struct {
		texts []string
		id    string
		class error
		why   string
	}{
		{nil, "", ErrNone, "no record"},
		{[]string{"v=spf1 -all", "v=STSv1; id=1;"}, "1", nil, "records of others are discarded"},
		{[]string{"v=STSv2; id=2;", "v=STSv1; id=1;"}, "1", nil, "those of another version too"},
		{[]string{"v=STSv1; id=2;", "v=STSv1; id=1;"}, "", ErrPermanent, "two make none"},
		{[]string{"v=STSv1; id=2;", "v=STSv1;"}, "", ErrPermanent, "a broken one counts"},
	} {
		r, err := Choose(row.texts)
		if r.ID != row.id || (row.class == nil) != (err == nil) || !errors.Is(err, row.class) {
			t.Errorf("%s: %+v, %v", row.why, r, err)
		}
	}
}

func TestParsePolicy(t *testing.T) {
	const rest = "mode: enforce\nmx: mx1.example.com\nmax_age: 604800\n"
	for _, row := range []struct {
		body string
		want string // the policy again, lines joined by a space; or the id of the mistake
		why  string
	}{
		{"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmx: backupmx.example.com\r\nmax_age: 604800\r\n",
			"version: STSv1 mode: enforce mx: mail.example.com mx: *.example.net mx: backupmx.example.com max_age: 604800", "the example of RFC 8461 §3.2"},
		{"version: STSv1\n" + rest, "version: STSv1 mode: enforce mx: mx1.example.com max_age: 604800", "LF alone (erratum 6253)"},
		{"version:STSv1 \r\nmode :testing\r\nmx: MX1.Example.COM.\r\nmax_age:\t0", "version: STSv1 mode: testing mx: mx1.example.com max_age: 0", "white space, cases, a dot, and no end of the last line"},
		{"version: STSv1\nmode: none\nmax_age: 86400\n", "version: STSv1 mode: none max_age: 86400", "no mx where there is no mode"},
		{"version: STSv1\nversion: STSv2\nmode: testing\nmode: enforce\nmax_age: 1\nmax_age: 2\nmx: a.example\n", "version: STSv1 mode: testing mx: a.example max_age: 1", "the first of two counts"},
		{"version: STSv1\nmode: testing\nmode: nonsense\nmx: a.example\nmax_age: 1\n", "version: STSv1 mode: testing mx: a.example max_age: 1", "and the second is not even read"},
		{"version: STSv1\nx-new: a b: ü\n" + rest, "version: STSv1 mode: enforce mx: mx1.example.com max_age: 604800", "unknown keys are ignored, with any value"},
		{"\nversion: STSv1\n\r\n" + rest + "\n\n", "version: STSv1 mode: enforce mx: mx1.example.com max_age: 604800", "empty lines do no harm"},
		{"mx: bücher.example\n" + "max_age: 31557600\nmode: enforce\nversion: STSv1", "version: STSv1 mode: enforce mx: xn--bcher-kva.example max_age: 31557600", "any order, the longest age, a U-label"},
		{rest, "mtasts.policy-syntax", "no version"},
		{"version: STSv1\nmx: a.example\nmax_age: 1\n", "mtasts.policy-syntax", "no mode"},
		{"version: STSv1\nmode: enforce\nmax_age: 1\n", "mtasts.policy-syntax", "no mx"},
		{"version: STSv1\nmode: testing\nmx: a.example\n", "mtasts.policy-syntax", "no age"},
		{"version: STSv2\n" + rest, "mtasts.policy-syntax", "another version"},
		{"version: STSv1\nmode: Enforce\nmx: a.example\nmax_age: 1\n", "mtasts.policy-syntax", "modes have their case"},
		{"version: STSv1\nmode: none\nmax_age: -1\n", "mtasts.policy-syntax", "no age at all"},
		{"version: STSv1\nmode: none\nmax_age: 00000000001\n", "mtasts.policy-syntax", "more than ten digits"},
		{"version: STSv1\nmode: none\nmax_age: 31557601\n", "mtasts.max-age-range", "a second more than a year"},
		{"version: STSv1\nmode: enforce\nmx: a.example, b.example\nmax_age: 1\n", "mtasts.policy-syntax", "two in one line"},
		{"version: STSv1\nmode: enforce\nmx: *\nmax_age: 1\n", "mtasts.policy-syntax", "a bare star"},
		{"version: STSv1\nmode: enforce\nmx: mx*.example.com\nmax_age: 1\n", "mtasts.policy-syntax", "a star inside a label"},
		{"version: STSv1\nmode: enforce\nmx: *.*.example.com\nmax_age: 1\n", "mtasts.policy-syntax", "two stars"},
		{"version: STSv1\nmode: enforce\nmx: 192.0.2.1\nmax_age: 1\n", "mtasts.policy-syntax", "an address"},
		{"<html>\n", "mtasts.policy-syntax", "a web page"},
		{"version STSv1\n" + rest, "mtasts.policy-syntax", "no colon"},
		{"version: STSv1\x00\n" + rest, "mtasts.policy-syntax", "control characters"},
		{"version: STSv1\nx: \xff\n" + rest, "mtasts.policy-syntax", "not UTF-8"},
		{"version: STSv1\n" + rest + "x: " + strings.Repeat("a", maxPolicy), "mtasts.too-large", "too large"},
	} {
		p, err := ParsePolicy(row.body)
		got := strings.TrimSpace(strings.ReplaceAll(p.String(), "\r\n", " "))
		var e *Error
		if errors.As(err, &e) {
			got = e.ID
			if !errors.Is(err, ErrPermanent) || !reflect.DeepEqual(p, Policy{}) {
				t.Errorf("%s: %+v, %v", row.why, p, err)
			}
		}
		if got != row.want {
			t.Errorf("%s: got %s (%v)\nwant %s", row.why, got, err, row.want)
		}
	}
}

func TestMatches(t *testing.T) {
	p := Policy{MX: []Pattern{{dns.MustName("mx1.example.com"), false}, {dns.MustName("example.net"), true}}}
	for _, row := range []struct {
		host string
		want bool
		why  string
	}{
		{"mx1.example.com", true, "the very host"},
		{"MX1.EXAMPLE.com.", true, "case and the last dot mean nothing"},
		{"a.mx1.example.com", false, "a host is no domain"},
		{"a.example.net", true, "one label"},
		{"a.b.example.net", false, "not two"},
		{"example.net", false, "and not none"},
		{"aexample.net", false, "a label ends at the dot"},
		{".", false, "nobody"},
	} {
		if got := p.Matches(dns.MustName(row.host)); got != row.want {
			t.Errorf("%s: %s: %v", row.why, row.host, got)
		}
	}
}

// Another policy has another id, and an id is one.
func TestPolicyID(t *testing.T) {
	p := Policy{Mode: Enforce, MX: []Pattern{{dns.MustName("mx1.example.com"), false}}, MaxAge: time.Hour}
	q := p
	q.Mode = Testing
	if p.ID() == q.ID() {
		t.Error(p.ID(), q.ID())
	}
	if r, err := Parse(Record{p.ID()}.String()); err != nil || r.ID != p.ID() {
		t.Error(r, err)
	}
}

func TestLint(t *testing.T) {
	const policy = "version: STSv1\nmode: enforce\nmx: mx1.example.com\nmax_age: 2419200\n"
	for _, row := range []struct {
		got  []lint.Finding
		want string
		why  string
	}{
		{LintTexts([]string{"v=STSv1; id=1;"}), "", "nothing to say"},
		{LintTexts([]string{"x"}), "info mtasts.txt-missing", "no record is no mistake"},
		{LintTexts([]string{"“v=STSv1; id=1;”"}), "error mtasts.txt-syntax", "typed with marks of a word processor"},
		{LintTexts([]string{"v=MTA-STS1; id=1"}), "error mtasts.txt-syntax", "the wrong version"},
		{LintTexts([]string{"v=STSv1; id=1;", "v=STSv1; id=2;"}), "error mtasts.txt-multiple", "two"},
		{LintTexts([]string{"v=STSv1; id=1-2;"}), "error mtasts.id-invalid", "a hyphen in the id"},
		{LintPolicy(policy, "text/plain; charset=utf-8"), "", "nothing to say"},
		{LintPolicy(policy, ""), "", "the type is not known"},
		{LintPolicy(policy, "text/html"), "warning mtasts.content-type", "served as a page"},
		{LintPolicy("x", "text/html"), "warning mtasts.content-type, error mtasts.policy-syntax", "and it is one"},
		{LintPolicy(strings.Replace(policy, "2419200", "3600", 1), ""), "warning mtasts.max-age-low", "an hour"},
		{LintPolicy(strings.Replace(policy, "2419200", "86400", 1), ""), "notice mtasts.max-age-low", "a day"},
		{LintPolicy(strings.Replace(policy, "enforce", "testing", 1), ""), "notice mtasts.mode-testing", "not yet"},
		{LintPolicy("version: STSv1\nmode: none\nmax_age: 60\n", ""), "info mtasts.mode-none", "taken back: its age is meant to be short"},
		{LintPolicy(policy+"max_age: 1\n", ""), "warning mtasts.policy-syntax", "twice"},
		{LintPolicy(policy+"maxage: 1\n", ""), "notice mtasts.policy-syntax", "unknown"},
		{coverage(policy, "mx1.example.com"), "", "covered"},
		{coverage(policy, "mx1.example.com", "mx2.example.com"), "error mtasts.mx-not-covered", "one is not"},
		{coverage(strings.Replace(policy, "enforce", "testing", 1), "mx1.example.com", "mx2.example.com"), "warning mtasts.mx-not-covered", "while testing"},
		{coverage(policy+"mx: *.example.net", "mx1.example.com"), "notice mtasts.pattern-unused", "a pattern for nobody"},
		{coverage("version: STSv1\nmode: none\nmax_age: 60\n", "mx1.example.com"), "", "no mode, no duty"},
	} {
		var got []string
		for _, f := range row.got {
			got = append(got, string(f.Severity)+" "+f.ID)
			if f.Text == "" || !strings.Contains(f.String(), f.Text) {
				t.Errorf("%s: %q says nothing", row.why, f)
			}
		}
		if s := strings.Join(got, ", "); s != row.want {
			t.Errorf("%s: got %s, want %s", row.why, s, row.want)
		}
	}
}

func coverage(body string, hosts ...string) []lint.Finding {
	p, err := ParsePolicy(body)
	if err != nil {
		return []lint.Finding{finding(err)}
	}
	var names []dns.Name
	for _, h := range hosts {
		names = append(names, dns.MustName(h))
	}
	return LintCoverage(p, names)
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"v=STSv1; id=20160831085700Z;", "v=STSv1;id=1;a=b", "v=STSv1; id", "v=STSv1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		LintTexts([]string{text})
		r, err := Parse(text)
		if err != nil {
			if r != (Record{}) || errors.Is(err, ErrTemporary) {
				t.Fatalf("%+v beside %v", r, err)
			}
			return
		}
		if again, err := Parse(r.String()); err != nil || again != r {
			t.Fatalf("%q gives %+v, then %+v, %v", text, r, again, err)
		}
	})
}

func FuzzParsePolicy(f *testing.F) {
	for _, seed := range []string{
		"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n",
		"version: STSv1\nmode: none\nmax_age: 0\n", "mode: testing\nmx: \n", "version:STSv1\nx: ü\n", "\r\n:\n",
		"version: STSv1\nmode: enforce\nmx: a\\.b.example\nmax_age: 1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		LintPolicy(body, "text/plain")
		p, err := ParsePolicy(body)
		if err != nil {
			if !errors.Is(err, ErrPermanent) || !reflect.DeepEqual(p, Policy{}) {
				t.Fatalf("%+v beside %v", p, err)
			}
			return
		}
		again, err := ParsePolicy(p.String())
		if len(p.String()) <= maxPolicy && (err != nil || !reflect.DeepEqual(again, p)) {
			t.Fatalf("%q gives %+v, then %+v, %v", body, p, again, err)
		}
		_ = fmt.Sprint(p.ID(), p.Matches(dns.MustName("mx1.example.com")))
	})
}
