package resolver

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

// Everything below is played by name servers that want to harm the resolver, its users or
// others. The servers count what reaches them.

const (
	attackerAddr = "203.0.113.66" // serves attacker.com
	victimAddr   = "203.0.113.1"  // serves victim.com
	forgedAddr   = "203.0.113.99" // where the attacker wants victims to go
)

// attacked is a world with a zone of the attacker's, who says what say does, and a victim.
func attacked(t *testing.T, say func(q dns.Question) dns.Answer) *world {
	t.Helper()
	w := newWorld(t, `
attacker 3600 NS ns.attacker
ns.attacker 3600 A 203.0.113.66
victim 3600 NS ns.victim
ns.victim 3600 A 203.0.113.1
`, "", "")
	w.zone(victimAddr, "victim.com", soa+"@ 300 NS ns\nns 300 A 203.0.113.1\nwww 300 A 192.0.2.80\n")
	w.zone(forgedAddr, "victim.com", soa+"@ 300 NS ns\nns 300 A 203.0.113.99\nwww 300 A 203.0.113.99\n")
	w.script(attackerAddr, say)
	return w
}

// wantBounded runs a question and holds it to the limits of one question.
func (w *world) wantBounded(q string) {
	w.t.Helper()
	spent := took(func() {
		if answer, err := w.ask(q); err == nil {
			w.t.Errorf("%s: an answer, %v", q, answer)
		}
	})
	if n := w.Total(); n > maxPackets {
		w.t.Errorf("%s: %d packets, at most %d are allowed", q, n, maxPackets)
	}
	if spent > defaultTimeout {
		w.t.Errorf("%s: %s", q, spent)
	}
	w.t.Logf("%s: %d packets, %s", q, w.Total(), spent)
}

// Each row is one reply of the attacker's to www.attacker.com that carries poison for
// victim.com. Whatever becomes of the question, the victim's name must lead where it did.
func TestPoison(t *testing.T) {
	for _, tt := range []struct {
		why    string
		answer dns.Answer
	}{
		{"the address of a victim in the answer", dns.Answer{Authoritative: true,
			Answer: records("www.attacker.com. 60 A 192.0.2.1", "www.victim.com. 3600 A 203.0.113.99")}},
		{"a victim as an alias's target, with its address", dns.Answer{Authoritative: true,
			Answer: records("www.attacker.com. 60 CNAME www.victim.com.", "www.victim.com. 3600 A 203.0.113.99")}},
		{"NS records of the victim in the authority section", dns.Answer{Authoritative: true,
			Answer:    records("www.attacker.com. 60 A 192.0.2.1"),
			Authority: records("victim.com. 3600 NS ns.evil.victim.com."), Additional: records("ns.evil.victim.com. 3600 A 203.0.113.99")}},
		{"NS records of com", dns.Answer{Authoritative: true,
			Answer:    records("www.attacker.com. 60 A 192.0.2.1"),
			Authority: records("com. 3600 NS ns.attacker.com."), Additional: records("ns.attacker.com. 3600 A 203.0.113.99")}},
		{"a referral for the victim", dns.Answer{
			Authority: records("victim.com. 3600 NS ns.attacker.com."), Additional: records("ns.attacker.com. 3600 A 203.0.113.99")}},
		{"a referral upwards", dns.Answer{
			Authority: records("com. 3600 NS ns.attacker.com."), Additional: records("ns.attacker.com. 3600 A 203.0.113.99")}},
		{"glue for the victim's name server", dns.Answer{
			Authority: records("www.attacker.com. 3600 NS ns.victim.com."), Additional: records("ns.victim.com. 3600 A 203.0.113.99")}},
		{"the victim's name server in the additional section", dns.Answer{Authoritative: true,
			Answer: records("www.attacker.com. 60 A 192.0.2.1"), Additional: records("ns.victim.com. 3600 A 203.0.113.99")}},
		{"the SOA of com denies more than it may", dns.Answer{Rcode: dns.NXDomain, Authoritative: true,
			Authority: records("com. 3600 SOA a. b. 1 2 3 4 3600")}},
		{"a DNAME above the zone", dns.Answer{Authoritative: true,
			Answer: records("com. 3600 DNAME attacker.com.", "www.attacker.com. 3600 CNAME www.attacker.attacker.com.")}},
		{"a name that only looks as if it lay in the zone", dns.Answer{Authoritative: true,
			Answer: records("www.attacker.com. 60 A 192.0.2.1", "notattacker.com. 3600 A 203.0.113.99")}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := attacked(t, func(q dns.Question) dns.Answer {
					if q.Name == dns.MustName("www.attacker.com") {
						return tt.answer
					}
					return dns.Answer{Rcode: dns.NXDomain, Authoritative: true, Authority: records("attacker.com. 60 SOA a. b. 1 2 3 4 60")}
				})
				_, _ = w.ask("www.attacker.com A")
				w.want("www.victim.com A", dns.NoError, "A 192.0.2.80")
				w.want("ns.victim.com A", dns.NoError, "A 203.0.113.1")
				w.want("notattacker.com A", dns.NXDomain)
				if n := len(w.Asked(forgedAddr)); n > 0 {
					t.Errorf("the forged server got %d questions", n)
				}
			})
		})
	}
}

