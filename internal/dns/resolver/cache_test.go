package resolver

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

// filled gives a cache with n pieces of one address record.
func filled(n, bytes int) *cache {
	c := new(cache)
	c.limit(1<<30, bytes)
	now := time.Now()
	for i := range n {
		name := fmt.Sprintf("host%d.example.com", i)
		rr := &wire.A{Hdr: wire.RR_Header{Name: name + ".", Rrtype: wire.TypeA, Class: wire.ClassINET, Ttl: 3600}, A: []byte{192, 0, 2, byte(i)}}
		c.keep(&piece{ask: ask{name: dns.MustName(name), typ: dns.TypeA}, ttl: time.Hour, answer: []dns.RR{rr}}, time.Time{}, now)
	}
	return c
}

// TestCacheAccounting: what the cache believes to use is what it uses.
func TestCacheAccounting(t *testing.T) {
	const n = 100_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	c := filled(n, 1<<30)
	runtime.GC()
	runtime.ReadMemStats(&after)
	entries, bytes := c.total()
	used := int(after.HeapAlloc) - int(before.HeapAlloc)
	if entries != n {
		t.Fatalf("%d entries", entries)
	}
	if ratio := float64(bytes) / float64(used); ratio < 0.85 || ratio > 1.25 {
		t.Errorf("counted %d bytes an entry, used %d", bytes/n, used/n)
	}
	t.Logf("%d bytes an entry", used/n)
	runtime.KeepAlive(c)
}

// TestCacheBytes: however much comes, the bound holds, and most of it is used.
func TestCacheBytes(t *testing.T) {
	const bound = 4 << 20
	c := filled(50_000, bound)
	if n, bytes := c.total(); bytes > bound || bytes < bound*8/10 || n < 5000 {
		t.Errorf("%d entries of %d bytes", n, bytes)
	}
	if len(c.shards) < 2 {
		t.Errorf("%d shard for %d bytes", len(c.shards), bound)
	}
}

// TestSieve: what is asked for stays while a flood of names passes that nobody asks for
// again.
func TestSieve(t *testing.T) {
	c := new(cache)
	c.limit(100, 1<<20)
	now := time.Now()
	put := func(i int) ask {
		a := ask{name: dns.MustName(fmt.Sprintf("n%d.com", i)), typ: dns.TypeA}
		c.put(cacheKey{kindPiece, a}, &piece{ask: a}, now.Add(time.Hour), 10)
		return a
	}
	var popular []ask
	for i := range 20 {
		popular = append(popular, put(i))
	}
	for i := range 5000 {
		put(100 + i)
		if i%20 == 0 {
			for _, a := range popular {
				c.find(a, now)
			}
		}
	}
	for _, a := range popular {
		if c.find(a, now) == nil {
			t.Errorf("%s has gone", a)
		}
	}
	if n, _ := c.total(); n != 100 {
		t.Errorf("%d entries", n)
	}
}

// TestCacheConcurrent: readers, writers, flushes and dumps at once.
func TestCacheConcurrent(t *testing.T) {
	w, asked := warmed(t)
	r := w.Resolver
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			buf := make([]byte, 0, 4096)
			for j := range 3000 {
				q := question(asked[(i*31+j)%len(asked)])
				switch {
				case j%500 == 0:
					r.Flush(q.Name)
				case j%400 == 0:
					dumped(t, r)
				case j%2 == 0:
					r.AppendAnswer(asked2(buf, q))
				default:
					if _, err := r.Resolve(context.Background(), q); err != nil {
						t.Errorf("%s: %v", q, err)
					}
				}
			}
		})
	}
	all.Wait()
	r.Flush(dns.Root)
	if n, bytes := r.cache.total(); n != 0 || bytes != 0 {
		t.Errorf("after a flush %d entries of %d bytes", n, bytes)
	}
}

func asked2(buf []byte, q dns.Question) ([]byte, dns.WireQuestion) {
	return asked(buf, q), dns.WireQuestion{Name: q.Name.AppendWire(nil), Type: q.Type}
}

