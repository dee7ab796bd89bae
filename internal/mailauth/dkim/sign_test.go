package dkim_test

import (
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/dkim"
)

var canonicalizations = []dkim.Canonicalization{dkim.Simple, dkim.Relaxed}

// TestSignVerify: what we sign, we verify, in every shape, also after the lines' ends were
// changed on the way.
func TestSignVerify(t *testing.T) {
	for name, text := range shapes() {
		for _, header := range canonicalizations {
			for _, body := range canonicalizations {
				rsa, ed := signer("rsa"), signer("ed25519")
				rsa.Header, rsa.Body, ed.Header, ed.Body = header, body, header, body
				signed := sign(t, text, rsa, ed)
				for _, as := range []string{signed, strings.ReplaceAll(signed, "\r\n", "\n")} {
					got := verify(t, published(), as)
					if len(got) != 2 || got[0].Result != dkim.Pass || got[1].Result != dkim.Pass {
						t.Errorf("%s, %s/%s: got %+v", name, header, body, got)
					}
				}
			}
		}
	}
}

// TestSignBareLF: a message with LF alone is signed as what it is on the wire.
func TestSignBareLF(t *testing.T) {
	for name, text := range shapes() {
		s := signer("ed25519")
		s.Header, s.Body = dkim.Simple, dkim.Simple
		fields, err := dkim.Sign(strings.NewReader(strings.ReplaceAll(text, "\r\n", "\n")), s)
		if err != nil {
			t.Fatal(err)
		}
		if got := verify(t, published(), fields+text); got[0].Result != dkim.Pass {
			t.Errorf("%s: %s", name, got[0].Reason)
		}
	}
}

func TestSignedField(t *testing.T) {
	s := signer("rsa")
	s.Identity, s.Expires = "a@mail.example.com", time.Hour
	signed := sign(t, message, s)
	h, err := dkim.ParseTags(strings.TrimPrefix(signed[:strings.Index(signed, "From: A")], "DKIM-Signature:"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"v": "1", "a": "rsa-sha256", "c": "relaxed/relaxed", "d": "example.com", "s": "rsa", "i": "a@mail.example.com",
		"h": "From:Subject:Date:To:From:Reply-To:Subject:Date:To:Cc:MIME-Version:Content-Type:Content-Transfer-Encoding",
	} {
		if got := h.Compact(name); got != want {
			t.Errorf("%s=%s, want %s", name, got, want)
		}
	}
	for line := range strings.Lines(signed) {
		if len(line) > 80 {
			t.Errorf("a line of %d characters: %q", len(line)-2, line)
		}
	}
	got := verify(t, published(), signed)[0]
	if got.Result != dkim.Pass || got.Expires.Sub(got.Signed) != time.Hour || got.KeyBits != 2048 ||
		got.Identity != "a@mail.example.com" || got.Domain.String() != "example.com" || got.Selector != "rsa" || got.Algorithm != "rsa-sha256" {
		t.Errorf("got %+v", got)
	}
}

// TestOversigned: none of these fields can be added, neither above nor below.
func TestOversigned(t *testing.T) {
	signed := sign(t, message, signer("ed25519"))
	for _, name := range dkim.OversignedFields() {
		added := name + ": evil@example.org\r\n"
		for _, text := range []string{added + signed, strings.Replace(signed, "\r\n\r\n", "\r\n"+added+"\r\n", 1)} {
			if got := verify(t, published(), text)[0]; got.Result != dkim.Fail {
				t.Errorf("%s was added: %s", name, got.Result)
			}
		}
	}
	if got := verify(t, published(), "X-Spam: no\r\n"+signed)[0]; got.Result != dkim.Pass {
		t.Errorf("X-Spam was added: %s %s", got.Result, got.Reason)
	}
}

func TestSignRefuses(t *testing.T) {
	tests := []struct {
		change func(*dkim.Signer)
		text   string
		want   error
		why    string
	}{
		{nil, "To: b@example.net\r\n\r\nx", dkim.ErrSign, "no From"},
		{nil, "From: a\r\nFrom: b\r\n\r\nx", dkim.ErrSign, "two From"},
		{nil, "not a header\r\n\r\nx", mail.ErrHeaderMalformed, "no header"},
		{nil, "A: " + strings.Repeat("x", mail.MaxHeader), mail.ErrHeaderTooLarge, "a header without end"},
		{func(s *dkim.Signer) { s.Selector = "" }, message, dkim.ErrSign, "no selector"},
		{func(s *dkim.Signer) { s.Selector = "a;b" }, message, dkim.ErrSign, "a selector that would break the tag list"},
		{func(s *dkim.Signer) { s.Domain = dns.Name{} }, message, dkim.ErrSign, "no domain"},
		{func(s *dkim.Signer) { s.Key = nil }, message, dkim.ErrSign, "no key"},
		{func(s *dkim.Signer) { s.Key = fakeKey{} }, message, dkim.ErrSign, "a key of another kind"},
		{func(s *dkim.Signer) { s.Fields = []string{"To"} }, message, dkim.ErrSign, "From not among the fields"},
		{func(s *dkim.Signer) { s.Fields = []string{"From", "To; l=0"} }, message, dkim.ErrSign, "a name that would break the tag list"},
		{func(s *dkim.Signer) { s.Identity = "a@example.org" }, message, dkim.ErrSign, "the identity is of another domain"},
		{func(s *dkim.Signer) { s.Identity = "a;b=@example.com" }, message, dkim.ErrSign, "an identity that would break the tag list"},
		{func(s *dkim.Signer) { s.Header = "relax" }, message, dkim.ErrSign, "no canonicalization"},
	}
	for _, tt := range tests {
		s := signer("ed25519")
		if tt.change != nil {
			tt.change(&s)
		}
		if got, err := dkim.Sign(strings.NewReader(tt.text), s); !errors.Is(err, tt.want) || got != "" {
			t.Errorf("%s: got %q, %v", tt.why, got, err)
		}
	}
	if _, err := dkim.Sign(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader(message))), signer("ed25519")); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("a reader that fails: %v", err)
	}
	if _, err := dkim.Sign(strings.NewReader(message), dkim.Signer{}); !errors.Is(err, dkim.ErrSign) {
		t.Errorf("the zero Signer: %v", err)
	}
}

