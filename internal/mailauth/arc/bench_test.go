package arc_test

import (
	"bufio"
	"context"
	"io"
	"runtime"
	"strings"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/arc"
)

// Budgets of allocations for a message of 20 kB and a chain of three sets, the keys at hand.
const (
	validating = 500
	sealing    = 450
)

// benchMessage has 20 kB.
func benchMessage() string {
	return message + strings.Repeat("a line of the body, as long as most of them are in real mail\r\n", 320)
}

// keyAnswers has its answers made.
type keyAnswers map[dns.Name]dns.Answer

func (k keyAnswers) Resolve(_ context.Context, q dns.Question) (dns.Answer, error) {
	return k[q.Name], nil
}

func atHand(t testing.TB) keyAnswers {
	answers := keyAnswers{}
	for name := range published() {
		q := dns.Question{Name: dns.MustName(name), Type: dns.TypeTXT}
		answers[q.Name] = must(published().Resolve(t.Context(), q))
	}
	return answers
}

// sealOnce seals a message that validated as chain.
func sealOnce(t testing.TB, s arc.Sealer, chain arc.Chain, text string) {
	body := bufio.NewReader(strings.NewReader(text))
	sealing := must(s.Start(must(mail.ReadHeader(body))))
	if _, err := io.Copy(sealing, body); err != nil {
		t.Fatal(err)
	}
	must(sealing.Finish(chain, results))
}

func BenchmarkValidate(b *testing.B) {
	for _, selector := range []string{"rsa", "ed25519"} {
		text := sealed(b, benchMessage(), selector, selector, selector)
		v := arc.Verifier{Resolver: atHand(b)}
		b.Run(selector, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if got := must(v.Validate(b.Context(), strings.NewReader(text))); got.Status != arc.Pass {
					b.Fatal(got)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

func BenchmarkSeal(b *testing.B) {
	for _, selector := range []string{"rsa", "ed25519"} {
		text := sealed(b, benchMessage(), selector, selector)
		chain := validate(b, published(), text)
		b.Run(selector, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				sealOnce(b, sealer(selector), chain, text)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

// TestAllocations holds the budgets.
func TestAllocations(t *testing.T) {
	for _, selector := range []string{"rsa", "ed25519"} {
		two := sealed(t, benchMessage(), selector, selector)
		three := sealed(t, two, selector)
		v := arc.Verifier{Resolver: atHand(t)}
		if got := testing.AllocsPerRun(5, func() { must(v.Validate(t.Context(), strings.NewReader(three))) }); got > validating {
			t.Errorf("%s: validating took %v allocations, the budget is %d", selector, got, validating)
		}
		chain := validate(t, published(), two)
		if got := testing.AllocsPerRun(5, func() { sealOnce(t, sealer(selector), chain, two) }); got > sealing {
			t.Errorf("%s: sealing took %v allocations, the budget is %d", selector, got, sealing)
		}
	}
}

// body gives so many octets of a body.
type body int

func (b *body) Read(p []byte) (int, error) {
	const line = "a line of a body that is not kept in memory \r\n\r\n"
	if *b <= 0 {
		return 0, io.EOF
	}
	n := copy(p, line)
	*b -= body(n)
	return n, nil
}

// TestMemory: what is allocated for a body does not grow with it: some 220 kB for 256 kB, for
// 2 MB and for 50 MB, which would be slow with the race detector.
func TestMemory(t *testing.T) {
	const size = 2 << 20
	for _, length := range []body{size / 8, size} {
		h := must(mail.ReadHeader(bufio.NewReader(strings.NewReader(sealed(t, message, "rsa", "ed25519")))))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		check := arc.Verifier{Resolver: atHand(t)}.Start(t.Context(), h)
		sealing := must(sealer("rsa").Start(h))
		if _, err := io.Copy(io.MultiWriter(check, sealing), &length); err != nil {
			t.Fatal(err)
		}
		chain := check.Finish()
		fields := must(sealing.Finish(chain, results))
		runtime.ReadMemStats(&after)
		if chain.Status != arc.Fail || fields == "" {
			t.Errorf("another body passes: %s", chain)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 512<<10 {
			t.Errorf("%d octets were allocated", used)
		}
	}
}
