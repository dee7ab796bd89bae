package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

const exampleCom = `
example 3600 NS ns1.example
example 3600 NS ns2.example
ns1.example 3600 A 192.0.2.11
ns2.example 3600 A 192.0.2.12
`

const exampleZone = soa + `
@ 3600 NS ns1
@ 3600 NS ns2
@ 300 MX 10 mx
ns1 3600 A 192.0.2.11
ns2 3600 A 192.0.2.12
www 300 A 192.0.2.80
www 300 AAAA 2001:db8::80
mx 300 A 192.0.2.25
alias 300 CNAME www
away 300 CNAME www.example.net.
nowhere 300 CNAME gone.example.net.
*.wild 300 TXT "from a wildcard"
deep.er.name 300 A 192.0.2.81
`

// exampleWorld has example.com on two servers, and example.net on one without glue.
func exampleWorld(t *testing.T) *world {
	w := newWorld(t, exampleCom, "example 3600 NS ns1.example.com.\n", "")
	both := &dns.Mux{Zones: map[dns.Name]dns.Resolver{
		dns.MustName("example.com"): dnstest.Zone(t, "example.com", exampleZone),
		dns.MustName("example.net"): dnstest.Zone(t, "example.net", soa+`
@ 3600 NS ns1.example.com.
www 300 A 192.0.2.90
`),
	}}
	w.Serve("192.0.2.11", both)
	w.Serve("192.0.2.12", both)
	return w
}

func TestResolve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := exampleWorld(t)
		// Two referrals and an answer.
		answer := w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		if n := w.Total(); n != 3 {
			t.Errorf("%d packets for a name at the end of two referrals, want 3", n)
		}
		if ttl := answer.Answer[0].Header().Ttl; ttl != 300 {
			t.Errorf("the TTL of a fresh answer is %d, want 300", ttl)
		}
		if answer.Authentic || answer.Authoritative {
			t.Error("a cached answer without validation claims AA or AD")
		}
		// The same name again: from the cache. Another type: one packet.
		w.Forget()
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		if n := w.Total(); n != 0 {
			t.Errorf("%d packets for a cached name", n)
		}
		w.want("WWW.Example.COM AAAA", dns.NoError, "AAAA 2001:db8::80")
		if n := w.Total(); n != 1 {
			t.Errorf("%d packets for a name in a zone whose servers are known, want 1", n)
		}
		w.want("example.com MX", dns.NoError, "MX 10 mx.example.com.")
		w.want("alias.example.com A", dns.NoError, "CNAME www.example.com.", "A 192.0.2.80")
		// The alias itself, which the cache has by now, is not followed.
		w.want("alias.example.com CNAME", dns.NoError, "CNAME www.example.com.")
		w.want("away.example.com CNAME", dns.NoError, "CNAME www.example.net.")
		// Across zones, to a zone without glue.
		w.want("away.example.com A", dns.NoError, "CNAME www.example.net.", "A 192.0.2.90")
		// The end of the chain does not exist, the name asked does (RFC 6604).
		nx := w.want("nowhere.example.com A", dns.NXDomain, "CNAME gone.example.net.")
		if len(nx.Authority) != 1 {
			t.Errorf("authority of NXDOMAIN: %v", nx.Authority)
		}
		w.want("x.wild.example.com TXT", dns.NoError, `TXT "from a wildcard"`)
		w.want("er.name.example.com A", dns.NoError) // an empty non-terminal
		w.want("example.com NS", dns.NoError, "NS ns1.example.com.", "NS ns2.example.com.")
		w.want(". NS", dns.NoError, "NS a.root-servers.example.")
		w.want("com SOA", dns.NoError, "SOA ns.com. hostmaster.com. 1 7200 900 1209600 900")
	})
}

