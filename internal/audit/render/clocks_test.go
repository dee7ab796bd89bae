package render

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"mxward/internal/audit"
	"mxward/internal/dns"
	"mxward/internal/mailauth/mtasts"
)

// TestClocks: what ends is known where it was seen, and nothing is made up where it was not.
func TestClocks(t *testing.T) {
	begins, ends := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), time.Date(2027, 1, 30, 0, 0, 0, 0, time.UTC)
	domain := dns.MustName("example.com")
	leaf := &x509.Certificate{NotBefore: begins, NotAfter: ends}
	fetched := mtasts.Fetched{TLS: tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}}
	for _, row := range []struct {
		why   string
		facts audit.Facts
		want  []Clock
	}{
		{"nobody was asked", audit.Facts{}, nil},
		{"there is no policy", audit.Facts{MTASTS: &mtasts.Survey{RecordErr: mtasts.ErrNone}}, nil},
		{"the policy's host has shown its certificate", audit.Facts{MTASTS: &mtasts.Survey{Fetched: fetched}}, []Clock{{"policy-certificate", "mta-sts.example.com", ends, begins}}},
		{"the registry did not answer", audit.Facts{Registration: &audit.Registration{Domain: domain, Err: errors.New("no")}}, nil},
		{"the registration has an end", audit.Facts{Registration: &audit.Registration{Domain: domain, Ends: ends}}, []Clock{{"registration", "example.com", ends, time.Time{}}}},
	} {
		row.facts.Domain = domain
		got := NewReport(&row.facts, nil).Clocks
		if len(got) != len(row.want) || len(got) > 0 && got[0] != row.want[0] {
			t.Errorf("%s: got %v", row.why, got)
		}
	}
}
