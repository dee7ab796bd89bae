package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

// Each row puts two servers of example.com into some state and says what comes of a
// question, how long it may take, and what the first attempt in the error says.
func TestTrouble(t *testing.T) {
	const good = dnstest.Honest
	for _, tt := range []struct {
		why      string
		one, two dnstest.Behaviour
		trouble  dns.Trouble // 0: the answer
		within   time.Duration
		said     string
	}{
		{"all dark", dnstest.Silent, dnstest.Silent, dns.NoReply, 6 * time.Second, "no reply"},
		{"one of two dark: the other answers", dnstest.Silent, good, 0, 1500 * time.Millisecond, ""},
		{"ports closed", dnstest.Refusing, dnstest.Refusing, dns.NoReply, 0, "connection refused"},
		{"one closed, one good", dnstest.Refusing, good, 0, 0, ""},
		{"SERVFAIL from all", dnstest.Failing, dnstest.Failing, dns.ServerFailed, 0, "SERVFAIL"},
		{"SERVFAIL from one", dnstest.Failing, good, 0, 0, ""},
		{"REFUSED from all", dnstest.Lame, dnstest.Lame, dns.ServerFailed, 0, "REFUSED"},
		{"REFUSED from one", dnstest.Lame, good, 0, 0, ""},
		{"one dark, one fails: the one that speaks decides", dnstest.Silent, dnstest.Failing, dns.ServerFailed, 3 * time.Second, ""},
		{"no DNS at all from all", dnstest.Garbage, dnstest.Garbage, dns.Malformed, 0, "a datagram that is not the reply: it answers another question, over TCP then"},
		{"wrong IDs from all", dnstest.WrongID, dnstest.WrongID, dns.Malformed, 0, "a datagram that is not the reply: it answers another question, over TCP then"},
		{"wrong questions from all", dnstest.WrongQuestion, dnstest.WrongQuestion, dns.Malformed, 0, "a datagram that is not the reply: it answers another question, over TCP then"},
		{"a wrong ID from one", dnstest.WrongID, good, 0, 1500 * time.Millisecond, ""},
		{"truncated: TCP", dnstest.Truncating, dnstest.Truncating, 0, 0, ""},
		{"no route to any: ours", dnstest.NoRoute, dnstest.NoRoute, dns.NoNetwork, 0, "network is unreachable"},
		{"no route to one", dnstest.NoRoute, good, 0, 0, ""},
		{"no route to one, the other dark: theirs", dnstest.NoRoute, dnstest.Silent, dns.NoReply, 3 * time.Second, ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, exampleCom, "", "")
				w.behave("192.0.2.11", tt.one, "example.com", exampleZone)
				w.behave("192.0.2.12", tt.two, "example.com", exampleZone)
				var failure *dns.Error
				spent := took(func() {
					if tt.trouble == 0 {
						w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
						return
					}
					failure = w.wantTrouble("www.example.com A", tt.trouble)
				})
				if spent > tt.within {
					t.Errorf("it took %s, more than %s", spent, tt.within)
				}
				if tt.trouble == 0 {
					return
				}
				if len(failure.Attempts) == 0 {
					t.Fatal("the error names no server")
				}
				first := failure.Attempts[0]
				if tt.said != "" && first.Said != tt.said || first.Protocol != "udp" || !strings.HasPrefix(first.Name, "ns") || first.Server.Port() != 53 {
					t.Errorf("first attempt: %+v, want %q", first, tt.said)
				}
			})
		})
	}
}

// Many dark servers: the question ends within its time all the same.
func TestManyDarkServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var com strings.Builder
		for i := range 20 {
			fmt.Fprintf(&com, "example NS ns%d.example\nns%d.example A 203.0.113.%d\n", i, i, i+1)
		}
		w := newWorld(t, "$TTL 3600\n"+com.String(), "", "")
		spent := took(func() { w.wantTrouble("www.example.com A", dns.NoReply) })
		if spent > 7*time.Second {
			t.Errorf("it took %s", spent)
		}
	})
}