// TestWireNoData: types that are no data are refused by the short way too, whatever is
// known of the name.
func TestWireNoData(t *testing.T) {
	w, _ := variedWorld(t)
	for range 3 {
		w.want("nowhere.com A", dns.NXDomain)
	}
	if _, _, ok := w.Resolver.AppendAnswer(asked2(nil, question("nowhere.com MX"))); !ok {
		t.Fatal("the denial is not ready")
	}
	for _, typ := range []string{"TYPE128", "TYPE200", "TYPE252"} {
		if _, _, ok := w.Resolver.AppendAnswer(asked2(nil, question("nowhere.com "+typ))); ok {
			t.Errorf("%s is answered", typ)
		}
	}
}

// TestWireLocalhost: an alias to a special name leaves nothing that would answer for it.
func TestWireLocalhost(t *testing.T) {
	w := newWorld(t, "loop 300 CNAME localhost.\n", "", "")
	if _, err := w.ask("loop.com A"); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := w.Resolver.AppendAnswer(asked2(nil, question("localhost A"))); ok {
		t.Error("localhost is answered from the cache")
	}
	w.want("localhost A", dns.NoError, "A 127.0.0.1")
}

// TestFlushChain: an answer with an alias goes with what it leads to.
func TestFlushChain(t *testing.T) {
	w, _ := variedWorld(t)
	for range 3 {
		w.want("out.com A", dns.NoError, "CNAME host.example.org.", "A 192.0.2.70")
	}
	if _, _, ok := w.Resolver.AppendAnswer(asked2(nil, question("out.com A"))); !ok {
		t.Fatal("the chain is not ready")
	}
	w.Resolver.Flush(dns.MustName("example.org"))
	if _, _, ok := w.Resolver.AppendAnswer(asked2(nil, question("out.com A"))); ok {
		t.Error("the chain is still there")
	}
	w.Forget()
	w.want("out.com A", dns.NoError, "CNAME host.example.org.", "A 192.0.2.70")
	if w.Total() == 0 {
		t.Error("it was answered without asking")
	}
}

// TestRenew: a popular name is asked for again before it expires, by nobody's waiting; a
// name that was asked for once is not; a failure leaves the old data until its end.
func TestRenew(t *testing.T) {
	for _, tt := range []struct {
		why      string
		question string
		hits     int
		wire     bool
		broken   bool
		want     uint64
		most     uint64 // the server of an alias brings the target along, which may come first
	}{
		{"popular", "www.example.com A", 5, false, false, 1, 1},
		{"popular, asked for as bytes", "www.example.com A", 5, true, false, 1, 1},
		{"a popular alias: each link", "alias.example.com A", 8, false, false, 1, 2},
		{"a popular alias, as bytes: the links are looked at by the long way", "alias.example.com A", 8, true, false, 1, 2},
		{"a name that does not exist", "no.example.com A", 8, false, false, 1, 1},
		{"asked for once", "www.example.com A", 0, false, false, 0, 0},
		{"the servers are gone", "www.example.com A", 5, false, true, 1, 1},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "example 86400 NS ns1.example\nns1.example 86400 A 192.0.2.11\n", "", "")
				w.zone("192.0.2.11", "example.com", "@ 300 SOA ns1 hostmaster 1 7200 900 1209600 300\n@ 86400 NS ns1\nns1 86400 A 192.0.2.11\nwww 300 A 192.0.2.80\nalias 300 CNAME www\nnull 300 MX 0 .\nmail 300 MX 10 www\n")
				hit := func() {
					if tt.wire {
						if _, _, ok := w.Resolver.AppendAnswer(asked2(nil, question(tt.question))); ok {
							return
						}
					}
					if _, err := w.ask(tt.question); err != nil {
						t.Fatal(err)
					}
				}
				hit()
				for range tt.hits {
					hit()
				}
				if tt.broken {
					w.Set("192.0.2.11", dnstest.Host{Behaviour: dnstest.Lame})
				}
				time.Sleep(280 * time.Second)
				w.Forget()
				hit()
				synctest.Wait()
				if n := w.Resolver.Stats().Renewals; n < tt.want || n > tt.most {
					t.Errorf("%d renewals, want %d to %d", n, tt.want, tt.most)
				}
				time.Sleep(15 * time.Second)
				hit() // the old data still serves, or the new
				time.Sleep(20 * time.Second)
				w.Forget()
				_, ok := w.Resolver.fromCache(question(tt.question))
				if want := tt.want > 0 && !tt.broken; ok != want {
					t.Errorf("after the end of the first: in the cache %t, want %t", ok, want)
				}
			})
		})
	}
}

