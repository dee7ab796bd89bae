package dkim_test

import (
	"strings"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/mailauth/dkim"
)

// benchMessage has 20 kB.
func benchMessage() string {
	return message + strings.Repeat("a line of the body, as long as most of them are in real mail\r\n", 320)
}

// BenchmarkSign: a message of 20 kB. Budget: 130 allocations, 30 kB.
func BenchmarkSign(b *testing.B) {
	text := benchMessage()
	for _, selector := range []string{"rsa", "ed25519"} {
		s := signer(selector)
		b.Run(selector, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := dkim.Sign(strings.NewReader(text), s); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

// BenchmarkVerify: a message of 20 kB, the key at hand. Budget: 150 allocations, 30 kB.
func BenchmarkVerify(b *testing.B) {
	for _, selector := range []string{"rsa", "ed25519"} {
		text := sign(b, benchMessage(), signer(selector))
		name := dns.MustName(selector + "._domainkey.example.com")
		answer, err := published().Resolve(b.Context(), dns.Question{Name: name, Type: dns.TypeTXT})
		if err != nil {
			b.Fatal(err)
		}
		v := dkim.Verifier{Resolver: keyAnswer{answer.Answer[0]}}
		b.Run(selector, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				got, err := v.Verify(b.Context(), strings.NewReader(text))
				if err != nil || got[0].Result != dkim.Pass {
					b.Fatal(got, err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
