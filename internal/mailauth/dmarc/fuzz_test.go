package dmarc

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"

	"mxward/internal/dns"
)

// FuzzParse: a record is zero with an error; what can be read is printed, read again and
// the same; no text is silently broken; what is mended can be read.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"v=DMARC1", "v=DMARC1;", "v = DMARC1 ; p = none ;", "V=DMARC1;P=REJECT;SP=none;NP=quarantine;PSD=n;T=y;ADKIM=s;ASPF=s;FO=1:d:s",
		"v=DMARC1; p=none; rua=mailto:a@example.com!10m, https://example.com/,a@example.com; ruf=mailto:%22a b%22@example.com",
		"v=DMARC1; p=reject; p=none; pct=20; rf=afrf; ri=1; x=y", "v=DMARC1;;=;a;a=;=b;p", "v=dmarc1; p:none, rua=<a@example.com>",
		"“v=DMARC1; p=none”", "p=none; v=DMARC1", "_dmarc IN TXT ( \"v=DMARC1; \" \"p=none\" )", "v=DMARC1\\; p=rejct", "dmarc1 p none\n rua mailto: a@b",
		"v=DMARC1; rua=mailto:a@example.com; mailto:b@example.com", "v=DMARC1; p=none; rua=mailto:a%zz@example.com,urn:x,://,mailto:@", "v=DMARC1; p=\xff\x00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse(text)
		switch {
		case err == nil:
			again, err := Parse(r.String())
			if err != nil || !reflect.DeepEqual(again, r) || again.String() != r.String() {
				t.Fatalf("%q gives %+v, and that %+v, %v", text, r, again, err)
			}
		case !reflect.DeepEqual(r, Record{}):
			t.Fatalf("%q: a record beside the error %v", text, err)
		case errors.Is(err, ErrNotDMARC) == IsRecord(text) || errors.Is(err, ErrPermanent) != IsRecord(text):
			t.Fatalf("%q: %v", text, err)
		}
		for _, u := range append(r.RUA, r.RUF...) {
			if again, sized, ok := parseURI(string(u)); again != u || sized || !ok || strings.ContainsAny(string(u), ",;! ") {
				t.Fatalf("%q: the URI %q", text, u)
			}
		}
		findings := LintTexts([]string{text})
		if err != nil && (len(findings) == 0 || findings[0].Text == "") {
			t.Fatalf("%q: nothing was found, and %v", text, err)
		}
		for _, found := range findings {
			if found.Pos < 0 || found.Pos > len(text) || found.ID == "dmarc." {
				t.Fatalf("%q: %+v", text, found)
			}
		}
		if mended, ok := Mend(text); ok {
			if again, twice := Mend(mended); !IsRecord(mended) || !twice || again != mended {
				t.Fatalf("%q is mended to %q, and that to %q", text, mended, again)
			}
		}
	})
}

// FuzzAuthors: names, or an error of its class.
func FuzzAuthors(f *testing.F) {
	for _, seed := range []string{
		"a@example.com", `"Doe, John" <a@example.com>, b@example.net`, "us: a@example.com;, x:;", "=?x?q?=41?= <a@[192.0.2.1]>", "Doe, J <a@bücher.example>",
		"<a@b> <c@d>", "(c(o)m) a@b (", `"a@b"@c`, "a@b.", "\xff <a@b>", "<@a,@b:c@d>", `a@b\.c`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, from string) {
		names, err := Authors([]string{from})
		if (err == nil) != (len(names) > 0) || len(names) > maxAuthors || err != nil && !errors.Is(err, ErrAuthor) {
			t.Fatalf("%q: %v, %v", from, names, err)
		}
		for _, n := range names {
			if n.IsZero() || n == dns.Root {
				t.Fatalf("%q: %v", from, names)
			}
		}
	})
}

