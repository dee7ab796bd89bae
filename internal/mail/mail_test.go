package mail

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"mxward/internal/dns"
)

func TestParseAddress(t *testing.T) {
	example := dns.MustName("example.com")
	for _, test := range []struct {
		in     string
		want   Address
		string string // how it is written; "" as it was read
	}{
		{"a@example.com", Address{Local: "a", Domain: example}, ""},
		{"A.b@EXAMPLE.com", Address{Local: "A.b", Domain: example}, "A.b@example.com"}, // the local part keeps its case, the domain has none
		{"!#$%&'*+-/=?^_`{|}~@example.com", Address{Local: "!#$%&'*+-/=?^_`{|}~", Domain: example}, ""},
		{`"a b"@example.com`, Address{Local: "a b", Domain: example}, ""},
		{`"a"@example.com`, Address{Local: "a", Domain: example}, "a@example.com"}, // quotes that nothing needs
		{`"a\"b\\c"@example.com`, Address{Local: `a"b\c`, Domain: example}, ""},
		{`"a\b"@example.com`, Address{Local: "ab", Domain: example}, "ab@example.com"},
		{`"a@b"@example.com`, Address{Local: "a@b", Domain: example}, ""}, // the last @ is not the first
		{`""@example.com`, Address{Domain: example}, ""},
		{`".a"@example.com`, Address{Local: ".a", Domain: example}, ""},
		{"user%other@example.com", Address{Local: "user%other", Domain: example}, ""}, // no relay syntax here
		{"jürgen@bücher.example", Address{Local: "jürgen", Domain: dns.MustName("xn--bcher-kva.example")}, "jürgen@xn--bcher-kva.example"},
		{"a@[192.0.2.1]", Address{Local: "a", Literal: netip.MustParseAddr("192.0.2.1")}, ""},
		{"a@[ipv6:2001:DB8::1]", Address{Local: "a", Literal: netip.MustParseAddr("2001:db8::1")}, "a@[IPv6:2001:db8::1]"},
		{"a@under_score.example", Address{Local: "a", Domain: dns.MustName("under_score.example")}, ""},
		{strings.Repeat("x", 64) + "@example.com", Address{Local: strings.Repeat("x", 64), Domain: example}, ""},
	} {
		got, err := ParseAddress(test.in)
		if err != nil || got != test.want {
			t.Errorf("%s: got %+v, %v, want %+v", test.in, got, err, test.want)
		}
		if test.string == "" {
			test.string = test.in
		}
		if got.String() != test.string {
			t.Errorf("%s: is written %s, want %s", test.in, got, test.string)
		}
	}
}

func TestParseAddressBad(t *testing.T) {
	for _, in := range []string{
		"",
		"a",
		"@",
		"a@",
		"@example.com",
		"a@@example.com",
		"a@b@example.com",
		".a@example.com",
		"a.@example.com",
		"a..b@example.com",
		"a b@example.com",
		"a,b@example.com",
		"a\r\n@example.com",
		"a\x00@example.com",
		"\xff@example.com",
		`"a@example.com`,
		`"a"b@example.com`,
		"\"a\nb\"@example.com",
		"\"a\xff\"@example.com",
		`"a\`,
		"a@example.com.",
		"a@.",
		"a@example..com",
		"a@exa mple.com",
		"a@example.com>",
		`a@ex\097mple.com`,                       // a master file's escape, which would be example.com
		`a@a\.example.com`,                       // a dot inside of a label
		"a@" + strings.Repeat("x", 64) + ".com",  // RFC 1035 §2.3.4
		strings.Repeat("x", 65) + "@example.com", // RFC 5321 §4.5.3.1.1
		"a@" + strings.Repeat("x.", 126) + "com", // RFC 5321 §4.5.3.1.3
		"a@[192.0.2.1",
		"a@[192.0.2]",
		"a@[2001:db8::1]",
		"a@[IPv6:192.0.2.1]",
		"a@[IPv6:fe80::1%eth0]",
		"a@[]",
		"a@[x",
	} {
		if got, err := ParseAddress(in); !errors.Is(err, ErrAddress) || !got.IsZero() {
			t.Errorf("%q: got %+v, %v, want ErrAddress and none", in, got, err)
		}
	}
}

func TestParsePath(t *testing.T) {
	for _, test := range []struct{ in, want, rest string }{
		{"<>", "", ""},
		{"<> SIZE=1", "", " SIZE=1"},
		{"<a@example.com>", "a@example.com", ""},
		{"<a@example.com> SIZE=1 BODY=7BIT", "a@example.com", " SIZE=1 BODY=7BIT"},
		{"<a@example.com>x", "a@example.com", "x"},
		{`<"a>b"@example.com> X`, `"a>b"@example.com`, " X"},     // a > inside of quotes
		{`<"a\">b"@example.com> X`, `"a\">b"@example.com`, " X"}, // and behind a quoted quote
		{"<@a.example:b@example.com>", "b@example.com", ""},      // RFC 5321 appendix C
		{"<@a.example,@b.example:b@example.com>", "b@example.com", ""},
		{`<@ours.example:"u@other.example"@example.com>`, `"u@other.example"@example.com`, ""},
	} {
		got, rest, err := ParsePath(test.in)
		if err != nil || got.String() != test.want || rest != test.rest {
			t.Errorf("%s: got %s, %q, %v", test.in, got, rest, err)
		}
	}
	for _, in := range []string{
		"", "a@example.com", " <a@example.com>", "<a@example.com", "<", `<"a>`, "<<a@example.com>>", "<postmaster>", "<a>",
		"<@a.example>", "<@a.example:>", "<@:a@example.com>", "<a.example:a@example.com>", "<@a.example,:a@example.com>", "<@a.example,b.example:a@example.com>",
		"<@a.example:@b.example:a@example.com>", "<" + strings.Repeat("x", 300) + ">", "<" + strings.Repeat("x", 300),
	} {
		if got, rest, err := ParsePath(in); !errors.Is(err, ErrPath) || !got.IsNull() || rest != "" {
			t.Errorf("%q: got %s, %q, %v, want ErrPath", in, got, rest, err)
		}
	}
}