// Glue is no answer: whoever asks for the host gets what its own zone says.
func TestGlueIsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "example NS ns1.example\nns1.example A 192.0.2.11\n", "", "")
		w.zone("192.0.2.11", "example.com", soa+"@ NS ns1\nns1 300 A 192.0.2.111\nwww A 192.0.2.80\n")
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		w.want("ns1.example.com A", dns.NoError, "A 192.0.2.111")
	})
}

// A sibling's glue, in the zone that refers, is of use (RFC 9471 §2.2).
func TestSiblingGlue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "example NS ns.sibling\nsibling NS ns.sibling\nns.sibling A 192.0.2.11\n", "", "")
		w.zone("192.0.2.11", "example.com", soa+"@ NS ns.sibling.com.\nwww A 192.0.2.80\n")
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		if n := w.Total(); n != 3 {
			t.Errorf("%d packets, want 3: the glue makes a look-up needless", n)
		}
	})
}

func TestAliasLoops(t *testing.T) {
	// in one zone, whose server gives the loop in one reply; across zones; on itself
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a CNAME b\nb CNAME c\nc CNAME a\nself CNAME self\nx CNAME y.org.\n", "", "y CNAME x.com.\n")
		for _, q := range []string{"a.com A", "self.com A", "x.com MX"} {
			w.Forget()
			w.wantTrouble(q, dns.WorkLimit)
			if w.Total() > 5 {
				t.Errorf("%s: %d packets", q, w.Total())
			}
		}
	})
	// a chain without end
	synctest.Test(t, func(t *testing.T) {
		n := 0
		w := attacked(t, func(q dns.Question) dns.Answer {
			n++
			return dns.Answer{Authoritative: true, Answer: records(fmt.Sprintf("%s 60 CNAME c%d.attacker.com.", q.Name.FQDN(), n))}
		})
		w.wantTrouble("www.attacker.com A", dns.WorkLimit)
		if got := len(w.Asked(attackerAddr)); got > maxRestarts+1 {
			t.Errorf("%d aliases were followed", got)
		}
	})
	// the longest chain that is followed
	synctest.Test(t, func(t *testing.T) {
		var com strings.Builder
		for i := range maxRestarts {
			fmt.Fprintf(&com, "c%d CNAME c%d\n", i, i+1)
		}
		w := newWorld(t, com.String()+fmt.Sprintf("c%d A 192.0.2.80\n", maxRestarts), "", "")
		answer, err := w.ask("c0.com A")
		if err != nil || len(answer.Answer) != maxRestarts+1 {
			t.Errorf("%d records, %v", len(answer.Answer), err)
		}
		w.Resolver.Flush(dns.Root)
		w.zone(comAddr, "com", soa+"@ NS ns\nns A 192.0.2.2\nbefore CNAME c0\n"+com.String()+fmt.Sprintf("c%d A 192.0.2.80\n", maxRestarts))
		w.wantTrouble("before.com A", dns.WorkLimit)
	})
}