// Failures are remembered for 5 s, and longer each time (RFC 9520); servers found dead are
// asked once more at most.
func TestFailureCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exampleCom, "", "")
		w.behave("192.0.2.11", dnstest.Failing, "example.com", exampleZone)
		w.behave("192.0.2.12", dnstest.Failing, "example.com", exampleZone)
		asked := func() int {
			w.Forget()
			w.wantTrouble("www.example.com A", dns.ServerFailed)
			return len(w.Asked("192.0.2.11")) + len(w.Asked("192.0.2.12"))
		}
		for _, step := range []struct {
			wait time.Duration
			asks bool
		}{
			{0, true},                       // the first time
			{4 * time.Second, false},        // remembered
			{1 * time.Second, true},         // 5 s are over
			{9 * time.Second, false},        // now it is 10 s
			{1 * time.Second, true},         // they are over
			{20 * time.Second, true},        // 20 s
			{40 * time.Second, true},        // 40 s
			{80 * time.Second, true},        // 80 s
			{160 * time.Second, true},       // 160 s
			{300 * time.Second, true},       // 300 s and no more
			{299 * time.Second, false},      // remembered
			{1 * time.Second, true},         // over
			{601 * time.Second, true},       // long forgotten
			{4*time.Second + 999e6, false},  // so it begins anew
			{1 * time.Millisecond, true},    //
			{9*time.Second + 999e6, false},  //
			{1*time.Millisecond + 20, true}, //
		} {
			time.Sleep(step.wait)
			if n := asked(); (n > 0) != step.asks {
				t.Fatalf("after %s: %d packets", step.wait, n)
			}
		}
		// Success ends it.
		w.behave("192.0.2.11", dnstest.Honest, "example.com", exampleZone)
		time.Sleep(time.Hour)
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
	})
}

// Our own network's trouble is never remembered against anybody.
func TestNoNetworkIsNotCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exampleCom, "", "")
		w.behave("192.0.2.11", dnstest.Honest, "example.com", exampleZone)
		w.behave("192.0.2.12", dnstest.Honest, "example.com", exampleZone)
		down := true
		w.Resolver.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if down {
				return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ENETUNREACH}
			}
			return w.Dial(ctx, network, address)
		}
		if e := w.wantTrouble("www.example.com A", dns.NoNetwork); !e.Trouble.Ours() {
			t.Error("no route is not ours")
		}
		down = false
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		down = true
		w.wantTrouble("mx.example.com A", dns.NoNetwork)
		down = false
		w.want("mx.example.com A", dns.NoError, "A 192.0.2.25")
	})
}

// A network that drops everything looks like dead servers; the root tells the difference.
func TestSilentNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exampleCom, "", "")
		zone := dnstest.Zone(t, "example.com", exampleZone)
		w.Serve("192.0.2.11", zone)
		w.Serve("192.0.2.12", zone)
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		silence := func(addrs ...string) {
			for _, a := range addrs {
				w.Set(a, dnstest.Host{Behaviour: dnstest.Silent})
			}
		}
		// Only the zone's servers are dark, and its delegation is cached: theirs.
		silence("192.0.2.11", "192.0.2.12")
		spent := took(func() { w.wantTrouble("mx.example.com A", dns.NoReply) })
		if spent > 7*time.Second {
			t.Errorf("it took %s", spent)
		}
		// Everything is dark: ours. And nobody is blamed when it comes back.
		root := dnstest.Zone(t, ".", "$TTL 3600\n. SOA a b 1 2 3 4 5\n. NS a.root-servers.example.\na.root-servers.example. A 192.0.2.1\ncom. NS ns.com.\nns.com. A 192.0.2.2\n")
		com := dnstest.Zone(t, "com", "$TTL 3600\n@ SOA a b 1 2 3 4 5\n@ NS ns\nns A 192.0.2.2\n"+exampleCom)
		silence(rootAddr, comAddr)
		spent = took(func() { w.wantTrouble("alias.example.com A", dns.NoNetwork) })
		if spent > 7*time.Second {
			t.Errorf("it took %s", spent)
		}
		w.wantTrouble("www.example.org A", dns.NoNetwork)
		w.Serve(rootAddr, root)
		w.Serve(comAddr, com)
		w.Serve("192.0.2.11", zone)
		w.want("alias.example.com A", dns.NoError, "CNAME www.example.com.", "A 192.0.2.80")
	})
}