// A DS record is the parent's, also where the child's servers are known (RFC 4035 §3.1.4.1).
func TestDSFromParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exampleCom+"example 300 DS 1 8 2 "+strings.Repeat("00", 32)+"\n", "", "")
		w.zone("192.0.2.11", "example.com", exampleZone)
		w.zone("192.0.2.12", "example.com", exampleZone)
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		w.want("example.com DS", dns.NoError, "DS 1 8 2 "+strings.Repeat("00", 32))
	})
}

func TestSpecialNames(t *testing.T) {
	r := &Resolver{Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("a special name was asked of the network")
	}}
	for _, tt := range []struct {
		question string
		rcode    dns.Rcode
		records  string
	}{
		{"localhost A", dns.NoError, "[A 127.0.0.1]"},
		{"www.localhost AAAA", dns.NoError, "[AAAA ::1]"}, // below it too: RFC 6761 §6.3
		{"localhost MX", dns.NoError, "[]"},
		{"mx.invalid MX", dns.NXDomain, "[]"},
		{"example.onion A", dns.NXDomain, "[]"},
		{"example.com AXFR", dns.NotImp, "[]"}, // a transfer is no look-up
		{"example.com IXFR", dns.NotImp, "[]"},
		{"example.com MAILA", dns.NotImp, "[]"},
		{"example.com MAILB", dns.NotImp, "[]"},
		{"example.com TYPE200", dns.NotImp, "[]"}, // of the range for such: RFC 6895 §3.1
		{"example.com OPT", dns.FormErr, "[]"},
		{"example.com TSIG", dns.FormErr, "[]"},
		{"example.com TKEY", dns.FormErr, "[]"},
		{"example.com TYPE0", dns.FormErr, "[]"},
		{"example.com TYPE128", dns.FormErr, "[]"}, // NXNAME: RFC 9824 §3.5
	} {
		answer, err := r.Resolve(t.Context(), question(tt.question))
		if err != nil || answer.Rcode != tt.rcode || fmt.Sprint(short(answer.Answer)) != tt.records {
			t.Errorf("%s: %v %v, %v; want %v %s", tt.question, answer.Rcode, short(answer.Answer), err, tt.rcode, tt.records)
		}
	}
	if answer, err := r.Resolve(t.Context(), dns.Question{}); err != nil || answer.Rcode != dns.FormErr {
		t.Errorf("no name: %v, %v", answer, err)
	}
}

// ANY gives what one server thinks fit (RFC 8482); a type that nobody knows is asked like
// any other (RFC 3597).
func TestOddTypes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "both A 192.0.2.80\nboth TXT text\nnew TYPE65280 \\# 2 0102\nalias CNAME both\n", "", "")
		w.want("both.com ANY", dns.NoError, "A 192.0.2.80") // one set is enough: RFC 8482 §4.1
		w.want("both.com ANY", dns.NoError, "A 192.0.2.80") // cached
		w.want("both.com TXT", dns.NoError, `TXT "text"`)
		w.want("both.com MX", dns.NoError)
		w.want("alias.com ANY", dns.NoError, "CNAME both.com.") // an alias is not followed: it is what is there
		w.want("gone.com ANY", dns.NXDomain)
		w.want("new.com TYPE65280", dns.NoError, `TYPE65280 \# 2 0102`)
		w.want("both.com TYPE65280", dns.NoError)
		w.want("both.com TYPE65535", dns.NoError)
		w.script(comAddr, func(q dns.Question) dns.Answer { // minimal: RFC 8482 §4.2
			return dns.Answer{Authoritative: true, Answer: records(q.Name.FQDN() + ` 60 HINFO "RFC8482" ""`)}
		})
		w.want("minimal.com ANY", dns.NoError, `HINFO "RFC8482" ""`)
	})
}