func TestDNAME(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := strings.Repeat(strings.Repeat("x", 60)+".", 4)
		w := newWorld(t, "old DNAME new.org.\nlong DNAME "+long+"org.\nin DNAME out\nwww.out A 192.0.2.81\n", "", "www.new A 192.0.2.80\n")
		w.want("www.old.com A", dns.NoError, "DNAME new.org.", "CNAME www.new.org.", "A 192.0.2.80")
		w.want("www.old.com A", dns.NoError, "DNAME new.org.", "CNAME www.new.org.", "A 192.0.2.80") // cached
		w.want("www.old.com CNAME", dns.NoError, "DNAME new.org.", "CNAME www.new.org.")
		w.want("mail.old.com CNAME", dns.NoError, "DNAME new.org.", "CNAME mail.new.org.")
		w.want("old.com DNAME", dns.NoError, "DNAME new.org.")
		w.want("www.in.com A", dns.NoError, "DNAME out.com.", "CNAME www.out.com.", "A 192.0.2.81")
		answer, err := w.ask(strings.Repeat("y", 60) + ".long.com A")
		if err != nil || answer.Rcode != rcodeYXDomain {
			t.Errorf("a name that becomes too long: %v, %v", answer, err)
		}
		// A CNAME that does not follow from the DNAME is not believed.
		w.script(comAddr, func(q dns.Question) dns.Answer {
			return dns.Answer{Authoritative: true, Answer: records("old.com. 60 DNAME new.org.", "www2.old.com. 60 CNAME forged.org.")}
		})
		w.want("www2.old.com A", dns.NXDomain, "DNAME new.org.", "CNAME www2.new.org.")
	})
}

// Referrals that never arrive: each goes one label deeper.
func TestEndlessReferrals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		labels := strings.Repeat("a.", 60)
		depth := 0
		w := attacked(t, func(q dns.Question) dns.Answer {
			if q.Name == dns.MustName("ns.attacker.com") {
				return dns.Answer{Authoritative: true, Answer: records("ns.attacker.com. 3600 A 203.0.113.66")}
			}
			depth++
			cut := strings.Repeat("a.", min(depth, 60)) + "attacker.com."
			return dns.Answer{Authority: records(cut + " 60 NS ns.attacker.com.")}
		})
		w.wantBounded(labels + "attacker.com A")
		if n := len(w.Asked(attackerAddr)); n > maxReferrals || n < maxReferrals-3 {
			t.Errorf("%d referrals were followed, want about %d", n, maxReferrals)
		}
	})
}

// NXNSAttack (2020): one referral to many name servers under the victim, whose names do
// not exist. NRDelegation (2022): the same with names that lead to silence.
func TestFanOut(t *testing.T) {
	for _, tt := range []struct {
		why    string
		levels int
		below  string // where the name servers' names lie
		victim dnstest.Behaviour
		most   int // questions to the victim
	}{
		{"names that do not exist", 1, "victim.com", dnstest.Honest, 2 * maxNSMissing},
		{"a server that is silent", 1, "victim.com", dnstest.Silent, 40},
		{"a server that fails", 1, "victim.com", dnstest.Failing, 2*maxNSLookups + 1},
		{"names that lead back to the attacker, level by level", 9, "attacker.com", dnstest.Honest, 0},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				w := attacked(t, func(q dns.Question) dns.Answer {
					var lines []string
					for range 50 {
						n++
						lines = append(lines, fmt.Sprintf("%s 60 NS ns%d.z%d.%s.", q.Name.FQDN(), n, n, tt.below))
					}
					return dns.Answer{Authority: records(lines...)}
				})
				w.behave(victimAddr, tt.victim, "victim.com", soa+"@ NS ns\nns A 203.0.113.1\n")
				w.wantBounded("www.attacker.com A")
				if got := len(w.Asked(victimAddr)); got > tt.most {
					t.Errorf("the victim got %d questions, want at most %d", got, tt.most)
				}
				// What another question needs is not harmed by it.
				w.behave(victimAddr, dnstest.Honest, "victim.com", soa+"@ NS ns\nns A 203.0.113.1\nwww A 192.0.2.80\n")
				w.Resolver.Flush(dns.MustName("victim.com"))
				w.want("www.victim.com A", dns.NoError, "A 192.0.2.80")
			})
		})
	}
}

// CAMP (2024): each alias costs a walk to name servers that cost walks. The sum over the
// whole tree is what counts.
func TestCompositionalWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		w := attacked(t, func(q dns.Question) dns.Answer {
			n++
			if n%4 == 0 {
				return dns.Answer{Authoritative: true, Answer: records(fmt.Sprintf("%s 0 CNAME w%d.s%d.attacker.com.", q.Name.FQDN(), n, n))}
			}
			var lines []string
			for i := range 13 {
				lines = append(lines, fmt.Sprintf("%s 0 NS ns%d.t%d.attacker.com.", q.Name.FQDN(), i, n))
			}
			return dns.Answer{Authority: records(lines...)}
		})
		w.wantBounded("www.attacker.com A")
	})
}