// Mine or theirs: the same replies are our network's when everybody gives them, and the
// servers' own when only they do. A refusal by a gateway or an ICMP error is no sign of
// life of the DNS, nor is a proxy that answers every question itself.
func TestMineOrTheirs(t *testing.T) {
	nxdomain := dns.ResolverFunc(func(context.Context, dns.Question) (dns.Answer, error) {
		return dns.Answer{Rcode: dns.NXDomain}, nil
	})
	walled := dns.ResolverFunc(func(_ context.Context, q dns.Question) (dns.Answer, error) {
		return dns.Answer{Answer: records(q.Name.FQDN() + " 60 A 198.51.100.1")}, nil
	})
	for _, tt := range []struct {
		why    string
		host   dnstest.Host
		theirs dns.Trouble // where only the zone's servers are like that
	}{
		{"everything is dropped", dnstest.Host{Behaviour: dnstest.Silent}, dns.NoReply},
		{"the gateway refuses", dnstest.Host{Behaviour: dnstest.Refusing}, dns.NoReply},
		{"there is no route", dnstest.Host{Behaviour: dnstest.NoRoute}, dns.NoNetwork},
		{"a proxy refuses", dnstest.Host{Behaviour: dnstest.Lame}, dns.ServerFailed},
		{"a proxy fails", dnstest.Host{Behaviour: dnstest.Failing}, dns.ServerFailed},
		{"a proxy denies every name", dnstest.Host{Resolver: nxdomain, Recursion: true}, dns.Lame},
		{"a proxy leads every name to its portal", dnstest.Host{Resolver: walled, Recursion: true}, dns.Lame},
		{"something else talks on the port", dnstest.Host{Behaviour: dnstest.Garbage}, dns.Malformed},
	} {
		all := []string{rootAddr, comAddr, netAddr, orgAddr, "192.0.2.11", "192.0.2.12", "192.0.2.13", "192.0.2.14", "192.0.2.15"}
		set := func(w *world, addrs ...string) {
			for _, a := range addrs {
				w.Set(a, tt.host)
			}
		}
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // from the start, with several root servers
				w := newWorld(t, exampleCom, "", "")
				for _, a := range []string{"192.0.2.13", "192.0.2.14", "192.0.2.15"} {
					w.Resolver.Hints = append(w.Resolver.Hints, Hint{dns.MustName("b.root-servers.example"), addr(a)})
				}
				set(w, all...)
				spent := took(func() { w.wantTrouble("www.example.com A", dns.NoNetwork) })
				if spent > defaultTimeout {
					t.Errorf("it took %s", spent)
				}
			})
			synctest.Test(t, func(t *testing.T) { // later, when the delegation is known
				w := exampleWorld(t)
				w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
				time.Sleep(time.Minute)
				set(w, all...)
				e := w.wantTrouble("mx.example.com A", dns.NoNetwork)
				if tt.host.Behaviour != dnstest.NoRoute && !strings.Contains(e.Detail, "root server") {
					t.Errorf("%v", e)
				}
			})
			synctest.Test(t, func(t *testing.T) { // only the zone's own servers
				w := exampleWorld(t)
				w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
				time.Sleep(time.Minute)
				set(w, "192.0.2.11", "192.0.2.12")
				w.wantTrouble("mx.example.com A", tt.theirs)
			})
		})
	}
}

// A lost packet to a server that is known to be quick costs less than a second.
func TestLostPacket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "example 3600 NS ns1.example\nns1.example 3600 A 192.0.2.11\n", "", "")
		w.zone("192.0.2.11", "example.com", exampleZone)
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		lost := false
		w.forgersAt("192.0.2.11", func(q []byte) [][]byte {
			if !lost {
				lost = true
				return nil
			}
			return [][]byte{answerTo(q, "mx.example.com. 60 A 192.0.2.25")}
		})
		spent := took(func() { w.want("mx.example.com A", dns.NoError, "A 192.0.2.25") })
		if spent != minPacketTimeout {
			t.Errorf("it took %s, want %s", spent, minPacketTimeout)
		}
	})
}

