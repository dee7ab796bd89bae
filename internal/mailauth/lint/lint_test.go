package lint

import "testing"

func TestString(t *testing.T) {
	for _, tt := range []struct {
		why  string
		f    Finding
		want string
	}{
		{"all there is to say", Finding{"spf.syntax", Error, "example.com", 7, "ipv4:", "no such mechanism", "write ip4:"}, `error: spf.syntax: example.com: position 8, "ipv4:": no such mechanism; write ip4:`},
		{"a record as a whole", Finding{ID: "dane.unusable", Severity: Warning, Found: "1 1 1", Text: "usage 1 is not for mail"}, `warning: dane.unusable: "1 1 1": usage 1 is not for mail`},
		{"nothing to show", Finding{ID: "spf.missing", Severity: Notice, Text: "there is none"}, "notice: spf.missing: there is none"},
		{"what strangers wrote moves no cursor", Finding{ID: "spf.syntax", Severity: Info, Domain: "a\x1b[2J\"", Found: "\r\nforged: yes", Text: "odd"}, `info: spf.syntax: a\x1b[2J\": "\r\nforged: yes": odd`},
		{"nor where a text quotes them", Finding{ID: "dkim.syntax", Severity: Info, Text: "t=\x1b[31m, RFC 6376 §3.6.1", Fix: "leave\nit"}, "info: dkim.syntax: t=?[31m, RFC 6376 §3.6.1; leave?it"},
	} {
		if got := tt.f.String(); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.why, got, tt.want)
		}
	}
}
