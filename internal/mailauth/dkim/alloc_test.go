package dkim_test

import (
	"strings"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/mailauth/dkim"
)

// TestAllocations holds the budgets of the benchmarks: a message of 20 kB, signed, and
// verified with the key at hand.
func TestAllocations(t *testing.T) {
	const signing, verifying = 130, 150
	text := benchMessage()
	for _, selector := range []string{"rsa", "ed25519"} {
		s := signer(selector)
		got := testing.AllocsPerRun(20, func() { must(dkim.Sign(strings.NewReader(text), s)) })
		if got > signing {
			t.Errorf("%s: signing took %v allocations, the budget is %d", selector, got, signing)
		}
		signed := sign(t, text, s)
		key := must(published().Resolve(t.Context(), dns.Question{Name: dns.MustName(selector + "._domainkey.example.com"), Type: dns.TypeTXT}))
		v := dkim.Verifier{Resolver: keyAnswer{key.Answer[0]}}
		got = testing.AllocsPerRun(20, func() { must(v.Verify(t.Context(), strings.NewReader(signed))) })
		if got > verifying {
			t.Errorf("%s: verifying took %v allocations, the budget is %d", selector, got, verifying)
		}
	}
}

// TestSignedSignatures: DKIM-Signature in h= means the other signatures, never the one that
// has it there (RFC 6376 §5.4), however often it is listed.
func TestSignedSignatures(t *testing.T) {
	const other = "DKIM-Signature: v=1; d=example.net; b=AAAA\r\n"
	tests := []struct {
		before, after string // the signature that is made, in the message that is verified
		times         int    // that h= has DKIM-Signature
		want          dkim.Result
		why           string
	}{
		{"", "", 1, dkim.Pass, "there is no other"},
		{"", "", 3, dkim.Pass, "there is no other, three times"},
		{"", other, 1, dkim.Pass, "the one that stood before"},
		{"", other, 2, dkim.Pass, "the one that stood before, and no more"},
		{"", other + other, 2, dkim.Pass, "two that are alike"},
		{other, "", 0, dkim.Pass, "one that came later, not spoken for"},
		{other, "", 1, dkim.Fail, "one that came later, and should not have come"},
	}
	for _, tt := range tests {
		s := signer("ed25519")
		s.Fields = []string{"From"}
		for range tt.times {
			s.Oversigned = append(s.Oversigned, "DKIM-Signature")
		}
		if s.Oversigned == nil {
			s.Oversigned = []string{"From"}
		}
		// What stood before is signed too, once more than it stands: as many as are listed
		// here come on top.
		text := tt.before + must(dkim.Sign(strings.NewReader(tt.after+message), s)) + tt.after + message
		for _, got := range verify(t, published(), text) {
			if got.Domain.String() == "example.com" && got.Result != tt.want {
				t.Errorf("%s: %s: %s", tt.why, got.Result, got.Reason)
			}
		}
	}
}
