package resolver

import (
	"testing"
	"testing/synctest"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

// TestFailurePackets: what a failed look-up has sent is known to who pays for it, and one
// whose failure was known has sent nothing.
func TestFailurePackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := exampleWorld(t)
		for _, server := range []string{"192.0.2.11", "192.0.2.12"} {
			w.Set(server, dnstest.Host{Resolver: dnstest.Zone(t, "example.com", exampleZone)}) // and no longer example.net
		}
		count := &dns.Counter{Resolver: w.Resolver}
		q := dns.Question{Name: dns.MustName("www.example.net"), Type: dns.TypeA}
		if _, err := count.Resolve(t.Context(), q); err == nil {
			t.Fatal("no error")
		}
		sent := int(w.Resolver.Stats().Packets)
		if got := count.Lookups().Packets; got != sent || sent == 0 {
			t.Errorf("%d packets counted, %d sent", got, sent)
		}
		if _, err := count.Resolve(t.Context(), q); err == nil {
			t.Fatal("no error")
		}
		if l := count.Lookups(); l.Packets != int(w.Resolver.Stats().Packets) || l.Failed != 2 {
			t.Errorf("%+v, %d sent", l, w.Resolver.Stats().Packets)
		}
	})
}
