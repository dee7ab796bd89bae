package blocklist

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

func list(t *testing.T, zone string) List {
	t.Helper()
	for _, l := range Known() {
		if l.Zone.String() == zone {
			return l
		}
	}
	t.Fatalf("%s is not known", zone)
	return List{}
}

func addrs(text string) []netip.Addr {
	var all []netip.Addr
	for _, a := range strings.Fields(text) {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

// alive is what a list that works says of its test entries.
func alive(l List) Probe {
	test := "127.0.0.2"
	switch {
	case l.Kind == Allowed:
		test = "127.0.10.0"
	case l.Hosts:
		test = "127.0.1.2"
	case l.Bits:
		test = "127.0.0.254"
	}
	return Probe{Test: Answer{Addrs: addrs(test)}}
}

// Each row is what a list that is alive answers, and what that means.
func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		why, zone, answer string
		class             Class // "" is not listed
		text              string
		unusable          Reason
	}{
		{"nothing", "zen.spamhaus.org", "", "", "", ""},
		{"a listing", "zen.spamhaus.org", "127.0.0.2", Listed, "SBL", ""},
		{"two codes", "zen.spamhaus.org", "127.0.0.2 127.0.0.9", Listed, "DROP", ""},
		{"a dial-up range is a policy", "zen.spamhaus.org", "127.0.0.10", Policy, "PBL", ""},
		{"a listing in such a range", "zen.spamhaus.org", "127.0.0.11 127.0.0.4", Listed, "XBL", ""},
		{"through a public resolver", "zen.spamhaus.org", "127.255.255.254", "", "it sees a public resolver", Refuses},
		{"too many questions", "zen.spamhaus.org", "127.255.255.255", "", "too many questions", Refuses},
		{"a zone that is mistyped", "zen.spamhaus.org", "127.255.255.252", "", "the zone's name", Refuses},
		{"an error that is not known", "zen.spamhaus.org", "127.255.255.250", "", "an error code", Refuses},
		{"a refusal beside a listing", "zen.spamhaus.org", "127.0.0.2 127.255.255.254", "", "public resolver", Refuses},
		{"a code that is not in the table", "zen.spamhaus.org", "127.0.0.99", "", "127.0.0.99", UnknownCode},
		{"127.0.0.1 is no listing", "zen.spamhaus.org", "127.0.0.1", "", "127.0.0.1", UnknownCode},
		{"a search page", "zen.spamhaus.org", "192.0.2.99", "", "in the list's place", Foreign},
		{"an address was asked of a list of domains", "dbl.spamhaus.org", "127.0.1.255", "", "domains only", Refuses},
		{"a domain", "dbl.spamhaus.org", "127.0.1.4", Listed, "phishing", ""},
		{"URIBL refuses", "multi.uribl.com", "127.0.0.1", "", "does not serve whoever asks", Refuses},
		{"black", "multi.uribl.com", "127.0.0.2", Listed, "black", ""},
		{"grey is mixed", "multi.uribl.com", "127.0.0.4", Mixed, "grey", ""},
		{"grey and red", "multi.uribl.com", "127.0.0.12", Mixed, "red", ""},
		{"two bits", "multi.surbl.org", "127.0.0.80", Listed, "MW", ""},
		{"bits that mean nothing", "multi.surbl.org", "127.0.0.2", "", "127.0.0.2", UnknownCode},
		{"bits of another octet", "multi.surbl.org", "127.0.1.8", "", "127.0.1.8", UnknownCode},
		{"SURBL refuses", "multi.surbl.org", "127.0.0.1", "", "does not serve whoever asks", Refuses},
		{"DNSWL, any category", "list.dnswl.org", "127.0.5.2", Allow, "trust medium", ""},
		{"no category is 0", "list.dnswl.org", "127.0.0.2", "", "127.0.0.2", UnknownCode},
		{"DNSWL refuses, and allows nobody by it", "list.dnswl.org", "127.0.0.255", "", "does not serve whoever asks", Refuses},
		{"a trust that there is not", "list.dnswl.org", "127.0.5.9", "", "127.0.5.9", UnknownCode},
	} {
		l := list(t, tt.zone)
		v := l.Judge(Answer{Addrs: addrs(tt.answer)}, alive(l))
		said := v.Text
		for _, c := range v.Codes {
			said += " " + c.Meaning
		}
		if v.Unusable != tt.unusable || !strings.Contains(said, tt.text) || tt.class != "" && !v.Is(tt.class) || tt.class == "" && len(v.Codes) > 0 {
			t.Errorf("%s: %+v", tt.why, v)
		}
	}
}