func TestParseForwardPath(t *testing.T) {
	for _, test := range []struct{ in, want, rest string }{
		{"<PostMaster>", "PostMaster", ""},
		{"<postmaster> NOTIFY=NEVER", "postmaster", " NOTIFY=NEVER"},
		{"<@a.example:b@[192.0.2.1]> X", "b@[192.0.2.1]", " X"},
	} {
		got, rest, err := ParseForwardPath(test.in)
		if err != nil || got.String() != test.want || rest != test.rest {
			t.Errorf("%s: got %s, %q, %v", test.in, got, rest, err)
		}
	}
	for _, in := range []string{"", "<>", "<abuse>", "<postmaster", "<@a.example:postmaster>"} {
		if got, _, err := ParseForwardPath(in); !errors.Is(err, ErrPath) || !got.IsZero() {
			t.Errorf("%q: got %s, %v, want ErrPath", in, got, err)
		}
	}
}

func TestNotify(t *testing.T) {
	for in, want := range map[string]Notify{
		"NEVER":                 {Never: true},
		"success":               {Success: true},
		"FAILURE,DELAY":         {Failure: true, Delay: true},
		"SUCCESS,FAILURE,DELAY": {Success: true, Failure: true, Delay: true},
	} {
		got, err := ParseNotify(in)
		if err != nil || got != want || !strings.EqualFold(got.String(), in) {
			t.Errorf("%s: got %+v (%s), %v", in, got, got, err)
		}
	}
	for _, in := range []string{"", "NEVER,SUCCESS", "SUCCESS,", ",SUCCESS", "ALWAYS", "SUCCESS DELAY"} {
		if got, err := ParseNotify(in); !errors.Is(err, ErrDSN) || !got.IsZero() {
			t.Errorf("%q: got %+v, %v", in, got, err)
		}
	}
	if s := (Notify{}).String(); s != "" {
		t.Errorf("the zero Notify is %q", s)
	}
	for n, want := range map[Notify]bool{{}: true, {Never: true}: false, {Failure: true}: true, {Success: true}: false} {
		if n.WantsFailure() != want {
			t.Errorf("%+v: WantsFailure is %v", n, !want)
		}
	}
}

func TestDSNParameters(t *testing.T) {
	check := func(what string, f func(string) error, good, bad []string) {
		t.Helper()
		for _, in := range good {
			if err := f(in); err != nil {
				t.Errorf("%s=%s: %v", what, in, err)
			}
		}
		for _, in := range bad {
			if err := f(in); !errors.Is(err, ErrDSN) {
				t.Errorf("%s=%s: got %v, want ErrDSN", what, in, err)
			}
		}
	}
	check("RET", func(s string) error { _, err := ParseReturn(s); return err },
		[]string{"FULL", "hdrs"}, []string{"", "BODY", "FULL "})
	check("ENVID", CheckEnvelopeID,
		[]string{"x", "a+2Bb", strings.Repeat("x", 100)},
		[]string{"", "a+", "a+4", "a+4g", "a+4a", "a=b", "a b", "ü", "a\r\n", strings.Repeat("x", 101)})
	check("ORCPT", CheckOriginal,
		[]string{"rfc822;a@example.com", "RFC822;a+2Bb@example.com", "x400;C+3Dx", "utf-8;jürgen@example.com", `utf-8;j\x{FC}rgen@example.com`},
		[]string{"", "rfc822", "rfc822;", ";a", "rfc822;a b", "rfc822;ü", "rfc 822;a", "rfc.822;a", "rfc822;a+0", "utf-8;a b", "utf-8;a=b", "utf-8;\xff", "rfc822;" + strings.Repeat("x", 500)})
}

