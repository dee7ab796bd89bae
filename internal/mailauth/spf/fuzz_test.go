package spf

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"mxward/internal/dns"
)

// FuzzParse: a record is zero with an error; what can be read is printed, read again and the
// same; whoever gets advice can follow it.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"v=spf1", "v=spf1 ", "v=spf10", "V=SPF1 A MX -ALL", "v=spf1 +a/24 ?mx:example.com/0//0 ~ptr:x.example -all",
		"v=spf1 ip4:192.0.2.1/24 ip6:2001:DB8::1/64 ip6:::ffff:192.0.2.1/96", "v=spf1 redirect=%{d} exp=a%{o2R-+}.%%.example.com. x.y-z_1=%{S}",
		"v=spf1 exists:%{ir}.%{v}._spf.%{d2} include:%%%_%-/.example.com", "v=spf1 a:%{d99999999999999999999}/32//128",
		"v=spf1 ipv4:192.0.2.1 include:192.0.2.1 ip4:mx.example.com includeexample.com", "“v=spf1; mx –all”", "v=spf1\tmx\r\n-all",
		"v=spf1 -all v=spf1 mx ~all", "v=spf1 a: mx/ ip4: ip6:1%eth0 all: %{ \xff", "v=spf1include:example.com.,-all", "\"v=spf1 include:a.\" \"example -all\"",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse(text)
		var syntax *SyntaxError
		switch {
		case err == nil:
			again, err := Parse(r.String())
			if err != nil || !again.Equal(r) || again.String() != r.String() {
				t.Fatalf("%q gives %q, and that %q, %v", text, r, again, err)
			}
		case r.Terms != nil:
			t.Fatalf("%q: a record beside the error %v", text, err)
		case errors.As(err, &syntax):
			if syntax.Pos < 0 || syntax.Pos > len(text) || errors.Is(err, ErrNotSPF) || !errors.Is(err, ErrPermanent) {
				t.Fatalf("%q: %+v", text, syntax)
			}
		case !errors.Is(err, ErrNotSPF) || IsRecord(text):
			t.Fatalf("%q: %v", text, err)
		}
		if IsRecord(text) {
			_, faults := parse(text, maxFaults)
			for _, e := range faults {
				if _, err := Parse("v=spf1 " + e.Write); err != nil {
					t.Fatalf("%q: the advice %q is wrong: %v", text, e.Write, err)
				}
			}
		}
		if mended, ok := Mend(text); ok {
			if _, err := Parse(mended); err != nil {
				t.Fatalf("%q is mended to %q: %v", text, mended, err)
			}
		}
		if len(text) <= sizeUDP { // no text should be silently broken
			if found := LintTexts([]string{text}); err != nil && len(found) == 0 {
				t.Fatalf("%q: nothing was found, and %v", text, err)
			}
		}
	})
}

// maxQuestions is what an evaluation may ask at most: its own record; for each of ten terms
// one question and one for each MX host; the client's names, each of them; the explanation.
const maxQuestions = 1 + MaxLookups*(1+maxMXHosts) + 1 + maxPTRNames + 1

