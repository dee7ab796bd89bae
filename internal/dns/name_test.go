package dns_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"mxward/internal/dns"
)

func TestParseName(t *testing.T) {
	l63 := strings.Repeat("a", 63)
	n253 := strings.Join([]string{l63, l63, l63, strings.Repeat("a", 61)}, ".") // 255 octets on the wire
	good := map[string]string{
		".":                       ".",
		"example.com":             "example.com",
		"example.com.":            "example.com", // with its dot
		"EXAMPLE.Com":             "example.com", // RFC 4343
		"bücher.example":          "xn--bcher-kva.example",
		"BÜCHER.example.":         "xn--bcher-kva.example",
		"_dmarc.bücher.example":   "_dmarc.xn--bcher-kva.example", // no host name, yet a name
		"*.bücher.example":        "*.xn--bcher-kva.example",
		"例え。テスト":                  "xn--r8jz45g.xn--zckzah", // the dot of another script
		"xn--bcher-kva.example":   "xn--bcher-kva.example",
		"_25._tcp.mx.example":     "_25._tcp.mx.example",
		"192.0.2.1":               "192.0.2.1",
		`a\.b.example`:            `a\.b.example`,
		`\065\046b.example`:       `a\.b.example`, // one spelling
		`\a.example`:              "a.example",
		"it's.example":            `it\'s.example`,
		"user@host.example":       `user\@host.example`,
		"a b.example":             `a\ b.example`,
		`\000\255.example`:        `\000\255.example`,
		`dot\.`:                   `dot\.`, // the dot belongs to the label
		l63 + ".example":          l63 + ".example",
		n253:                      n253,
		n253 + ".":                n253,
		strings.Repeat("a.", 127): strings.TrimSuffix(strings.Repeat("a.", 127), "."),
	}
	for in, want := range good {
		n, err := dns.ParseName(in)
		if err != nil || n.String() != want {
			t.Errorf("ParseName(%q) = %q, %v; want %q", in, n, err, want)
		}
	}
	bad := map[string]string{ // and a word of the message
		"":                        "empty",
		"..":                      "empty label",
		".example":                "empty label",
		"a..b":                    "empty label",
		"example..":               "empty label",
		l63 + "a.example":         "63 octets",
		n253 + "a":                "octets",
		"a." + n253:               "255 octets",
		strings.Repeat("a.", 128): "255 octets",
		"\xff.example":            "not a domain name",
		"a\u200b..example":        "not a domain name",
		strings.Repeat("ü", 64):   "not a domain name",
	}
	for in, word := range bad {
		n, err := dns.ParseName(in)
		if !errors.Is(err, dns.ErrName) || !strings.Contains(err.Error(), word) || !n.IsZero() {
			t.Errorf("ParseName(%q) = %q, %v; want an error with %q", in, n, err, word)
		}
	}
}

func TestMustNamePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	dns.MustName("a..b")
}