// IPv6 that has a route but leads nowhere is noticed, and costs a handful of packets for
// all zones together; the same holds the other way round. Where nothing answers at all,
// neither family is to blame.
func TestDarkFamily(t *testing.T) {
	for _, dark := range []string{"[", "1"} {
		synctest.Test(t, func(t *testing.T) {
			var com strings.Builder
			for i := range 60 {
				fmt.Fprintf(&com, "z%d 3600 NS ns.z%d\nns.z%d 3600 A 198.51.100.%d\nns.z%d 3600 AAAA 2001:db8::1:%d\n", i, i, i, i+1, i, i+1)
			}
			w := newWorld(t, com.String(), "", "")
			packets := 0
			w.Resolver.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				// The top is reached over IPv4 in both cases.
				if strings.HasPrefix(address, "192.0.2.") || !strings.HasPrefix(address, dark) {
					return w.Dial(ctx, network, address)
				}
				packets++
				return newPeer(func([]byte) [][]byte { return nil }), nil
			}
			for i := range 60 {
				zone := dnstest.Zone(t, fmt.Sprintf("z%d.com", i), soa+"@ NS ns\nns A 192.0.2.1\nwww A 192.0.2.80\n")
				w.Serve(fmt.Sprintf("198.51.100.%d", i+1), zone)
				w.Serve(fmt.Sprintf("2001:db8::1:%d", i+1), zone)
				w.want(fmt.Sprintf("www.z%d.com A", i), dns.NoError, "A 192.0.2.80")
			}
			if dark == "[" && packets > 2*darkAfter || packets > 60 {
				t.Errorf("%d packets into the dark", packets)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		var s servers
		s.answered(candidateFor("192.0.2.1"), time.Millisecond)
		for range darkAfter {
			s.silent(candidateFor("2001:db8::9"), dns.Root)
		}
		if s.routable(1) {
			t.Error("IPv6 led nowhere eight times")
		}
		time.Sleep(2 * noRouteFor)
		for range darkAfter {
			s.silent(candidateFor("192.0.2.9"), dns.Root)
		}
		s.silent(candidateFor("2001:db8::9"), dns.Root)
		if !s.routable(0) || !s.routable(1) {
			t.Error("where all is silent, a family is blamed")
		}
		s.answered(candidateFor("192.0.2.1"), time.Millisecond)
		s.silent(candidateFor("2001:db8::9"), dns.Root)
		if s.routable(1) {
			t.Error("one more silence is not enough")
		}
		s.answered(candidateFor("2001:db8::9"), time.Millisecond)
		if !s.routable(1) {
			t.Error("a reply does not end it")
		}
	})
}

// A host without IPv6 notices, asks no such server again for a while, and blames none.
func TestNoIPv6(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, `
example 3600 NS ns1.example
ns1.example 3600 A 192.0.2.11
ns1.example 3600 AAAA 2001:db8::11
`, "", "")
		w.zone("192.0.2.11", "example.com", exampleZone)
		w.Resolver.Hints = append(w.Resolver.Hints, Hint{dns.MustName("a.root-servers.example"), addr("2001:db8::1")})
		six := 0
		w.Resolver.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if strings.HasPrefix(address, "[") {
				six++
				return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ENETUNREACH}
			}
			return w.Dial(ctx, network, address)
		}
		for range 20 { // whatever the order: at most one dial is lost
			w.Resolver.Flush(dns.MustName("com"))
			w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		}
		if six > 2 { // the second, if the first reply was not there yet
			t.Errorf("%d dials over IPv6 on a host without it", six)
		}
		w.Resolver.servers.mu.Lock()
		defer w.Resolver.servers.mu.Unlock()
		for server, st := range w.Resolver.servers.m {
			if server.Addr().Is6() && (st.silences > 0 || !st.deadUntil.IsZero()) {
				t.Errorf("%s is blamed: %+v", server, st)
			}
		}
	})
}

