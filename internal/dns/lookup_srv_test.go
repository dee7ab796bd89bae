package dns_test

import (
	"slices"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

// TestLookupSRV: the best first, and a service that is said not to be there.
func TestLookupSRV(t *testing.T) {
	z := dnstest.Zone(t, "example.com", `
@    300 SOA ns1 hostmaster 7 14400 3600 604800 300
@    300 NS ns1
ns1  300 A 192.0.2.53
_imaps._tcp 300 SRV 20 0 993 imap2
_imaps._tcp 300 SRV 10 5 993 imap1
_pop3._tcp  300 SRV 0 0 0 .
`)
	set, err := dns.LookupSRV(t.Context(), z, dns.MustName("_imaps._tcp.example.com"))
	want := []dns.SRV{{10, 5, 993, dns.MustName("imap1.example.com")}, {20, 0, 993, dns.MustName("imap2.example.com")}}
	if err != nil || !slices.Equal(set.Records, want) {
		t.Errorf("%+v, %v", set, err)
	}
	set, err = dns.LookupSRV(t.Context(), z, dns.MustName("_pop3._tcp.example.com"))
	if err != nil || len(set.Records) != 1 || set.Records[0].Target != dns.Root {
		t.Errorf("%+v, %v", set, err)
	}
}
