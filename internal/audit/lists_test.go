package audit

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/blocklist"
)

// zooListing is what a zoo's list says of an address.
func zooListing(name, answer string, err error) Listing {
	for _, l := range zooLists() {
		if l.Name != name {
			continue
		}
		test := "127.0.0.2"
		switch l.Kind {
		case blocklist.Allowed:
			test = "127.0.5.2"
		case blocklist.Domains:
			test = "127.0.1.2"
		}
		out := Listing{List: l, Target: "192.0.2.25", Answer: blocklist.Answer{Err: err}, Probe: blocklist.Probe{Test: blocklist.Answer{Addrs: []netip.Addr{netip.MustParseAddr(test)}}}}
		if answer != "" {
			out.Answer.Addrs = []netip.Addr{netip.MustParseAddr(answer)}
		}
		return out
	}
	panic(name)
}

// TestListSeverity: each row is what lists say of one address, and how bad that is.
func TestListSeverity(t *testing.T) {
	const one, two = "one.example.net", "two.example.net"
	lost := &dns.Error{Trouble: dns.NoReply}
	for _, tt := range []struct {
		why      string
		said     []Listing
		status   Status
		severity Severity
		detail   string
	}{
		{"a major list", []Listing{zooListing("Major", "127.0.0.2", nil)}, Fail, Error, "Major has 192.0.2.25 (127.0.0.2: spam)"},
		{"one list among two", []Listing{zooListing(one, "127.0.0.2", nil), zooListing(two, "", nil)}, Fail, Warning, one},
		{"two lists", []Listing{zooListing(one, "127.0.0.2", nil), zooListing(two, "127.0.0.3", nil)}, Fail, Error, two},
		{"a minor list", []Listing{zooListing("Minor", "127.0.0.2", nil)}, Fail, Notice, "trapped"},
		{"one list and a minor one", []Listing{zooListing(one, "127.0.0.2", nil), zooListing("Minor", "127.0.0.2", nil)}, Fail, Warning, "trapped"},
		{"a domain that is watched", []Listing{zooListing("Domains", "127.0.1.3", nil)}, Fail, Notice, "watched"},
		{"a policy is no listing", []Listing{zooListing("Major", "127.0.0.10", nil)}, Pass, "", "1 of 1 lists answer"},
		{"an allow list is praise", []Listing{zooListing(one, "", nil), zooListing("Good", "127.0.5.2", nil)}, Pass, "", "2 of 2 lists answer; Good has 192.0.2.25 (127.0.5.2: trust medium)"},
		{"an error code", []Listing{zooListing("Major", "127.255.255.254", nil), zooListing(one, "", nil)}, Pass, "", "1 of 2 lists answer"},
		{"the only list fails", []Listing{zooListing(one, "", lost)}, Unknown, "", "no list could be asked"},
	} {
		f := &Facts{Domain: dns.MustName("example.com")}
		v := listed(f, tt.said, MXHost, blocklist.Listed, blocklist.Mixed)
		if v.status != tt.status || v.severity != tt.severity || !strings.Contains(v.detail, tt.detail) {
			t.Errorf("%s: %+v", tt.why, v)
		}
		if v.status == Unknown && !v.aside {
			t.Errorf("%s: the domain is left undetermined", tt.why)
		}
	}
}

// TestListWords: a finding has the list's own words, tamed, and where to go.
func TestListWords(t *testing.T) {
	l := zooListing("Major", "127.0.0.2", nil)
	l.List.Removal = "https://bl.example.net/"
	l.Texts = []string{"see \x1b[31m" + strings.Repeat("y", 5000)}
	f := &Facts{Domain: dns.MustName("example.com"), MX: Fact[dns.MX]{Set: dns.Set[dns.MX]{Exists: true}}, Hosts: []Host{{Name: dns.MustName("mx1.example.com")}}, Lists: Lists{Asked: true, Addrs: []Listing{l}}}
	for _, found := range Judge(f, listChecks()) {
		if found.ID != "dnsbl.listed-ip" {
			continue
		}
		if found.Target != "192.0.2.25" || !strings.Contains(found.Detail, `"see ?[31m`) || len(found.Detail) > 2*maxListDetail || !strings.Contains(found.Fix.Text, "https://bl.example.net/") {
			t.Errorf("%+v", found)
		}
	}
	f.Lists = Lists{}
	for _, found := range Judge(f, listChecks()) {
		if found.Status != Skipped {
			t.Errorf("no lists were named, and %s is %s", found.ID, found.Status)
		}
	}
}