// On a host with IPv6 only, the AAAA records of a server with IPv4 glue are looked up.
func TestOnlyIPv6(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "", "example NS ns.example.org.\n", "example NS ns.example\nns.example A 192.0.2.12\n")
		w.zone("2001:db8::1", ".", "$TTL 3600\n. SOA a b 1 2 3 4 5\n. NS a.root-servers.example.\nnet. NS ns.net.\nns.net. AAAA 2001:db8::3\norg. NS ns.org.\nns.org. AAAA 2001:db8::4\n")
		w.zone("2001:db8::3", "net", "$TTL 3600\n@ SOA a b 1 2 3 4 5\n@ NS ns\nns AAAA 2001:db8::3\nexample NS ns.example.org.\n")
		w.zone("2001:db8::4", "org", "$TTL 3600\n@ SOA a b 1 2 3 4 5\n@ NS ns\nns AAAA 2001:db8::4\nexample NS ns.example\nns.example AAAA 2001:db8::12\nns.example A 192.0.2.12\n")
		both := &dns.Mux{Zones: map[dns.Name]dns.Resolver{
			dns.MustName("example.net"): dnstest.Zone(t, "example.net", soa+"@ NS ns.example.org.\nwww A 192.0.2.80\n"),
			dns.MustName("example.org"): dnstest.Zone(t, "example.org", soa+"@ NS ns\nns A 192.0.2.12\nns AAAA 2001:db8::12\n"),
		}}
		w.Serve("2001:db8::12", both)
		w.Resolver.Hints = []Hint{{dns.MustName("a.root-servers.example"), addr("2001:db8::1")}}
		w.Resolver.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if !strings.HasPrefix(address, "[") {
				return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ENETUNREACH}
			}
			return w.Dial(ctx, network, address)
		}
		w.want("www.example.net A", dns.NoError, "A 192.0.2.80")
	})
}

// What servers say that is no answer, and whose trouble that is.
func TestLameReplies(t *testing.T) {
	for _, tt := range []struct {
		why     string
		answer  dns.Answer
		ra      bool
		trouble dns.Trouble
		said    string
	}{
		{"a referral to the root", dns.Answer{Authority: records(". 3600 NS a.root-servers.example.")}, false, dns.Lame, "refers to ."},
		{"a referral to the zone itself", dns.Answer{Authority: records("example.com. 3600 NS ns1.example.com.")}, false, dns.Lame, "refers to example.com"},
		{"a referral aside", dns.Answer{Authority: records("example.org. 3600 NS ns1.example.com.")}, false, dns.Lame, "refers to example.org"},
		{"a referral to a deeper zone that is not on the way", dns.Answer{Authority: records("mail.example.com. 3600 NS ns1.example.com.")}, false, dns.Lame, "refers to mail.example.com"},
		{"nothing, without authority", dns.Answer{}, false, dns.Lame, "not authoritative"},
		{"no such name, without authority", dns.Answer{Rcode: dns.NXDomain}, false, dns.Lame, "not authoritative"},
		{"an answer from a cache", dns.Answer{Answer: records("www.example.com. 60 A 192.0.2.66")}, true, dns.Lame, "not authoritative: it answers from a cache"},
		{"a denial by the parent", dns.Answer{Rcode: dns.NXDomain, Authoritative: true, Authority: records("com. 900 SOA ns.com. h.com. 1 2 3 4 5")}, false, dns.Lame, "answers for com"},
		{"NOTIMP", dns.Answer{Rcode: dns.NotImp}, false, dns.ServerFailed, "NOTIMP"},
		{"NOTAUTH", dns.Answer{Rcode: wire.RcodeNotAuth}, false, dns.ServerFailed, "NOTAUTH"},
		{"too many records", dns.Answer{Authoritative: true, Answer: manyAddresses(101)}, false, dns.Malformed, "more than 100 records in one set"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "example 3600 NS ns1.example\nns1.example 3600 A 192.0.2.11\n", "", "")
				answers := dns.ResolverFunc(func(context.Context, dns.Question) (dns.Answer, error) { return tt.answer, nil })
				w.Set("192.0.2.11", dnstest.Host{Resolver: answers, Recursion: tt.ra})
				e := w.wantTrouble("www.example.com A", tt.trouble)
				if len(e.Attempts) != 1 || e.Attempts[0].Said != tt.said {
					t.Errorf("attempts %v, want one that says %q", e.Attempts, tt.said)
				}
			})
		})
	}
}

