package tlsa

import (
	"context"
	"strings"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

// validated takes every answer of a zone for a proved one.
func validated(r dns.Resolver) dns.Resolver {
	return dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
		a, err := r.Resolve(ctx, q)
		a.Authentic = true
		return a, err
	})
}

func TestLook(t *testing.T) {
	z := dnstest.Zone(t, "example.com", `
@ 300 SOA ns hostmaster 1 7200 900 1209600 900
@ 300 NS ns
ns 300 A 192.0.2.41
@ 300 MX 10 mx1
@ 300 MX 20 mx2
mx1 300 A 192.0.2.1
_25._tcp.mx1 300 TLSA 3 1 1 `+digits+`
mx2 300 A 192.0.2.2
one 300 MX 10 mx1
pkix 300 MX 10 mx3
mx3 300 A 192.0.2.3
_25._tcp.mx3 300 TLSA 1 1 1 `+digits+`
null 300 MX 0 .
`)
	dark := func(trouble dns.Trouble) dns.Resolver {
		return dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
			if q.Type == dns.TypeMX {
				return validated(z).Resolve(ctx, q)
			}
			return dns.Answer{}, &dns.Error{Question: q, Trouble: trouble}
		})
	}
	insecureMX := dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
		a, err := validated(z).Resolve(ctx, q)
		a.Authentic = q.Type != dns.TypeMX
		return a, err
	})
	for _, row := range []struct {
		r            dns.Resolver
		domain       string
		hosts        string // and the duty to each
		findings     string
		usable       bool
		undetermined bool
		why          string
	}{
		{validated(z), "one.example.com", "mx1.example.com authenticate", "", true, false, "all is as it should be"},
		{validated(z), "example.com", "mx1.example.com authenticate, mx2.example.com opportunistic", "dane.missing-partial", true, false, "one of two has none"},
		{validated(z), "mx1.example.com", "mx1.example.com authenticate", "", true, false, "a host is its own MX host"},
		{validated(z), "null.example.com", "", "", false, false, "a domain that takes no mail"},
		{validated(z), "pkix.example.com", "mx3.example.com encrypt", "dane.usage-pkix, dane.unusable", false, false, "a record that SMTP has no use for"},
		{insecureMX, "one.example.com", "mx1.example.com authenticate", "dane.insecure-zone", true, false, "anybody can forge the MX records"},
		{z, "one.example.com", "mx1.example.com opportunistic", "", false, false, "nothing is validated"},
		{dark(dns.ServerFailed), "one.example.com", "mx1.example.com delay", "dane.denial-broken", false, true, "their servers fail"},
		{dark(dns.NoNetwork), "one.example.com", "mx1.example.com delay", "dane.temperror", false, true, "it is our network, and no fault of theirs"},
		{dns.ResolverFunc(func(_ context.Context, q dns.Question) (dns.Answer, error) {
			return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.NoReply}
		}), "one.example.com", "", "", false, true, "not even the MX records are known"},
	} {
		s := Look(t.Context(), row.r, dns.MustName(row.domain), 0)
		var hosts, findings []string
		for _, h := range s.Hosts {
			hosts = append(hosts, h.Host.String()+" "+string(h.Duty()))
		}
		for _, f := range s.Findings {
			findings = append(findings, f.ID)
		}
		if got := strings.Join(hosts, ", "); got != row.hosts {
			t.Errorf("%s: hosts %s, want %s", row.why, got, row.hosts)
		}
		if got := strings.Join(findings, ", "); got != row.findings {
			t.Errorf("%s: findings %s, want %s", row.why, got, row.findings)
		}
		if err := s.Undetermined(); s.Usable() != row.usable || (err != nil) != row.undetermined {
			t.Errorf("%s: usable %t, undetermined %v", row.why, s.Usable(), err)
		}
	}
}

// A domain of very many MX hosts costs no more than its first ones.
func TestLookBounded(t *testing.T) {
	var text strings.Builder
	text.WriteString("@ 300 SOA ns hostmaster 1 7200 900 1209600 900\n@ 300 NS ns\nns 300 A 192.0.2.41\n")
	for i := range maxHosts + 5 {
		text.WriteString("@ 300 MX 10 mx" + strings.Repeat("x", i) + "\n")
	}
	s := Look(t.Context(), validated(dnstest.Zone(t, "example.com", text.String())), dns.MustName("example.com"), 0)
	if len(s.Hosts) != maxHosts || len(s.Findings) != 1 || s.Findings[0].ID != "dane.hosts-left-out" || !strings.HasPrefix(s.Findings[0].Text, "5 more") {
		t.Errorf("%d hosts, %v", len(s.Hosts), s.Findings)
	}
	if err := s.Undetermined(); err != nil {
		t.Error(err)
	}
}