type fakeKey struct{ crypto.Signer }

func (fakeKey) Public() crypto.PublicKey { return "none" }

// TestGenerated: each kind of key goes into PEM and back, and signs.
func TestGenerated(t *testing.T) {
	keys := map[string]crypto.Signer{"Ed25519": ed25519Key(), "RSA 2048": rsaKey()}
	for name, key := range keys {
		text, err := dkim.MarshalPrivate(key)
		if err != nil {
			t.Fatal(err)
		}
		again, err := dkim.ParsePrivate(text)
		if err != nil || recordOf(again) != recordOf(key) {
			t.Errorf("%s: another key came back: %v", name, err)
		}
		record, err := dkim.ParseKey(recordOf(key))
		if err != nil || !record.Version {
			t.Errorf("%s: %+v, %v", name, record, err)
		}
		if joined := strings.Join(record.Strings(), ""); joined != record.String() || slices.ContainsFunc(record.Strings(), func(s string) bool { return len(s) > 255 }) {
			t.Errorf("%s: cut into %q", name, record.Strings())
		}
		line, err := record.MasterLine("mx1", dns.MustName("example.com"))
		if err != nil || !strings.HasPrefix(line, `mx1._domainkey.example.com. IN TXT "v=DKIM1; k=`) {
			t.Errorf("%s: %q, %v", name, line, err)
		}
		_, data, _ := strings.Cut(line, " IN ")
		rr, err := dns.ParseRecord(dns.MustName("mx1._domainkey.example.com"), data)
		if err != nil {
			t.Fatal(err)
		}
		set, err := dns.LookupTXT(t.Context(), fixed(rr), dns.MustName("mx1._domainkey.example.com"))
		if err != nil || len(set.Records) != 1 || set.Records[0] != record.String() {
			t.Errorf("%s: the line of the zone reads %q, %v", name, set.Records, err)
		}
	}
	for _, bits := range []int{512, 1024, 2047, 8192, 0} {
		if _, err := dkim.GenerateRSA(bits); err == nil {
			t.Errorf("a key of %d bits was made", bits)
		}
	}
	for _, text := range []string{"", "hello", "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n", "-----BEGIN PUBLIC KEY-----\naGVsbG8=\n-----END PUBLIC KEY-----\n"} {
		if _, err := dkim.ParsePrivate([]byte(text)); err == nil {
			t.Errorf("%q was read as a private key", text)
		}
	}
}

// TestGeneratedSizes: a larger key needs more strings. 4096 bits take too long to make here.
func TestGeneratedSizes(t *testing.T) {
	key := must(dkim.GenerateRSA(3072))
	if bits := key.N.BitLen(); bits != 3072 {
		t.Errorf("%d bits", bits)
	}
	if n := len(must(dkim.KeyOf(key)).Strings()); n != 3 {
		t.Errorf("%d strings", n)
	}
}

func fixed(rr dns.RR) dns.Resolver {
	return keyAnswer{rr}
}

func ExampleSign() {
	text := "From: a@example.com\r\n\r\nHello\r\n"
	key := must(dkim.GenerateEd25519())
	fields, err := dkim.Sign(strings.NewReader(text), dkim.Signer{Domain: dns.MustName("example.com"), Selector: "mx1", Key: key})
	fmt.Println(strings.HasPrefix(fields, "DKIM-Signature: v=1; a=ed25519-sha256;"), err)
	// Output: true <nil>
}
