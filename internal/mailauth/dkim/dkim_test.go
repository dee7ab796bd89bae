package dkim_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"strings"
	"sync"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/mailauth/dkim"
)

// keyRecords is a DNS of TXT records. A record "TROUBLE" stands for a name that cannot be
// asked for; names that are not in it do not exist.
type keyRecords map[string][]string

func (k keyRecords) Resolve(_ context.Context, q dns.Question) (dns.Answer, error) {
	records, ok := k[q.Name.String()]
	if !ok || q.Type != dns.TypeTXT {
		return dns.Answer{Rcode: dns.NXDomain}, nil
	}
	var a dns.Answer
	for _, text := range records {
		if text == "TROUBLE" {
			return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.NoReply}
		}
		rr, err := dns.ParseRecord(q.Name, "TXT "+quoted(text))
		if err != nil {
			return dns.Answer{}, err
		}
		a.Answer = append(a.Answer, rr)
	}
	return a, nil
}

// quoted writes text as the strings of a TXT record.
func quoted(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if i%200 == 0 {
			if i > 0 {
				b.WriteString(`" `)
			}
			b.WriteString(`"`)
		}
		fmt.Fprintf(&b, "\\%03d", text[i])
	}
	return b.String() + `"`
}

// The keys of the tests, made once.
var (
	rsaKey     = sync.OnceValue(func() crypto.Signer { return must(dkim.GenerateRSA(2048)) })
	smallKey   = sync.OnceValue(func() crypto.Signer { return must(rsa.GenerateKey(rand.Reader, 1024)) })
	ed25519Key = sync.OnceValue(func() crypto.Signer { return must(dkim.GenerateEd25519()) })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func recordOf(private crypto.Signer) string { return must(dkim.KeyOf(private)).String() }

// published is where the keys of the tests are.
func published() keyRecords {
	return keyRecords{
		"rsa._domainkey.example.com":     {recordOf(rsaKey())},
		"small._domainkey.example.com":   {recordOf(smallKey())},
		"ed25519._domainkey.example.com": {recordOf(ed25519Key())},
	}
}

func signer(selector string) dkim.Signer {
	key := map[string]func() crypto.Signer{"rsa": rsaKey, "small": smallKey, "ed25519": ed25519Key}[selector]
	return dkim.Signer{Domain: dns.MustName("example.com"), Selector: selector, Key: key()}
}

const message = "From: A <a@example.com>\r\nTo: b@example.net\r\nSubject: one\r\n\ttwo\r\nDate: Mon, 1 Jun 2026 10:00:00 +0000\r\n\r\nHello  there \r\n\r\nbye\r\n\r\n\r\n"

// shapes are messages of all kinds that may be signed.
func shapes() map[string]string {
	head := "From: a@example.com\r\nTo: b@example.net\r\n"
	return map[string]string{
		"plain":                message,
		"empty body":           head + "\r\n",
		"only empty lines":     head + "\r\n\r\n\r\n\r\n",
		"only white space":     head + "\r\n \t\r\n  \r\n",
		"folded":               head + "Subject: one\r\n  two \t three\r\n\tfour\r\nReferences: <a@x>\r\n <b@x>\r\n\r\nx\r\n",
		"no last line end":     head + "\r\nx",
		"trailing space":       head + "\r\na \t\r\n  b\t \tc \r\n",
		"eight bit":            head + "Subject: gr\u00fc\u00dfe \xe4\r\n\r\n\xff\xfe \u4e16\u754c\r\n",
		"long line":            head + "\r\n" + strings.Repeat("long ", 20000) + "\r\n",
		"many lines":           head + "\r\n" + strings.Repeat("a line of the body \r\n\r\n", 5000),
		"repeated fields":      head + "Received: one\r\nReceived: two\r\nComments: x\r\nComments: y\r\n\r\nx\r\n",
		"names in any case":    "fRoM: a@example.com\r\nTO: b@example.net\r\nsUBJECT: x\r\n\r\nx\r\n",
		"space around a value": head + "Subject:  one \t\r\n two  \r\nReferences:\r\n <a@x>\r\n\r\nx\r\n",
		"b= in a field":        head + "Subject: Bob=20 b=x\r\n\r\nx\r\n", // where z= copies it
		"an empty field":       head + "Subject:\r\nCc: \r\n\r\nx\r\n",
	}
}

func verify(t testing.TB, r dns.Resolver, text string) []dkim.Signature {
	t.Helper()
	got, err := dkim.Verifier{Resolver: r}.Verify(context.Background(), strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func sign(t testing.TB, text string, signers ...dkim.Signer) string {
	t.Helper()
	fields, err := dkim.Sign(strings.NewReader(text), signers...)
	if err != nil {
		t.Fatal(err)
	}
	return fields + text
}

func TestTags(t *testing.T) {
	tests := []struct{ text, want, why string }{
		{"a=1; b=2", "a=1|b=2", "a list"},
		{" a = 1 ;\r\n\tb =\r\n 2 ; ", "a=1|b=2", "folded, RFC 6376 §3.2"},
		{"a=x y", "a=x y", "white space within stays"},
		{"a=", "a=", "an empty value"},
		{"a=b=c==", "a=b=c==", "only the first = parts"},
		{"a=1;;b=2", "a=1|b=2", "an empty tag is let pass, as by everybody"},
		{"a_1=x", "a_1=x", "a name with more than letters"},
		{"", "error", "nothing"},
		{"a", "error", "no ="},
		{"a=1;a=2", "error", "twice, RFC 6376 §3.2"},
		{"1a=x", "error", "a name begins with a letter"},
		{"a b=x", "error", "a name without white space"},
		{"=x", "error", "no name"},
		{"\u00e4=x", "error", "a name is ASCII"},
	}
	for _, tt := range tests {
		tags, err := dkim.ParseTags(tt.text)
		var parts []string
		for _, tag := range tags {
			parts = append(parts, tag.Name+"="+tag.Value)
		}
		got := strings.Join(parts, "|")
		if err != nil {
			got = "error"
		}
		if got != tt.want || err != nil && tags != nil {
			t.Errorf("%s: %q: got %q, want %q", tt.why, tt.text, got, tt.want)
		}
	}
	var many strings.Builder
	for i := range 65 {
		fmt.Fprintf(&many, "a%d=;", i)
	}
	if _, err := dkim.ParseTags(many.String()); err == nil {
		t.Error("65 tags were read")
	}
}

func TestCanonicalField(t *testing.T) {
	tests := []struct{ raw, simple, relaxed, why string }{
		{"A: X\r\n", "A: X\r\n", "a:X\r\n", "RFC 6376 §3.4.5"},
		{"B : Y\t\r\n\tZ  \r\n", "B : Y\t\r\n\tZ  \r\n", "b:Y Z\r\n", "RFC 6376 §3.4.5"},
		{"Subject:\r\n", "Subject:\r\n", "subject:\r\n", "empty"},
		{"Subject: \r\n \r\n", "Subject: \r\n \r\n", "subject:\r\n", "white space only"},
		{"A: \xff\r\n", "A: \xff\r\n", "a:\xff\r\n", "octets stay"},
		{"A: b:c\r\n", "A: b:c\r\n", "a:b:c\r\n", "the first colon parts"},
	}
	for _, tt := range tests {
		simple := string(dkim.Simple.AppendField(nil, tt.raw))
		relaxed := string(dkim.Relaxed.AppendField(nil, tt.raw))
		if simple != tt.simple || relaxed != tt.relaxed {
			t.Errorf("%s: %q: got %q and %q, want %q and %q", tt.why, tt.raw, simple, relaxed, tt.simple, tt.relaxed)
		}
	}
}

func TestCanonicalBody(t *testing.T) {
	tests := []struct{ body, simple, relaxed, why string }{
		{" C \r\nD \t E\r\n\r\n\r\n", " C \r\nD \t E\r\n", " C\r\nD E\r\n", "RFC 6376 §3.4.5"},
		{"", "\r\n", "", "nothing, RFC 6376 §3.4.3 and §3.4.4"},
		{"\r\n\r\n", "\r\n", "", "empty lines only"},
		{" \r\n\t\r\n", " \r\n\t\r\n", "", "white space only"},
		{"x", "x\r\n", "x\r\n", "no last line end"},
		{"x\n\ny\n\n", "x\r\n\r\ny\r\n", "x\r\n\r\ny\r\n", "LF alone is a line end"},
		{"x\ry\r\r\n", "x\ry\r\r\n", "x\ry\r\r\n", "CR alone is none"},
		{"x\r", "x\r\r\n", "x\r\r\n", "ends with CR"},
		{"x \r y\r\n", "x \r y\r\n", "x \r y\r\n", "white space around a CR"},
		{"\r\n\r\nx\r\n", "\r\n\r\nx\r\n", "\r\n\r\nx\r\n", "empty lines in front stay"},
	}
	for _, tt := range tests {
		for _, chunk := range []int{1, 2, 3, 1000} {
			simple, relaxed := canonical(dkim.Simple, tt.body, chunk), canonical(dkim.Relaxed, tt.body, chunk)
			if simple != tt.simple || relaxed != tt.relaxed {
				t.Errorf("%s: %q in pieces of %d: got %q and %q, want %q and %q", tt.why, tt.body, chunk, simple, relaxed, tt.simple, tt.relaxed)
			}
		}
	}
}

func canonical(c dkim.Canonicalization, body string, chunk int) string {
	var b strings.Builder
	w := c.Body(&b)
	for len(body) > 0 {
		n := min(chunk, len(body))
		fmt.Fprint(w, body[:n])
		body = body[n:]
	}
	w.Close()
	return b.String()
}

func TestWithoutSignature(t *testing.T) {
	tests := []struct{ raw, want, why string }{
		{"DKIM-Signature: a=1; b=xyz; c=2\r\n", "DKIM-Signature: a=1; b=; c=2\r\n", "in the middle"},
		{"DKIM-Signature: a=1; b=x\r\n yz\r\n", "DKIM-Signature: a=1; b=\r\n", "at the end"},
		{"DKIM-Signature: b=xyz\r\n", "DKIM-Signature: b=\r\n", "alone"},
		{"DKIM-Signature: a=1;\r\n\tb = x y ;bh=b=\r\n", "DKIM-Signature: a=1;\r\n\tb =;bh=b=\r\n", "white space before = stays, that of the value goes"},
		{"DKIM-Signature: z=Subject:Bob=20; xb=1; b=x\r\n", "DKIM-Signature: z=Subject:Bob=20; xb=1; b=\r\n", "b= within another tag"},
		{"DKIM-Signature: a=1\r\n", "DKIM-Signature: a=1\r\n", "none"},
	}
	for _, tt := range tests {
		if got := dkim.WithoutSignature(tt.raw); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.why, got, tt.want)
		}
	}
}

// keyAnswer answers every question with one record.
type keyAnswer struct{ rr dns.RR }

func (k keyAnswer) Resolve(context.Context, dns.Question) (dns.Answer, error) {
	return dns.Answer{Answer: []dns.RR{k.rr}}, nil
}