func TestCacheExpiry(t *testing.T) {
	for _, tt := range []struct {
		question string
		rcode    dns.Rcode
		lives    time.Duration
	}{
		{"www.example.com A", dns.NoError, 300 * time.Second},
		{"gone.example.com A", dns.NXDomain, 300 * time.Second}, // the SOA's MINIMUM, not its TTL of 3600
		{"www.example.com TXT", dns.NoError, 300 * time.Second}, // NODATA likewise
		{"long.example.com A", dns.NoError, 24 * time.Hour},     // a week is cut to a day
		{"zero.example.com A", dns.NoError, 0},
		{"other.example.org A", dns.NXDomain, time.Hour}, // a MINIMUM of a day is cut to an hour
	} {
		t.Run(tt.question, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "", "", "")
				w.zone(comAddr, "com", soa+"@ NS ns\nns A 192.0.2.2\nexample 172800 NS ns1.example\nns1.example 172800 A 192.0.2.11\n")
				w.zone(orgAddr, "org", "@ 86400 SOA ns hostmaster 1 2 3 4 86400\n@ NS ns\nns A 192.0.2.4\n")
				w.zone("192.0.2.11", "example.com", soa+`
@ NS ns1
ns1 A 192.0.2.11
www 300 A 192.0.2.80
long 604800 A 192.0.2.80
zero 0 A 192.0.2.80
`)
				// The zones above are known beforehand, so that only the name itself is counted.
				if _, err := w.ask("a." + strings.SplitN(tt.question, ".", 2)[1]); err != nil {
					t.Fatal(err)
				}
				answer, err := w.ask(tt.question)
				if err != nil || answer.Rcode != tt.rcode {
					t.Fatal(answer, err)
				}
				if tt.lives == 0 {
					w.Forget()
					_, err := w.ask(tt.question)
					if err != nil || w.Total() == 0 {
						t.Errorf("a TTL of 0 was cached: %v", err)
					}
					return
				}
				w.Forget()
				time.Sleep(tt.lives - time.Second)
				again, err := w.ask(tt.question)
				if err != nil || w.Total() != 0 {
					t.Fatalf("one second before its end: %d packets, %v", w.Total(), err)
				}
				if all := append(again.Answer, again.Authority...); all[0].Header().Ttl != 1 {
					t.Errorf("one second before its end: %v", all)
				}
				time.Sleep(time.Second)
				if _, err := w.ask(tt.question); err != nil || w.Total() == 0 {
					t.Errorf("at its end: %d packets, %v", w.Total(), err)
				}
			})
		})
	}
}

// A parent that takes a zone back takes its data back: what the child says cannot outlive
// the delegation, however long its TTLs are (ghost domains).
func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "example 600 NS ns1.example\nns1.example 600 A 192.0.2.11\n", "", "")
		w.zone("192.0.2.11", "example.com", soa+"@ 86400 NS ns1\nns1 86400 A 192.0.2.11\nwww 86400 A 192.0.2.80\n"+
			"sub 86400 NS ns1.sub\nns1.sub 86400 A 192.0.2.13\n")
		w.zone("192.0.2.13", "sub.example.com", soa+"@ 86400 NS ns1\nns1 86400 A 192.0.2.13\nwww 86400 A 192.0.2.81\n")
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		w.want("www.sub.example.com A", dns.NoError, "A 192.0.2.81")
		w.zone(comAddr, "com", soa+"@ NS ns\nns A 192.0.2.2\n") // taken back
		time.Sleep(5 * time.Minute)
		w.want("www.sub.example.com A", dns.NoError, "A 192.0.2.81")
		w.want("example.com NS", dns.NoError, "NS ns1.example.com.") // asking keeps nothing alive
		time.Sleep(5 * time.Minute)
		w.want("www.example.com A", dns.NXDomain)
		w.want("www.sub.example.com A", dns.NXDomain)
	})
}

