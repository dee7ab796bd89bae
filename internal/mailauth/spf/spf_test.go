package spf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/mailauth/lint"
)

// world is a zone of a test: example.com, and nothing else.
func world(t testing.TB, zone string) dns.Resolver {
	t.Helper()
	return &dns.Mux{
		Zones: map[dns.Name]dns.Resolver{dns.MustName("example.com"): dnstest.Zone(t, "example.com",
			"$TTL 300\n@ SOA ns host 1 2 3 4 5\n@ NS ns\nns A 192.0.2.53\n"+zone)},
		Default: answering(dns.Answer{Rcode: dns.NXDomain}, nil),
	}
}

func answering(a dns.Answer, err error) dns.Resolver {
	return dns.ResolverFunc(func(context.Context, dns.Question) (dns.Answer, error) { return a, err })
}

var client = netip.MustParseAddr("198.51.100.7")

func TestString(t *testing.T) {
	for text, want := range map[string]string{
		"v=spf1":                         "v=spf1",
		"V=SPF1  +A   ?MX/24//64  -ALL ": "v=spf1 a ?mx/24//64 -all",
		"v=spf1 a:Example.COM./32//128":  "v=spf1 a:Example.COM.", // lengths that are the default
		"v=spf1 ip4:192.0.2.1/32 ip6:2001:DB8:0::1/128 ip4:192.0.2.9/24": "v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 ip4:192.0.2.9/24",
		"v=spf1 a:a/b:c.example.com/7":                                   "v=spf1 a:a/b:c.example.com/7", // a slash within a domain
		"v=spf1 EXP=%{D}.x.com Redirect=%{l1r+-} X-y=Z%%":                "v=spf1 exp=%{D}.x.com redirect=%{l1r+-} X-y=Z%%",
	} {
		r, err := Parse(text)
		if err != nil || r.String() != want {
			t.Errorf("%q gives %q, %v; want %q", text, r, err, want)
		}
	}
	r, err := Parse("v=spf1  mx -all")
	if err != nil || len(r.Terms) != 2 || r.Terms[0].Pos != 8 || r.Terms[1].Pos != 11 {
		t.Errorf("%+v, %v: positions 8 and 11 were wanted", r, err)
	}
}

