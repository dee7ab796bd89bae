package health

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/blocklist"
	"mxward/internal/dns/dnstest"
)

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// questions is a small world's Standard.
var questions = Questions{
	Names: []dns.Question{
		{Name: dns.MustName("example.com"), Type: dns.TypeMX},
		{Name: dns.MustName("example.net"), Type: dns.TypeMX},
		{Name: dns.MustName("example.org"), Type: dns.TypeMX},
	},
	NoSuch: dns.MustName("com"),
	Signed: dns.Question{Name: dns.MustName("example.com"), Type: dns.TypeMX},
	Lists:  []blocklist.List{blocklist.Plain(dns.MustName("bl.example.net"))},
}

func record(text string) dns.RR {
	rr, err := wire.NewRR(text)
	if err != nil {
		panic(err)
	}
	return rr
}

// world answers the questions well, save what a change spoils.
type world struct {
	change func(q dns.Question, a *dns.Answer) error
}

func (w world) Resolve(_ context.Context, q dns.Question) (dns.Answer, error) {
	var a dns.Answer
	switch name := q.Name.String(); {
	case q.Name == dns.Root:
		a.Answer = []dns.RR{record(". 300 NS a.root-servers.example.")}
	case strings.HasPrefix(name, "example."):
		a.Answer = []dns.RR{record(name + ". 300 MX 10 mx." + name + ".")}
		a.Authentic = true
	case name == "2.0.0.127.bl.example.net":
		a.Answer = []dns.RR{record(name + ". 300 A 127.0.0.2")}
	default:
		a.Rcode = dns.NXDomain
	}
	if w.change != nil {
		if err := w.change(q, &a); err != nil {
			return dns.Answer{}, err
		}
	}
	return a, nil
}

// Each row is something about a resolver, the finding that shows it, and what it means.
func TestFindings(t *testing.T) {
	answer := func(name, record_ string) func(dns.Question, *dns.Answer) error {
		return func(q dns.Question, a *dns.Answer) error {
			if q.Name.String() == name {
				a.Rcode, a.Answer = dns.NoError, []dns.RR{record(name + ". 300 " + record_)}
			}
			return nil
		}
	}
	for _, tt := range []struct {
		why     string
		change  func(dns.Question, *dns.Answer) error
		id      string
		verdict Verdict
		text    string
		outcome Fit
	}{
		{"all is well", nil, "speed", Good, "3 names", IsFit},
		{"most names take more than a second", func(q dns.Question, _ *dns.Answer) error {
			time.Sleep(1100 * time.Millisecond)
			return nil
		}, "speed", Bad, "slow, over a second", NotFit},
		{"one name is slow: its own servers may be", func(q dns.Question, _ *dns.Answer) error {
			if q.Name.String() == "example.org" {
				time.Sleep(1100 * time.Millisecond)
			}
			return nil
		}, "speed", Note, "the slowest in 1.1s: slow", IsFit},
		{"one name fails", func(q dns.Question, _ *dns.Answer) error {
			if q.Name.String() == "example.org" {
				return errors.New("out of order")
			}
			return nil
		}, "speed", Bad, "1 without an answer: out of order", NotFit},
		{"it denies names that there are", func(q dns.Question, a *dns.Answer) error {
			*a = dns.Answer{Rcode: dns.NXDomain}
			return nil
		}, "speed", Bad, "MX is said to be NXDOMAIN", NotFit},
		{"it makes up addresses", func(q dns.Question, a *dns.Answer) error {
			if strings.HasPrefix(q.Name.String(), "mxward-") {
				a.Rcode, a.Answer = dns.NoError, []dns.RR{record(q.Name.FQDN() + " 60 A 192.0.2.99")}
			}
			return nil
		}, "nxdomain", Bad, "said to be NOERROR with 1 records", NotFit},
		{"it does not validate", func(q dns.Question, a *dns.Answer) error {
			a.Authentic = false
			return nil
		}, "dnssec", Note, "it strips signatures", IsFit},
		{"it passes signatures on", func(q dns.Question, a *dns.Answer) error {
			if a.Authentic = false; q.DNSSEC && q.Name.String() == "example.com" {
				a.Answer = append(a.Answer, record("example.com. 300 RRSIG MX 13 2 300 20300101000000 20200101000000 1 example.com. AAAA"))
			}
			return nil
		}, "dnssec", Note, "passes signatures on", IsFit},
		{"the list sees a public resolver", answer("2.0.0.127.bl.example.net", "A 127.255.255.254"), "list.bl.example.net", Bad, "it sees a public resolver", NotFit},
		{"the list has a code that nobody knows", answer("2.0.0.127.bl.example.net", "A 127.255.255.250"), "list.bl.example.net", Bad, "an error code", NotFit},
		{"a search page in the list's place", answer("2.0.0.127.bl.example.net", "A 192.0.2.99"), "list.bl.example.net", Bad, "somebody answers in the list's place", NotFit},
		{"the list is gone and lists everything: its own fault", answer("1.0.0.127.bl.example.net", "A 127.0.0.2"), "list.bl.example.net", Note, "lists everything", IsFit},
		{"the list denies its test entry", func(q dns.Question, a *dns.Answer) error {
			if q.Name.String() == "2.0.0.127.bl.example.net" {
				*a = dns.Answer{Rcode: dns.NXDomain}
			}
			return nil
		}, "list.bl.example.net", Bad, "test entry is not there", NotFit},
		{"the list does not answer: who knows why", func(q dns.Question, a *dns.Answer) error {
			if strings.HasSuffix(q.Name.String(), "bl.example.net") {
				return errors.New("no reply")
			}
			return nil
		}, "list.bl.example.net", Unknown, "no reply", IsFit},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				exam := Exam{Own: world{tt.change}, Questions: questions}
				report := exam.Run(t.Context())
				f := finding(t, report, "own", tt.id)
				if f.Verdict != tt.verdict || !strings.Contains(f.Text, tt.text) || report.Outcome != tt.outcome {
					t.Errorf("%s: %+v, want %s %q and %s", report.Outcome, f, tt.verdict, tt.text, tt.outcome)
				}
			})
		})
	}
}