// Each row is what a list says of its test entries; whatever it answers then, nobody is listed.
func TestAlive(t *testing.T) {
	lost := errors.New("no reply")
	for _, tt := range []struct {
		why      string
		probe    Probe
		unusable Reason
	}{
		{"as it should be", Probe{Test: Answer{Addrs: addrs("127.0.0.2 127.0.0.10 127.0.0.4")}}, ""},
		{"it has left, and lists everything", Probe{Answer{Addrs: addrs("127.0.0.2")}, Answer{Addrs: addrs("127.0.0.2")}}, Everything},
		{"its domain is for sale", Probe{Answer{Addrs: addrs("192.0.2.99")}, Answer{Addrs: addrs("192.0.2.99")}}, Foreign},
		{"the resolver makes up names where there are none", Probe{Answer{Addrs: addrs("127.0.0.2")}, Answer{Addrs: addrs("192.0.2.99")}}, Foreign},
		{"it refuses", Probe{Answer{Addrs: addrs("127.255.255.254")}, Answer{Addrs: addrs("127.255.255.254")}}, Refuses},
		{"it denies its own test entry", Probe{}, NoTest},
		{"it is silent", Probe{Answer{Err: lost}, Answer{Err: lost}}, Silent},
		{"half of it is silent", Probe{Answer{Addrs: addrs("127.0.0.2")}, Answer{Err: lost}}, Silent},
	} {
		v := list(t, "zen.spamhaus.org").Judge(Answer{Addrs: addrs("127.0.0.2")}, tt.probe)
		if v.Unusable != tt.unusable || v.Unusable != "" && (len(v.Codes) > 0 || v.Text == "") {
			t.Errorf("%s: %+v", tt.why, v)
		}
	}
	if v := list(t, "zen.spamhaus.org").Judge(Answer{Err: lost}, alive(list(t, "zen.spamhaus.org"))); v.Unusable != Silent || !errors.Is(v.Err, lost) {
		t.Errorf("a time-out: %+v", v)
	}
}