// Aliases from zone to zone, each with many servers of which only the last one tried
// answers: nothing is wrong with any single step, only with the sum.
func TestPacketsInTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var com strings.Builder
		for zone := range 12 {
			for i := range 13 {
				fmt.Fprintf(&com, "z%d 3600 NS ns%d.z%d\n", zone, i, zone)
				for j := range 3 {
					fmt.Fprintf(&com, "ns%d.z%d 3600 A 198.51.%d.%d\n", i, zone, 100+zone, 3*i+j)
				}
			}
		}
		w := newWorld(t, com.String(), "", "")
		for zone := range 12 {
			n := 0
			for i := range 39 {
				w.script(fmt.Sprintf("198.51.%d.%d", 100+zone, i), func(q dns.Question) dns.Answer {
					if n++; n < maxStepPackets-2 {
						return dns.Answer{Rcode: dns.ServFail}
					}
					return dns.Answer{Authoritative: true, Answer: records(fmt.Sprintf("%s 60 CNAME www.z%d.com.", q.Name.FQDN(), zone+1))}
				})
			}
		}
		e := w.wantTrouble("www.z0.com A", dns.WorkLimit)
		if !strings.Contains(e.Detail, "128 packets for one question") || len(e.Attempts) > maxAttemptsKept {
			t.Errorf("%q, %d attempts", e.Detail, len(e.Attempts))
		}
		if n := w.Total(); n != maxPackets {
			t.Errorf("%d packets, want exactly %d", n, maxPackets)
		}
		// One zone alone, all of whose servers fail, ends at its own bound.
		w.Resolver.Flush(dns.Root)
		w.Forget()
		for i := range 39 {
			w.Set(fmt.Sprintf("198.51.100.%d", i), dnstest.Host{Behaviour: dnstest.Failing})
		}
		w.wantTrouble("www.z0.com A", dns.ServerFailed)
		if n := w.Total(); n != maxStepPackets {
			t.Errorf("%d packets for one name, want %d", n, maxStepPackets)
		}
	})
}

// Many names for one address are one server (CVE-2026-3592).
func TestSameAddressManyNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var com strings.Builder
		for i := range 13 {
			fmt.Fprintf(&com, "example NS ns%d.example\nns%d.example A 192.0.2.11\n", i, i)
		}
		w := newWorld(t, com.String(), "", "")
		w.Set("192.0.2.11", dnstest.Host{Behaviour: dnstest.Failing})
		w.wantTrouble("www.example.com A", dns.ServerFailed)
		if n := len(w.Asked("192.0.2.11")); n != 1 {
			t.Errorf("the one server got %d questions", n)
		}
	})
}

// TsuNAME (2021): two zones whose name servers lie in each other, asked again and again,
// cost next to nothing while the failure is remembered.
func TestCyclicZonesAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "cycle NS ns.cycle.org.\n", "", "cycle NS ns.cycle.com.\n")
		for range 100 {
			w.wantTrouble("www.cycle.com A", dns.BrokenDelegation)
			time.Sleep(30 * time.Millisecond)
		}
		if n := w.Total(); n > 15 {
			t.Errorf("%d packets for a hundred questions in three seconds", n)
		}
	})
}

// Addresses where no name server is are not asked.
func TestUselessAddresses(t *testing.T) {
	for _, tt := range []struct {
		addr     string
		loopback bool
		asked    bool
	}{
		{"127.0.0.2", false, false},
		{"127.0.0.2", true, true},
		{"::1", false, false},
		{"::1", true, true},
		{"0.0.0.0", true, false},
		{"0.1.2.3", true, false},
		{"224.0.0.251", true, false},
		{"255.255.255.255", true, false},
		{"::", true, false},
		{"fe80::1", true, false},
		{"ff02::fb", true, false},
		{"10.0.0.1", false, true}, // a site may well have its own zones there
		{"2001:db8::53", false, true},
	} {
		r := &Resolver{AllowLoopback: tt.loopback}
		if got := r.usable(addr(tt.addr), false); got != tt.asked {
			t.Errorf("usable(%s) with AllowLoopback %v: %v", tt.addr, tt.loopback, got)
		}
	}
	if (&Resolver{}).usable(addr("::ffff:192.0.2.1"), false) {
		t.Error("an IPv4 address in IPv6 clothes is asked")
	}
	if r := (&Resolver{NoIPv6: true}); r.usable(addr("2001:db8::1"), true) || !r.usable(addr("127.0.0.1"), true) {
		t.Error("NoIPv6, or a root hint on loopback, is not heeded")
	}
}