// What people type: where the mistake is, and what to write instead.
func TestSyntaxErrors(t *testing.T) {
	for _, tt := range []struct {
		text  string
		pos   int    // from 0
		fault string // part of it
		write string
	}{
		{"v=spf1 ipv4:8.8.8.8 -all", 7, `there is no mechanism "ipv4"`, "ip4:8.8.8.8"},
		{"v=spf1 mx ip4:mail.example.com -all", 10, "is no IP address", "a:mail.example.com"},
		{"v=spf1 ip4:2001:db8::1 -all", 7, "other family", "ip6:2001:db8::1"},
		{"v=spf1 include:8.8.8.8 -all", 7, "cannot end in", "ip4:8.8.8.8"},
		{"v=spf1 include:8.8.8.0/24 -all", 7, "cannot end in", "ip4:8.8.8.0/24"},
		{"v=spf1 a:8.8.8.8 -all", 7, "cannot end in", "ip4:8.8.8.8"},
		{"v=spf1 8.8.8.8 -all", 7, "begins with a letter", "ip4:8.8.8.8"},
		{"v=spf1 ip4:8.8.8.0/255.255.255.0 -all", 7, "no prefix length", "ip4:8.8.8.0/24"},
		{"v=spf1 ip4: 8.8.8.8 -all", 7, "needs a colon and an address", "ip4:8.8.8.8"},
		{"v=spf1 include: example.com -all", 7, "the domain is empty", "include:example.com"},
		{"v=spf1 mx all-", 10, "no mechanism", "-all"},
		{"v=spf1 ip4:8.8.8.8/33 -all", 7, "no prefix length from 0 to 32", ""},
		{"v=spf1 ip4:8.8.8.8/08 -all", 7, "no prefix length from 0 to 32", ""},
		{"v=spf1 ip4:8.8.8 -all", 7, "is no IP address", ""},
		{"v=spf1 ip4 -all", 7, "needs a colon and an address", ""},
		{"v=spf1 include -all", 7, "needs a colon and a domain", ""},
		{"v=spf1 include.example.com -all", 7, "no mechanism", "include:example.com"},
		{"v=spf1 includeexample.com -all", 7, "no mechanism", "include:example.com"},
		{"v=spf1 ip48.8.8.8 -all", 7, "no mechanism", "ip4:8.8.8.8"},
		{"v=spf1 redirect:example.com", 7, "no mechanism", "redirect=example.com"},
		{"v=spf1 -redirect=example.com", 7, "takes no sign", "redirect=example.com"},
		{"v=spf1 include:example -all", 7, "no domain with a dot", ""},
		{"v=spf1 include:https://example.com/ -all", 7, "cannot end in", "include:example.com"},
		{"v=spf1 mx; -all", 7, `";" follows the name`, "mx"},
		{"v=spf1 mx,a -all", 7, `"," follows the name`, "mx a"},
		{"v=spf1 -all.", 7, "no mechanism", "-all"},
		{"v=spf1 - all", 7, "begins with a letter", "-all"},
		{"v=spf1 mx –all", 10, "a dash (U+2013), not the ASCII -", "-all"},
		{"v=spf1 “mx” -all", 7, "typographic quotation mark (U+201C)", "mx"},
		{"v=spf1 mx\r\n-all", 9, "a line break", "mx -all"},
		{"v=spf1 mx\t-all", 9, "a tab", "mx -all"},
		{"v=spf1 mx\u00a0-all", 9, "no-break space", "mx -all"},
		{"v=spf1 mx\u200b -all", 9, "invisible character", "mx"},
		{"v=spf1 \"mx\" -all", 7, "begins with a letter", "mx"},
		{"v=spf1 m\xff -all", 8, "the octet 0xff", ""},
		{"v=spf1 all:x -all", 7, "all takes nothing after it", ""},
		{"v=spf1 a:%{x}.example.com", 7, "no macro letter", ""},
		{"v=spf1 a:%{t}.example.com", 7, "in explanations only", ""},
		{"v=spf1 a:%{d0}.example.com", 7, "keeps 0 parts", ""},
		{"v=spf1 a:%{d!}.example.com", 7, "only the delimiters", ""},
		{"v=spf1 a:100%.example.com", 7, "% is followed by", ""},
		{"v=spf1 exists:%{i", 7, "no }", ""},
		{"v=spf1 x=%", 9, "a % at the end", ""},
		{"v=spf1 a//129", 7, "from 0 to 128", ""},
		{"v=spf1 a/x", 7, "is no prefix length", ""},
		{"v=spf1 exp=a.example.com -all exp=b.example.com", 30, "once only", ""},
		{"v=spf1 " + strings.Repeat("a ", maxText), maxText, "longer than", ""},
	} {
		r, err := Parse(tt.text)
		var e *SyntaxError
		if !errors.As(err, &e) || r.Terms != nil {
			t.Errorf("%q: %v, %v", tt.text, r, err)
			continue
		}
		if e.Pos != tt.pos || !strings.Contains(e.Fault, tt.fault) || e.Write != tt.write {
			t.Errorf("%q: %+v, want position %d, %q, %q", tt.text, e, tt.pos, tt.fault, tt.write)
		}
	}
	_, err := Parse("v=spf1 ipv4:8.8.8.8")
	if want := `position 8: "ipv4:8.8.8.8": there is no mechanism "ipv4"; write ip4:8.8.8.8`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestLint(t *testing.T) {
	for _, tt := range []struct {
		texts []string
		want  string // severity and id of each, in order
	}{
		{[]string{"v=spf1 mx ip4:8.8.8.0/24 -all", "other"}, ""},
		{[]string{"other"}, "warning spf.missing"},
		{nil, "warning spf.missing"},
		{[]string{"v=spf1 mx -all", "v=spf1 a -all"}, "error spf.multiple"},
		{[]string{"v=spf1 mx -all v=spf1 a"}, "error spf.multiple, warning spf.after-all"},
		{[]string{"v=spf1; mx -all"}, "error spf.syntax"},
		{[]string{" v=spf1 mx -all"}, "error spf.syntax"},
		{[]string{"v=spf1mx -all"}, "error spf.syntax"},
		{[]string{"“v=spf1 mx -all”"}, "error spf.syntax"},
		{[]string{"V=SPF1 mx -all"}, "info spf.syntax"},
		{[]string{"v=spf1 mx -all a:b.example.com"}, "warning spf.after-all"},
		{[]string{"v=spf1 mx redirect=example.com -all"}, "notice spf.redirect-ignored"},
		{[]string{"v=spf1 mx"}, "warning spf.no-all"},
		{[]string{"v=spf1 redirect=example.com"}, ""},
		{[]string{"v=spf1 mx all"}, "error spf.plus-all"},
		{[]string{"v=spf1 mx ?all"}, "warning spf.neutral-all"},
		{[]string{"v=spf1 ptr -all"}, "warning spf.ptr"},
		{[]string{"v=spf1 mx mx -all"}, "notice spf.duplicate-term"},
		{[]string{"v=spf1 ip4:8.8.8.0/24 ip4:8.8.8.8 -all"}, "notice spf.duplicate-term"},
		{[]string{"v=spf1 ip4:8.8.8.0/24 -ip4:8.8.8.8 -all"}, ""}, // another qualifier
		{[]string{"v=spf1 ip4:8.0.0.0/8 -all"}, "warning spf.too-broad"},
		{[]string{"v=spf1 ip4:8.8.0.0/16 ip6:2600::/32 -all"}, ""}, // the widest that pass
		{[]string{"v=spf1 ip6:2600::/31 -all"}, "warning spf.too-broad"},
		{[]string{"v=spf1 a/8 mx//16 -ip4:8.0.0.0/8 -all"}, "warning spf.too-broad, warning spf.too-broad"},
		{[]string{"v=spf1 ip4:10.0.0.1 ip6:fe80::1 ip4:192.0.2.1 -all"}, "warning spf.private-range, warning spf.private-range, warning spf.private-range"},
		{[]string{"v=spf1 a:b.example.com. -all"}, "info spf.syntax"},
		{[]string{"v=spf1 default=mx -all"}, "notice spf.syntax"},
		{[]string{"v=spf1 a:https://example.com -all"}, "warning spf.syntax"},                                 // legal too
		{[]string{"v=spf1 ip4=8.8.8.8 include:a@example.com -all"}, "warning spf.syntax, warning spf.syntax"}, // legal, and no use
		{[]string{"v=spf1 a a:1.x.com a:2.x.com a:3.x.com a:4.x.com a:5.x.com a:6.x.com a:7.x.com a:8.x.com a:9.x.com mx -all"}, "error spf.lookups-exceeded"},
	} {
		var got []string
		for _, f := range LintTexts(tt.texts) {
			got = append(got, string(f.Severity)+" "+f.ID)
		}
		if strings.Join(got, ", ") != tt.want {
			t.Errorf("%q: %q, want %q", tt.texts, got, tt.want)
		}
	}
	// How long a record may be: 255 octets a string, 450 advised, 512 without EDNS.
	for size, want := range map[int]lint.Severity{255: "", 256: lint.Info, 450: lint.Info, 451: lint.Notice, 512: lint.Notice, 513: lint.Warning} {
		text := "v=spf1 exists:%{i}."
		text += strings.Repeat("a", size-len(text)-len(".example.com -all")) + ".example.com -all"
		var got lint.Severity
		for _, f := range Lint(text) {
			got = f.Severity
		}
		if len(text) != size || got != want {
			t.Errorf("%d octets: %q, want %q", len(text), got, want)
		}
	}
	// A hostile record costs no more than it is long.
	if found := Lint("v=spf1 " + strings.Repeat("a ", maxText/2-10)); len(found) == 0 {
		t.Error("nothing was found")
	}
}

func TestMend(t *testing.T) {
	for text, want := range map[string]string{
		"v=spf1 mx -all":                              "v=spf1 mx -all",
		"“v=spf1; mx; ipv4:8.8.8.8; –all”":            "v=spf1 mx ip4:8.8.8.8 -all",
		"v=spf1 -all include:example.com mx":          "v=spf1 include:example.com mx -all",
		"v=spf1 mx ~all v=spf1 a mx -all":             "v=spf1 mx a -all",
		"v=spf1include:example.com -all":              "v=spf1 include:example.com -all",
		"v=spf1\nmx\n-all\n":                          "v=spf1 mx -all",
		`"v=spf1 include:a.exam" "ple.com -all"`:      "v=spf1 include:a.example.com -all",
		"v = spf1 mx -all":                            "v=spf1 mx -all",
		"spf1 mx -all":                                "v=spf1 mx -all",
		"v=spf1 ip4:mail.example.com include:8.8.8.8": "v=spf1 a:mail.example.com ip4:8.8.8.8",
		"hello":                 "",
		"v=spf1 what:ever -all": "", // cannot be guessed
		"v=spf1 " + strings.Repeat("a ", maxMended):      "",
		"v=spf1 redirect=a.example.com redirect=b.co.uk": "", // which of the two?
	} {
		if got, ok := Mend(text); got != want || ok != (want != "") {
			t.Errorf("%q is mended to %q, %v; want %q", clip(text), got, ok, want)
		}
	}
}

func TestBuild(t *testing.T) {
	name := dns.MustName
	for _, tt := range []struct {
		s    Senders
		want string // or part of the error
	}{
		{Senders{}, "v=spf1 -all"}, // nobody
		{Senders{
			Networks: []netip.Prefix{netip.MustParsePrefix("2001:db8::1/64"), netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.1/32")},
			Own:      true, MX: true, Hosts: []dns.Name{name("a.example.com")}, Includes: []dns.Name{name("b.example.com")}, Rest: SoftFail,
		}, "v=spf1 ip4:192.0.2.1 ip6:2001:db8::/64 a mx a:a.example.com include:b.example.com ~all"},
		{Senders{Rest: Pass}, "cannot be \"pass\""},
		{Senders{Networks: make([]netip.Prefix, 1)}, "a network is empty"},
		{Senders{Includes: []dns.Name{name("com")}}, "include:com: "},
		{Senders{MX: true, Hosts: slices.Repeat([]dns.Name{name("a.example.com")}, 20)}, "v=spf1 mx a:a.example.com -all"},
		{Senders{MX: true, Includes: []dns.Name{name("a.b"), name("b.b"), name("c.b"), name("d.b"), name("e.b"), name("f.b"), name("g.b"), name("h.b"), name("i.b"), name("j.b")}}, "takes 11 look-ups"},
	} {
		r, err := Build(tt.s)
		if err != nil && (r.Terms != nil || !strings.Contains(err.Error(), tt.want)) || err == nil && r.String() != tt.want {
			t.Errorf("%+v: %s, %v; want %s", tt.s, r, err, tt.want)
		}
	}
	for n, want := range map[int]int{0: 1, 255: 1, 256: 2, 511: 3} {
		parts := Split(strings.Repeat("x", n))
		if len(parts) != want || len(strings.Join(parts, "")) != n || len(parts[0]) > maxString {
			t.Errorf("%d octets: %q", n, parts)
		}
	}
}

// DNS trouble is temperror wherever it strikes, with its cause; only for ptr and exp it is
// as if nothing were there.
func TestTrouble(t *testing.T) {
	silent := func(zone string) dns.Resolver {
		r := world(t, zone)
		return dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
			if strings.HasPrefix(q.Name.String(), "silent.") || q.Type == dns.TypePTR {
				return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.NoReply}
			}
			return r.Resolve(ctx, q)
		})
	}
	for record, want := range map[string]Result{
		"include:silent.example.com -all":  TempError,
		"a:silent.example.com -all":        TempError,
		"mx:silent.example.com -all":       TempError,
		"mx -all":                          TempError, // its host is silent
		"exists:silent.example.com -all":   TempError,
		"redirect=silent.example.com":      TempError,
		"ptr -all":                         Fail,
		"-all exp=silent.example.com":      Fail,
		"-all":                             Fail,
		"ip4:198.51.100.0/24 a:silent.com": Pass, // and nothing behind it is asked
	} {
		v := Check(t.Context(), silent("@ TXT \"v=spf1 "+record+"\"\n@ MX 1 silent\n"), Session{Client: client, From: "a@example.com"})
		var e *dns.Error
		if v.Result != want || want == TempError && (!errors.Is(v.Err, ErrTemporary) || !errors.As(v.Err, &e) || e.Trouble != dns.NoReply) {
			t.Errorf("%s: %s", record, v)
		}
	}
	// SERVFAIL and REFUSED as answers, and a policy that is not there.
	for _, tt := range []struct {
		r    dns.Resolver
		want Result
	}{
		{answering(dns.Answer{Rcode: dns.ServFail}, nil), TempError},
		{answering(dns.Answer{Rcode: dns.Refused}, nil), TempError},
		{answering(dns.Answer{}, context.Canceled), TempError},
		{answering(dns.Answer{Rcode: dns.NXDomain}, nil), None},
		{answering(dns.Answer{}, nil), None},
	} {
		if v := Check(t.Context(), tt.r, Session{Client: client, From: "a@example.com"}); v.Result != tt.want || v.Err == nil {
			t.Errorf("%s, want %s", v, tt.want)
		}
	}
}

