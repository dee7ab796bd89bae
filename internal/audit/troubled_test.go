package audit

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
)

// TestTroubled: where each question takes its time and comes to nothing, one of many domains takes
// hardly longer than one alone: what can wait waits together.
func TestTroubled(t *testing.T) {
	took := map[bool]time.Duration{}
	for _, many := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			auditor := animal{}.world(t)
			inner := auditor.Resolver
			auditor.Resolver = dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
				if !q.Name.In(dns.MustName("example.com")) {
					return inner.Resolve(ctx, q)
				}
				time.Sleep(5 * time.Second)
				return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.ServerFailed}
			})
			if many {
				auditor.Common = &Common{}
			}
			began := time.Now()
			auditor.Gather(t.Context(), dns.MustName("example.com"))
			took[many] = time.Since(began)
		})
	}
	if took[true] > took[false]+10*time.Second { // the MX records, and what is asked about the zone's servers, come first
		t.Errorf("of many it takes %s, alone %s", took[true], took[false])
	}
}
