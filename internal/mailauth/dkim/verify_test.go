package dkim_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/dkim"
)

// TestRFC8463: the message of RFC 8463 §A.3, signed with both algorithms.
func TestRFC8463(t *testing.T) {
	r := keyRecords{
		"brisbane._domainkey.football.example.com": {"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="},
		"test._domainkey.football.example.com":     {"v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"},
	}
	text := strings.ReplaceAll(`DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.

`, "\n", "\r\n")
	got := verify(t, r, text)
	if len(got) != 2 || got[0].Result != dkim.Pass || got[1].Result != dkim.Pass || got[0].KeyBits != 256 || got[1].KeyBits != 1024 {
		t.Errorf("got %+v", got)
	}
}

// TestVerifyChecks: a good signature by small._domainkey.example.com, with one tag changed
// or another record in the DNS. A changed tag also breaks the signature, so that each of
// these is refused for its own reason, before any hash is compared.
func TestVerifyChecks(t *testing.T) {
	record := recordOf(smallKey())
	_, p, _ := strings.Cut(record, "p=")
	tests := []struct {
		old, new string   // in the signature
		records  []string // nil: the key; empty: the name does not exist
		want     dkim.Result
		reason   string // a part of it
		why      string
	}{
		{"", "", nil, dkim.Pass, "", "nothing changed"},
		{"v=1", "v=2", nil, dkim.Neutral, "version", "RFC 6376 §3.5"},
		{"v=1;", "", nil, dkim.PermError, "lacks v=", "no version"},
		{"s=small", "x=", nil, dkim.PermError, "lacks s=", "no selector"},
		{"s=small", "s=a b;s=c", nil, dkim.PermError, "twice", "a tag twice"},
		{"s=small", "s=sm/all", nil, dkim.PermError, "name of a key", "a selector that is none"},
		{"d=example.com", "d=exam..ple", nil, dkim.PermError, "no domain", "a domain that is none"},
		{"d=example.com", "d=.", nil, dkim.PermError, "no domain", "the root"},
		{"a=rsa-sha256", "a=rsa-sha1", nil, dkim.Policy, "rsa-sha1", "RFC 8301 §3.1"},
		{"a=rsa-sha256", "a=dsa-sha256", nil, dkim.Neutral, "unknown", "an algorithm of the future"},
		{"a=rsa-sha256", "a=ed25519-sha256", nil, dkim.PermError, "key at", "the key is for another algorithm"},
		{"c=relaxed/relaxed", "c=nofws", nil, dkim.Neutral, "canonicalization", "an unknown canonicalization"},
		{"c=relaxed/relaxed", "q=http", nil, dkim.Neutral, "q=http", "an unknown way to the key"},
		{"h=From:", "h=Cc:", nil, dkim.Fail, "header", "From is oversigned, so once is enough"},
		{"v=1;", "v=1; l=10;", nil, dkim.Policy, "l=", "a part of the body"},
		{"v=1;", "v=1; i=a@mail.example.com;", nil, dkim.Fail, "header", "i= is below d="},
		{"v=1;", "v=1; i=a@example.org;", nil, dkim.PermError, "i=", "i= is elsewhere, RFC 6376 §3.5"},
		{"v=1;", "v=1; i=a@notexample.com;", nil, dkim.PermError, "i=", "i= only ends alike"},
		{"v=1;", "v=1; i=mail.example.com;", nil, dkim.PermError, "i=", "i= without @"},
		{"v=1;", "v=1; x=1000000000;", nil, dkim.PermError, "expire", "long expired"},
		{"v=1;", "v=1; x=soon;", nil, dkim.PermError, "no time", "no number"},
		{"v=1;", "v=1; x=-1;", nil, dkim.PermError, "no time", "before time"},
		{"v=1;", "v=1; x=99999999999999;", nil, dkim.Fail, "header", "in a very long time, RFC 6376 §3.5"},
		{" t=", " t=9", nil, dkim.Policy, "future", "made in the future"},
		{"bh=", "bh=A", nil, dkim.PermError, "bh=", "no hash"},
		{" b=", " b=!", nil, dkim.PermError, "b=", "no base64"},
		{" b=", " y=", nil, dkim.PermError, "lacks b=", "no signature"},
		{"v=1;", "v=1; foo=bar;", nil, dkim.Fail, "header", "an unknown tag is ignored, and yet signed"},
		{"v=1;", "v=1; n=" + strings.Repeat("x", 17<<10) + ";", nil, dkim.Policy, "octets", "a huge signature"},
		{"h=From:", "h=" + strings.Repeat("x:", 1000) + "From:", nil, dkim.Policy, "fields", "very many fields"},

		{"", "", []string{}, dkim.PermError, "does not exist", "no such name"},
		{"", "", []string{"v=spf1 -all"}, dkim.PermError, "none among", "no key there"},
		{"", "", []string{"TROUBLE"}, dkim.TempError, "could not be asked for", "could not ask is not is not there"},
		{"", "", []string{record, record}, dkim.PermError, "there are 2", "two keys, RFC 6376 §3.6.2.2"},
		{"", "", []string{"v=spf1 -all", record}, dkim.Pass, "", "another record beside the key"},
		{"", "", []string{"v=DKIM1; p="}, dkim.PermError, "revoked", "RFC 6376 §6.1.2"},
		{"", "", []string{"v=DKIM1; p=!"}, dkim.PermError, "base64", "a broken record"},
		{"", "", []string{"v=DKIM1; p=aGVsbG8="}, dkim.PermError, "no RSA public key", "no key in p="},
		{"", "", []string{"v=DKIM1; k=foo; p=" + p}, dkim.PermError, "unknown key type", "a key of the future"},
		{"", "", []string{"v=DKIM1; p=" + madeUp(1023)}, dkim.Policy, "1023 bits", "RFC 8301 §3.2"},
		{"", "", []string{"v=DKIM1; p=" + madeUp(4097)}, dkim.Policy, "4097 bits", "more than we verify"},
		{"", "", []string{"v=DKIM1; p=" + madeUp(4096)}, dkim.Fail, "header", "the largest, of somebody else"},
		{"", "", []string{"v=DKIM1; h=sha1; p=" + p}, dkim.PermError, "h=", "the key allows sha1 only"},
		{"", "", []string{"v=DKIM1; h=sha1:sha256; p=" + p}, dkim.Pass, "", "and sha256"},
		{"", "", []string{"v=DKIM1; s=tlsrpt; p=" + p}, dkim.PermError, "not for mail", "RFC 6376 §3.6.1"},
		{"", "", []string{"v=DKIM1; s=x:email; p=" + p}, dkim.Pass, "", "for mail too"},
		{"", "", []string{"v=DKIM1; t=y; p=" + p}, dkim.Pass, "tries", "testing"},
		{"", "", []string{"v=DKIM1; t=s; p=" + p}, dkim.Pass, "", "strict, and no subdomain"},
		{"v=1;", "v=1; i=a@mail.example.com;", []string{"v=DKIM1; t=s; p=" + p}, dkim.PermError, "t=s", "strict, and a subdomain"},
		{"", "", []string{"p=" + p[:50] + " \t " + p[50:]}, dkim.Pass, "", "white space in p="},
	}
	signed := sign(t, message, signer("small"))
	for _, tt := range tests {
		records := published()
		if tt.records != nil {
			records["small._domainkey.example.com"] = tt.records
		}
		if tt.records != nil && len(tt.records) == 0 {
			delete(records, "small._domainkey.example.com")
		}
		if !strings.Contains(signed, tt.old) {
			t.Fatalf("%s: the signature has no %q", tt.why, tt.old)
		}
		got := verify(t, records, strings.Replace(signed, tt.old, tt.new, 1))[0]
		if got.Result != tt.want || !strings.Contains(got.Reason, tt.reason) || tt.reason == "" && got.Reason != "" {
			t.Errorf("%s: got %s, %q, want %s, %q", tt.why, got.Result, got.Reason, tt.want, tt.reason)
		}
		var dnsErr *dns.Error
		if temporary := got.Result == dkim.TempError; errors.Is(got.Err, dkim.ErrTemporary) != temporary || errors.As(got.Err, &dnsErr) != temporary {
			t.Errorf("%s: the error is %v", tt.why, got.Err)
		}
		if got.Testing != strings.Contains(strings.Join(tt.records, ""), "t=y") {
			t.Errorf("%s: testing is %v", tt.why, got.Testing)
		}
	}
	unsigned := signer("small")
	unsigned.Oversigned = []string{}
	text := strings.Replace(sign(t, message, unsigned), "h=From:", "h=", 1)
	if got := verify(t, published(), text)[0]; got.Result != dkim.PermError || !strings.Contains(got.Reason, "From") {
		t.Errorf("From is not signed: %s, %s", got.Result, got.Reason)
	}
}