func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := exampleWorld(t)
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		w.want("www.example.net A", dns.NoError, "A 192.0.2.90")
		w.Forget()
		w.Resolver.Flush(dns.MustName("example.com"))
		w.want("www.example.net A", dns.NoError, "A 192.0.2.90")
		if n := w.Total(); n != 0 {
			t.Errorf("%d packets for a name that was not flushed", n)
		}
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		if n := w.Total(); n != 2 {
			t.Errorf("%d packets after the flush, want 2: the referral is flushed as well", n)
		}
		// Flushing forgives the failure and the dead server at once.
		dead := dnstest.Host{Behaviour: dnstest.Silent}
		w.Set("192.0.2.11", dead)
		w.Set("192.0.2.12", dead)
		w.wantTrouble("mx.example.com A", dns.NoReply)
		both := dnstest.Zone(t, "example.com", exampleZone)
		w.Serve("192.0.2.11", both)
		w.Serve("192.0.2.12", both)
		w.wantTrouble("mx.example.com A", dns.NoReply)
		w.Resolver.Flush(dns.MustName("example.com"))
		w.want("mx.example.com A", dns.NoError, "A 192.0.2.25")
	})
}

func TestCacheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "", "", "")
		w.zone(comAddr, "com", soa+"@ NS ns\nns A 192.0.2.2\n* 3600 A 192.0.2.80\n")
		w.Resolver.CacheEntries = 100
		for i := range 1000 {
			w.want(fmt.Sprintf("n%d.com A", i), dns.NoError, "A 192.0.2.80")
		}
		w.Forget()
		w.want("n999.com A", dns.NoError, "A 192.0.2.80") // the latest is there
		if w.Total() != 0 {
			t.Error("what was used last was thrown away")
		}
		w.want("n0.com A", dns.NoError, "A 192.0.2.80") // the first has gone
		if w.Total() == 0 {
			t.Error("the first of a thousand is still there")
		}
		if n, _ := w.Resolver.cache.total(); n > 100 {
			t.Errorf("%d entries; the bound is 100", n)
		}
		w.Resolver.Flush(dns.Root)
		if n, bytes := w.Resolver.cache.total(); n != 0 || bytes != 0 {
			t.Errorf("after a flush: %d entries of %d bytes", n, bytes)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "", "", "")
		w.zone(comAddr, "com", soa+"@ NS ns\nns A 192.0.2.2\n* 3600 TXT "+strings.Repeat(strings.Repeat("x", 200)+" ", 4)+"\n")
		w.Resolver.CacheBytes = 50_000
		for i := range 200 {
			if _, err := w.ask(fmt.Sprintf("n%d.com TXT", i)); err != nil {
				t.Fatal(err)
			}
		}
		if n, bytes := w.Resolver.cache.total(); bytes > 50_000 || bytes < 40_000 || n > 50 {
			t.Errorf("%d entries of %d bytes; the bound is 50,000 bytes", n, bytes)
		}
	})
}

func TestInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exampleCom, "", "")
		slow := dnstest.Host{Resolver: dnstest.Zone(t, "example.com", exampleZone), Delay: time.Second}
		w.Set("192.0.2.11", slow)
		w.Set("192.0.2.12", slow)
		// The first asker, who does the work, leaves while the servers think. One of the others
		// goes on from there, and the servers see its question once more.
		first, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			_, err := w.Resolver.Resolve(first, question("www.example.com A"))
			if !errors.Is(err, context.Canceled) || dns.TroubleOf(err) != 0 {
				t.Errorf("the one who left: %v", err)
			}
		})
		synctest.Wait()
		for range 50 {
			all.Go(func() {
				answer, err := w.Resolver.Resolve(t.Context(), question("www.example.com A"))
				if err != nil || len(answer.Answer) != 1 {
					t.Errorf("one who stayed: %v, %v", answer, err)
				}
			})
		}
		synctest.Wait()
		leave()
		all.Wait()
		if n := w.Total(); n != 4 {
			t.Errorf("%d packets for 51 identical questions, want 4", n)
		}
	})
}

