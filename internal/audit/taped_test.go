package audit

import (
	"context"
	"testing"

	"mxward/internal/dns"
)

// TestKnownIsKnown: what was answered is known to whom no time is left, too, each time.
func TestKnownIsKnown(t *testing.T) {
	r := &recorder{resolver: dns.ResolverFunc(func(context.Context, dns.Question) (dns.Answer, error) { return dns.Answer{Authentic: true}, nil })}
	if _, err := r.Resolve(t.Context(), rootNS); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		if answer, err := r.Resolve(ended, rootNS); err != nil || !answer.Authentic {
			t.Fatalf("%+v, %v", answer, err)
		}
	}
}