func TestVerifyChanged(t *testing.T) {
	signed := sign(t, message, signer("rsa"), signer("ed25519"))
	tests := []struct{ old, new, reason, why string }{
		{"Hello", "Hallo", "body", "the body"},
		{"bye\r\n", "bye\r\nmore\r\n", "body", "added to the body"},
		{"Subject: one", "Subject: won", "header", "a field"},
		{"To: b@example.net\r\n", "", "header", "a field taken out"},
	}
	for _, tt := range tests {
		for _, got := range verify(t, published(), strings.Replace(signed, tt.old, tt.new, 1)) {
			if got.Result != dkim.Fail || !strings.Contains(got.Reason, tt.reason) {
				t.Errorf("%s: got %s, %q", tt.why, got.Result, got.Reason)
			}
		}
	}
	if got := verify(t, published(), message); len(got) != 0 {
		t.Errorf("no signature: %+v", got)
	}
}

func TestVerifyTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := signer("ed25519")
		s.Expires = time.Hour
		signed := sign(t, message, s)
		for _, step := range []struct {
			wait time.Duration
			want dkim.Result
		}{{0, dkim.Pass}, {time.Hour, dkim.Pass}, {4 * time.Minute, dkim.Pass}, {2 * time.Minute, dkim.PermError}} {
			time.Sleep(step.wait)
			if got := verify(t, published(), signed)[0]; got.Result != step.want {
				t.Errorf("%s later: %s, %s", step.wait, got.Result, got.Reason)
			}
		}
	})
}

