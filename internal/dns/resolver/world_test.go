package resolver

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

// world is a small internet with one root server at 192.0.2.1, the servers of com, net and
// org at .2, .3 and .4, and whatever a test adds.
type world struct {
	t *testing.T
	dnstest.Net
	Resolver *Resolver
}

const (
	rootAddr = "192.0.2.1"
	comAddr  = "192.0.2.2"
	netAddr  = "192.0.2.3"
	orgAddr  = "192.0.2.4"
)

const soa = "@ 3600 SOA ns hostmaster 1 7200 900 1209600 300\n"

// newWorld builds the top; com, net and org are what stands in these zones besides SOA and
// NS.
func newWorld(t *testing.T, com, net, org string) *world {
	t.Helper()
	w := &world{t: t}
	w.zone(rootAddr, ".", `
@    86400 SOA ns hostmaster 1 7200 900 1209600 3600
@    86400 NS a.root-servers.example.
a.root-servers.example. 86400 A 192.0.2.1
com. 86400 NS ns.com.
net. 86400 NS ns.net.
org. 86400 NS ns.org.
ns.com. 86400 A 192.0.2.2
ns.net. 86400 A 192.0.2.3
ns.org. 86400 A 192.0.2.4
`)
	w.zone(comAddr, "com", "@ 86400 SOA ns hostmaster 1 7200 900 1209600 900\n@ 86400 NS ns\nns 86400 A 192.0.2.2\n"+com)
	w.zone(netAddr, "net", "@ 86400 SOA ns hostmaster 1 7200 900 1209600 900\n@ 86400 NS ns\nns 86400 A 192.0.2.3\n"+net)
	w.zone(orgAddr, "org", "@ 86400 SOA ns hostmaster 1 7200 900 1209600 900\n@ 86400 NS ns\nns 86400 A 192.0.2.4\n"+org)
	w.Resolver = &Resolver{
		Hints: []Hint{{dns.MustName("a.root-servers.example"), netip.MustParseAddr(rootAddr)}},
		Dial:  w.Dial,
	}
	return w
}

func (w *world) zone(addr, origin, text string) {
	w.t.Helper()
	w.Serve(addr, dnstest.Zone(w.t, origin, text))
}

// behave puts a server with a zone that behaves in some way.
func (w *world) behave(addr string, b dnstest.Behaviour, origin, text string) {
	w.t.Helper()
	w.Set(addr, dnstest.Host{Resolver: dnstest.Zone(w.t, origin, text), Behaviour: b})
}

// script puts a server that says whatever say does.
func (w *world) script(addr string, say func(q dns.Question) dns.Answer) {
	w.Serve(addr, dns.ResolverFunc(func(_ context.Context, q dns.Question) (dns.Answer, error) {
		return say(q), nil
	}))
}

// question reads "www.example.com A".
func question(s string) dns.Question {
	name, typ, _ := strings.Cut(s, " ")
	t, ok := dns.ParseType(typ)
	if !ok {
		panic("not a question: " + s)
	}
	return dns.Question{Name: dns.MustName(name), Type: t}
}

func (w *world) ask(q string) (dns.Answer, error) {
	return w.Resolver.Resolve(context.Background(), question(q))
}

// want asks and compares rcode and records; the records are of the answer section, in
// short: "A 192.0.2.80".
func (w *world) want(q string, rcode dns.Rcode, records ...string) dns.Answer {
	w.t.Helper()
	answer, err := w.ask(q)
	if err != nil {
		w.t.Fatalf("%s: %v", q, err)
	}
	if got := short(answer.Answer); answer.Rcode != rcode || !slices.Equal(got, records) {
		w.t.Fatalf("%s: got %s %q, want %s %q", q, answer.Rcode, got, rcode, records)
	}
	return answer
}

// wantTrouble asks and wants an error of a class.
func (w *world) wantTrouble(q string, trouble dns.Trouble) *dns.Error {
	w.t.Helper()
	answer, err := w.ask(q)
	var e *dns.Error
	if !errors.As(err, &e) {
		w.t.Fatalf("%s: got %v, %v, want trouble %q", q, answer, err, trouble)
	}
	if e.Trouble != trouble {
		w.t.Fatalf("%s: got %v, want trouble %q", q, err, trouble)
	}
	if e.Question != question(q) {
		w.t.Fatalf("%s: the error speaks of %s", q, e.Question)
	}
	return e
}

// short gives the records of a section without owner, TTL and class.
func short(section []dns.RR) []string {
	var out []string
	for _, rr := range section {
		fields := strings.Fields(rr.String())
		out = append(out, strings.Join(fields[3:], " "))
	}
	slices.SortStableFunc(out, func(a, b string) int {
		if strings.HasPrefix(a, "CNAME") || strings.HasPrefix(b, "CNAME") || strings.HasPrefix(a, "DNAME") || strings.HasPrefix(b, "DNAME") {
			return 0
		}
		return strings.Compare(a, b)
	})
	return out
}

// records parses the lines of a section.
func records(lines ...string) []dns.RR {
	var section []dns.RR
	for _, line := range lines {
		rr, err := wire.NewRR(line)
		if err != nil {
			panic(err)
		}
		section = append(section, rr)
	}
	return section
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// took gives the time that f takes; inside a bubble it is virtual.
func took(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}
