package resolver

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

// picky puts a server that drops some questions.
func (w *world) picky(addr string, zone dns.Resolver, drops func(q dns.Question) bool) {
	w.Serve(addr, dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
		if drops(q) {
			<-ctx.Done() // when nobody listens any more
		}
		return zone.Resolve(ctx, q)
	}))
}

// flood keeps asking for names of a zone until the function that it gives is called.
func (w *world) flood(each time.Duration, q func(i int) string) (stop func()) {
	done := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-time.After(each):
				all.Go(func() { w.ask(q(i)) })
			}
		}
	})
	return func() { close(done); all.Wait(); time.Sleep(time.Minute) }
}

// Whoever delegates a zone to somebody else's servers, which drop its questions, does not make
// them silent for their own zones.
func TestSilenceOfOneZone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exampleCom+"evil 3600 NS ns1.evil\nns1.evil 3600 A 192.0.2.11\nevil 3600 NS ns2.evil\nns2.evil 3600 A 192.0.2.12\n", "", "")
		zone := dnstest.Zone(t, "example.com", wildZone)
		for _, addr := range []string{"192.0.2.11", "192.0.2.12"} {
			w.picky(addr, zone, func(q dns.Question) bool { return strings.Contains(q.Name.String(), "evil") })
		}
		defer w.flood(10*time.Millisecond, func(i int) string { return fmt.Sprintf("w%d.evil.com A", i) })()
		time.Sleep(10 * time.Second)
		for i := range 20 {
			w.want(fmt.Sprintf("n%d.example.com A", i), dns.NoError, "A 192.0.2.80")
			time.Sleep(time.Second)
		}
	})
}

// A server that drops some questions, or of which some are lost, is not silent to the others
// as long as it is heard.
func TestSilenceOfSome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "one 3600 NS ns.one\nns.one 3600 A 192.0.2.11\n", "", "")
		zone := dnstest.Zone(t, "one.com", soa+"@ NS ns\nns A 192.0.2.11\n* A 192.0.2.80\n")
		w.picky("192.0.2.11", zone, func(q dns.Question) bool { return strings.HasPrefix(q.Name.String(), "drop") })
		w.want("first.one.com A", dns.NoError, "A 192.0.2.80")
		defer w.flood(10*time.Millisecond, func(i int) string { return fmt.Sprintf("drop%d.one.com A", i) })()
		for i := range 100 {
			w.want(fmt.Sprintf("n%d.one.com A", i), dns.NoError, "A 192.0.2.80")
			time.Sleep(200 * time.Millisecond)
		}
	})
}

// Nobody is called silent as long as there may be a name server that nobody has looked up, or
// others by now.
func TestForetellUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exampleCom+"half 3600 NS ns.half\nns.half 3600 A 198.51.100.1\nhalf 3600 NS ns.half.org.\nold 36000 NS ns.old\nns.old 36000 A 198.51.100.2\n", "", "")
		w.Serve("192.0.2.11", dnstest.Zone(t, "example.com", wildZone))
		w.Serve("192.0.2.12", dnstest.Zone(t, "example.com", wildZone))
		w.ask("www.old.com A")
		time.Sleep(time.Hour)
		for zone, addr := range map[string]string{"half.com": "198.51.100.1", "old.com": "198.51.100.2"} {
			w.want("live"+zone[:3]+".example.com A", dns.NoError, "A 192.0.2.80")
			came := time.Now()
			for range maxUnheard {
				w.Resolver.servers.take(candidateFor(addr), dns.MustName(zone))
			}
			if zone == "half.com" { // its delegation becomes known
				go w.ask("www.half.com A")
			}
			time.Sleep(time.Millisecond)
			w.Resolver.servers.silent(candidateFor(addr), dns.MustName(zone))
			w.Resolver.servers.lives()
			if outlook, err := w.outlook("other."+zone+" A", came); err != nil || outlook == dns.OutlookBad {
				t.Errorf("%s: %d, %v", zone, outlook, err)
			}
		}
		time.Sleep(time.Minute)
	})
}

// What the resolver can say without its servers has a good outlook, however silent they are.
func TestForetellReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exampleCom, "", "")
		w.Resolver.Local = []Data{{Name: dns.MustName("local.example.com")}}
		w.Resolver.Own = map[dns.Name]dns.Resolver{dns.MustName("own.example.com"): dnstest.Zone(t, "own.example.com", soa+"@ NS ns\n")}
		w.Serve("192.0.2.11", dnstest.Zone(t, "example.com", wildZone+"stale 5 A 192.0.2.81\n"))
		w.Serve("192.0.2.12", dnstest.Zone(t, "example.com", wildZone+"stale 5 A 192.0.2.81\n"))
		w.want("stale.example.com A", dns.NoError, "A 192.0.2.81")
		time.Sleep(time.Minute)
		for _, addr := range []netip.AddrPort{candidateFor("192.0.2.11"), candidateFor("192.0.2.12")} {
			w.Resolver.servers.silent(addr, dns.MustName("example.com"))
			for range maxUnheard {
				w.Resolver.servers.take(addr, dns.MustName("example.com"))
			}
		}
		for _, tt := range []struct {
			name string
			want dns.Outlook
		}{
			{"other.example.com", dns.OutlookBad}, {"local.example.com", dns.OutlookGood},
			{"x.own.example.com", dns.OutlookGood}, {"stale.example.com", dns.OutlookGood},
		} {
			if outlook, err := w.outlook(tt.name+" A", time.Now()); outlook != tt.want || err != nil {
				t.Errorf("%s: %d, %v, want %d", tt.name, outlook, err, tt.want)
			}
		}
	})
}

// Where those who asked a server have gone without news, the others do not wait for any.
func TestAskersGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exampleCom, "", "")
		w.Serve("192.0.2.11", dnstest.Zone(t, "example.com", wildZone))
		w.Serve("192.0.2.12", dnstest.Zone(t, "example.com", wildZone))
		zone := dns.MustName("example.com")
		for _, addr := range []string{"192.0.2.11", "192.0.2.12"} {
			for range maxUnheard {
				h, _ := w.Resolver.servers.take(candidateFor(addr), zone)
				time.AfterFunc(100*time.Millisecond, func() { w.Resolver.servers.giveBack(h) })
			}
		}
		if spent := took(func() { w.want("www.example.com A", dns.NoError, "A 192.0.2.80") }); spent > 150*time.Millisecond {
			t.Errorf("it took %s", spent)
		}
	})
}
