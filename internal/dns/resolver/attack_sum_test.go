package resolver

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

// More attacks, on sums that no single step shows.

// CAMP (2024): every alias leads to a name of many labels, each of which minimisation asks
// about, below a zone whose thirteen name servers have to be looked up at the victim's.
// Packets of the whole tree are what counts, and what reaches the victim.
func TestAliasTimesLabelsTimesServers(t *testing.T) {
	for _, off := range []bool{false, true} {
		t.Run(fmt.Sprint("without minimisation: ", off), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				attacker := dns.MustName("attacker.com")
				w := attacked(t, func(q dns.Question) dns.Answer {
					labels := len(q.Name.Labels())
					switch {
					case labels%10 == 9: // the end of a chain link: a cut with dark servers, or the next alias
						if n++; n%2 == 0 {
							return dns.Answer{Authoritative: true, Answer: records(fmt.Sprintf("%s 0 CNAME a.b.c.d.e.f.w%d.attacker.com.", q.Name.FQDN(), n))}
						}
						var lines []string
						for i := range 13 {
							lines = append(lines, fmt.Sprintf("%s 60 NS ns%d.n%d.victim.com.", q.Name.FQDN(), i, n))
						}
						return dns.Answer{Authority: records(lines...)}
					case q.Name == attacker || labels < 9: // nothing here, but below
						return dns.Answer{Authoritative: true, Authority: records("attacker.com. 0 SOA a. b. 1 2 3 4 0")}
					}
					return dns.Answer{Rcode: dns.NXDomain, Authoritative: true}
				})
				w.Resolver.NoMinimisation = off
				w.wantBounded("a.b.c.d.e.f.w0.attacker.com A")
				if got := len(w.Asked(victimAddr)); got > 4*maxNSMissing {
					t.Errorf("the victim got %d questions", got)
				}
				w.want("www.victim.com A", dns.NoError, "A 192.0.2.80")
			})
		})
	}
}

// NRDelegationAttack (2022): one referral to hundreds of name servers, each in a zone of
// its own that is delegated to silence. Asked again and again, it costs no more.
func TestDarkDelegations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var zone strings.Builder
		zone.WriteString(soa + "@ NS ns\nns A 203.0.113.66\n")
		for i := range 300 {
			fmt.Fprintf(&zone, "target 60 NS ns.n%d\nn%d 60 NS ns.n%d\nns.n%d 60 A 198.51.100.%d\n", i, i, i, i, i%250+1)
		}
		w := attacked(t, nil)
		w.zone(attackerAddr, "attacker.com", zone.String())
		w.wantBounded("www.target.attacker.com A")
		first := w.Total()
		for i := range 50 {
			w.Forget()
			_, _ = w.ask(fmt.Sprintf("w%d.target.attacker.com A", i))
			if n := w.Total(); n > max(first, maxPackets) {
				t.Fatalf("%d packets for question %d, %d for the first", n, i, first)
			}
		}
		spent := took(func() { w.want("www.victim.com A", dns.NoError, "A 192.0.2.80") })
		if spent > time.Second {
			t.Errorf("an honest name took %s", spent)
		}
	})
}

// Replies as large as they can be: the bytes of one question are bounded.
func TestBytesInTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		junk := make([]string, 250)
		for i := range junk {
			junk[i] = fmt.Sprintf(`junk.attacker.com. 60 TXT "%d %s"`, i, strings.Repeat("x", 200))
		}
		w := attacked(t, func(q dns.Question) dns.Answer {
			n++
			alias := fmt.Sprintf("%s 60 CNAME w%d.attacker.com.", q.Name.FQDN(), n)
			return dns.Answer{Authoritative: true, Answer: append(records(alias), records(junk...)...)}
		})
		e := w.wantTrouble("www.attacker.com A", dns.WorkLimit)
		if !strings.Contains(e.Detail, "bytes for one question") {
			t.Errorf("%v", e)
		}
		if n := len(w.Asked(attackerAddr)); n > 8 {
			t.Errorf("%d questions to the attacker", n)
		}
		if n := w.Resolver.Stats().Limits["bytes"]; n != 1 {
			t.Errorf("the limit was counted %d times", n)
		}
	})
}

