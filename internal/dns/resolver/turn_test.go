package resolver

import (
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

const wildZone = soa + "@ NS ns1\n@ NS ns2\nns1 A 192.0.2.11\nns2 A 192.0.2.12\n* A 192.0.2.80\n"

// askMany asks for so many names of example.com at once, and gives the errors.
func (w *world) askMany(n int) []error {
	var all sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		all.Go(func() { _, errs[i] = w.ask(fmt.Sprintf("w%d.example.com A", i)) })
	}
	all.Wait()
	return errs
}

// Of a server that is not heard only a few questions are asked; the others share its silence,
// and say so.
func TestSharedSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exampleCom, "", "")
		var errs []error
		spent := took(func() { errs = w.askMany(500) })
		shared := 0
		for _, err := range errs {
			if dns.TroubleOf(err) != dns.NoReply {
				t.Fatalf("a name of dead servers: %v", err)
			}
			if strings.Contains(err.Error(), "no reply to others") {
				shared++
			}
		}
		if shared < 400 {
			t.Errorf("%d shared what the first found out", shared)
		}
		// Each of two servers gets two rounds of questions from those who ask it first, and from
		// those who ask it next; now and then one comes between two rounds.
		for _, addr := range []string{"192.0.2.11", "192.0.2.12"} {
			if n := len(w.Asked(addr)); n == 0 || n > 5*maxUnheard {
				t.Errorf("%s was asked %d questions", addr, n)
			}
		}
		if spent > defaultTimeout {
			t.Errorf("it took %s", spent)
		}
	})
}

// A server that is far away, and has not been heard yet, answers everybody: one round trip
// later than the first few.
func TestFarServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exampleCom, "", "")
		far := dnstest.Host{Resolver: dnstest.Zone(t, "example.com", wildZone), Delay: 300 * time.Millisecond}
		w.Set("192.0.2.11", far)
		w.Set("192.0.2.12", far)
		var errs []error
		spent := took(func() { errs = w.askMany(500) })
		for i, err := range errs {
			if err != nil {
				t.Fatalf("question %d: %v", i, err)
			}
		}
		if n := len(w.Asked("192.0.2.11")) + len(w.Asked("192.0.2.12")); n > 510 {
			t.Errorf("%d packets for 500 questions", n)
		}
		if spent > 650*time.Millisecond {
			t.Errorf("it took %s", spent)
		}
	})
}

// Where one of two servers is heard, nobody waits for news of the other.
func TestHeardInstead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exampleCom, "", "")
		w.Set("192.0.2.12", dnstest.Host{Resolver: dnstest.Zone(t, "example.com", wildZone), Delay: 10 * time.Millisecond})
		w.askMany(20) // who is heard is known after these
		var slow int
		var mu sync.Mutex
		var all sync.WaitGroup
		for i := range 500 {
			all.Go(func() {
				spent := took(func() { w.want(fmt.Sprintf("n%d.example.com A", i), dns.NoError, "A 192.0.2.80") })
				mu.Lock()
				defer mu.Unlock()
				if spent > 50*time.Millisecond {
					slow++
				}
			})
		}
		all.Wait()
		if slow > maxUnheard {
			t.Errorf("%d of 500 waited for the silent server", slow)
		}
	})
}

// Who waits for news that never come, since those who asked have gone, asks in the end.
func TestNoNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exampleCom, "", "")
		w.Serve("192.0.2.11", dnstest.Zone(t, "example.com", wildZone))
		w.Serve("192.0.2.12", dnstest.Zone(t, "example.com", wildZone))
		for _, addr := range []string{"192.0.2.11", "192.0.2.12"} {
			for range maxUnheard {
				if _, news := w.Resolver.servers.take(candidateFor(addr), dns.MustName("example.com")); news != nil {
					t.Fatal("it is busy already")
				}
			}
		}
		spent := took(func() { w.want("www.example.com A", dns.NoError, "A 192.0.2.80") })
		if spent < newsTimeout || spent > newsTimeout+100*time.Millisecond {
			t.Errorf("it took %s", spent)
		}
	})
}