// TestRenewAgain: a renewal that has failed is tried again while the old data lasts, but
// not with every look-up.
func TestRenewAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "example 86400 NS ns1.example\nns1.example 86400 A 192.0.2.11\n", "", "")
		const zone = "@ 300 SOA ns1 hostmaster 1 7200 900 1209600 300\n@ 86400 NS ns1\nns1 86400 A 192.0.2.11\nwww 300 A 192.0.2.80\n"
		w.zone("192.0.2.11", "example.com", zone)
		for range renewHits + 1 {
			w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		}
		w.Set("192.0.2.11", dnstest.Host{Behaviour: dnstest.Lame})
		time.Sleep(271 * time.Second)
		for range 5 { // within the holdoff
			w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
			synctest.Wait()
			time.Sleep(time.Second)
		}
		if n := w.Resolver.Stats().Renewals; n != 1 {
			t.Errorf("%d renewals at once, want 1", n)
		}
		w.zone("192.0.2.11", "example.com", zone)
		time.Sleep(renewHoldoff)
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		synctest.Wait()
		time.Sleep(20 * time.Second) // beyond the end of the first
		if _, ok := w.Resolver.fromCache(question("www.example.com A")); !ok {
			t.Error("it was not renewed once its servers were back")
		}
	})
}

// TestStale: what has expired serves when there is nothing better, for a day, with a short
// TTL and a word about it, and nowhere where only the truth of the moment counts.
func TestStale(t *testing.T) {
	const stale = wire.ExtendedErrorCodeStaleAnswer
	for _, tt := range []struct {
		why      string
		question string
		change   func(w *world)
		after    time.Duration
		extended uint16
		trouble  dns.Trouble
		within   time.Duration
	}{
		{"all is well", "www.example.com A", nil, time.Hour, 0, 0, time.Second},
		{"the servers fail", "www.example.com A", lame, time.Hour, stale, 0, time.Second},
		{"an alias, whole", "alias.example.com A", lame, time.Hour, stale, 0, time.Second},
		{"a denial is not served: mail would bounce", "no.example.com A", lame, time.Hour, 0, dns.ServerFailed, time.Second},
		{"nor that there are no such records", "www.example.com MX", lame, time.Hour, 0, dns.ServerFailed, time.Second},
		{"nor a null MX", "null.example.com MX", lame, time.Hour, 0, dns.ServerFailed, time.Second},
		{"an MX is", "mail.example.com MX", lame, time.Hour, stale, 0, time.Second},
		{"silence: nobody waits longer than 1.8 s", "www.example.com A", silent, time.Hour, stale, 0, 1900 * time.Millisecond},
		{"too old", "www.example.com A", lame, 25 * time.Hour, 0, dns.ServerFailed, time.Second},
		{"switched off", "www.example.com A", func(w *world) { w.Resolver.StaleFor = -1; lame(w) }, time.Hour, 0, dns.ServerFailed, time.Second},
		{"switched off for the zone", "www.example.com A", func(w *world) {
			w.Resolver.NoStale = []dns.Name{dns.MustName("example.com")}
			lame(w)
		}, time.Hour, 0, dns.ServerFailed, time.Second},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "example 172800 NS ns1.example\nns1.example 172800 A 192.0.2.11\n", "", "")
				w.zone("192.0.2.11", "example.com", "@ 300 SOA ns1 hostmaster 1 7200 900 1209600 300\n@ 86400 NS ns1\nns1 86400 A 192.0.2.11\nwww 300 A 192.0.2.80\nalias 300 CNAME www\nnull 300 MX 0 .\nmail 300 MX 10 www\n")
				first, err := w.ask(tt.question)
				if err != nil {
					t.Fatal(err)
				}
				if tt.change != nil {
					tt.change(w)
				}
				time.Sleep(tt.after)
				var got dns.Answer
				spent := took(func() { got, err = w.ask(tt.question) })
				if spent > tt.within {
					t.Errorf("it took %s", spent)
				}
				if dns.TroubleOf(err) != tt.trouble {
					t.Fatalf("got %v, %v, want trouble %q", got, err, tt.trouble)
				}
				if err != nil {
					return
				}
				if got.Extended != tt.extended || got.Rcode != first.Rcode || !slices.Equal(short(got.Answer), short(first.Answer)) {
					t.Errorf("got %v, first %v", got, first)
				}
				for _, rr := range slices.Concat(got.Answer, got.Authority) {
					if ttl := rr.Header().Ttl; tt.extended != 0 && ttl != 30 {
						t.Errorf("TTL %d of what is stale", ttl)
					}
				}
				if n := w.Resolver.Stats().Stale; n > 1 || n == 1 != (tt.extended != 0) {
					t.Errorf("%d counted", n)
				}
				time.Sleep(10 * time.Second) // what goes on in the background ends
			})
		})
	}
}