// TestTime: a DNS that never answers costs 20 seconds; who gives less time waits less.
func TestTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
			<-ctx.Done()
			return dns.Answer{}, ctx.Err()
		})
		began := time.Now()
		v := Check(t.Context(), stuck, Session{Client: client, From: "a@example.com"})
		if took := time.Since(began); v.Result != TempError || took != maxTime || !errors.Is(v.Err, context.DeadlineExceeded) {
			t.Errorf("%s after %s", v, took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if v := Check(ctx, stuck, Session{Client: client, Helo: "example.com"}); v.Result != TempError || time.Since(began) != time.Second {
			t.Errorf("%s after %s", v, time.Since(began))
		}
		began = time.Now()
		if tree := Survey(t.Context(), stuck, "example.com"); tree.Undetermined() == nil || time.Since(began) != maxSurveyTime {
			t.Errorf("%s after %s", tree, time.Since(began))
		}
	})
}

func TestLimits(t *testing.T) {
	as := func(n int) string { // n terms that ask, find something, and do not match
		return strings.Repeat("a:ns.example.com ", n)
	}
	mx := ""
	for i := range maxMXHosts {
		mx += fmt.Sprintf("m MX %d h%d\nh%d A 192.0.2.1\n", i, i, i)
	}
	for _, tt := range []struct {
		why, record, zone string
		want              Result
		lookups, voids    int
	}{
		{"ten look-ups are fine", as(10) + "-all", "", Fail, 10, 0},
		{"the eleventh is an error", as(11) + "-all", "", PermError, 10, 0},
		{"but only if it is reached", as(10) + "ip4:198.51.100.7 a -all", "", Pass, 10, 0},
		{"they count across includes", as(5) + "include:i.example.com -all", "i TXT \"v=spf1 " + as(5) + "\"\n", PermError, 10, 0},
		{"and redirects", as(9) + "redirect=i.example.com", "i TXT \"v=spf1 -all\"\n", Fail, 10, 0},
		{"the eleventh by redirect", as(10) + "redirect=i.example.com", "i TXT \"v=spf1 -all\"\n", PermError, 10, 0},
		{"a loop ends by the count", "include:example.com -all", "", PermError, 10, 0},
		{"two void look-ups are fine", "a:no1.example.com mx:no2.example.com -all", "", Fail, 2, 2},
		{"the third is an error", "a:no1.example.com exists:no2.example.com ptr ip4:198.51.100.7 -all", "", PermError, 3, 3},
		{"a name without such records is void too", "mx:ns.example.com mx:ns.example.com mx:ns.example.com -all", "", PermError, 3, 3},
		{"ten MX hosts are fine", "mx:m.example.com -all", mx, Fail, 1, 0},
		{"eleven are not", "mx:m.example.com -all", mx + "m MX 20 h1.example.net.\n", PermError, 1, 0},
		{"hosts without addresses make one term void, once", "mx:m.example.com -all", "m MX 1 no1\nm MX 1 no2\nm MX 1 no3\n", Fail, 1, 1},
		{"a null MX has no host", "mx:m.example.com -all", "m MX 0 .\n", Fail, 1, 0},
		{"an include without a policy is an error", "include:ns.example.com -all", "", PermError, 1, 0},
	} {
		zone := tt.zone + "@ TXT"
		for _, part := range Split("v=spf1 " + tt.record) {
			zone += ` "` + part + `"`
		}
		v := Check(t.Context(), world(t, zone+"\n"), Session{Client: client, From: "a@example.com"})
		if v.Result != tt.want || v.Lookups != tt.lookups || v.Voids != tt.voids || v.Result == PermError && !errors.Is(v.Err, ErrPermanent) {
			t.Errorf("%s: %s", tt.why, v)
		}
	}
}

