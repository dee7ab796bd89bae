package spf

import (
	"context"
	"net/netip"
	"testing"

	"mxward/internal/dns"
)

// warm answers from what it was asked before, as a cache does.
type warm struct {
	from  dns.Resolver
	known map[dns.Question]dns.Answer
}

func (w warm) Resolve(ctx context.Context, q dns.Question) (dns.Answer, error) {
	a, ok := w.known[q]
	if !ok {
		var err error
		if a, err = w.from.Resolve(ctx, q); err != nil {
			return a, err
		}
		w.known[q] = a
	}
	return a, nil
}

// typical is a policy as many domains have one: three records, seven look-ups.
func typical(t testing.TB) (dns.Resolver, Session) {
	r := warm{world(t, `@ TXT "v=spf1 mx a:ns.example.com include:one.example.com include:two.example.com -all"
@ MX 10 ns
one TXT "v=spf1 ip4:192.0.2.0/25 ip4:192.0.2.128/25 ip6:2001:db8::/48 a:ns.example.com ~all"
two TXT "v=spf1 ip4:203.0.113.0/24 exists:%{i}.ok.example.com include:three.example.com ~all"
198.51.100.8.ok A 127.0.0.2
three TXT "v=spf1 ip4:198.51.100.0/24 ~all"
`), map[dns.Question]dns.Answer{}}
	return r, Session{Client: netip.MustParseAddr("198.51.100.7"), From: "alice@example.com", Helo: "mx.example.com"}
}

// allocationBudget is for one typical evaluation, all of it but the DNS cache: nine
// answers read, four records parsed, the trace kept. It was 79 when the budget was set.
const allocationBudget = 100

func TestAllocations(t *testing.T) {
	r, s := typical(t)
	if v := Check(t.Context(), r, s); v.Result != Pass || v.Lookups != 7 {
		t.Fatal(v)
	}
	if n := testing.AllocsPerRun(100, func() { Check(context.Background(), r, s) }); n > allocationBudget {
		t.Errorf("%.0f allocations an evaluation, and the budget is %d", n, allocationBudget)
	}
}

// BenchmarkCheck: evaluations of a typical policy with a warm cache; the budget of
// allocations is allocationBudget.
func BenchmarkCheck(b *testing.B) {
	r, s := typical(b)
	b.ReportAllocs()
	for b.Loop() {
		Check(context.Background(), r, s)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "evaluations/s")
}

// BenchmarkParse: a budget of one allocation, the list of terms.
func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("v=spf1 mx a:ns.example.com ip4:192.0.2.0/24 include:one.example.com exists:%{i}.example.com -all"); err != nil {
			b.Fatal(err)
		}
	}
}
