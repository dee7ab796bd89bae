package resolver

import (
	"slices"
	"testing"
	"testing/synctest"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

// An own zone answers for itself when the world's aliases lead there, or its delegations;
// the world's idea of it, which is old here, is not asked.
func TestOwnZones(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "example 86400 NS ns1.example\nns1.example 86400 A 192.0.2.11\nhosted 300 CNAME mx.example\nover 300 CNAME sub.example\naway 300 CNAME gone.example\n", "", "")
		w.zone("192.0.2.11", "example.com", soa+"@ NS ns1\nns1 A 192.0.2.11\n* 300 A 192.0.2.99\n")
		w.zone("192.0.2.12", "sub.example.com", soa+"@ NS ns\nns A 192.0.2.12\n@ 300 A 192.0.2.82\n")
		w.zone(orgAddr, "org", soa+"@ NS ns\nns A 192.0.2.4\nback 300 A 192.0.2.84\n")
		own := dns.MustName("example.com")
		w.Resolver.Own = map[dns.Name]dns.Resolver{own: dnstest.Zone(t, "example.com", soa+"@ NS ns1\nns1 A 192.0.2.11\nmx 300 A 192.0.2.25\nout 300 CNAME back.org.\n")}
		for _, tt := range []struct {
			why, question string
			rcode         dns.Rcode
			records       []string
		}{
			{"an alias from the world into the zone", "hosted.com A", dns.NoError, []string{"CNAME mx.example.com.", "A 192.0.2.25"}},
			{"again: the chain is in no cache that could grow old", "hosted.com A", dns.NoError, []string{"CNAME mx.example.com.", "A 192.0.2.25"}},
			{"what the zone has not is not there", "away.com A", dns.NXDomain, []string{"CNAME gone.example.com."}},
			{"a name in the zone", "mx.example.com A", dns.NoError, []string{"A 192.0.2.25"}},
			{"an alias from the zone into the world", "out.example.com A", dns.NoError, []string{"CNAME back.org.", "A 192.0.2.84"}},
		} {
			answer, err := w.ask(tt.question)
			if err != nil || answer.Rcode != tt.rcode || !slices.Equal(short(answer.Answer), tt.records) {
				t.Errorf("%s: %s %q, %v", tt.why, answer.Rcode, short(answer.Answer), err)
			}
		}
		if n := len(w.Asked("192.0.2.11")); n != 0 {
			t.Errorf("the world was asked %d times for the own zone", n)
		}
		// Servers that have both zones by heart bring the target along: it does not count.
		w.script(comAddr, func(q dns.Question) dns.Answer {
			return dns.Answer{Authoritative: true, Answer: records("both.com. 300 CNAME mx.example.com.", "mx.example.com. 300 A 192.0.2.99")}
		})
		w.want("both.com A", dns.NoError, "CNAME mx.example.com.", "A 192.0.2.25")
		w.Resolver.Own[own] = dnstest.Zone(t, "example.com", soa+"@ NS ns1\nns1 A 192.0.2.11\nmx 300 A 192.0.2.26\n")
		w.want("hosted.com A", dns.NoError, "CNAME mx.example.com.", "A 192.0.2.26")
	})
}