func TestEnhancedCode(t *testing.T) {
	for in, want := range map[string]EnhancedCode{"2.0.0": {2, 0, 0}, "4.7.1": {4, 7, 1}, "5.123.456": {5, 123, 456}} {
		got, ok := ParseEnhancedCode(in)
		if !ok || got != want || got.String() != in {
			t.Errorf("%s: got %v, %v", in, got, ok)
		}
	}
	for _, in := range []string{"", "4.7", "4.7.1.", "4.7.1.2", "3.0.0", "1.0.0", "4..1", "4.7.x", "4.1234.0", "44.0.0", "4.+7.1", "4.-7.1", " 4.7.1"} {
		if got, ok := ParseEnhancedCode(in); ok || !got.IsZero() {
			t.Errorf("%q: got %v, %v", in, got, ok)
		}
	}
}

func TestReply(t *testing.T) {
	r := NewReply(451, 4, 3, "a\nb")
	if r.String() != "451 4.4.3 a / b" || !r.Temporary() || r.Permanent() || r.Positive() || r.Intermediate() || r.Status() != Deferred {
		t.Errorf("got %s", r)
	}
	for code, want := range map[int]Status{250: Delivered, 354: Deferred, 421: Deferred, 550: Failed, 0: Deferred} {
		if got := (Reply{Code: code}).Status(); got != want {
			t.Errorf("%d means %s, want %s", code, got, want)
		}
	}
	for _, r := range []struct {
		Reply
		want string
	}{{Reply{}, ""}, {Reply{Code: 250}, "250"}, {Reply{Text: "x"}, "x"}, {NewReply(250, 0, 0, ""), "250 2.0.0"}} {
		if r.String() != r.want {
			t.Errorf("got %q, want %q", r.String(), r.want)
		}
	}
}

// TestJSON: an envelope survives the way to a store and back.
func TestJSON(t *testing.T) {
	postmaster := Address{Local: "Postmaster"}
	user, err := ParseAddress(`"a b"@[IPv6:2001:db8::1]`)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []Envelope{
		{},
		{From: Path{user}, Recipients: []Recipient{{Address: postmaster, Notify: Notify{Never: true}, Original: "rfc822;x"}, {Address: user}}, UTF8: true, Body: Body8BitMIME, Return: ReturnFull, ID: "x", Size: 1},
	} {
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Envelope
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(got)
		if err != nil || string(again) != string(text) || got.From != want.From || len(got.Recipients) != len(want.Recipients) {
			t.Errorf("got %s, %v, want %s", again, err, text)
		}
	}
	var a Address
	if err := json.Unmarshal([]byte(`"no address"`), &a); !errors.Is(err, ErrAddress) {
		t.Errorf("got %v", err)
	}
}

// FuzzAddress: what is read is written so that it reads the same, and is nothing on an error.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"a@example.com", `"a b\"\\"@example.com`, "a@[192.0.2.1]", "a@[IPv6:::1]", "jürgen@bücher.example", `""@x`, `"\a"@x`, "a@x\\097"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			if !a.IsZero() || !errors.Is(err, ErrAddress) {
				t.Errorf("%q: got %+v, %v", s, a, err)
			}
			return
		}
		if strings.ContainsAny(a.String(), "\r\n\x00") {
			t.Errorf("%q is written %q", s, a)
		}
		if again, err := ParseAddress(a.String()); len(a.String()) <= maxPath-2 && (err != nil || again != a) {
			t.Errorf("%q is %+v, is written %q, which is %+v, %v", s, a, a, again, err)
		}
	})
}

// FuzzPath: a path that was read is written by Wire, and the rest is the end of the input.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"<>", "<a@example.com> SIZE=1", `<"a>\""@x>`, "<@a,@b:c@d>", "<postmaster>", "<@a:postmaster>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, rest, err := ParsePath(s); err != nil {
			if !errors.Is(err, ErrPath) || !p.IsNull() || rest != "" {
				t.Errorf("%q: got %+v, %q, %v", s, p, rest, err)
			}
		} else {
			again, end, err := ParsePath(p.Wire() + rest)
			if len(p.Wire()) < maxPath && (err != nil || again != p || end != rest || !strings.HasSuffix(s, rest)) {
				t.Errorf("%q is %+v and %q, and reads again %+v, %q, %v", s, p, rest, again, end, err)
			}
		}
		if a, rest, err := ParseForwardPath(s); err != nil && (!errors.Is(err, ErrPath) || !a.IsZero() || rest != "") || err == nil && a.IsZero() {
			t.Errorf("%q: got %+v, %q, %v", s, a, rest, err)
		}
	})
}

// FuzzXtext: encoding and decoding are each other's inverse.
func FuzzXtext(f *testing.F) {
	for _, s := range []string{"", "a+b=c", "+2B", "ü\x00\r\n", "+", "+4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		encoded := EncodeXtext(s)
		if got, err := DecodeXtext(encoded); err != nil || got != s {
			t.Errorf("%q is %q, which is %q, %v", s, encoded, got, err)
		}
		if decoded, err := DecodeXtext(s); err == nil {
			if again, err := DecodeXtext(EncodeXtext(decoded)); err != nil || again != decoded {
				t.Errorf("%q decodes to %q, which does not come back", s, decoded)
			}
		} else if decoded != "" || !errors.Is(err, ErrDSN) {
			t.Errorf("%q: got %q, %v", s, decoded, err)
		}
	})
}