// A server that offers recursion to others may refer all the same.
func TestReferralFromRecursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := exampleWorld(t)
		com := soa + "@ 3600 NS ns\nns 3600 A 192.0.2.2\n" + exampleCom
		w.Set(comAddr, dnstest.Host{Resolver: dnstest.Zone(t, "com", com), Recursion: true})
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
	})
}

func manyAddresses(n int) []dns.RR {
	var lines []string
	for i := range n {
		lines = append(lines, fmt.Sprintf("www.example.com. 60 A 198.51.100.%d", i))
	}
	return records(lines...)
}

// Denials without an SOA are believed for the question, and not kept (RFC 2308 §5).
func TestDenialWithoutSOA(t *testing.T) {
	for _, rcode := range []dns.Rcode{dns.NXDomain, dns.NoError} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "", "", "")
			w.script(comAddr, func(dns.Question) dns.Answer { return dns.Answer{Rcode: rcode, Authoritative: true} })
			w.want("www.com A", rcode)
			w.Forget()
			w.want("www.com A", rcode)
			if w.Total() == 0 {
				t.Error("it was cached")
			}
		})
	}
}

// A delegation that leads nowhere is told apart from servers that do not answer.
func TestBrokenDelegation(t *testing.T) {
	for _, tt := range []struct {
		why, com, org string
		trouble       dns.Trouble
		detail        string
	}{
		{"in the zone itself, without glue", "example NS ns1.example\n", "", dns.BrokenDelegation,
			"servers of example.com: name server ns1.example.com lies in the zone itself and has no glue"},
		{"the server's name does not exist", "example NS gone.org.\n", "", dns.BrokenDelegation,
			"servers of example.com: name server gone.org does not exist"},
		{"the server has no address", "example NS text.org.\n", "text TXT none\n", dns.BrokenDelegation,
			"servers of example.com: name server text.org has no address"},
		{"its address is nobody's", "example NS zero.org.\n", "zero A 0.0.0.0\nzero AAAA ::\n", dns.BrokenDelegation,
			"servers of example.com: name server zero.org has no address of use that was not tried"},
		{"its address is this host's", "example NS ns1.example\nns1.example A 127.0.0.1\n", "", dns.BrokenDelegation,
			"servers of example.com"},
		{"its address cannot be had: that is its own servers' trouble", "example NS ns.dark.org.\n", "dark NS ns.dark\nns.dark A 203.0.113.1\n", dns.NoReply,
			"servers of example.com: a name server's address cannot be had"},
		{"the names need each other", "example NS ns.example.org.\n", "example NS ns.example.com.\n", dns.BrokenDelegation,
			"servers of example.com: a name server's address cannot be had"},
		{"the name needs itself", "example NS www.example.org.\n", "example NS www.example.com.\n", dns.BrokenDelegation,
			"servers of example.com: a name server's address cannot be had"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, tt.com, "", tt.org)
				var e *dns.Error
				spent := took(func() { e = w.wantTrouble("www.example.com A", tt.trouble) })
				if e.Detail != tt.detail {
					t.Errorf("detail %q, want %q", e.Detail, tt.detail)
				}
				if spent > 7*time.Second || w.Total() > 20 {
					t.Errorf("%s, %d packets", spent, w.Total())
				}
				if tt.trouble == dns.NoReply && len(e.Attempts) == 0 {
					t.Error("the dark server is not named")
				}
			})
		})
	}
}

// A server that does not know EDNS is asked without, and remembered (RFC 6891 §7).
func TestNoEDNS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "", "", "")
		var withEDNS []bool
		w.Resolver.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if !strings.HasPrefix(address, comAddr+":") {
				return w.Dial(ctx, network, address)
			}
			return newPeer(func(q []byte) [][]byte {
				var m wire.Msg
				if err := m.Unpack(q); err != nil {
					t.Error(err)
				}
				withEDNS = append(withEDNS, m.IsEdns0() != nil)
				reply := new(wire.Msg)
				if m.IsEdns0() != nil { // an old server: no OPT, and not even the question
					reply.SetRcodeFormatError(&m)
				} else {
					reply.SetReply(&m)
					reply.Authoritative = true
					reply.Answer = records(m.Question[0].Name + " 60 A 192.0.2.80")
				}
				return [][]byte{pack(reply)}
			}), nil
		}
		w.want("a.com A", dns.NoError, "A 192.0.2.80")
		w.want("b.com A", dns.NoError, "A 192.0.2.80")
		if fmt.Sprint(withEDNS) != "[true false false]" {
			t.Errorf("EDNS in the questions: %v", withEDNS)
		}
	})
}