// All who asked have gone: the work stops, and nothing of it is remembered.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exampleCom, "", "")
		w.Set("192.0.2.11", dnstest.Host{Behaviour: dnstest.Silent})
		w.Set("192.0.2.12", dnstest.Host{Behaviour: dnstest.Silent})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := w.Resolver.Resolve(ctx, question("www.example.com A"))
		if !errors.Is(err, context.DeadlineExceeded) || dns.TroubleOf(err) != 0 {
			t.Errorf("%v, want the context's error", err)
		}
		time.Sleep(10 * time.Second)
		if n := w.Total(); n > 3 {
			t.Errorf("%d packets; they went on after the asker had gone", n)
		}
		zone := dnstest.Zone(t, "example.com", exampleZone)
		w.Serve("192.0.2.11", zone)
		w.Serve("192.0.2.12", zone)
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		if _, err := w.Resolver.Resolve(ctx, question("mx.example.com A")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("asked after the end: %v", err)
		}
	})
}

func TestMaxInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exampleCom, "", "")
		slow := dnstest.Host{Resolver: dnstest.Zone(t, "example.com", exampleZone), Delay: time.Second}
		w.Set("192.0.2.11", slow)
		w.Set("192.0.2.12", slow)
		w.Resolver.MaxInFlight = 2
		var all sync.WaitGroup
		spent := took(func() {
			for _, q := range []string{"www.example.com A", "mx.example.com A", "www.example.com AAAA", "ns1.example.com A"} {
				all.Go(func() {
					if _, err := w.ask(q); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		})
		if spent != 2*time.Second {
			t.Errorf("four questions of a second each, two at a time, took %s", spent)
		}
	})
}

// deadWorld has example.com, whose servers answer after 10 ms, and dead0.com to dead49.com,
// whose servers are silent. There is room for 100 questions.
func deadWorld(t *testing.T) *world {
	t.Helper()
	var com strings.Builder
	com.WriteString(exampleCom)
	for i := range 50 {
		fmt.Fprintf(&com, "dead%d 3600 NS ns.dead%d\nns.dead%d 3600 A 198.51.100.%d\n", i, i, i, i+1)
	}
	w := newWorld(t, com.String(), "", "")
	live := dnstest.Host{Resolver: dnstest.Zone(t, "example.com", wildZone), Delay: 10 * time.Millisecond}
	w.Set("192.0.2.11", live)
	w.Set("192.0.2.12", live)
	w.Resolver.MaxInFlight = 100
	return w
}

// A flood of questions for names whose servers are dead takes all the room there is, and
// live names are answered all the same.
func TestDeadNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := deadWorld(t)
		var all sync.WaitGroup
		var busy atomic.Int32
		for i := range 2000 {
			all.Go(func() {
				_, err := w.ask(fmt.Sprintf("w%d.dead%d.com A", i, i%50))
				if trouble := dns.TroubleOf(err); trouble != dns.NoReply && trouble != dns.WorkLimit {
					t.Errorf("a dead name: %v", err)
				}
				if dns.TroubleOf(err) == dns.WorkLimit {
					busy.Add(1)
				}
			})
		}
		time.Sleep(jostleAfter)
		for i := range 50 {
			spent := took(func() { w.want(fmt.Sprintf("n%d.example.com A", i), dns.NoError, "A 192.0.2.80") })
			if spent > 50*time.Millisecond {
				t.Errorf("a live name took %s", spent)
			}
			s := &w.Resolver.slots
			s.mu.Lock()
			fast, slow := s.fast.running.Len(), s.slow.running.Len()
			s.mu.Unlock()
			if fast > 100 || slow > 100 {
				t.Errorf("%d and %d questions at once", fast, slow)
			}
			time.Sleep(10 * time.Millisecond)
		}
		all.Wait()
		if busy.Load() == 0 || w.Resolver.Stats().Limits["in_flight"] == 0 {
			t.Error("nothing had to give way")
		}
		for _, l := range []*lane{&w.Resolver.slots.fast, &w.Resolver.slots.slow} {
			if n, m := l.running.Len(), l.waiting.Len(); n+m != 0 {
				t.Errorf("%d questions run and %d wait at the end", n, m)
			}
		}
		// What gave way was not the servers' failure, and is not remembered as one.
		w.Serve("198.51.100.1", dnstest.Zone(t, "dead0.com", soa+"@ NS ns\nns A 198.51.100.1\n* A 192.0.2.81\n"))
		w.want("new.dead0.com A", dns.NoError, "A 192.0.2.81")
	})
}

