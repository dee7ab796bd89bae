package mailauth

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/mailauth/arc"
	"mxward/internal/mailauth/dkim"
	"mxward/internal/mailauth/dmarc"
	"mxward/internal/mailauth/spf"
)

func TestParse(t *testing.T) {
	good := []struct{ why, in, want string }{
		{"no results (RFC 8601 appendix B.2)", "example.org 1; none", "example.org 1; none"},
		{"one result (appendix B.3)", "example.com;\r\n           spf=pass smtp.mailfrom=example.net", "example.com; spf=pass smtp.mailfrom=example.net"},
		{"several (appendix B.4)", "example.com; auth=pass (cram-md5) smtp.auth=sender@example.net; spf=pass smtp.mailfrom=example.net", "example.com; auth=pass smtp.auth=sender@example.net; spf=pass smtp.mailfrom=example.net"},
		{"comments everywhere (appendix B.7)", "foo.example.net (foobar) 1 (baz); dkim (Because I like it) / 1 (One yay) = (wait for it) fail policy (A dot can go here) . (like that) expired (this surprised me) = (as I wasn't expecting it) 1362471462", "foo.example.net 1; dkim/1=fail policy.expired=1362471462"},
		{"a reason", `example.com; dkim=fail reason="bad \"b=\"" header.i=@example.net`, `example.com; dkim=fail reason="bad \"b=\"" header.i=@example.net`},
		{"what should have been quoted", "example.com; iprev=pass policy.iprev=2001:db8::1; dkim=pass header.b=a/b+c=", `example.com; iprev=pass policy.iprev="2001:db8::1"; dkim=pass header.b="a/b+c="`},
		{"a quoted local part", `example.com; spf=pass smtp.mailfrom="a b"@example.net`, `example.com; spf=pass smtp.mailfrom="\"a b\"@example.net"`},
		{"any case", "example.com; SPF=Pass SMTP.MailFrom=A@example.net", "example.com; spf=pass smtp.mailfrom=A@example.net"},
	}
	for _, tt := range good {
		got, err := Parse(tt.in)
		if err != nil || got.String() != tt.want {
			t.Errorf("%s: got %q, %v; want %q", tt.why, got, err, tt.want)
		}
	}
	for _, in := range []string{
		"", ";", "example.com", "example.com;", "example.com; spf", "example.com; spf=", "example.com; spf=pass smtp", "example.com; spf=pass smtp.x",
		"example.com; none; spf=pass", "example.com; spf=pass; none", "example.com 1234567890; none", "example.com; spf=pass (x", `example.com; spf=pass reason="x`,
		"a b; none", "example.com; spf=pass x.y=\"\x00\"", "example.com;" + strings.Repeat("a=b;", maxInfos) + "a=b", "example.com; a=b" + strings.Repeat(" c.d=e", maxProperties+1),
	} {
		if got, err := Parse(in); !errors.Is(err, ErrField) || !reflect.DeepEqual(got, Field{}) {
			t.Errorf("%q: got %+v, %v", in, got, err)
		}
	}
}

// FuzzParse: what was read is written so that it reads the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"example.org 1; none", `a; b/2=c reason="d \" \\" e.f=g h.i="j k"`, "a (x (y) \\) z); b=c d.e=@f", `"a b"; c=d e.f="g h"@i`, "a; b=c d.e=x@y@z", "bücher.example; spf=pass",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := Parse(s)
		if err != nil {
			if !errors.Is(err, ErrField) || !reflect.DeepEqual(got, Field{}) {
				t.Errorf("%q: got %+v, %v", s, got, err)
			}
			return
		}
		again, err := Parse(got.String())
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%q is %+v, written %q, which is %+v, %v", s, got, got, again, err)
		}
	})
}

// FuzzHeader: whatever strangers choose, the field is one field, in our name, with the
// results that we found.
func FuzzHeader(f *testing.F) {
	f.Add("mail.example.net", "a@example.net", "s1", "a", false)
	f.Add("x\r\nBcc: y", "a@b; dkim=pass", "s\"; spf=pass", "(", true)
	f.Add(strings.Repeat("x", 2000), strings.Repeat("ü", 2000), strings.Repeat(`"\`, 900), "\x00\xff\u2028\u202e", true)
	id := dns.MustName("mx.example.com")
	f.Fuzz(func(t *testing.T, helo, sender, selector, reason string, utf8 bool) {
		r := Results{
			Session: Session{Client: netip.MustParseAddr("2001:db8::1"), Name: dns.MustName("a.example.net"), Helo: helo, From: sender, UTF8: utf8},
			Judged:  true,
			SPF:     spf.Verdict{Result: spf.Fail, Identity: spf.IdentityMailFrom},
			Helo:    spf.Verdict{Result: spf.Neutral, Identity: spf.IdentityHelo},
			DKIM:    []dkim.Signature{{Result: dkim.Fail, Selector: selector, Algorithm: helo, Value: sender, Reason: reason}},
			ARC:     arc.Chain{Status: arc.Fail, Reason: reason},
			DMARC:   dmarc.Verdict{Result: dmarc.Fail},
		}
		field := r.Header(id)
		if len(field) > MaxHeaderField {
			t.Errorf("%d octets", len(field))
		}
		got, err := Parse(unfold(t, field))
		if err != nil || got.ID != id.String() || len(got.Infos) != 6 {
			t.Fatalf("%q is read as %+v, %v", field, got, err)
		}
		for i, want := range []string{"spf=fail", "spf=neutral", "dkim=fail", "arc=fail", "dmarc=fail", "iprev=pass"} {
			if got.Infos[i].method() != want {
				t.Errorf("%s, want %s", got.Infos[i].method(), want)
			}
		}
		for i := range len(field) {
			if field[i] >= 0x80 && !utf8 {
				t.Fatalf("%q is not ASCII", field)
			}
		}
	})
}
