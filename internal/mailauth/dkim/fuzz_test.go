package dkim_test

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/mailauth/dkim"
)

func FuzzParseKey(f *testing.F) {
	for _, s := range []string{
		"", "v=DKIM1; k=rsa; p=" + madeUp(1024), "k=ed25519; p=" + ed25519Public, "v=DKIM1; p=", "v=DKIM1; h=sha1:sha256; s=*; t=y:s; n=a b; p=AAAA",
		"v=DKIM1; t=q:y; g=*; x=1; p=AAAA", "v=spf1 -all", "p=;t=;h=;s=", "v=DKIM1;;p=\r\n AA AA", "\u201cv=DKIM1; p=x\u201d", "k = rsa ;p = A", `"v=DKIM1; " "p=AA"`, "p== ",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		dkim.Lint(text)
		k, err := dkim.ParseKey(text)
		if err != nil {
			if !reflect.DeepEqual(k, dkim.Key{}) || errors.Is(err, dkim.ErrNotKey) == errors.Is(err, dkim.ErrPermanent) {
				t.Fatalf("%+v beside %v", k, err)
			}
			return
		}
		again, err := dkim.ParseKey(k.String())
		if err != nil || !reflect.DeepEqual(again, k) {
			t.Fatalf("%q reads as %+v, not %+v: %v", k, again, k, err)
		}
		if strings.Join(k.Strings(), "") != k.String() {
			t.Fatalf("cut into %q", k.Strings())
		}
		_, _ = k.PublicKey()
	})
}

// realSignatures are the shapes that signers write.
var realSignatures = []string{
	"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.com; s=rsa; h=from:to; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAA\r\n",
	"DKIM-Signature: v=1; a=ed25519-sha256; c=simple; d=example.com; s=ed25519; h=from : from :\r\n\tto; bh=frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY=;\r\n b=AA\r\n AA==\r\n",
	"DKIM-Signature: a=rsa-sha256; b=AAAA; bh=frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY=; c=relaxed; d=example.com; h=From; i=a=20b@mail.example.com; l=0; q=dns/txt; s=rsa; t=1528637909; v=1; x=9999999999; z=From:a|To:b=3D\r\n",
	"DKIM-Signature:v=1;a=rsa-sha1;d=EXAMPLE.com;s=a.b;h=From;bh=;b=;\r\n",
	"dkim-signature : v=1\r\n",
}

// fuzzKeys answers with what the fuzzer says, whatever is asked.
type fuzzKeys struct {
	record string
	lost   bool
	asked  int
	mu     sync.Mutex
}

func (k *fuzzKeys) Resolve(_ context.Context, q dns.Question) (dns.Answer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked++
	if k.lost {
		return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.ServerFailed}
	}
	if k.record == "" {
		return dns.Answer{Rcode: dns.NXDomain}, nil
	}
	rr, err := dns.ParseRecord(q.Name, "TXT "+quoted(k.record))
	if err != nil {
		return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.Malformed, Err: err}
	}
	return dns.Answer{Answer: []dns.RR{rr}}, nil
}

// FuzzVerify: hostile messages and hostile keys end in results of known words, within the
// limits, and never in a pass by a key that the fuzzer cannot have used.
func FuzzVerify(f *testing.F) {
	for _, s := range realSignatures {
		f.Add([]byte(s+message), recordOf(rsaKey()), false)
		f.Add([]byte(s+s+message), "k=ed25519; p="+ed25519Public, false)
	}
	f.Add([]byte(sign(f, message, signer("ed25519"), signer("rsa"))), recordOf(ed25519Key()), false)
	f.Add([]byte(sign(f, message, signer("rsa"))), "v=DKIM1; p=", true)
	f.Add([]byte(strings.Repeat(realSignatures[0], 60)+message), "", false)
	f.Fuzz(func(t *testing.T, text []byte, record string, lost bool) {
		keys := &fuzzKeys{record: record, lost: lost}
		got, err := dkim.Verifier{Resolver: keys}.Verify(context.Background(), bytes.NewReader(text))
		if err != nil && got != nil {
			t.Fatalf("%v beside %v", got, err)
		}
		if keys.asked > dkim.MaxSignatures || len(got) > dkim.MaxReported {
			t.Fatalf("%d questions, %d signatures", keys.asked, len(got))
		}
		for _, s := range got {
			switch s.Result {
			case dkim.Pass:
				if lost || s.KeyBits == 0 || s.Domain.IsZero() {
					t.Fatalf("%+v", s)
				}
			case dkim.TempError:
				if dns.TroubleOf(s.Err) == 0 {
					t.Fatalf("%+v", s)
				}
			case dkim.Fail, dkim.Policy, dkim.Neutral, dkim.PermError:
				if s.Reason == "" {
					t.Fatalf("no reason: %+v", s)
				}
			default:
				t.Fatalf("the result %q", s.Result)
			}
		}
	})
}

// FuzzSign: whatever can be signed, verifies.
func FuzzSign(f *testing.F) {
	for _, text := range shapes() {
		if len(text) < 10000 {
			f.Add([]byte(text), true, false)
		}
	}
	records := published()
	f.Fuzz(func(t *testing.T, text []byte, header, body bool) {
		if len(text) > 64<<10 {
			return
		}
		s := signer("ed25519")
		if header {
			s.Header = dkim.Simple
		}
		if body {
			s.Body = dkim.Simple
		}
		fields, err := dkim.Sign(bytes.NewReader(text), s)
		if err != nil {
			return
		}
		got, err := dkim.Verifier{Resolver: records}.Verify(context.Background(), strings.NewReader(fields+string(text)))
		if err != nil || len(got) == 0 || got[0].Result != dkim.Pass {
			t.Fatalf("%+v, %v", got, err)
		}
	})
}