// However many questions for dead names wait, and while more come: names whose servers were
// heard do not wait for them, and of those that wait for room there is an end.
func TestDeadNamesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := deadWorld(t)
		w.want("first.example.com A", dns.NoError, "A 192.0.2.80")
		var all sync.WaitGroup
		var noRoom atomic.Int32
		// As many as a lane lets wait, each time: of more at one moment, the fast lane too
		// would turn the first away, and a live name may be the first.
		for wave := range 3 {
			for i := range waitersEach * 100 {
				all.Go(func() {
					_, err := w.ask(fmt.Sprintf("w%d-%d.dead%d.com A", wave, i, i%50))
					if trouble := dns.TroubleOf(err); trouble != dns.NoReply && trouble != dns.WorkLimit {
						t.Errorf("a dead name: %v", err)
					}
					if errors.Is(err, errNoRoom) || errors.Is(err, errJostled) {
						noRoom.Add(1)
					}
				})
			}
			for i := range 20 {
				spent := took(func() { w.want(fmt.Sprintf("n%d-%d.example.com A", wave, i), dns.NoError, "A 192.0.2.80") })
				if spent > 50*time.Millisecond {
					t.Errorf("a live name took %s", spent)
				}
				w.wantLanesWithin(100)
			}
			synctest.Wait() // all of them wait for dead servers
		}
		all.Wait()
		if noRoom.Load() == 0 {
			t.Error("all of them could wait")
		}
	})
}

// wantLanesWithin wants no more questions in each lane than it has places, and places to wait.
func (w *world) wantLanesWithin(most int) {
	w.t.Helper()
	s := &w.Resolver.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range []*lane{&s.fast, &s.slow} {
		if l.running.Len() > most || l.waiting.Len() > waitersEach*most {
			w.t.Errorf("%d questions run and %d wait", l.running.Len(), l.waiting.Len())
		}
	}
}

func TestTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := exampleWorld(t)
		var seen []string
		w.Resolver.Trace = func(s Step) {
			seen = append(seen, fmt.Sprintf("%d %s @%s(%s) %s: %s", s.Depth, s.Question, s.ServerName, s.Zone, s.Protocol, s.Said))
		}
		w.Set("192.0.2.12", dnstest.Host{Behaviour: dnstest.NoRoute}) // one way only
		w.want("www.example.net A", dns.NoError, "A 192.0.2.90")
		w.want("www.example.net A", dns.NoError, "A 192.0.2.90")
		// The server of example.net is looked up on the way; it comes with glue of com's.
		want := []string{
			"0 net A @a.root-servers.example(.) udp: refers to net",
			"0 example.net A @ns.net(net) udp: refers to example.net",
			"1 com A @a.root-servers.example(.) udp: refers to com",
			"1 example.com A @ns.com(com) udp: refers to example.com",
			"1 ns1.example.com A @ns1.example.com(example.com) udp: 1 record",
			"0 www.example.net A @ns1.example.com(example.net) udp: 1 record",
			"0 www.example.net A @(zero) : 1 record",
		}
		got := strings.Join(seen, "\n")
		got = strings.ReplaceAll(got, "1 ns1.example.com A @ns2.example.com(example.com) udp: network is unreachable\n", "")
		got = strings.ReplaceAll(got, "@()", "@(zero)")
		if got != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
		}
	})
}