// FuzzEvaluate: whatever the DNS says, an evaluation ends within its limits; with trouble
// that it met, nothing is rejected but by what it knows.
func FuzzEvaluate(f *testing.F) {
	f.Add("v=DMARC1; p=reject\nv=DMARC1; p=none; psd=y", []byte{4, 0, 5}, "a@a.b.example.com", "example.com", "mail.example.com", true)
	f.Add("v=DMARC1; np=reject; rua=mailto:a@example.net\nhello", []byte{0, 4, 12, 1}, "a@x.example.com, b@example.net", "b.example.com", "", false)
	f.Add("v=DMARC1; p=reject; t=y; psd=n", []byte{3, 2}, "x <a@com>", ".", "a..b", true)
	f.Add("v=DMARC1; p=reject", []byte{6, 4, 7}, "a@"+strings.Repeat("a.", 110)+"com", "com", strings.Repeat("b.", 100)+"com", true)
	f.Fuzz(func(t *testing.T, texts string, script []byte, from, spf, dkim string, pass bool) {
		r := &scripted{script: script, texts: strings.Split(texts, "\n")}
		m := Message{From: []string{from}, SPF: Identifier{Result: "pass", Domain: spf}, DKIM: []Identifier{{Result: "pass", Domain: dkim}, {Result: "temperror", Domain: spf}}}
		if !pass {
			m.SPF.Result = "temperror"
		}
		v := Evaluate(t.Context(), r, m)
		if r.asked > maxAsked {
			t.Fatalf("%d questions:\n%s", r.asked, v)
		}
		if v.Disposition != None && v.Result != Fail || v.Disposition.strength() < 0 {
			t.Fatalf("%s with %s", v.Result, v.Disposition)
		}
		_, bySPF := v.Aligned(MethodSPF)
		_, byDKIM := v.Aligned(MethodDKIM)
		if (bySPF || byDKIM) != (v.Result == Pass) {
			t.Fatal(v)
		}
		switch v.Result {
		case Pass, Fail:
			if v.Err != nil {
				t.Fatal(v.Err)
			}
		case TempError:
			if !isTemporary(v.Err) {
				t.Fatal(v.Err)
			}
		case PermError:
			if !errors.Is(v.Err, ErrPermanent) && !errors.Is(v.Err, ErrAuthor) {
				t.Fatal(v.Err)
			}
		case ResultNone:
			if !errors.Is(v.Err, ErrNotDMARC) {
				t.Fatal(v.Err)
			}
		default:
			t.Fatalf("result %q", v.Result)
		}
		if text := strings.ReplaceAll(v.String(), "\n", ""); text != printable(text) {
			t.Fatalf("%q", text)
		}
		for _, author := range []string{spf, dkim} {
			name, err := dns.ParseName(author)
			if err != nil {
				continue
			}
			r.asked = 0
			report := Survey(t.Context(), r, name)
			if r.asked > maxSurveyed {
				t.Fatalf("%d questions", r.asked)
			}
			if report.Err == nil && report.Domain.IsZero() {
				t.Fatalf("%+v", report)
			}
		}
	})
}

// maxSurveyed is what a survey may ask: the walk and the existence, for each destination a
// walk, its consent, MX, A and AAAA, and three names beside it.
const maxSurveyed = MaxQuestions + 1 + maxDestinations*(MaxQuestions+4) + 3

// scripted is a DNS that a fuzzer wrote: each answer is one byte of the script.
type scripted struct {
	script []byte
	texts  []string

	mu    sync.Mutex // a survey asks for both families at once
	asked int
}

func (r *scripted) Resolve(_ context.Context, q dns.Question) (dns.Answer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	what := byte(4)
	if len(r.script) > 0 {
		what = r.script[r.asked%len(r.script)]
	}
	r.asked++
	switch what % 8 {
	case 0:
		return dns.Answer{Rcode: dns.NXDomain}, nil
	case 1:
		return dns.Answer{}, nil
	case 2:
		return dns.Answer{Rcode: dns.ServFail}, nil
	case 3:
		return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.NoReply}
	}
	var a dns.Answer
	if what%8 == 5 {
		a.Extended = 3
	}
	for i := range 1 + int(what%8)/6 {
		text := r.texts[(int(what/8)+i)%len(r.texts)]
		record := map[dns.Type]string{dns.TypeA: "A 192.0.2.1", dns.TypeMX: "MX 10 mx.example.com", dns.TypeAAAA: "AAAA 2001:db8::1"}[q.Type]
		if q.Type == dns.TypeTXT {
			record = `TXT "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text[:min(len(text), 255)]) + `"`
		}
		if rr, err := dns.ParseRecord(q.Name, record); err == nil {
			a.Answer = append(a.Answer, rr)
		}
	}
	return a, nil
}