// TestNames: what is asked (RFC 5782 §2.1, §2.4, §3, §5).
func TestNames(t *testing.T) {
	zen, dbl, uribl := list(t, "zen.spamhaus.org"), list(t, "dbl.spamhaus.org"), list(t, "multi.uribl.com")
	name := func(n dns.Name, err error) string {
		if err != nil {
			return err.Error()
		}
		return n.String()
	}
	pair := func(a, b dns.Name, err error) string { return name(a, err) + " " + name(b, err) }
	for got, want := range map[string]string{
		name(zen.AddrName(netip.MustParseAddr("192.0.2.25"))):                       "25.2.0.192.zen.spamhaus.org",
		name(zen.AddrName(netip.MustParseAddr("2001:db8::25"))):                     "5.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.zen.spamhaus.org",
		name(dbl.DomainName(dns.MustName("www.example.com"))):                       "www.example.com.dbl.spamhaus.org",
		pair(zen.TestNames(false)):                                                  "2.0.0.127.zen.spamhaus.org 1.0.0.127.zen.spamhaus.org",
		pair(zen.TestNames(true)):                                                   "2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.zen.spamhaus.org 1.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.zen.spamhaus.org",
		pair(dbl.TestNames(false)):                                                  "dbltest.com.dbl.spamhaus.org invalid.dbl.spamhaus.org",
		pair(uribl.TestNames(false)):                                                "2.0.0.127.multi.uribl.com 1.0.0.127.multi.uribl.com",
		pair(List{Zone: dns.MustName("d.example"), Kind: Domains}.TestNames(false)): "test.d.example invalid.d.example",
	} {
		if got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
	long := dns.MustName(strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("b", 60))
	if _, err := dbl.DomainName(long); err == nil {
		t.Error("a name that is too long can be asked for")
	}
}

// TestKnown: each row of the built-in table can be asked, says where it is from, and means
// something of its kind.
func TestKnown(t *testing.T) {
	seen := map[dns.Name]bool{}
	for _, l := range Known() {
		if seen[l.Zone] || l.Name == "" || l.Source == "" || l.Removal == "" || len(l.Codes) == 0 {
			t.Errorf("%+v", l)
		}
		seen[l.Zone] = true
		codes := map[string]bool{}
		for _, c := range l.Codes {
			a, err := netip.ParseAddr(strings.ReplaceAll(c.Answer, "x", "7"))
			if err != nil || !netip.MustParsePrefix("127.0.0.0/16").Contains(a) || codes[c.Answer] || c.Meaning == "" {
				t.Errorf("%s: %+v", l.Name, c)
			}
			if (c.Class == Allow) != (l.Kind == Allowed) && c.Class != Refused {
				t.Errorf("%s: %s is %s", l.Name, c.Answer, c.Class)
			}
			codes[c.Answer] = true
		}
		if v := l.Alive(alive(l)); v.Unusable != "" {
			t.Errorf("%s: %s", l.Name, v.Text)
		}
	}
	for _, l := range Open() {
		if l.Registration {
			t.Errorf("%s is not open", l.Name)
		}
	}
	if l := ByZone(dns.MustName("zen.spamhaus.org")); l.Name != "Spamhaus ZEN" {
		t.Errorf("%+v", l)
	}
	own := ByZone(dns.MustName("bl.example.net"))
	if v := own.Judge(Answer{Addrs: addrs("127.0.0.4")}, alive(own)); !v.Is(Listed) {
		t.Errorf("%+v", v)
	}
}

// TestAsk asks a list that is served.
func TestAsk(t *testing.T) {
	zone := dnstest.Zone(t, "bl.example.net", "@ 300 SOA ns hostmaster 1 2 3 4 5\n@ 300 NS ns\nns 300 A 192.0.2.53\n2.0.0.127 300 A 127.0.0.2\n25.2.0.192 300 A 127.0.0.3\n")
	l := Plain(dns.MustName("bl.example.net"))
	probe := l.Ask(t.Context(), zone, false)
	name, err := l.AddrName(netip.MustParseAddr("192.0.2.25"))
	if err != nil {
		t.Fatal(err)
	}
	if v := l.Judge(Look(t.Context(), zone, name), probe); !v.Is(Listed) {
		t.Errorf("%+v, %+v", v, probe)
	}
	down := dns.ResolverFunc(func(context.Context, dns.Question) (dns.Answer, error) {
		return dns.Answer{}, &dns.Error{Trouble: dns.NoReply}
	})
	if v := l.Alive(l.Ask(t.Context(), down, false)); v.Unusable != Silent || dns.TroubleOf(v.Err) != dns.NoReply {
		t.Errorf("%+v", v)
	}
	if v := l.Alive(l.Ask(t.Context(), zone, true)); v.Unusable != NoTest {
		t.Errorf("it has no IPv6: %+v", v)
	}
}

// FuzzJudge: whatever a list answers, it means something only where the table has it, and what
// is unusable lists nobody.
func FuzzJudge(f *testing.F) {
	for _, seed := range [][]byte{{127, 0, 0, 2}, {127, 0, 0, 2, 127, 255, 255, 254}, {127, 0, 5, 2}, {192, 0, 2, 1}, {127, 0, 0, 80}, {}} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, answer, test []byte) {
		split := func(b []byte) (all []netip.Addr) {
			for ; len(b) >= 4; b = b[4:] {
				all = append(all, netip.AddrFrom4([4]byte(b)))
			}
			return all
		}
		for _, l := range append(Known(), Plain(dns.MustName("bl.example.net"))) {
			v := l.Judge(Answer{Addrs: split(answer)}, Probe{Test: Answer{Addrs: split(test)}})
			if v.Unusable != "" && (len(v.Codes) > 0 || v.Text == "") || v.Is(Refused) {
				t.Fatalf("%s: %+v", l.Name, v)
			}
			if v.Unusable == "" && (len(v.Codes) > 0) != (len(split(answer)) > 0) {
				t.Fatalf("%s: %v is %+v", l.Name, split(answer), v)
			}
			for _, a := range split(answer) {
				if v.Unusable == "" && (!a.IsLoopback() || Refusal(a) != "") {
					t.Fatalf("%s: %s is %+v", l.Name, a, v)
				}
			}
		}
	})
}