// Only the first ten names of a client are looked at.
func TestManyNames(t *testing.T) {
	zone := "@ TXT \"v=spf1 ptr -all\"\n"
	var names []string
	for i := range 12 {
		names = append(names, fmt.Sprintf("h%02d.example.com.", i))
		zone += fmt.Sprintf("h%02d A 203.0.113.1\n", i)
	}
	zone += "good A 198.51.100.7\n"
	for place, want := range map[int]Result{9: Pass, 10: Fail} {
		var rr []dns.RR
		for _, n := range slices.Insert(slices.Clone(names), place, "good.example.com.") {
			r, err := dns.ParseRecord(dns.ReverseName(client), "PTR "+n)
			if err != nil {
				t.Fatal(err)
			}
			rr = append(rr, r)
		}
		mux := world(t, zone).(*dns.Mux)
		mux.Zones[dns.ReverseName(client)] = answering(dns.Answer{Answer: rr}, nil)
		if v := Check(t.Context(), mux, Session{Client: client, From: "a@example.com"}); v.Result != want {
			t.Errorf("at place %d: %s, want %s", place, v, want)
		}
	}
}

func TestExplanation(t *testing.T) {
	for _, tt := range []struct{ why, text, from, want string }{
		{"macros of explanations", "%{c} at %{r}: %{s}", "a@example.com", "198.51.100.7 at unknown: a@example.com"},
		{"URL escapes", "see http://example.com/?s=%{S}", "a b@example.com", "see http://example.com/?s=a%20b%40example.com"},
		{"bounded", strings.Repeat("x", 255) + `" "` + strings.Repeat("y", 255), "a@example.com", strings.Repeat("x", 255) + strings.Repeat("y", maxExplained-255)},
		{"nothing that moves a cursor", "%{l}", "a\x1b[2Jb@example.com", ""},
		{"nor a line of its own", "%{l}", "a\r\n250 ok@example.com", ""},
		{"nor what is not ASCII", "%{l}", "ä@example.com", ""},
		{"a mistake in it", "%{l", "a@example.com", ""},
	} {
		v := Check(t.Context(), world(t, "@ TXT \"v=spf1 -all exp=why.example.com\"\nwhy TXT \""+tt.text+"\"\n"), Session{Client: client, From: tt.from})
		if v.Result != Fail || v.Explanation != tt.want {
			t.Errorf("%s: %q, want %q", tt.why, v.Explanation, tt.want)
		}
	}
}

