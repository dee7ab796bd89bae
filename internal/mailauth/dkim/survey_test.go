package dkim_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/mailauth/dkim"
)

// TestLook: what stands at the name of a key, and at the names where it lands by mistake.
func TestLook(t *testing.T) {
	const key = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	tests := []struct {
		zone keyRecords
		ids  string
		why  string
	}{
		{keyRecords{"s._domainkey.example.com": {key}}, "", "a key"},
		{keyRecords{"s._domainkey.example.com": {key, key}}, "error dkim.multiple-records", "two"},
		{keyRecords{"s._domainkey.example.com": {"hello"}}, "error dkim.syntax", "something else"},
		{keyRecords{}, "error dkim.missing", "nothing"},
		{keyRecords{"s._domainkey.example.com.example.com": {key}}, "error dkim.missing, error dkim.misplaced", "a dot left out at the end of the name"},
		{keyRecords{"s.domainkey.example.com": {key}}, "error dkim.missing, error dkim.misplaced", "no underscore"},
		{keyRecords{"s._domainkeys.example.com": {key}}, "error dkim.missing, error dkim.misplaced", "one letter too many"},
		{keyRecords{"s.example.com": {key}}, "error dkim.missing, error dkim.misplaced", "no _domainkey"},
		{keyRecords{"_domainkey.example.com": {"o=~; r=a@example.com", key}}, "error dkim.missing, error dkim.misplaced", "no selector"},
		{keyRecords{"s.example.com": {"v=spf1 -all"}, "_domainkey.example.com": {"o=~"}}, "error dkim.missing", "other records there"},
	}
	for _, tt := range tests {
		s, err := dkim.Look(context.Background(), tt.zone, "s", dns.MustName("example.com"))
		if err != nil || s.Err != nil || s.Name != dns.MustName("s._domainkey.example.com") {
			t.Fatalf("%s: %v, %v, %s", tt.why, err, s.Err, s.Name)
		}
		if got := idsOf(s.Report); got != tt.ids {
			t.Errorf("%s: got %q, want %q: %v", tt.why, got, tt.ids, s.Findings)
		}
		for _, f := range s.Findings {
			if f.Domain != "s._domainkey.example.com" {
				t.Errorf("%s: a finding about %q", tt.why, f.Domain)
			}
		}
	}

	dark := dns.ResolverFunc(func(_ context.Context, q dns.Question) (dns.Answer, error) {
		return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.NoReply}
	})
	s, err := dkim.Look(context.Background(), dark, "s", dns.MustName("example.com"))
	if err != nil || !errors.Is(s.Err, dkim.ErrTemporary) || s.Findings != nil || s.Records != nil {
		t.Errorf("no reply: %v, %v, %v", err, s.Err, s.Findings)
	}
	if _, err := dkim.Look(context.Background(), dark, strings.Repeat("s", 64), dns.MustName("example.com")); err == nil {
		t.Error("a selector longer than a label was looked up")
	}
}