// TestNameOf: however the wire library or a master file spells a name, it is one Name.
func TestNameOf(t *testing.T) {
	for in, want := range map[string]string{
		"Example.COM.":   "example.com",
		".":              ".",
		`a\.b.Example.`:  `a\.b.example`,
		`\097.example.`:  "a.example",
		"it's.example.":  `it\'s.example`,
		`it\'s.example.`: `it\'s.example`,
		"a;b.example.":   `a\;b.example`,
		`a\@b.example.`:  `a\@b.example`,
		"":               "", // no name at all
	} {
		if got := dns.NameOf(in); got.String() != want {
			t.Errorf("NameOf(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestNameParts(t *testing.T) {
	n := dns.MustName(`_25._tcp.a\.b.Example`)
	if got, want := n.Labels(), []string{"_25", "_tcp", `a\.b`, "example"}; !slices.Equal(got, want) {
		t.Errorf("labels %q, want %q", got, want)
	}
	var up []string
	for at, ok := n, true; ok; at, ok = at.Parent() {
		up = append(up, at.FQDN())
	}
	if want := []string{`_25._tcp.a\.b.example.`, `_tcp.a\.b.example.`, `a\.b.example.`, "example.", "."}; !slices.Equal(up, want) {
		t.Errorf("upwards %q, want %q", up, want)
	}
	if _, ok := (dns.Name{}).Parent(); ok {
		t.Error("no name has a parent")
	}
	if len(dns.Root.Labels()) != 0 || len((dns.Name{}).Labels()) != 0 {
		t.Error("the root has labels")
	}
	for _, tt := range []struct{ parent, label, want string }{
		{"example", "a", "a.example"}, {".", "com", "com"}, {"example", `a\.b`, `a\.b.example`},
	} {
		if got, err := dns.MustName(tt.parent).Child(tt.label); err != nil || got.String() != tt.want {
			t.Errorf("%s below %s: %s, %v", tt.label, tt.parent, got, err)
		}
	}
	if got, err := dns.Root.Child(strings.Repeat("a", 64)); err == nil {
		t.Errorf("got %s", got)
	}
}

func TestIn(t *testing.T) {
	for _, tt := range []struct {
		name, zone string
		want       bool
	}{
		{"example.com", "example.com", true},
		{"a.b.example.com", "example.com", true},
		{"com", "example.com", false},
		{"badexample.com", "example.com", false}, // label by label
		{`bad\.example.com`, "example.com", false},
		{"example.com", ".", true},
		{".", ".", true},
		{".", "com", false},
		{"example.com.example.net", "example.com", false},
	} {
		if got := dns.MustName(tt.name).In(dns.MustName(tt.zone)); got != tt.want {
			t.Errorf("%s in %s: %v", tt.name, tt.zone, got)
		}
	}
	// The zero Name is in nothing, and nothing is in it.
	var zero dns.Name
	if zero.In(zero) || zero.In(dns.Root) || dns.Root.In(zero) || dns.MustName("a").In(zero) {
		t.Error("the zero Name takes part")
	}
}

func TestUnicode(t *testing.T) {
	for in, want := range map[string]string{
		"xn--bcher-kva.example": "bücher.example",
		"example.com":           "example.com",
		"xn--.example":          "xn--.example", // cannot be read, so it stays
	} {
		if got := dns.MustName(in).Unicode(); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

func TestNameAddr(t *testing.T) {
	if a, ok := dns.MustName("192.0.2.1.").Addr(); !ok || a != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("%v, %v", a, ok)
	}
	if a, ok := dns.MustName("192.0.2.256").Addr(); ok {
		t.Errorf("got %v", a)
	}
}

func TestReverseName(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1":          "1.2.0.192.in-addr.arpa",
		"::ffff:192.0.2.255": "255.2.0.192.in-addr.arpa",                                                 // mapped
		"2001:db8::567:89ab": "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", // RFC 3596 §2.5
	} {
		got := dns.ReverseName(netip.MustParseAddr(in))
		if got != dns.MustName(want) {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestNameJSON(t *testing.T) {
	type doc struct{ A, B dns.Name }
	var d doc
	if err := json.Unmarshal([]byte(`{"A":"Example.COM.","B":""}`), &d); err != nil {
		t.Fatal(err)
	}
	if d.A != dns.MustName("example.com") || !d.B.IsZero() {
		t.Errorf("got %+v", d)
	}
	if out, err := json.Marshal(d); err != nil || string(out) != `{"A":"example.com","B":""}` {
		t.Errorf("%s, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"A":"a..b"}`), &d); !errors.Is(err, dns.ErrName) {
		t.Errorf("got %v", err)
	}
}

func TestTypesAndRcodes(t *testing.T) {
	for in, want := range map[string]dns.Type{"mx": dns.TypeMX, "TYPE15": dns.TypeMX, "type65280": 65280, "ANY": dns.TypeANY} {
		if got, ok := dns.ParseType(in); !ok || got != want {
			t.Errorf("%s: %v, %v", in, got, ok)
		}
	}
	for _, in := range []string{"", "FOO", "TYPE", "TYPE65536", "TYPE-1", "15"} {
		if got, ok := dns.ParseType(in); ok {
			t.Errorf("%q is %v", in, got)
		}
	}
	if got := dns.Type(65280).String(); got != "TYPE65280" {
		t.Error(got)
	}
	if got := dns.NXDomain.String() + " " + dns.Rcode(3000).String(); got != "NXDOMAIN RCODE3000" {
		t.Error(got)
	}
}

// FuzzParseName: a Name's text is canonical: it parses to the same Name, with and without
// the dot and in upper case; it is put together again from its parts; and it is in its
// ancestors.
func FuzzParseName(f *testing.F) {
	for _, seed := range []string{".", "example.com.", `a\.b.\000.example`, "bücher.example", "_dmarc.例え。テスト", "it's@a;b(c)", "a..b", `\`, `\25`, `a\.`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := dns.ParseName(s)
		if err != nil {
			if !n.IsZero() || !errors.Is(err, dns.ErrName) {
				t.Fatalf("%q: %q, %v", s, n, err)
			}
			return
		}
		for _, spelling := range []string{n.String(), n.FQDN(), strings.ToUpper(n.FQDN())} {
			if again, err := dns.ParseName(spelling); err != nil || again != n {
				t.Errorf("%q of %q gives %q, %v", spelling, s, again, err)
			}
			if again := dns.NameOf(spelling); again != n {
				t.Errorf("NameOf(%q) gives %q", spelling, again)
			}
		}
		labels := n.Labels()
		parent, ok := n.Parent()
		if ok != (len(labels) > 0) || !n.In(dns.Root) || !n.In(n) {
			t.Fatalf("%q: labels %q, parent %q", n, labels, parent)
		}
		if !ok {
			return
		}
		if !n.In(parent) || parent.In(n) {
			t.Errorf("%q and its parent %q", n, parent)
		}
		if again, err := parent.Child(labels[0]); err != nil || again != n {
			t.Errorf("%q below %q gives %q, %v", labels[0], parent, again, err)
		}
	})
}
