package dmarc

import (
	"strings"
	"testing"
)

func benchmarkMessage() Message {
	m := identifiers("spf pass bounce.example.com, dkim pass example.net, dkim pass example.com")
	m.From = []string{`"Doe, John" <john.doe@mail.example.com>`}
	return m
}

// BenchmarkEvaluate: two walks of four names each, most of them shared, over a zone in
// memory. Budget: 250 allocations, of which most are the zone's answers.
func BenchmarkEvaluate(b *testing.B) {
	w := newWorld(b, rejects)
	m := benchmarkMessage()
	b.ReportAllocs()
	for b.Loop() {
		w.asked = w.asked[:0]
		if v := Evaluate(b.Context(), w.Resolver, m); v.Result != Pass {
			b.Fatal(v)
		}
	}
}

// TestAllocations holds the budgets of the benchmarks.
func TestAllocations(t *testing.T) {
	w := newWorld(t, rejects)
	m := benchmarkMessage()
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() { Evaluate(ctx, w.Resolver, m) }); n > 250 {
		t.Errorf("an evaluation makes %.0f allocations", n)
	}
}

// BenchmarkParse reads a usual record. Budget: 20 allocations.
func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("v=DMARC1; p=reject; sp=quarantine; adkim=s; rua=mailto:dmarc@example.com,mailto:d@example.net; fo=1"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWorst reads the worst that fits into a record: as much as 64 kB of commas.
func BenchmarkWorst(b *testing.B) {
	text := "v=DMARC1; p=none; rua=" + strings.Repeat("a:b,", 4000) + strings.Repeat(",", 40000)
	b.ReportAllocs()
	for b.Loop() {
		if r, err := Parse(text); err != nil || len(r.RUA) != maxURIs {
			b.Fatal(len(r.RUA), err)
		}
	}
}
