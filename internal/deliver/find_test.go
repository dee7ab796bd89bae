package deliver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/mail"
)

// world is the DNS of a test: records below the root, and questions that get no answer,
// written "mx.example.com A".
func world(t testing.TB, records string, dark ...string) dns.Resolver {
	t.Helper()
	z := dnstest.Zone(t, ".", "$TTL 300\n. SOA ns. hostmaster. 1 3600 600 86400 300\n. NS ns.\nns. A 192.0.2.53\n"+records)
	return dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
		if err := ctx.Err(); err != nil {
			return dns.Answer{}, err
		}
		if slices.Contains(dark, q.String()) {
			return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.NoReply}
		}
		return z.Resolve(ctx, q)
	})
}

// reversed is a shuffle that can be foretold.
func reversed(n int, swap func(i, j int)) {
	for i := range n / 2 {
		swap(i, n-1-i)
	}
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func addrs(s ...string) []netip.Addr {
	var all []netip.Addr
	for _, a := range s {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

func names(s ...string) []dns.Name {
	var all []dns.Name
	for _, n := range s {
		all = append(all, dns.MustName(n))
	}
	return all
}

const twoHosts = "mx1.example.com. A 192.0.2.1\nmx2.example.com. A 192.0.2.2\n"

func TestFind(t *testing.T) {
	const to = "user@example.com"
	tests := []struct {
		about   string // what the row proves
		records string
		dark    []string
		to      string // "": user@example.com
		finder  Finder
		hops    string // "preference host address", one a line
		notes   string // ids in order
		reply   string // of the error
	}{
		// The list and its order.
		{about: "one MX, one address",
			records: "example.com. MX 10 mx1.example.com.\n" + twoHosts,
			hops:    "10 mx1.example.com 192.0.2.1"},
		{about: "the lower number comes first, whatever the order of the records",
			records: "example.com. MX 20 mx1.example.com.\nexample.com. MX 10 mx2.example.com.\n" + twoHosts,
			hops:    "10 mx2.example.com 192.0.2.2\n20 mx1.example.com 192.0.2.1"},
		{about: "equal preference is shuffled",
			records: "example.com. MX 10 mx1.example.com.\nexample.com. MX 10 mx2.example.com.\n" + twoHosts,
			hops:    "10 mx2.example.com 192.0.2.2\n10 mx1.example.com 192.0.2.1"},
		{about: "only within the tie",
			records: "example.com. MX 5 mx3.example.com.\nexample.com. MX 10 mx1.example.com.\nexample.com. MX 10 mx2.example.com.\nexample.com. MX 20 mx4.example.com.\n" +
				"mx3.example.com. A 192.0.2.3\nmx4.example.com. A 192.0.2.4\n" + twoHosts,
			hops: "5 mx3.example.com 192.0.2.3\n10 mx2.example.com 192.0.2.2\n10 mx1.example.com 192.0.2.1\n20 mx4.example.com 192.0.2.4"},
		{about: "preferences are numbers, not texts, up to the last",
			records: "example.com. MX 65535 mx1.example.com.\nexample.com. MX 9 mx2.example.com.\n" + twoHosts,
			hops:    "9 mx2.example.com 192.0.2.2\n65535 mx1.example.com 192.0.2.1"},
		{about: "every address of a host is tried, in the resolver's order",
			records: "example.com. MX 10 mx.example.com.\nmx.example.com. A 192.0.2.9\nmx.example.com. A 192.0.2.1\n",
			hops:    "10 mx.example.com 192.0.2.9\n10 mx.example.com 192.0.2.1"},
		{about: "the families take turns, IPv6 first, and the longer one ends the list",
			records: "example.com. MX 10 mx.example.com.\nmx.example.com. A 192.0.2.1\nmx.example.com. A 192.0.2.2\nmx.example.com. A 192.0.2.3\nmx.example.com. AAAA 2001:db8::1\nmx.example.com. AAAA 2001:db8::2\n",
			hops:    "10 mx.example.com 2001:db8::1\n10 mx.example.com 192.0.2.1\n10 mx.example.com 2001:db8::2\n10 mx.example.com 192.0.2.2\n10 mx.example.com 192.0.2.3"},
		{about: "all addresses of a host come before the next host",
			records: "example.com. MX 10 mx.example.com.\nexample.com. MX 20 mx2.example.com.\nmx.example.com. A 192.0.2.1\nmx.example.com. AAAA 2001:db8::1\n" + twoHosts,
			hops:    "10 mx.example.com 2001:db8::1\n10 mx.example.com 192.0.2.1\n20 mx2.example.com 192.0.2.2"},
		{about: "a host with IPv6 only",
			records: "example.com. MX 10 mx.example.com.\nmx.example.com. AAAA 2001:db8::1\n",
			hops:    "10 mx.example.com 2001:db8::1"},
		{about: "an IPv4-mapped address is the IPv4 address, and so a duplicate",
			records: "example.com. MX 10 mx.example.com.\nmx.example.com. AAAA ::ffff:192.0.2.1\nmx.example.com. A 192.0.2.1\n",
			hops:    "10 mx.example.com 192.0.2.1", notes: "mx.same-address"},
		{about: "an address that two hosts share is tried once, at the better place",
			records: "example.com. MX 10 mx1.example.com.\nexample.com. MX 20 mx3.example.com.\nmx3.example.com. A 192.0.2.1\n" + twoHosts,
			hops:    "10 mx1.example.com 192.0.2.1", notes: "mx.same-address"},
		{about: "a host listed twice counts at its better preference",
			records: "example.com. MX 10 mx1.example.com.\nexample.com. MX 20 mx1.example.com.\n" + twoHosts,
			hops:    "10 mx1.example.com 192.0.2.1", notes: "mx.duplicate"},
		{about: "the case of names is nothing",
			records: "example.com. MX 10 MX1.Example.COM.\n" + twoHosts, to: "User@EXAMPLE.com",
			hops: "10 mx1.example.com 192.0.2.1"},
		{about: "a domain that is an alias has its target's MX",
			records: "example.com. CNAME example.net.\nexample.net. MX 10 mx1.example.com.\n" + twoHosts,
			hops:    "10 mx1.example.com 192.0.2.1"},
		{about: "a wildcard's MX serves a name below it",
			records: "*.example.com. MX 10 mx1.example.com.\n" + twoHosts, to: "user@any.example.com",
			hops: "10 mx1.example.com 192.0.2.1"},

		// No MX.
		{about: "no MX: the domain's own addresses serve, with preference 0",
			records: "example.com. A 192.0.2.7\nexample.com. AAAA 2001:db8::7\n",
			hops:    "0 example.com 2001:db8::7\n0 example.com 192.0.2.7", notes: "mx.implicit"},
		{about: "no MX and no address is for good",
			records: "example.com. TXT \"x\"\n",
			notes:   "mx.implicit mx.no-address", reply: "550 5.4.4"},
		{about: "no MX, and the address cannot be looked up: later",
			records: "example.com. TXT \"x\"\n", dark: []string{"example.com A", "example.com AAAA"},
			notes: "mx.implicit mx.temperror", reply: "451 4.4.3"},
		{about: "no MX, and only one family has no answer: the other serves",
			records: "example.com. A 192.0.2.7\n", dark: []string{"example.com AAAA"},
			hops: "0 example.com 192.0.2.7", notes: "mx.implicit"},
		{about: "no MX, no A, and AAAA has no answer: there may be one",
			records: "example.com. TXT \"x\"\n", dark: []string{"example.com AAAA"},
			notes: "mx.implicit mx.temperror", reply: "451 4.4.3"},
		{about: "where there is an MX, the domain's own address is never tried",
			records: "example.com. A 192.0.2.7\nexample.com. MX 10 gone.example.com.\n",
			notes:   "mx.nxdomain", reply: "550 5.4.4"},
		{about: "a domain that does not exist is for good",
			records: twoHosts, to: "user@nobody.example.org", reply: "550 5.1.2"},
		{about: "an alias to nowhere does not exist either",
			records: "example.com. CNAME gone.example.net.\n" + twoHosts, reply: "550 5.1.2"},
		{about: "an MX question without an answer: later, and no look at the address",
			records: "example.com. A 192.0.2.7\n", dark: []string{"example.com MX"}, reply: "451 4.4.3"},

		// Null MX (RFC 7505).
		{about: "a null MX refuses for good, though there is an address",
			records: "example.com. MX 0 .\nexample.com. A 192.0.2.7\n",
			notes:   "mx.null", reply: "556 5.1.10"},
		{about: "its preference is nothing",
			records: "example.com. MX 10 .\n", notes: "mx.null", reply: "556 5.1.10"},
		{about: "a null MX beside others is ignored",
			records: "example.com. MX 0 .\nexample.com. MX 10 mx1.example.com.\n" + twoHosts,
			hops:    "10 mx1.example.com 192.0.2.1", notes: "mx.null-mixed"},

		// Hosts that are not as they should be.
		{about: "an MX that names an address is noted and tried",
			records: "example.com. MX 10 192.0.2.1.\nexample.com. MX 20 mx2.example.com.\n" + twoHosts,
			hops:    "10 - 192.0.2.1\n20 mx2.example.com 192.0.2.2", notes: "mx.ip-literal"},
		{about: "an IPv6 address as a name, too",
			records: "example.com. MX 10 2001:db8::1.\n",
			hops:    "10 - 2001:db8::1", notes: "mx.ip-literal"},
		{about: "an MX that is an alias is noted and followed",
			records: "example.com. MX 10 mail.example.com.\nmail.example.com. CNAME mx1.example.com.\n" + twoHosts,
			hops:    "10 mail.example.com 192.0.2.1", notes: "mx.cname"},
		{about: "an alias to nowhere is skipped",
			records: "example.com. MX 10 mail.example.com.\nmail.example.com. CNAME gone.example.com.\nexample.com. MX 20 mx2.example.com.\n" + twoHosts,
			hops:    "20 mx2.example.com 192.0.2.2", notes: "mx.cname mx.nxdomain"},
		{about: "a host that does not exist is skipped",
			records: "example.com. MX 10 gone.example.com.\nexample.com. MX 20 mx2.example.com.\n" + twoHosts,
			hops:    "20 mx2.example.com 192.0.2.2", notes: "mx.nxdomain"},
		{about: "a host without an address is skipped",
			records: "example.com. MX 10 txt.example.com.\nexample.com. MX 20 mx2.example.com.\ntxt.example.com. TXT x\n" + twoHosts,
			hops:    "20 mx2.example.com 192.0.2.2", notes: "mx.no-address"},
		{about: "no host has an address: for good",
			records: "example.com. MX 10 gone.example.com.\nexample.com. MX 20 txt.example.com.\ntxt.example.com. TXT x\n",
			notes:   "mx.nxdomain mx.no-address", reply: "550 5.4.4"},
		{about: "a host that cannot be looked up is passed over while another can",
			records: "example.com. MX 10 mx1.example.com.\nexample.com. MX 20 mx2.example.com.\n" + twoHosts, dark: []string{"mx1.example.com A", "mx1.example.com AAAA"},
			hops: "20 mx2.example.com 192.0.2.2", notes: "mx.temperror"},
		{about: "no host can be looked up: later",
			records: "example.com. MX 10 mx1.example.com.\n" + twoHosts, dark: []string{"mx1.example.com A", "mx1.example.com AAAA"},
			notes: "mx.temperror", reply: "451 4.4.3"},
		{about: "one host is gone for good and one cannot be looked up: later",
			records: "example.com. MX 10 gone.example.com.\nexample.com. MX 20 mx2.example.com.\n" + twoHosts, dark: []string{"mx2.example.com A", "mx2.example.com AAAA"},
			notes: "mx.nxdomain mx.temperror", reply: "451 4.4.3"},
		{about: "0.0.0.0 and :: would be ourselves: skipped",
			records: "example.com. MX 10 mx.example.com.\nmx.example.com. A 0.0.0.0\nmx.example.com. AAAA ::\nmx.example.com. A 192.0.2.1\n",
			hops:    "10 mx.example.com 192.0.2.1", notes: "mx.private-address mx.private-address"},
		{about: "multicast and broadcast are no hosts, and nothing is left",
			records: "example.com. MX 10 mx.example.com.\nmx.example.com. A 224.0.0.1\nmx.example.com. A 255.255.255.255\nmx.example.com. AAAA ff02::1\n",
			notes:   "mx.private-address mx.private-address mx.private-address mx.no-address", reply: "550 5.4.4"},

		{about: "a private address is noted and tried",
			records: "example.com. MX 10 mx.example.com.\nmx.example.com. A 10.0.0.1\n",
			hops:    "10 mx.example.com 10.0.0.1", notes: "mx.private-address"},

		// Ourselves in the list.
		{about: "our name cuts the list: the better stay, the worse go",
			records: "example.com. MX 10 mx1.example.com.\nexample.com. MX 20 us.example.net.\nexample.com. MX 30 mx2.example.com.\n" + twoHosts,
			finder:  Finder{Self: names("us.example.net")},
			hops:    "10 mx1.example.com 192.0.2.1", notes: "mx.self-cut"},
		{about: "the equal go, too",
			records: "example.com. MX 10 mx1.example.com.\nexample.com. MX 20 us.example.net.\nexample.com. MX 20 mx2.example.com.\n" + twoHosts,
			finder:  Finder{Self: names("us.example.net")},
			hops:    "10 mx1.example.com 192.0.2.1", notes: "mx.self-cut"},
		{about: "our address under another name cuts as well",
			records: "example.com. MX 10 mx1.example.com.\nexample.com. MX 20 mx2.example.com.\n" + twoHosts,
			finder:  Finder{SelfAddrs: addrs("192.0.2.2")},
			hops:    "10 mx1.example.com 192.0.2.1", notes: "mx.self-cut"},
		{about: "one address of several is enough",
			records: "example.com. MX 10 mx.example.com.\nmx.example.com. A 192.0.2.1\nmx.example.com. AAAA 2001:db8::1\n",
			finder:  Finder{SelfAddrs: addrs("2001:db8::1")},
			notes:   "mx.self-cut", reply: "554 5.4.6"},
		{about: "an alias of our name is our name",
			records: "example.com. MX 10 mx1.example.com.\nexample.com. MX 20 mail.example.com.\nmail.example.com. CNAME us.example.net.\nus.example.net. A 192.0.2.99\n" + twoHosts,
			finder:  Finder{Self: names("us.example.net")},
			hops:    "10 mx1.example.com 192.0.2.1", notes: "mx.cname mx.self-cut"},
		{about: "we are the best: the mail would come back",
			records: "example.com. MX 10 us.example.net.\nexample.com. MX 20 mx2.example.com.\n" + twoHosts,
			finder:  Finder{Self: names("us.example.net")},
			notes:   "mx.self-cut", reply: "554 5.4.6"},
		{about: "we are the implicit MX",
			records: "us.example.net. A 192.0.2.99\n", to: "user@us.example.net",
			finder: Finder{Self: names("us.example.net")},
			notes:  "mx.implicit mx.self-cut", reply: "554 5.4.6"},
		{about: "the better host is gone: we hold its mail for now",
			records: "example.com. MX 10 gone.example.com.\nexample.com. MX 20 us.example.net.\n" + twoHosts,
			finder:  Finder{Self: names("us.example.net")},
			notes:   "mx.self-cut mx.nxdomain", reply: "451 4.4.4"},
		{about: "the better host cannot be looked up: not a loop",
			records: "example.com. MX 10 mx1.example.com.\nexample.com. MX 20 us.example.net.\n" + twoHosts, dark: []string{"mx1.example.com A", "mx1.example.com AAAA"},
			finder: Finder{Self: names("us.example.net")},
			notes:  "mx.self-cut mx.temperror", reply: "451 4.4.3"},
		{about: "a worse host that cannot be looked up changes nothing",
			records: "example.com. MX 10 us.example.net.\nexample.com. MX 20 mx2.example.com.\n" + twoHosts, dark: []string{"mx2.example.com A", "mx2.example.com AAAA"},
			finder: Finder{Self: names("us.example.net")},
			notes:  "mx.self-cut", reply: "554 5.4.6"},
		{about: "127.0.0.1 is ourselves where we have a real address",
			records: "example.com. MX 10 mx.example.com.\nmx.example.com. A 127.0.0.1\n",
			finder:  Finder{SelfAddrs: addrs("192.0.2.99")},
			notes:   "mx.self-cut", reply: "554 5.4.6"},
		{about: "and is another host in a lab on loopback",
			records: "example.com. MX 10 mx.example.com.\nmx.example.com. A 127.0.0.2\n",
			finder:  Finder{SelfAddrs: addrs("127.0.0.1")},
			hops:    "10 mx.example.com 127.0.0.2", notes: "mx.private-address"},
		{about: "or where the plan says so",
			records: "example.com. MX 10 mx.example.com.\nmx.example.com. A 127.0.0.2\n",
			finder:  Finder{SelfAddrs: addrs("192.0.2.99"), AllowLoopback: true},
			hops:    "10 mx.example.com 127.0.0.2", notes: "mx.private-address"},
		{about: "an MX that names our address is ourselves",
			records: "example.com. MX 10 192.0.2.99.\n",
			finder:  Finder{SelfAddrs: addrs("192.0.2.99")},
			notes:   "mx.ip-literal mx.self-cut", reply: "554 5.4.6"},

		// Bounds.
		{about: "more hosts than are tried, the best are taken",
			records: "example.com. MX 10 mx1.example.com.\nexample.com. MX 20 mx2.example.com.\nexample.com. MX 30 gone.example.com.\n" + twoHosts,
			finder:  Finder{MaxHosts: 1},
			hops:    "10 mx1.example.com 192.0.2.1", notes: "mx.too-many"},
		{about: "ourselves beyond the bound still cut the list",
			records: "example.com. MX 10 mx1.example.com.\nexample.com. MX 20 us.example.net.\nexample.com. MX 20 mx2.example.com.\n" + twoHosts,
			finder:  Finder{MaxHosts: 2, Self: names("us.example.net")},
			hops:    "10 mx1.example.com 192.0.2.1", notes: "mx.self-cut"},
		{about: "more addresses than are tried",
			records: "example.com. MX 10 mx1.example.com.\nexample.com. MX 20 mx2.example.com.\n" + twoHosts,
			finder:  Finder{MaxAddrs: 1},
			hops:    "10 mx1.example.com 192.0.2.1", notes: "mx.too-many"},
		{about: "one host's many addresses do not crowd out the next",
			records: "example.com. MX 10 mx.example.com.\nexample.com. MX 20 mx2.example.com.\n" + manyAddrs(17) + twoHosts,
			hops:    manyHops(16) + "20 mx2.example.com 192.0.2.2", notes: "mx.too-many"},

		// Address literals (RFC 5321 §4.1.3).
		{about: "a literal asks no DNS", to: "user@[192.0.2.5]", dark: []string{"example.com MX"},
			hops: "0 - 192.0.2.5"},
		{about: "IPv6", to: "user@[IPv6:2001:db8::5]", hops: "0 - 2001:db8::5"},
		{about: "our own", to: "user@[192.0.2.99]", finder: Finder{SelfAddrs: addrs("192.0.2.99")}, reply: "554 5.4.6"},
		{about: "nobody's", to: "user@[0.0.0.0]", notes: "mx.private-address", reply: "550 5.1.2"},
	}
	if len(tests) < 40 {
		t.Fatalf("%d rows", len(tests))
	}
	for _, tt := range tests {
		t.Run(tt.about, func(t *testing.T) {
			f := tt.finder
			f.Resolver, f.Shuffle = world(t, tt.records, tt.dark...), reversed
			if tt.to == "" {
				tt.to = to
			}
			r, err := f.Find(t.Context(), address(t, tt.to))
			if got := hopLines(r); got != tt.hops {
				t.Errorf("hops\n%s\nwant\n%s", got, tt.hops)
			}
			if got := noteIDs(r); got != tt.notes {
				t.Errorf("notes %q, want %q", got, tt.notes)
			}
			if got := replyCodes(t, err); got != tt.reply {
				t.Errorf("error %v, want %q", err, tt.reply)
			}
		})
	}
}

func manyAddrs(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "mx.example.com. A 198.51.100.%d\n", i+1)
	}
	return b.String()
}

func manyHops(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "10 mx.example.com 198.51.100.%d\n", i+1)
	}
	return b.String()
}