// TestListsExit: what lists say, or do not, never makes a check fail that asks for errors, unless
// somebody is listed; and our own side is never held against the domain.
func TestListsExit(t *testing.T) {
	for _, a := range listZoo() {
		_, findings := a.audit(t)
		wants := strings.Contains(a.fails, "dnsbl.listed-ip") && strings.Contains(a.why, "IPv6") || a.why == "the domain on a list" // by the major list
		var lists []Finding
		for _, f := range findings {
			if strings.HasPrefix(f.ID, "dnsbl.") {
				lists = append(lists, f)
			}
		}
		if Failed(lists, Error) != wants || Inconclusive(lists, Checks(), Error) {
			t.Errorf("%s: failed is %t, inconclusive %t", a.why, Failed(lists, Error), Inconclusive(lists, Checks(), Error))
		}
		if strings.Contains(a.fails, "list-unusable") && Failed(lists, Info) {
			t.Errorf("%s: it is held against the domain", a.why)
		}
	}
}

// listServer counts what is asked below a list's zone.
type listServer struct {
	dns.Resolver
	mu    sync.Mutex
	asked map[string]int
	err   error
	wait  time.Duration
}

func (s *listServer) Resolve(ctx context.Context, q dns.Question) (dns.Answer, error) {
	if !strings.HasSuffix(q.Name.String(), "example.net") {
		return s.Resolver.Resolve(ctx, q)
	}
	s.mu.Lock()
	if s.asked == nil {
		s.asked = map[string]int{}
	}
	s.asked[q.String()]++
	wait := s.wait
	s.mu.Unlock()
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return dns.Answer{}, ctx.Err()
	}
	if s.err != nil {
		return dns.Answer{}, s.err
	}
	return s.Resolver.Resolve(ctx, q)
}

// count gives how often a question was asked.
func (s *listServer) count(q string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[q]
}

func listed1(t *testing.T) (*Auditor, *listServer) {
	t.Helper()
	auditor := animal{lists: []blocklist.List{plainList("one")}, net: listsAlive}.world(t)
	server := &listServer{Resolver: auditor.Resolver}
	auditor.Resolver, auditor.Probes = server, &Probes{}
	return auditor, server
}

// TestProbesShared: however many domains are looked at, and at once, a list's test entries are
// asked for once in ten minutes; and each domain's evidence has them.
func TestProbesShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auditor, server := listed1(t)
		test := "2.0.0.127.one.example.net A"
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				f := auditor.Gather(t.Context(), dns.MustName("example.com"))
				if len(f.Lists.Addrs) != 2 || len(f.evidence(f.Lists.Addrs[0].Tests)) != 2 {
					t.Errorf("%+v", f.Lists)
				}
			})
		}
		all.Wait()
		if server.count(test) != 1 || server.count("25.2.0.192.one.example.net A") != 8 {
			t.Errorf("asked %d and %d times", server.count(test), server.count("25.2.0.192.one.example.net A"))
		}
		time.Sleep(probedFor + time.Second)
		auditor.Gather(t.Context(), dns.MustName("example.com"))
		if server.count(test) != 2 {
			t.Errorf("it is asked for %d times after ten minutes", server.count(test))
		}
	})
}

// TestSilentLists: lists that say nothing cost so long and no more, are not asked for addresses,
// and are tried again sooner.
func TestSilentLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auditor, server := listed1(t)
		server.wait = time.Hour // before anybody asks
		began := time.Now()
		f := auditor.Gather(t.Context(), dns.MustName("example.com"))
		if took := time.Since(began); took > listsLimit+time.Second {
			t.Errorf("it took %s", took)
		}
		for _, found := range Judge(f, listChecks()) {
			if found.Status == Fail || found.Status == Pass && found.ID != "dnsbl.list-unusable" {
				t.Errorf("%s: %s %s: %s", found.ID, found.Status, found.Blame, found.Detail)
			}
		}
		if server.count("25.2.0.192.one.example.net A") != 0 {
			t.Error("a list that is silent is asked for addresses")
		}
		server.mu.Lock()
		server.wait = 0
		server.mu.Unlock()
		time.Sleep(silentFor + listsLimit)
		f = auditor.Gather(t.Context(), dns.MustName("example.com"))
		if v := f.Lists.Addrs[0].verdict(); v.Unusable != "" {
			t.Errorf("a minute later: %+v", v)
		}
	})
}