// Chained DNAMEs, each of which makes the name longer or leads in a circle.
func TestDNAMEChains(t *testing.T) {
	for _, tt := range []struct{ why, zone, question string }{
		{"a circle", "a DNAME b\nb DNAME c\nc DNAME a\n", "www.a.attacker.com A"},
		{"into itself, longer each time", "a DNAME x.a\n", "www.a.attacker.com A"},
		{"a long chain", dnameChain(30), "www.d0.attacker.com A"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := attacked(t, nil)
				w.zone(attackerAddr, "attacker.com", soa+"@ NS ns\nns A 203.0.113.66\n"+tt.zone)
				answer, err := w.ask(tt.question)
				if err != nil && dns.TroubleOf(err) != dns.WorkLimit || len(answer.Answer) > 4*maxRestarts {
					t.Errorf("%v, %v", answer, err)
				}
				if n := w.Total(); n > 3*maxRestarts {
					t.Errorf("%d packets", n)
				}
			})
		})
	}
}

func dnameChain(n int) string {
	var zone strings.Builder
	for i := range n {
		fmt.Fprintf(&zone, "d%d DNAME d%d\n", i, i+1)
	}
	return zone.String()
}

// Ghost domains (2012) and phoenix domains (2023): a zone that the parent has taken back
// tries to stay alive by new NS records, by zones below it and by being asked all the
// time. Its lease ends when the parent's word did.
func TestGhost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var count atomic.Int32 // names are renewed meanwhile
		w := newWorld(t, "ghost 600 NS ns.ghost\nns.ghost 600 A 203.0.113.66\n", "", "")
		w.script(attackerAddr, func(q dns.Question) dns.Answer {
			n := count.Add(1)
			apex := dns.MustName("ghost.com")
			switch {
			case q.Type == dns.TypeNS && q.Name == apex: // a new set each time
				return dns.Answer{Authoritative: true, Answer: records(fmt.Sprintf("ghost.com. 86400 NS ns%d.ghost.com.", n), "ghost.com. 86400 NS ns.ghost.com.")}
			case q.Name != apex && strings.HasPrefix(q.Name.String(), "z") && len(q.Name.Labels()) == 3: // a zone below
				return dns.Answer{Authority: records(q.Name.FQDN() + " 86400 NS ns.ghost.com."), Additional: records("ns.ghost.com. 86400 A 203.0.113.66")}
			}
			return dns.Answer{Authoritative: true,
				Answer:     records(q.Name.FQDN() + " 86400 A 203.0.113.66"),
				Authority:  records(fmt.Sprintf("ghost.com. 86400 NS ns%d.ghost.com.", n)),
				Additional: records(fmt.Sprintf("ns%d.ghost.com. 86400 A 203.0.113.66", n))}
		})
		w.want("www.ghost.com A", dns.NoError, "A 203.0.113.66")
		w.zone(comAddr, "com", soa+"@ NS ns\nns A 192.0.2.2\n") // taken back
		for i := range 59 {                                     // every ten seconds for ten minutes
			time.Sleep(10 * time.Second)
			if _, err := w.ask("ghost.com NS"); err != nil {
				t.Fatal(err)
			}
			w.want(fmt.Sprintf("w%d.ghost.com A", i), dns.NoError, "A 203.0.113.66")
			w.want(fmt.Sprintf("www.z%d.ghost.com A", i), dns.NoError, "A 203.0.113.66")
			w.want("www.z0.ghost.com A", dns.NoError, "A 203.0.113.66")
		}
		time.Sleep(11 * time.Second)
		for _, q := range []string{"www.ghost.com A", "www.z0.ghost.com A", "w58.ghost.com A", "new.z58.ghost.com A", "ghost.com NS", "new.ghost.com A"} {
			w.want(q, dns.NXDomain)
		}
	})
}