// A fault of ours costs one answer.
func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := exampleWorld(t)
		armed := true
		w.Resolver.Trace = func(Step) {
			if armed {
				armed = false
				panic("a fault")
			}
		}
		w.wantTrouble("www.example.com A", dns.WorkLimit)
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		if n := w.Resolver.Stats().Panics; n != 1 {
			t.Errorf("%d panics counted", n)
		}
	})
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := exampleWorld(t)
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		w.Set("192.0.2.11", dnstest.Host{Resolver: dnstest.Zone(t, "example.com", exampleZone), Delay: 30 * time.Millisecond})
		w.Set("192.0.2.12", dnstest.Host{Resolver: dnstest.Zone(t, "example.com", exampleZone), Delay: 30 * time.Millisecond})
		w.want("gone.example.com MX", dns.NXDomain)
		w.want("localhost TYPE65280", dns.NoError)
		w.wantTrouble("www.example.net A", dns.ServerFailed)
		s := w.Resolver.Stats()
		if s.Questions != 5 || s.Hits == 0 || s.Packets < 4 || s.Failures != 1 {
			t.Errorf("%+v", s)
		}
		if s.Replies != s.Packets || s.RTT < 30*time.Millisecond || s.RTT > time.Second {
			t.Errorf("%d replies in %s", s.Replies, s.RTT)
		}
		// In virtual time most take nothing; those of 30 ms are above the bound of 25 ms.
		if below, within := s.Within[3], s.Within[4]; below == 0 || below == s.Replies || within != s.Replies || s.Within[9] != s.Replies {
			t.Errorf("within the bounds: %v of %d", s.Within, s.Replies)
		}
		for got, want := range map[string]string{
			fmt.Sprint(s.Types):    "map[None:1 A:3 MX:1]",
			fmt.Sprint(s.Answers):  "map[NOERROR:3 NXDOMAIN:1]",
			fmt.Sprint(s.Troubles): "map[the servers fail:1]",
			fmt.Sprint(s.Limits):   "map[]",
		} {
			if got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
	})
	for i := limitNone + 1; i < limits; i++ {
		if limitNames[i] == "" {
			t.Errorf("limit %d has no name", i)
		}
	}
}

// More than a hundred who wait for one answer are too many: RebirthDay (2025) and its kin
// live on identical questions in flight, and so does whoever wants our memory.
func TestWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exampleCom, "", "")
		slow := dnstest.Host{Resolver: dnstest.Zone(t, "example.com", exampleZone), Delay: time.Second}
		w.Set("192.0.2.11", slow)
		w.Set("192.0.2.12", slow)
		var all sync.WaitGroup
		var answered, refused atomic.Int32
		for range 5 * maxWaiters {
			all.Go(func() {
				_, err := w.ask("www.example.com A")
				switch {
				case err == nil:
					answered.Add(1)
				case dns.TroubleOf(err) == dns.WorkLimit && errors.Is(err, errCrowded):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		all.Wait()
		if answered.Load() != maxWaiters || w.Total() != 3 {
			t.Errorf("%d answered, %d refused, %d packets", answered.Load(), refused.Load(), w.Total())
		}
		if n := w.Resolver.Stats().Limits["waiters"]; n != 4*maxWaiters {
			t.Errorf("the limit was counted %d times", n)
		}
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
	})
}

// DNSSEC in the question: the DO bit goes out, and what comes with it comes back; without
// it, no signature is in the answer.
func TestDNSSECRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "", "", "")
		sig := "www.com. 300 RRSIG A 8 2 300 20300101000000 20200101000000 1 com. AAAA"
		w.script(comAddr, func(q dns.Question) dns.Answer {
			a := dns.Answer{Authoritative: true, Answer: records("www.com. 300 A 192.0.2.80")}
			if q.DNSSEC {
				a.Answer = append(a.Answer, records(sig)...)
			}
			return a
		})
		q := question("www.com A")
		q.DNSSEC = true
		answer, err := w.Resolver.Resolve(t.Context(), q)
		if err != nil || len(answer.Answer) != 2 || answer.Answer[1].Header().Rrtype != wire.TypeRRSIG {
			t.Errorf("%v, %v", answer, err)
		}
		w.want("www.com A", dns.NoError, "A 192.0.2.80")
	})
}