// RFC 8616 §4: domains are A-labels, and a local part that is not ASCII matches nothing.
func TestInternational(t *testing.T) {
	zone := "@ TXT \"v=spf1 exists:%{l}.x.example.com include:%{l}.example.com a:%{d}.x.example.com -all\"\n*.x A 127.0.0.1\n"
	if v := Check(t.Context(), world(t, zone), Session{Client: client, From: "ä@example.com"}); v.Result != Fail || v.Voids != 0 {
		t.Error(v)
	}
	if v := Check(t.Context(), world(t, "@ TXT \"v=spf1 redirect=%{l}.example.com\"\n"), Session{Client: client, From: "ä@example.com"}); v.Result != Neutral {
		t.Error(v)
	}
	ask := dns.ResolverFunc(func(_ context.Context, q dns.Question) (dns.Answer, error) {
		if q.Name != dns.MustName("xn--bcher-kva.example") {
			t.Errorf("%s was asked for", q)
		}
		return dns.Answer{}, nil
	})
	if v := Check(t.Context(), ask, Session{Client: client, From: "a@Bücher.example"}); v.Result != None {
		t.Error(v)
	}
}

// Nothing needs to be set.
func TestZero(t *testing.T) {
	none := dns.ResolverFunc(func(_ context.Context, q dns.Question) (dns.Answer, error) {
		t.Errorf("%s was asked for", q)
		return dns.Answer{}, nil
	})
	for _, s := range []Session{{}, {Client: client}, {From: "a"}, {From: "a@"}, {Helo: "[192.0.2.1]"}, {Helo: "192.0.2.1"}, {From: `a@b\.c.example`}} {
		if v := Check(t.Context(), none, s); v.Result != None || !errors.Is(v.Err, ErrNotSPF) {
			t.Errorf("%+v: %s", s, v)
		}
	}
	zone := world(t, "@ TXT \"v=spf1 a mx ptr exists:%{i}.%{c1}example.com ip4:0.0.0.0/0 ip6:::/0 -all\"\n")
	if v := Check(t.Context(), zone, Session{From: "a@example.com"}); v.Result != PermError {
		t.Error(v) // c is allowed in explanations only
	}
	zone = world(t, "@ TXT \"v=spf1 a ptr exists:%{i}.example.com ip4:0.0.0.0/0 ip6:::/0 -all exp=why.example.com\"\n@ A 192.0.2.1\nwhy TXT \"%{c} %{i} %{v} %{p} %{h}.\"\n")
	if v := Check(t.Context(), zone, Session{From: "a@example.com"}); v.Result != Fail || v.Explanation != "unknown unknown in-addr unknown ." {
		t.Error(v)
	}
}