func lame(w *world)   { w.Set("192.0.2.11", dnstest.Host{Behaviour: dnstest.Lame}) }
func silent(w *world) { w.Set("192.0.2.11", dnstest.Host{Behaviour: dnstest.Silent}) }

// While the DNS is silent, only one asker in 30 s waits to find that out (RFC 8767 §5), and
// after that the servers are asked again.
func TestStaleRecheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "example 172800 NS ns1.example\nns1.example 172800 A 192.0.2.11\n", "", "")
		w.zone("192.0.2.11", "example.com", "@ 300 SOA ns1 hostmaster 1 7200 900 1209600 300\n@ 86400 NS ns1\nns1 86400 A 192.0.2.11\nwww 300 A 192.0.2.80\n")
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		silent(w)
		time.Sleep(time.Hour)
		for _, step := range []struct {
			why    string
			after  time.Duration
			within [2]time.Duration
		}{
			{"the first waits", 0, [2]time.Duration{staleAfter, staleAfter}},
			{"the next need not", 0, [2]time.Duration{0, 0}},
			{"nor those after the flight has ended", 10 * time.Second, [2]time.Duration{0, 0}},
			{"the servers get another chance", staleRecheck, [2]time.Duration{time.Millisecond, staleAfter}},
		} {
			time.Sleep(step.after)
			var got dns.Answer
			var err error
			spent := took(func() { got, err = w.ask("www.example.com A") })
			if err != nil || got.Extended != wire.ExtendedErrorCodeStaleAnswer || spent < step.within[0] || spent > step.within[1] {
				t.Errorf("%s: %v, %v after %s", step.why, got, err, spent)
			}
		}
		time.Sleep(defaultTimeout) // the look for the servers goes on in the background
	})
}

// TestStaleStub: a stub zone's answers are never stale, whatever the settings.
func TestStaleStub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "", "", "")
		w.Resolver.Stubs = []Stub{{Zone: dns.MustName("bl.example"), Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.66:53")}}}
		w.zone("192.0.2.66", "bl.example", "@ 60 SOA ns hostmaster 1 7200 900 1209600 60\n@ NS ns\nlisted 60 A 127.0.0.2\n")
		w.want("listed.bl.example A", dns.NoError, "A 127.0.0.2")
		w.Set("192.0.2.66", dnstest.Host{Behaviour: dnstest.Lame})
		time.Sleep(2 * time.Minute)
		if a, err := w.ask("listed.bl.example A"); err == nil {
			t.Errorf("got %v", a)
		}
	})
}

// TestBarred: what local data says is never overruled by what a server said along with
// something else.
func TestBarred(t *testing.T) {
	w, _ := variedWorld(t)
	w.Resolver.Local = []Data{{Name: dns.MustName("www.com"), Records: records("www.com. 300 IN A 198.51.100.7")}}
	w.want("a2.com CNAME", dns.NoError, "CNAME www.com.")
	for range 3 {
		if _, err := w.ask("a2.com A"); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, ok := w.Resolver.AppendAnswer(asked2(nil, question("www.com A"))); ok {
		t.Error("the cache answers for a local name")
	}
	w.want("www.com A", dns.NoError, "A 198.51.100.7")
}