// silence never answers; the caller's patience ends it.
type silence struct{}

func (silence) Resolve(ctx context.Context, q dns.Question) (dns.Answer, error) {
	<-ctx.Done()
	return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.NoReply, Err: ctx.Err()}
}

// TestVerifySilence: all keys together have 20 seconds.
func TestVerifySilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signed := sign(t, message, signer("ed25519"), signer("ed25519"), signer("ed25519"))
		begun := time.Now()
		for _, got := range verify(t, silence{}, signed) {
			if got.Result != dkim.TempError || dns.TroubleOf(got.Err) != dns.NoReply {
				t.Errorf("got %s: %v", got.Result, got.Err)
			}
		}
		if took := time.Since(begun); took != 20*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestVerifyManySignatures(t *testing.T) {
	one, err := dkim.Sign(strings.NewReader(message), signer("ed25519"))
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	counting := dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
		asked++
		return published().Resolve(ctx, q)
	})
	got := verify(t, oneAtATime(counting), strings.Repeat(one, 200)+message)
	if len(got) != dkim.MaxReported || asked != dkim.MaxSignatures {
		t.Errorf("%d reported, %d keys asked for", len(got), asked)
	}
	for i, s := range got {
		want := dkim.Pass
		if i >= dkim.MaxSignatures {
			want = dkim.Policy
		}
		if s.Result != want || s.Domain.String() != "example.com" {
			t.Errorf("signature %d: %s of %s, %s", i, s.Result, s.Domain, s.Reason)
		}
	}
}

// oneAtATime lets one question through at a time: the keys of a message are asked for at once.
func oneAtATime(r dns.Resolver) dns.Resolver {
	turn := make(chan struct{}, 1)
	return dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
		turn <- struct{}{}
		defer func() { <-turn }()
		return r.Resolve(ctx, q)
	})
}

func TestVerifyHeaderLimits(t *testing.T) {
	tests := []struct {
		text string
		want error
		why  string
	}{
		{strings.Repeat("A: b\r\n", mail.MaxHeaderFields+1) + message, mail.ErrHeaderTooLarge, "too many fields"},
		{"A: " + strings.Repeat("x", mail.MaxHeaderField) + "\r\n" + message, mail.ErrHeaderTooLarge, "a field too long"},
		{"garbage\r\n" + message, mail.ErrHeaderMalformed, "a line that is no field"},
	}
	for _, tt := range tests {
		got, err := dkim.Verifier{Resolver: published()}.Verify(t.Context(), strings.NewReader(tt.text))
		if !errors.Is(err, tt.want) || got != nil {
			t.Errorf("%s: %v, %v", tt.why, got, err)
		}
	}
	cut := errors.New("connection reset")
	signed := sign(t, message, signer("ed25519"))
	got, err := dkim.Verifier{Resolver: published()}.Verify(t.Context(), io.MultiReader(strings.NewReader(signed), iotest.ErrReader(cut)))
	if !errors.Is(err, cut) || got != nil {
		t.Errorf("the reader fails in the body: %v, %v", got, err)
	}
}