// FuzzCheck: whatever the DNS says, an evaluation ends within its limits.
func FuzzCheck(f *testing.F) {
	f.Add("v=spf1 include:a.example mx a ptr exists:%{p}.example -all exp=%{l}.example\n%{c} %{r} %{t}", []byte{0, 1, 2, 3, 4, 5, 6, 7}, "a@example.com", "mx.example.com", true)
	f.Add("v=spf1 redirect=a.example", []byte{7}, "", "mx.example.com", false)
	f.Add("v=spf1 mx:a.example mx:b.example mx:c.example ~all", []byte{7, 4, 4, 4, 5, 7}, "ä@example.com", "", false)
	f.Add("v=spf1 include:%{s}%{s}%{s}%{h}.example ?all\nv=spf1 a:%{l1r-}.%{d} -all", []byte{7, 7, 6, 0, 8}, strings.Repeat("a.", 300)+`\@example.com`, "[192.0.2.1]", true)
	f.Add("v=spf1 a:1.example a:2.example a:3.example", []byte{7, 2}, "@example.com", "x", true)
	f.Fuzz(func(t *testing.T, texts string, script []byte, from, helo string, six bool) {
		r := &scripted{script: script, texts: strings.Split(texts, "\n")}
		s := Session{Client: netip.MustParseAddr("192.0.2.1"), From: from, Helo: helo}
		if six {
			s.Client = netip.MustParseAddr("2001:db8::1")
		}
		v := Check(t.Context(), r, s)
		if r.asked > maxQuestions || v.Lookups > MaxLookups || v.Voids > MaxVoids+1 || v.Voids > MaxVoids && v.Result != PermError {
			t.Fatalf("%d questions: %s", r.asked, v)
		}
		switch v.Result {
		case None:
			if !errors.Is(v.Err, ErrNotSPF) {
				t.Fatal(v.Err)
			}
		case TempError:
			var e *dns.Error
			if !errors.Is(v.Err, ErrTemporary) || !errors.As(v.Err, &e) {
				t.Fatal(v.Err)
			}
		case PermError:
			if !errors.Is(v.Err, ErrPermanent) {
				t.Fatal(v.Err)
			}
		case Pass, Fail, SoftFail, Neutral:
			if v.Err != nil {
				t.Fatal(v.Err)
			}
		default:
			t.Fatalf("result %q", v.Result)
		}
		if v.Explanation != "" && v.Result != Fail || len(v.Explanation) > maxExplained || !isPrintable(strings.ReplaceAll(v.String(), "\n", "")) {
			t.Fatalf("%q", v)
		}
		r.asked = 0
		tree := Survey(t.Context(), r, from[strings.LastIndexByte(from, '@')+1:])
		if tree.Lookups > maxSurveyed || r.asked > 1+2*maxSurveyed || !isPrintable(strings.ReplaceAll(tree.String(), "\n", "")) {
			t.Fatalf("%d questions:\n%s", r.asked, tree)
		}
		tree.Findings()
		r.asked = 0
		networks := NetworksOf(t.Context(), r, from[strings.LastIndexByte(from, '@')+1:])
		if networks.Set == nil || r.asked > 1+2*maxSurveyed+2*maxAsked {
			t.Fatalf("%d questions: %+v", r.asked, networks)
		}
		tree.Written(func(dns.Name) bool { return true })
	})
}

// scripted is a DNS that a fuzzer wrote: each answer is one byte of the script.
type scripted struct {
	script []byte
	texts  []string

	mu    sync.Mutex // a survey asks for both families at once
	asked int
}

func (r *scripted) Resolve(_ context.Context, q dns.Question) (dns.Answer, error) {
	r.mu.Lock()
	what := byte(7)
	if len(r.script) > 0 {
		what = r.script[r.asked%len(r.script)]
	}
	r.asked++
	r.mu.Unlock()
	return r.answer(q, what)
}

func (r *scripted) answer(q dns.Question, what byte) (dns.Answer, error) {
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
	records := map[dns.Type][]string{
		dns.TypeA:    {"A 192.0.2.1", "A 198.51.100.1"},
		dns.TypeAAAA: {"AAAA 2001:db8::1", "AAAA 2001:db8::2"},
		dns.TypePTR:  {"PTR mx.example.com", "PTR a.example"},
		dns.TypeMX:   {"MX 0 .", "MX 1 mx.example.com"},
	}[q.Type]
	if q.Type == dns.TypeTXT {
		records = nil
		for _, part := range Split(r.texts[int(what/8)%len(r.texts)]) {
			records = append(records, quoted(part))
		}
		records = []string{"TXT " + strings.Join(records, " ")}
	}
	var a dns.Answer
	for i := range int(what % 12) {
		if q.Type == dns.TypeTXT && i == 1+int(what)/128 {
			break
		}
		rr, err := dns.ParseRecord(q.Name, records[i%len(records)])
		if err != nil {
			continue // too long for a record
		}
		a.Answer = append(a.Answer, rr)
	}
	return a, nil
}