func finding(t *testing.T, r Report, who, id string) Finding {
	t.Helper()
	for _, s := range r.Subjects {
		for _, f := range s.Findings {
			if s.Who == who && f.ID == id {
				return f
			}
		}
	}
	t.Fatalf("no finding %s of %s in %+v", id, who, r)
	return Finding{}
}

// Each row is a resolver of this host in some state.
func TestServers(t *testing.T) {
	for _, tt := range []struct {
		why     string
		how     dnstest.Behaviour
		outcome Fit
		tcp     Verdict
		edns    Verdict
	}{
		{"a good one", dnstest.Honest, IsFit, Good, Good},
		{"one that cuts everything over UDP", dnstest.Truncating, IsFit, Good, Good},
		{"one that says nothing: this host has no DNS", dnstest.Silent, Undetermined, Bad, Unknown},
		{"nobody listens", dnstest.Refusing, Undetermined, Bad, Unknown},
		{"no route", dnstest.NoRoute, Undetermined, Bad, Unknown},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n dnstest.Net
				n.Set("192.0.2.53", dnstest.Host{Resolver: world{}, Recursion: true, Behaviour: tt.how})
				exam := Exam{Servers: []netip.AddrPort{at("192.0.2.53:53")}, Dial: n.Dial, Questions: questions}
				began := time.Now()
				report := exam.Run(t.Context())
				if took := time.Since(began); took > Limit {
					t.Errorf("it took %v", took)
				}
				if report.Outcome != tt.outcome {
					t.Errorf("%+v, want %s", report, tt.outcome)
				}
				if f := finding(t, report, "192.0.2.53:53", "tcp"); f.Verdict != tt.tcp {
					t.Errorf("tcp: %+v, want %s", f, tt.tcp)
				}
				if f := finding(t, report, "192.0.2.53:53", "edns"); f.Verdict != tt.edns {
					t.Errorf("edns: %+v, want %s", f, tt.edns)
				}
			})
		})
	}
}

// A dead resolver beside our own that works is a fault of the host, and costs no more than
// the limit; our own is seen to reach a root server if one of them answers.
func TestDeadBesideOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n dnstest.Net
		n.Serve("192.0.2.1", world{})
		exam := Exam{
			Servers: []netip.AddrPort{at("192.0.2.53:53"), at("192.0.2.54:53"), at("192.0.2.55:53"), at("192.0.2.56:53")},
			Own:     world{}, Roots: []netip.AddrPort{at("192.0.2.9:53"), at("192.0.2.1:53")},
			Dial: n.Dial, Questions: questions,
		}
		began := time.Now()
		report := exam.Run(t.Context())
		if took := time.Since(began); took > Limit || report.Outcome != NotFit || len(report.Subjects) != maxSubjects {
			t.Errorf("%v, %s, %d subjects", took, report.Outcome, len(report.Subjects))
		}
		for _, id := range []string{"tcp", "edns", "speed", "nxdomain", "list.bl.example.net"} {
			if f := finding(t, report, "own", id); f.Verdict != Good {
				t.Errorf("%s: %+v", id, f)
			}
		}
	})
}

// What stands in resolv.conf, and who is asked.
func TestParseResolvConf(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"nameserver 192.0.2.53\n", "192.0.2.53:53"},
		{"# nameserver 192.0.2.1\nsearch example.com\nnameserver 192.0.2.53\nnameserver\t2001:db8::53\noptions edns0\n", "192.0.2.53:53 [2001:db8::53]:53"},
		{"nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n", "192.0.2.1:53 192.0.2.2:53 192.0.2.3:53"}, // libc takes three
		{"nameserver fe80::1%eth0\n", "[fe80::1%eth0]:53"},
		{"nameserver [192.0.2.53]:5353\n", "192.0.2.53:5353"},
		{"nameserver [192.0.2.53]:0\nnameserver [::1]:70000\n", "127.0.0.1:53"},
		{"nameserver dns.example.com\nnameserver\n", "127.0.0.1:53"},
		{"", "127.0.0.1:53"},
	} {
		var got []string
		for _, s := range ParseResolvConf(strings.NewReader(tt.text)) {
			got = append(got, s.String())
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%q: got %v, want %s", tt.text, got, tt.want)
		}
	}
}

// The standard questions can be asked.
func TestStandard(t *testing.T) {
	q := Standard()
	for i, zone := range []string{"zen.spamhaus.org", "bl.spamcop.net", "psbl.surriel.com", "bl.mailspike.net"} {
		if i >= len(q.Lists) || q.Lists[i].Zone.String() != zone { // their ids are promised
			t.Errorf("list %d is not %s", i, zone)
		}
	}
	if len(q.Names) < 3 || len(q.Lists) < 3 || q.NoSuch.IsZero() || q.Signed.Name.IsZero() {
		t.Errorf("%+v", q)
	}
}
