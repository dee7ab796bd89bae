package bimi

import (
	"errors"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, row := range []struct {
		text, want string
		class      error
		why        string
	}{
		{"v=BIMI1; l=https://example.com/logo.svg; a=https://example.com/vmc.pem", "v=BIMI1; l=https://example.com/logo.svg; a=https://example.com/vmc.pem;", nil, "the usual one"},
		{"v=BIMI1;l=;a=;", "v=BIMI1; l=;", nil, "declined"},
		{" v = BIMI1 ; l = https://example.com/a.svg ; x=1; avp=Brand; lps=News, sales-1", "v=BIMI1; l=https://example.com/a.svg; avp=brand; lps=news,sales-1;", nil, "white space, an unknown tag, the new tags"},
		{"v=BIMI1; a=https://example.com/vmc.pem", "", ErrPermanent, "l= is required"},
		{"v=BIMI1; l=http://example.com/logo.svg", "", ErrPermanent, "HTTPS only"},
		{"v=BIMI1; l=https://localhost/logo.svg", "", ErrPermanent, "a full name"},
		{"v=BIMI1; l=https://example.com/a.svg,https://example.com/b.svg", "", ErrPermanent, "one URL"},
		{"v=BIMI1; l=; l=", "", ErrPermanent, "twice"},
		{"v=BIMI1; l", "", ErrPermanent, "no value"},
		{"v=BIMI1; l=; avp=logo", "", ErrPermanent, "no such avatar"},
		{"v=BIMI1; l=; lps=a,,b", "", ErrPermanent, "an empty prefix"},
		{"v=BIMI1; l=; x=" + strings.Repeat("a", maxRecord), "", ErrPermanent, "too long"},
		{"l=; v=BIMI1", "", ErrNone, "the version comes first"},
		{"v=bimi1; l=", "", ErrNone, "exactly so"},
		{"", "", ErrNone, "nothing"},
	} {
		r, err := Parse(row.text)
		got := r.String()
		if err != nil {
			got = ""
		}
		if got != row.want || !errors.Is(err, row.class) || (row.class == nil) != (err == nil) {
			t.Errorf("%s: %q, %v", row.why, got, err)
		}
	}
}

func TestLint(t *testing.T) {
	const good = "v=BIMI1; l=https://example.com/logo.svg; a=https://example.com/vmc.pem;"
	strong := DMARC{Policy: "reject", Percent: 100}
	for _, row := range []struct {
		texts    []string
		policies []DMARC
		want     string
		why      string
	}{
		{[]string{good}, []DMARC{strong, {Policy: "quarantine", Subdomains: "quarantine", Percent: 100}}, "", "nothing to say"},
		{[]string{good, "other"}, nil, "", "what is no record is discarded"},
		{nil, nil, "bimi.missing", "none"},
		{[]string{"v=bimi1; l="}, nil, "bimi.syntax", "the wrong case"},
		{[]string{"v=BIMI1; l=x"}, nil, "bimi.syntax", "no URL"},
		{[]string{good, good}, nil, "bimi.multiple", "two"},
		{[]string{"v=BIMI1; l=;"}, []DMARC{{Policy: "none", Percent: 100}}, "bimi.declined", "declined, whatever the policy"},
		{[]string{"v=BIMI1; l=https://example.com/logo.png"}, nil, "bimi.svg-location bimi.cert-missing", "another kind of image"},
		{[]string{good}, []DMARC{strong, {Policy: "none", Percent: 100}}, "bimi.dmarc-not-enforced", "the organization's policy counts too"},
		{[]string{good}, []DMARC{{Policy: "quarantine", Percent: 50}}, "bimi.dmarc-not-enforced", "half of it"},
		{[]string{good}, []DMARC{{Policy: "reject", Percent: 100, Subdomains: "none"}}, "bimi.dmarc-not-enforced", "not for subdomains"},
		{[]string{good}, []DMARC{{Policy: "reject", Percent: 100, Testing: true}}, "bimi.dmarc-not-enforced", "a test"},
		{[]string{good}, []DMARC{{}}, "bimi.dmarc-not-enforced", "no policy"},
	} {
		var ids []string
		for _, f := range Lint(row.texts, row.policies...) {
			ids = append(ids, f.ID)
			if !strings.Contains(f.String(), f.Text) {
				t.Errorf("%s: %q", row.why, f)
			}
		}
		if got := strings.Join(ids, " "); got != row.want {
			t.Errorf("%s: %s", row.why, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"v=BIMI1; l=https://example.com/logo.svg; a=https://example.com/vmc.pem", "v=BIMI1; l=; avp=brand; lps=a, b", "v=BIMI1", "l=;"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		Lint([]string{text}, DMARC{})
		r, err := Parse(text)
		if err != nil {
			if r != (Record{}) {
				t.Fatalf("%+v beside %v", r, err)
			}
			return
		}
		if again, err := Parse(r.String()); len(r.String()) <= maxRecord && (err != nil || again != r) {
			t.Fatalf("%q gives %q, then %q, %v", text, r, again, err)
		}
	})
}
