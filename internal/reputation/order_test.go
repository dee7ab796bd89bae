package reputation

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
)

var (
	mx10 = dns.MustName("mx10.example.com")
	mx15 = dns.MustName("mx15.example.com")
	mx20 = dns.MustName("mx20.example.com")
	mx90 = dns.MustName("mx90.example.com")
	old  = dns.MustName("old.example.com")
)

// plain is the recommended layout: two gates, and a trap after them.
func plain() []Rung {
	return []Rung{{Preference: 10, Host: mx10}, {Preference: 20, Host: mx20}, {Preference: 90, Host: mx90, Decoy: true}}
}

// nolisting has a refusing decoy before the gate.
func nolisting() []Rung {
	return []Rung{{Preference: 10, Host: mx10, Decoy: true}, {Preference: 20, Host: mx20}, {Preference: 90, Host: mx90, Decoy: true}}
}

// down marks rungs that were not up.
func down(ladder []Rung, hosts ...dns.Name) []Rung {
	for i := range ladder {
		ladder[i].Down = slices.Contains(hosts, ladder[i].Host)
	}
	return ladder
}

// twins has two hosts at preference 10.
func twins() []Rung {
	return append(plain(), Rung{Preference: 10, Host: mx15})
}

// knock is a contact a while after noon on an arbitrary day.
func knock(host dns.Name, after time.Duration) Contact {
	noon := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	return Contact{
		Client: netip.MustParseAddr("192.0.2.25"), Host: host, Stage: mail.StageRcpt,
		When: noon.Add(after), Session: "S1", Domain: dns.MustName("example.com"),
	}
}

// syn is what is seen of a knock where nobody listens.
func syn(host dns.Name, after time.Duration) Contact {
	c := knock(host, after)
	c.Stage, c.Session, c.Domain = mail.StageConnect, "", dns.Name{}
	return c
}

func bare(host dns.Name, after time.Duration, stage mail.Stage) Contact {
	c := knock(host, after)
	c.Stage, c.Domain = stage, dns.Name{}
	return c
}

