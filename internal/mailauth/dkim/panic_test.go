package dkim_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/mailauth/dkim"
)

// TestPanic: keys are asked for in goroutines of their own. A panic there is trouble with
// that one key, and told of; it ends neither the process nor the other signature.
func TestPanic(t *testing.T) {
	text := message
	for _, selector := range []string{"small", "ed25519"} {
		text = must(dkim.Sign(strings.NewReader(text), signer(selector))) + text
	}
	zone := published()
	r := dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
		if strings.HasPrefix(q.Name.String(), "small.") {
			panic("a mistake")
		}
		return zone.Resolve(ctx, q)
	})
	got := verify(t, r, text)
	if len(got) != 2 || got[0].Result != dkim.Pass || got[1].Result != dkim.TempError || !errors.Is(got[1].Err, dkim.ErrTemporary) {
		t.Fatalf("got %+v", got)
	}
	p, ok := errors.AsType[*dkim.Panic](got[1].Err)
	if !ok || p.Value != "a mistake" || !strings.Contains(p.Stack, "TestPanic") || strings.Contains(got[1].Reason, "a mistake") {
		t.Errorf("got %+v, %q", p, got[1].Reason)
	}
}