func hopLines(r Route) string {
	var lines []string
	for _, h := range r.Hops {
		host := h.Host.String()
		if host == "" {
			host = "-"
		}
		lines = append(lines, fmt.Sprintf("%d %s %s", h.Preference, host, h.Addr))
	}
	return strings.Join(lines, "\n")
}

func noteIDs(r Route) string {
	var ids []string
	for _, n := range r.Notes {
		ids = append(ids, n.ID)
	}
	return strings.Join(ids, " ")
}

// replyCodes gives the codes of a *NoRoute, "" for no error.
func replyCodes(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var none *NoRoute
	if !errors.As(err, &none) {
		t.Fatalf("%T: %v", err, err)
	}
	if none.Temporary() != none.Reply.Temporary() {
		t.Errorf("%v: Temporary is %v", err, none.Temporary())
	}
	return fmt.Sprintf("%d %s", none.Reply.Code, none.Reply.Enhanced)
}

// A cancelled context is our trouble, and never a reason to bounce.
func TestFindCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := Finder{Resolver: world(t, "example.com. MX 10 mx1.example.com.\n"+twoHosts)}
	_, err := f.Find(ctx, address(t, "user@example.com"))
	if got := replyCodes(t, err); got != "451 4.4.3" || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// The error keeps the DNS's own words, so that a person sees whose trouble it is.