func TestOutOfOrder(t *testing.T) {
	elsewhere := knock(mx10, 0)
	elsewhere.Domain = dns.MustName("example.net")
	tests := []struct {
		name   string
		ladder []Rung
		before []Contact // also some that came after
		at     Contact
		want   bool
	}{
		// A sender that starts at the best rung is never out of order.
		{"best rung", plain(), nil, knock(mx10, 0), false},
		// FIELD §4, Postfix: 4xx at RCPT of the first, next host within milliseconds.
		{"postfix walk", plain(), []Contact{knock(mx10, 0), knock(mx20, 40*time.Millisecond)}, knock(mx90, 80*time.Millisecond), false},
		// Two contacts of the same instant, as coarse clocks see them: the client gets the benefit.
		{"same instant", plain(), []Contact{knock(mx10, 0)}, knock(mx20, 0), false},
		// FIELD §0.6, Exim: the first was dead ten hours ago, and Exim does not knock again.
		{"exim dead-host memory", plain(), []Contact{knock(mx10, -10*time.Hour)}, knock(mx20, 0), false},
		// qmail: tcpto skips the first for an hour and a half.
		{"qmail tcpto", plain(), []Contact{bare(mx10, -97*time.Minute, mail.StageConnect)}, knock(mx20, 0), false},
		// Memory has an end, and its last instant still counts.
		{"48 hours ago", plain(), []Contact{knock(mx10, -OrderMemory)}, knock(mx20, 0), false},
		{"longer ago", plain(), []Contact{knock(mx10, -OrderMemory-time.Second)}, knock(mx20, 0), true},
		// A middle rung may be left out by a sender that knows it to be dead.
		{"middle left out", plain(), []Contact{knock(mx10, -time.Second)}, knock(mx90, 0), false},
		// FIELD §4b.3, MTA-STS: a sender whose policy leaves the decoy out never knocks there.
		{"mta-sts skips the decoy", nolisting(), nil, knock(mx20, 0), false},
		// The decoy was tried, and its SYN seen: the walk is the RFC's.
		{"decoy observed", nolisting(), []Contact{syn(mx10, -time.Second)}, knock(mx20, 0), false},
		// FIELD §4b.1: the decoy tried, the gate unreachable from that network, then the trap.
		{"decoy observed, then trap", nolisting(), []Contact{syn(mx10, -40*time.Second)}, knock(mx90, 0), false},
		// A spammer that goes to the last first.
		{"last first", plain(), nil, knock(mx90, 0), true},
		{"last first, past a decoy", nolisting(), nil, knock(mx90, 0), true},
		// The same, up the ladder afterwards: what comes later excuses nothing.
		{"last first, then up", plain(), []Contact{knock(mx20, time.Second), knock(mx10, 2*time.Second)}, knock(mx90, 0), true},
		// A spammer at a random rung, without the first.
		{"random rung", plain(), []Contact{knock(mx90, -time.Hour)}, knock(mx20, 0), true},
		// FIELD §4b.7, node-sendmail: a library that sorted the wrong way round; one such
		// contact is out of order, and it takes more than one to be listed.
		{"node-sendmail", plain(), nil, knock(mx90, 0), true},
		// Senders that shuffle all hosts are sometimes right.
		{"shuffled, first by luck", plain(), []Contact{knock(mx10, -time.Minute)}, knock(mx90, 0), false},
		// FIELD §4b.5: our own 421 a second ago was an attempt.
		{"our own 421", plain(), []Contact{bare(mx10, -time.Second, mail.StageConnect)}, knock(mx20, 0), false},
		// FIELD §4b.9, §4b.1: the first was down, so nobody had to try it.
		{"first was down", down(plain(), mx10), nil, knock(mx20, 0), false},
		{"first was down, second was not", down(plain(), mx10), nil, knock(mx90, 0), true},
		{"all gates were down", down(plain(), mx10, mx20), nil, knock(mx90, 0), false},
		// A knock that was seen although the host was marked down counts, too.
		{"down but tried", down(plain(), mx10), []Contact{syn(mx10, -time.Second)}, knock(mx90, 0), false},
		// RFC 5321 §5.1: hosts of equal preference come in any order.
		{"twin instead of the other", twins(), nil, knock(mx15, 0), false},
		{"second after one twin", twins(), []Contact{knock(mx15, -time.Second)}, knock(mx20, 0), false},
		{"twin does not excuse its rung's worse", twins(), []Contact{knock(mx90, -time.Second)}, knock(mx20, 0), true},
		// FIELD §4b.11: the order is a domain's, but a dead host is dead for all of them.
		{"tried for another domain", plain(), []Contact{elsewhere}, knock(mx20, time.Minute), false},
		// FIELD §4b.10: an MX record of last month names a host that is on no ladder now.
		{"stale record", plain(), nil, knock(old, 0), false},
		{"stale host is no better rung", plain(), []Contact{knock(old, -time.Second)}, knock(mx20, 0), true},
		// No domain, no ladder.
		{"no ladder", nil, nil, knock(mx90, 0), false},
		// A SYN alone can be forged in anybody's name.
		{"refused syn", plain(), nil, syn(mx90, 0), false},
		// A prober that left before RCPT is judged only where its domain is known; given a
		// ladder, it is judged as any other.
		{"scanner at the last", plain(), nil, bare(mx90, 0, mail.StageHello), true},
		// The contact's own record, at RCPT and at the end, is no attempt at a better rung.
		{"own records", plain(), []Contact{knock(mx90, 0), knock(mx90, 0)}, knock(mx90, 0), true},
		// A host named twice stands at its better preference.
		{"named twice", append(plain(), Rung{Preference: 5, Host: mx20}), nil, knock(mx20, 0), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := OutOfOrder(tt.ladder, tt.before, tt.at); got != tt.want {
				t.Errorf("OutOfOrder = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestGroup(t *testing.T) {
	tests := []struct{ client, want string }{
		{"192.0.2.200", "192.0.2.0/24"},               // the neighbours of an egress pool
		{"::ffff:192.0.2.200", "192.0.2.0/24"},        // as a dual-stack socket reports it
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"}, // one subnet
		{"2001:db8:1:3::1", "2001:db8:1:3::/64"},      // the next is another
		{"fe80::1%eth0", "fe80::/64"},                 // a zone belongs to no group
	}
	for _, tt := range tests {
		if got := Group(netip.MustParseAddr(tt.client)); got != netip.MustParsePrefix(tt.want) {
			t.Errorf("Group(%s) = %s, want %s", tt.client, got, tt.want)
		}
	}
	if got := Group(netip.Addr{}); got.IsValid() {
		t.Errorf("Group of no address = %s, want none", got)
	}
}
