package arc_test

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/mailauth/arc"
)

// FuzzFields: what reads as a field reads so again from its own text; on an error there is
// nothing.
func FuzzFields(f *testing.F) {
	for _, s := range []string{
		"", "i=1; mx.example.com; spf=pass", " i = 1 ;\r\n mx.example.com;\r\n\tarc=none", "i=51; x", "i=01; x", "i=1;", "i=1; \r\r\n\n",
		"a=rsa-sha256; b=AAAA; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; c=relaxed/relaxed; d=example.com; h=from:to; i=1; s=rsa; t=12345; x=12346",
		"a=ed25519-sha256; b=AA\r\n AA; bh=AA==; c=simple; d=EXAMPLE.com; h=; i=50; s=a.b;", "a=rsa-sha256; b=AAAA; bh=AAAA; d=example.com; h= a : b ; i=2; s=rsa; l=1",
		"a=rsa-sha256; b=AAAA; cv=pass; d=example.org; i=2; s=dummy; t=12346", "i=1; a=rsa-sha256; cv=none; d=example.org; s=x; b=AAAA;;", "i=1;;a=b", "a=x; b=AAAA; cv=fail; d=.; i=1; s=x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		again(t, arc.ParseAuthResults, text)
		again(t, arc.ParseMessageSignature, text)
		again(t, arc.ParseSeal, text)
	})
}

func again[T interface{ String() string }](t *testing.T, parse func(string) (T, error), text string) {
	t.Helper()
	first, err := parse(text)
	if err != nil {
		var zero T
		if !reflect.DeepEqual(first, zero) || !errors.Is(err, arc.ErrSyntax) {
			t.Fatalf("%+v beside %v", first, err)
		}
		return
	}
	second, err := parse(first.String())
	if err != nil || !reflect.DeepEqual(first, second) {
		t.Fatalf("%q reads as %+v, not %+v: %v", first, second, first, err)
	}
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
		return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.NoReply}
	}
	rr, err := dns.ParseRecord(q.Name, "TXT "+quoted(k.record))
	if err != nil {
		return dns.Answer{}, err
	}
	return dns.Answer{Answer: []dns.RR{rr}}, nil
}

// FuzzValidate: whatever comes, the work is bounded, the result is one of four, trouble is
// temporary and nothing else is, and a chain that passes was sealed with the key that is
// there. What may be sealed is, and validates.
func FuzzValidate(f *testing.F) {
	record := published()["ed25519._domainkey.example.com"][0]
	for _, text := range []string{
		message, sealed(f, message, "ed25519"), sealed(f, message, "ed25519", "ed25519", "ed25519"), sealed(f, message, "rsa", "ed25519"),
		"ARC-Seal: i=1\r\nARC-Seal: i=50; cv=fail\r\n\r\n", strings.Repeat("ARC-Authentication-Results: i=1; x\r\n", 200) + "\r\n",
	} {
		f.Add([]byte(text), record, false)
		f.Add([]byte(text), record, true)
	}
	f.Fuzz(func(t *testing.T, text []byte, record string, lost bool) {
		keys := &fuzzKeys{record: record, lost: lost}
		chain, err := arc.Verifier{Resolver: keys}.Validate(context.Background(), bytes.NewReader(text))
		if err != nil {
			return
		}
		_ = chain.String()
		if keys.asked > arc.MaxInstance+arc.MaxSignatures {
			t.Fatalf("%d keys asked for", keys.asked)
		}
		if (chain.Status == arc.TempError) != errors.Is(chain.Err, arc.ErrTemporary) || chain.Status == arc.TempError && !lost {
			t.Fatalf("%s with %v", chain, chain.Err)
		}
		switch chain.Status {
		case arc.Pass:
			if lost || len(chain.Sets) != chain.Highest || chain.Highest == 0 {
				t.Fatalf("%d sets, the highest %d, lost %v: %s", len(chain.Sets), chain.Highest, lost, chain)
			}
		case arc.None, arc.Fail, arc.TempError:
		default:
			t.Fatalf("status %q", chain.Status)
		}
		if len(text) > 64<<10 || bytes.Contains(text, []byte("\r\r")) {
			return
		}
		fields, err := seal(t, sealer("ed25519"), keys, string(text), results)
		if (err == nil) != (chain.Status != arc.TempError && !chain.Ended && chain.Highest < arc.MaxInstance) {
			t.Fatalf("sealing after %s: %v", chain, err)
		}
		if err != nil {
			return
		}
		keys.lost, keys.record = false, published()["ed25519._domainkey.example.com"][0]
		after := validate(t, keys, fields+string(text))
		if chain.Status == arc.None && after.Status != arc.Pass || chain.Status == arc.Fail && !after.Ended {
			t.Fatalf("%s was sealed to be %s", chain, after)
		}
	})
}