// TestVerifyMemory: 50 MB of text, and much of what is held back, take no more memory than
// a short message.
func TestVerifyMemory(t *testing.T) {
	const budget = 256 << 10 // octets, for signing and verifying together
	tests := []struct {
		line string
		way  dkim.Canonicalization
		size int64
		why  string
	}{
		{strings.Repeat("a line of the text", 4) + "\r\n", dkim.Simple, 50 << 20, "text"},
		{strings.Repeat("a line of the text", 4) + "\r\n", dkim.Relaxed, 1 << 20, "text"},
		{"\r\n", dkim.Simple, 1 << 20, "empty lines"},
		{"\r\n", dkim.Relaxed, 1 << 20, "empty lines"},
		{" \t", dkim.Relaxed, 1 << 20, "white space"},
		{" \r\n", dkim.Relaxed, 1 << 20, "lines of white space"},
		{"x", dkim.Simple, 1 << 20, "one line"},
		{"\r", dkim.Relaxed, 1 << 20, "CR"},
	}
	for _, tt := range tests {
		body := func() io.Reader {
			return io.MultiReader(io.LimitReader(repeat(tt.line), tt.size), strings.NewReader("end\r\n"))
		}
		head := "From: a@example.com\r\n\r\n"
		s := signer("ed25519")
		s.Body = tt.way
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		fields, err := dkim.Sign(io.MultiReader(strings.NewReader(head), body()), s)
		if err != nil {
			t.Fatal(err)
		}
		got, err := dkim.Verifier{Resolver: published()}.Verify(t.Context(), io.MultiReader(strings.NewReader(fields+head), body()))
		runtime.ReadMemStats(&after)
		if err != nil || len(got) != 1 || got[0].Result != dkim.Pass {
			t.Errorf("%s, %s: %+v, %v", tt.why, tt.way, got, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > budget {
			t.Errorf("%s, %s: %d octets were allocated", tt.why, tt.way, n)
		}
	}
}

// repeat gives a text again and again.
func repeat(text string) io.Reader {
	r, block := &repeater{}, strings.Repeat(text, 1+8192/len(text))
	r.block = block[:len(block)/len(text)*len(text)]
	return r
}

type repeater struct {
	block string
	at    int
}

func (r *repeater) Read(p []byte) (int, error) {
	n := copy(p, r.block[r.at:])
	r.at = (r.at + n) % len(r.block)
	return n, nil
}

// TestInternational: a domain and a selector in U-labels (RFC 8616 §4).
func TestInternational(t *testing.T) {
	s := signer("ed25519")
	s.Domain = dns.MustName("b\u00fccher.example")
	signed := sign(t, message, s)
	records := keyRecords{"ed25519._domainkey.xn--bcher-kva.example": {recordOf(ed25519Key())}}
	if got := verify(t, records, signed)[0]; got.Result != dkim.Pass || got.Domain != s.Domain {
		t.Errorf("got %+v", got)
	}
	spelt := strings.Replace(signed, "xn--bcher-kva.example", "b\u00fccher.example", 1)
	if got := verify(t, records, spelt)[0]; got.Result != dkim.Fail || got.Domain != s.Domain {
		t.Errorf("d= spelt with U-labels: got %+v", got)
	}
}

func ExampleVerifier_Verify() {
	text := "From: a@example.com\r\n\r\nHello\r\n"
	key := must(dkim.GenerateEd25519())
	fields, _ := dkim.Sign(strings.NewReader(text), dkim.Signer{Domain: dns.MustName("example.com"), Selector: "mx1", Key: key})
	record, _ := dkim.KeyOf(key)
	resolver := keyRecords{"mx1._domainkey.example.com": {record.String()}}
	signatures, err := dkim.Verifier{Resolver: resolver}.Verify(context.Background(), strings.NewReader(fields+text))
	for _, s := range signatures {
		fmt.Println(s.Result, s.Domain, s.Selector, s.Algorithm, err)
	}
	// Output: pass example.com mx1 ed25519-sha256 <nil>
}
