package resolver

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

// Each row is a resolver in some state, and what a question through it comes to.
func TestForwarder(t *testing.T) {
	for _, tt := range []struct {
		why     string
		how     dnstest.Behaviour
		trouble dns.Trouble // 0: the answer
	}{
		{"it answers", dnstest.Honest, 0},
		{"over TCP where the answer is cut", dnstest.Truncating, 0},
		{"it does not answer: our side", dnstest.Silent, dns.NoNetwork},
		{"nobody listens: our side", dnstest.Refusing, dns.NoNetwork},
		{"no route to it", dnstest.NoRoute, dns.NoNetwork},
		{"it fails", dnstest.Failing, dns.ServerFailed},
		{"it refuses us", dnstest.Lame, dns.ServerFailed},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n dnstest.Net
				n.Set("192.0.2.53", dnstest.Host{Resolver: dnstest.Zone(t, "example.com", exampleZone), Behaviour: tt.how, Recursion: true})
				f := &Forwarder{Server: netip.MustParseAddrPort("192.0.2.53:53"), Dial: n.Dial}
				answer, err := f.Resolve(t.Context(), question("www.example.com A"))
				if tt.trouble == 0 {
					if err != nil || len(answer.Answer) != 1 || len(answer.Additional) != 0 || answer.Authentic {
						t.Fatalf("%+v, %v", answer, err)
					}
					gone, err := f.Resolve(t.Context(), question("gone.example.com A"))
					if err != nil || gone.Rcode != dns.NXDomain || len(gone.Authority) != 1 {
						t.Errorf("%+v, %v", gone, err)
					}
					return
				}
				var e *dns.Error
				if !errors.As(err, &e) || e.Trouble != tt.trouble || len(e.Attempts) == 0 || len(e.Attempts) > forwardTries {
					t.Errorf("%#v, want %v", err, tt.trouble)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		var n dnstest.Net
		f := &Forwarder{Server: netip.MustParseAddrPort("192.0.2.53:53"), Dial: n.Dial}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := f.Resolve(ctx, question("www.example.com A")); !errors.Is(err, context.DeadlineExceeded) || dns.TroubleOf(err) != 0 {
			t.Errorf("%v, want the context's error", err)
		}
	})
}