// RebirthDay (2025), after the birthday attack of 2002: many questions in flight for one
// name, each with a port and an ID of its own, would make forging easy. However they
// differ for the asker, few are in flight.
func TestBirthday(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "", "", "")
		w.Set(comAddr, dnstest.Host{Resolver: dnstest.Zone(t, "com", soa+"@ NS ns\nns A 192.0.2.2\nwww A 192.0.2.80\n"), Delay: time.Second})
		var all sync.WaitGroup
		for i := range maxWaiters {
			q := question("www.com A")
			q.DNSSEC, q.CheckingDisabled = i&1 != 0, i&2 != 0
			if i&4 != 0 {
				q.Name = dns.MustName("WWW.com") // the same name
			}
			all.Go(func() {
				if _, err := w.Resolver.Resolve(t.Context(), q); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := len(w.Asked(comAddr)); n > 2 { // with and without DO
			t.Errorf("%d questions for one name were in flight", n)
		}
	})
}

// Servers that answer just before each time-out, with a step that leads nowhere: the time
// of one question is bounded all the same.
func TestSlowServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		w := attacked(t, nil)
		slow := func(q dns.Question) dns.Answer {
			return dns.Answer{Authoritative: true, Answer: records(fmt.Sprintf("%s 0 CNAME w%d.attacker.com.", q.Name.FQDN(), n.Add(1)))}
		}
		w.Set(attackerAddr, dnstest.Host{Delay: packetTimeout - time.Millisecond, Resolver: dns.ResolverFunc(
			func(_ context.Context, q dns.Question) (dns.Answer, error) { return slow(q), nil })})
		w.wantBounded("www.attacker.com A")
		time.Sleep(time.Minute) // no work goes on behind the asker's back
		if n := n.Load(); n > 6 {
			t.Errorf("%d questions to a server that takes 1.5 s for each", n)
		}
	})
}

// TsuNAME (2021) with more than two zones: a circle of name servers' names across zones,
// and aliases as name servers that lead back.
func TestLongCycles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t,
			"a NS ns.b.org.\nb NS ns.c.org.\nloop NS one.loop2.org.\n", "",
			"b NS ns.c.net.\nc NS ns.a.com.\nloop2 NS two.loop.com.\n")
		w.zone(netAddr, "net", soa+"@ NS ns\nns A 192.0.2.3\nc NS ns.a.com.\n")
		for i := range 100 {
			for _, q := range []string{"www.a.com A", "www.b.org MX", "www.loop.com A", fmt.Sprintf("w%d.a.com A", i%3)} {
				if answer, err := w.ask(q); err == nil {
					t.Fatalf("%s: %v", q, answer)
				}
			}
		}
		if n := w.Total(); n > 120 {
			t.Errorf("%d packets for 400 questions into circles", n)
		}
	})
}

// A zone whose servers' glue are addresses of nobody, of this host or of many names for
// one victim: nothing is sent there, or once.
func TestGlueAttacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines []string
		for i := range 20 {
			lines = append(lines, fmt.Sprintf("attacker.com. 60 NS n%d.attacker.com.", i))
		}
		var glue []string
		for i, a := range []string{"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.0.0.53", "255.255.255.255", "224.0.0.1", "240.0.0.1", victimAddr, victimAddr, victimAddr} {
			glue = append(glue, fmt.Sprintf("n%d.attacker.com. 60 A %s", i, a))
		}
		for i := range 30 { // more addresses for one name than anybody needs
			glue = append(glue, fmt.Sprintf("n10.attacker.com. 60 A 198.51.100.%d", i+1))
		}
		w := attacked(t, nil)
		w.script(comAddr, func(q dns.Question) dns.Answer {
			return dns.Answer{Authority: records(lines...), Additional: records(glue...)}
		})
		w.behave(victimAddr, dnstest.Lame, "victim.com", soa+"@ NS ns\nns A 203.0.113.1\n")
		for i := range 30 {
			w.Set(netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}).String(), dnstest.Host{Behaviour: dnstest.Lame})
		}
		_, _ = w.ask("www.attacker.com A")
		if n := len(w.Asked(victimAddr)); n != 1 {
			t.Errorf("the victim got %d questions", n)
		}
		most := 0
		for i := range 30 {
			if n := len(w.Asked(netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}).String())); n > 0 {
				most++
			}
		}
		if most > maxNSAddresses {
			t.Errorf("%d addresses of one name were asked", most)
		}
		for _, a := range []string{"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.0.0.53", "255.255.255.255", "224.0.0.1", "240.0.0.1"} {
			if n := len(w.Asked(a)); n > 0 {
				t.Errorf("%s got %d questions", a, n)
			}
		}
	})
}