// The trace says what each term resolved to, what it cost and which one matched.
func TestTraceText(t *testing.T) {
	zone := `@ TXT "v=spf1 mx a:gone.example.com include:i.example.com -all"
@ MX 10 ns
i TXT "v=spf1 ip4:192.0.2.0/24 ip4:198.51.100.0/24 -all"
`
	want := `pass (mailfrom example.com), by include:i.example.com; 3 of 10 look-ups, 1 of 2 void
example.com: v=spf1 mx a:gone.example.com include:i.example.com -all
  mx: no match; asked example.com; hosts ns.example.com; addresses 192.0.2.53; 1 look-up
  a:gone.example.com: no match; 1 look-up; void
  include:i.example.com: matches; 1 look-up
    i.example.com: v=spf1 ip4:192.0.2.0/24 ip4:198.51.100.0/24 -all
      ip4:192.0.2.0/24: no match
      ip4:198.51.100.0/24: matches
      = pass
  = pass
`
	if got := Check(t.Context(), world(t, zone), Session{Client: netip.MustParseAddr("::ffff:198.51.100.7"), From: "a@example.com"}).String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestSurvey(t *testing.T) {
	zone := `@ TXT "v=spf1 include:a.example.com include:b.example.com include:%{l}.example.com -all mx redirect=c.example.com"
a TXT "v=spf1 a:ns.example.com include:b.example.com include:none.example.com"
b TXT "v=spf1 include:a.example.com mx:gone.example.com"
bad TXT "v=spf1 include:two.example.com include:wrong.example.com mx:m.example.com include:gone.example.com a:gone.example.com a:gone.example.com -all"
two TXT "v=spf1 -all"
two TXT "v=spf1 mx"
wrong TXT "v=spf1 nonsense"
none A 192.0.2.1
x TXT "v=spf1 include:y.example.com include:y.example.com include:y.example.com include:y.example.com"
y TXT "v=spf1 include:z.example.com include:z.example.com include:z.example.com include:z.example.com"
z TXT "v=spf1 include:w.example.com include:w.example.com include:w.example.com include:w.example.com include:w.example.com"
w TXT "v=spf1 -all"
near TXT "v=spf1 a mx a:1.example.com a:ns.example.com exists:%{i}.example.com exists:%{l}.example.com exists:%{s}.example.com exists:%{p}.example.com -all"
near MX 1 ns
near A 8.8.8.8
1 A 192.0.2.1
`
	for i := range 11 {
		zone += fmt.Sprintf("m MX 1 h%d\n", i)
	}
	r := world(t, zone)
	ids := func(tree *Tree) string {
		var ids []string
		for _, f := range tree.Findings() {
			ids = append(ids, strings.TrimPrefix(f.ID, "spf."))
		}
		return strings.Join(ids, " ")
	}
	for _, tt := range []struct {
		domain         string
		lookups, voids int
		want           string
	}{
		// What stands behind all is not counted; each path is, and its loop.
		{"example.com", 13, 4, "after-all redirect-ignored loop include-none loop include-none lookups-exceeded void-exceeded"},
		{"bad.example.com", 6, 3, "duplicate-term multiple syntax mx-too-many include-nxdomain void-exceeded"},
		{"gone.example.com", 0, 0, "missing"},
		{"two.example.com", 0, 0, "multiple"},
		{"near.example.com", 8, 0, "lookups-near"},
		{"com", 0, 0, "missing"},
	} {
		tree := Survey(t.Context(), r, tt.domain)
		if got := ids(tree); got != tt.want || tree.Lookups != tt.lookups || tree.Voids != tt.voids {
			t.Errorf("%s: %s, want %s\n%s", tt.domain, got, tt.want, tree)
		}
	}
	// A tree that grows without a loop ends all the same.
	if tree := Survey(t.Context(), r, "x.example.com"); tree.Lookups != maxSurveyed || !strings.Contains(ids(tree), "lookups-exceeded") {
		t.Errorf("%d look-ups, %s", tree.Lookups, ids(tree))
	}
	// Trouble is no finding.
	tree := Survey(t.Context(), answering(dns.Answer{}, &dns.Error{Trouble: dns.NoReply}), "example.com")
	if err := tree.Undetermined(); !errors.Is(err, ErrTemporary) || ids(tree) != "" {
		t.Errorf("%v, %s", err, ids(tree))
	}
}

// TestGone: what a tree includes at any depth and does not exist; what has no policy is there.
func TestGone(t *testing.T) {
	r := world(t, `
@ TXT "v=spf1 include:gone.example.com include:two.example.com include:bare.example.com a:away.example.com ~all"
two TXT "v=spf1 redirect=lost.example.com"
bare A 192.0.2.1
`)
	got := Survey(t.Context(), r, "example.com").Gone()
	if want := []dns.Name{dns.MustName("gone.example.com"), dns.MustName("lost.example.com")}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
