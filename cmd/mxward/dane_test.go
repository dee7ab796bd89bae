package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/mailauth/tlsa"
)

// TestDANE: what a validating resolver brings is fine, and is printed whole. The flags lead to
// none in a test, so that this one is given to what is behind them.
func TestDANE(t *testing.T) {
	const digits = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	z := dnstest.Zone(t, "example.com", `
@ 300 SOA ns hostmaster 1 7200 900 1209600 900
@ 300 NS ns
ns 300 A 192.0.2.41
@ 300 MX 10 mx1
mx1 300 A 192.0.2.1
_25._tcp.mx1 300 TLSA 3 1 1 `+digits+`
pkix 300 MX 10 mx3
mx3 300 A 192.0.2.3
_25._tcp.mx3 300 TLSA 1 1 1 `+digits+`
none 300 MX 10 ns
`)
	validated := dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
		a, err := z.Resolve(ctx, q)
		a.Authentic = true
		return a, err
	})
	for _, row := range []struct {
		domain string
		code   int
		says   string
		why    string
	}{
		{"example.com", exitFine, "mx records: secure\nmx mx1.example.com: TLS with a certificate that one of 1 TLSA records at mx1.example.com means\n  3 1 1 " + digits + ": usable\n", "a host with DANE"},
		{"pkix.example.com", exitProblems, ": unusable: usage 1 has no meaning in SMTP", "a record for web servers"},
		{"none.example.com", exitProblems, "it is proved that there are no TLSA records", "no DANE"},
	} {
		s := tlsa.Look(t.Context(), validated, dns.MustName(row.domain), 0)
		var out, doc bytes.Buffer
		printDANE(&out, s)
		if err := writeJSON(&doc, newDANEDocument(s)); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), row.says) || !strings.Contains(doc.String(), `"mx_secure": true`) {
			t.Errorf("%s: it says\n%s%s", row.why, &out, &doc)
		}
		code := exitFine
		var e *exitError
		if err := daneExit(s, ""); errors.As(err, &e) {
			code = e.code
		}
		if code != row.code {
			t.Errorf("%s: exit code %d, want %d", row.why, code, row.code)
		}
	}
}