func TestFindKeepsTheTrouble(t *testing.T) {
	f := Finder{Resolver: world(t, "example.com. MX 10 mx1.example.com.\n"+twoHosts, "mx1.example.com A", "mx1.example.com AAAA")}
	_, err := f.Find(t.Context(), address(t, "user@example.com"))
	if dns.TroubleOf(err) != dns.NoReply {
		t.Errorf("got %v", err)
	}
}

// Without a shuffle of the test's own, each host of a tie comes first now and then.
func TestFindShuffles(t *testing.T) {
	f := Finder{Resolver: world(t, "example.com. MX 10 mx1.example.com.\nexample.com. MX 10 mx2.example.com.\n"+twoHosts)}
	first := map[netip.Addr]int{}
	for range 200 { // both fail to appear with a chance of 2^-199
		r, err := f.Find(t.Context(), address(t, "user@example.com"))
		if err != nil {
			t.Fatal(err)
		}
		first[r.Hops[0].Addr]++
	}
	if len(first) != 2 {
		t.Errorf("first hops %v", first)
	}
}

// The printed routes: testdata/route/*.txt holds what people read.
func TestRouteString(t *testing.T) {
	tests := []struct {
		file, records, to string
		finder            Finder
	}{
		{file: "mx.txt", to: "user@example.com",
			records: "example.com. MX 10 mx1.example.com.\nexample.com. MX 20 mail.example.com.\nexample.com. MX 30 gone.example.com.\nexample.com. MX 40 192.0.2.77.\n" +
				"mx1.example.com. AAAA 2001:db8::1\nmail.example.com. CNAME mx2.example.com.\n" + twoHosts},
		{file: "implicit.txt", to: "user@example.com", records: "example.com. A 192.0.2.1\n"},
		{file: "literal.txt", to: "user@[IPv6:2001:db8::1]"},
		{file: "null.txt", to: "user@example.com", records: "example.com. MX 0 .\n"},
		{file: "backup.txt", to: "user@example.com", finder: Finder{Self: names("us.example.net")},
			records: "example.com. MX 10 mx1.example.com.\nexample.com. MX 20 us.example.net.\n" + twoHosts},
	}
	files, err := filepath.Glob("testdata/route/*.txt")
	if err != nil || len(files) != len(tests) {
		t.Fatalf("files %v for %d rows", files, len(tests))
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			tt.finder.Resolver, tt.finder.Shuffle = world(t, tt.records), reversed
			r, _ := tt.finder.Find(t.Context(), address(t, tt.to))
			want, err := os.ReadFile(filepath.Join("testdata/route", tt.file))
			if err != nil {
				t.Fatal(err)
			}
			if got := r.String(); got != string(want) {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}