// A server that says NOTIMP to a type goes on being asked with EDNS, where the OPT record
// of its reply, or the same word without EDNS, shows that EDNS is not what it means: without
// it there are no signatures.
func TestNotImplementedType(t *testing.T) {
	for _, tt := range []struct {
		why  string
		opt  bool
		want string
	}{
		{"a reply with an OPT record", true, "[true true]"},
		{"the same without EDNS", false, "[true false true]"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "", "", "")
				var withEDNS []bool
				w.Resolver.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					if !strings.HasPrefix(address, comAddr+":") {
						return w.Dial(ctx, network, address)
					}
					return newPeer(func(q []byte) [][]byte {
						var m wire.Msg
						if err := m.Unpack(q); err != nil {
							t.Error(err)
						}
						withEDNS = append(withEDNS, m.IsEdns0() != nil)
						reply := new(wire.Msg).SetReply(&m)
						reply.Authoritative = true
						if m.Question[0].Qtype == wire.TypeTXT {
							reply.Rcode = wire.RcodeNotImplemented
						} else {
							reply.Answer = records(m.Question[0].Name + " 60 A 192.0.2.80")
						}
						if tt.opt {
							reply.SetEdns0(ednsSize, false)
						}
						return [][]byte{pack(reply)}
					}), nil
				}
				w.wantTrouble("a.com TXT", dns.ServerFailed)
				w.want("b.com A", dns.NoError, "A 192.0.2.80")
				if fmt.Sprint(withEDNS) != tt.want {
					t.Errorf("EDNS in the questions: %v, want %s", withEDNS, tt.want)
				}
			})
		})
	}
}

// TCP that goes wrong after a truncated reply is the server's fault, and bounded in time.
func TestTCPTrouble(t *testing.T) {
	for _, tt := range []struct {
		why     string
		tcp     func(context.Context) (net.Conn, error)
		trouble dns.Trouble
		within  time.Duration
	}{
		{"the port is closed", func(context.Context) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		}, dns.NoReply, 0},
		{"nobody accepts", func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, dns.NoReply, 7 * time.Second},
		{"accepted and silent", func(context.Context) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				buf := make([]byte, 512)
				for {
					if _, err := far.Read(buf); err != nil {
						return
					}
				}
			}()
			return near, nil
		}, dns.NoReply, 7 * time.Second},
		{"closed at once", func(context.Context) (net.Conn, error) {
			near, far := net.Pipe()
			return near, far.Close()
		}, dns.NoReply, 0},
		{"no DNS", func(context.Context) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				defer far.Close()
				buf := make([]byte, 512)
				if _, err := far.Read(buf); err == nil {
					_, _ = far.Write([]byte("\x00\x15SSH-2.0-OpenSSH_9.2p1"))
				}
			}()
			return near, nil
		}, dns.Malformed, 0},
		{"no route, only for TCP", func(context.Context) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: syscall.EPERM}
		}, dns.NoNetwork, 0},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "", "", "")
				w.behave(comAddr, dnstest.Truncating, "com", soa+"@ NS ns\nns A 192.0.2.2\nwww A 192.0.2.80\n")
				w.Resolver.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					if network == "tcp" {
						return tt.tcp(ctx)
					}
					return w.Dial(ctx, network, address)
				}
				var e *dns.Error
				spent := took(func() { e = w.wantTrouble("www.com A", tt.trouble) })
				if spent > tt.within {
					t.Errorf("it took %s, more than %s", spent, tt.within)
				}
				if last := e.Attempts[len(e.Attempts)-1]; last.Protocol != "tcp" {
					t.Errorf("last attempt: %v", last)
				}
			})
		})
	}
}