// outlook asks for the outlook of a question that came at some time.
func (w *world) outlook(q string, came time.Time) (dns.Outlook, error) {
	asked := question(q)
	return w.Resolver.Foretell(dns.WireQuestion{Name: asked.Name.AppendWire(nil), Type: asked.Type}, came)
}

// What is foretold of a question is what its zone's servers did, as far as it is known.
func TestForetell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exampleCom+"dead 3600 NS ns.dead\nns.dead 3600 A 198.51.100.1\nidle 3600 NS ns.idle\nns.idle 3600 A 198.51.100.2\nglueless 3600 NS ns.glueless.org.\n", "", "")
		w.Serve("192.0.2.11", dnstest.Zone(t, "example.com", wildZone))
		w.Serve("192.0.2.12", dnstest.Zone(t, "example.com", wildZone))
		w.Resolver.Stubs = []Stub{{Zone: dns.MustName("stub.org"), Servers: []netip.AddrPort{netip.MustParseAddrPort("198.51.100.3:53")}}}
		w.Resolver.Forwards = []Forward{{Zone: dns.MustName("forward.org"), Servers: []netip.AddrPort{netip.MustParseAddrPort("198.51.100.4:53")}}}
		expect := func(why, q string, want dns.Outlook) {
			t.Helper()
			if got, err := w.outlook(q, time.Now()); got != want || err != nil {
				t.Errorf("%s: %s: %d, %v, want %d", why, q, got, err, want)
			}
		}
		expect("nothing is known", "www.example.com A", dns.OutlookUnsure)
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		expect("a server of the zone was heard", "other.example.com A", dns.OutlookGood)
		expect("com was heard, what is below is unknown", "www.dead.com A", dns.OutlookFair)
		expect("another resolver is asked", "www.forward.org A", dns.OutlookGood)
		expect("the stub's server was not heard", "www.stub.org A", dns.OutlookUnsure)

		began := time.Now()
		var all sync.WaitGroup
		for i := range maxUnheard {
			all.Go(func() { w.ask(fmt.Sprintf("w%d.dead.com A", i)) })
		}
		all.Go(func() { w.ask("www.idle.com A") })
		time.Sleep(100 * time.Millisecond)
		expect("its server has as many questions as it may have", "www.dead.com A", dns.OutlookBad)
		expect("its server is silent, but has time for one more", "other.idle.com A", dns.OutlookUnsure)
		time.Sleep(packetTimeout)
		w.want("alive.example.com A", dns.NoError, "A 192.0.2.80") // a sign of life
		outlook, err := w.outlook("www.dead.com A", began)
		if outlook != dns.OutlookBad || dns.TroubleOf(err) != dns.NoReply || !strings.Contains(err.Error(), "dead.com") {
			t.Errorf("its server was silent meanwhile: %d, %v", outlook, err)
		}
		if outlook, err := w.outlook("www.dead.com A", time.Now()); outlook != dns.OutlookBad || err != nil {
			t.Errorf("its server was silent before: %d, %v", outlook, err)
		}
		all.Wait()
		if got, err := w.Resolver.Foretell(dns.WireQuestion{Name: []byte{1, 'x'}, Type: dns.TypeA}, time.Now()); got != dns.OutlookGood || err != nil {
			t.Errorf("a name that is cut: %d, %v", got, err)
		}
	})
}

// While the whole network is silent, nobody's silence is told from that of the others: who
// waits is asked in the end, and told whose trouble it is.
func TestForetellDark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exampleCom, "", "")
		w.Serve("192.0.2.11", dnstest.Zone(t, "example.com", wildZone))
		w.Serve("192.0.2.12", dnstest.Zone(t, "example.com", wildZone))
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		for _, addr := range []string{rootAddr, comAddr, netAddr, orgAddr, "192.0.2.11", "192.0.2.12"} {
			w.Set(addr, dnstest.Host{Behaviour: dnstest.Silent})
		}
		time.Sleep(time.Minute)
		for i, err := range w.askMany(500) {
			if trouble := dns.TroubleOf(err); trouble != dns.NoNetwork && trouble != dns.WorkLimit {
				t.Fatalf("question %d: %v", i, err)
			}
		}
	})
}