// TestGivenUp: a domain that is given up does not make a list silent for the others.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auditor, server := listed1(t)
		server.wait = time.Second
		ctx, cancel := context.WithCancel(t.Context())
		go func() { time.Sleep(500 * time.Millisecond); cancel() }()
		auditor.Gather(ctx, dns.MustName("example.com"))
		f := auditor.Gather(t.Context(), dns.MustName("example.com"))
		if v := f.Lists.Addrs[0].verdict(); v.Unusable != "" || server.count("2.0.0.127.one.example.net A") != 1 {
			t.Errorf("%+v", v)
		}
	})
}

// TestManyAddresses: lists are asked for so many addresses, and it is said what was left out.
func TestManyAddresses(t *testing.T) {
	var more strings.Builder
	for i := range 20 {
		fmt.Fprintf(&more, "mx1 A 203.0.113.%d\n", i+100)
	}
	facts, findings := animal{add: more.String() + "mx1 A 10.0.0.1\n", lists: []blocklist.List{plainList("one")}, net: listsAlive}.audit(t)
	if len(facts.Lists.Addrs) != maxListed || facts.Lists.LeftOut != 23-maxListed { // mx1 has 21 and one of IPv6, mx2 has one
		t.Errorf("%d asked, %d left out", len(facts.Lists.Addrs), facts.Lists.LeftOut)
	}
	for _, f := range findings {
		if f.ID == "dnsbl.listed-ip" && f.Status == Skipped && strings.Contains(f.Detail, "more addresses") {
			return
		}
	}
	t.Error("it is not said that addresses are left out")
}

// TestManyNames: what a zone's records ask for below the domain is bounded.
func TestManyNames(t *testing.T) {
	var more strings.Builder
	for i := range 15 {
		fmt.Fprintf(&more, "@ MX 30 many%d\nmany%d CNAME mx1\n_imaps._tcp SRV 0 0 %d host%d\nhost%d A 192.0.2.25\n", i, i, 2000+i, i, i)
	}
	facts, _ := animal{add: more.String(), certs: certOf("example.com", time.Hour)}.audit(t)
	if n := facts.Names; len(n.Besides) != maxBesides || len(facts.Challenges) != maxChallenges {
		t.Errorf("%d aliases, %d challenges", len(n.Besides), len(facts.Challenges))
	}
	if p := facts.Programs; len(p.Targets) != maxTargets || len(p.Certs) != maxCerts {
		t.Errorf("%d targets, %d certificates", len(p.Targets), len(p.Certs))
	}
}

// TestSlowCert: a server that takes a connection and says nothing costs so long; one that talks of
// something else is no server of TLS; addresses of this host are not connected to.
func TestSlowCert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := &CertLook{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			client, server := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, server) }()
			return client, nil
		}}
		began := time.Now()
		if _, err := silent.Leaf(t.Context(), netip.MustParseAddrPort("192.0.2.25:993"), dns.MustName("mx1.example.com")); err == nil || time.Since(began) > certTimeout {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		plain := &CertLook{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			client, server := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, server) }()
			go func() { _, _ = io.WriteString(server, "* OK IMAP4rev2 ready\r\n"); server.Close() }()
			return client, nil
		}}
		if _, err := plain.Leaf(t.Context(), netip.MustParseAddrPort("192.0.2.25:993"), dns.MustName("mx1.example.com")); err == nil {
			t.Error("it has a certificate")
		}
		auditor := animal{drop: []string{"mx1 A"}, add: "mx1 A 127.0.0.1\n", certs: &CertLook{Dial: func(_ context.Context, _, address string) (net.Conn, error) {
			t.Errorf("%s is connected to", address)
			return nil, io.EOF
		}}}.world(t)
		auditor.Gather(t.Context(), dns.MustName("example.com"))
	})
}

// TestMadeUp: a resolver that makes up MX records for every name is no wildcard of the zone.
func TestMadeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auditor := animal{}.world(t)
		honest := auditor.Resolver
		auditor.Server = netip.MustParseAddrPort(resolverAt + ":53")
		auditor.Resolver = dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
			answer, err := honest.Resolve(ctx, q)
			if err == nil && answer.Rcode == dns.NXDomain && q.Type == dns.TypeMX {
				answer = dns.Answer{Answer: []dns.RR{rr(q.Name.String() + " 60 MX 10 search.example.net.")}}
			}
			return answer, err
		})
		for _, f := range Judge(auditor.Gather(t.Context(), dns.MustName("example.com")), zoneChecks()) {
			if f.ID == "zone.wildcard-mail" && (f.Status != Unknown || f.Blame != LocalResolver) {
				t.Errorf("%s %s: %s", f.Status, f.Blame, f.Detail)
			}
		}
	})
}