// A delegation that has changed at the parent is found again, though the old one is cached.
func TestMovedZone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "example 86400 NS ns1.example\nns1.example 86400 A 192.0.2.11\n", "", "")
		w.zone("192.0.2.11", "example.com", exampleZone)
		w.Resolver.StaleFor = -1
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		w.Set("192.0.2.11", dnstest.Host{Behaviour: dnstest.Lame})
		time.Sleep(10 * time.Minute)
		w.Forget()
		w.wantTrouble("www.example.com A", dns.ServerFailed) // the parent says what it said
		if n := w.Total(); n != 3 {
			t.Errorf("%d packets to a lame server, its parent and, since nothing was heard for long, the root, want 3", n)
		}
		w.zone(comAddr, "com", soa+"@ NS ns\nns A 192.0.2.2\nexample 86400 NS ns9.example\nns9.example 86400 A 192.0.2.19\n")
		w.zone("192.0.2.19", "example.com", exampleZone)
		time.Sleep(10 * time.Minute)
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
	})
}

// Servers that only the child names are the last resort.
func TestChildServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "example 86400 NS ns1.example\nns1.example 86400 A 192.0.2.11\n", "", "")
		w.zone("192.0.2.11", "example.com", soa+"@ 86400 NS ns1\n@ 86400 NS ns.org.\nns1 86400 A 192.0.2.11\n")
		w.zone("192.0.2.4", "org", soa+"@ NS ns.org.\nns A 192.0.2.4\n")
		w.want("example.com NS", dns.NoError, "NS ns.org.", "NS ns1.example.com.")
		w.Set("192.0.2.11", dnstest.Host{Behaviour: dnstest.Failing})
		w.Set("192.0.2.4", dnstest.Host{Resolver: &dns.Mux{Zones: map[dns.Name]dns.Resolver{
			dns.MustName("org"):         dnstest.Zone(t, "org", soa+"@ NS ns.org.\nns A 192.0.2.4\n"),
			dns.MustName("example.com"): dnstest.Zone(t, "example.com", exampleZone),
		}}})
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
	})
}

// A server with a good record is preferred to one that was slow, and a dead one is left
// alone while others live.
func TestServerChoice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exampleCom, "", "")
		zone := dnstest.Zone(t, "example.com", soa+"@ NS ns1\n@ NS ns2\nns1 A 192.0.2.11\nns2 A 192.0.2.12\n* 3600 A 192.0.2.80\n")
		w.Set("192.0.2.11", dnstest.Host{Resolver: zone, Delay: 200 * time.Millisecond})
		w.Set("192.0.2.12", dnstest.Host{Resolver: zone, Delay: 20 * time.Millisecond})
		for i := range 400 {
			w.want(fmt.Sprintf("n%d.example.com A", i), dns.NoError, "A 192.0.2.80")
		}
		slow, fast := len(w.Asked("192.0.2.11")), len(w.Asked("192.0.2.12"))
		if slow == 0 || slow > 60 { // 20 on average; more than 60 in one of 10^12 runs
			t.Errorf("the slow server got %d of %d questions", slow, slow+fast)
		}
		w.Set("192.0.2.12", dnstest.Host{Behaviour: dnstest.Silent})
		w.Forget()
		spent := took(func() {
			for i := range 100 {
				w.want(fmt.Sprintf("m%d.example.com A", i), dns.NoError, "A 192.0.2.80")
			}
		})
		if n := len(w.Asked("192.0.2.12")); n > 8 {
			t.Errorf("a dead server got %d of 100 questions", n)
		}
		if spent > 100*200*time.Millisecond+8*packetTimeout {
			t.Errorf("100 questions past a dead server took %s", spent)
		}
	})
}

func TestErrorText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := exampleWorld(t)
		for _, a := range []string{"192.0.2.11", "192.0.2.12"} {
			w.Set(a, dnstest.Host{Resolver: dnstest.Zone(t, "example.com", exampleZone)})
		}
		_, err := w.ask("away.example.com A") // example.net is lame: both servers know only example.com
		const want = "resolve away.example.com A: the servers fail: at www.example.net A: servers of example.net (last tried: ns1.example.com "
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got  %v\nwant %s…", err, want)
		}
		var e *dns.Error
		if !errors.As(err, &e) || len(e.Attempts) != 1 {
			t.Errorf("%#v", err)
		}
	})
}
