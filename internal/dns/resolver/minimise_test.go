package resolver

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

// asked gives what reached a server, in short.
func (w *world) asked(addr string) string {
	var all []string
	for _, a := range w.Asked(addr) {
		all = append(all, a.Question.String())
	}
	return strings.Join(all, ", ")
}

const deepZone = soa + `
@ 3600 NS ns1
ns1 3600 A 192.0.2.11
www 300 A 192.0.2.80
a.b.c.d 300 TXT "below empty non-terminals"
z.b.c.d 300 TXT "its sister"
_25._tcp.mx 300 TLSA 3 1 1 ` + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" + `
mx 300 A 192.0.2.25
mail._domainkey 300 TXT "v=DKIM1"
under.alias 300 A 192.0.2.81
alias 300 CNAME www
1.2.3.4.5.6.7.8.9.0.1.2.3.4.5.6.7.8.9.0.v6 300 PTR www
`

// deepWorld has example.com with names of many labels on one server.
func deepWorld(t *testing.T) *world {
	w := newWorld(t, "example 3600 NS ns1.example\nns1.example 3600 A 192.0.2.11\n", "", "")
	w.zone("192.0.2.11", "example.com", deepZone)
	return w
}

// What each server gets to see of a name.
func TestMinimisation(t *testing.T) {
	for _, tt := range []struct {
		question, answer string
		zone             string // what the zone's own server is asked
	}{
		{"www.example.com A", "A 192.0.2.80", "www.example.com A"},
		// the type goes only with the whole name
		{"a.b.c.d.example.com TXT", `TXT "below empty non-terminals"`,
			"d.example.com A, c.d.example.com A, b.c.d.example.com A, a.b.c.d.example.com TXT"},
		// underscores are no border
		{"_25._tcp.mx.example.com TLSA", "TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
			"mx.example.com A, _25._tcp.mx.example.com TLSA"},
		{"mail._domainkey.example.com TXT", `TXT "v=DKIM1"`, "mail._domainkey.example.com TXT"},
		// an alias may stand above other names
		{"under.alias.example.com A", "A 192.0.2.81", "alias.example.com A, under.alias.example.com A"},
	} {
		t.Run(tt.question, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := deepWorld(t)
				w.want(tt.question, dns.NoError, tt.answer)
				if got := w.asked(rootAddr); got != "com A" {
					t.Errorf("the root was asked %s", got)
				}
				if got := w.asked(comAddr); got != "example.com A" {
					t.Errorf("com was asked %s", got)
				}
				if got := w.asked("192.0.2.11"); got != tt.zone {
					t.Errorf("example.com was asked %s, want %s", got, tt.zone)
				}
			})
		})
	}
}

// What has been seen to be no border is not asked about again, for an hour.
func TestUncut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := deepWorld(t)
		w.want("a.b.c.d.example.com TXT", dns.NoError, `TXT "below empty non-terminals"`)
		w.want("mx.example.com A", dns.NoError, "A 192.0.2.25")
		w.Forget()
		w.want("z.b.c.d.example.com TXT", dns.NoError, `TXT "its sister"`)
		if _, err := w.ask("_25._tcp.mx.example.com TLSA"); err != nil {
			t.Error(err)
		}
		if got, want := w.asked("192.0.2.11"), "z.b.c.d.example.com TXT, _25._tcp.mx.example.com TLSA"; got != want {
			t.Errorf("asked %s, want %s", got, want)
		}
		// A zone that begins there all the same is found by the question for the name.
		w.zone("192.0.2.11", "example.com", soa+"@ 3600 NS ns1\nns1 3600 A 192.0.2.11\nd 300 NS ns.d\nns.d 300 A 192.0.2.12\n")
		w.zone("192.0.2.12", "d.example.com", soa+"@ NS ns\nns A 192.0.2.12\n*.b.c 300 TXT \"moved\"\n")
		w.want("y.b.c.d.example.com TXT", dns.NoError, `TXT "moved"`)
		w.Resolver.Flush(dns.Root)
		w.Forget()
		w.want("y.b.c.d.example.com TXT", dns.NoError, `TXT "moved"`)
		if n := len(w.Asked("192.0.2.12")); n != 3 {
			t.Errorf("%d questions after a flush, want 3", n)
		}
	})
	var u uncut
	for i := range maxUncut + 100 {
		u.add(dns.MustName(fmt.Sprintf("n%d.example.com", i)))
	}
	if len(u.m) > maxUncut {
		t.Errorf("%d names are remembered", len(u.m))
	}
}

// A name of many labels costs ten parts at most, however deep it is.
func TestMinimisationSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := deepWorld(t)
		w.want("1.2.3.4.5.6.7.8.9.0.1.2.3.4.5.6.7.8.9.0.v6.example.com PTR", dns.NoError, "PTR www.example.com.")
		if n := w.Total(); n > maxMinimised+1 || n < maxMinimised-2 {
			t.Errorf("%d questions, want about %d", n, maxMinimised+1)
		}
		seen := w.Asked("192.0.2.11")
		if seen[0].Question != question("v6.example.com A") || seen[1].Question != question("0.v6.example.com A") {
			t.Errorf("asked %v", seen)
		}
		w.Forget()
		long := strings.Repeat("a.", 110)
		w.want(long+"example.com A", dns.NXDomain)
		if n := w.Total(); n > maxMinimised+1 {
			t.Errorf("%d questions for a name of 112 labels", n)
		}
	})
}

// Each row is a server that does not know what to say about a part of a name. It is asked
// for all of it at once, and no harm is done.
func TestRelaxedMinimisation(t *testing.T) {
	full := dns.Answer{Authoritative: true, Answer: records(`a.b.c.example.com. 60 TXT "here"`)}
	for _, tt := range []struct {
		why   string
		part  dns.Answer
		asked int // questions to the server for one name; for the next one always one less
		next  int
	}{
		{"NXDOMAIN, as rbldnsd says", dns.Answer{Rcode: dns.NXDomain, Authoritative: true, Authority: records("example.com. 60 SOA a. b. 1 2 3 4 60")}, 2, 2},
		{"SERVFAIL", dns.Answer{Rcode: dns.ServFail}, 2, 1},
		{"REFUSED", dns.Answer{Rcode: dns.Refused}, 2, 1},
		{"NOTIMP", dns.Answer{Rcode: dns.NotImp}, 2, 1},
		{"an upward referral", dns.Answer{Authority: records(". 60 NS a.root-servers.example.")}, 2, 1},
		{"nothing, without authority", dns.Answer{}, 2, 1},
		{"an alias", dns.Answer{Authoritative: true, Answer: records("c.example.com. 60 CNAME example.com.")}, 2, 2},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := deepWorld(t)
				w.script("192.0.2.11", func(q dns.Question) dns.Answer {
					if q.Type == dns.TypeTXT {
						return full
					}
					return tt.part
				})
				w.want("a.b.c.example.com TXT", dns.NoError, `TXT "here"`)
				if n := len(w.Asked("192.0.2.11")); n != tt.asked {
					t.Errorf("%d questions (%s), want %d", n, w.asked("192.0.2.11"), tt.asked)
				}
				w.Forget()
				full.Answer = records(`z.b.c.example.com. 60 TXT "here"`)
				w.want("z.b.c.example.com TXT", dns.NoError, `TXT "here"`)
				if n := len(w.Asked("192.0.2.11")); n != tt.next {
					t.Errorf("%d questions (%s) for the next name, want %d", n, w.asked("192.0.2.11"), tt.next)
				}
				full.Answer = records(`a.b.c.example.com. 60 TXT "here"`)
			})
		})
	}
	// One that drops questions for parts answers the second packet, which is whole.
	synctest.Test(t, func(t *testing.T) {
		w := deepWorld(t)
		zone := dnstest.Zone(t, "example.com", deepZone)
		w.Serve("192.0.2.11", zone)
		w.forgersAt("192.0.2.11", func(q []byte) [][]byte {
			if !strings.Contains(strings.ToLower(string(q)), "\x01a\x01b") {
				return nil
			}
			return [][]byte{answerTo(q, `a.b.c.d.example.com. 60 TXT "here"`)}
		})
		spent := took(func() { w.want("a.b.c.d.example.com TXT", dns.NoError, `TXT "here"`) })
		if spent > packetTimeout {
			t.Errorf("it took %s", spent)
		}
	})
}

func TestNoMinimisation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // switched off
		w := deepWorld(t)
		w.Resolver.NoMinimisation = true
		w.want("a.b.c.d.example.com TXT", dns.NoError, `TXT "below empty non-terminals"`)
		if got := w.asked(rootAddr) + w.asked(comAddr) + w.asked("192.0.2.11"); got != strings.Repeat("a.b.c.d.example.com TXT", 3) {
			t.Errorf("asked %s", got)
		}
	})
	synctest.Test(t, func(t *testing.T) { // a block list with stub servers, and what it delegates
		w := deepWorld(t)
		w.zone("192.0.2.53", "bl.example", soa+"@ NS ns\nns A 192.0.2.53\n2.0.0.127 60 A 127.0.0.2\nsub NS ns.sub\nns.sub A 192.0.2.54\n")
		w.zone("192.0.2.54", "sub.bl.example", soa+"@ NS ns\nns A 192.0.2.54\n2.0.0.127 60 A 127.0.0.2\n")
		w.Resolver.Stubs = []Stub{{dns.MustName("bl.example"), []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}}}
		w.want("2.0.0.127.bl.example A", dns.NoError, "A 127.0.0.2")
		w.want("2.0.0.127.sub.bl.example A", dns.NoError, "A 127.0.0.2")
		for _, at := range []string{"192.0.2.53", "192.0.2.54"} {
			if slices.ContainsFunc(w.Asked(at), func(a dnstest.Asked) bool { return !strings.HasPrefix(a.Question.Name.String(), "2.0.0.127.") }) {
				t.Errorf("%s was asked %s", at, w.asked(at))
			}
		}
	})
}

// The name that a zone is asked for is never shown above it, also where a zone moves.
func TestMinimisationAfterMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := deepWorld(t)
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		w.Set("192.0.2.11", dnstest.Host{Behaviour: dnstest.Lame})
		time.Sleep(10 * time.Minute)
		w.zone(comAddr, "com", soa+"@ NS ns\nns A 192.0.2.2\nexample 86400 NS ns9.example\nns9.example 86400 A 192.0.2.19\n")
		w.zone("192.0.2.19", "example.com", deepZone)
		w.Forget()
		w.want("a.b.c.d.example.com TXT", dns.NoError, `TXT "below empty non-terminals"`)
		if got := w.asked(comAddr); got != "example.com A" {
			t.Errorf("com was asked %s", got)
		}
	})
}
